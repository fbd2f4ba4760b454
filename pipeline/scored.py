"""Which windows of a recording were scored: its plan, less what coverage and errors say is lost."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model.windows import WindowPlan, WindowRule
from pipeline.dataset import Dataset, registered

KEYS = pa.schema([("site", pa.string()), ("recording", pa.string()), ("channel", pa.int8())])
"""Columns that tell a recording and channel."""

SAME = "c.site = o.site AND c.recording = o.recording AND c.channel IS NOT DISTINCT FROM o.channel"
"""SQL: a row `c` of a table and a row `o` of another are of one recording and channel."""

Key = tuple[str, str, int | None]


def window_rule(dataset: Dataset) -> WindowRule:
    """How the recordings of a dataset were cut."""
    identity = dataset.identity
    return WindowRule(float(identity["window_s"]), float(identity["hop_s"]), identity["tail"])


@dataclass(frozen=True)
class CoverageRow:
    """A row of coverage of one recording and channel, as far as it tells what was scored."""

    from_s: float
    to_s: float
    windows_scored: int
    duration_s: float
    sample_rate: int
    start_clock: datetime | None
    start_utc: datetime | None


@dataclass
class Covered:
    """Rows of coverage of one recording and channel, and its runs of lost windows.

    `lost` are (start in seconds, number of windows) of each run; both are sorted by time.
    """

    rows: list[CoverageRow] = field(default_factory=list)
    lost: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Scored:
    """Scored windows of a recording in order: bounds, and the rows of coverage they belong to.

    `start_s` and `end_s` (n,) float64, of `WindowPlan.bounds`; `row` (n,) int64.
    """

    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    row: npt.NDArray[np.int64]


def read_covered(dataset: Dataset, keys: Sequence[Key]) -> dict[Key, Covered]:
    """What coverage and errors say of the recordings and channels asked for."""
    found: dict[Key, Covered] = {key: Covered() for key in keys}
    names = to_table(keys, KEYS)
    with registered(dataset.connection, covered_keys=names):

        def rows(table: str, columns: str) -> list[tuple[Any, ...]]:
            fetched: list[tuple[Any, ...]] = dataset.connection.sql(
                f"""SELECT c.site, c.recording, c.channel, c.from_s, {columns}
                FROM {table} c JOIN covered_keys o ON {SAME}
                WHERE c.from_s IS NOT NULL ORDER BY c.from_s"""
            ).fetchall()
            return fetched

        facts = ("to_s", "windows_scored", "duration_s", "sample_rate", "start_clock")
        columns = ", ".join(f"c.{name}" for name in facts)
        # The driver makes of a time with a zone what the machine's zone is: UTC is kept apart.
        for site, recording, channel, *values in rows(
            "coverage", f"{columns}, timezone('UTC', c.start_utc)"
        ):
            found[site, recording, channel].rows.append(CoverageRow(*values))
        for site, recording, channel, *run in rows("errors", "c.windows_lost"):
            found[site, recording, channel].lost.append((run[0], run[1]))
    return found


def scored_windows(rule: WindowRule, covered: Covered) -> Scored:
    """The windows of the plan that were scored: all in rows of coverage but those lost.

    Where a recording changed and only some of its shards were done again, each row goes by the
    plan of its own version.
    """
    from_s, to_s = (np.array([getattr(row, x) for row in covered.rows]) for x in ("from_s", "to_s"))
    scored_at_all = np.array([row.windows_scored > 0 for row in covered.rows])
    versions = [(row.duration_s, row.sample_rate) for row in covered.rows]
    parts = []
    for duration_s, rate in dict.fromkeys(versions):
        start_s, end_s = _bounds(rule, duration_s, rate)
        row = np.searchsorted(from_s, start_s, side="right") - 1
        own = scored_at_all & [version == (duration_s, rate) for version in versions]
        scored = (row >= 0) & own[row] & (start_s < to_s[row])
        for lost_s, windows in covered.lost:
            if own[np.searchsorted(from_s, lost_s, side="right") - 1]:
                # Lost windows follow each other, whatever the run's end says where they overlap.
                number = int(np.searchsorted(start_s, lost_s))
                scored[number : number + windows] = False
        parts.append((start_s[scored], end_s[scored], row[scored]))
    start_s, end_s, row = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(start_s, kind="stable")
    return Scored(start_s[order], end_s[order], row[order])


@functools.lru_cache(maxsize=8)
def _bounds(
    rule: WindowRule, duration_s: float, rate: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Bounds of all windows, in seconds; kept, as recordings mostly last as long as the last one.

    Tables hold the same quotients, so that times can be compared as they are.
    """
    first, stop = WindowPlan(rule, round(duration_s * rate), rate).bounds()
    return first / rate, stop / rate


def to_table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of the schema."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
