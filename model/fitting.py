"""Fitting one network: epochs, early stopping, the log, and going on after a kill."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from model.batches import Change, Rows, ordered_batches, split_batches, training_batches
from model.bundle_document import Task
from model.checkpoint import Checkpoint
from model.errors import UserError, require
from model.examples import Examples
from model.loss import label_weights, make_loss
from model.metrics import average_precision, macro, top_accuracy

Float32 = npt.NDArray[np.float32]
Schedule = Literal["constant", "cosine"]
Log = list[dict[str, Any]]

WARM_UP = 0.05
"""The part of the steps in which a cosine rate rises from 0, so that the first steps, with
moments of Adam from a batch or two, do not spoil the weights."""


@dataclass(frozen=True)
class FitOptions:
    """How a network is fitted: Adam's rate and its course, windows a step, when to stop, the seed.

    `patience` None trains all epochs and keeps the last weights. `weight_decay` is AdamW's.
    Raises UserError for values out of range.
    """

    epochs: int = 100
    patience: int | None = 20
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    batch_size: int = 32
    seed: int = 1

    def __post_init__(self) -> None:
        patience = self.patience
        require(self.epochs >= 1, "number of epochs", self.epochs, "1 or more")
        require(patience is None or patience >= 1, "patience", patience, "1 or more, or none")
        require(self.batch_size >= 1, "batch size", self.batch_size, "1 or more")
        require(0 < self.learning_rate < math.inf, "learning rate", self.learning_rate, "above 0")
        require(0 <= self.weight_decay < 1, "weight decay", self.weight_decay, "from 0 to below 1")
        names = " or ".join(get_args(Schedule))
        require(self.schedule in get_args(Schedule), "schedule", self.schedule, names)
        require(self.seed in range(2**32), "seed", self.seed, "from 0 to 4294967295")


@dataclass(frozen=True)
class Rules:
    """How inputs become what a network takes: `training` draws at random, `judging` does not."""

    training: Change
    judging: Change


def fit(
    body: Any,
    examples: Examples,
    training: Rows,
    validation: Rows,
    options: FitOptions,
    rules: Rules,
    report: Callable[[str], None],
    *,
    checkpoint: Path | None = None,
    give_up: Callable[[Log], bool] = lambda log: False,
) -> Log:
    """Fits a Keras model that gives logits (n, n_labels), in place; returns the log.

    `training` and `validation` are rows of `examples`. Training stops when the validation loss
    has not fallen for `patience` epochs, and the weights of the epoch with the lowest are
    restored; without patience or validation rows it runs all epochs and keeps the last. Each entry
    of the log has the epoch, both losses, the average precision of each label on validation with
    their mean (and for single-label tasks the accuracy of the top label). Each epoch is reported
    as a line. `give_up` may end training after any epoch. With a `checkpoint`, a file, what a
    killed call had done is not done again, and the weights are those of a call that was not.
    Raises UserError if the validation loss never was a number.
    """
    import keras
    import tensorflow as tf

    weights = label_weights(examples.targets[training], examples.mask[training], examples.task)
    loss = make_loss(examples.task, weights)
    steps = len(split_batches(training, options.batch_size))
    optimizer = _optimizer(options, steps)
    optimizer.build(body.trainable_variables)
    state = [*body.variables, *optimizer.variables]
    progress = Checkpoint(checkpoint, state, body.get_weights())

    def mean_loss(packed: Any, logits: Any) -> Any:
        targets, mask = tf.split(packed, 2, axis=1)
        total, weight = loss(targets, mask, tf.cast(logits, tf.float32))
        return tf.math.divide_no_nan(total, weight)

    # XLA's convolutions are slow on processors.
    jit = "auto" if tf.config.list_physical_devices("GPU") else False
    body.compile(optimizer, mean_loss, jit_compile=jit)
    judge = _judge(body, loss, examples.task)

    def end_epoch(index: int, logs: dict[str, float]) -> None:
        entry: dict[str, Any] = {"epoch": index + 1, "loss": _number(logs["loss"])}
        if len(validation):
            batches = ordered_batches(examples, validation, options.batch_size, rules.judging)
            entry |= _judged(judge, batches, examples, validation)
        progress.log.append(entry)
        improved = kept_epoch(progress.log, options.patience) == index + 1
        if improved:
            progress.best = body.get_weights()
        late = options.patience is not None and "val_loss" in entry
        report(_line(entry, options.epochs, improved and late))
        waited = index + 1 - kept_epoch(progress.log, options.patience)
        body.stop_training = (late and waited >= (options.patience or 0)) or give_up(progress.log)
        progress.done = body.stop_training or index + 1 == options.epochs
        progress.save()

    if not progress.done:
        batches = training_batches(
            examples,
            training,
            options.batch_size,
            rules.training,
            seed=options.seed,
            epochs=options.epochs,
            first_epoch=len(progress.log),
        )
        body.fit(
            # Keras has one place for what belongs to a batch's targets.
            batches.map(lambda inputs, targets, mask: (inputs, tf.concat([targets, mask], 1))),
            epochs=options.epochs,
            initial_epoch=len(progress.log),
            steps_per_epoch=steps,
            shuffle=False,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=end_epoch)],
            verbose=0,
        )
    if not kept_epoch(progress.log, options.patience):
        raise UserError(
            f"The loss never was a number at learning rate {options.learning_rate:g}; use a lower "
            "--learning-rate."
        )
    body.set_weights(progress.best)
    return progress.log


def _optimizer(options: FitOptions, steps: int) -> Any:
    import keras

    rate: Any = options.learning_rate
    if options.schedule == "cosine":
        total = options.epochs * steps
        warm_up = round(WARM_UP * total)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, total - warm_up, warmup_target=options.learning_rate, warmup_steps=warm_up
        )
    optimizer = keras.optimizers.Adam(rate, weight_decay=options.weight_decay or None)
    if options.weight_decay:
        # They scale and shift; drawn to 0 they would only change what the network can express.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def kept_epoch(log: Log, patience: int | None) -> int:
    """The epoch whose weights are kept (0: none, because no loss was a number).

    With patience and validation the first with the lowest validation loss, else the last.
    """
    name = "val_loss" if log and "val_loss" in log[0] and patience is not None else "loss"
    finite = [entry for entry in log if entry[name] is not None]
    if not finite or name == "loss":
        return int(finite[-1]["epoch"]) if finite else 0
    return int(min(finite, key=lambda e: (e["val_loss"], e["epoch"]))["epoch"])


def _judge(body: Any, loss: Callable[..., Any], task: Task) -> Callable[..., Any]:
    """A function of a batch to its summed loss, the loss's weight and the scores."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def judge(inputs: Any, targets: Any, mask: Any) -> Any:
        logits = tf.cast(body(inputs, training=False), tf.float32)
        scores = tf.sigmoid(logits) if task == "multilabel" else tf.nn.softmax(logits)
        return (*loss(targets, mask, logits), scores)

    return judge  # type: ignore[no-any-return]


