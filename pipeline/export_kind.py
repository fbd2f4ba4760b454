"""What kinds of export share: what they are given, and what they tell."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.dataset import Dataset
from pipeline.storage import Folder

Row = Mapping[str, Any]
"""An event, as `pipeline.events.SCHEMA` has it; of `placed` tables also where and when it was."""


@dataclass(frozen=True)
class Written:
    """What an export wrote, and sentences on what a reader of the files must know."""

    events: int
    recordings: int
    files: int
    notes: tuple[str, ...] = ()


Write = Callable[[Dataset, Iterable[pa.Table], Folder], Written]
"""Writes the events of a dataset, tables of `pipeline.events.SCHEMA` in its order, to a folder.

Files appear whole or not at all. Raises OSError where storage fails, and UserError for what the
format cannot hold.
"""


@dataclass
class Seen:
    """Counts the events and recordings that pass by in the order of `pipeline.events`."""

    events: int = 0
    recordings: int = 0
    _last: tuple[str, str] | None = None

    def add(self, row: Row) -> bool:
        """Counts an event; whether it is the first of its recording."""
        key = row["site"], row["recording"]
        first = key != self._last
        self.events, self.recordings, self._last = self.events + 1, self.recordings + first, key
        return first


def rows(tables: Iterable[pa.Table]) -> Iterator[Row]:
    """The rows of tables, one after the other."""
    for table in tables:
        yield from table.to_pylist()
