"""Archives and bundles to measure with: hours of real soundscape, and the paper's network."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

SOUNDSCAPE = "birdnet/soundscape.flac"
PIECE_S = 20


def soundscape(data: Path, rate: int) -> tuple[Any, str]:
    """Two minutes of sound at a rate in Hz, float32 (n,), and what it is."""
    if (data / SOUNDSCAPE).is_file():
        sound, own = soundfile.read(data / SOUNDSCAPE, dtype="float32")
        return (sound if own == rate else soxr.resample(sound, own, rate)), "a dawn chorus, 48 kHz"
    rng = np.random.default_rng(0)
    noise = rng.normal(size=120 * 48_000).astype(np.float32)
    pink = soxr.resample(np.cumsum(noise - noise.mean()) * 1e-4, 48_000, rate)
    time = np.arange(len(pink)) / rate
    calls = np.sin(2 * np.pi * (3000 + 500 * np.sin(8 * time)) * time) * (np.sin(2 * time) > 0.9)
    return (pink + 0.003 * soxr.resample(noise, 48_000, rate) + 0.05 * calls), "synthesised sound"


def recording(path: Path, data: Path, seconds: int, rate: int = 48_000, seed: int = 0) -> None:
    """A 16-bit FLAC of pieces of a soundscape, in another order and loudness each time."""
    sound, _ = soundscape(data, rate)
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC") as file:
        left = seconds * rate
        while left:
            piece = min(PIECE_S * rate, left)
            turned = np.roll(sound, rng.integers(len(sound)))[:piece]
            file.write(turned * rng.uniform(0.5, 1))
            left -= piece


def archive(
    folder: Path, data: Path, count: int, seconds: int, rate: int = 48_000, kinds: int = 2
) -> Path:
    """`count` recordings of one recorder, one after another: links to `kinds` different files.

    What is there from an earlier measurement is taken as it is.
    """
    if folder.exists():
        return folder
    sources = [folder.parent / f".{seconds}s-{rate}-{kind}.flac" for kind in range(kinds)]
    for kind, source in enumerate(sources):
        if not source.exists():
            recording(source, data, seconds, rate, kind)
    folder.mkdir(parents=True)
    start = datetime(2024, 6, 1)
    for number in range(count):
        at = start + timedelta(seconds=number * seconds)
        os.link(sources[number % kinds], folder / f"REC_{at:%Y%m%d_%H%M%S}.flac")
    return folder


def paper_bundle(path: Path, labels: int = 19) -> Path:
    """The paper's network, untrained, with few scores above 0.1, as most labels mostly have."""
    if path.exists():
        return path
    from model.runtime import import_quietly

    import_quietly()
    import keras

    from model.architecture import Architecture
    from model.bundle import write_bundle
    from model.frontend import FrontEnd
    from model.network import build_network

    keras.utils.set_random_seed(1)
    network = build_network(
        Architecture(), FrontEnd(), labels, "multilabel", mean=-30, variance=400
    )
    logits = network.get_layer("logits")
    kernel, bias = logits.get_weights()
    logits.set_weights([kernel * 3, bias - 3.5])
    names = [f"label {number}" for number in range(labels)]
    write_bundle(
        str(path),
        task="multilabel",
        labels=names,
        front_end=FrontEnd(),
        thresholds=dict.fromkeys(names, 0.5),
        networks=[network],
        provenance={"made by": "python -m benchmarks"},
        log=[],
    )
    return path
