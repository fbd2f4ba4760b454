"""Overlaps: recordings of a site that cover the same time, and what the later one loses."""

from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.dataset import Dataset
from pipeline.deployments import joined
from pipeline.scored import KEYS, Key, read_covered, scored_windows, to_table, window_rule

_CUT = pa.schema([*KEYS, ("begin_us", pa.int64()), ("from_us", pa.int64())])
_KEPT = pa.schema([*KEYS, ("from_s", pa.float64()), ("kept", pa.int64())])


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
        rule = window_rule(dataset)
        keys: list[Key] = [(site, recording, channel) for site, channel, recording, *_ in found]
        covered = read_covered(dataset, keys)
        for _, group in groupby(found, key=lambda row: (row[0], row[1], row[4])):
            end_us: int | None = None
            for site, channel, recording, begin_us, _ in group:
                key = (site, recording, channel)
                scored = scored_windows(rule, covered[key])
                starts = begin_us + _microseconds(scored.start_s)
                if end_us is not None and begin_us < end_us:
                    cut.append((*key, begin_us, end_us))
                    rows = covered[key].rows
                    remaining = np.bincount(scored.row[starts >= end_us], minlength=len(rows))
                    kept += [
                        (*key, row.from_s, int(count))
                        for row, count in zip(rows, remaining, strict=True)
                    ]
                ends = begin_us + _microseconds(scored.end_s)
                end_us = max([*([] if end_us is None else [end_us]), *ends[-1:].tolist()])
    return to_table(cut, _CUT), to_table(kept, _KEPT)


def us(seconds: str) -> str:
    """SQL of seconds in whole microseconds, rounded as `_microseconds` rounds."""
    return f"CAST(floor({seconds} * 1e6 + 0.5) AS BIGINT)"


def _microseconds(seconds: npt.ArrayLike) -> npt.NDArray[np.int64]:
    return np.floor(np.asarray(seconds, np.float64) * 1e6 + 0.5).astype(np.int64)
