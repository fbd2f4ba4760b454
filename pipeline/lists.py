"""Lists of recordings: text, CSV or Parquet files that name them, and may tell times and sites."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from model.errors import UserError
from model.files import read_file
from pipeline.clock import ClockTime, at_offset

SUFFIXES = (".txt", ".csv", ".parquet")
PATHS = ("recording", "file", "path", "url")


@dataclass(frozen=True)
class Line:
    """One line of a list: a path, and what the list tells of the recording there."""

    path: str
    where: str
    start: ClockTime | None = None
    site: str | None = None


def read_list(url: str) -> list[Line]:
    """The lines of a list: text with a path each, or a table with one column of `PATHS`.

    A table may have the columns `start_clock` (a timestamp, or ISO text; an offset in it tells UTC)
    and `site`, which lines may leave empty. Raises UserError, with the list and its line, for what
    is no time.
    """
    content = read_file(url)
    if b"\0" in content and not url.lower().endswith(".parquet"):
        raise UserError(f"The list {url} is not text; give one with a path in each line.")
    lines = [line_of(row, url, where) for where, row in _rows(content, url) if row["path"]]
    if not lines:
        raise UserError(f"The list {url} names no recordings.")
    return lines


def _rows(content: bytes, url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(line, its values) of a list, the path under the name `path`."""
    if url.lower().endswith(".parquet"):
        import pyarrow.parquet as pq

        table = pq.read_table(io.BytesIO(content))
        path = path_column(table.column_names, url)
        table = microseconds(table)
        for number, row in enumerate(table.to_pylist(), 1):
            yield f"row {number}", row | {"path": row[path]}
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"The list {url} is not UTF-8 text; save it as such.") from error
    if url.lower().endswith(".csv"):
        reader = csv.DictReader(io.StringIO(text))
        path = path_column(reader.fieldnames or [], url)
        for row in reader:
            yield f"line {reader.line_num}", row | {"path": row[path]}
    else:
        for number, line in enumerate(text.splitlines(), 1):
            yield f"line {number}", {"path": line}


def microseconds(table: pa.Table) -> pa.Table:
    """The table with all its times in microseconds: Python knows no finer ones."""
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            kind = pa.timestamp("us", field.type.tz)
            table = table.set_column(i, field.name, table[i].cast(kind, safe=False))
    return table


def extension(name: str) -> str:
    """The extension in lower case, without the dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""


def path_column(names: Sequence[str], url: str) -> str:
    """The column of a table that names recordings. Raises UserError if there is not just one."""
    known = [name for name in names if name in PATHS]
    if len(known) != 1:
        raise UserError(
            f"The list {url} needs one column recording, file, path or url; it has "
            f"{', '.join(names) or 'none'}."
        )
    return known[0]


def line_of(row: dict[str, Any], url: str, where: str) -> Line:
    """The line of a row's `path`, `start_clock` and `site`.

    Raises UserError for what is no time.
    """
    told, site = row.get("start_clock"), row.get("site")
    start = None
    if told not in (None, ""):
        moment = _moment(told)
        if moment is None:
            raise UserError(
                f"The list {url} has the start_clock {str(told)!r} in {where}, which is no date "
                "and time; write it as 2024-06-01T05:00:00."
            )
        start = at_offset(moment.replace(tzinfo=None), moment.utcoffset())
    if isinstance(site, float):
        # Where one is missing, pandas makes whole numbers such as 7 to 7.0.
        site = None if math.isnan(site) else int(site) if site.is_integer() else site
    return Line(str(row["path"]), where, start, None if site in (None, "") else str(site))


def _moment(told: object) -> datetime | None:
    if isinstance(told, datetime):
        return told
    text = str(told).strip()
    try:
        date.fromisoformat(text)
    except ValueError:
        pass
    else:
        # A date alone does not tell when a recording began.
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
