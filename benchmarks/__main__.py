"""`python -m benchmarks NAME ...`: the figures that the README gives."""

import importlib
import sys

NAMES = (
    "bucket",
    "calibration",
    "embeddings",
    "esc10",
    "events",
    "faults",
    "networks",
    "open_set",
    "plan",
    "real_sound",
    "report",
    "scale",
    "status",
    "throughput",
    "training",
    "tuning",
    "verified",
)

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in NAMES:
        name = sys.argv.pop(1)
        importlib.import_module(f"benchmarks.{name}").main()
    else:
        sys.exit(f"usage: python -m benchmarks {'|'.join(NAMES)} ... (--help tells more)")
