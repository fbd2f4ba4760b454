"""Small archives of real audio files and a tiny real bundle, for the tests of the job."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from model.architecture import Architecture
from model.bundle import Bundle
from model.bundle_document import Task
from model.frontend import FrontEnd, default_hop_length
from model.network import build_network
from tests.bundles import bundle_of, rejecter_of

RATE = 8000
LABELS = ("wren", "robin", "unheard bird")


def tiny_bundle(
    folder: Path,
    task: Task = "multilabel",
    seed: int = 0,
    threshold: float = 0.5,
    rejects: bool = False,
    labels: Sequence[str] = LABELS,
) -> Bundle:
    """A bundle of the paper's shape with few filters, untrained but for its seed: 1-s windows.

    If it `rejects`, all that sounds is unknown to it.
    """
    import keras

    keras.utils.set_random_seed(seed)
    front_end = FrontEnd(RATE, 1.0, 256, default_hop_length(RATE, 1.0), 128)
    small = Architecture(filters=(2, 2, 4, 4))
    network = build_network(small, front_end, len(labels), task, mean=-40, variance=400)
    rejecter = None
    if rejects:
        far = rejecter_of(front_end, len(labels), 8, task)
        rejecter = replace(far, means=far.means + np.float32(1e4))
    return bundle_of(folder, [network], front_end, labels, task, rejecter, threshold)


def tone(seconds: float, hertz: float = 1000, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A tone in noise: float32 (n,)."""
    n = round(seconds * rate)
    noise = np.random.default_rng(seed).normal(0, 0.05, n)
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(n) / rate) + noise).astype(np.float32)


def write(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    """Writes a recording, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate)
    return path


def cut(path: Path, keep: Callable[[int], int]) -> Path:
    """Cuts a file to `keep(size)` bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: keep(len(data))])
    return path
