"""Activity: windows above a label's threshold, divided by the windows scored at the same time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa

from model.errors import UserError
from pipeline.overlaps import SAME, overlaps, us
from pipeline.text import listed

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

By = Literal["hour", "date", "diel"]

METADATA_KEY = b"dawnchorus_activity"
"""Key of the table's metadata: JSON with by, time_zone, thresholds and what was left out."""

_BUCKETS = {
    "hour": ("hour", "CAST(date_trunc('hour', {at}) AS TIMESTAMP)"),
    "date": ("date", "CAST({at} AS DATE)"),
    "diel": ("hour", "CAST(hour({at}) AS INTEGER)"),
}
"""Name and SQL of the time column; `at` is a row's time on the clock or in the zone."""


def activity(
    dataset: "Dataset", by: By, thresholds: Mapping[str, float], time_zone: str | None = None
) -> pa.Table:
    """Positive windows, scored windows and their ratio, per label, site and time.

    A window is positive for a label whose score is at or above the label's threshold; of
    single-label bundles only the top label counts. `by` is "hour" (a clock hour of one day),
    "date" or "diel" (hour of the day, pooled over dates). Columns: label string, site string,
    channel int8 (only where the dataset holds each channel), then hour timestamp[us] ("hour"),
    date date32 ("date") or hour int32 ("diel"), windows_positive int64, windows_scored int64,
    activity float64. Every label of the bundle has a row where windows were scored, also with
    0 positive; times without scored windows have none.

    Times are clock times, or with `time_zone` (an IANA name) that zone's, from `start_utc`; the
    two equal hours when daylight saving ends are one row. Recordings of a site that overlap
    count once: windows of the later one (of two that begin together, the one that sorts last)
    that start before the end of what was scored of the earlier one are left out. So are windows
    without a time. How many were left out stands in the table's metadata (`details`).

    Raises UserError for a label without a threshold, a threshold outside 0 to 1 or below what
    the dataset keeps, an unknown zone, or a zone where no recording tells its offset from UTC.
    """
    if by not in get_args(By):
        raise UserError(f"Activity is by {', '.join(get_args(By))}, not by {by!r}.")
    _check_thresholds(dataset, thresholds)
    connection = dataset.connection
    dated = "start_clock IS NOT NULL"
    if time_zone is not None:
        _check_zone(connection, time_zone)
        dated = "start_utc IS NOT NULL"
    left_out = _undated(connection, time_zone)
    cut, kept = overlaps(dataset, dated)
    labels = list(dataset.identity["labels"])
    given = pa.table(
        {
            "label": pa.array(labels, pa.string()),
            "number": pa.array(range(len(labels)), pa.int64()),
            # A score is a float32, and so is what "at or above" compares it with.
            "threshold": pa.array(np.array([thresholds[x] for x in labels], np.float32)),
        }
    )
    tables = {"activity_given": given, "activity_cut": cut, "activity_kept": kept}
    for name, registered in tables.items():
        connection.register(name, registered)
    try:
        table = connection.sql(_query(dataset, by, dated, time_zone)).to_arrow_table()
        lost = "SELECT coalesce(sum(c.windows_scored - o.kept), 0) FROM coverage c"
        lost += f" JOIN activity_kept o ON {SAME} AND c.from_s = o.from_s"
        left_out["overlapping"] = int(_one(connection, lost)[0])
    finally:
        for name in tables:
            connection.unregister(name)
    about = {
        "by": by,
        "time_zone": time_zone,
        "thresholds": {label: float(thresholds[label]) for label in labels},
        "windows_left_out": left_out,
    }
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(about)})


def details(table: pa.Table) -> dict[str, Any]:
    """How an activity table was made.

    `by`, `time_zone` (None: clock hours), `thresholds` per label, and `windows_left_out`: scored
    windows that are not in the table, as `undated`, `without_utc` and `overlapping`.
    """
    about: dict[str, Any] = json.loads((table.schema.metadata or {})[METADATA_KEY])
    return about


def resolve_thresholds(
    task: str, labels: Sequence[str], stored: Mapping[str, float] | None, given: Iterable[str]
) -> dict[str, float]:
    """The threshold of each label: the `stored` ones of a bundle, changed by the `given`.

    `given` are texts such as "0.5" (all labels) and "LABEL=0.5", the latter stronger wherever
    they stand. Without stored ones single-label bundles have 0: their top label counts. Raises
    UserError for a label or a number that cannot be read.
    """
    thresholds = dict.fromkeys(labels, 0.0) if task == "singlelabel" else {}
    thresholds.update({k: v for k, v in (stored or {}).items() if k in labels})
    named: dict[str, float] = {}
    for text in given:
        label, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise UserError(
                f"--threshold {text} is neither a number nor LABEL=NUMBER, such as 0.5."
            ) from None
        if not equals:
            thresholds.update(dict.fromkeys(labels, value))
        elif label not in labels:
            raise UserError(
                f"--threshold {text} names no label of the dataset; it has {listed(labels)}."
            )
        else:
            named[label] = value
    return thresholds | named


