"""Kills at random moments, and whether the dataset is the same in the end."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

QUIET_S = 600
"""A run that does nothing for so long hangs."""


def job(audio: Path, bundle: Path, out: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Starts a detection with two worker processes."""
    command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", bundle]
    command += ["--output", out, "--min-score", "0", "--slot", "1", "--direct_num_workers", "2"]
    return subprocess.Popen(
        [str(part) for part in (*command, *more)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def content(out: Path) -> dict[str, bytes]:
    """The bytes of everything that readers see."""
    return {
        name: path.read_bytes()
        for path in sorted(out.rglob("*.parquet"))
        if not (name := str(path.relative_to(out))).startswith("_")
    }


def workers_of(process: int) -> list[int]:
    """The worker processes of a launcher."""
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


class Reader(threading.Thread):
    """Reads all parts of a dataset again and again: each must be whole at every moment."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out, self.read = out, 0
        self.broken: list[str] = []
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            for table in ("predictions", "coverage", "errors"):
                for part in list((self.out / table).rglob("[!_]*.parquet")):
                    try:
                        pq.read_table(part)
                        self.read += 1
                    except Exception as error:
                        self.broken.append(f"{part}: {error}")

    def stop(self) -> None:
        """Ends the reading."""
        self._over.set()
        self.join()


def disturb(running: list["subprocess.Popen[bytes]"], chance: random.Random, most: int) -> Counter:
    """Kills workers and launchers at random moments until all launchers have ended."""
    kills: Counter[str] = Counter()
    while any(process.poll() is None for process in running):
        with contextlib.suppress(subprocess.TimeoutExpired):
            wait = chance.uniform(0, 10) if sum(kills.values()) < most else QUIET_S
            next(p for p in running if p.poll() is None).wait(timeout=wait)
            continue
        if sum(kills.values()) >= most:
            raise RuntimeError("the job hangs")
        process = chance.choice([p for p in running if p.poll() is None] or running)
        workers = workers_of(process.pid)
        victim, what = process.pid, "launcher"
        if workers and chance.random() < 0.6:
            victim, what = chance.choice(workers), "worker"
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            kills[what] += 1
    return kills


def trial(
    audio: tuple[Path, Path], bundle: Path, work: Path, chance: random.Random, most: int
) -> tuple[Counter, int]:
    """Runs, kills and runs again until a run has finished; (kills and runs, parts read).

    Half of the trials begin with a dataset of the first archive, so that commits are replaced by
    the second's, and one in five has two jobs at once. Raises AssertionError where the dataset is
    not that of an undisturbed run.
    """
    out, half = work / "out", work / "reference-half"
    shutil.rmtree(out, ignore_errors=True)
    if chance.random() < 0.5:
        shutil.copytree(half, out)
    reader = Reader(out)
    reader.start()
    count: Counter[str] = Counter()
    try:
        while True:
            running = [job(audio[1], bundle, out) for _ in range(1 + (chance.random() < 0.2))]
            count["runs"] += len(running)
            count += disturb(running, chance, most - count["launcher"] - count["worker"])
            if all(process.returncode == 0 for process in running):
                break
            if all(process.returncode != -signal.SIGKILL for process in running):
                count["runs that gave up a shard"] += 1
    finally:
        reader.stop()
    assert not reader.broken, reader.broken[0]
    for _ in range(100):  # Workers of a launcher killed just now.
        if not (out / "_tmp").exists():
            break
        time.sleep(0.1)
    if any((out / "_tmp").rglob("*")):
        count["runs to clear up"] += 1
        assert job(audio[1], bundle, out).wait(timeout=QUIET_S) == 0
    assert not any((out / "_tmp").rglob("*")), "temporaries are left"
    found, expected = content(out), content(work / "reference")
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    different = [name for name in found if found[name] != expected[name]]
    assert not different, different
    return count, reader.read


def campaign(recordings: list[Path], bundle: Path, work: Path, kills: int, seed: int) -> Counter:
    """`kills` kills over as many trials as they need, on the recordings at four sites."""
    audio, half = work / "audio", work / "half"
    for site in ("A", "B", "C", "D"):
        for place in (audio / site, half / site):
            place.mkdir(parents=True)
        for number, recording in enumerate(recordings):
            name = "_".join(recording.name.split("_")[-2:])
            shutil.copy(recording, audio / site / name)
            if number % 2:
                shutil.copy(recording, half / site / name)
    for folder, out in ((audio, "reference"), (half, "reference-half")):
        assert job(folder, bundle, work / out).wait(timeout=QUIET_S) == 0
    chance = random.Random(seed)
    total: Counter[str] = Counter()
    while total["worker"] + total["launcher"] < kills:
        most = min(8, kills - total["worker"] - total["launcher"])
        count, read = trial((half, audio), bundle, work, chance, most)
        total += count
        total["trials"] += 1
        total["parts read meanwhile"] += read
        print(f"\r{total['worker'] + total['launcher']} kills", end="", file=sys.stderr)
    return total
