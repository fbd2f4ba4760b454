"""Bundles of networks that tests make."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.bundle import Bundle, write_bundle
from model.bundle_document import Task
from model.frontend import FrontEnd
from model.rejection import Known, Method, Rejecter, fit_rejecter


def bundle_of(
    path: Path,
    networks: Sequence[Any],
    front_end: FrontEnd,
    labels: Sequence[str],
    task: Task = "multilabel",
    rejecter: Rejecter | None = None,
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
        rejecter=rejecter,
    )


def known_windows(n: int, n_labels: int, size: int, seed: int = 0) -> Known:
    """Outputs of windows of classes that lie apart, the last of them background that is quiet."""
    rng = np.random.default_rng(seed)
    targets = np.eye(n_labels + 1, n_labels, dtype=np.float32)[np.arange(n) % (n_labels + 1)]
    embeddings = np.zeros((n, size), np.float32)
    embeddings[:, 0] = 5 * (np.arange(n) % (n_labels + 1))
    embeddings += 0.5 * rng.standard_normal((n, size), np.float32)
    excess = np.where(targets.any(axis=1), 30, 5).astype(np.float32)
    return Known(0.1 + 0.8 * targets, embeddings, targets, np.ones_like(targets), excess)


def rejecter_of(
    front_end: FrontEnd,
    n_labels: int,
    size: int,
    task: Task = "multilabel",
    method: Method = "distance",
) -> Rejecter:
    """A rejecter for networks whose embeddings have `size` numbers."""
    known = known_windows(40 * (n_labels + 1), n_labels, size)
    return fit_rejecter(method, task, front_end, known, known)