def predict(network: Any, examples: Examples, rows: Rows, batch_size: int, rules: Rules) -> Float32:
    """A network's scores (n, n_labels) of the rows."""
    batches = ordered_batches(examples, rows, batch_size, rules.judging)
    scores = [np.asarray(network(batch[0], training=False), np.float32) for batch in batches]
    return np.concatenate(scores)


def _judged(
    judge: Callable[..., Any], batches: Any, examples: Examples, rows: Rows
) -> dict[str, Any]:
    sums = np.zeros(2)
    parts = []
    for batch in batches:
        total, weight, part = judge(*batch)
        sums += float(total), float(weight)
        parts.append(np.asarray(part, np.float32))
    scores = np.concatenate(parts)
    targets, mask = examples.targets[rows], examples.mask[rows]
    finite = bool(np.isfinite(scores).all())
    precision: dict[str, float | None] = dict.fromkeys(examples.labels)
    if finite:
        precision = average_precision(targets, mask, scores, examples.labels)
    entry = {
        "val_loss": _number(sums[0] / sums[1]) if sums[1] else None,
        "val_macro_average_precision": macro(precision),
        "val_average_precision": precision,
    }
    if examples.task == "singlelabel":
        entry["val_accuracy"] = top_accuracy(targets, scores) if finite else None
    return entry


def _number(value: float) -> float | None:
    """None in place of what JSON could not hold."""
    return float(value) if math.isfinite(value) else None


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
