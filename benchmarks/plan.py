"""What planning costs: time and memory of the launcher, and the size of what it sends.

    python -m benchmarks plan WORK [--recordings 2200000]

Makes an inventory of hour-long recordings of 4,012 sites, every other one continuous and the others
for twelve hours a day, and runs `dawnchorus detect --dry-run` on it, in a process of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.archives import paper_bundle
from model.windows import WindowRule
from pipeline.job import Job
from pipeline.recording import INVENTORY
from pipeline.transforms import Detection

SITES = 4012
BEGIN = datetime(2023, 3, 1)
RATE, BYTES = 32_000, 230_400_044


def write_inventory(path: Path, count: int) -> int:
    """Writes an inventory of about `count` recordings; gives how many it has."""
    names = []
    for site in range(SITES):
        for hour in range(count // SITES):
            if site % 2:
                start = BEGIN + timedelta(hours=hour)
            else:
                start = BEGIN + timedelta(days=hour // 12, hours=18 + hour % 12)
            names.append(f"SITE_{site:04d}/SITE_{site:04d}_{start:%Y%m%d_%H%M%S}.wav")
    names.sort()
    chance = np.random.default_rng(0)
    hashes = [chance.bytes(16).hex() for _ in names]
    n = len(names)
    told = {
        "recording": names,
        "url": [f"gs://archive/{name}".encode() for name in names],
        "stamp": [f"{one}-{BYTES}" for one in hashes],
        "version": [f"{BYTES}-{one}" for one in hashes],
        "frames": np.full(n, 3600 * RATE),
        "duration_s": np.full(n, 3600.0),
        "sample_rate": np.full(n, RATE, np.int32),
        "channels": np.full(n, 1, np.int32),
        "format": ["WAV/PCM_16"] * n,
        "size_bytes": np.full(n, BYTES),
        "flags": [[]] * n,
    }
    columns = [
        pa.array(told[f.name], f.type) if f.name in told else pa.nulls(n, f.type) for f in INVENTORY
    ]
    table = pa.Table.from_arrays(columns, schema=INVENTORY)
    pq.write_table(table.replace_schema_metadata({b"dawnchorus.root": b"gs://archive"}), path)
    return n


def graph_bytes(folder: str) -> int:
    """The size of the job's graph, as it is sent to a runner."""
    job = Job(folder, folder, WindowRule(12.0, 12.0), "mean", 0.1, {}, "run")
    pipeline = beam.Pipeline()
    _ = pipeline | Detection(folder, job, 1)
    return int(pipeline.to_runner_api().ByteSize())


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path)
    parser.add_argument("--recordings", type=int, default=2_200_000)
    args = parser.parse_args()
    args.work.mkdir(parents=True)
    inventory, bundle = args.work / "inventory.parquet", args.work / "bundle"
    count = write_inventory(inventory, args.recordings)
    paper_bundle(bundle)
    code = "import sys; from pipeline.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "detect", "--dry-run", "--input", str(inventory)]
    command += ["--model", str(bundle), "--output", str(args.work / "out")]
    command += ["--rate", "3", "--workers", "1000", "--price", "0.05"]
    command += ["--json", str(args.work / "estimate.json")]
    began = time.monotonic()
    subprocess.run(command, check=True, env=os.environ | {"TMPDIR": str(args.work)})
    took = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    estimate = json.loads((args.work / "estimate.json").read_text())
    print(f"inventory    {count:,} recordings, {inventory.stat().st_size / 1e6:.0f} MB")
    print(f"dry run      {took:.0f} s, {peak / 1e9:.2f} GB at most")
    print(f"parts        {estimate['shards']:,} in each table")
    print(f"job graph    {graph_bytes(str(args.work)):,} bytes")


if __name__ == "__main__":
    main()
