"""A small real dataset for tests of deployments, and the commands on it."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.cli import main
from tests.pipeline.archive import tone, write
from tests.pipeline.test_detection import detect

STRANGE = "a/b=50%20 🐦\nz"
"""The name of a site."""
HEADER = "site,clock,time_zone,latitude,longitude,first_day,last_day\n"
MARCH, NOVEMBER = dt.datetime(2024, 3, 10), dt.datetime(2024, 11, 3)
"""Days on which daylight saving begins and ends in New York."""


def hourly(start: dt.datetime, hours: int) -> list[dt.datetime]:
    return [start + dt.timedelta(hours=hour) for hour in range(hours)]


def make_dataset(top: Path, bundle: Path) -> Path:
    """A dataset of recordings of 1 s at full hours, and a few that cross a quarter of an hour."""
    short = {
        "007": hourly(MARCH, 24) + hourly(NOVEMBER - dt.timedelta(hours=1), 25),
        "CREEK": hourly(dt.datetime(2024, 6, 1), 24),
        "MOVED": [*hourly(dt.datetime(2024, 6, 1, 12), 2), *hourly(dt.datetime(2024, 6, 2, 12), 2)],
        "ZONED": [NOVEMBER.replace(hour=1, minute=30)],
    }
    crossing = {
        "HILL": [dt.datetime(2024, 6, 1, 0, 14, 58)],
        "ZONED": [
            MARCH.replace(hour=1, minute=59, second=58),
            NOVEMBER.replace(minute=59, second=58),
        ],
    }
    for seconds, sites in ((1, short), (4, crossing)):
        for site, clocks in sites.items():
            for clock in clocks:
                write(top / f"audio/{site}/{clock:%Y%m%d_%H%M%S}.wav", tone(seconds))
    write(top / "strange/20240601_120000.wav", tone(1))
    assert detect(top / "audio", bundle, top / "out", "--root", str(top), "--slot", "24") == 0
    more = ("--root", str(top), "--site", STRANGE)
    assert detect(top / "strange", bundle, top / "out", *more) == 0
    return top / "out"


def deploy(out: Path | str, table: Path, text: str) -> int:
    table.write_text(HEADER + text)
    return main(["deployments", str(out), "--table", str(table)])


def measured(out: Path, by: str = "hour", *more: str) -> dict[Any, int]:
    """{(site, time): windows scored} of activity; at threshold 0 all of them are positive."""
    file = out.parent / "activity.parquet"
    command = ["activity", str(out), "--by", by, "--threshold", "0", "--output", str(file), *more]
    assert main(command) == 0
    rows = pq.read_table(file).to_pylist()
    assert {row["activity"] for row in rows} <= {1.0}
    return {
        (row["site"], row["date" if by == "date" else "hour"]): row["windows_scored"]
        for row in rows
    }
