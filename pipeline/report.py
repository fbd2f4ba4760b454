"""The report: what a dataset's page, its plots and their tables show, aggregated in DuckDB."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from pipeline.activity import counted
from pipeline.dataset import Dataset
from pipeline.run_record import read_runs
from pipeline.scored import to_table
from pipeline.sun import sun_hours
from pipeline.unfinished import unfinished_note
from pipeline.verification import bin_sql, detections

STEPS = 20
"""Ranges of the score, of equal width, in which detections are counted."""

NEAR = {"latitude": 1.0, "longitude": 2.0}
"""Degrees within which sites share a sunrise."""

_SUMS = """sum(seconds_expected) AS seconds_expected, sum(seconds_scored) AS seconds_scored,
    sum(seconds_skipped) AS seconds_skipped"""
_SHARE = "windows_positive / windows_scored AS activity"

_TABLES = {
    # Clocks do not tell hours that a site's recordings lack: those have no row.
    "hours": f"""
        SELECT c.site, c.hour, {_SUMS}, coalesce(any_value(s.windows), 0) AS windows_scored
        FROM report_coverage c LEFT JOIN report_scored s ON c.site = s.site AND c.hour = s.hour
        WHERE c.hour IS NOT NULL GROUP BY c.site, c.hour ORDER BY c.site, c.hour""",
    "days": f"""
        SELECT site, CAST(hour AS DATE) AS date, count(DISTINCT recording) AS recordings,
            count(DISTINCT recording) FILTER (duration_s IS NULL) AS unreadable, {_SUMS}
        FROM report_coverage GROUP BY ALL ORDER BY ALL""",
    "gaps": """
        SELECT site, before + 1 AS first_day, date - 1 AS last_day,
            CAST(date - before - 1 AS INTEGER) AS days
        FROM (SELECT site, date, lag(date) OVER (PARTITION BY site ORDER BY date) AS before
            FROM report_days WHERE seconds_expected > 0 AND date IS NOT NULL)
        WHERE date - before > 1 ORDER BY ALL""",
    "damage": """
        SELECT site, reason, curable, count(DISTINCT recording) AS recordings,
            CAST(sum(windows_lost) AS BIGINT) AS windows_lost,
            coalesce(sum(to_s - from_s), 0) AS seconds_lost
        FROM errors GROUP BY ALL ORDER BY ALL""",
    "flags": """
        SELECT site, flag, count(DISTINCT recording) AS recordings
        FROM (SELECT site, recording, unnest(flags) AS flag FROM report_coverage)
        GROUP BY ALL ORDER BY ALL""",
    "sites": f"""
        SELECT site, any_value(place_latitude) AS latitude,
            any_value(place_longitude) AS longitude, max(time_zone) AS time_zone,
            count(DISTINCT recording) AS recordings,
            count(DISTINCT recording) FILTER (duration_s IS NULL) AS unreadable,
            CAST(min(moment) AS TIMESTAMP_S) AS first, CAST(max(moment) AS TIMESTAMP_S) AS last,
            count(DISTINCT CAST(hour AS DATE)) AS days, {_SUMS}
        FROM report_coverage GROUP BY site ORDER BY site""",
    "labels": f"""
        SELECT label, any_value(threshold) AS threshold,
            CAST(coalesce(sum(windows), 0) AS BIGINT) AS windows_positive,
            any_value(scored) AS windows_scored, {_SHARE}, count(DISTINCT site) AS sites,
            min(hour) AS first_hour, max(hour) AS last_hour
        FROM activity_given LEFT JOIN report_positive USING (label)
        CROSS JOIN (SELECT CAST(sum(windows) AS BIGINT) AS scored FROM report_scored)
        GROUP BY label
        ORDER BY windows_positive DESC, min(number)""",
    "label_sites": f"""
        SELECT label, site, CAST(sum(p.windows) AS BIGINT) AS windows_positive,
            any_value(s.windows) AS windows_scored, {_SHARE}
        FROM report_positive p JOIN (
            SELECT site, CAST(sum(windows) AS BIGINT) AS windows FROM report_scored GROUP BY site
        ) s USING (site) GROUP BY ALL ORDER BY ALL""",
    "diel": f"""
        SELECT h.label, s.site, s.hour, CAST(coalesce(p.windows, 0) AS BIGINT) AS windows_positive,
            s.windows AS windows_scored, {_SHARE}
        FROM (SELECT DISTINCT label FROM report_positive WHERE hour IS NOT NULL) h
        CROSS JOIN (SELECT site, hour(hour) AS hour, CAST(sum(windows) AS BIGINT) AS windows
            FROM report_scored WHERE report_scored.hour IS NOT NULL GROUP BY ALL
            HAVING windows > 0) s
        LEFT JOIN (SELECT label, site, hour(hour) AS hour, sum(windows) AS windows
            FROM report_positive GROUP BY ALL) p
        ON p.label = h.label AND p.site = s.site AND p.hour = s.hour ORDER BY ALL""",
    "activity": f"""
        SELECT label, p.site, p.hour, p.windows AS windows_positive,
            s.windows AS windows_scored, {_SHARE}
        FROM report_positive p JOIN report_scored s USING (site, hour) ORDER BY ALL""",
}
"""The tables that are queried from the relations of `_relations`, by name."""

_SUN = """
    SELECT site, CAST(hour AS DATE) AS date, any_value(place_latitude), any_value(place_longitude),
        arg_max(epoch(moment) - epoch(timezone('UTC', utc)), moment)
    FROM report_coverage
    WHERE place_latitude IS NOT NULL AND utc IS NOT NULL AND moment IS NOT NULL
    GROUP BY ALL ORDER BY ALL"""
SUN = pa.schema(
    [
        ("site", pa.string()),
        ("date", pa.date32()),
        ("sunrise_hour", pa.float64()),
        ("sunset_hour", pa.float64()),
    ]
)
RUNS = pa.schema(
    [
        ("started", pa.timestamp("s", tz="UTC")),
        ("version", pa.string()),
        ("status", pa.int32()),
        ("shards", pa.int64()),
        ("audio_s", pa.float64()),
        ("scoring_s", pa.float64()),
        ("seconds", pa.float64()),
    ]
)
STAGES = pa.schema(
    [
        ("started", pa.timestamp("s", tz="UTC")),
        ("stage", pa.string()),
        ("worker_seconds", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Report:
    """What is shown of a dataset.

    `zone` says whose times they are and `left_out` which windows have none, as `activity` has
    it; `unfinished` says what of the dataset is not there. `tables` have names such as `hours`,
    `days`, `labels`; docs/report.md lists their columns.
    """

    zone: str
    left_out: Mapping[str, int]
    unfinished: str | None
    identity: Mapping[str, Any]
    tables: Mapping[str, pa.Table]

    @property
    def near_each_other(self) -> bool:
        """Whether one sunrise does for all sites: within some minutes of each other."""
        sites = self.tables["sites"].to_pydict()
        return all(
            bool(known) and max(known) - min(known) <= widest
            for name, widest in NEAR.items()
            for known in [[value for value in sites[name] if value is not None]]
        )


def make_report(
    dataset: Dataset, thresholds: Mapping[str, float], time_zone: str | None = None
) -> Report:
    """Aggregates a dataset; thresholds, times and errors are those of `activity`.

    Hours of coverage are those of each row's start (a row is a quarter of an hour); the windows of
    `hours`, `diel` and `activity` are those that `activity` counts, of all channels together.
    `labels` and `label_sites` count those without a time as well.
    """
    connection = dataset.connection
    with counted(dataset, thresholds, time_zone) as found:
        _relations(dataset, found.positive, found.scored, found.coverage)
        tables: dict[str, pa.Table] = {}
        for name, query in _TABLES.items():
            tables[name] = connection.sql(query).to_arrow_table()
            connection.register(f"report_{name}", tables[name])
        tables["sun"] = _sun(connection.sql(_SUN).fetchall())
        tables["scores"] = _scores(dataset)
    tables["runs"], tables["stages"] = _runs(dataset)
    told = unfinished_note(dataset)
    return Report(found.zone, found.left_out, told, dataset.identity, tables)


def _relations(dataset: Dataset, positive: str, scored: str, coverage: str) -> None:
    """What is read once of the big tables: windows by hour, and coverage by the time shown."""
    hour = "CAST(date_trunc('hour', moment) AS TIMESTAMP_S)"
    for name, query in {
        "positive": f"""SELECT label, site, {hour} AS hour, count(*) AS windows
            FROM {positive} GROUP BY ALL""",
        "scored": f"""SELECT site, {hour} AS hour, CAST(sum(windows) AS BIGINT) AS windows
            FROM {scored} GROUP BY ALL HAVING sum(windows) > 0""",
        "coverage": f"""SELECT *, {hour} AS hour,
            coalesce(site_latitude, latitude) AS place_latitude,
            coalesce(site_longitude, longitude) AS place_longitude FROM {coverage}""",
    }.items():
        dataset.connection.execute(f"CREATE OR REPLACE TEMP TABLE report_{name} AS {query}")


def _sun(rows: list[tuple[Any, ...]]) -> pa.Table:
    found: list[tuple[Any, ...]] = []
    for site, day, latitude, longitude, offset_s in rows:
        if day is not None and -90 <= latitude <= 90 and -180 <= longitude <= 180:
            found.append((site, day, *sun_hours(latitude, longitude, day, round(offset_s))))
    return to_table(found, SUN)


def _scores(dataset: Dataset) -> pa.Table:
    edges = [step / STEPS for step in range(1, STEPS)]
    with detections(dataset) as source:
        return dataset.connection.sql(
            f"""SELECT label, bin / {STEPS} AS score_from, (bin + 1) / {STEPS} AS score_to,
                count(*) AS detections
            FROM (SELECT label, {bin_sql(edges)} AS bin FROM {source}) GROUP BY ALL ORDER BY ALL"""
        ).to_arrow_table()


def _runs(dataset: Dataset) -> tuple[pa.Table, pa.Table]:
    """What each run did and cost, and the time that its workers spent in each stage."""
    runs, stages = [], []
    for record in read_runs(dataset.folder):
        values = record.values | {"started": datetime.fromisoformat(record.values["started"])}
        runs.append({name: values.get(name) for name in RUNS.names})
        for name, spent_ms in sorted((values.get("stages_ms") or {}).items()):
            stage = name.removesuffix("_ms")
            stages.append((values["started"], stage, spent_ms / 1000))
    return pa.Table.from_pylist(runs, RUNS), to_table(stages, STAGES)
