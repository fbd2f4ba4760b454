"""TensorFlow's settings, made before it works for the first time in a process."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_NOTE = re.compile(
    r"(I\d{4} .*|WARNING: All log messages before absl.*|To enable the following.*)\n"
)


def import_quietly() -> None:
    """Imports TensorFlow without its start-up notes, unless the user asked for them.

    They ask with a TF_CPP_MIN_LOG_LEVEL below 3. Level 3 alone keeps other messages off the
    screen, but not those that TensorFlow's libraries write while they are loaded.
    """
    asked = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3"
    if asked or "tensorflow" in sys.modules:
        return
    with _notes_removed():
        import tensorflow  # noqa: F401


@contextmanager
def _notes_removed() -> Iterator[None]:
    """Holds back what C code writes to standard error, and lets all but notes through at last."""
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            held.seek(0)
            sys.stderr.write(_NOTE.sub("", held.read().decode(errors="replace")))


def limit_threads() -> None:
    """One thread for TensorFlow, if it has not worked in this process yet.

    Scores then do not depend on the number of cores, and processes side by side do not fight for
    them.
    """
    for kind in ("INTRAOP", "INTEROP"):
        os.environ[f"TF_NUM_{kind}_THREADS"] = "1"
    import_quietly()
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # It has worked already: its threads are fixed.


def make_deterministic(seed: int) -> None:
    """Makes TensorFlow, for the rest of the process, give the same weights for the same seed."""
    import_quietly()
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
