"""A search on ESC-10, and what its best is worth on a fold that it did not see.

    python -m benchmarks tuning DATA/esc10 WORK [--trials 24] [--processes 2]

Folds 1 to 3 are searched, a quarter of them deciding, by `dawnchorus tune` in several processes at
once. The best and the default (trial 0), trained alike, are then evaluated on fold 4: accuracy with
intervals, and the interval of the difference, clips of one source drawn together. Other options
after WORK go to `tune`, in place of those of `RECIPE`. WORK is a new folder for what is made.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.esc10 import DRAWS, score_clips, write_table
from benchmarks.real_sound import _find, run

RECIPE = (
    *("--window=5", "--head=average", "--validation=0.25", "--epochs=30", "--patience=none"),
    *("--batch-size=16",),
)


def main() -> None:
    """Searches, and compares the best with the default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--processes", type=int, default=2)
    args, given = parser.parse_known_args()
    args.work.mkdir(parents=True)
    with (args.data / "clips.csv").open(newline="") as file:
        clips = list(csv.DictReader(file))
    test = [clip for clip in clips if clip["fold"] == "4"]
    write_table(args.work / "search.csv", [clip for clip in clips if clip["fold"] != "4"])
    write_table(args.work / "test.csv", test)
    audio = str(_find(args.data, clips[0]["file"]).parent)
    places = ["--audio", audio, "--annotations", str(args.work / "search.csv")]
    places += ["--group-by", "freesound_id", *(given or RECIPE)]

    began = time.monotonic()
    search = args.work / "search"
    code = "import sys; from pipeline.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "tune", *places, "--output", str(search)]
    command += ["--trials", str(args.trials)]
    threads = str(max(1, (os.cpu_count() or 1) // args.processes))
    settings = os.environ | {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
    running = [subprocess.Popen(command, env=settings) for _ in range(args.processes)]
    statuses = [one.wait() for one in running]
    if any(statuses):
        sys.exit("the search failed")
    print(f"{args.trials} trials in {(time.monotonic() - began) / 60:.1f} min", flush=True)

    default = args.work / "default.bundle"
    command = [sys.executable, "-c", code, "train", *places, "--output", str(default)]
    # With as many threads as trial 0 had: weights depend on it.
    subprocess.run([*command, "--work", str(search / "work")], env=settings, check=True)
    right = {}
    for name, bundle in (("default", default), ("best", search / "best.bundle")):
        folder = args.work / f"{name}-evaluation"
        paths = ["--audio", audio, "--annotations", str(args.work / "test.csv")]
        paths += ["--model", str(bundle), "--output", str(folder), "--group-by", "freesound_id"]
        run("evaluate", *paths)
        said = score_clips(folder)
        right[name] = np.array([said[clip["file"]] == clip["label"] for clip in test], float)

    _, source = np.unique([clip["freesound_id"] for clip in test], return_inverse=True)
    sizes = np.bincount(source)
    shape = DRAWS, len(sizes)
    drawn = np.random.default_rng(1).integers(len(sizes), size=shape)
    right["best - default"] = right["best"] - right["default"]
    for name, values in right.items():
        hits = np.bincount(source, values)
        low, high = np.quantile(hits[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
        print(
            f"{name}: {values.sum():.0f} of {len(test)}, {values.mean():.3f} "
            f"({low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    main()
