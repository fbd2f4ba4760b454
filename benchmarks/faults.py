"""Kills at random moments and damaged files, all made from real sound.

    python -m benchmarks faults DATA WORK --kills 200 --files 10000 --seed 1

DATA is a folder of recordings such as `s4a`, WORK a new folder for what is made. The network is
small and untrained: what is looked at is that every window is accounted for and that scores are
those of an undisturbed run. Stops with an error at the first thing that is lost, torn or wrong.
"""

import argparse
from pathlib import Path

from benchmarks import damage, kills
from tests.pipeline.archive import tiny_bundle


def main() -> None:
    """Runs both campaigns and prints what was tried and what it cost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    recordings = sorted(path for path in args.data.iterdir() if path.suffix == ".flac")[::4]
    args.work.mkdir(parents=True)
    bundle = args.work / "bundle"
    tiny_bundle(bundle)
    for name, campaign, most in (
        ("kills", kills.campaign, args.kills),
        ("damage", damage.campaign, args.files),
    ):
        if most:
            print(f"{name}, seed {args.seed}")
            counts = campaign(recordings, bundle, args.work / name, most, args.seed)
            for what, number in sorted(counts.items()):
                print(f"  {what:<40} {number:>9,}")


if __name__ == "__main__":
    main()
