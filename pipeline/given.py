"""Inventories that are given: what they tell of a recording is not read from its file again."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.errors import UserError
from model.reasons import REASONS
from model.sound import MAX_CHANNELS, RATES
from pipeline.lists import Line, extension, line_of, microseconds, path_column
from pipeline.recording import INVENTORY, NOT_PROBED, Recording
from pipeline.storage import absolute, file_at

ROOT = b"dawnchorus.root"
"""In the metadata of our inventories: the root under which their recordings are named."""
NAMES = {
    "size_bytes": ("size_bytes", "size"),
    "stamp": ("etag", "modified"),
    "frames": ("frames",),
    "duration_s": ("duration_s", "duration"),
    "sample_rate": ("sample_rate",),
    "channels": ("channels",),
    "start_clock": ("start_clock", "start"),
    "site": ("site",),
}
"""Columns of an inventory that a user makes, by what they are to us."""
NEEDED = ("size_bytes", "stamp", "frames", "sample_rate", "channels")
"""What must be told of a recording, so that a plan need not ask its file."""
LIMITS = {
    "size_bytes": range(0, 1 << 62),
    "frames": range(1, 1 << 62),
    "sample_rate": RATES,
    "channels": range(1, MAX_CHANNELS + 1),
}


@dataclass(frozen=True)
class Given:
    """An inventory: `rows` (of `INVENTORY`, by URL) need no file; of the `lines` the file is asked.

    `root` is where an inventory of ours names its recordings, else None.
    """

    rows: pa.Table
    lines: Sequence[tuple[Line, int | None, str | None]]
    root: str | None


def read_given(url: str) -> Given | None:
    """The inventory in a Parquet file; None if the file is but a list of recordings.

    The `lines` come with size and stamp, where they are told. Raises UserError, with the file and
    the row, for what cannot be.
    """
    folder, name = file_at(url)
    with folder.open(name) as file, _whole(url):
        part = pq.ParquetFile(file)
        names = set(part.schema_arrow.names)
        if len(names) < len(part.schema_arrow.names):
            twice = next(name for name in names if part.schema_arrow.names.count(name) > 1)
            raise UserError(f"{url} has two columns {twice}; leave one of them out.")
        if names.issuperset(INVENTORY.names):
            table, metadata = part.read(), part.schema_arrow.metadata or {}
            return _ours(table, url, metadata.get(ROOT, b"").decode() or None)
        columns = {
            ours: next((theirs for theirs in known if theirs in names), None)
            for ours, known in NAMES.items()
        }
        if columns["size_bytes"] is None or columns["stamp"] is None:
            return None
        table = part.read()
    return _theirs(table, {ours: theirs for ours, theirs in columns.items() if theirs}, url)


@contextlib.contextmanager
def _whole(url: str) -> Iterator[None]:
    """Turns what pyarrow says of a damaged file into a sentence."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # Storage failed, not the file.
        raise UserError(f"{url} is no whole Parquet file; make it again.") from error


def _ours(table: pa.Table, url: str, root: str | None) -> Given:
    """An inventory of ours, whose URLs are text where they can be.

    What could not be read for a reason that may be cured is asked again.
    """
    try:
        columns = [table[field.name].cast(field.type) for field in INVENTORY]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"The inventory {url} is damaged: {error}; make it again.") from error
    rows = pa.Table.from_arrays(columns, schema=INVENTORY)
    curable = pa.array([code for code, reason in REASONS.items() if reason.curable], pa.string())
    again = pc.is_in(rows["reason"], curable)
    places = rows.filter(again)["url"].to_pylist()
    lines = [(Line(os.fsdecode(place), f"the row of {place!r}"), None, None) for place in places]
    return Given(rows.filter(pc.invert(again)), lines, root)


def _theirs(table: pa.Table, columns: dict[str, str], url: str) -> Given:
    path = path_column(table.column_names, url)
    folder = url.rpartition("/")[0]
    values: dict[str, pa.ChunkedArray] = {}
    for ours, kind in (
        ("size_bytes", pa.int64()),
        ("frames", pa.int64()),
        ("duration_s", pa.float64()),
        ("sample_rate", pa.int32()),
        ("channels", pa.int32()),
        ("stamp", pa.string()),
    ):
        values[ours] = pa.chunked_array([pa.nulls(table.num_rows, kind)])
        if ours in columns:
            column = table[columns[ours]]
            if ours == "stamp" and pa.types.is_timestamp(column.type):
                # One moment is one stamp, whatever unit and zone a library writes it in.
                column = column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
            values[ours] = _cast(column, kind, columns[ours], url)
    by_duration = pc.cast(
        pc.round(pc.multiply(values["duration_s"], pc.cast(values["sample_rate"], pa.float64()))),
        pa.int64(),
    )
    values["frames"] = pc.coalesce(values["frames"], by_duration)
    for ours, limits in LIMITS.items():
        column = values[ours]
        wrong = pc.or_(pc.less(column, limits.start), pc.greater_equal(column, limits.stop))
        found = pc.index(wrong, pa.scalar(True)).as_py()
        if found >= 0:
            told = columns.get(ours) or columns["duration_s"]
            raise UserError(
                f"The inventory {url} tells {told} {table[told][found].as_py()} in row "
                f"{found + 1}, which no recording has; correct it, or leave it empty."
            )
    more = {name: table[columns[name]] for name in ("start_clock", "site") if name in columns}
    whole = pa.table({"path": table[path]} | values | more)
    rest: list[tuple[Line, int | None, str | None]] = []
    tables, number = [], 0
    for batch in microseconds(whole).to_batches(max_chunksize=10_000):
        keep = []
        for row in batch.to_pylist():
            number += 1
            if not row["path"]:
                continue
            line = line_of(row, url, f"row {number}")
            if None in (row[name] for name in NEEDED):
                rest.append((line, row["size_bytes"], row["stamp"]))
            else:
                keep.append(_recording(row, line, place_of(line.path, folder)).to_row())
        tables.append(pa.Table.from_pylist(keep, schema=INVENTORY))
    rows = pa.concat_tables([INVENTORY.empty_table(), *tables])
    if not rows.num_rows and not rest:
        raise UserError(f"The inventory {url} names no recordings.")
    return Given(rows, rest, None)


def _recording(row: dict[str, Any], line: Line, url: str) -> Recording:
    size, stamp = row["size_bytes"], row["stamp"]
    return Recording(
        recording="",
        url=url,
        stamp=f"{stamp}-{size}",
        frames=row["frames"],
        duration_s=row["frames"] / row["sample_rate"],
        sample_rate=row["sample_rate"],
        channels=row["channels"],
        format=extension(url).upper(),
        size_bytes=size,
        version=f"{size}-{hashlib.sha256(stamp.encode()).hexdigest()[:32]}",
        inventory_clock=line.start.clock if line.start else None,
        inventory_utc=line.start.utc if line.start else None,
        inventory_site=line.site,
        flags=(NOT_PROBED,),
    )


def place_of(path: str, folder: str) -> str:
    """The path or URL that a list in a folder names."""
    is_whole = "://" in path or path.startswith("/")
    return absolute(path if is_whole else f"{folder}/{path}")


def _cast(column: pa.ChunkedArray, kind: pa.DataType, name: str, url: str) -> pa.ChunkedArray:
    try:
        return pc.cast(column, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"The inventory {url} has a column {name} of type {column.type}, which is no {kind}; "
            "write it as such."
        ) from error
