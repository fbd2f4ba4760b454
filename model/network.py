"""Networks: each architecture's layers between the spectrogram and the logits."""

from collections.abc import Callable
from typing import Any

from model.architecture import BACKBONES, Architecture
from model.backbones import backbone_features
from model.bundle_document import Task
from model.frontend import FrontEnd

MOMENTUM = 0.9
"""Of batch normalisation. Keras's default, 0.99, lags for hundreds of steps: on small data sets the
validation loss would stop training for nonsense."""


def build_network(
    architecture: Architecture,
    front_end: FrontEnd,
    n_labels: int,
    task: Task,
    *,
    mean: float = 0.0,
    variance: float = 1.0,
) -> Any:
    """A Keras model from spectrograms (n, n_mels, n_frames) in dB to scores (n, n_labels).

    The input (`spectrogram`) is standardised (`standardise`) with the training data's `mean` and
    `variance` (dB). The architecture makes an embedding (n, d) of it, of which a dense layer,
    `logits`, and a sigmoid (multilabel) or softmax (singlelabel), `scores`, make scores. In
    backbones, what comes before the layer `features` (n, d) is the image network and what follows
    it the new head. Weights start from Keras's global seed, unless the architecture names others.
    Raises UserError as `check_fit` does, and for weights that cannot be had.
    """
    import keras

    architecture.check_fit(front_end)
    layers = keras.layers
    inputs = keras.Input(front_end.input_shape, name="spectrogram")
    x = layers.Normalization(axis=None, mean=mean, variance=variance, name="standardise")(inputs)
    x = layers.Reshape((*front_end.input_shape, 1), name="channel")(x)
    x = BUILDERS[architecture.name](x, architecture.resolved())
    x = layers.Dense(n_labels, name="logits")(x)
    activation = "sigmoid" if task == "multilabel" else "softmax"
    scores = layers.Activation(activation, name="scores")(x)
    return keras.Model(inputs, scores, name="network")


def _morgan2021(x: Any, architecture: Architecture) -> Any:
    """Morgan & Braasch (2021), Ecological Informatics 61:101242.

    3x3 convolutions (same padding), each followed by batch normalisation, ReLU and max pooling:
    2x2 after the first, 4x4 after the others. What is left (one value per filter in the paper's
    setting) goes into the logits.
    """
    from keras import layers

    a = architecture
    for i, (count, pool) in enumerate(zip(a.filters or (), a.pools or (), strict=True), 1):
        # The bias is left out: batch normalisation has its own.
        x = layers.Conv2D(count, a.kernel, padding="same", use_bias=False, name=f"conv_{i}")(x)
        x = layers.BatchNormalization(momentum=MOMENTUM, name=f"norm_{i}")(x)
        x = layers.ReLU(name=f"relu_{i}")(x)
        x = layers.MaxPooling2D(pool, padding="same", name=f"pool_{i}")(x)
    return _head(x, a)


def _sprengel2016(x: Any, architecture: Architecture) -> Any:
    """Sprengel et al. (2016), CEUR Workshop Proceedings 1609:547-559.

    Convolutions with ReLU, 2x2 max pooling and batch normalisation before the next layer; the
    first steps over every other frame. The batch normalisation of the input is `standardise`.
    """
    from keras import layers

    for i, (count, size) in enumerate(((64, 5), (64, 5), (128, 5), (256, 5), (256, 3)), 1):
        x = layers.Conv2D(
            count,
            size,
            strides=(1, 2) if i == 1 else 1,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"conv_{i}",
        )(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool_{i}")(x)
        x = layers.BatchNormalization(momentum=MOMENTUM, name=f"norm_{i}")(x)
    return _head(x, architecture)


def _pnwcnet5(x: Any, architecture: Architecture) -> Any:
    """PNW-Cnet v5 (Ruff et al. 2023, github.com/zjruff/PNW-Cnet-5): no batch normalisation.

    5x5 convolutions with ReLU, each followed by 2x2 max pooling and dropout.
    """
    from keras import layers

    counts = (32, 32, 64, 64, 128, 128)
    for i, count in enumerate(counts, 1):
        x = layers.Conv2D(count, 5, padding="same", activation="relu", name=f"conv_{i}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool_{i}")(x)
        if architecture.dropout and i < len(counts):  # The head has that of the last.
            x = layers.Dropout(architecture.dropout, name=f"drop_{i}")(x)
    return _head(x, architecture)


def _backbone(x: Any, architecture: Architecture) -> Any:
    """A network for images, and dropout before the new head."""
    return _dense(backbone_features(x, architecture, MOMENTUM), architecture)


def _head(x: Any, architecture: Architecture) -> Any:
    """Maps (n, mels, frames, filters) to the embedding (n, d)."""
    from keras import layers

    if architecture.head == "average":
        x = layers.GlobalAveragePooling2D(name="average")(x)
    else:
        x = layers.Flatten(name="flat")(x)
    return _dense(x, architecture)


def _dense(x: Any, architecture: Architecture) -> Any:
    """A dense layer with ReLU, if there is to be one; dropout before it and after it."""
    from keras import layers

    a = architecture
    if a.dense:
        if a.dropout:
            x = layers.Dropout(a.dropout, name="dense_dropout")(x)
        x = layers.Dense(a.dense, activation="relu", name="dense")(x)
    if a.dropout:
        x = layers.Dropout(a.dropout, name="dropout")(x)
    return x


BUILDERS: dict[str, Callable[[Any, Architecture], Any]] = {
    "morgan2021": _morgan2021,
    "sprengel2016": _sprengel2016,
    "pnwcnet5": _pnwcnet5,
    **dict.fromkeys(BACKBONES, _backbone),
}
"""What makes the embedding (n, d) of standardised spectrograms (n, n_mels, n_frames, 1)."""
