"""Events as the CSV of results that Wildlife Acoustics' Kaleidoscope opens."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import PurePosixPath

import pyarrow as pa

from pipeline.csv_file import cell, csv_file, line, no_formula
from pipeline.dataset import Dataset
from pipeline.export_kind import Row, Seen, Written, rows
from pipeline.placed import started
from pipeline.storage import Folder

NAME = "cluster.csv"
COLUMNS = (
    *("INDIR", "FOLDER", "IN FILE", "CHANNEL", "OFFSET", "DURATION"),
    *("DATE", "TIME", "HOUR", "DATE-12", "TIME-12", "HOUR-12"),
    *("TOP1MATCH", "TOP1DIST", "MANUAL ID", "SCORE", "SITE"),
)
"""Columns of Kaleidoscope Pro's cluster.csv by their names there, and two of ours.

Left out are what it measures in the sound (Fmin, Fmean, Fmax) and matches that we do not have.
"""


def write_kaleidoscope(dataset: Dataset, tables: Iterable[pa.Table], out: Folder) -> Written:
    """Writes one CSV of all events, with the recordings' clock times."""
    seen, folder = Seen(), cell(dataset.root().url)
    with csv_file(out, NAME, COLUMNS) as write:
        for row in rows(tables):
            seen.add(row)
            recording = PurePosixPath(row["recording"])
            near = "" if recording.parent == PurePosixPath(".") else _path(str(recording.parent))
            place = folder, near, _path(recording.name), row["channel"] or 0
            times = f"{row['start_s']:.6f}", f"{row['end_s'] - row['start_s']:.6f}"
            score, site = f"{row['score']:.4f}", cell(row["site"])
            # Kaleidoscope sorts by the distance from what was matched: 0 is the best.
            match = cell(row["label"]), f"{1 - row['score']:.4f}", ""
            write([*place, *times, *_clock(row), *match, score, site])
    note = "DATE and TIME are when the recording began, by the recorder's clock."
    return Written(seen.events, seen.recordings, 1, (note,))


def _path(text: str) -> str:
    return no_formula(line(text), "./")


def _clock(row: Row) -> tuple[str | int, ...]:
    """Date, time and hour of the recording's start, and of twelve hours before: its night."""
    start = started(row)
    if start is None:
        return ("",) * 6
    times = start, start - timedelta(hours=12)
    return tuple(value for t in times for value in (f"{t:%Y-%m-%d}", f"{t:%H:%M:%S}", t.hour))
