"""A small synthetic archive with known truth: one day of calls and noise at two sites."""

import csv
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.signal
import soundfile

Float32 = npt.NDArray[np.float32]

SECONDS = 300
"""Length of a recording."""

LABELS = ("buzz", "pulse", "sweep", "trill", "whistle")

LABELLED_HOURS = (2, 5, 6, 9, 12, 15, 18, 21)
"""Hours whose recordings are the labelled part: both sites, night, dawn, day and dusk."""

DAMAGED_HOUR = 16
"""Hour of the recording whose file ends in the middle while its header promises all of it."""

_AUDIO, _TRUTH, _LABELLED = "audio", "truth.csv", "labelled.csv"
_HEADER = ("file", "start", "end", "label")
_BLOCK_S = 20


@dataclass(frozen=True)
class Annotation:
    """One call: bounds in seconds inside its recording."""

    file: str
    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Archive:
    """Where a synthetic archive lies, and what is true of it.

    `recordings` are paths under `audio`, in order of time; `labelled` are those that the
    annotations in `labelled_csv` cover; `truth_csv` covers all. Both tables have the columns
    file, start, end (seconds) and label. `damaged` is the recording that was cut in half.
    """

    audio: Path
    truth_csv: Path
    labelled_csv: Path
    recordings: tuple[str, ...]
    labelled: tuple[str, ...]
    damaged: str
    truth: tuple[Annotation, ...]


@dataclass(frozen=True)
class _Recording:
    hour: int

    @property
    def ridge(self) -> bool:
        return self.hour % 2 == 1

    @property
    def rate(self) -> int:
        return 16_000 if self.ridge else 24_000

    @property
    def name(self) -> str:
        """As an AudioMoth (site by the folder) and a Song Meter (site by the name) write it."""
        if self.ridge:
            return f"Ridge/20240601_{self.hour:02d}0000.WAV"
        return f"Marsh/MARSH_20240601_{self.hour:02d}0000.wav"

    @property
    def comment(self) -> str | None:
        if not self.ridge:
            return None
        celsius = 14 - 6 * np.cos(2 * np.pi * (self.hour - 3) / 24)
        return (
            f"Recorded at {self.hour:02d}:00:00 01/06/2024 (UTC) by AudioMoth 24F319055FDF2F5B at "
            f"medium gain while battery was 4.2V and temperature was {celsius:.1f}C."
        )


def synthesise(folder: Path, seed: int = 0) -> Archive:
    """Write the archive below `folder` (24 mono 16-bit WAV files, 280 MB) and its truth.

    A recording of five minutes each full hour of 2024-06-01, at two sites in turn: at odd hours
    Ridge, with an AudioMoth's names and comments (UTC) at 16 kHz; at even hours MARSH, with a
    Song Meter's names at 24 kHz. Each recording has a generator of its own, seeded by `seed` and
    its hour, so that the same seed gives the same bytes. Calls that the damaged file lost are
    not in the truth.
    """
    recordings = [_Recording(hour) for hour in range(24)]
    audio = folder / _AUDIO
    truth: list[Annotation] = []
    for recording in recordings:
        rng = np.random.default_rng([seed, recording.hour])
        path = audio / recording.name
        path.parent.mkdir(parents=True, exist_ok=True)
        calls = list(_calls(rng, recording))
        _write(path, recording, _background(rng, recording), calls)
        heard_s: float = SECONDS
        if recording.hour == DAMAGED_HOUR:
            heard_s = _cut_in_half(path, recording.rate)
        truth += [
            Annotation(recording.name, start_s, end_s, label)
            for start_s, end_s, label, _ in calls
            if end_s <= heard_s
        ]
    names = tuple(recording.name for recording in recordings)
    labelled = tuple(names[hour] for hour in LABELLED_HOURS)
    write_annotations(folder / _TRUTH, truth)
    write_annotations(folder / _LABELLED, [call for call in truth if call.file in labelled])
    return Archive(
        audio,
        folder / _TRUTH,
        folder / _LABELLED,
        names,
        labelled,
        names[DAMAGED_HOUR],
        tuple(truth),
    )


