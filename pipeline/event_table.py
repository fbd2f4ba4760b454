"""Events as the table that `train --annotations` reads."""

from collections.abc import Iterable

import pyarrow as pa

from pipeline.csv_file import csv_file, no_formula
from pipeline.dataset import Dataset
from pipeline.export_kind import Seen, Written, rows
from pipeline.storage import Folder

NAME = "annotations.csv"
COLUMNS = ("file", "start", "end", "label", "score", "site")


def write_event_table(dataset: Dataset, tables: Iterable[pa.Table], out: Folder) -> Written:
    """Writes one CSV of all events; times are exact, in seconds of the recording."""
    seen = Seen()
    with csv_file(out, NAME, COLUMNS) as write:
        for row in rows(tables):
            seen.add(row)
            times, score = (row["start_s"], row["end_s"]), f"{row['score']:.4f}"
            names = [no_formula(row[name]) for name in ("recording", "label", "site")]
            write([names[0], *times, names[1], score, names[2]])
    return Written(seen.events, seen.recordings, 1)
