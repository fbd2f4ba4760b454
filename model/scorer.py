"""Waveforms to scores with a bundle's networks."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle
from model.errors import UserError
from model.frontend import LogMel
from model.runtime import limit_threads

Float32 = npt.NDArray[np.float32]

MULTIPLE = 8
"""Batches are padded to a multiple of this. Kernels for odd sizes add in another order: with
whole multiples, a window's scores are the same to the bit whatever it is batched with."""


class Scorer:
    """Scores windows: the mean over a bundle's networks. Several threads may call one scorer.

    The networks are loaded in Keras's safe mode, frozen to constants and put behind one function
    with a free batch axis. TensorFlow is limited to one thread, unless it has worked in this
    process already, so that scores do not depend on the number of cores and processes side by
    side do not fight for them. Raises UserError for a network that cannot be loaded or does not
    fit the bundle's front end and labels.
    """

    def __init__(self, bundle: Bundle) -> None:
        limit_threads()
        self.bundle = bundle
        self._log_mel = LogMel(bundle.front_end)
        self._function = _freeze([_load(bundle, name) for name in bundle.networks], bundle)

    def __call__(self, waveforms: Float32) -> Float32:
        """Scores (n, n_labels), float32, of float32 waveforms (n, window_samples)."""
        return self.score_spectrograms(self._log_mel(waveforms))

    def score_spectrograms(self, spectrograms: Float32) -> Float32:
        """Scores (n, n_labels), float32, of float32 spectrograms (n, n_mels, n_frames)."""
        if not len(spectrograms):
            return np.zeros((0, len(self.bundle.labels)), np.float32)
        import tensorflow as tf

        n = len(spectrograms)
        padding = np.zeros((-n % MULTIPLE, *spectrograms.shape[1:]), np.float32)
        whole = np.concatenate([spectrograms, padding]) if len(padding) else spectrograms
        (scores,) = self._function(tf.constant(whole, tf.float32))
        return np.asarray(scores, np.float32)[:n]


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
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"Keras cannot load {bundle.path}/{name}: {reason}") from error
    takes, gives = tuple(network.input_shape[1:]), tuple(network.output_shape[1:])
    expected = bundle.front_end.input_shape, (len(bundle.labels),)
    if (takes, gives) != expected:
        raise UserError(
            f"{bundle.path}/{name} maps {takes} to {gives}, but the bundle's front end and labels "
            f"need {expected[0]} to {expected[1]}."
        )
    return network


def _freeze(networks: list[Any], bundle: Bundle) -> Any:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    shape = (None, *bundle.front_end.input_shape)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])  # type: ignore[untyped-decorator]
    def score(spectrograms: Any) -> Any:
        scores = [network(spectrograms, training=False) for network in networks]
        return tf.add_n(scores) / len(scores)

    return convert_variables_to_constants_v2(score.get_concrete_function())
