"""Waveforms to scores with a bundle's networks."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle
from model.embedding import embedding_of
from model.errors import UserError
from model.frontend import LogMel
from model.rejection import Rejecter
from model.runtime import Engine, Precision, check_precision, import_engine
from model.stages import timed
from model.tensorflow_engine import tensorflow_function

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """What the networks say of n windows.

    `scores` (n, n_output_labels) and `embeddings` (n, d), the penultimate layer of the bundle's
    first network, both float32.
    """

    scores: Float32
    embeddings: Float32


class Scorer:
    """Scores windows: the mean over a bundle's networks, through its calibrator if it has one.

    Several threads may call one scorer.
    The networks are loaded in Keras's safe mode and compiled by the engine: TensorFlow, the
    reference, or OpenVINO, whose scores are within 1e-4 of the reference's in float32 (1e-3 for
    networks of fifty and more layers). In bfloat16 those of either are within 0.01. A window's
    scores and embedding are the same to the bit whatever it is scored with. The engine works on one
    thread, unless TensorFlow has worked in this process already, so that scores do not depend on
    the number of cores and processes side by side do not fight for them. A bundle's rejecter adds
    the label `unknown`; it judges by distances, so its scores may differ a little more between
    engines and precisions.

    Raises UserError for a network that cannot be loaded, does not fit the bundle's front end and
    labels, or cannot be compiled; for an engine that is not installed or a precision that the
    processor does not have; and for the engine TensorFlow where Keras has begun without it.

    What gives embeddings is compiled when it is needed first, or at once with `embeddings`; what
    gives scores alone is then compiled when it is needed.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine = "tensorflow",
        precision: Precision = "float32",
        *,
        embeddings: bool = False,
    ) -> None:
        check_precision(precision)
        import_engine(engine)
        self.bundle = bundle
        self._engine, self._precision = engine, precision
        self._log_mel = LogMel(bundle.front_end)
        self._compiled: dict[bool, Callable[[Float32], list[Float32]]] = {}
        self._lock = Lock()
        self._rejecter = bundle.load_rejecter()
        self._judges_embeddings = _judges_embeddings(bundle, self._rejecter)
        self._function(embeddings)

    def __call__(self, waveforms: Sequence[Float32] | Float32) -> Float32:
        """Scores (n, n_output_labels), float32, of n float32 waveforms (window_samples,)."""
        with timed("spectrogram"):
            spectrograms = self._log_mel(waveforms)
        with timed("network"):
            return self.score_spectrograms(spectrograms)

    def outputs(self, waveforms: Sequence[Float32] | Float32) -> Outputs:
        """Scores and embeddings of n float32 waveforms (window_samples,).

        Raises UserError for a network without a penultimate layer, as `embedding_of` does.
        """
        with timed("spectrogram"):
            spectrograms = self._log_mel(waveforms)
        with timed("network"):
            return self.outputs_of_spectrograms(spectrograms)

    def score_spectrograms(self, spectrograms: Float32) -> Float32:
        """Scores (n, n_output_labels), float32, of float32 spectrograms (n, n_mels, n_frames)."""
        if not len(spectrograms):
            return np.zeros((0, len(self.bundle.output_labels)), np.float32)
        return self._run(spectrograms, False)[0]

    def outputs_of_spectrograms(self, spectrograms: Float32) -> Outputs:
        """Scores and embeddings of float32 spectrograms (n, n_mels, n_frames)."""
        if not len(spectrograms):
            size = embedding_of(self.bundle).size
            return Outputs(self.score_spectrograms(spectrograms), np.zeros((0, size), np.float32))
        return Outputs(*self._run(spectrograms, True))

    def _run(self, spectrograms: Float32, embeddings: bool) -> list[Float32]:
        """Scores, with those of `unknown` if the bundle has a rejecter, and perhaps embeddings."""
        scores, *rest = self._function(embeddings)(spectrograms)
        scores = self.bundle.calibrate(scores)
        if self._rejecter is not None:
            judged = rest[0] if rest else np.zeros((len(scores), 0), np.float32)
            front_end = self.bundle.front_end
            scores = self._rejecter.apply(scores, judged, spectrograms, front_end)
        return [scores, *rest]

    def _function(self, embeddings: bool) -> Callable[[Float32], list[Float32]]:
        """The compiled networks, with or without the embedding as a second output."""
        embeddings = embeddings or self._judges_embeddings
        with self._lock:
            if embeddings not in self._compiled:
                self._compiled[embeddings] = _compile(
                    self.bundle, self._engine, self._precision, embeddings
                )
            return self._compiled[embeddings]


def _judges_embeddings(bundle: Bundle, rejecter: Rejecter | None) -> bool:
    """Whether a rejecter needs embeddings; UserError if it is for ones of another size."""
    if rejecter is None or not rejecter.size:
        return False
    size = embedding_of(bundle).size
    if rejecter.size != size:
        raise UserError(
            f"The rejecter of {bundle.path} is for embeddings of {rejecter.size} numbers, but its "
            f"first network gives {size}; copy or train the bundle again."
        )
    return True


def _compile(
    bundle: Bundle, engine: Engine, precision: Precision, embeddings: bool
) -> Callable[[Float32], list[Float32]]:
    networks = [_load(bundle, name) for name in bundle.networks]
    if embeddings:
        networks[0] = _with_embedding(networks[0], bundle)
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


def _with_embedding(network: Any, bundle: Bundle) -> Any:
    """The network with its penultimate layer as a second output."""
    import keras

    embedding = embedding_of(bundle)
    taken = network.get_layer(embedding.layer).input
    return keras.Model(network.inputs[0], [network.outputs[0], taken], name=network.name)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
