"""Events as the files of other programs, one for each recording."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from pipeline.storage import Folder

Row = Mapping[str, Any]
"""An event, as `pipeline.events.SCHEMA` has it."""
Band = tuple[float, float]
"""The lowest and highest frequency that the network hears, in Hz."""

_BREAKS = re.compile(r"[\t\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")
RAVEN = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Begin File", "Annotation", "Score"),
)
"""The columns of Raven's selection tables, its own six and ours."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: how its name ends, and how it is written."""

    ending: str
    write: Callable[[str, list[Row], Band], str]


def raven_table(recording: str, events: list[Row], band: Band) -> str:
    """A selection table of Raven's (Raven Pro User's Manual, "Selection tables")."""
    lines: list[tuple[str, ...]] = [RAVEN]
    for number, event in enumerate(events, 1):
        place = str(number), "Spectrogram 1", str((event["channel"] or 0) + 1)
        times = f"{event['start_s']:.6f}", f"{event['end_s']:.6f}"
        about = _line(PurePosixPath(recording).name), _line(event["label"])
        lines.append((*place, *times, *(f"{hertz:g}" for hertz in band), *about, _score(event)))
    return "".join("\t".join(line) + "\n" for line in lines)


def audacity_labels(recording: str, events: list[Row], band: Band) -> str:
    """A label track of Audacity's (its manual, "Importing and Exporting Labels")."""
    return "".join(
        f"{event['start_s']:.6f}\t{event['end_s']:.6f}\t{_line(event['label'])} {_score(event)}\n"
        for event in events
    )


KINDS = {
    "raven": Kind(".Table.{}.selections.txt", raven_table),
    "audacity": Kind(".labels.{}.txt", audacity_labels),
}


def export(
    tables: Iterable[pa.Table], kind: Kind, out: Folder, band: Band
) -> Iterator[tuple[str, int]]:
    """Writes a file for each recording that has events; gives its name and their number.

    Files lie in `out` as recordings lie under their root. Of recordings whose names differ only in
    their extension the files are numbered. Raises OSError where storage fails.
    """
    rows = (row for table in tables for row in table.to_pylist())
    numbers: Counter[str] = Counter()
    for recording, found in groupby(rows, key=lambda row: str(row["recording"])):
        events = list(found)
        stem = str(PurePosixPath(recording).with_suffix(""))
        numbers[stem] += 1
        name = stem + kind.ending.format(numbers[stem])
        text = kind.write(recording, events, band)
        out.write(name, text.encode("utf-8", "surrogateescape"))
        yield name, len(events)


def _line(text: str) -> str:
    """A text that stays in its cell."""
    return _BREAKS.sub(" ", text)


def _score(event: Row) -> str:
    return f"{event['score']:.4f}"
