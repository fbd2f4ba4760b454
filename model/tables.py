"""Text tables as people's programs write them: byte-order marks, old encodings, any delimiter."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.errors import UserError


@dataclass(frozen=True)
class Row:
    """One row: `where` names file and line for messages, `cells` has a text for each column."""

    where: str
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table's columns, in order and without unnamed ones, and its rows."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def find_column(self, *names: str) -> str | None:
        """The first of `names` that is a column, as it is spelt there; case does not count."""
        spelt = {column.casefold(): column for column in self.columns}
        found = (spelt.get(name.casefold()) for name in names)
        return next((column for column in found if column), None)

    def column(self, *names: str) -> str:
        """As `find_column`; UserError, naming the columns that there are, if there is none."""
        found = self.find_column(*names)
        if found is None:
            wanted = " or ".join(names)
            present = ", ".join(self.columns)
            raise UserError(f"{self.path} has no column {wanted}; its columns are: {present}.")
        return found


def read_table(path: Path) -> Table:
    """Reads a CSV (comma or semicolon) or tab-separated table with a header line.

    The text may be UTF-8 or UTF-16 with a byte-order mark, UTF-8 without, or Windows-1252. Blank
    lines are skipped, missing cells are empty. UserError if it cannot be read, has no header or
    a column twice, or if a row has more cells than the header.
    """
    text = io.StringIO(_decode(path), newline="")
    first = text.readline()
    if not first.strip():
        raise UserError(f"{path} is no table: it has no header line.")
    text.seek(0)
    delimiter = max("\t,;", key=first.count)
    # Raven writes tabs and never quotes: a quotation mark there is part of the text.
    raw = delimiter == "\t"
    quoting: Literal[0, 3] = csv.QUOTE_NONE if raw else csv.QUOTE_MINIMAL
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        columns = tuple(name for name in header if name)
        spelt: dict[str, str] = {}
        for name in columns:
            other = spelt.get(name.casefold())
            if other is not None:
                both = f"the columns {other} and {name}" if other != name else f"two columns {name}"
                raise UserError(f"{path} has {both}; rename or remove one.")
            spelt[name.casefold()] = name
        rows = []
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            where = f"{path}, line {reader.line_num}"
            if any(cells[len(header) :]):
                raise UserError(f"{where}: more cells than the header has columns.")
            cells += [""] * (len(header) - len(cells))
            named = {name: cell for name, cell in zip(header, cells, strict=False) if name}
            rows.append(Row(where, named))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from error
    return Table(path, columns, tuple(rows))


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
