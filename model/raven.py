"""Raven selection tables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.errors import UserError
from model.tables import Row, Table

BEGIN = "Begin Time (s)"
END = "End Time (s)"

_SUFFIX = re.compile(r"(\.Table\.\d+)?(\.selections)?\.txt$", re.IGNORECASE)


@dataclass(frozen=True)
class Selection:
    """One row that counts: `file` as the table names it (None: the table's own recording)."""

    row: Row
    file: str | None
    start: str
    end: str
    label: str


def recording_name(path: Path) -> str:
    """The name, without extension, of the recording that a table's file name belongs to.

    >>> recording_name(Path("a/X.Table.1.selections.txt"))
    'X'
    """
    return _SUFFIX.sub("", path.name)


def is_named_as_table(path: Path) -> bool:
    """Whether a file's name says that it is a selection table, whatever is in it."""
    return path.name.casefold().endswith(".selections.txt")


def is_raven(table: Table) -> bool:
    """Whether a table has Raven's time columns."""
    return table.find_column(BEGIN) is not None and table.find_column(END) is not None


def read_selections(table: Table, label_column: str) -> Iterator[Selection]:
    """The selections of a table, each once though Raven repeats it for each view.

    In a table over several files (`Begin File` and `File Offset (s)`) times are those inside the
    file in which the selection begins. Raises UserError for missing columns and for times that
    are no numbers.
    """
    begin, end = table.column(BEGIN), table.column(END)
    number = table.find_column("Selection")
    file = table.find_column("Begin File")
    offset = table.find_column("File Offset (s)")
    if file and not offset and len({row.cells[file] for row in table.rows}) > 1:
        raise UserError(
            f"{table.path} covers several files and has no column File Offset (s), without which "
            "the times inside them are unknown; add it in Raven and export again."
        )
    seen = set()
    for row in table.rows:
        cells = row.cells
        start, stop = cells[begin], cells[end]
        if file and offset:
            length = parse_seconds(stop, row) - parse_seconds(start, row)
            start = cells[offset]
            stop = repr(parse_seconds(start, row) + length)
        key = (cells[number] if number else None, start, stop, cells[file] if file else None)
        if (*key, cells[label_column]) in seen:
            continue
        seen.add((*key, cells[label_column]))
        named = cells[file] if file else ""
        yield Selection(row, named or None, start, stop, cells[label_column])


def parse_seconds(text: str, row: Row) -> float:
    """A time of a row in seconds; UserError naming the row if it is not a number."""
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{row.where}: {text!r} is not a time in seconds.") from None
