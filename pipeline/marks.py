"""What reviewers say of detections: marks in a log on the disk, and what they add up to."""

import json
import math
import os
import re
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from model.bundle_document import RESERVED_LABEL
from model.errors import UserError
from pipeline.storage import sync

Verdict = Literal["right", "wrong", "unsure"]
Decided = Literal["right", "wrong", ""]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
TABLE_REVIEWER = "table"
"""Who said what stands in the table's own column `verdict`."""
LONGEST_NAME, LONGEST_COMMENT = 80, 2000
FORMULA = re.compile(r"(?:^|;)\s*(?=[=+\-@＝＋－＠])")
"""Where a spreadsheet would take text for a formula: at the beginning of a cell, also of one that
it makes itself where it takes the semicolon for the delimiter."""
CONTROLS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, halves of characters, and breaks of lines."""


@dataclass(frozen=True)
class Detection:
    """What is judged, wherever it stands in a table; times in seconds of the recording.

    Times are rounded to milliseconds, which survives what spreadsheets do to numbers. `channel` is
    None for the mean of all.
    """

    recording: str
    channel: int | None
    start: float
    end: float
    label: str

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            object.__setattr__(self, name, round(float(getattr(self, name)), 3))
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise UserError(f"The times of {self.label!r} in {self.recording} are no numbers.")


@dataclass(frozen=True)
class Mark:
    """What one reviewer says of one detection, at a `time` (ISO 8601, UTC).

    `verdict` is None where there is a comment only. `other_label` is what a wrong one is instead,
    where the reviewer knows it. Raises UserError for what is none.
    """

    detection: Detection
    reviewer: str
    verdict: Verdict | None
    other_label: str = ""
    comment: str = ""
    time: str = ""

    def __post_init__(self) -> None:
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise UserError(f"The verdict is {self.verdict!r}; give {', '.join(VERDICTS)} or none.")
        if self.reviewer != TABLE_REVIEWER:
            check_reviewer(self.reviewer)
        if self.other_label:
            self._check_other_label()
        if len(self.comment) > LONGEST_COMMENT:
            raise UserError(
                f"The comment has {len(self.comment):,} characters; give {LONGEST_COMMENT:,} at "
                "most."
            )
        if any(unicodedata.category(character) in CONTROLS for character in self.comment):
            raise UserError("The comment has line breaks or control characters; remove them.")
        if not self.time:
            object.__setattr__(self, "time", datetime.now(UTC).isoformat(timespec="milliseconds"))

    def _check_other_label(self) -> None:
        if self.verdict != "wrong":
            raise UserError("Only a wrong detection has another label; mark it wrong.")
        check_name(self.other_label, "other label")
        if self.other_label == self.detection.label:
            raise UserError("The other label is the detection's own; mark it right instead.")
        if self.other_label.casefold() == RESERVED_LABEL:
            raise UserError(f"The label {self.other_label!r} is reserved; leave it out.")

    def says_as(self, other: "Mark | None") -> bool:
        """Whether another mark says the same, whenever it was made."""
        return other is not None and (self.verdict, self.other_label, self.comment) == (
            other.verdict,
            other.other_label,
            other.comment,
        )


def check_name(name: str, what: str) -> None:
    """Raises UserError unless a name is short, printable, and no formula of a spreadsheet."""
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise UserError(f"The {what} must be 1 to {LONGEST_NAME} printable characters.")
    if FORMULA.search(name):
        raise UserError(
            f"The {what} {name!r} would be a formula in a spreadsheet; let no part of it begin "
            "with =, +, - or @."
        )


def check_reviewer(name: str) -> None:
    """As `check_name`, and the name of the table's own verdicts is nobody's."""
    check_name(name, "reviewer's name")
    if name.casefold() == TABLE_REVIEWER:
        raise UserError(f"The name {name!r} is kept for verdicts of the table; give another.")


class Marks:
    """The marks that stand, of each reviewer in the order in which they were made."""

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self._standing: dict[str, list[Mark]] = defaultdict(list)
        for mark in marks:
            self.add(mark)

    def add(self, mark: Mark) -> None:
        """Lets a mark stand, before those of its reviewer that were made earlier."""
        self._standing[mark.reviewer].append(mark)

    def last(self, reviewer: str, among: Collection[Detection]) -> Mark | None:
        """A reviewer's last mark of one of some detections."""
        marks = reversed(self._standing.get(reviewer, []))
        return next((mark for mark in marks if mark.detection in among), None)

    def take_back(self, reviewer: str, detection: Detection) -> None:
        """Removes a reviewer's last mark of a detection: the one before it stands again."""
        mark = self.last(reviewer, (detection,))
        if mark is not None:
            marks = self._standing[reviewer]
            del marks[len(marks) - 1 - marks[::-1].index(mark)]

    def reviewers(self) -> list[str]:
        """Who has marks, sorted."""
        return sorted(name for name, marks in self._standing.items() if marks)

    def of(self, reviewer: str) -> dict[Detection, Mark]:
        """A reviewer's mark of each detection that has one."""
        return {mark.detection: mark for mark in self._standing.get(reviewer, [])}

    def judged(self, among: Collection[Detection]) -> dict[str, dict[Detection, Verdict]]:
        """The verdicts of each reviewer, in the order of names, on some detections."""
        return {
            name: {
                detection: mark.verdict
                for detection, mark in self.of(name).items()
                if mark.verdict is not None and detection in among
            }
            for name in self.reviewers()
        }

    def by_detection(self) -> dict[Detection, list[Mark]]:
        """The reviewers' marks of each detection, in the order of their names."""
        found: dict[Detection, list[Mark]] = defaultdict(list)
        for reviewer in self.reviewers():
            for detection, mark in self.of(reviewer).items():
                found[detection].append(mark)
        return found


