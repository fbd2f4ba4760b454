"""Engines that run networks, and their settings: made before they work first in a process."""

import importlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from model.errors import UserError

Engine = Literal["tensorflow", "openvino"]
Precision = Literal["float32", "bfloat16"]

BATCH = 8
"""Windows that are scored together: more take more memory and hardly less time. TensorFlow's
batches are padded to a multiple of this. Its kernels for odd sizes add in another order: with
whole multiples, a window's scores are the same to the bit whatever it is batched with."""

_NOTE = re.compile(
    r"(I\d{4} .*|WARNING: All log messages before absl.*|To enable the following.*)\n"
)


def engine_environment(engine: Engine) -> dict[str, str]:
    """Environment variables that must stand before an engine's modules are imported.

    Each engine works on one thread: scores then do not depend on the number of cores, and
    processes side by side do not fight for them.
    """
    environment: dict[str, str] = {"KERAS_BACKEND": engine}
    if engine == "tensorflow":
        environment |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    return environment


def engine_modules(engine: Engine) -> tuple[str, ...]:
    """The modules, in order, whose import is most of an engine's start."""
    # Our own module imports OpenVINO, without its telemetry.
    return ("model.openvino_engine" if engine == "openvino" else "tensorflow", "keras")


def check_engine(engine: Engine) -> None:
    """UserError if an engine is not installed. Imports nothing."""
    if importlib.util.find_spec(engine) is None:
        raise UserError(
            f"The engine {engine} is not installed here: install dawnchorus with its extra "
            f'(pip install ".[{engine}]"), or use another --engine.'
        )


def check_precision(precision: Precision) -> None:
    """UserError if this machine's processor does not compute in a precision."""
    cpuinfo = ""
    with suppress(OSError):  # Only Linux has it.
        cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace")
    if precision == "bfloat16" and not has_bfloat16(cpuinfo):
        raise UserError(
            "--precision bfloat16 needs Linux on a processor with avx512_bf16 or amx_bf16 (as "
            "lscpu shows), which this machine does not have; use --precision float32."
        )


def has_bfloat16(cpuinfo: str) -> bool:
    """Whether a processor multiplies bfloat16, by the text of Linux's /proc/cpuinfo."""
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return flags is not None and not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags[1].split())


def import_engine(engine: Engine) -> None:
    """Imports an engine and Keras, with the engine as Keras's backend if it is not imported yet.

    Raises UserError if the engine is not installed, or if TensorFlow is asked for where Keras has
    begun with another backend. OpenVINO takes networks from any.
    """
    check_engine(engine)
    environment = engine_environment(engine)
    if "keras" in sys.modules:
        del environment["KERAS_BACKEND"]
    os.environ.update(environment)
    if engine == "tensorflow":
        limit_threads()
    for name in engine_modules(engine):
        importlib.import_module(name)
    import keras

    backend = keras.config.backend()
    if engine == "tensorflow" and backend != engine:
        raise UserError(
            f"Keras works with {backend} in this process already; for the engine tensorflow start "
            "a new one, or set KERAS_BACKEND=tensorflow before Keras is imported."
        )


def import_quietly() -> None:
    """Imports TensorFlow, for Keras too, without its start-up notes unless the user wants them.

    They ask with a TF_CPP_MIN_LOG_LEVEL below 3. Level 3 alone keeps other messages off the
    screen, but not those that TensorFlow's libraries write while they are loaded.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
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
    """One thread for TensorFlow, if it has not worked in this process yet."""
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
