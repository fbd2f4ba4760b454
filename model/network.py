"""The paper's convolutional network (Morgan & Braasch 2021)."""

import math
from collections.abc import Sequence
from typing import Any

from model.bundle import Task
from model.errors import UserError
from model.frontend import FrontEnd

FILTERS = (64, 64, 128, 128)
POOLS = (2, 4, 4, 4)


def check_fit(front_end: FrontEnd, filters: Sequence[int] = FILTERS) -> None:
    """UserError, naming what would fit, if a network with these filters does not fit its input.

    Each convolution is followed by pooling (2, 4, 4, 4), so n layers need that many mels and
    frames: 128 for the paper's four.
    """
    if not 1 <= len(filters) <= len(POOLS) or min(filters) < 1:
        raise UserError(
            f"The filters are {','.join(map(str, filters))}; give one to {len(POOLS)} numbers of "
            "1 or more, separated by commas."
        )
    need = math.prod(POOLS[: len(filters)])
    mels, frames = front_end.input_shape
    fitting = [
        n for n in range(1, len(filters)) if math.prod(POOLS[:n]) <= min(front_end.input_shape)
    ]
    fewer = f", or at most {fitting[-1]} filters" if fitting else ""
    if mels < need:
        raise UserError(
            f"{len(filters)} convolutions need at least {need} mels, but the front end has {mels}: "
            f"use {need} or more{fewer}."
        )
    if frames < need:
        hop = front_end.window_samples // (need - 1)
        window = (need - 1) * front_end.hop_length / front_end.sample_rate
        shorter = f"a hop length of at most {hop}, " if hop else ""
        raise UserError(
            f"{len(filters)} convolutions need at least {need} frames, but a window of "
            f"{front_end.window_s:g} s at hop length {front_end.hop_length} has {frames}: use "
            f"{shorter}a window of at least {math.ceil(window * 1000) / 1000:g} s{fewer}."
        )


def build_network(
    front_end: FrontEnd,
    n_labels: int,
    task: Task,
    *,
    mean: float = 0.0,
    variance: float = 1.0,
    filters: Sequence[int] = FILTERS,
) -> Any:
    """A Keras model from spectrograms (n, n_mels, n_frames) in dB to scores (n, n_labels).

    The input is standardised with the training data's `mean` and `variance` (dB). Each 3x3
    convolution (same padding) is followed by batch normalisation, ReLU and max pooling: 2x2
    after the first, 4x4 after the others. What is left (one value per filter in the paper's
    setting) is flattened into one dense layer, `logits`, then a sigmoid (multilabel) or softmax
    (singlelabel). Weights start from Keras's global seed. Raises UserError as `check_fit` does.
    """
    import keras

    check_fit(front_end, filters)
    layers = keras.layers
    inputs = keras.Input(front_end.input_shape, name="spectrogram")
    x = layers.Normalization(axis=None, mean=mean, variance=variance, name="standardise")(inputs)
    x = layers.Reshape((*front_end.input_shape, 1), name="channel")(x)
    for i, (count, pool) in enumerate(zip(filters, POOLS, strict=False), 1):
        # The bias is left out: batch normalisation has its own.
        x = layers.Conv2D(count, 3, padding="same", use_bias=False, name=f"conv_{i}")(x)
        # Keras's default momentum, 0.99, lags for hundreds of steps: on small data sets the
        # validation loss would stop training for nonsense.
        x = layers.BatchNormalization(momentum=0.9, name=f"norm_{i}")(x)
        x = layers.ReLU(name=f"relu_{i}")(x)
        x = layers.MaxPooling2D(pool, name=f"pool_{i}")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(n_labels, name="logits")(x)
    activation = "sigmoid" if task == "multilabel" else "softmax"
    scores = layers.Activation(activation, name="scores")(x)
    return keras.Model(inputs, scores, name="network")
