"""What `events` costs on a dataset of millions of predictions, made without sound.

    python -m benchmarks events WORK [--days 10] [--sites 4] [--minutes 60] [--window 3] [--hop 1]

Recordings without a pause, with about a prediction in each window, of 20 labels, in runs as calls
come. Prints the rows, the time of the command and its largest memory.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.windows import WindowPlan, WindowRule
from pipeline.commit import commit, staging
from pipeline.coverage import Account
from pipeline.identity import NAME
from pipeline.recording import Place, Recording
from pipeline.schema import PREDICTIONS, TABLES, plain
from pipeline.shard_key import ShardKey
from pipeline.spans import Span, spans_of
from pipeline.storage import Folder, to_json

LABELS = [f"label {number}" for number in range(20)]
RATE = 16_000
START = datetime(2024, 6, 1)


def predictions(span: Span, plan: WindowPlan, random: np.random.Generator) -> pa.Table:
    """Rows of one span: calls of a label last some windows, with scores around theirs."""
    first = plan.starts(span.first, span.stop)
    calls = max(1, len(first) // 20)
    begin, lasting = random.integers(0, len(first), calls), random.geometric(0.05, calls)
    lasting = np.minimum(lasting, len(first) - begin)
    window = np.repeat(begin - np.cumsum(lasting) + lasting, lasting) + np.arange(lasting.sum())
    label = np.repeat(random.integers(0, len(LABELS), calls), lasting)
    window, label = np.divmod(np.unique(window * len(LABELS) + label), len(LABELS))
    score = random.uniform(0.1, 1, len(window)).astype(np.float32)
    start_s = first[window] / RATE
    columns = {
        "recording": pa.array([span.recording.recording]).take(np.zeros(len(window), int)),
        "channel": pa.nulls(len(window), pa.int8()),
        "start_s": start_s,
        "end_s": np.minimum(first[window] + plan.length, plan.frames) / RATE,
        "start_clock": np.datetime64(span.place.start_clock, "us")
        + np.rint(start_s * 1e6).astype("timedelta64[us]"),
        "start_utc": pa.nulls(len(window), pa.timestamp("us", "UTC")),
        "label": pa.array(LABELS).take(label),
        "score": score,
    }
    return pa.table(columns, schema=plain(PREDICTIONS))


def make(out: Folder, rule: WindowRule, sites: int, days: int, minutes: int) -> int:
    """Writes the dataset, by the code that detection writes it with; gives its predictions."""
    random, rows = np.random.default_rng(0), 0
    identity = {"dataset": "dawnchorus", "task": "multilabel", "labels": LABELS, "channel": "mean"}
    identity |= {"window_s": rule.window_s, "hop_s": rule.hop_s, "tail": rule.tail}
    out.create(NAME, to_json(identity | {"min_score": 0.1}))
    frames = minutes * 60 * RATE
    for site in (f"site {number}" for number in range(sites)):
        shards: dict[ShardKey, list[Span]] = {}
        for at in range(days * 1440 // minutes):
            clock = START + timedelta(minutes=minutes * at)
            name = f"{site}/{clock:%Y%m%d_%H%M%S}.wav"
            facts = {"frames": frames, "duration_s": frames / RATE, "sample_rate": RATE}
            recording = Recording(name, name, channels=1, version="", **facts)
            for span in spans_of(recording, Place(site, clock, None, "name"), rule, 24):
                shards.setdefault(span.key, []).append(span)
        for key, spans in shards.items():
            with staging(out, key, TABLES, {}, "benchmark") as stage:
                for span in spans:
                    plan = WindowPlan(rule, frames, RATE)
                    account = Account(span.recording, span.place, plan, None, span.first, span.stop)
                    for k in range(span.first, span.stop):
                        account.book(k, None, None)
                    account.finish()
                    table = predictions(span, plan, random)
                    rows += table.num_rows
                    stage.writers["predictions"].write(table)
                    stage.writers["coverage"].write(account.coverage)
                stage.close([span.member() for span in spans])
                commit(out, key, stage, None, "benchmark")
    return rows


def main() -> None:
    """Makes a dataset, and finds its events."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    for name, default in (("sites", 4), ("days", 10), ("minutes", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--window", type=float, default=3)
    parser.add_argument("--hop", type=float, default=1)
    args = parser.parse_args()
    place = args.work / "events"
    shutil.rmtree(place, ignore_errors=True)
    out = Folder(str(place))
    rows = make(out, WindowRule(args.window, args.hop), args.sites, args.days, args.minutes)
    table = args.work / "events.parquet"
    began = time.monotonic()
    code = "import sys; from pipeline.cli import main; sys.exit(main())"
    options = [str(place), "--threshold", "0.5", "--output", str(table)]
    subprocess.run([sys.executable, "-c", code, "events", *options], check=True)
    took = time.monotonic() - began
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    figures = {"rows": rows, "seconds": took, "rows_per_s": rows / took, "memory_gb": memory / 1e9}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
