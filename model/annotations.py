"""What people say is in their recordings: Raven tables, a CSV, or one folder per class."""

import hashlib
import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from model import raven
from model.bundle_document import RESERVED_LABEL, Task
from model.errors import UserError
from model.recordings import Recordings, find_files
from model.tables import Row, Table, read_table

_START_LIKE = re.compile(r"(start|begin|onset)(?!.*date)")
"""Columns that mean a time inside the recording, under names that are not read."""
LABEL_COLUMNS = ("Annotation", "Species", "Label")
Unannotated = Literal["skip", "negative"]


@dataclass(frozen=True)
class Annotation:
    """A label between two times (seconds) of a recording, or of the whole of it (None, None)."""

    recording: str
    start_s: float | None
    end_s: float | None
    label: str

    @property
    def whole(self) -> bool:
        """Whether it is for the whole recording."""
        return self.start_s is None


@dataclass(frozen=True)
class AnnotationSet:
    """Annotated recordings, sorted, also those known to hold no label, with what is in them.

    `columns` holds, for each recording, the table's further columns where all rows of the
    recording agree. `task` is singlelabel if every recording is a whole clip with one label.
    `warnings` are sentences for the user, each with its count.
    """

    recordings: tuple[str, ...]
    annotations: tuple[Annotation, ...]
    columns: dict[str, dict[str, str]]
    task: Task
    warnings: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        return tuple(sorted({annotation.label for annotation in self.annotations}))

    def by_recording(self) -> dict[str, list[Annotation]]:
        """The annotations of each recording; an empty list where there are none."""
        found: dict[str, list[Annotation]] = {recording: [] for recording in self.recordings}
        for annotation in self.annotations:
            found[annotation.recording].append(annotation)
        return found

    def sha256(self) -> str:
        """SHA-256 over recordings and annotations, wherever they are."""
        rows = [[a.recording, a.start_s, a.end_s, a.label] for a in self.annotations]
        return hashlib.sha256(json.dumps([self.recordings, rows]).encode()).hexdigest()


class Warnings:
    """Counts what was left out, by a sentence with `{n}`, and remembers the first example."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, sentence: str, example: str, count: int = 1) -> None:
        """Counts one more (or `count`) of what the sentence says."""
        self._counts[sentence] += count
        self._first.setdefault(sentence, example)

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each kind, with its count and its first example."""
        return tuple(
            f"{kind.replace('{n}', str(n), 1)} (the first: {self._first[kind]})."
            for kind, n in self._counts.items()
        )


def read_annotations(
    audio_dir: Path,
    source: Path,
    label_column: str | None = None,
    label_map: Path | None = None,
    unannotated: Unannotated = "skip",
) -> AnnotationSet:
    """Reads the annotations of the recordings below `audio_dir`.

    `source` is a folder of Raven selection tables, one such table, a CSV with the columns file,
    label and (but for whole clips) start and end in seconds, or a folder with one subfolder of
    audio per class. `label_column` is by default whichever of Annotation, Species or Label there
    is. `label_map` is a CSV with the columns label and new_label that renames, merges or, where
    new_label is empty, ignores labels. Recordings without a table or row are left out, or with
    `unannotated` "negative" hold no label.

    Raises UserError for what cannot be read or is ambiguous, wrong times and the reserved label;
    rows that name no recording or no label are left out and counted in `warnings`.
    """
    recordings = Recordings(audio_dir)
    reader = _Reader(recordings, label_column)
    if source.is_dir():
        tables = list(_raven_tables(source))
        if tables:
            for table in tables:
                reader.read_raven(table, source)
        else:
            reader.read_folders(source)
    elif source.exists():
        table = read_table(source)
        if raven.is_raven(table) or raven.is_named_as_table(source):
            reader.read_raven(table, source.parent)
        else:
            reader.read_csv(table)
    else:
        raise UserError(f"{source} does not exist; give the annotations' folder or file.")
    if not reader.recordings:
        raise UserError(f"Nothing in {source} belongs to a recording below {audio_dir}.")
    return reader.finish(read_label_map(label_map) if label_map else {}, unannotated)


