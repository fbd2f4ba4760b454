"""The engine OpenVINO: scores as TensorFlow's in less time on processors that it knows.

Importing this module imports OpenVINO.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from model.runtime import Precision

# OpenVINO's import itself tells Intel of it, over the network, and leaves files in the user's home
# folder. Without this module, which comes with it, it does neither.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402

Float32 = npt.NDArray[np.float32]


def openvino_function(
    networks: list[Any], shape: tuple[int, int], precision: Precision
) -> Callable[[Float32], list[Float32]]:
    """The mean over Keras networks, of their scores of spectrograms of a `shape`.

    The function takes (n, n_mels, n_frames), float32, and gives [(n, n_labels)], float32, and then
    what other outputs the first network has. Several threads may call it. Raises whatever Keras or
    OpenVINO raise where they cannot convert a network.
    """
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        # Each of several processes would choose the same core.
        "ENABLE_CPU_PINNING": False,
    }
    core = openvino.Core()
    requests = [
        core.compile_model(_convert(core, network, shape), "CPU", settings).create_infer_request()
        for network in networks
    ]
    others = range(1, len(requests[0].output_tensors))
    lock = Lock()

    def score(spectrograms: Float32) -> list[Float32]:
        # One window at a time is quickest, and its scores cannot depend on others.
        with lock:
            each = [score_one(spectrogram) for spectrogram in spectrograms]
        return [np.stack(rows) for rows in zip(*each, strict=True)]

    def score_one(spectrogram: Float32) -> list[Float32]:
        total = np.float32(0)
        for request in requests:
            request.get_input_tensor().data[0] = spectrogram
            request.infer()
            total = total + request.get_output_tensor(0).data[0]
        # Copied: the next window is put into the same place.
        rest = [np.array(requests[0].get_output_tensor(i).data[0], np.float32) for i in others]
        return [np.asarray(total / len(requests), np.float32), *rest]

    return score


def _convert(core: Any, network: Any, shape: tuple[int, int]) -> Any:
    """OpenVINO's form of a Keras network, for one window."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.xml")
        _channels_first(network).export(path, format="openvino", verbose=False)
        # From bytes, because the weights of a file are read from it later.
        model = core.read_model(
            Path(path).read_bytes(), Path(path).with_suffix(".bin").read_bytes()
        )
    model.reshape([1, *shape])
    return model


def _channels_first(network: Any) -> Any:
    """A Keras network with its channels before mels and frames, as OpenVINO's kernels have them.

    Keras would have it transpose before and after each layer, which more than doubles the time. A
    network of other layers than the paper's, with its image in another shape, is left as it is.
    """
    import keras

    try:
        changed = keras.models.clone_model(network, clone_function=_channels_first_layer)
    except (AttributeError, TypeError, ValueError):
        return network
    changed.set_weights(network.get_weights())
    return changed


def _channels_first_layer(layer: Any) -> Any:
    """The same layer for channels first; ValueError where it is not known how.

    Not from the layer's `get_config`, which imports TensorFlow.
    """
    from keras import activations, layers

    takes, gives, kind = tuple(layer.input.shape), tuple(layer.output.shape), type(layer)
    if kind is layers.Reshape and gives == (*takes, 1):
        return layers.Reshape((1, *takes[1:]))
    if 4 not in (len(takes), len(gives)) or kind is layers.ReLU:
        return layer
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    if (
        kind is layers.Conv2D
        and last
        and layer.activation in (activations.linear, activations.relu)
    ):
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
    if kind is layers.BatchNormalization and layer.axis in (-1, 3):
        return layers.BatchNormalization(
            1, epsilon=layer.epsilon, center=layer.center, scale=layer.scale
        )
    if kind is layers.MaxPooling2D and last:
        return layers.MaxPooling2D(layer.pool_size, layer.strides, layer.padding, "channels_first")
    if kind is layers.Flatten and last:
        # It brings the channels back to the end: the weights that follow stay in order.
        return layers.Flatten("channels_first")
    raise ValueError(f"{kind.__name__} is not known")
