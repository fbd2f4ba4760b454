"""From annotated recordings to a bundle."""

import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import fsspec.core
import numpy as np
import numpy.typing as npt

from model.annotations import AnnotationSet, Unannotated, read_annotations
from model.backgrounds import HARVEST, Backgrounds, from_recordings, harvest
from model.bundle import Bundle, Task, check_vacant, write_bundle
from model.errors import UserError, require
from model.examples import ExamplePlan, Examples, compute_examples, plan_examples
from model.fitting import Log, predict
from model.frontend import FrontEnd
from model.member_fitting import Fitted, Recipe, fit_network, make_rules
from model.members import Members, plan_members
from model.metrics import best_thresholds
from model.provenance import METHOD, by_label, describe_data, describe_scores, describe_weights
from model.provenance import versions as installed
from model.runtime import make_deterministic
from model.split import group_recordings
from model.windows import WindowRule

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrainOptions:
    """What `train` needs, as the command line's options of the same names.

    `hop_s` None is the front end's window; `task` None follows from the annotations; `group_by`
    None keeps each recording's windows together. `background` is a folder of recordings or
    `HARVEST`; None is steady noise. `holdout` and `validation` are shares of the
    groups' windows, 0 none; `folds` 0 is one split, of which `networks` are trained. `work` is a
    folder for what may be used again; None is one beside the output, removed at the end. Raises
    UserError for values out of range and for a network that does not fit the front end.
    """

    audio: Path
    annotations: Path
    output: str
    label_column: str | None = None
    label_map: Path | None = None
    unannotated: Unannotated = "skip"
    task: Task | None = None
    front_end: FrontEnd = field(default_factory=FrontEnd)
    hop_s: float | None = None
    group_by: str | None = None
    holdout: float = 0.0
    validation: float = 0.2
    folds: int = 0
    networks: int = 1
    recipe: Recipe = field(default_factory=Recipe)
    background: str | None = None
    work: Path | None = None

    def __post_init__(self) -> None:
        require(0 <= self.validation < 1, "validation", self.validation, "from 0 to below 1")
        require(0 <= self.holdout < 1, "holdout", self.holdout, "from 0 to below 1")
        require(self.folds == 0 or self.folds >= 2, "folds", self.folds, "0 (none), 2 or more")
        require(self.networks >= 1, "networks", self.networks, "1 or more")
        require(self.folds == 0 or self.networks == 1, "networks", self.networks, "1 with --folds")
        names = (None, *get_args(Task))
        require(self.task in names, "task", self.task, "multilabel or singlelabel")
        names = get_args(Unannotated)
        require(self.unannotated in names, "unannotated", self.unannotated, "skip or negative")
        self.recipe.architecture.check_fit(self.front_end)
        self.window_rule()

    def window_rule(self) -> WindowRule:
        """How the annotated recordings are cut."""
        window_s = self.front_end.window_s
        return WindowRule(window_s, self.hop_s if self.hop_s is not None else window_s)

    @property
    def harvests(self) -> bool:
        """Whether the training recordings' own quiet parts are added to them."""
        return self.background == HARVEST

    def to_json(self) -> dict[str, Any]:
        """The options that shape training; no places, so that a copy elsewhere is the same."""
        return {
            "unannotated": self.unannotated,
            "hop_s": self.window_rule().hop_s,
            "group_by": self.group_by,
            "holdout": self.holdout,
            "validation": 0.0 if self.folds else self.validation,
            "folds": self.folds,
            "networks": self.networks,
            "background": self.background and (HARVEST if self.harvests else "recordings"),
            **self.recipe.to_json(),
        }


def print_to_stderr(line: str) -> None:
    """Reports a line of progress."""
    print(line, file=sys.stderr, flush=True)


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


def train(options: TrainOptions, report: Callable[[str], None] = print_to_stderr) -> Bundle:
    """Trains the networks and writes them as a bundle to `options.output`.

    The same options and data give the same bundle on one machine, except after other TensorFlow
    work in the same process; TensorFlow stays in its deterministic mode. What a killed call had
    done is not done again. `report` takes lines of progress. Raises UserError for whatever the
    user can set right, before TensorFlow is loaded where that is possible.
    """
    check_vacant(options.output)
    with work_folder(options.output, options.work) as work:
        material = prepare(options, work, report)
        make_deterministic(options.recipe.fit.seed)
        fitted = fit_networks(options, material, work, report)
        return write(options, material, fitted)


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
            yield beside
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
    examples = compute_examples(
        options.audio, plan, options.front_end, work, show_progress=sys.stderr.isatty()
    )
    for warning in examples.warnings:
        report(f"warning: {warning}")
    backgrounds = None
    if options.background and not options.harvests and options.recipe.augmentation.noise:
        backgrounds = from_recordings(Path(options.background), options.front_end, work)
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


