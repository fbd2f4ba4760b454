"""Waveforms to scores with a bundle's networks."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle
from model.errors import UserError
from model.frontend import LogMel
from model.runtime import Engine, Precision, check_precision, import_engine
from model.stages import timed
from model.tensorflow_engine import tensorflow_function

Float32 = npt.NDArray[np.float32]


class Scorer:
    """Scores windows: the mean over a bundle's networks, through its calibrator if it has one.

    Several threads may call one scorer.
    The networks are loaded in Keras's safe mode and compiled by the engine: TensorFlow, the
    reference, or OpenVINO, whose scores are within 1e-4 of the reference's in float32. In bfloat16
    those of either are within 0.01. A window's scores are the same to the bit whatever it is
    scored with. The engine works on one thread, unless TensorFlow has worked in this process
    already, so that scores do not depend on the number of cores and processes side by side do not
    fight for them.

    Raises UserError for a network that cannot be loaded, does not fit the bundle's front end and
    labels, or cannot be compiled; for an engine that is not installed or a precision that the
    processor does not have; and for the engine TensorFlow where Keras has begun without it.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine = "tensorflow", precision: Precision = "float32"
    ) -> None:
        check_precision(precision)
        import_engine(engine)
        self.bundle = bundle
        self._log_mel = LogMel(bundle.front_end)
        self._score = _compile(bundle, engine, precision)

    def __call__(self, waveforms: Sequence[Float32] | Float32) -> Float32:
        """Scores (n, n_labels), float32, of n float32 waveforms (window_samples,)."""
        with timed("spectrogram"):
            spectrograms = self._log_mel(waveforms)
        with timed("network"):
            return self.score_spectrograms(spectrograms)

    def score_spectrograms(self, spectrograms: Float32) -> Float32:
        """Scores (n, n_labels), float32, of float32 spectrograms (n, n_mels, n_frames)."""
        if not len(spectrograms):
            return np.zeros((0, len(self.bundle.labels)), np.float32)
        return self.bundle.calibrate(self._score(spectrograms))


def _compile(bundle: Bundle, engine: Engine, precision: Precision) -> Callable[[Float32], Float32]:
    networks = [_load(bundle, name) for name in bundle.networks]
    shape = bundle.front_end.input_shape
    if engine == "tensorflow":
        return tensorflow_function(networks, shape, precision)
    from model.openvino_engine import openvino_function

    try:
        return openvino_function(networks, shape, precision)
    except Exception as error:
        raise UserError(
            f"OpenVINO cannot run the networks of {bundle.path} ({_reason(error)}); use --engine "
            "tensorflow."
        ) from error


def _load(bundle: Bundle, name: str) -> Any:
    import keras

    # From checked bytes, not from the bundle's own file: one code path for disks and URLs, and
    # what is scored with is what was checked.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(bundle.read_file(name))
        try:
            network = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            raise UserError(f"Keras cannot load {bundle.path}/{name}: {_reason(error)}") from error
    takes, gives = tuple(network.input_shape[1:]), tuple(network.output_shape[1:])
    expected = bundle.front_end.input_shape, (len(bundle.labels),)
    if (takes, gives) != expected:
        raise UserError(
            f"{bundle.path}/{name} maps {takes} to {gives}, but the bundle's front end and labels "
            f"need {expected[0]} to {expected[1]}."
        )
    return network


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
