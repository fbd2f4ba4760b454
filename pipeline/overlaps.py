"""Overlaps: recordings of a site that cover the same time, and what the later one loses."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model.windows import WindowPlan, WindowRule
from pipeline.dataset import Dataset, registered
from pipeline.deployments import joined

_KEYS = pa.schema([("site", pa.string()), ("recording", pa.string()), ("channel", pa.int8())])
_CUT = pa.schema([*_KEYS, ("begin_us", pa.int64()), ("from_us", pa.int64())])
_KEPT = pa.schema([*_KEYS, ("from_s", pa.float64()), ("kept", pa.int64())])

SAME = "c.site = o.site AND c.recording = o.recording AND c.channel IS NOT DISTINCT FROM o.channel"
"""SQL: a row `c` of a table and a row `o` of overlaps are of one recording and channel."""


def overlaps(dataset: Dataset, dated: str) -> tuple[pa.Table, pa.Table]:
    """What overlapping recordings lose: where each later one begins to count, and row by row.

    `dated` is SQL: which rows, `joined` with their deployment, count at all. The relation
    `deployments` must be there.

    The first table has begin_us and from_us of every recording that starts before an earlier one
    of its site ends: only its windows that start at from_us or later count. The second has the
    scored windows that such a recording keeps in each row of coverage. Recordings are compared
    in UTC where all of a site's have it, else on the clock, which may be set while it runs.
    """
    found = dataset.connection.sql(
        f"""
        WITH dated AS (
            SELECT *, bool_and(utc IS NOT NULL) OVER (PARTITION BY site) AS absolute
            FROM {joined("coverage", "from_s")} WHERE {dated} AND windows_scored > 0
        ), recordings AS (
            SELECT site, channel, recording,
                arg_min(epoch_us(CASE WHEN absolute THEN timezone('UTC', utc)
                    ELSE start_clock END), from_s) - {us("min(from_s)")} AS begin_us,
                least(max(to_s) + {float(dataset.identity["window_s"])!r}, max(duration_s))
                    AS most_s
            FROM dated GROUP BY site, channel, recording
        ), before AS (
            SELECT *, max(begin_us + {us("most_s")}) OVER (
                PARTITION BY site, channel ORDER BY begin_us, recording
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) > begin_us AS follows
            FROM recordings
        ), clusters AS (
            SELECT *, count(*) FILTER (follows IS NOT TRUE) OVER (
                PARTITION BY site, channel ORDER BY begin_us, recording) AS number
            FROM before
        )
        SELECT site, channel, recording, begin_us, number FROM clusters
        QUALIFY bool_or(follows) OVER (PARTITION BY site, channel, number)
        ORDER BY site, channel, begin_us, recording"""
    ).fetchall()
    cut: list[tuple[Any, ...]] = []
    kept: list[tuple[Any, ...]] = []
    if found:
        rows, lost = _details_of(dataset.connection, found)
        rule = WindowRule(
            float(dataset.identity["window_s"]),
            float(dataset.identity["hop_s"]),
            dataset.identity["tail"],
        )
        for _, group in groupby(found, key=lambda row: (row[0], row[1], row[4])):
            end_us: int | None = None
            for site, channel, recording, begin_us, _ in group:
                key = (site, recording, channel)
                scored = _scored(rule, rows[key], lost.get(key, []))
                starts = begin_us + _microseconds(scored.start_s)
                if end_us is not None and begin_us < end_us:
                    cut.append((*key, begin_us, end_us))
                    remaining = np.bincount(
                        scored.row[starts >= end_us], minlength=len(scored.from_s)
                    )
                    kept += [
                        (*key, from_s, int(count))
                        for from_s, count in zip(scored.from_s, remaining, strict=True)
                    ]
                ends = begin_us + _microseconds(scored.end_s)
                end_us = max([*([] if end_us is None else [end_us]), *ends[-1:].tolist()])
    return _table(cut, _CUT), _table(kept, _KEPT)


def us(seconds: str) -> str:
    """SQL of seconds in whole microseconds, rounded as `_microseconds` rounds."""
    return f"CAST(floor({seconds} * 1e6 + 0.5) AS BIGINT)"


def _microseconds(seconds: npt.ArrayLike) -> npt.NDArray[np.int64]:
    return np.floor(np.asarray(seconds, np.float64) * 1e6 + 0.5).astype(np.int64)


def _details_of(
    connection: Any, found: list[tuple[Any, ...]]
) -> tuple[dict[Any, list[tuple[Any, ...]]], dict[Any, list[tuple[Any, ...]]]]:
    """Rows of coverage and of errors of the recordings found, by (site, recording, channel)."""
    names = _table([(site, recording, channel) for site, channel, recording, *_ in found], _KEYS)
    with registered(connection, activity_found=names):
        rows, lost = (
            connection.sql(
                f"""SELECT c.site, c.recording, c.channel, c.from_s, {columns}
                FROM {table} c JOIN activity_found o ON {SAME}
                WHERE c.from_s IS NOT NULL ORDER BY c.from_s"""
            ).fetchall()
            for table, columns in (
                ("coverage", "c.windows_scored, c.windows_expected, c.duration_s, c.sample_rate"),
                ("errors", "c.windows_lost"),
            )
        )
    grouped: tuple[dict[Any, list[Any]], dict[Any, list[Any]]] = ({}, {})
    for fetched, by_key in zip((rows, lost), grouped, strict=True):
        for site, recording, channel, *values in fetched:
            by_key.setdefault((site, recording, channel), []).append(tuple(values))
    return grouped


@dataclass(frozen=True)
class _Scored:
    """Scored windows of a recording in order, and the rows of coverage that they belong to."""

    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    row: npt.NDArray[np.int64]
    from_s: list[float]


def _scored(
    rule: WindowRule, rows: list[tuple[Any, ...]], lost: list[tuple[float, int]]
) -> _Scored:
    """The windows of the plan that were scored: all in `rows` but the runs `lost`."""
    duration_s, rate = rows[0][3], rows[0][4]
    plan = WindowPlan(rule, round(duration_s * rate), rate)
    start_s = plan.starts() / rate
    end_s = np.array([plan.end(k) for k in range(plan.count)], np.float64) / rate
    from_s = [row[0] for row in rows]
    # Bounds were written as the same quotients; the margin only forgives another rounding.
    margin = 0.25 / rate
    row = np.searchsorted(np.array(from_s) - margin, start_s, side="right") - 1
    scored = row >= 0
    for index, (_, windows_scored, windows_expected, *_rest) in enumerate(rows):
        if windows_scored == 0 and windows_expected > 0:
            scored[row == index] = False
    for first_s, windows in lost:
        # Lost windows follow each other, whatever the run's end says where windows overlap.
        first = int(np.searchsorted(start_s, first_s - margin))
        scored[first : first + windows] = False
    return _Scored(start_s[scored], end_s[scored], row[scored], from_s)


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