class MarkLog:
    """Marks and a file of JSON lines in which each is on the disk before it counts.

    `stated` are marks that stand elsewhere, before those of the file.

    A line is a mark, or with `"undo": true` says that its reviewer took back the last one of that
    detection. A torn last line, as a power cut leaves it, was never confirmed and is cut off. Only
    one process may have it open. Raises UserError for a line that is no mark, OSError for a disk
    that does not take it.
    """

    def __init__(self, path: Path, stated: Iterable[Mark] = ()) -> None:
        self._path = path
        self.marks = Marks(stated)
        is_new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if is_new:
                sync(str(path.parent))  # The name too, not only the content.
            self._size = self._replay()
        except BaseException:
            self.close()
            raise

    def _replay(self) -> int:
        """Reads what is there; bytes of whole lines."""
        content = self._path.read_bytes()
        *lines, torn = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            if line.strip() and not self._apply(line):
                raise UserError(f"{self._path}, line {number} is no mark; correct or remove it.")
        size = len(content) - len(torn)
        if torn.strip() and self._apply(torn):
            # Whole but for its end, as an editor may leave it.
            return len(content) + os.pwrite(self._file, b"\n", len(content))
        os.ftruncate(self._file, size)
        return size

    def _apply(self, line: bytes) -> bool:
        """Does what a line says; False if it is no mark."""
        try:
            values = json.loads(line)
            detection = Detection(**values.pop("detection"))
            if values.pop("undo", False):
                self.marks.take_back(values["reviewer"], detection)
            else:
                self.marks.add(Mark(detection=detection, **values))
        except (ValueError, TypeError, KeyError, AttributeError, UserError):
            return False
        return True

    def add(self, mark: Mark) -> None:
        """Keeps a mark, unless its reviewer has said the same already."""
        if not mark.says_as(self.marks.last(mark.reviewer, (mark.detection,))):
            self._append(asdict(mark))
            self.marks.add(mark)

    def undo(self, reviewer: str, among: Collection[Detection]) -> Mark | None:
        """Takes back a reviewer's last mark of one of some detections, and gives it."""
        mark = self.marks.last(reviewer, among)
        if mark is not None:
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            undone = {"undo": True, "detection": asdict(mark.detection), "reviewer": reviewer}
            self._append(undone | {"time": time})
            self.marks.take_back(reviewer, mark.detection)
        return mark

    def _append(self, values: Mapping[str, Any]) -> None:
        line = json.dumps(values).encode() + b"\n"
        try:
            done = 0
            while done < len(line):
                done += os.pwrite(self._file, line[done:], self._size + done)
            os.fsync(self._file)
        except OSError:
            # What is half there must not be the beginning of the next line.
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


@dataclass(frozen=True)
class Outcome:
    """What the marks of a detection add up to.

    `verdict` is that of all who decided (right or wrong), empty where nobody did or they disagree.
    `disagreement` names what they disagree in: `verdict`, `other_label`, or nothing.
    """

    verdict: Decided = ""
    other_label: str = ""
    comment: str = ""
    reviewers: str = ""
    disagreement: Literal["verdict", "other_label", ""] = ""


def outcome_of(marks: Sequence[Mark]) -> Outcome:
    """What several reviewers' marks of one detection add up to; each has one at most.

    A reviewer who is unsure does not decide. Of other labels the only one that is named counts.
    In the comment, each begins with its reviewer's name, and no cell with what a spreadsheet would
    take for a formula.
    """
    decided = {mark.verdict for mark in marks if mark.verdict in ("right", "wrong")}
    others = {mark.other_label for mark in marks if mark.other_label}
    said = " | ".join(f"{mark.reviewer}: {mark.comment}" for mark in marks if mark.comment)
    comment = FORMULA.sub(lambda found: found[0] + "'", said)
    names = ", ".join(mark.reviewer for mark in marks if mark.verdict is not None)
    if len(decided) > 1:
        return Outcome("", "", comment, names, "verdict")
    verdict: Decided = "right" if "right" in decided else "wrong" if decided else ""
    if len(others) > 1:
        return Outcome(verdict, "", comment, names, "other_label")
    return Outcome(verdict, next(iter(others), ""), comment, names)


@dataclass(frozen=True)
class Agreement:
    """How far two reviewers agree in the `shared` detections that both judged.

    `equal` is the share of equal verdicts (unsure is one), `kappa` Cohen's (1960), which takes
    away what chance would give; None where both gave one and the same verdict throughout.
    """

    first: str
    second: str
    shared: int
    equal: float
    kappa: float | None


def agreements(judged: Mapping[str, Mapping[Detection, Verdict]]) -> list[Agreement]:
    """The agreement of each pair of reviewers who judged some of the same detections."""
    found = []
    for first, second in combinations(judged, 2):
        shared = judged[first].keys() & judged[second].keys()
        if shared:
            pairs = [(judged[first][one], judged[second][one]) for one in shared]
            equal = sum(one == other for one, other in pairs) / len(pairs)
            found.append(Agreement(first, second, len(pairs), equal, _kappa(pairs)))
    return found


def _kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    from sklearn.metrics import cohen_kappa_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is said by None.
        value = float(cohen_kappa_score(*zip(*pairs, strict=True)))
    return value if math.isfinite(value) else None
