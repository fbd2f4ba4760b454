"""What `report` costs on a dataset of many hours, made without sound.

    python -m benchmarks report WORK [--sites 50] [--days 90] [--labels 40] [--per-hour 100]

Sites record without a pause but for some lost days; labels have a time of the day and of the
season, and some recordings are damaged. Prints the hours, the predictions, the time of the command,
its largest memory and the size of the page.
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

from model.windows import WindowRule
from pipeline.commit import commit, staging
from pipeline.deployments import Deployment, write_deployments
from pipeline.identity import NAME
from pipeline.recording import Place, Recording
from pipeline.schema import COVERAGE, PREDICTIONS, TABLES, plain
from pipeline.spans import spans_of
from pipeline.storage import Folder, to_json

RULE = WindowRule(3.0, 3.0)
RATE = 32_000
START = datetime(2024, 4, 1)
LOST_DAYS, DAMAGED = 0.05, 0.005
"""Shares of the days without audio, and of the recordings with lost windows."""


def write_hour(
    stage: object, clock: datetime, name: str, rates: np.ndarray, random: np.random.Generator
) -> int:
    """The rows of one recording of an hour: `rates` are the expected detections of each label."""
    counts = random.poisson(rates)
    label = np.repeat(np.arange(len(rates)), counts)
    window = random.integers(0, 1200, len(label))
    order = np.lexsort((label, window))
    label, start_s = label[order], window[order] * RULE.window_s
    score = np.where(random.random(len(label)) < 0.4, random.beta(8, 2, len(label)), 0)
    score = np.maximum(score, random.beta(1, 6, len(label)) * 0.9 + 0.1).astype(np.float32)
    n = len(label)
    columns = {
        "recording": pa.array([name]).take(np.zeros(n, int)),
        "channel": pa.nulls(n, pa.int8()),
        "start_s": start_s,
        "end_s": start_s + RULE.window_s,
        "start_clock": np.datetime64(clock, "us") + (start_s * 1e6).astype("timedelta64[us]"),
        "start_utc": pa.nulls(n, pa.timestamp("us", "UTC")),
        "label": pa.array([f"label {i:02d}" for i in range(len(rates))]).take(label),
        "score": score,
    }
    stage.writers["predictions"].write(pa.table(columns, schema=plain(PREDICTIONS)))
    damaged = random.random() < DAMAGED
    rows = []
    for quarter in range(4):
        lost = 50 if damaged and quarter == 2 else 0
        row = dict.fromkeys(COVERAGE.names) | {
            "recording": name,
            "start_clock": clock + timedelta(minutes=15 * quarter),
            "time_source": "name",
            "duration_s": 3600.0,
            "sample_rate": RATE,
            "channels": 1,
            "format": "wav",
            "version": "",
            "size_bytes": 2 * RATE * 3600,
            "flags": ["header_lies"] if damaged else [],
        }
        row |= {"from_s": 900.0 * quarter, "to_s": 900.0 * (quarter + 1)}
        row |= {"windows_expected": 300, "windows_scored": 300 - lost, "windows_skipped": lost}
        row |= {"seconds_expected": 900.0, "seconds_skipped": 3.0 * lost}
        rows.append(row | {"seconds_scored": 900.0 - 3.0 * lost})
    stage.writers["coverage"].write(rows)
    if damaged:
        bounds = {"recording": name, "channel": None, "from_s": 1800.0, "to_s": 1950.0}
        why = {"stage": "decode", "reason": "damaged", "curable": False, "message": "lost sync"}
        stage.writers["errors"].write([bounds | why | {"windows_lost": 50}])
    return n


def make(out: Folder, sites: int, days: int, labels: int, per_hour: float) -> tuple[int, int]:
    """Writes the dataset; gives its hours and its predictions."""
    random = np.random.default_rng(0)
    names = [f"label {number:02d}" for number in range(labels)]
    identity = {"dataset": "dawnchorus", "task": "multilabel", "labels": names, "channel": "mean"}
    identity |= {"window_s": RULE.window_s, "hop_s": RULE.hop_s, "tail": RULE.tail}
    out.create(NAME, to_json(identity | {"min_score": 0.1}))
    peak, width = random.choice([5, 6, 7, 20, 22, 1], labels), random.uniform(1, 4, labels)
    season, common = random.uniform(0, days, labels), random.pareto(1.0, labels)
    hour, day = np.arange(24)[:, None], np.arange(days)[:, None]
    away = np.minimum((hour - peak) % 24, (peak - hour) % 24)
    by_hour = 0.02 + np.exp(-0.5 * (away / width) ** 2)
    by_day = np.exp(-0.5 * ((day - season) / (days / 5)) ** 2)
    common *= per_hour / (common * by_hour.mean(0) * by_day.mean(0)).sum()
    hours = rows = 0
    for number in range(sites):
        site = f"site {number:04d}"
        own = common * random.lognormal(0, 1, labels) * (random.random(labels) < 0.7)
        for at in range(days):
            if random.random() < LOST_DAYS:
                continue
            spans = []
            for each in range(24):
                clock = START + timedelta(days=at, hours=each)
                name = f"{site}/{clock:%Y%m%d_%H%M%S}.wav"
                facts = {"frames": 3600 * RATE, "duration_s": 3600.0, "sample_rate": RATE}
                recording = Recording(name, name, channels=1, version="", **facts)
                spans += spans_of(recording, Place(site, clock, None, "name"), RULE, 24)
            with staging(out, spans[0].key, TABLES, {}, "benchmark") as stage:
                for each, span in enumerate(spans):
                    clock, rates = START + timedelta(days=at, hours=each), own * by_hour[each]
                    name = span.recording.recording
                    rows += write_hour(stage, clock, name, rates * by_day[at], random)
                stage.close([span.member() for span in spans])
                commit(out, spans[0].key, stage, None, "benchmark")
            hours += 24
    places = [(f"site {n:04d}", 42 + n * 0.01, -74 + n * 0.01) for n in range(sites)]
    write_deployments(
        out, [Deployment(s, "-05:00", "America/New_York", lat, lon) for s, lat, lon in places]
    )
    return hours, rows


def main() -> None:
    """Makes a dataset, and its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path)
    for name, default in (("sites", 50), ("days", 90), ("labels", 40), ("per-hour", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    place, page = args.work / "dataset", args.work / "report"
    for folder in (place, page):
        shutil.rmtree(folder, ignore_errors=True)
    hours, rows = make(Folder(str(place)), args.sites, args.days, args.labels, args.per_hour)
    began = time.monotonic()
    code = "import sys; from pipeline.cli import main; sys.exit(main())"
    options = [str(place), "--threshold", "0.5", "--output", str(page)]
    subprocess.run([sys.executable, "-c", code, "report", *options], check=True)
    figures = {
        "hours": hours,
        "predictions": rows,
        "seconds": round(time.monotonic() - began, 1),
        "memory_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9,
        "page_mb": (page / "report.html").stat().st_size / 1e6,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
