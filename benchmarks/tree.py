"""A command with all its processes: how long it took, and what memory it needed."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

TICK_S = 1.0
"""Looking at large processes takes the system milliseconds, which the measured work lacks."""


@dataclass
class Run:
    """What a finished run of detection took, in seconds and bytes, and when it committed what.

    `commits` are seconds from the command to each shard's commit, sorted; `memory` is the largest
    proportional set size of all processes together (pages that several share count once), of which
    `at_peak` are the single ones'. `idle` is, for each process that scored, the share of the time
    from the first commit to the last but two in which it used no processor.
    """

    seconds: float
    commits: list[float]
    memory: int = 0
    at_peak: list[int] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)


class Watch(threading.Thread):
    """Looks at a process and its descendants, Linux only."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._over = threading.Event()
        self.memory = 0
        self.at_peak: list[int] = []
        self.cpu: dict[int, list[tuple[float, float]]] = {}

    def run(self) -> None:
        while not self._over.wait(TICK_S):
            living = descendants(self._process)
            sizes = [_pss(process) for process in living]
            if sum(sizes) > self.memory:
                self.memory, self.at_peak = sum(sizes), sizes
            for process in living:
                self.cpu.setdefault(process, []).append((time.time(), _cpu_s(process)))

    def stop(self) -> None:
        """Ends the looking."""
        self._over.set()
        self.join()

    def idle(self, begin: float, end: float) -> list[float]:
        """Of each process that scored: the share of a stretch of time in which it did not work."""
        shares = []
        most = max(seen[-1][1] for seen in self.cpu.values())
        for seen in self.cpu.values():
            if seen[-1][1] < most / 4:
                continue
            within = [(moment, cpu) for moment, cpu in seen if begin <= moment <= end]
            if len(within) > 1:
                (first, before), (last, after) = within[0], within[-1]
                shares.append(1 - (after - before) / (last - first))
        return sorted(shares)


def descendants(process: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(status[1]), []).append(int(entry))
    found = [process]
    for one in found:
        found += parents.get(one, [])
    return found


def _pss(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _cpu_s(process: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def detect(audio: Path, bundle: Path, out: Path, *more: str, watched: bool = False) -> Run:
    """Runs a detection. Raises RuntimeError with what it said if it fails."""
    command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", bundle]
    command += ["--output", out, *more]
    log = out.with_suffix(".log")
    with log.open("wb") as said:
        begun = time.time()
        process = subprocess.Popen([str(part) for part in command], stdout=said, stderr=said)
        watch = Watch(process.pid)
        if watched:
            watch.start()
        status = process.wait()
        took = time.time() - begun
    if watched:
        watch.stop()
    if status:
        raise RuntimeError(log.read_text())
    parts = [part.stat().st_mtime for part in (out / "coverage").rglob("part-*")]
    commits = sorted(moment for moment in parts if moment >= begun)
    run = Run(took, [moment - begun for moment in commits], watch.memory, watch.at_peak)
    if watched and commits:
        # Until a shard may be the last one: then others have nothing left to take.
        run.idle = watch.idle(commits[0], commits[max(0, len(commits) - 3)])
    return run
