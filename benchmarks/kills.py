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

Kills = Counter[str]
TABLES = ("predictions", "embeddings", "coverage", "errors")
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
    """The worker processes of a launcher, and the templates that they are forked from."""
    children = _children(process)
    return children + [worker for child in children for worker in _children(child)]


def _children(process: int) -> list[int]:
    # By what they run as well: a process may have other children, such as a server.
    command = ["pgrep", "-P", str(process), "-f", r"pipeline\.(template|worker)"]
    found = subprocess.run(command, capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


class Reader(threading.Thread):
    """Reads parts of a dataset again and again: each must be whole at every moment."""

    def __init__(self, out: Path, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.out, self.read, self._chance = out, 0, chance
        self.broken: list[str] = []
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.5):
            parts = [part for table in TABLES for part in (self.out / table).rglob("part-*")]
            for part in self._chance.sample(parts, min(len(parts), 20)):
                try:
                    pq.read_table(part)
                    self.read += 1
                except Exception as error:
                    self.broken.append(f"{part}: {error}")

    def stop(self) -> None:
        """Ends the reading."""
        self._over.set()
        self.join()


def wait_for_moment(running: list["subprocess.Popen[bytes]"], chance: random.Random) -> None:
    """Waits until a random moment of the start, or of the time in which workers work."""
    moment, started = chance.uniform(0, 6), chance.random() < 0.3
    while moment > 0 and any(process.poll() is None for process in running):
        if started or any(workers_of(process.pid) for process in running):
            started = True
            moment -= 0.1
        time.sleep(0.1)


def disturb(running: list["subprocess.Popen[bytes]"], chance: random.Random, most: int) -> Kills:
    """Kills at most `most` workers and launchers until all launchers have ended."""
    kills: Kills = Counter()
    while any(process.poll() is None for process in running):
        if kills.total() >= most:
            for process in running:
                process.wait(timeout=QUIET_S)
            break
        wait_for_moment(running, chance)
        living = [process.pid for process in running if process.poll() is None]
        if not living:
            break
        victim, what = chance.choice(living), "launcher"
        workers = workers_of(victim)
        if workers and chance.random() < 0.6:
            victim, what = chance.choice(workers), "worker"
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            kills[what] += 1
    return kills


def trial(
    audio: Path, bundle: Path, work: Path, chance: random.Random, most: int, *options: str
) -> tuple[Kills, int]:
    """Runs, kills and runs again until a run has finished; (kills and runs, parts read).

    Half of the trials begin with a dataset of the first archive, so that commits are replaced by
    the second's, and one in five has two jobs at once. Raises AssertionError where the dataset is
    not that of an undisturbed run.
    """
    out, half = work / "out", work / "reference-half"
    shutil.rmtree(out, ignore_errors=True)
    if chance.random() < 0.5:
        shutil.copytree(half, out)
    reader = Reader(out, random.Random(0))
    reader.start()
    count: Kills = Counter()
    try:
        while True:
            more = ("--root", str(audio), *options)
            running = [job(audio, bundle, out, *more) for _ in range(1 + (chance.random() < 0.2))]
            count["runs"] += len(running)
            count += disturb(running, chance, most - count["launcher"] - count["worker"])
            if all(process.returncode == 0 for process in running):
                break
            if all(process.returncode != -signal.SIGKILL for process in running):
                count["runs that gave up a shard"] += 1
            assert count["runs"] < 20 + 2 * most, "the job comes to no end"
    finally:
        reader.stop()
    assert not reader.broken, reader.broken[0]
    for _ in range(100):  # Workers of a launcher killed just now.
        if not (out / "_tmp").exists():
            break
        time.sleep(0.1)
    if any((out / "_tmp").rglob("*")):
        count["runs to clear up"] += 1
        assert job(audio, bundle, out, *more).wait(timeout=QUIET_S) == 0
    assert not any((out / "_tmp").rglob("*")), "temporaries are left"
    found, expected = content(out), content(work / "reference")
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    different = [name for name in found if found[name] != expected[name]]
    assert not different, different
    return count, reader.read


def campaign(
    recordings: list[Path], bundle: Path, work: Path, kills: int, seed: int, *options: str
) -> Kills:
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
        assert job(folder, bundle, work / out, *options).wait(timeout=QUIET_S) == 0
    chance = random.Random(seed)
    total: Kills = Counter()
    while total["worker"] + total["launcher"] < kills:
        most = min(8, kills - total["worker"] - total["launcher"])
        count, read = trial(audio, bundle, work, chance, most, *options)
        total += count
        total["trials"] += 1
        total["parts read meanwhile"] += read
        done = total["worker"] + total["launcher"]
        print(f"\r{done} of {kills} kills", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return total
