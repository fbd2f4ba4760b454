"""From annotated recordings to a bundle."""

import hashlib
import json
import math
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from model.annotations import AnnotationSet, Unannotated, read_annotations
from model.bundle import Bundle, Task, check_vacant, write_bundle
from model.errors import UserError
from model.examples import ExamplePlan, Examples, compute_examples, plan_examples
from model.fitting import FitOptions, best_epoch, fit, predict
from model.frontend import FrontEnd
from model.loss import label_weights
from model.metrics import (
    average_precision,
    chance_precision,
    macro,
    top_accuracy,
)
from model.network import FILTERS, build_network, check_fit
from model.runtime import make_deterministic
from model.split import group_recordings, split_groups
from model.threshold_facts import Goal
from model.thresholds import choose_thresholds
from model.windows import WindowRule

Rows = npt.NDArray[np.int64]

PACKAGES = ("dawnchorus", "keras", "librosa", "numpy", "scipy", "soxr", "tensorflow")


@dataclass(frozen=True)
class TrainOptions:
    """What `train` needs, as the command line's options of the same names.

    `hop_s` None is the front end's window; `task` None follows from the annotations; `group_by`
    None keeps each recording's windows together. Raises UserError for values out of range and
    for a network that does not fit the front end.
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
    validation: float = 0.2
    filters: tuple[int, ...] = FILTERS
    epochs: int = 100
    patience: int = 10
    learning_rate: float = 1e-4
    batch_size: int = 32
    seed: int = 1

    def __post_init__(self) -> None:
        _require(0 < self.validation < 1, "validation", self.validation, "between 0 and 1")
        _require(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        _require(self.patience >= 1, "patience", self.patience, "1 or more")
        _require(self.batch_size >= 1, "batch size", self.batch_size, "1 or more")
        _require(0 < self.learning_rate < math.inf, "learning rate", self.learning_rate, "above 0")
        _require(self.seed in range(2**32), "seed", self.seed, "from 0 to 4294967295")
        names = (None, *get_args(Task))
        _require(self.task in names, "task", self.task, "multilabel or singlelabel")
        names = get_args(Unannotated)
        _require(self.unannotated in names, "unannotated", self.unannotated, "skip or negative")
        check_fit(self.front_end, self.filters)
        self.window_rule()

    def window_rule(self) -> WindowRule:
        """How the annotated recordings are cut."""
        window_s = self.front_end.window_s
        return WindowRule(window_s, self.hop_s if self.hop_s is not None else window_s)


def _require(holds: bool, name: str, value: object, accepted: str) -> None:
    if not holds:
        raise UserError(f"The {name} is {value}; it must be {accepted}.")


def print_to_stderr(line: str) -> None:
    """Reports a line of progress."""
    print(line, file=sys.stderr, flush=True)


def train(options: TrainOptions, report: Callable[[str], None] = print_to_stderr) -> Bundle:
    """Trains the paper's network and writes it as a bundle to `options.output`.

    The same options and data give the same bundle on one machine, except after other TensorFlow
    work in the same process; TensorFlow stays in its deterministic mode. `report` takes lines of
    progress. Raises UserError for whatever the user can set right, before TensorFlow is loaded
    where that is possible.
    """
    check_vacant(options.output)
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
    held_out = _hold_out(options, annotations, plan)
    total = sum(len(windows.numbers) for windows in plan.windows)
    report(
        f"{len(plan.windows)} recordings, {total} windows of {options.front_end.window_s:g} s, "
        f"{len(plan.labels)} labels, {task}; {int(held_out.sum())} recordings for validation"
    )
    with tempfile.TemporaryDirectory(prefix="dawnchorus-") as folder:
        examples = compute_examples(
            options.audio,
            plan,
            options.front_end,
            Path(folder),
            show_progress=sys.stderr.isatty(),
        )
        for warning in examples.warnings:
            report(f"warning: {warning}")
        return _fit_and_write(options, annotations, plan, examples, held_out, report)


def _groups(options: TrainOptions, annotations: AnnotationSet, plan: ExamplePlan) -> list[str]:
    """The group of each of the plan's recordings."""
    recordings = [windows.recording for windows in plan.windows]
    return group_recordings(recordings, annotations.columns, options.group_by)


def _hold_out(
    options: TrainOptions, annotations: AnnotationSet, plan: ExamplePlan
) -> npt.NDArray[np.bool_]:
    """Which of the plan's recordings are for validation."""
    groups = _groups(options, annotations, plan)
    positives = np.array([windows.targets.sum(axis=0) for windows in plan.windows], np.float64)
    sizes = np.array([len(windows.numbers) for windows in plan.windows], np.int64)
    return split_groups(groups, positives, sizes, options.validation, options.seed)


