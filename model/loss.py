"""What training minimises: cross-entropy with masks and weights against class imbalance."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from model.bundle_document import Task

Float32 = npt.NDArray[np.float32]

WEIGHTS = (1.0, 10.0)
"""Bounds of a positive window's weight: without an upper one a label with a handful of windows
would decide every step that meets one of them."""


def label_weights(targets: Float32, mask: Float32, task: Task) -> Float32:
    """The weight of each label's positive windows, float32 (n_labels,), from training counts.

    Multi-label: negatives divided by positives. Single-label: the windows of the most frequent
    label divided by the label's own. Both are kept within `WEIGHTS`.
    """
    positives = (targets * mask).sum(axis=0)
    other = mask.sum(axis=0) - positives if task == "multilabel" else positives.max()
    weights: Float32 = np.clip(other / np.maximum(positives, 1), *WEIGHTS).astype(np.float32)
    return weights


def make_loss(task: Task, weights: Float32) -> Callable[[Any, Any, Any], Any]:
    """A function of (targets, mask, logits), all (n, n_labels), to the summed loss and its weight.

    Multi-label: binary cross-entropy of every label that is not masked, positives weighted; the
    weight is the number of unmasked places. Single-label: categorical cross-entropy of each
    window, weighted by its label; the weight is the sum of the windows' weights.
    """
    import tensorflow as tf

    constant = tf.constant(weights, tf.float32)

    def multilabel(targets: Any, mask: Any, logits: Any) -> Any:
        entropy = tf.nn.weighted_cross_entropy_with_logits(targets, logits, constant)
        return tf.reduce_sum(entropy * mask), tf.reduce_sum(mask)

    def singlelabel(targets: Any, mask: Any, logits: Any) -> Any:
        weight = tf.reduce_sum(targets * constant, axis=1)
        entropy = -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=1)
        return tf.reduce_sum(entropy * weight), tf.reduce_sum(weight)

    return multilabel if task == "multilabel" else singlelabel