def write_annotations(path: Path, annotations: Sequence[Annotation]) -> None:
    """Write annotations as CSV: file, start, end (seconds), label."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_HEADER)
        for call in annotations:
            writer.writerow((call.file, f"{call.start_s:.3f}", f"{call.end_s:.3f}", call.label))


def calls_expected(label: str, hour: int) -> float:
    """Calls of a label that a recording at `hour` has on average: most of them at dawn."""

    def around(peak: float, width: float) -> float:
        away = (hour - peak + 12) % 24 - 12
        return float(np.exp(-0.5 * (away / width) ** 2))

    match label:
        case "whistle":
            return 2 + 22 * around(5, 1.5) + 5 * around(20, 1.2)
        case "trill":
            return 2 + 18 * around(6, 1.8) + 4 * around(12, 4)
        case "sweep":
            return 2 + 15 * around(5.5, 1.3) + 9 * around(20, 1.5)
        case "buzz":
            return 2 + 9 * around(6.5, 1.5) + 10 * around(14, 3)
        case "pulse":
            return 2 + 9 * around(4, 1.5) + 12 * around(23, 3)
    raise ValueError(f"The archive has no label {label!r}.")


def _calls(
    rng: np.random.Generator, recording: _Recording
) -> Iterator[tuple[float, float, str, Float32]]:
    """(start_s, end_s, label, samples) of each call, in order of time; they may overlap."""
    calls = []
    for label in LABELS:
        for _ in range(1 + rng.poisson(calls_expected(label, recording.hour) - 1)):
            samples = _VOICES[label](rng, recording.rate)
            length_s = len(samples) / recording.rate
            start_s = round(float(rng.uniform(0.1, SECONDS - 0.1 - length_s)), 3)
            end_s = round(start_s + length_s, 3)
            calls.append((start_s, end_s, label, _far(rng, samples, recording.rate)))
    yield from sorted(calls, key=lambda call: call[:3])


def _far(rng: np.random.Generator, samples: Float32, rate: int) -> Float32:
    """The call from a random distance: softer, and the farther the duller."""
    metres = float(np.exp(rng.uniform(np.log(8), np.log(300))))
    cutoff = min(0.45 * rate, 9000 * (30 / metres) ** 0.5)
    dull: Float32 = scipy.signal.sosfilt(
        scipy.signal.butter(1, cutoff, fs=rate, output="sos").astype(np.float32), samples
    ).astype(np.float32)
    return dull * np.float32(0.22 * 8 / metres)


def _envelope(n: int, rate: int, rise_s: float) -> Float32:
    rise = min(n // 2, max(1, round(rise_s * rate)))
    envelope = np.ones(n, np.float32)
    slope = np.sin(0.5 * np.pi * np.arange(rise, dtype=np.float32) / rise) ** 2
    envelope[:rise] = slope
    envelope[n - rise :] = slope[::-1]
    return envelope


def _tone(hertz: npt.NDArray[np.float64], rate: int, rise_s: float) -> Float32:
    """A tone of the given frequency at each sample, with a soft start and end."""
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    tone: Float32 = np.sin(phase).astype(np.float32)
    return tone * _envelope(len(hertz), rate, rise_s)


def _whistle(rng: np.random.Generator, rate: int) -> Float32:
    """Two or three long pure notes, each a small step lower or higher than the last."""
    hertz = rng.uniform(2200, 3200)
    notes = []
    for _ in range(int(rng.integers(2, 4))):
        n = round(rng.uniform(0.3, 0.55) * rate)
        bend = 1 + 0.01 * np.sin(np.linspace(0, np.pi, n))
        notes += [_tone(hertz * bend, rate, 0.03), np.zeros(round(0.06 * rate), np.float32)]
        hertz *= rng.choice((0.84, 0.92, 1.1))
    return np.concatenate(notes[:-1])


def _trill(rng: np.random.Generator, rate: int) -> Float32:
    """One short note, many times a second."""
    n = round(rate / rng.uniform(13, 20))
    top = rng.uniform(4300, 5600)
    note = np.zeros(n, np.float32)
    sounding = round(0.7 * n)
    note[:sounding] = _tone(np.linspace(top, 0.82 * top, sounding), rate, 0.008)
    repeats = round(rng.uniform(1.0, 2.0) * rate / n)
    swell = np.linspace(0.6, 1, repeats, dtype=np.float32)
    return (swell[:, None] * note).ravel()[: repeats * n - (n - sounding)]


def _sweep(rng: np.random.Generator, rate: int) -> Float32:
    """One to three fast upward sweeps over more than an octave, with an overtone."""
    low, high = rng.uniform(1300, 1700), rng.uniform(4000, 5000)
    n = round(rng.uniform(0.3, 0.5) * rate)
    hertz = low * (high / low) ** np.linspace(0, 1, n)
    note = _tone(hertz, rate, 0.02) + 0.25 * _tone(1.5 * hertz, rate, 0.02)
    gap = np.zeros(round(0.1 * rate), np.float32)
    return np.concatenate([note, *[gap, note] * int(rng.integers(0, 3))])


def _buzz(rng: np.random.Generator, rate: int) -> Float32:
    """Noise in a band, chopped a hundred times a second."""
    n = round(rng.uniform(0.7, 1.6) * rate)
    low = rng.uniform(2600, 3400)
    band = scipy.signal.butter(3, (low, low + 2600), "bandpass", fs=rate, output="sos")
    noise = scipy.signal.sosfilt(band, rng.standard_normal(n))
    chopped = np.sin(np.pi * rng.uniform(70, 120) * np.arange(n) / rate) ** 4
    buzz: Float32 = (1.6 * noise * chopped).astype(np.float32)
    return buzz * _envelope(n, rate, 0.05)


def _pulse(rng: np.random.Generator, rate: int) -> Float32:
    """Five to ten short low hoots in an even beat."""
    hertz = rng.uniform(550, 850)
    n = round(rng.uniform(0.07, 0.1) * rate)
    note = _tone(np.full(n, hertz), rate, 0.03) + 0.3 * _tone(np.full(n, 2 * hertz), rate, 0.03)
    beat = np.zeros(round(rng.uniform(0.18, 0.28) * rate), np.float32)
    beat[:n] = note
    return np.tile(beat, int(rng.integers(5, 11)))[: n - len(beat) or None]


_VOICES: dict[str, Callable[[np.random.Generator, int], Float32]] = {
    "buzz": _buzz,
    "pulse": _pulse,
    "sweep": _sweep,
    "trill": _trill,
    "whistle": _whistle,
}


def _background(rng: np.random.Generator, recording: _Recording) -> Float32:
    """Noise that falls off with frequency, gusts of wind, and at night a band of insects."""
    rate, n = recording.rate, SECONDS * recording.rate
    level = 0.0025 * 10 ** (rng.uniform(-3, 4) / 20)
    # Poles and zeros that follow 1/f within a decibel over four octaves and more.
    pink = scipy.signal.lfilter(
        np.array([0.049922, -0.095993, 0.050613, -0.004408], np.float32),
        np.array([1, -2.494956, 2.017266, -0.522189], np.float32),
        rng.standard_normal(n, np.float32),
    )
    noise = np.asarray(pink, np.float32) * np.float32(level / 0.07)
    noise *= _slow(rng, n, 40, 0.7, 1.3)
    slow = rate // 16
    rumble = scipy.signal.sosfilt(
        scipy.signal.butter(2, 180, fs=slow, output="sos"),
        rng.standard_normal(SECONDS * slow),
    )
    gusts = _slow(rng, len(rumble), 60, 0, 1) ** 3
    wind = 0.06 * (1 - abs(recording.hour - 13) / 14) * rumble * gusts
    noise += np.repeat(wind.astype(np.float32), 16)
    if recording.hour in (20, 21, 22, 23, 0, 1, 2, 3):
        band = scipy.signal.butter(2, (6000, 6500), "bandpass", fs=rate, output="sos")
        chorus = scipy.signal.sosfilt(band.astype(np.float32), rng.standard_normal(n, np.float32))
        noise += np.float32(0.02) * chorus * _slow(rng, n, 30, 0.3, 1)
    return noise


def _slow(rng: np.random.Generator, n: int, points: int, low: float, high: float) -> Float32:
    """A level that wanders between low and high."""
    at = np.linspace(0, points - 1, n)
    return np.interp(at, np.arange(points), rng.uniform(low, high, points)).astype(np.float32)


def _write(
    path: Path,
    recording: _Recording,
    sound: Float32,
    calls: Sequence[tuple[float, float, str, Float32]],
) -> None:
    for start_s, _, _, samples in calls:
        first = round(start_s * recording.rate)
        sound[first : first + len(samples)] += samples
    np.clip(sound, -1, 1, out=sound)
    block = _BLOCK_S * recording.rate
    with soundfile.SoundFile(
        path, "w", recording.rate, 1, subtype="PCM_16", format="WAV"
    ) as stream:
        if recording.comment is not None:
            stream.comment = recording.comment
        for first in range(0, len(sound), block):
            stream.write(sound[first : first + block])


def _cut_in_half(path: Path, rate: int) -> float:
    """Keep the first half of a WAV file's sound, and its header. Returns the seconds left."""
    with path.open("r+b") as stream:
        stream.seek(12)
        name, size = struct.unpack("<4sI", stream.read(8))
        while name != b"data":
            stream.seek(size + size % 2, 1)
            name, size = struct.unpack("<4sI", stream.read(8))
        half = int(size) // 4 * 2
        stream.truncate(stream.tell() + half)
    return half / 2 / rate