def _fit_and_write(
    options: TrainOptions,
    annotations: AnnotationSet,
    plan: ExamplePlan,
    examples: Examples,
    held_out: npt.NDArray[np.bool_],
    report: Callable[[str], None],
) -> Bundle:
    is_validation = held_out[examples.recordings]
    training, validation = np.flatnonzero(~is_validation), np.flatnonzero(is_validation)
    if not len(training) or not len(validation):
        raise UserError(
            f"Of the windows below {options.audio} none that can be decoded is left for training "
            "or none for validation; mend or replace the recordings."
        )
    mean, variance = examples.moments(training)
    make_deterministic(options.seed)
    network = build_network(
        options.front_end,
        len(examples.labels),
        examples.task,
        mean=mean,
        variance=variance,
        filters=options.filters,
    )
    fit_options = FitOptions(
        options.epochs,
        options.patience,
        options.learning_rate,
        options.batch_size,
        options.seed,
    )
    log = fit(network, examples, training, validation, fit_options, report)
    scores = predict(network, examples, validation, options.batch_size)
    targets, mask = examples.targets[validation], examples.mask[validation]
    groups = np.array(_groups(options, annotations, plan))[examples.recordings[validation]]
    thresholds, facts = choose_thresholds(
        targets, mask, scores, examples.labels, groups, Goal(), "validation"
    )
    names = sorted(w.recording for w, held in zip(plan.windows, held_out, strict=True) if held)
    provenance = {
        "method": "Morgan & Braasch (2021), Ecological Informatics 61:101242",
        "options": _plain_options(options),
        "data": _describe_data(annotations, plan, examples, training, validation),
        "imbalance": _describe_weights(examples, training),
        "metrics": _describe_metrics(examples, training, validation, scores, log),
        "versions": {"python": platform.python_version(), **_versions()},
    }
    return write_bundle(
        options.output,
        task=examples.task,
        labels=examples.labels,
        front_end=options.front_end,
        thresholds=thresholds,
        networks=[network],
        provenance=provenance,
        log={"epochs": log, "validation_recordings": names},
        threshold_facts=facts,
    )


def _plain_options(options: TrainOptions) -> dict[str, Any]:
    """The options that shape training; no places, so that a copy elsewhere is the same bundle."""
    return {
        "unannotated": options.unannotated,
        "hop_s": options.window_rule().hop_s,
        "group_by": options.group_by,
        "validation": options.validation,
        "filters": list(options.filters),
        "epochs": options.epochs,
        "patience": options.patience,
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "seed": options.seed,
    }


def _describe_data(
    annotations: AnnotationSet,
    plan: ExamplePlan,
    examples: Examples,
    training: Rows,
    validation: Rows,
) -> dict[str, Any]:
    rows = [[a.recording, a.start_s, a.end_s, a.label] for a in annotations.annotations]
    text = json.dumps([annotations.recordings, rows])
    return {
        "recordings": len(plan.windows),
        "annotations": len(annotations.annotations),
        "annotations_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "training_windows": len(training),
        "validation_windows": len(validation),
        "warnings": [*annotations.warnings, *plan.warnings, *examples.warnings],
    }


def _describe_weights(examples: Examples, training: Rows) -> dict[str, Any]:
    weights = label_weights(examples.targets[training], examples.mask[training], examples.task)
    return {
        "method": "weight of each label's positive windows in the loss",
        "weights": _by_label(examples.labels, weights),
    }


def _describe_metrics(
    examples: Examples,
    training: Rows,
    validation: Rows,
    scores: npt.NDArray[np.float32],
    log: list[dict[str, Any]],
) -> dict[str, Any]:
    targets, mask, labels = examples.targets[validation], examples.mask[validation], examples.labels
    precision = average_precision(targets, mask, scores, labels)
    metrics: dict[str, Any] = {
        "epochs": len(log),
        "best_epoch": best_epoch(log),
        "training_examples": _by_label(labels, examples.targets[training].sum(axis=0)),
        "validation_examples": _by_label(labels, targets.sum(axis=0)),
        "average_precision": precision,
        "average_precision_of_chance": chance_precision(targets, mask, labels),
        "macro_average_precision": macro(precision),
    }
    if examples.task == "singlelabel":
        metrics["accuracy"] = top_accuracy(targets, scores)
    return metrics


def _by_label(labels: Sequence[str], values: npt.NDArray[np.float32]) -> dict[str, float]:
    numbers = (round(float(value), 4) for value in values)
    return {
        label: int(number) if number.is_integer() else number
        for label, number in zip(labels, numbers, strict=True)
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # Run from a checkout that is not installed.
    return found
