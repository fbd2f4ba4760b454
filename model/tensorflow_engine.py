"""The engine TensorFlow: the reference for all scores."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from model.runtime import BATCH, Precision

Float32 = npt.NDArray[np.float32]


def tensorflow_function(
    networks: list[Any], shape: tuple[int, int], precision: Precision
) -> Callable[[Float32], list[Float32]]:
    """The mean over Keras networks, of their scores of spectrograms of a `shape`.

    The function takes (n, n_mels, n_frames), float32, for any n of 1 or more, and gives
    [(n, n_labels)], float32, and then what other outputs the first network has. Several threads
    may call it. In bfloat16 the convolutions' and dense layers' factors are rounded, sums and
    scores are not.
    """
    import tensorflow as tf

    frozen = _freeze(networks, shape)
    # A session rather than a call of the function: rewriting is a setting of its own here, and
    # one of the whole process there.
    settings = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1)
    settings.inter_op_parallelism_threads = 1
    rewrites = settings.graph_options.rewrite_options
    if precision == "bfloat16":
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewrites.ON
    session = tf.compat.v1.Session(graph=frozen.graph, config=settings)
    fetched = [output.name for output in frozen.outputs]
    run = session.make_callable(fetched, feed_list=[frozen.inputs[0].name])

    def score(spectrograms: Float32) -> list[Float32]:
        n = len(spectrograms)
        padding = np.zeros((-n % BATCH, *shape), np.float32)
        whole = np.concatenate([spectrograms, padding]) if len(padding) else spectrograms
        return [np.asarray(output, np.float32)[:n] for output in run(whole)]

    return score


def _freeze(networks: list[Any], shape: tuple[int, int]) -> Any:
    """One function of all networks, their weights constants, with a free batch axis."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.float32)])  # type: ignore[untyped-decorator]
    def score(spectrograms: Any) -> Any:
        outputs = [tf.nest.flatten(network(spectrograms, training=False)) for network in networks]
        mean = tf.add_n([scores for scores, *_ in outputs]) / len(outputs)
        return [mean, *outputs[0][1:]]

    return convert_variables_to_constants_v2(score.get_concrete_function())
