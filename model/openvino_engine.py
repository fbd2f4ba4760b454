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

from model.channels_first import channels_first
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
    others = range(1, len(networks[0].outputs))
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
            # Converted from TensorFlow, some networks have outputs besides, of layers within.
            total = total + request.get_output_tensor(0).data[0]
        # Copied: the next window is put into the same place.
        rest = [np.array(requests[0].get_output_tensor(i).data[0], np.float32) for i in others]
        return [np.asarray(total / len(requests), np.float32), *rest]

    return score


def _convert(core: Any, network: Any, shape: tuple[int, int]) -> Any:
    """OpenVINO's form of a Keras network, for one window."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.xml")
        channels_first(network).export(path, format="openvino", verbose=False)
        # From bytes, because the weights of a file are read from it later.
        model = core.read_model(
            Path(path).read_bytes(), Path(path).with_suffix(".bin").read_bytes()
        )
    model.reshape([1, *shape])
    return model
