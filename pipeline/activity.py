"""Activity: windows above a label's threshold, divided by the windows scored at the same time."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from model.errors import UserError
from pipeline.dataset import Dataset, registered
from pipeline.deployments import joined, to_table
from pipeline.overlaps import overlaps, us
from pipeline.scored import SAME
from pipeline.text import count
from pipeline.thresholds import check_thresholds

By = Literal["hour", "date", "diel"]

CLOCK = "clock"
"""In place of a time zone: what the recorders' clocks showed, whatever deployments say."""

SITES = "deployments"
"""In place of a time zone in the metadata: each site's own, from deployments."""

METADATA_KEY = b"dawnchorus_activity"
"""Key of the table's metadata: JSON with by, time_zone, thresholds and what was left out."""

_BUCKETS = {
    "hour": ("hour", "CAST(date_trunc('hour', moment) AS TIMESTAMP)"),
    "date": ("date", "CAST(moment AS DATE)"),
    "diel": ("hour", "CAST(hour(moment) AS INTEGER)"),
}
"""Name and SQL of the time column."""


def activity(
    dataset: Dataset, by: By, thresholds: Mapping[str, float], time_zone: str | None = None
) -> pa.Table:
    """Positive windows, scored windows and their ratio, per label, site and time.

    A window is positive for a label whose score is at or above the label's threshold; of
    single-label bundles only the top label counts. `by` is "hour" (a clock hour of one day),
    "date" or "diel" (hour of the day, pooled over dates). Columns: label string, site string,
    channel int8 (only where the dataset holds each channel), then hour timestamp[us] ("hour"),
    date date32 ("date") or hour int32 ("diel"), windows_positive int64, windows_scored int64,
    activity float64. Every label of the bundle has a row where windows were scored, also with
    0 positive; times without scored windows have none.

    Times are each site's own where the dataset has deployments, else clock times; with
    `time_zone`, an IANA name, they are that zone's, and with `CLOCK` clock times. UTC is what the
    file itself tells, else what the deployment makes of the clock; the two equal hours when
    daylight saving ends are one row. Recordings of a site that overlap count once: windows of
    the later one (of two that begin together, the one that sorts last) that start before the end
    of what was scored of the earlier one are left out. So are windows without such a time. How
    many were left out stands in the table's metadata (`details`).

    Raises UserError for a label without a threshold, a threshold outside 0 to 1 or below what
    the dataset keeps, an unknown zone, deployments that cannot be read, or where nothing that was
    scored has a time in the zone.
    """
    if by not in get_args(By):
        raise UserError(f"Activity is by {', '.join(get_args(By))}, not by {by!r}.")
    with counted(dataset, thresholds, time_zone) as found:
        table = dataset.connection.sql(_query(dataset, by, found)).to_arrow_table()
    labels = list(dataset.identity["labels"])
    about = {
        "by": by,
        "time_zone": None if found.zone == CLOCK else found.zone,
        "thresholds": {label: float(thresholds[label]) for label in labels},
        "windows_left_out": found.left_out,
    }
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(about)})


@dataclass(frozen=True)
class Counted:
    """What counts in a dataset, as SQL in brackets of its `connection`.

    `positive`: a row for each positive window, with label, site, channel and its time `moment`.
    `scored`: rows with site, channel, moment and the number of `windows` scored from then on.
    `coverage`: all rows of coverage, with their deployment (`joined`) and moment. Where the time is
    not known moment is null. `zone` says whose times they are, `left_out` which scored windows have
    none, or are in neither because they overlap (see `details`).
    """

    positive: str
    scored: str
    coverage: str
    zone: str
    left_out: dict[str, int]


@contextmanager
def counted(
    dataset: Dataset, thresholds: Mapping[str, float], time_zone: str | None = None
) -> Iterator[Counted]:
    """What `activity` counts, within the block; its options and errors.

    The relation `activity_given` has label, its number and its threshold.
    """
    check_thresholds(dataset, thresholds)
    connection = dataset.connection
    deployments = dataset.deployments()
    zone = time_zone or (CLOCK if deployments is None else SITES)
    at = _time(connection, zone)
    dated = f"{at} IS NOT NULL"
    labels = list(dataset.identity["labels"])
    given = pa.table(
        {
            "label": pa.array(labels, pa.string()),
            "number": pa.array(range(len(labels)), pa.int64()),
            # A score is a float32, and so is what "at or above" compares it with.
            "threshold": pa.array(np.array([thresholds[x] for x in labels], np.float32)),
        }
    )
    with registered(connection, deployments=to_table(deployments or ())):
        left_out = _undated(connection, zone, dated)
        cut, kept = overlaps(dataset, dated)
        with registered(connection, activity_given=given, activity_cut=cut, activity_kept=kept):
            coverage = f"(SELECT *, {at} AS moment FROM {joined('coverage', 'from_s')})"
            lost = _one(
                connection,
                f"""SELECT coalesce(sum(c.windows_scored - o.kept), 0) FROM {coverage} c
                JOIN activity_kept o ON {SAME} AND c.from_s = o.from_s WHERE moment IS NOT NULL""",
            )
            left_out["overlapping"] = int(lost[0])
            yield Counted(_positive(dataset, at), _scored(coverage), coverage, zone, left_out)


