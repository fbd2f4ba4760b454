"""What a shard holds, in numbers: bound into its commit record, so that no part need be read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MICRO = 1e-6


@dataclass
class Tally:
    """Windows and seconds of coverage, errors by reason, and predictions by label.

    Seconds are counted in whole microseconds, so that they are the same in whatever order, and in
    however many tables, the rows come. `errors` has of each reason recordings, windows and
    microseconds that were lost.
    """

    windows_expected: int = 0
    windows_scored: int = 0
    expected_us: int = 0
    scored_us: int = 0
    errors: dict[str, list[int]] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    _last: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def add(self, table: str, rows: pa.Table) -> None:
        """Counts rows of a table of that name, sorted by recording over all calls."""
        if table == "coverage":
            self.windows_expected += pc.sum(rows["windows_expected"]).as_py()
            self.windows_scored += pc.sum(rows["windows_scored"]).as_py()
            self.expected_us += _micros(rows["seconds_expected"])
            self.scored_us += _micros(rows["seconds_scored"])
        elif table == "predictions":
            for count in pc.value_counts(rows["label"].combine_chunks()):
                self.labels[str(count["values"])] += count["counts"].as_py()
        elif table == "errors":
            for row in rows.select(
                ["recording", "reason", "from_s", "to_s", "windows_lost"]
            ).to_pylist():
                self._add_error(row)

    def _add_error(self, row: dict[str, Any]) -> None:
        numbers = self.errors.setdefault(row["reason"], [0, 0, 0])
        numbers[0] += self._last.get(row["reason"]) != row["recording"]
        self._last[row["reason"]] = row["recording"]
        numbers[1] += row["windows_lost"]
        if row["from_s"] is not None and row["to_s"] is not None:
            numbers[2] += round((row["to_s"] - row["from_s"]) / MICRO)

    def add_json(self, values: dict[str, Any]) -> None:
        """Adds the numbers of another tally, as `to_json` gives them."""
        self.windows_expected += values["windows"][0]
        self.windows_scored += values["windows"][1]
        self.expected_us += values["micros"][0]
        self.scored_us += values["micros"][1]
        for reason, numbers in values["errors"].items():
            mine = self.errors.setdefault(reason, [0, 0, 0])
            self.errors[reason] = [a + b for a, b in zip(mine, numbers, strict=True)]
        for label, count in values["labels"].items():
            self.labels[label] += count

    def to_json(self) -> dict[str, Any]:
        """As plain values, the names sorted."""
        return {
            "windows": [self.windows_expected, self.windows_scored],
            "micros": [self.expected_us, self.scored_us],
            "errors": dict(sorted(self.errors.items())),
            "labels": dict(sorted(self.labels.items())),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Tally":
        """The tally that `to_json` wrote."""
        expected, scored = values["windows"]
        expected_us, scored_us = values["micros"]
        errors, labels = dict(values["errors"]), Counter(values["labels"])
        return cls(expected, scored, expected_us, scored_us, errors, labels)


def _micros(seconds: pa.ChunkedArray) -> int:
    whole = pc.cast(pc.round(pc.divide(seconds, MICRO)), pa.int64())
    return int(pc.sum(whole).as_py())
