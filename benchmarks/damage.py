"""Damaged files made from real sound, and what each costs."""

import io
import random
import shutil
import struct
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from model.reasons import REASONS
from pipeline.dataset import open_dataset

Counts = Counter[str]
SECONDS = 10
WINDOW_S = 1.0
BATCH = 1000
"""Damaged files in one archive."""
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "24.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


@dataclass(frozen=True)
class Damaged:
    """A damaged file: `touched` are the bytes of the original that it does not hold in place."""

    content: bytes
    kind: str
    touched: tuple[tuple[int, int], ...]


def truncate(data: bytes, chance: random.Random) -> Damaged:
    """Cuts the file anywhere, also inside its header or just before its end."""
    size = len(data)
    keep = chance.choice(
        [
            chance.randrange(size),
            chance.randrange(min(size, 200)),
            size - 1 - chance.randrange(min(size, 64)),
            chance.randrange(size) // 512 * 512,
        ]
    )
    return Damaged(data[:keep], "truncated", ((keep, size),))


def flip(data: bytes, chance: random.Random) -> Damaged:
    """Flips one to twenty bits."""
    out = bytearray(data)
    places = [chance.randrange(len(out)) for _ in range(chance.randint(1, 20))]
    for place in places:
        out[place] ^= 1 << chance.randrange(8)
    return Damaged(bytes(out), "bits flipped", tuple((place, place + 1) for place in places))


def overwrite(data: bytes, chance: random.Random) -> Damaged:
    """Overwrites a stretch with noise, zeros or ones."""
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.choice([1, 7, 512, 4096, 65536]))
    filling = chance.choice([chance.randbytes(stop - start), bytes(stop - start)])
    if chance.random() < 0.2:
        filling = b"\xff" * (stop - start)
    return Damaged(data[:start] + filling + data[stop:], "overwritten", ((start, stop),))