def details(table: pa.Table) -> dict[str, Any]:
    """How an activity table was made.

    `by`, `time_zone` (None: clock hours; `SITES`: each site's own), `thresholds` per label, and
    `windows_left_out`: scored windows that are not in the table, as `undated`, `without_utc`,
    `without_deployment` and `overlapping`.
    """
    about: dict[str, Any] = json.loads((table.schema.metadata or {})[METADATA_KEY])
    return about


def left_out_notes(left_out: Mapping[str, int]) -> Iterator[str]:
    """A sentence for each reason for which scored windows are left out (`details`)."""
    reasons = {
        "undated": "their recordings have no date and time",
        "without_utc": "their recordings do not tell their offset from UTC",
        "without_deployment": "no deployment tells their time zone",
        "overlapping": "an earlier recording of the site covers them",
    }
    for key, reason in reasons.items():
        if left_out[key]:
            verb = "is" if left_out[key] == 1 else "are"
            yield f"{count(left_out[key], 'scored window')} {verb} left out: {reason}."


def _time(connection: Any, zone: str) -> str:
    """SQL of the time of a row that was `joined`, naive; UserError for an unknown zone."""
    if zone in (CLOCK, SITES):
        return "start_clock" if zone == CLOCK else "site_time"
    known = "SELECT count(*) FROM pg_timezone_names() WHERE name = ?"
    if not _one(connection, known, zone)[0]:
        raise UserError(
            f"The time zone {zone!r} is not known; give an IANA name such as Europe/Berlin."
        )
    # The zone was found in DuckDB's own list of names, so it holds no quote.
    return f"timezone('{zone}', utc)"


def _undated(connection: Any, zone: str, dated: str) -> dict[str, int]:
    """Scored windows without a time; UserError where a zone is asked for and none is in it."""
    scored, undated, outside = _one(
        connection,
        f"""SELECT coalesce(sum(windows_scored), 0),
        coalesce(sum(windows_scored) FILTER (start_clock IS NULL), 0),
        coalesce(sum(windows_scored) FILTER (start_clock IS NOT NULL AND NOT ({dated})), 0)
        FROM {joined("coverage", "from_s")}""",
    )
    left_out = {"undated": int(undated), "without_utc": 0, "without_deployment": 0}
    if zone == CLOCK:
        return left_out
    if scored and scored == undated + outside:
        raise UserError(
            "No deployment tells the time zone of anything that was scored: correct the table "
            "and give it to dawnchorus deployments again, or have the recorders' own hours with "
            "--time-zone clock."
            if zone == SITES
            else "No recording of the dataset tells its offset from UTC, and no deployment does, "
            "so --time-zone cannot place it: leave it out or give --time-zone clock, and hours are "
            "what the recorders' clocks showed."
        )
    return left_out | {"without_deployment" if zone == SITES else "without_utc": int(outside)}


def _positive(dataset: Dataset, at: str) -> str:
    top = ""
    if dataset.identity["task"] == "singlelabel":
        window = "p.site, p.recording, p.channel, p.start_s"
        top = f"QUALIFY row_number() OVER (PARTITION BY {window} ORDER BY score DESC, number) = 1"
    return f"""(
        WITH counted AS (
            SELECT p.*, number, threshold FROM predictions p JOIN activity_given USING (label)
            {top or "WHERE score >= threshold"}
        )
        SELECT label, c.site, c.channel, {at} AS moment
        FROM {joined("counted", "start_s")} c LEFT JOIN activity_cut o ON {SAME}
        WHERE score >= threshold
        AND (o.from_us IS NULL OR o.begin_us + {us("start_s")} >= o.from_us)
    )"""


def _scored(coverage: str) -> str:
    return f"""(
        SELECT c.site, c.channel, moment, coalesce(o.kept, c.windows_scored) AS windows
        FROM {coverage} c LEFT JOIN activity_kept o ON {SAME} AND c.from_s = o.from_s
    )"""


def _query(dataset: Dataset, by: By, found: Counted) -> str:
    column, bucket = _BUCKETS[by]
    keys = ["site", *(["channel"] if dataset.identity["channel"] == "each" else []), column]
    names = ", ".join(keys)
    equal = " AND ".join(f"p.{key} = s.{key}" for key in keys)
    return f"""
        WITH positive AS (
            SELECT label, {names}, count(*) AS windows
            FROM (SELECT *, {bucket} AS {column} FROM {found.positive}) GROUP BY label, {names}
        ), scored AS (
            SELECT {names}, CAST(sum(windows) AS BIGINT) AS windows
            FROM (SELECT *, {bucket} AS {column} FROM {found.scored} WHERE moment IS NOT NULL)
            GROUP BY {names} HAVING sum(windows) > 0
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
