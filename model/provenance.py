"""What a bundle tells of its making: options, data, metrics, versions."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt

from model.annotations import AnnotationSet
from model.examples import ExamplePlan, Examples
from model.loss import label_weights
from model.metrics import average_precision, chance_precision, macro, top_accuracy

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

METHOD = "Morgan & Braasch (2021), Ecological Informatics 61:101242"
PACKAGES = ("dawnchorus", "keras", "librosa", "numpy", "scipy", "soxr", "tensorflow")


def describe_data(
    annotations: AnnotationSet, plan: ExamplePlan, examples: Examples, counts: dict[str, int]
) -> dict[str, Any]:
    """What a bundle was made from; `counts` are windows by their use."""
    return {
        "recordings": len(plan.windows),
        "annotations": len(annotations.annotations),
        "annotations_sha256": annotations.sha256(),
        **counts,
        "warnings": [*annotations.warnings, *plan.warnings, *examples.warnings],
    }


def describe_weights(examples: Examples, training: Rows) -> dict[str, Any]:
    """How the loss makes up for rare labels."""
    weights = label_weights(examples.targets[training], examples.mask[training], examples.task)
    return {
        "method": "weight of each label's positive windows in the loss",
        "weights": by_label(examples.labels, weights),
    }


def describe_scores(examples: Examples, rows: Rows, scores: Float32) -> dict[str, Any]:
    """Metrics of scores (n, n_labels) of the rows."""
    targets, mask, labels = examples.targets[rows], examples.mask[rows], examples.labels
    precision = average_precision(targets, mask, scores, labels)
    metrics: dict[str, Any] = {
        "examples": by_label(labels, targets.sum(axis=0)),
        "average_precision": precision,
        "average_precision_of_chance": chance_precision(targets, mask, labels),
        "macro_average_precision": macro(precision),
    }
    if examples.task == "singlelabel" and len(rows):
        metrics["accuracy"] = top_accuracy(targets, scores)
    return metrics


def by_label(labels: Sequence[str], values: npt.NDArray[np.float32]) -> dict[str, float]:
    """A number for each label, whole ones as integers."""
    numbers = (round(float(value), 4) for value in values)
    return {
        label: int(number) if number.is_integer() else number
        for label, number in zip(labels, numbers, strict=True)
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a network's weights."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # Run from a checkout that is not installed.
    return found