def swap(data: bytes, chance: random.Random) -> Damaged:
    """Swaps two blocks, as a broken file system does."""
    size = min(chance.choice([512, 4096, 32768]), len(data) // 3)
    a, b = sorted(chance.sample(range(len(data) // size), 2))
    out = bytearray(data)
    one, two = slice(a * size, (a + 1) * size), slice(b * size, (b + 1) * size)
    out[one], out[two] = data[two], data[one]
    touched = ((one.start, one.stop), (two.start, two.stop))
    return Damaged(bytes(out), "blocks swapped", touched)


def repeat(data: bytes, chance: random.Random) -> Damaged:
    """Writes a block twice; what follows moves on."""
    size = min(chance.choice([512, 4096, 32768]), len(data) // 3)
    at = chance.randrange(len(data) // size) * size
    block = data[at : at + size]
    return Damaged(data[:at] + block + data[at:], "block repeated", ((at + size, len(data)),))


def drop(data: bytes, chance: random.Random) -> Damaged:
    """Leaves a block out; what follows moves up."""
    size = min(chance.choice([1, 512, 4096, 32768]), len(data) // 3)
    at = chance.randrange(len(data) // size) * size
    return Damaged(data[:at] + data[at + size :], "block missing", ((at, len(data)),))


def lie(data: bytes, chance: random.Random) -> Damaged:
    """Changes a number in the header."""
    out = bytearray(data)
    if data[:4] == b"RIFF":
        at, wide = chance.choice([(4, 4), (data.index(b"data") + 4, 4), (22, 2), (24, 4), (32, 2)])
        now = int.from_bytes(data[at : at + wide], "little")
        value = chance.choice([0, 2 * now, now // 2, now + 1, 256**wide - 1, chance.getrandbits(8)])
        out[at : at + wide] = (value % 256**wide).to_bytes(wide, "little")
    elif data[:4] == b"fLaC":
        at, wide = 18, 8
        (now,) = struct.unpack(">Q", data[at : at + wide])
        out[at : at + wide] = struct.pack(">Q", now ^ chance.choice([1 << 40, 1 << 20, 1, 7 << 41]))
    else:
        at, wide = chance.randrange(64), 4
        out[at : at + wide] = chance.randbytes(wide)
    return Damaged(bytes(out), "header lies", ((at, len(data)),))


KINDS: tuple[Callable[[bytes, random.Random], Damaged], ...] = (
    truncate,
    flip,
    overwrite,
    swap,
    repeat,
    drop,
    lie,
)


def originals(recordings: list[Path]) -> dict[str, bytes]:
    """Every recording's first seconds in every format, by the name's end."""
    made = {}
    for number, recording in enumerate(recordings):
        sound, rate = soundfile.read(recording, dtype="float32")
        sound = np.resize(sound, SECONDS * rate)
        for end, (container, subtype) in FORMATS.items():
            sink = io.BytesIO()
            # MP3 knows few rates.
            soundfile.write(
                sink, sound, 22_050 if container == "MP3" else rate, subtype, format=container
            )
            made[f"{number}.{end}"] = sink.getvalue()
    return made


def detect(audio: Path, bundle: Path, out: Path) -> None:
    """Detects with all scores kept; AssertionError where the job fails."""
    command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", bundle]
    command += ["--output", out, "--min-score", "0", "--direct_num_workers", "2"]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]


Scores = dict[str, dict[int, list[float]]]


def scores_of(out: Path) -> Scores:
    """The scores of every scored window, by recording and window number."""
    found: Scores = defaultdict(dict)
    query = """SELECT recording, start_s, list(score ORDER BY label) FROM predictions
        GROUP BY recording, start_s"""
    for recording, start_s, scores in open_dataset(str(out)).connection.execute(query).fetchall():
        found[recording][round(start_s / WINDOW_S)] = scores
    return found


def check_accounts(out: Path, names: set[str]) -> list[tuple[str, int, int, int]]:
    """(reason, recordings, windows lost, rows that are curable) per reason.

    AssertionError where the accounts do not add up.
    """
    run = open_dataset(str(out)).connection.execute
    rows = run(
        """SELECT recording, sum(windows_expected), sum(windows_scored), sum(windows_skipped),
            sum(seconds_expected), sum(seconds_scored), sum(seconds_skipped), any_value(duration_s)
            FROM coverage GROUP BY 1"""
    ).fetchall()
    assert {row[0] for row in rows} == names
    for row in rows:
        _, expected, scored, skipped, seconds, seconds_scored, seconds_skipped, duration = row
        assert expected == scored + skipped, row
        assert abs(seconds - seconds_scored - seconds_skipped) < 1e-6, row
        assert duration is None or abs(seconds - duration) < 1e-6, row
    lost = dict(run("SELECT recording, sum(windows_lost) FROM errors GROUP BY 1").fetchall())
    assert all(lost.get(row[0], 0) == row[3] for row in rows)
    written = run("SELECT count(DISTINCT (recording, start_s)) FROM predictions").fetchone()
    assert written is not None and written[0] == sum(row[2] for row in rows)
    reasons = run(
        """SELECT reason, count(DISTINCT recording), sum(windows_lost)::BIGINT,
            count(*) FILTER (curable) FROM errors GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    assert {reason for reason, *_ in reasons} <= set(REASONS)
    return reasons


def campaign(recordings: list[Path], bundle: Path, work: Path, files: int, seed: int) -> Counts:
    """`files` damaged files: how many there were of what, and what they cost."""
    chance = random.Random(seed)
    whole = originals(recordings)
    (work / "whole").mkdir(parents=True)
    for name, data in whole.items():
        (work / "whole" / name).write_bytes(data)
    detect(work / "whole", bundle, work / "whole-out")
    truth = scores_of(work / "whole-out")
    count: Counts = Counter()
    for first in range(0, files, BATCH):
        audio, out = work / "audio", work / "out"
        for folder in (audio, out):
            shutil.rmtree(folder, ignore_errors=True)
        audio.mkdir()
        made: dict[str, tuple[str, Damaged]] = {}
        for number in range(first, min(files, first + BATCH)):
            source = chance.choice(sorted(whole))
            damaged = chance.choice(KINDS)(whole[source], chance)
            name = f"{number:06d}.{source.partition('.')[2]}"
            (audio / name).write_bytes(damaged.content)
            made[name] = source, damaged
            count["files"] += 1
            count[f"files: {damaged.kind}"] += 1
        detect(audio, bundle, out)
        for reason, recordings_lost, windows, _ in check_accounts(out, set(made)):
            count[f"recordings with {reason}"] += recordings_lost
            count[f"windows lost to {reason}"] += windows
        scores = scores_of(out)
        for name, (source, damaged) in made.items():
            compare(source, damaged, whole[source], truth[source], scores.get(name, {}), count)
        print(f"\r{count['files']} of {files} files", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return count


def compare(
    source: str,
    damaged: Damaged,
    data: bytes,
    truth: dict[int, list[float]],
    scores: dict[int, list[float]],
    count: Counts,
) -> None:
    """Counts the windows that are as in the original.

    AssertionError where a window of a WAV of whole numbers is not, although the damage does not
    touch it. Damaged floats may be finite and huge, and resampling then spreads their rounding.
    """
    kind = source.partition(".")[2]
    same = {k for k in truth if k in scores and np.allclose(scores[k], truth[k], atol=1e-5)}
    count[f"{kind}: windows as in the original"] += len(same)
    lost, other = truth.keys() - scores.keys(), scores.keys() - same
    beside = {k for k in other if {k - 1, k + 1} & lost}
    count[f"{kind}: windows not scored"] += len(lost)
    count[f"{kind}: windows beside those with other scores"] += len(beside)
    count[f"{kind}: further windows with other scores"] += len(other - beside)
    start = data.index(b"data") + 8 if kind.endswith("wav") else None
    if start is None or any(first < start for first, _ in damaged.touched):
        return
    per_window = (len(data) - start) // SECONDS
    margin = per_window // 25  # Resampling mixes a window's ends with its neighbours.
    whole = {
        k
        for k in truth
        if all(
            stop <= start + k * per_window - margin
            or first >= start + (k + 1) * per_window + margin
            for first, stop in damaged.touched
        )
    }
    if kind == "float.wav":
        count[f"{kind}: untouched windows with other scores"] += len(whole - same)
    else:
        assert whole <= same, (source, damaged.kind, damaged.touched, sorted(whole - same))
