"""What networks are trained from: examples, and the part that each network has of them."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec.core
import numpy as np
import numpy.typing as npt

from model.annotations import AnnotationSet, read_annotations
from model.backgrounds import Backgrounds, from_recordings
from model.calibration import check_method
from model.errors import UserError
from model.examples import ExamplePlan, Examples, compute_examples, plan_examples
from model.members import Members, plan_members
from model.network import build_network
from model.split import group_recordings
from model.train_options import TrainOptions

Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Material:
    """All that networks are trained from: examples, and what each network has of them."""

    annotations: AnnotationSet
    plan: ExamplePlan
    examples: Examples
    groups: tuple[str, ...]
    members: Members
    backgrounds: Backgrounds | None = None

    def rows(self, recordings: Bool) -> Rows:
        """The usable examples of the plan's recordings that are marked."""
        return np.flatnonzero(recordings[self.examples.recordings] & self.examples.usable)


@contextlib.contextmanager
def work_folder(output: str, work: Path | None) -> Iterator[Path]:
    """A folder for spectrograms and checkpoints: `work`, or one that goes when all went well."""
    fs, path = fsspec.core.url_to_fs(output)
    try:
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
            yield work
        elif "file" in fs.protocol:
            beside = Path(f"{path.rstrip('/')}.work")
            beside.mkdir(parents=True, exist_ok=True)
            try:
                yield beside
            except BaseException:
                with contextlib.suppress(
                    OSError
                ):  # What is in it, the same command can go on with.
                    beside.rmdir()
                raise
            shutil.rmtree(beside)
        else:
            with tempfile.TemporaryDirectory(prefix="dawnchorus-") as folder:
                yield Path(folder)
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(work or path)):
            raise
        raise UserError(f"{error.filename} cannot be written: {error.strerror}.") from error


def prepare(options: TrainOptions, work: Path, report: Callable[[str], None]) -> Material:
    """Reads the annotations, divides the recordings, and computes what is not in `work` yet."""
    annotations = read_annotations(
        options.audio,
        options.annotations,
        options.label_column,
        options.label_map,
        options.unannotated,
    )
    task = options.task or annotations.task
    if options.calibrate != "none":
        check_method(options.calibrate, task)
    plan = plan_examples(options.audio, annotations, options.window_rule(), task)
    for warning in (*annotations.warnings, *plan.warnings):
        report(f"warning: {warning}")
    recordings = [windows.recording for windows in plan.windows]
    groups = group_recordings(recordings, annotations.columns, options.group_by)
    members = plan_members(
        groups,
        np.array([windows.targets.sum(axis=0) for windows in plan.windows], np.float64),
        np.array([len(windows.numbers) for windows in plan.windows], np.int64),
        holdout=options.holdout,
        folds=options.folds,
        validation=options.validation,
        networks=options.networks,
        seed=options.recipe.fit.seed,
    )
    total = sum(len(windows.numbers) for windows in plan.windows)
    report(
        f"{len(plan.windows)} recordings, {total} windows of {options.front_end.window_s:g} s, "
        f"{len(plan.labels)} labels, {task}; {_division(members)}"
    )
    architecture = options.recipe.architecture
    if architecture.weights != "none":
        # Weights that cannot be had are told of before hours of spectrograms.
        build_network(architecture, options.front_end, len(plan.labels), task)
    examples = compute_examples(
        options.audio, plan, options.front_end, work, show_progress=sys.stderr.isatty()
    )
    for warning in examples.warnings:
        report(f"warning: {warning}")
    backgrounds = None
    if options.background and not options.harvests and options.recipe.augmentation.noise:
        folder = Path(options.background)
        backgrounds = from_recordings(folder, options.front_end, work, sys.stderr.isatty())
        for warning in backgrounds.warnings:
            report(f"warning: {warning}")
    material = Material(annotations, plan, examples, tuple(groups), members, backgrounds)
    for member in members.networks:
        needed = member.training, member.validation
        if any(part.any() and not len(material.rows(part)) for part in needed):
            raise UserError(
                f"Of the windows below {options.audio} none that can be decoded is left for "
                "training or none for validation; mend or replace the recordings."
            )
    return material


def _division(members: Members) -> str:
    held, first = int(members.holdout.sum()), members.networks[0]
    if members.folds:
        parts = [f"{len(members.networks)} folds"]
    else:
        parts = [f"{int(first.validation.sum())} recordings for validation"]
    return ", ".join([*parts, *([f"{held} held out of all"] if held else [])])
