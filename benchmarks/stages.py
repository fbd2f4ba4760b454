"""The stages alone, and a bare loop of them: what the machine can do without the job around it.

Run as a process of its own, `python -m benchmarks.stages stages|loop BUNDLE ENGINE PRECISION FILE
...`, which prints JSON: the engine's threads are set before it is imported.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SAMPLE_S = 600
"""Seconds of sound on which a stage is measured."""
BATCHES = {"tensorflow": (8, 16, 32), "openvino": (1,)}
AT_LEAST_S = 1.5
Costs = dict[str, dict[str, float]]


def decode_forms(path: str, frames: int) -> dict[str, Callable[[], Any]]:
    """Ways to decode a recording of a rate of 48 kHz, in blocks of a second."""
    import miniaudio
    import soundfile

    from model.sound import Sound

    block = 48_000

    def by_soundfile() -> None:
        with soundfile.SoundFile(path) as sound:
            for _ in range(0, frames, block):
                sound.read(block, dtype="float32")

    def by_miniaudio() -> None:
        left = frames
        for samples in miniaudio.flac_stream_file(path, block):
            left -= len(samples)
            if left <= 0:
                break

    def by_dawnchorus() -> None:
        with Sound(path) as sound:
            for at in range(0, frames, block):
                sound.read(at, block)

    return {
        "soundfile": by_soundfile,
        "miniaudio, streamed": by_miniaudio,
        "miniaudio, by frames": by_dawnchorus,
    }


def resampled(samples: Any) -> Iterator[Any]:
    """Blocks of a second at 48 kHz, as one stream at 16 kHz."""
    import soxr

    stream = soxr.ResampleStream(48_000, 16_000, 1, dtype="float32", quality="HQ")
    for at in range(0, len(samples), 48_000):
        yield stream.resample_chunk(samples[at : at + 48_000], last=at + 48_000 >= len(samples))


def cost(work: Callable[[], Any], seconds: float) -> float:
    """Core-seconds per hour of sound of work on `seconds` of it, repeated until it can be told."""
    work()
    begun, times = time.perf_counter(), 0
    while (took := time.perf_counter() - begun) < AT_LEAST_S:
        work()
        times += 1
    return took / times / seconds * 3600


def stages(bundle_path: str, engine: str, precision: str, path: str) -> dict[str, Any]:
    """Core-seconds per hour of every form of every stage, and scores to compare engines by."""
    import librosa
    import numpy as np
    import soundfile

    from model.bundle import load_bundle
    from model.frontend import LogMel
    from model.scorer import Scorer

    bundle = load_bundle(bundle_path)
    scorer = Scorer(bundle, engine, precision)
    frames = SAMPLE_S * 48_000
    samples, _ = soundfile.read(path, frames=frames, dtype="float32")
    size = bundle.front_end.window_samples
    low = np.concatenate(list(resampled(samples)))
    windows = low[: len(low) // size * size].reshape(-1, size)
    log_mel = LogMel(bundle.front_end)
    spectrograms = log_mel(windows)

    def by_librosa() -> None:
        for at in range(0, len(windows), 8):
            power = librosa.feature.melspectrogram(
                y=windows[at : at + 8], sr=16_000, n_fft=1024, hop_length=512, n_mels=128
            )
            librosa.power_to_db(power, ref=np.max)

    def by_batches(batch: int) -> Callable[[], None]:
        def score() -> None:
            for at in range(0, len(spectrograms), batch):
                scorer.score_spectrograms(spectrograms[at : at + batch])

        return score

    seconds = len(windows) * bundle.front_end.window_s
    found: Costs = {
        "decode": {name: cost(form, SAMPLE_S) for name, form in decode_forms(path, frames).items()},
        "resample": {"soxr HQ, streamed": cost(lambda: list(resampled(samples)), SAMPLE_S)},
        "spectrogram": {
            "scipy": cost(
                lambda: [log_mel(windows[at : at + 8]) for at in range(0, len(windows), 8)], seconds
            ),
            "librosa, batched": cost(by_librosa, seconds),
        },
        "network": {
            f"batches of {batch}": cost(by_batches(batch), seconds) for batch in BATCHES[engine]
        },
    }
    return {"costs": found, "scores": scorer.score_spectrograms(spectrograms).tolist()}


def loop(bundle_path: str, engine: str, precision: str, *paths: str) -> dict[str, Any]:
    """A bare loop over recordings: decode, resample, spectrogram, network, and nothing else.

    Waits for a line on standard input when it is ready; when it began and ended.
    """
    import numpy as np
    import soxr

    from model.bundle import load_bundle
    from model.frontend import LogMel
    from model.runtime import BATCH
    from model.scorer import Scorer
    from model.sound import Sound

    bundle = load_bundle(bundle_path)
    scorer, log_mel = Scorer(bundle, engine, precision), LogMel(bundle.front_end)
    size = bundle.front_end.window_samples
    windows = np.zeros((BATCH, size), np.float32)
    scorer.score_spectrograms(log_mel(windows))

    def run(path: str) -> None:
        stream = soxr.ResampleStream(48_000, 16_000, 1, dtype="float32", quality="HQ")
        waveforms, at = windows.reshape(-1), 0
        with Sound(path) as sound:
            for start in range(0, sound.info.frames, 48_000):
                block = sound.read(start, 48_000)[:, 0]
                piece = stream.resample_chunk(block, last=start + 48_000 >= sound.info.frames)
                room = len(waveforms) - at
                waveforms[at : at + len(piece)] = piece[:room]
                at += len(piece)
                if at >= len(waveforms):
                    scorer.score_spectrograms(log_mel(windows))
                    at -= len(waveforms)
                    waveforms[:at] = piece[room:]
        scorer.score_spectrograms(log_mel(windows[: at // size]))

    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.time()
    for path in paths:
        run(path)
    return {"begun": begun, "ended": time.time()}


def _start(what: str, bundle: Path, engine: str, precision: str, *paths: Path) -> Any:
    from model.runtime import engine_environment
    from pipeline.template import SETTINGS

    command = [sys.executable, "-m", "benchmarks.stages", what, bundle, engine, precision, *paths]
    return subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, **SETTINGS, **engine_environment(engine), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def measure_stages(bundle: Path, engine: str, precision: str, path: Path) -> dict[str, Any]:
    """`stages`, in a process of its own."""
    said, _ = _start("stages", bundle, engine, precision, path).communicate()
    return dict(json.loads(said.splitlines()[-1]))


def measure_loop(
    bundle: Path, engine: str, precision: str, paths: list[Path], processes: int
) -> float:
    """Seconds that `processes` bare loops side by side take for `paths` each."""
    started = [_start("loop", bundle, engine, precision, *paths) for _ in range(processes)]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    return max(end["ended"] for end in ends) - min(end["begun"] for end in ends)


if __name__ == "__main__":
    call = {"stages": stages, "loop": loop}[sys.argv[1]]
    print(json.dumps(call(*sys.argv[2:])))
