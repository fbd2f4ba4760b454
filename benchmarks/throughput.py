"""How fast detection is, against what its stages cost alone on the same machine in the same run.

    python -m benchmarks throughput WORK [--data DATA] [--repeats 5] [--hours 16]

Makes one-hour recordings (48 kHz, 16-bit FLAC) from `DATA/birdnet/soundscape.flac`, or synthesises
sound where that is absent, and scores them with the paper's network (8-s windows at 16 kHz,
log-mel 128 x 251, 19 labels). Every round measures, one after the other, each stage alone in one
process (roofline: the sum of the fastest forms, times the cores), a bare loop of the same stages in
one process per core without Beam, commits or accounts, and `detect` from as many commits as there
are cores to the last. Writes WORK/throughput.json and prints the table that the README gives.
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from benchmarks.archives import archive, paper_bundle, soundscape
from benchmarks.stages import measure_loop, measure_stages
from benchmarks.tree import detect
from model.runtime import Engine, has_bfloat16
from pipeline.runner import cores

MAIN = ("decode", "resample", "spectrogram", "network")


def kinds() -> list[tuple[str, str]]:
    """The engines that are installed, with the precisions that the processor has."""
    engines = [engine for engine in get_args(Engine) if find_spec(engine)]
    precisions = (
        ["float32", "bfloat16"] if has_bfloat16(Path("/proc/cpuinfo").read_text()) else ["float32"]
    )
    return [(engine, precision) for precision in precisions for engine in engines]


def import_s(module: str) -> float:
    """Seconds that a fresh process needs to import a module."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def options(engine: str, precision: str) -> list[str]:
    """The options of `detect` for an engine."""
    return ["--engine", engine, "--precision", precision]


