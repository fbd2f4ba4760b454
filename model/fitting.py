"""Fitting one network: epochs, early stopping, the log."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.errors import UserError
from model.examples import Examples
from model.loss import label_weights, make_loss
from model.metrics import average_precision, macro, top_accuracy

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FitOptions:
    """How a network is fitted: Adam's learning rate, windows a step, when to stop, the seed."""

    epochs: int
    patience: int
    learning_rate: float
    batch_size: int
    seed: int


def fit(
    network: Any,
    examples: Examples,
    training: Rows,
    validation: Rows,
    options: FitOptions,
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Fits a network of `build_network` in place, up to its best epoch; returns the log.

    `training` and `validation` are rows of `examples`. Training stops when the validation loss
    has not fallen for `patience` epochs, and the weights of the epoch with the lowest are
    restored. Each entry of the log has the epoch, both losses, the average precision of each
    label on validation with their mean (and for single-label tasks the accuracy of the top
    label). Each epoch is reported as a line. Raises UserError if the loss never was a number.
    """
    import keras
    import tensorflow as tf

    body = keras.Model(network.input, network.get_layer("logits").output)
    weights = label_weights(examples.targets[training], examples.mask[training], examples.task)
    loss = make_loss(examples.task, weights)
    optimizer = keras.optimizers.Adam(options.learning_rate)
    optimizer.build(body.trainable_variables)
    pair = [tf.TensorSpec((None, len(examples.labels)), tf.float32)] * 2
    signature = [tf.TensorSpec((None, *network.input_shape[1:]), tf.float32), *pair]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(spectrograms: Any, targets: Any, mask: Any) -> Any:
        with tf.GradientTape() as tape:
            total, weight = loss(targets, mask, body(spectrograms, training=True))
            mean = tf.math.divide_no_nan(total, weight)
        gradients = tape.gradient(mean, body.trainable_variables)
        optimizer.apply(gradients, body.trainable_variables)
        return total, weight

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def judge(spectrograms: Any, targets: Any, mask: Any) -> Any:
        logits = body(spectrograms, training=False)
        return (*loss(targets, mask, logits), network.get_layer("scores")(logits))

    def batch(rows: Rows) -> tuple[Float32, Float32, Float32]:
        return examples.spectrograms[rows], examples.targets[rows], examples.mask[rows]

    rng = np.random.default_rng(options.seed)
    log: list[dict[str, Any]] = []
    best_weights = network.get_weights()
    for epoch in range(1, options.epochs + 1):
        sums = np.zeros(2)
        for rows in split_batches(rng.permutation(training), options.batch_size):
            sums += [float(value) for value in step(*batch(rows))]
        judged = np.zeros(2)
        scores = []
        for rows in split_batches(validation, options.batch_size):
            total, weight, score = judge(*batch(rows))
            judged += float(total), float(weight)
            scores.append(np.asarray(score))
        entry = _entry(epoch, sums, judged, np.concatenate(scores), examples, validation)
        log.append(entry)
        improved = best_epoch(log) == epoch
        if improved:
            best_weights = network.get_weights()
        report(_line(entry, options.epochs, improved))
        if epoch - best_epoch(log) >= options.patience:
            break
    if not best_epoch(log):
        raise UserError(
            f"The validation loss was never a number at learning rate {options.learning_rate:g}; "
            "use a lower --learning-rate."
        )
    network.set_weights(best_weights)
    return log


def best_epoch(log: list[dict[str, Any]]) -> int:
    """The epoch whose weights are kept: the first with the lowest validation loss (0: none)."""
    finite = [entry for entry in log if entry["val_loss"] is not None]
    return int(min(finite, key=lambda e: (e["val_loss"], e["epoch"]))["epoch"]) if finite else 0


def split_batches(rows: Rows, size: int) -> list[Rows]:
    """Batches of at most `size` rows, as equal as can be: a last batch of a window or two would
    spoil the moving averages of batch normalisation."""
    return np.array_split(rows, -(-len(rows) // size))


def predict(network: Any, examples: Examples, rows: Rows, batch_size: int) -> Float32:
    """A network's scores (n, n_labels) of the rows."""
    scores = [
        np.asarray(network(examples.spectrograms[part], training=False), np.float32)
        for part in split_batches(rows, batch_size)
    ]
    return np.concatenate(scores)


def _entry(
    epoch: int,
    sums: npt.NDArray[np.float64],
    judged: npt.NDArray[np.float64],
    scores: Float32,
    examples: Examples,
    validation: Rows,
) -> dict[str, Any]:
    targets, mask = examples.targets[validation], examples.mask[validation]
    finite = bool(np.isfinite(scores).all())
    precision: dict[str, float | None] = dict.fromkeys(examples.labels)
    if finite:
        precision = average_precision(targets, mask, scores, examples.labels)
    entry = {
        "epoch": epoch,
        "loss": _ratio(sums),
        "val_loss": _ratio(judged),
        "val_macro_average_precision": macro(precision),
        "val_average_precision": precision,
    }
    if examples.task == "singlelabel":
        entry["val_accuracy"] = top_accuracy(targets, scores) if finite else None
    return entry


def _ratio(sums: npt.NDArray[np.float64]) -> float | None:
    """Sum by weight; None if that is no number, which JSON could not hold."""
    return float(sums[0] / sums[1]) if sums[1] and np.isfinite(sums).all() else None


def _line(entry: dict[str, Any], epochs: int, improved: bool) -> str:
    names = {
        "loss": "loss",
        "val_loss": "validation loss",
        "val_macro_average_precision": "average precision",
        "val_accuracy": "accuracy",
    }
    parts = [
        f"{text} {entry[name]:.3f}" if entry[name] is not None else f"{text} -"
        for name, text in names.items()
        if name in entry
    ]
    return f"epoch {entry['epoch']:>3}/{epochs}  {'  '.join(parts)}{'  *' if improved else ''}"
