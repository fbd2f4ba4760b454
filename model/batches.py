"""Batches of examples for training, read from the disk while the network works."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from model.examples import Examples

Rows = npt.NDArray[np.int64]
Change = Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]]
"""(inputs, targets, mask, seed) of a batch to what the network is trained with, in TensorFlow; the
seed is int32 (2,), another one for each batch."""


def split_batches(rows: Rows, size: int) -> list[Rows]:
    """Batches of at most `size` rows, as equal as can be: a last batch of a window or two would
    spoil the moving averages of batch normalisation."""
    return np.array_split(rows, -(-len(rows) // size))


def ordered_batches(examples: Examples, rows: Rows, size: int, change: Change) -> Any:
    """A tf.data.Dataset of (inputs, targets, mask) of the rows, in their order, once."""
    import tensorflow as tf

    parts = split_batches(rows, size)
    indices = tf.data.Dataset.range(len(parts))
    return _read(indices, examples, lambda index: parts[index], change, 0)


def training_batches(
    examples: Examples,
    rows: Rows,
    size: int,
    change: Change,
    *,
    seed: int,
    epochs: int,
    first_epoch: int = 0,
) -> Any:
    """A tf.data.Dataset of (inputs, targets, mask): the batches of `epochs` epochs, one by one.

    Each epoch has every row once, in an order that `seed` and the epoch decide; what is drawn in
    `change` follows from the seed and the batch. So batches from `first_epoch` on are the same
    whether or not those before were asked for.
    """
    import tensorflow as tf

    steps = len(split_batches(rows, size))
    order: dict[int, list[Rows]] = {}

    def rows_of(index: int) -> Rows:
        epoch, step = divmod(index, steps)
        if epoch not in order:
            order.clear()
            shuffled = np.random.default_rng([seed, epoch]).permutation(rows)
            order[epoch] = split_batches(shuffled, size)
        return order[epoch][step]

    indices = tf.data.Dataset.range(first_epoch * steps, epochs * steps)
    return _read(indices, examples, rows_of, change, seed)


def _read(
    indices: Any, examples: Examples, rows_of: Callable[[int], Rows], change: Change, seed: int
) -> Any:
    import tensorflow as tf

    def read(index: Any) -> tuple[Any, ...]:
        rows = rows_of(int(index))
        return examples.inputs[rows], examples.targets[rows], examples.mask[rows]

    def load(index: Any) -> tuple[Any, Any, Any]:
        arrays = (examples.inputs, examples.targets, examples.mask)
        batch = tf.numpy_function(read, [index], [tf.float32] * 3, stateful=False)
        for tensor, array in zip(batch, arrays, strict=True):
            tensor.set_shape((None, *array.shape[1:]))
        drawn = tf.stack([tf.constant(seed % 2**31, tf.int32), tf.cast(index, tf.int32)])
        inputs, targets, mask = batch
        return change(inputs, targets, mask, drawn)

    # One at a time, but beside the network's steps: reading and changing take far less.
    return indices.map(load, num_parallel_calls=1, deterministic=True).prefetch(2)