def _check_thresholds(dataset: "Dataset", thresholds: Mapping[str, float]) -> None:
    identity = dataset.identity
    missing = [label for label in identity["labels"] if label not in thresholds]
    if missing:
        raise UserError(
            f"There is no threshold for {listed(missing)}: give --threshold, or a bundle with "
            "all labels of the dataset as --thresholds."
        )
    least = float(identity["min_score"])
    for label in identity["labels"]:
        value = thresholds[label]
        if not 0 <= value <= 1:
            raise UserError(f"The threshold of {label!r} is {value:g}; it must be from 0 to 1.")
        # The top label of a single-label bundle is kept whatever its score.
        if identity["task"] != "singlelabel" and np.float32(value) < np.float32(least):
            raise UserError(
                f"The threshold of {label!r} is {value:g}, but the dataset keeps scores from "
                f"{least:g} on: give a --threshold of {least:g} or more, or detect into another "
                "output with a lower --min-score."
            )


def _check_zone(connection: Any, time_zone: str) -> None:
    known = "SELECT count(*) FROM pg_timezone_names() WHERE name = ?"
    if not _one(connection, known, time_zone)[0]:
        raise UserError(
            f"The time zone {time_zone!r} is not known; give an IANA name such as Europe/Berlin."
        )


def _undated(connection: Any, time_zone: str | None) -> dict[str, int]:
    """Scored windows that have no time; UserError where a zone is asked for and none has one."""
    scored, undated, without_utc = _one(
        connection,
        """SELECT coalesce(sum(windows_scored), 0),
        coalesce(sum(windows_scored) FILTER (start_clock IS NULL), 0),
        coalesce(sum(windows_scored) FILTER (start_clock IS NOT NULL AND start_utc IS NULL), 0)
        FROM coverage""",
    )
    if time_zone is None:
        return {"undated": int(undated), "without_utc": 0}
    if scored and scored == undated + without_utc:
        raise UserError(
            "No recording of the dataset tells its offset from UTC, so --time-zone cannot place "
            "it: leave it out, and hours are what the recorders' clocks showed."
        )
    return {"undated": int(undated), "without_utc": int(without_utc)}


def _query(dataset: "Dataset", by: By, dated: str, time_zone: str | None) -> str:
    column, bucket = _BUCKETS[by]
    # The zone was found in DuckDB's own list of names, so it holds no quote.
    bucket = bucket.format(
        at="start_clock" if time_zone is None else f"timezone('{time_zone}', start_utc)"
    )
    keys = ["site", *(["channel"] if dataset.identity["channel"] == "each" else []), column]
    names = ", ".join(keys)
    equal = " AND ".join(f"p.{key} = s.{key}" for key in keys)
    top = ""
    if dataset.identity["task"] == "singlelabel":
        window = "p.site, p.recording, p.channel, p.start_s"
        top = f"QUALIFY row_number() OVER (PARTITION BY {window} ORDER BY score DESC, number) = 1"
    return f"""
        WITH counted AS (
            SELECT p.*, number, threshold FROM predictions p JOIN activity_given USING (label)
            WHERE {dated} {"" if top else "AND score >= threshold"} {top}
        ), positive AS (
            SELECT label, {names}, count(*) AS windows FROM (
                SELECT label, c.site, c.channel, {bucket} AS {column}
                FROM counted c LEFT JOIN activity_cut o ON {SAME}
                WHERE score >= threshold
                AND (o.from_us IS NULL OR o.begin_us + {us("start_s")} >= o.from_us)
            ) GROUP BY ALL
        ), scored AS (
            SELECT {names}, CAST(sum(windows) AS BIGINT) AS windows FROM (
                SELECT c.site, c.channel, {bucket} AS {column},
                    coalesce(o.kept, c.windows_scored) AS windows
                FROM coverage c
                LEFT JOIN activity_kept o ON {SAME} AND c.from_s = o.from_s
                WHERE {dated}
            ) GROUP BY {names} HAVING sum(windows) > 0
        )
        SELECT g.label, {", ".join(f"s.{key}" for key in keys)},
            coalesce(p.windows, 0) AS windows_positive, s.windows AS windows_scored,
            coalesce(p.windows, 0) / s.windows AS activity
        FROM activity_given g CROSS JOIN scored s LEFT JOIN positive p
        ON g.label = p.label AND {equal}
        ORDER BY number, {", ".join(f"s.{key}" for key in keys)}"""


def _one(connection: Any, query: str, *values: object) -> tuple[Any, ...]:
    """The only row of a query."""
    rows: list[tuple[Any, ...]] = connection.sql(query, params=list(values) or None).fetchall()
    return rows[0]
