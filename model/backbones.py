"""Networks for images, from Keras, whose features a new head classifies."""

import re
import sys
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.architecture import Architecture
from model.errors import UserError

PIXEL_MEAN = 255 * (0.485 + 0.456 + 0.406) / 3
PIXEL_STD = 255 * (0.229 + 0.224 + 0.225) / 3
"""Mean and deviation of ImageNet's pixels (0 to 255): what the weights have learnt from. A
standardised spectrogram is given the same, whatever its range in dB is."""


@dataclass(frozen=True)
class Backbone:
    """A function of keras.applications, the side of its images, and what it expects of them.

    Its own pre-processing of pixels from 0 to 255 is `pixel * scale + offset`, for each channel.
    """

    function: str
    size: int
    scale: float = 1.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


_MINUS_ONE_TO_ONE = 1 / 127.5, (-1.0, -1.0, -1.0)
_CAFFE = 1.0, (-103.939, -116.779, -123.68)
FUNCTIONS = {
    "resnet50": Backbone("ResNet50", 224, *_CAFFE),
    "inceptionv3": Backbone("InceptionV3", 299, *_MINUS_ONE_TO_ONE),
    "mobilenet": Backbone("MobileNet", 224, *_MINUS_ONE_TO_ONE),
    # The large one: less work than MobileNet V1 at the same width, and better on ImageNet.
    "mobilenetv3": Backbone("MobileNetV3Large", 224),
    "efficientnet": Backbone("EfficientNetB0", 224),
}


def backbone_features(x: Any, architecture: Architecture, momentum: float) -> Any:
    """Features (n, d) of standardised spectrograms (n, n_mels, n_frames, 1), layer `features`.

    They are resized, repeated to three channels and scaled to what the backbone expects. Its layers
    are part of the one flat network, with batch normalisation of the given momentum. UserError for
    weights that cannot be had.
    """
    import keras
    from keras import layers

    backbone = FUNCTIONS[architecture.name]
    weights = _weights(architecture, backbone)
    # Not the layer Resizing: what follows it in a network is then in training mode, unless told
    # otherwise at each call (keras-team/keras issue 23166).
    x = keras.ops.image.resize(x, (backbone.size,) * 2, data_format="channels_last")
    x = layers.Concatenate(name="rgb")([x, x, x])
    x = layers.Rescaling(
        PIXEL_STD * backbone.scale,
        [PIXEL_MEAN * backbone.scale + offset for offset in backbone.offset],
        name="pixels",
    )(x)
    network = _build(architecture, backbone, input_tensor=x)
    _name_anew(network)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    if weights is not None:
        assign_weights(network, weights)
    return layers.GlobalAveragePooling2D(name="features")(network.output)


def assign_weights(network: Any, weights: list[Any]) -> None:
    """Gives a network all its weights; `set_weights` alone leaves normalisation as it was."""
    import keras

    network.set_weights(weights)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _build(architecture: Architecture, backbone: Backbone, **options: Any) -> Any:
    """The backbone as Keras makes it, by default without its top and with random weights."""
    import keras

    if architecture.width is not None:
        options["alpha"] = architecture.width
    return getattr(keras.applications, backbone.function)(
        **{"include_top": False, "weights": None, **options}
    )


def _name_anew(network: Any) -> None:
    """Counts from 1 the names that Keras makes up: it counts over the whole process, and a bundle
    should not depend on what was built before."""
    counts: Counter[str] = Counter()
    for operation in network.operations:
        stem = re.sub(r"_\d+$", "", operation.name)
        if stem.replace("_", "") == type(operation).__name__.lower():
            counts[stem] += 1
            operation.name = f"{stem}_{counts[stem]}"


def _weights(architecture: Architecture, backbone: Backbone) -> list[Any] | None:
    """The weights that the backbone starts from; None for random ones."""
    if architecture.weights == "none":
        return None
    shape = (backbone.size, backbone.size, 3)
    if architecture.weights == "imagenet":
        network = _download(architecture, backbone, shape)
    else:
        network = _load(architecture, backbone, shape)
    if architecture.name == "efficientnet":
        _divide_by_root_of_deviation(network)
    return list(network.get_weights())


def _download(architecture: Architecture, backbone: Backbone, shape: tuple[int, ...]) -> Any:
    try:
        with redirect_stdout(sys.stderr):  # Keras tells there how far it is.
            return _build(architecture, backbone, weights="imagenet", input_shape=shape)
    except Exception as error:  # Keras raises no other where it cannot download.
        alpha = "" if architecture.width is None else f"alpha={architecture.width:g}, "
        file = f"{architecture.name}.weights.h5"
        code = (
            f"import keras; keras.applications.{backbone.function}({alpha}include_top=False, "
            f"input_shape={shape}).save_weights('{file}')"
        )
        raise UserError(
            f"Keras cannot download the ImageNet weights of {architecture.name} "
            f'({_reason(error)}); on a machine with network run python -c "{code}", then use '
            f"--weights {file}."
        ) from error


def _load(architecture: Architecture, backbone: Backbone, shape: tuple[int, ...]) -> Any:
    """The backbone with weights of a file, which may have those of the top besides."""
    path = Path(architecture.weights)
    if not path.is_file():
        raise UserError(f"There is no file of weights {path}; give its path, imagenet or none.")
    network = _build(architecture, backbone, input_shape=shape)
    try:
        network.load_weights(path)
    except Exception as error:
        whole = _build(architecture, backbone, include_top=True, input_shape=shape)
        try:
            whole.load_weights(path)
        except Exception:
            width = "" if architecture.width is None else f" of width {architecture.width:g}"
            raise UserError(
                f"{path} does not hold weights of Keras's {backbone.function}{width} "
                f"({_reason(error)}); give the architecture"
                f"{' and width' if width else ''} that it was made for."
            ) from error
        network.set_weights(whole.get_weights()[: len(network.weights)])
    return network


def _divide_by_root_of_deviation(network: Any) -> None:
    """What Keras does with EfficientNet's ImageNet weights alone, by a layer that others lack.

    That layer divides what the first normalisation gives by the root of the pixels' deviation
    (keras/src/applications/efficientnet.py says why).
    """
    import keras
    from keras.src.applications.efficientnet import IMAGENET_STDDEV_RGB

    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance, *count = layer.get_weights()
            layer.set_weights([mean, variance * np.float32(IMAGENET_STDDEV_RGB), *count])


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
