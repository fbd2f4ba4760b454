"""Bundles of networks that tests make."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.bundle import Bundle, Task, write_bundle
from model.frontend import FrontEnd


def bundle_of(
    path: Path,
    networks: Sequence[Any],
    front_end: FrontEnd,
    labels: Sequence[str],
    task: Task = "multilabel",
    threshold: float = 0.5,
) -> Bundle:
    """Writes Keras networks as a bundle, with the same threshold for each label."""
    return write_bundle(
        str(path),
        task=task,
        labels=labels,
        front_end=front_end,
        thresholds=dict.fromkeys(labels, threshold),
        networks=networks,
        provenance={},
        log={"epochs": []},
    )
