"""Keras networks with their channels before mels and frames, as OpenVINO's kernels have them."""

from typing import Any

import numpy as np

from model.backbones import assign_weights
from model.network_file import OPERATIONS


def channels_first(network: Any) -> Any:
    """A Keras network with its channels first, and the same scores.

    Left channels last, Keras would have OpenVINO transpose before and after each layer, which more
    than doubles the time. A network of layers that are not known here is left as it is.
    """
    import keras

    try:
        changed = keras.models.clone_model(network, clone_function=_channels_first_layer)
    except (AttributeError, TypeError, ValueError):
        return network
    assign_weights(changed, network.get_weights())
    return changed


def _channels_first_layer(layer: Any) -> Any:
    """The same layer for channels first; ValueError where it is not known how.

    Not from the layer's `get_config`, which imports TensorFlow.
    """
    from keras import layers

    inputs = layer.input if isinstance(layer.input, list) else [layer.input]
    takes, gives, kind = tuple(inputs[0].shape), tuple(layer.output.shape), type(layer)
    if kind is layers.Reshape and gives == (*takes, 1):
        return layers.Reshape((1, *takes[1:]))
    if kind is layers.Reshape and gives == (None, 1, 1, *takes[1:]):
        return layers.Reshape((*takes[1:], 1, 1))
    if 4 not in (len(takes), len(gives)) or _works_anywhere(layer):
        return layer
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise ValueError(f"{layer.name} is not channels last")
    make = _MAKERS.get(kind.__name__)
    if make is None or not (kind is getattr(layers, kind.__name__, None) or _is_operation(layer)):
        raise ValueError(f"{kind.__name__} is not known")
    return make(layer, layers)


def _works_anywhere(layer: Any) -> bool:
    """Whether a layer treats each number of its maps alike."""
    import keras
    from keras import layers

    if type(layer) is layers.Activation:
        return _elementwise(layer.activation)
    if type(layer).__module__ == "keras.src.ops.numpy" and _is_operation(layer):
        arguments = layer._inbound_nodes[0].arguments  # An array would have an order of its own.
        return all(isinstance(x, (int, float, keras.KerasTensor)) for x in arguments.args)
    plain = (layers.ReLU, layers.Add, layers.Multiply, layers.Dropout)
    scaled = type(layer) is layers.Rescaling and np.ndim(layer.scale) == np.ndim(layer.offset) == 0
    return type(layer) in plain or scaled


def _is_operation(layer: Any) -> bool:
    return (type(layer).__module__, type(layer).__name__) in OPERATIONS


def _elementwise(activation: Any) -> bool:
    return getattr(activation, "__name__", "") in (
        "linear",
        "relu",
        "relu6",
        "sigmoid",
        "hard_sigmoid",
        "silu",
        "hard_silu",
    )


def _channel_axis(axis: Any) -> None:
    if axis not in (-1, 3, (-1,), (3,)):
        raise ValueError("not the axis of the channels")


def _conv(layer: Any, layers: Any) -> Any:
    if not _elementwise(layer.activation):
        raise ValueError("an activation over channels")
    return layers.Conv2D(
        layer.filters,
        layer.kernel_size,
        layer.strides,
        layer.padding,
        "channels_first",
        layer.dilation_rate,
        layer.groups,
        layer.activation,
        layer.use_bias,
        kernel_initializer="zeros",  # Drawing numbers takes seconds.
    )


def _depthwise(layer: Any, layers: Any) -> Any:
    if not _elementwise(layer.activation):
        raise ValueError("an activation over channels")
    return layers.DepthwiseConv2D(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        layer.depth_multiplier,
        "channels_first",
        layer.dilation_rate,
        layer.activation,
        layer.use_bias,
        depthwise_initializer="zeros",
    )


def _batch_norm(layer: Any, layers: Any) -> Any:
    _channel_axis(layer.axis)
    return layers.BatchNormalization(
        1, epsilon=layer.epsilon, center=layer.center, scale=layer.scale
    )


def _normalization(layer: Any, layers: Any) -> Any:
    _channel_axis(layer.axis)
    return layers.Normalization(1)


def _rescaling(layer: Any, layers: Any) -> Any:
    def upright(values: Any) -> Any:
        return np.reshape(np.asarray(values, np.float32), (-1, 1, 1))

    return layers.Rescaling(upright(layer.scale), upright(layer.offset))


def _concatenate(layer: Any, layers: Any) -> Any:
    _channel_axis(layer.axis)
    return layers.Concatenate(1)


def _resize(layer: Any, layers: Any) -> Any:
    return type(layer)(
        layer.size, layer.interpolation, layer.antialias, data_format="channels_first"
    )


def _pooling(layer: Any, layers: Any) -> Any:
    make = getattr(layers, type(layer).__name__)
    return make(layer.pool_size, layer.strides, layer.padding, "channels_first")


_MAKERS: dict[str, Any] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "BatchNormalization": _batch_norm,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    "Concatenate": _concatenate,
    "Resize": _resize,
    "MaxPooling2D": _pooling,
    "AveragePooling2D": _pooling,
    "ZeroPadding2D": lambda layer, layers: layers.ZeroPadding2D(layer.padding, "channels_first"),
    "GlobalAveragePooling2D": lambda layer, layers: layers.GlobalAveragePooling2D(
        "channels_first", keepdims=layer.keepdims
    ),
    # It brings the channels back to the end: the weights that follow stay in order.
    "Flatten": lambda layer, layers: layers.Flatten("channels_first"),
}
"""How to make the same layer, given it and `keras.layers`."""