def read_label_map(path: Path) -> dict[str, str]:
    """A label map: label to new label, empty for one that is ignored.

    A CSV with the columns label and new_label (or from and to). UserError if a label is mapped
    to two others.
    """
    table = read_table(path)
    old, new = table.column("label", "from"), table.column("new_label", "to")
    mapped: dict[str, str] = {}
    for row in table.rows:
        label, target = _clean(row.cells[old]), _clean(row.cells[new])
        if mapped.setdefault(label, target) != target:
            raise UserError(f"{row.where}: {label!r} is mapped twice; keep one of the rows.")
    return mapped


def _raven_tables(source: Path) -> Iterator[Table]:
    for path in find_files(source, ".txt"):
        if raven.is_named_as_table(path):
            yield read_table(path)
            continue
        try:
            table = read_table(path)
        except UserError:
            if raven.BEGIN.encode() in path.read_bytes().partition(b"\n")[0]:
                raise
            continue  # Some other text, such as a note.
        if raven.is_raven(table):
            yield table


class _Reader:
    """Gathers annotations from tables; what is left out is counted."""

    def __init__(self, recordings: Recordings, label_column: str | None) -> None:
        self._all = recordings
        self._label_column = label_column
        self._warnings = Warnings()
        self._columns: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.annotations: list[Annotation] = []
        self.recordings: set[str] = set()

    def read_raven(self, table: Table, source: Path) -> None:
        # The folder that the table is in, as the recordings name theirs: below the audio folder
        # or, for tables kept apart, below their own. Links inside are not followed.
        inside = self._all.folder.resolve()
        folder = source.resolve() / table.path.parent.relative_to(source)
        base = inside if folder.is_relative_to(inside) else source.resolve()
        near = folder.relative_to(base).as_posix()
        name = raven.recording_name(table.path)
        if not table.rows:
            own = self._all.find(name, str(table.path), near)
            if own is None:
                self._warnings.add("{n} empty tables belong to no recording", str(table.path))
            else:
                self.recordings.add(own)
            return
        label_column = self._find_label_column(table)
        selections = list(raven.read_selections(table, label_column))
        files = {selection.file or name for selection in selections}
        for selection in selections:
            file, row = selection.file or name, selection.row
            recording = self._all.find(file, row.where, near)
            if recording is None and len(files) == 1:
                own = self._all.find(name, str(table.path), near)
                recording = own  # Renamed after Raven had noted its name, with its table.
            self._add(row, recording, file, selection.start, selection.end, selection.label)
            if recording is not None:
                self._note_columns(recording, table, row, (raven.BEGIN, raven.END, label_column))

    def read_csv(self, table: Table) -> None:
        file = table.column("file", "recording")
        start, end = table.find_column("start", "start_s"), table.find_column("end", "end_s")
        if (start is None) != (end is None):
            missing = "start" if start is None else "end"
            raise UserError(f"{table.path} has no column {missing}; whole clips need neither.")
        other = next((c for c in table.columns if _START_LIKE.match(c.casefold())), None)
        if start is None and other is not None:
            raise UserError(
                f"{table.path} has the column {other}, but times are read from start and end (in "
                "seconds); rename the columns, or remove them for whole clips."
            )
        label = self._find_label_column(table)
        for row in table.rows:
            name = row.cells[file]
            recording = self._all.find(name, row.where) if name else None
            bounds = (row.cells[start], row.cells[end]) if start and end else ("", "")
            self._add(row, recording, name, *bounds, row.cells[label])
            if recording is not None:
                self._note_columns(recording, table, row, (file, start, end, label))

    def read_folders(self, source: Path) -> None:
        if self._label_column:
            raise UserError(
                f"{source} holds no Raven selection tables, so there is no column "
                f"{self._label_column}; leave out --label-column for one folder per class."
            )
        inside, root = self._all.folder.resolve(), source.resolve()
        if not root.is_relative_to(inside) and not inside.is_relative_to(root):
            raise UserError(
                f"{source} holds no Raven selection tables; give a folder that does, a CSV file, "
                "or for one folder per class the audio folder itself."
            )
        for path in self._all.paths:
            full = inside / path
            if not full.is_relative_to(root):
                continue
            parts = full.relative_to(root).parts
            if len(parts) > 1:
                self.recordings.add(path)
                self.annotations.append(Annotation(path, None, None, _clean(parts[0])))

    def finish(self, label_map: dict[str, str], unannotated: Unannotated) -> AnnotationSet:
        labels = {annotation.label for annotation in self.annotations}
        for label in sorted(set(label_map) - labels):
            self._warnings.add("{n} labels of the label map occur nowhere", repr(label))
        before = {annotation.recording for annotation in self.annotations}
        annotations = []
        for annotation in self.annotations:
            label = label_map.get(annotation.label, annotation.label)
            if label.casefold() == RESERVED_LABEL:
                raise UserError(
                    f"The label {label!r} of {annotation.recording} is reserved; rename or ignore "
                    "it with --label-map."
                )
            if not label.isprintable():
                raise UserError(
                    f"The label {label!r} of {annotation.recording} has characters that are not "
                    "text; rename it, or map it with --label-map."
                )
            if label:
                annotations.append(replace(annotation, label=label))
        if not annotations:
            raise UserError("The annotations hold no label at all; there is nothing to learn.")
        if unannotated == "negative":
            self.recordings |= set(self._all.paths)
        columns = {
            recording: {name: next(iter(v)) for name, v in noted.items() if len(v) == 1}
            for recording, noted in self._columns.items()
        }
        return AnnotationSet(
            recordings=tuple(sorted(self.recordings)),
            annotations=tuple(sorted(set(annotations), key=_order)),
            columns=columns,
            task=_infer_task(annotations, before == self.recordings),
            warnings=self._warnings.sentences(),
        )

    def _find_label_column(self, table: Table) -> str:
        if self._label_column:
            if self._label_column in table.columns:
                return self._label_column
            return table.column(self._label_column)
        present = [name for name in map(table.find_column, LABEL_COLUMNS) if name]
        if len(present) > 1:
            raise UserError(
                f"{table.path} has the columns {' and '.join(present)}; choose one with "
                "--label-column."
            )
        return table.column(*LABEL_COLUMNS)

    def _add(
        self, row: Row, recording: str | None, name: str, start: str, end: str, label: str
    ) -> None:
        """One row's annotation; without times it is for the whole recording."""
        first, last = _bounds(row, start, end)
        if recording is None:
            example = f"{name or 'no name'} in {row.where}"
            self._warnings.add(
                f"{{n}} rows name a recording that is not below {self._all.folder}", example
            )
            return
        self.recordings.add(recording)
        text = _clean(label)
        if text:
            self.annotations.append(Annotation(recording, first, last, text))
        elif first is not None:
            self._warnings.add("{n} rows with times but without a label were left out", row.where)

    def _note_columns(
        self, recording: str, table: Table, row: Row, needed: Iterable[str | None]
    ) -> None:
        used = set(needed)
        for name in table.columns:
            if name not in used:
                self._columns[recording][name].add(row.cells[name])


