"""Events as one file for each recording, which other programs open with its sound."""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath

import pyarrow as pa

from pipeline.csv_file import cell, line
from pipeline.dataset import Dataset
from pipeline.export_kind import Row, Write, Written, rows
from pipeline.storage import Folder
from pipeline.taxon import names_of

RAVEN = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Begin File", "Annotation", "Score"),
)
"""The columns of Raven's selection tables, its own six and ours."""
BIRDNET = ("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File")
"""The columns of the CSV that BirdNET-Analyzer 2 writes for each recording."""


@dataclass(frozen=True)
class Context:
    """What files tell besides events: the recordings' root, and the band that is heard, in Hz."""

    root: Folder
    band: tuple[float, float]


@dataclass(frozen=True)
class Form:
    """A form of file: how its name ends, and how it is written.

    In the ending `{n}` is the number of the file among those of equal names, and `{more}` is
    `.{n}` of all but the first.
    """

    ending: str
    write: Callable[[str, list[Row], Context], str]


def raven_table(recording: str, events: list[Row], context: Context) -> str:
    """A selection table of Raven's (Raven Pro User's Manual, "Selection tables")."""
    lines: list[tuple[str, ...]] = [RAVEN]
    for number, event in enumerate(events, 1):
        place = str(number), "Spectrogram 1", str((event["channel"] or 0) + 1)
        times = f"{event['start_s']:.6f}", f"{event['end_s']:.6f}"
        hertz = (f"{value:g}" for value in context.band)
        about = line(PurePosixPath(recording).name), line(event["label"])
        lines.append((*place, *times, *hertz, *about, _score(event)))
    return "".join("\t".join(values) + "\n" for values in lines)


def audacity_labels(recording: str, events: list[Row], context: Context) -> str:
    """A label track of Audacity's (its manual, "Importing and Exporting Labels")."""
    return "".join(
        f"{event['start_s']:.6f}\t{event['end_s']:.6f}\t{line(event['label'])} {_score(event)}\n"
        for event in events
    )


def birdnet_results(recording: str, events: list[Row], context: Context) -> str:
    """A table of results as BirdNET-Analyzer 2 writes it with `--rtype csv`.

    A label without two names stands in both columns.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(BIRDNET)
    for event in events:
        scientific, common = names_of(event["label"])
        names = cell(scientific), cell(common or scientific)
        times = f"{event['start_s']:.6f}", f"{event['end_s']:.6f}"
        writer.writerow([*times, *names, _score(event), cell(context.root.at(recording))])
    return text.getvalue()


FORMS = {
    "raven": Form(".Table.{n}.selections.txt", raven_table),
    "audacity": Form(".labels.{n}.txt", audacity_labels),
    "birdnet-csv": Form("{more}.BirdNET.results.csv", birdnet_results),
}


def write_each(tables: Iterable[pa.Table], form: Form, out: Folder, context: Context) -> Written:
    """Writes a file for each recording that has events.

    Files lie in `out` as recordings lie under their root. Of recordings whose names differ only in
    their extension the files are numbered. Raises OSError where storage fails.
    """
    names: set[str] = set()
    events = 0
    for recording, found in groupby(rows(tables), key=lambda row: str(row["recording"])):
        own = list(found)
        name = _new_name(recording, form, names)
        text = form.write(recording, own, context)
        out.write(name, text.encode("utf-8", "surrogateescape"))
        names.add(name)
        events += len(own)
    return Written(events, len(names), len(names))


def writer_of(form: Form) -> Write:
    """What writes a dataset's events in a form."""

    def write(dataset: Dataset, tables: Iterable[pa.Table], out: Folder) -> Written:
        front_end = dataset.bundle().front_end
        band = (front_end.fmin, front_end.fmax or front_end.sample_rate / 2)
        return write_each(tables, form, out, Context(dataset.root(), band))

    return write


def _new_name(recording: str, form: Form, taken: set[str]) -> str:
    stem, number = str(PurePosixPath(recording).with_suffix("")), 1
    while True:
        more = "" if number == 1 else f".{number}"
        name = stem + form.ending.format(n=number, more=more)
        if name not in taken:
            return name
        number += 1


def _score(event: Row) -> str:
    return f"{event['score']:.4f}"
