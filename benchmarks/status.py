"""How long `dawnchorus status` takes, by the size of the dataset.

    python -m benchmarks status WORK [--shards 10000 100000]

A dataset of that many shards is made of one real shard, whose parts are linked under other names.
Status is asked without an index, with one, and after a hundredth of the shards were written anew.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

from pipeline.commit_index import INDEX
from tests.pipeline.archive import tiny_bundle, tone, write

TABLES = ("predictions", "coverage", "errors")
LINKS = 30_000
"""Names that one file may have in every file system."""
CODE = "import sys; from pipeline.cli import main; sys.exit(main())"


def run(*command: str) -> float:
    """Seconds that a command takes."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", CODE, *command], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def grow(out: Path, shards: int) -> None:
    """Links the dataset's one shard under further names, of a site for each 100 days."""
    begin = date(2024, 6, 1)
    source: dict[str, Path] = {}
    for number in range(1, shards):
        site, day = f"site=S{number // 100:04d}", begin + timedelta(days=number % 100)
        for table in TABLES:
            (part,) = (out / table / "site=first").glob("*/*.parquet")
            folder = out / table / site / f"date={day}"
            folder.mkdir(parents=True, exist_ok=True)
            if number % LINKS == 0:
                source[table] = folder / part.name
                shutil.copyfile(part, source[table])
            else:
                os.link(source.setdefault(table, part), folder / part.name)


def renew(out: Path, shards: int) -> None:
    """Writes some shards' coverage again: another file with the same content."""
    for path in sorted((out / "coverage").glob("site=S*/*/*.parquet"))[:shards]:
        other = path.with_name("_other")
        shutil.copyfile(path, other)
        other.rename(path)


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path)
    parser.add_argument("--shards", type=int, nargs="+", default=[10_000, 100_000])
    args = parser.parse_args()
    tiny_bundle(args.work / "bundle")
    write(args.work / "first/20240601_000000.wav", tone(60))
    print(f"{'shards':>8}  {'no index':>9}  {'index':>9}  {'1 % new':>9}  (seconds)")
    for shards in args.shards:
        out = args.work / f"out-{shards}"
        run(
            *("detect", "--input", str(args.work / "first"), "--output", str(out)),
            *("--model", str(args.work / "bundle"), "--slot", "24"),
        )
        grow(out, shards)
        (out / INDEX).unlink()
        took = [run("status", str(out)), run("status", str(out))]
        renew(out, shards // 100)
        took.append(run("status", str(out)))
        print(f"{shards:>8,}  " + "  ".join(f"{one:>9.2f}" for one in took), flush=True)
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
