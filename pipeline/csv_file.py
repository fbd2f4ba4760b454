"""CSV files for other programs: whole or not at all, and no formula in them."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage import Folder

_BREAKS = re.compile(r"[\t\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BEGINS = f"^[{re.escape(''.join(_FORMULA))}]"


def line(text: str) -> str:
    """A text that stays on its line and in its cell."""
    return _BREAKS.sub(" ", text)


def no_formula(text: str, before: str = " ") -> str:
    """A text that a spreadsheet takes for no formula: of one that begins like it, `before` it.

    Readers that strip cells, such as `model.tables`, give the text as it was. Before a path `./`
    changes nothing. (OWASP, "CSV Injection": = + - @, tab and carriage return begin formulas.)
    """
    return before + text if text.startswith(_FORMULA) else text


def cell(text: str) -> str:
    """A name that people gave, as a cell: on one line, and no formula."""
    return no_formula(line(text))


def guarded(table: pa.Table) -> pa.Table:
    """A table with `no_formula` in each cell of text, to be written as CSV."""
    for at, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type):
            texts = table.column(at).cast(pa.string())
            danger = pc.match_substring_regex(texts, _BEGINS)
            spaced = pc.binary_join_element_wise(" ", texts, "")
            table = table.set_column(at, field.name, pc.if_else(danger, spaced, texts))
    return table


@contextmanager
def csv_file(
    out: Folder, name: str, columns: Sequence[str]
) -> Iterator[Callable[[Iterable[Any]], Any]]:
    """A function that writes rows to a new CSV file (RFC 4180), in UTF-8 with a header.

    The file appears when the block ends well, and not at all otherwise.
    """
    with out.writing(name) as binary:
        text = io.TextIOWrapper(binary, "utf-8", "surrogateescape", newline="")
        writer = csv.writer(text)  # It quotes the characters of its line ends, CR and LF, alone.
        writer.writerow(columns)
        yield writer.writerow
        text.flush()
        text.detach()