def round_of(work: Path, bundle: Path, engine: str, precision: str, hours: int) -> dict[str, Any]:
    """One round of measurements of one engine."""
    one, many = work / "short", work / "long"
    path = sorted(many.iterdir())[0]
    alone = measure_stages(bundle, engine, precision, path)
    best = {stage: min(alone["costs"][stage].values()) for stage in MAIN}
    each = max(2, hours // 4)
    bare = measure_loop(bundle, engine, precision, sorted(many.iterdir())[:each], cores())
    out = work / "out"
    more = [*options(engine, precision), f"--direct_num_workers={cores()}"]
    run = detect(many, bundle, out, *more)
    shutil.rmtree(out)
    first = detect(one, bundle, out, *options(engine, precision)).commits[0]
    shutil.rmtree(out)
    steady = (len(run.commits) - cores()) * 3600 / (run.commits[-1] - run.commits[cores() - 1])
    return {
        "costs": alone["costs"],
        "best": best,
        "scores": alone["scores"],
        "roofline": 3600 * cores() / sum(best.values()),
        "bare": each * cores() * 3600 / bare,
        "detect": steady,
        "start_s": first,
        "imports_s": import_s("apache_beam") + import_s(engine),
    }


def summarise(rounds: list[dict[str, Any]], reference: list[Any]) -> dict[str, Any]:
    """Medians of the rounds, with the smallest and largest of the ratios."""
    import numpy as np

    def middle(of: Any) -> float:
        return float(statistics.median(of(one) for one in rounds))

    def spread(of: Any) -> list[float]:
        values = [of(one) for one in rounds]
        return [min(values), statistics.median(values), max(values)]

    forms = {
        stage: {
            form: float(statistics.median(one["costs"][stage][form] for one in rounds))
            for form in costs
        }
        for stage, costs in rounds[0]["costs"].items()
    }
    return {
        "core_s_per_hour": forms,
        "roofline": middle(lambda one: one["roofline"]),
        "bare": middle(lambda one: one["bare"]),
        "detect": middle(lambda one: one["detect"]),
        "of_roofline": spread(lambda one: one["detect"] / one["roofline"]),
        "of_bare": spread(lambda one: one["detect"] / one["bare"]),
        "bare_of_roofline": spread(lambda one: one["bare"] / one["roofline"]),
        "start_s": middle(lambda one: one["start_s"]),
        "imports_s": middle(lambda one: one["imports_s"]),
        "start_of_imports": spread(lambda one: one["start_s"] / one["imports_s"]),
        "largest_difference": float(
            np.abs(np.array(rounds[0]["scores"]) - np.array(reference)).max()
        ),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""

    def row(name: str, cell: Any) -> str:
        return f"| {name} | " + " | ".join(cell(result) for result in results.values()) + " |"

    def ratio(key: str) -> Any:
        return lambda r: f"{r[key][1]:.2f} ({r[key][0]:.2f} to {r[key][2]:.2f})"

    lines = ["| | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    forms = [(stage, next(iter(results.values()))["core_s_per_hour"][stage]) for stage in MAIN[:3]]
    for stage, costs in forms:
        for form in costs:
            lines.append(
                row(
                    f"{stage}: {form}, core-s per hour",
                    lambda r, s=stage, f=form: f"{r['core_s_per_hour'][s][f]:.2f}",
                )
            )
    lines.append(
        row(
            "network, core-s per hour (batch)",
            lambda r: ", ".join(
                f"{value:.2f} ({form.split()[-1]})"
                for form, value in r["core_s_per_hour"]["network"].items()
            ),
        )
    )
    lines += [
        row("roofline, x realtime", lambda r: f"{r['roofline']:,.0f}"),
        row("bare loop, x realtime", lambda r: f"{r['bare']:,.0f}"),
        row("**`detect`, x realtime**", lambda r: f"**{r['detect']:,.0f}**"),
        row("`detect`, core-s per hour", lambda r: f"{3600 * cores() / r['detect']:.2f}"),
        row("`detect` / roofline", ratio("of_roofline")),
        row("`detect` / bare loop", ratio("of_bare")),
        row("bare loop / roofline", ratio("bare_of_roofline")),
        row("command to first commit, s", lambda r: f"{r['start_s']:.1f}"),
        row("the same / imports of Beam and the engine", ratio("start_of_imports")),
        row("peak memory, GB", lambda r: f"{r['memory'] / 1e9:.2f}"),
        row("largest difference of a score", lambda r: f"{r['largest_difference']:.1e}"),
    ]
    return "\n".join(lines)


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks throughput", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hours", type=int, default=max(16, 4 * cores()))
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    archive(work / "long", args.data, args.hours, 3600)
    archive(work / "short", args.data, 1, 8)
    bundle = paper_bundle(work / "bundle")
    found: dict[tuple[str, str], list[dict[str, Any]]] = {kind: [] for kind in kinds()}
    for number in range(args.repeats):
        for kind, rounds in found.items():
            rounds.append(round_of(work, bundle, *kind, args.hours))
            last = rounds[-1]
            print(
                f"round {number + 1}, {' '.join(kind)}: roofline {last['roofline']:,.0f}, "
                f"bare {last['bare']:,.0f}, detect {last['detect']:,.0f} x realtime",
                file=sys.stderr,
                flush=True,
            )
    reference = found["tensorflow", "float32"][0]["scores"]
    results = {}
    for kind, rounds in found.items():
        results[" ".join(kind)] = summarise(rounds, reference)
        run = detect(work / "long", bundle, work / "out", *options(*kind), watched=True)
        shutil.rmtree(work / "out")
        results[" ".join(kind)]["memory"] = run.memory
    about = f"{platform.machine()}, {cores()} cores, {date.today()}, {args.repeats} rounds"
    made_of = soundscape(args.data, 48_000)[1]
    document = {"machine": about, "sound": made_of, "hours": args.hours, "results": results}
    (work / "throughput.json").write_text(json.dumps(document, indent=1))
    print(f"{about}; {args.hours} recordings of one hour, from {made_of}\n\n{table(results)}")


if __name__ == "__main__":
    main()
