"""What embeddings cost: time of the job, and bytes of each table.

    python -m benchmarks embeddings WORK [--data DATA] [--hours 16] [--repeats 3] [--engine ENGINE]

Runs `detect` with the paper's network, in turn with and without `--embeddings`, over recordings of
an hour. Time is that of the processor, in all processes together, so that what else the machine
does matters little; the start of the job (some 15 s) is in it. Prints a table.
"""

import argparse
import resource
import shutil
import statistics
from pathlib import Path

from benchmarks.archives import archive, paper_bundle
from benchmarks.tree import detect

TABLES = ("predictions", "embeddings", "coverage", "errors")


def measure(audio: Path, bundle: Path, out: Path, *more: str) -> tuple[float, dict[str, int]]:
    """Processor seconds of a run of detection, and the bytes of each table."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    detect(audio, bundle, out, *more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    sizes = {
        table: sum(part.stat().st_size for part in (out / table).rglob("*.parquet"))
        for table in TABLES
    }
    shutil.rmtree(out)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, sizes


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks embeddings", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--hours", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", default="tensorflow")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    audio = archive(args.work / f"audio-{args.hours}", args.data, args.hours, 3600)
    bundle, out = paper_bundle(args.work / "bundle"), args.work / "out"
    engine = ("--engine", args.engine)
    without, given = [], []
    for _ in range(args.repeats):
        without.append(measure(audio, bundle, out, *engine))
        given.append(measure(audio, bundle, out, *engine, "--embeddings"))
    ratios = [b / a for (a, _), (b, _) in zip(without, given, strict=True)]
    print(f"{args.engine}, {args.hours} h, {args.repeats} rounds\n")
    print("| | without | with `--embeddings` |\n|---|---|---|")
    times = [statistics.median(seconds for seconds, _ in runs) for runs in (without, given)]
    print("| processor, s | " + " | ".join(f"{seconds:.1f}" for seconds in times) + " |")
    for table in TABLES:
        sizes = [runs[0][1][table] / args.hours / 1000 for runs in (without, given)]
        print(f"| `{table}`, KB an hour | " + " | ".join(f"{size:.1f}" for size in sizes) + " |")
    middle = statistics.median(ratios)
    print(f"\nwith / without: {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
