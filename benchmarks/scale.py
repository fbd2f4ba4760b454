"""Whether memory, cost and the share of work stay the same, whatever the archive is made of.

    python -m benchmarks scale WORK [--data DATA] [--hours 100] [--files 100000]

Runs `detect` with two workers and the paper's network over an hour, `--hours` hours and a tenth of
them, one
24-hour recording, hour-long recordings of 384 kHz, `--files` recordings of ten seconds, recordings
of a minute, and with 6,522 labels. Memory is the proportional set size of all processes together.
Recordings are links to a few different files. Writes WORK/scale.json and prints a table.
"""

import argparse
import json
import platform
import shutil
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.archives import archive, paper_bundle
from benchmarks.tree import Run, detect
from pipeline.runner import cores

WORKERS = 2
DAY_S = 24 * 3600


@dataclass
class Case:
    """A run, with the hours of sound that it had, and the run after it, which found it done."""

    name: str
    hours: float
    run: Run
    again: Run

    @property
    def steady_s(self) -> float | None:
        """Core-seconds per hour of sound, once both workers are at work; None for short runs."""
        commits, per = self.run.commits, self.hours / len(self.run.commits)
        if len(commits) < 2 * WORKERS:
            return None
        took = commits[-1] - commits[WORKERS - 1]
        return took * WORKERS / (self.hours - per * WORKERS)

    def to_json(self) -> dict[str, Any]:
        """The case's figures."""
        run, again = self.run, self.again
        return {
            "hours": self.hours,
            "shards": len(run.commits),
            "seconds": run.seconds,
            "first_commit_s": run.commits[0],
            "core_s_per_hour": self.steady_s,
            "memory_gb": run.memory / 1e9,
            "at_peak_gb": [size / 1e9 for size in run.at_peak],
            "idle": run.idle,
            "again_s": again.seconds,
        }


def measure(name: str, audio: Path, bundle: Path, work: Path, hours: float) -> Case:
    """Runs a case twice: over a new dataset, and over the finished one."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    more = f"--direct_num_workers={WORKERS}"
    case = Case(
        name,
        hours,
        detect(audio, bundle, out, more, watched=True),
        detect(audio, bundle, out, more, watched=True),
    )
    print(f"{name}: {json.dumps(case.to_json())}", file=sys.stderr, flush=True)
    return case


def short(folder: Path, data: Path) -> Path:
    """Half an hour at each of two recorders: one for each worker."""
    for site in ("A", "B"):
        archive(folder / site, data, 1, 1800, kinds=1)
    return folder


def unequal(folder: Path, data: Path) -> Path:
    """Recordings of an hour beside recordings of a minute, at two recorders."""
    archive(folder / "hours", data, 6, 3600)
    archive(folder / "minutes" / "B", data, 90, 60)
    return folder


def main() -> None:
    """Runs all cases and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--hours", type=int, default=100, help="at least 40 (default 100)")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--only", default="", help="cases whose names hold this")
    args = parser.parse_args()
    work, data = args.work, args.data
    work.mkdir(parents=True, exist_ok=True)
    paper, many = paper_bundle(work / "bundle"), paper_bundle(work / "many-labels", 6522)
    tenth = args.hours // 10
    cases = [
        ("1 hour", short(work / "short", data), paper, 1.0),
        (f"{tenth} hours", archive(work / "10h", data, tenth, 3600), paper, tenth),
        (f"{args.hours} hours", archive(work / "100h", data, args.hours, 3600), paper, args.hours),
        ("one recording of 24 h", archive(work / "24h", data, 1, DAY_S, kinds=1), paper, 24.0),
        ("2 x 1 h at 384 kHz", archive(work / "384k", data, 2, 3600, 384_000, 1), paper, 2.0),
        ("6,522 labels, 4 hours", archive(work / "4h", data, 4, 3600), many, 4.0),
        (f"{60 * tenth} x 1 min", archive(work / "1min", data, 60 * tenth, 60), paper, tenth),
        ("6 x 1 h, 90 x 1 min", unequal(work / "unequal", data), paper, 7.5),
        (
            f"{args.files:,} x 10 s",
            archive(work / "10s", data, args.files, 10),
            paper,
            args.files / 360,
        ),
    ]
    done = [
        measure(name, audio, bundle, work, hours)
        for name, audio, bundle, hours in cases
        if args.only in name
    ]
    about = f"{platform.machine()}, {cores()} cores, {WORKERS} workers, {date.today()}"
    document = {"machine": about, "cases": {case.name: case.to_json() for case in done}}
    (work / "scale.json").write_text(json.dumps(document, indent=1))
    print(f"{about}\n\n{table(done)}")


def table(cases: list[Case]) -> str:
    """The cases as Markdown."""
    lines = [
        "| | shards | peak memory, GB | core-s per hour | idle, most "
        "| again / first, start-up apart |",
        "|---|---|---|---|---|---|",
    ]
    start = min(case.again.seconds for case in cases)
    for case in cases:
        lines.append(
            f"| {case.name} | {len(case.run.commits)} | {case.run.memory / 1e9:.2f} "
            f"| {f'{case.steady_s:.2f}' if case.steady_s else ''} "
            f"| {f'{max(case.run.idle):.1%}' if case.run.idle else ''} "
            f"| {max(0.0, case.again.seconds - start) / case.run.seconds:.1%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