def fit_networks(
    options: TrainOptions,
    material: Material,
    work: Path,
    report: Callable[[str], None],
    give_up: Callable[[int, Log], bool] = lambda number, log: False,
) -> list[Fitted]:
    """Fits each network of the bundle, or takes it from `work` where that was done before.

    `give_up` may end the training of a network (by its number from 0 and its log) early.
    """
    backgrounds = material.backgrounds
    about = [options.to_json(), asdict(options.front_end), material.plan.task, material.groups]
    about += [(backgrounds.identity,)] if backgrounds else []
    data = describe_data(material.annotations, material.plan, material.examples, {})
    digest = hashlib.sha256(json.dumps([about, data], default=str).encode()).hexdigest()[:16]
    fitted = []
    for number, member in enumerate(material.members.networks, 1):
        count = len(material.members.networks)
        if count > 1:
            report(f"network {number} of {count}")
        training = material.rows(member.training)
        if options.harvests and options.recipe.augmentation.noise:
            backgrounds = harvest(material.examples, training, options.front_end, work)
            for warning in backgrounds.warnings:
                report(f"warning: {warning}")
        fitted.append(
            fit_network(
                options.recipe,
                options.front_end,
                material.examples,
                training,
                material.rows(member.validation),
                member.seed,
                report,
                backgrounds=backgrounds.levels if backgrounds else None,
                checkpoint=work / f"network-{digest}-{number}.npz",
                give_up=partial(give_up, number - 1),
            )
        )
    return fitted


def mean_scores(
    options: TrainOptions, material: Material, fitted: Sequence[Fitted], rows: Rows
) -> Float32:
    """The mean of the networks' scores (n, n_labels) of rows."""
    rules = make_rules(options.front_end, material.plan.task, options.recipe.augmentation, None)
    size = options.recipe.fit.batch_size
    scores = [predict(one.network, material.examples, rows, size, rules) for one in fitted]
    return np.asarray(np.mean(scores, axis=0), np.float32)


@dataclass(frozen=True)
class Judged:
    """Scores (n, n_labels) of rows, and what these rows are.

    "holdout" no network has anything of; "validation" has stopped the training; of "out_of_fold"
    each score is of the one network that did not learn from it, not of their mean.
    """

    data: Literal["holdout", "validation", "out_of_fold", "nothing"]
    rows: Rows
    scores: Float32


def judge(options: TrainOptions, material: Material, fitted: Sequence[Fitted]) -> list[Judged]:
    """Scores of what networks have not learnt from, the most trustworthy first."""
    members = material.members
    found = []
    if members.holdout.any():
        rows = material.rows(members.holdout)
        found.append(Judged("holdout", rows, mean_scores(options, material, fitted, rows)))
    if members.folds:
        parts = [material.rows(member.validation) for member in members.networks]
        scores = [
            mean_scores(options, material, [one], rows)
            for one, rows in zip(fitted, parts, strict=True)
        ]
        found.append(Judged("out_of_fold", np.concatenate(parts), np.concatenate(scores)))
    else:
        rows = material.rows(members.networks[0].validation)
        if len(rows):
            found.append(Judged("validation", rows, mean_scores(options, material, fitted, rows)))
    nothing = np.zeros((0, len(material.examples.labels)), np.float32)
    return found or [Judged("nothing", np.zeros(0, np.int64), nothing)]


def write(options: TrainOptions, material: Material, fitted: Sequence[Fitted]) -> Bundle:
    """Writes fitted networks, with all that is known of them, as a bundle."""
    examples, members, plan = material.examples, material.members, material.plan
    judged = judge(options, material, fitted)
    best = judged[0]
    training = material.rows(np.any([member.training for member in members.networks], axis=0))
    thresholds = best_thresholds(
        examples.targets[best.rows], examples.mask[best.rows], best.scores, examples.labels
    )
    counts = {"training_windows": len(training)}
    counts |= {f"{one.data}_windows": len(one.rows) for one in judged if len(one.rows)}
    metrics = {
        "training_examples": by_label(examples.labels, examples.targets[training].sum(axis=0)),
        "data": best.data,
        **describe_scores(examples, best.rows, best.scores),
        "networks": [
            {"epochs": len(one.log), "best_epoch": one.kept_epoch, **one.log[one.kept_epoch - 1]}
            for one in fitted
        ],
    }
    for other in judged[1:]:
        metrics[other.data] = describe_scores(examples, other.rows, other.scores)

    def names(recordings: Bool) -> list[str]:
        return sorted(plan.windows[i].recording for i in np.flatnonzero(recordings))

    log = {
        "networks": [
            {"epochs": one.log, "validation_recordings": names(member.validation)}
            for one, member in zip(fitted, members.networks, strict=True)
        ],
        "training_recordings": names(~members.holdout),
        "holdout_recordings": names(members.holdout),
    }
    return write_bundle(
        options.output,
        task=plan.task,
        labels=examples.labels,
        front_end=options.front_end,
        thresholds=thresholds,
        networks=[one.network for one in fitted],
        provenance={
            "method": METHOD,
            "options": options.to_json(),
            "data": describe_data(material.annotations, plan, examples, counts),
            "imbalance": describe_weights(examples, training),
            "metrics": metrics,
            "versions": installed(),
        },
        log=log,
    )
