"""A sample that was drawn: its table and clips, and what a review makes of them."""

import csv
import hashlib
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path, PurePosixPath

from model.bundle_document import RESERVED_LABEL
from model.errors import UserError
from model.tables import Row, Table, read_table
from model.verified import VERDICTS
from pipeline.csv_file import no_formula
from pipeline.marks import TABLE_REVIEWER, Detection, Mark, Marks, Outcome, outcome_of

TABLE, VERIFIED, ANNOTATIONS = "sample.csv", "verified.csv", "annotations.csv"
OUTCOME = [field.name for field in fields(Outcome)]


@dataclass(frozen=True)
class Drawn:
    """A row: its detection, the clip's name ("" without one) and when it starts, and the rest.

    `clip_start` is in seconds of the recording, None where the table does not tell it. `cells` are
    the row's texts by column.
    """

    detection: Detection
    clip: str
    clip_start: float | None
    cells: dict[str, str]


class DrawnSample:
    """The rows of a folder that `dawnchorus sample` wrote, in the order of its table.

    `stated` are the verdicts that stand in the table itself, as marks of `TABLE_REVIEWER`. Raises
    UserError for a table that cannot be read or lacks a column, and values that are none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        table = read_table(folder / TABLE)
        columns = _Columns(table)
        if not table.rows:
            raise UserError(f"{table.path} has no rows; there is nothing to review.")
        self.columns = table.columns
        self.rows = tuple(columns.drawn(row) for row in table.rows)
        self.stated = tuple(
            Mark(drawn.detection, TABLE_REVIEWER, "right" if verdict else "wrong")
            for row, drawn in zip(table.rows, self.rows, strict=True)
            if (verdict := columns.verdict(row)) is not None
        )
        self.detections = frozenset(row.detection for row in self.rows)
        self.labels = sorted({row.detection.label for row in self.rows})
        told = repr([(astuple(row.detection), row.clip) for row in self.rows])
        self.id = hashlib.sha256(told.encode()).hexdigest()[:16]
        """Changes when rows are others, or in another order."""

    def clip_path(self, number: int, suffix: str | None = None) -> Path:
        """The file of a row's clip, or the one beside it with another suffix.

        `number` is the row's place, from 0. Raises UserError where there is none, and for a name
        that leads out of the folder.
        """
        row = self.rows[number]
        if not row.clip:
            why = row.cells.get("problem") or "the sample was drawn without"
            raise UserError(f"There is no clip: {why}.")
        name = PurePosixPath(row.clip)
        try:
            path = self.folder / (name.with_suffix(suffix) if suffix else name)
            inside = path.resolve().is_relative_to(self.folder.resolve())
            if name.is_absolute() or ".." in name.parts or not inside:
                raise UserError("The table names a clip outside its folder, which is not opened.")
            if not path.is_file():
                raise UserError(f"The file {path.name} is not there.")
        except (OSError, ValueError, RuntimeError) as error:  # Also links in a circle.
            raise UserError("The table names a clip that can be no file.") from error
        return path

    def results(self, marks: Marks) -> dict[str, bytes]:
        """The contents of `VERIFIED` and `ANNOTATIONS`, by name."""
        by_detection = marks.by_detection()
        outcomes = [outcome_of(by_detection.get(row.detection, [])) for row in self.rows]
        return {VERIFIED: self._verified(outcomes), ANNOTATIONS: self._annotations(outcomes)}

    def _verified(self, outcomes: Sequence[Outcome]) -> bytes:
        """The table with the columns of `Outcome`, where they stand or at its end."""
        spelt = {name.casefold(): name for name in self.columns}
        names = [*self.columns, *(name for name in OUTCOME if name not in spelt)]
        lines = []
        for row, outcome in zip(self.rows, outcomes, strict=True):
            told = {spelt.get(name, name): str(getattr(outcome, name)) for name in OUTCOME}
            lines.append([{**row.cells, **told}[name] for name in names])
        return _csv(names, lines)

    def _annotations(self, outcomes: Sequence[Outcome]) -> bytes:
        """What `train` takes as annotations of the clips; times in seconds of the clip.

        A clip holds whatever was found in its window, also as another label, for which it has
        another clip. One that is known to hold nothing has a row without label.
        """
        found: dict[tuple[object, ...], set[str]] = defaultdict(set)
        for row, outcome in zip(self.rows, outcomes, strict=True):
            label = row.detection.label if outcome.verdict == "right" else outcome.other_label
            if label and label.casefold() != RESERVED_LABEL:
                found[_window(row.detection)].add(label)
        lines = []
        for row, outcome in zip(self.rows, outcomes, strict=True):
            one, reserved = row.detection, row.detection.label.casefold() == RESERVED_LABEL
            if not (row.clip and outcome.verdict) or outcome.disagreement:
                continue
            if row.clip_start is None:
                continue
            labels = sorted(found[_window(one)])
            if not labels and not reserved:
                lines.append([row.clip, "", "", "", one.recording])
            start, end = max(0.0, one.start - row.clip_start), one.end - row.clip_start
            for label in labels:
                lines.append([row.clip, f"{start:.3f}", f"{end:.3f}", label, one.recording])
        return _csv(["file", "start", "end", "label", "recording"], lines)


class _Columns:
    """Where a sample's table has what; UserError for a column or value that is missing."""

    def __init__(self, table: Table) -> None:
        self._recording = table.column("recording", "file")
        self._start, self._end = table.column("start", "start_s"), table.column("end", "end_s")
        self._label = table.column("label")
        self._clip = table.find_column("clip")
        if self._clip is None:
            raise UserError(
                f"{table.path} has no column clip: there is nothing to listen to; draw the sample "
                "again without --clips none."
            )
        self._clip_start = table.find_column("clip_start")
        self._channel, self._verdict = table.find_column("channel"), table.find_column("verdict")

    def drawn(self, row: Row) -> Drawn:
        channel = row.cells[self._channel] if self._channel else ""
        if not row.cells[self._recording] or not row.cells[self._label]:
            raise UserError(f"{row.where}: the recording or the label is missing; remove the row.")
        detection = Detection(
            row.cells[self._recording],
            int(_number(row, "channel", channel)) if channel else None,
            _number(row, self._start, row.cells[self._start]),
            _number(row, self._end, row.cells[self._end]),
            row.cells[self._label],
        )
        began = row.cells[self._clip_start] if self._clip_start else ""
        clip_start = _number(row, "clip_start", began) if began else None
        assert self._clip
        return Drawn(detection, row.cells[self._clip], clip_start, row.cells)

    def verdict(self, row: Row) -> bool | None:
        text = row.cells[self._verdict].casefold() if self._verdict else ""
        if text and text not in VERDICTS:
            raise UserError(f"{row.where}: the verdict is {text!r}; write right or wrong.")
        return VERDICTS.get(text)


def _number(row: Row, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{row.where}: {column} is {text!r}; it must be a number, 0 or more.")
    return value


def _window(detection: Detection) -> tuple[object, ...]:
    return detection.recording, detection.channel, detection.start, detection.end


def _csv(names: Iterable[str], lines: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([no_formula(cell) for cell in line] for line in lines)
    return text.getvalue().encode()