def _bounds(row: Row, start: str, end: str) -> tuple[float, float] | tuple[None, None]:
    if not start and not end:
        return None, None
    if not start or not end:
        raise UserError(f"{row.where}: start and end must both be given, or none of them.")
    first, last = raven.parse_seconds(start, row), raven.parse_seconds(end, row)
    if not (math.isfinite(first) and math.isfinite(last) and 0 <= first < last):
        raise UserError(
            f"{row.where}: from {start} to {end} s is no stretch of time; the end must come "
            "after the start, and the start must not be negative."
        )
    return first, last


def _infer_task(annotations: list[Annotation], complete: bool) -> Task:
    """Single-label if all are whole clips with one label each and no recording had none."""
    labels: dict[str, set[str]] = defaultdict(set)
    for annotation in annotations:
        labels[annotation.recording].add(annotation.label)
    single = all(len(found) == 1 for found in labels.values())
    whole = all(annotation.whole for annotation in annotations)
    return "singlelabel" if complete and whole and single else "multilabel"


def _order(annotation: Annotation) -> tuple[str, float, float, str]:
    start = -1.0 if annotation.start_s is None else annotation.start_s
    end = -1.0 if annotation.end_s is None else annotation.end_s
    return annotation.recording, start, end, annotation.label


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())
