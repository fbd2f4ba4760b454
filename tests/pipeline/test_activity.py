"""Activity, against hand-made tables and a slow reference."""

import datetime as dt
import zoneinfo
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from model.windows import WindowPlan, WindowRule
from pipeline.activity import activity, details
from pipeline.activity_command import report
from pipeline.deployments import Deployment
from pipeline.output import writer
from pipeline.thresholds import resolve_thresholds
from tests.pipeline.test_deployments import placed

DAY = dt.datetime(2024, 6, 1)
UTC = dt.UTC
QUARTER = dt.timedelta(minutes=15)

PREDICTIONS = pa.schema(
    [
        ("recording", pa.string()),
        ("channel", pa.int8()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("start_clock", pa.timestamp("us")),
        ("start_utc", pa.timestamp("us", "UTC")),
        ("label", pa.string()),
        ("score", pa.float32()),
        ("site", pa.string()),
        ("date", pa.date32()),
    ]
)
COVERAGE = pa.schema(
    [
        ("recording", pa.string()),
        ("channel", pa.int8()),
        ("start_clock", pa.timestamp("us")),
        ("start_utc", pa.timestamp("us", "UTC")),
        ("from_s", pa.float64()),
        ("to_s", pa.float64()),
        ("windows_expected", pa.int32()),
        ("windows_scored", pa.int32()),
        ("windows_skipped", pa.int32()),
        ("seconds_expected", pa.float64()),
        ("seconds_skipped", pa.float64()),
        ("duration_s", pa.float64()),
        ("sample_rate", pa.int32()),
        ("site", pa.string()),
        ("date", pa.date32()),
    ]
)
ERRORS = pa.schema(
    [
        ("recording", pa.string()),
        ("channel", pa.int8()),
        ("from_s", pa.float64()),
        ("to_s", pa.float64()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("windows_lost", pa.int32()),
        ("site", pa.string()),
        ("date", pa.date32()),
    ]
)


@dataclass
class Recording:
    """What a recording is, which of its windows were lost, and what was heard in it.

    `scores` are (window, label) to score; in the same way for each of `channels`.
    """

    name: str
    clock: dt.datetime | None
    frames: int
    rate: int = 10
    site: str = "A"
    offset: dt.timedelta | None = None
    lost: frozenset[int] = frozenset()
    scores: dict[tuple[int, str], float] = field(default_factory=dict)
    channels: tuple[int | None, ...] = (None,)

    def utc(self, clock: dt.datetime | None) -> dt.datetime | None:
        if clock is None or self.offset is None:
            return None
        return (clock - self.offset).replace(tzinfo=UTC)


@dataclass
class Tables:
    """Stands where an opened dataset does: the same attributes over real DuckDB views."""

    connection: duckdb.DuckDBPyConnection
    identity: dict[str, Any]
    given: tuple[Deployment, ...] | None = None

    def deployments(self) -> tuple[Deployment, ...] | None:
        return self.given

    def bundle(self) -> Any:
        raise NotImplementedError


def tables(
    recordings: list[Recording],
    rule: WindowRule = WindowRule(60, 60),  # noqa: B008  (frozen)
    *,
    labels: tuple[str, ...] = ("x", "y"),
    task: str = "multilabel",
    min_score: float = 0.1,
    channel: str = "mean",
) -> Tables:
    """The dataset that a run over the recordings would have written."""
    predictions, coverage, errors = [], [], []
    for r in recordings:
        plan = WindowPlan(rule, r.frames, r.rate)
        starts = [plan.start(k) / r.rate for k in range(plan.count)]
        clocks = [r.clock and r.clock + dt.timedelta(seconds=start) for start in starts]
        quarters: dict[Any, list[int]] = defaultdict(list)
        for k, clock in enumerate(clocks):
            at = clock - DAY if clock else dt.timedelta(seconds=starts[k])
            quarters[at // QUARTER].append(k)
        lost = [k for k in sorted(r.lost) if k < plan.count]
        bounds = [windows[0] for _, windows in sorted(quarters.items())]
        for c in r.channels:
            common = {"recording": r.name, "channel": c, "site": r.site}
            common["date"] = r.clock and r.clock.date()
            for i, (_, windows) in enumerate(sorted(quarters.items())):
                first = windows[0]
                last = i + 1 == len(bounds)
                to_s = r.frames / r.rate if last else starts[bounds[i + 1]]
                skips = [k for k in windows if k in r.lost]
                # Exact where windows do not overlap, as in the tests that ask for seconds.
                seconds_skipped = sum(plan.end(k) / r.rate - starts[k] for k in skips)
                coverage.append(
                    common
                    | {
                        "start_clock": clocks[first],
                        "start_utc": r.utc(clocks[first]),
                        "from_s": starts[first],
                        "to_s": to_s,
                        "seconds_expected": to_s - starts[first],
                        "seconds_skipped": seconds_skipped,
                        "windows_expected": len(windows),
                        "windows_scored": len(windows) - len(skips),
                        "windows_skipped": len(skips),
                        "duration_s": r.frames / r.rate,
                        "sample_rate": r.rate,
                    }
                )
            for first in (k for k in lost if k - 1 not in lost):
                windows_lost = next(n for n in range(1, plan.count + 1) if first + n not in lost)
                to_s = plan.end(first + windows_lost - 1) / r.rate
                run = {"from_s": starts[first], "to_s": to_s, "windows_lost": windows_lost}
                errors.append(common | run | {"reason": "damaged", "message": "no sound"})
            for (k, label), score in r.scores.items():
                if k in r.lost or k >= plan.count:
                    continue
                predictions.append(
                    common
                    | {
                        "start_s": starts[k],
                        "end_s": plan.end(k) / r.rate,
                        "start_clock": clocks[k],
                        "start_utc": r.utc(clocks[k]),
                        "label": label,
                        "score": score,
                    }
                )
    connection = duckdb.connect()
    for name, rows, schema in (
        ("predictions", predictions, PREDICTIONS),
        ("coverage", coverage, COVERAGE),
        ("errors", errors, ERRORS),
    ):
        connection.register(f"{name}_rows", pa.Table.from_pylist(rows, schema))
        connection.execute(f"CREATE TABLE {name} AS FROM {name}_rows")
    identity = {
        "task": task,
        "labels": list(labels),
        "window_s": rule.window_s,
        "hop_s": rule.hop_s,
        "tail": rule.tail,
        "min_score": min_score,
        "channel": channel,
    }
    return Tables(connection, identity)


def minutes(n: int) -> int:
    return n * 600


def at(hour: int, minute: int = 0, second: float = 0) -> dt.datetime:
    return DAY + dt.timedelta(hours=hour, minutes=minute, seconds=second)


HALF = {"x": 0.5, "y": 0.5}


def measured(dataset: Tables, by: Any = "hour", thresholds: Any = None, zone: Any = None) -> Any:
    """{(label, site, [channel], time): (positive, scored)}, and the ratio checked."""
    table = activity(dataset, by, thresholds or HALF, zone)  # type: ignore[arg-type]
    found = {}
    for row in table.to_pylist():
        assert row["activity"] == row["windows_positive"] / row["windows_scored"]
        key = tuple(v for k, v in row.items() if not k.startswith(("windows", "activity")))
        found[key] = (row["windows_positive"], row["windows_scored"])
    assert len(found) == table.num_rows
    return found


def test_counts_per_hour_with_zeros_where_audio_was_and_nothing_where_not() -> None:
    scores = {(0, "x"): 0.9, (1, "x"): 0.5, (2, "x"): 0.49, (3, "y"): 0.8, (5, "x"): 0.7}
    dataset = tables([Recording("a", at(5, 56), minutes(8), scores=scores)])
    assert measured(dataset) == {
        ("x", "A", at(5)): (2, 4),
        ("x", "A", at(6)): (1, 4),
        ("y", "A", at(5)): (1, 4),
        ("y", "A", at(6)): (0, 4),
    }


def test_skipped_windows_are_in_no_denominator() -> None:
    dataset = tables([Recording("a", at(5), minutes(8), lost=frozenset({0, 3, 7}))])
    assert measured(dataset)["x", "A", at(5)] == (0, 5)
    nothing = tables([Recording("a", at(5), minutes(2), lost=frozenset({0, 1}))])
    assert measured(nothing) == {}


def test_date_and_diel() -> None:
    tomorrow = at(29)
    recordings = [
        Recording("a", at(5), minutes(4), scores={(0, "x"): 0.9}),
        Recording("b", tomorrow, minutes(2), scores={(1, "x"): 0.9}),
        Recording("c", at(23, 58), minutes(4), scores={(2, "x"): 0.9}),
    ]
    dataset = tables(recordings, labels=("x",))
    assert measured(dataset, "date") == {
        ("x", "A", DAY.date()): (1, 6),
        ("x", "A", tomorrow.date()): (2, 4),
    }
    assert measured(dataset, "diel") == {
        ("x", "A", 0): (1, 2),
        ("x", "A", 5): (2, 6),
        ("x", "A", 23): (0, 2),
    }


def test_columns_and_types() -> None:
    dataset = tables([Recording("a", at(5), minutes(4))])
    times = {"hour": ("hour", pa.timestamp("us")), "date": ("date", pa.date32())}
    times["diel"] = ("hour", pa.int32())
    for by, time in times.items():
        for source in (dataset, tables([])):
            table = activity(source, by, HALF, None)  # type: ignore[arg-type]
            assert [(f.name, f.type) for f in table.schema] == [
                ("label", pa.string()),
                ("site", pa.string()),
                time,
                ("windows_positive", pa.int64()),
                ("windows_scored", pa.int64()),
                ("activity", pa.float64()),
            ]


def test_channels_are_counted_apart_where_each_is_kept() -> None:
    recordings = [
        Recording("a", at(5), minutes(4), channels=(0, 1), scores={(0, "x"): 0.9}),
        Recording("b", at(5, 2), minutes(4), channels=(1,), scores={(0, "x"): 0.9}),
    ]
    dataset = tables(recordings, labels=("x",), channel="each")
    assert measured(dataset) == {("x", "A", 0, at(5)): (1, 4), ("x", "A", 1, at(5)): (1, 6)}
    table = activity(dataset, "hour", HALF, None)  # type: ignore[arg-type]
    assert table.schema.field("channel").type == pa.int8()
    assert table.column_names[:4] == ["label", "site", "channel", "hour"]


def test_a_single_label_dataset_counts_the_top_label_only() -> None:
    scores = {
        (0, "x"): 0.6,
        (0, "y"): 0.4,
        (1, "x"): 0.3,
        (1, "y"): 0.3,
        (2, "y"): 0.05,
        (3, "y"): 0.9,
        (3, "x"): 0.1,
    }
    dataset = tables([Recording("a", at(5), minutes(4), scores=scores)], task="singlelabel")
    top = {("x", "A", at(5)): (2, 4), ("y", "A", at(5)): (2, 4)}
    assert measured(dataset, thresholds={"x": 0.0, "y": 0.0}) == top
    # A threshold asks more of the top label; it does not make the second one count.
    strict = {("x", "A", at(5)): (1, 4), ("y", "A", at(5)): (1, 4)}
    assert measured(dataset, thresholds={"x": 0.35, "y": 0.2}) == strict


def test_thresholds_per_label_and_scores_as_float32() -> None:
    scores = {(k, label): 0.7 for k in range(2) for label in "xy"}
    dataset = tables([Recording("a", at(5), minutes(4), scores=scores)])
    found = measured(dataset, thresholds={"x": 0.7, "y": 0.71})
    assert found == {("x", "A", at(5)): (2, 4), ("y", "A", at(5)): (0, 4)}


def test_the_later_of_two_overlapping_recordings_loses_the_windows_heard_before() -> None:
    every = {(k, "x"): 0.9 for k in range(10)}
    recordings = [
        Recording("late", at(5, 3, 30), minutes(5), scores=every),
        Recording("early", at(5), minutes(5), scores=every),
        Recording("elsewhere", at(5, 1), minutes(5), site="B", scores=every),
    ]
    dataset = tables(recordings, labels=("x",))
    # The later one's windows start at 3:30, 4:30, 5:30, ...: the first two go.
    assert measured(dataset) == {("x", "A", at(5)): (8, 8), ("x", "B", at(5)): (5, 5)}
    table = activity(dataset, "hour", HALF, None)  # type: ignore[arg-type]
    assert details(table)["windows_left_out"]["overlapping"] == 2


def test_recordings_that_touch_do_not_overlap() -> None:
    pair = [Recording("a", at(5), minutes(5)), Recording("b", at(5, 5), minutes(5))]
    assert measured(tables(pair))["x", "A", at(5)] == (0, 10)


def test_sound_that_the_earlier_recording_lost_is_taken_from_the_later_one() -> None:
    pair = [
        Recording("a", at(5), minutes(10), lost=frozenset(range(4, 10))),
        Recording("b", at(5, 3), minutes(5)),
    ]
    # The first ends for us at minute 4; the second loses its window at minute 3 only.
    assert measured(tables(pair))["x", "A", at(5)] == (0, 8)


def test_one_recording_inside_another_and_a_copy_count_once() -> None:
    every = {(k, "x"): 0.9 for k in range(40)}
    recordings = [
        Recording("a", at(5), minutes(40), scores=every),
        Recording("a copy", at(5), minutes(40), scores=every),
        Recording("inside", at(5, 10), minutes(5), scores=every),
        Recording("after", at(5, 38), minutes(4), scores=every),
    ]
    assert measured(tables(recordings))["x", "A", at(5)] == (42, 42)


def test_a_clock_set_back_does_not_make_recordings_overlap_that_tell_their_utc() -> None:
    summer, winter = dt.timedelta(hours=2), dt.timedelta(hours=1)
    pair = [
        Recording("a", at(2), minutes(10), offset=summer),
        Recording("b", at(2), minutes(10), offset=winter),
    ]
    assert measured(tables(pair))["x", "A", at(2)] == (0, 20)


def test_time_zone_of_three_quarters() -> None:
    scores = {(0, "x"): 0.9, (20, "x"): 0.9}
    dataset = tables(
        [Recording("a", at(0), minutes(30), offset=dt.timedelta(0), scores=scores)], labels=("x",)
    )
    # Kathmandu is 5:45 ahead: the hour changes after the first quarter.
    assert measured(dataset, zone="Asia/Kathmandu") == {
        ("x", "A", at(5)): (1, 15),
        ("x", "A", at(6)): (1, 15),
    }


def test_time_zone_when_daylight_saving_starts_and_ends() -> None:
    spring, autumn = dt.datetime(2024, 3, 31, 0, 30), dt.datetime(2024, 10, 27, 0, 0)
    recordings = [
        Recording("spring", spring, minutes(60), offset=dt.timedelta(0)),
        Recording("autumn", autumn, minutes(120), offset=dt.timedelta(0)),
    ]
    found = measured(tables(recordings, labels=("x",)), zone="Europe/Berlin")
    assert found == {
        ("x", "A", dt.datetime(2024, 3, 31, 1)): (0, 30),
        ("x", "A", dt.datetime(2024, 3, 31, 3)): (0, 30),
        ("x", "A", dt.datetime(2024, 10, 27, 2)): (0, 120),
    }


def test_windows_without_a_time_are_left_out_and_counted() -> None:
    recordings = [
        Recording("a", at(5), minutes(3), offset=dt.timedelta(hours=2)),
        Recording("b", at(6), minutes(4)),
        Recording("c", None, minutes(5), scores={(0, "x"): 0.9}),
    ]
    dataset = tables(recordings, labels=("x",))
    table = activity(dataset, "hour", HALF, None)  # type: ignore[arg-type]
    assert table.column("windows_scored").to_pylist() == [3, 4]
    left_out = {"undated": 5, "without_utc": 0, "without_deployment": 0, "overlapping": 0}
    assert details(table)["windows_left_out"] == left_out
    table = activity(dataset, "hour", HALF, "UTC")  # type: ignore[arg-type]
    assert table.column("hour").to_pylist() == [at(3)]
    assert details(table)["windows_left_out"] == left_out | {"without_utc": 4}
    text = report(table)
    assert "5 scored windows are left out: their recordings have no date and time." in text
    assert "4 scored windows are left out: their recordings do not tell" in text


def test_what_is_refused() -> None:
    dataset = tables([Recording("a", at(5), minutes(3))], min_score=0.3)
    with pytest.raises(UserError, match=r"'y' is 0\.2.*keeps scores from 0\.3"):
        measured(dataset, thresholds={"x": 0.3, "y": 0.2})
    with pytest.raises(UserError, match="no threshold for y"):
        measured(dataset, thresholds={"x": 0.3})
    with pytest.raises(UserError, match="from 0 to 1"):
        measured(dataset, thresholds={"x": 0.3, "y": 1.5})
    with pytest.raises(UserError, match="from 0 to 1"):
        measured(dataset, thresholds={"x": 0.3, "y": float("nan")})
    with pytest.raises(UserError, match="Mars/Base"):
        measured(dataset, zone="Mars/Base")
    with pytest.raises(UserError, match="No recording of the dataset tells its offset"):
        measured(dataset, zone="Europe/Berlin")
    with pytest.raises(UserError, match="by"):
        measured(dataset, by="week")


def test_thresholds_come_from_the_bundle_and_are_changed_by_the_given() -> None:
    labels, stored = ("x", "y=z"), {"x": 0.3, "y=z": 0.4, "other": 0.9}
    assert resolve_thresholds("multilabel", labels, stored, []) == {"x": 0.3, "y=z": 0.4}
    given = ["y=z=0.9", "0.6"]
    assert resolve_thresholds("multilabel", labels, stored, given) == {"x": 0.6, "y=z": 0.9}
    assert resolve_thresholds("singlelabel", labels, None, []) == {"x": 0.0, "y=z": 0.0}
    for wrong in ("many", "x=", "x=0.5=", "nobody=0.5"):
        with pytest.raises(UserError, match="--threshold"):
            resolve_thresholds("multilabel", labels, stored, [wrong])


def test_unknown_has_the_threshold_of_rejecters_unless_one_is_given() -> None:
    labels = ["wren", "unknown"]
    found = resolve_thresholds("multilabel", labels, {"wren": 0.7}, ())
    assert found == {"wren": 0.7, "unknown": 0.5}
    assert resolve_thresholds("singlelabel", labels, None, ()) == {"wren": 0, "unknown": 0.5}
    assert resolve_thresholds("singlelabel", labels, None, ["unknown=0.8"])["unknown"] == 0.8


def test_nothing_is_left_registered() -> None:
    dataset = tables([Recording("a", at(5), minutes(5)), Recording("b", at(5, 1), minutes(5))])
    before = dataset.connection.sql("SELECT view_name FROM duckdb_views()").fetchall()
    measured(dataset)
    assert dataset.connection.sql("SELECT view_name FROM duckdb_views()").fetchall() == before


recording = st.builds(
    Recording,
    name=st.sampled_from([f"r{i}" for i in range(6)]),
    clock=st.none()
    | st.integers(0, 5400).map(lambda s: at(5, 10) + dt.timedelta(seconds=s))
    | st.integers(0, 40).map(lambda q: at(4) + q * QUARTER)
    | st.integers(0, 3600).map(lambda s: at(23, 15) + dt.timedelta(seconds=s)),
    frames=st.integers(1, 12_000),
    rate=st.sampled_from([3, 7, 11]),
    site=st.sampled_from("AB"),
    offset=st.none() | st.sampled_from([-3.5, 0, 2]).map(lambda h: dt.timedelta(hours=h)),
    lost=st.frozensets(st.integers(0, 60), max_size=30),
    scores=st.dictionaries(
        st.tuples(st.integers(0, 60), st.sampled_from("xy")),
        st.sampled_from([0.25, 0.5, 0.75]),
        max_size=40,
    ),
    channels=st.sampled_from([(0,), (1,), (0, 1)]),
)


def slow(
    recordings: list[Recording],
    rule: WindowRule,
    task: str,
    each: bool,
    zone: str | None,
    deployments: tuple[Deployment, ...] | None = None,
) -> dict[Any, tuple[int, int]]:
    """The definition, window by window."""
    positive: dict[Any, int] = defaultdict(int)
    scored: dict[Any, int] = defaultdict(int)

    def times(r: Recording, start_s: float) -> tuple[dt.datetime | None, dt.datetime | None]:
        """UTC of a window, and its time in the activity."""
        when = r.clock and r.clock + dt.timedelta(seconds=start_s)
        utc, local = placed(deployments or (), r.site, when, start_s, r.utc(when))
        if zone not in (None, "clock"):
            local = utc and utc.astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)
        elif zone == "clock" or deployments is None:
            local = when
        return utc, local

    for site in "AB":
        plans = {r.name: WindowPlan(rule, r.frames, r.rate) for r in recordings if r.site == site}
        starts = {name: plan.starts() / plan.rate for name, plan in plans.items()}
        # Only windows that count say how a site's clocks run.
        heard = {
            r.name: [k for k, s in enumerate(starts[r.name]) if k not in r.lost and times(r, s)[1]]
            for r in recordings
            if r.site == site
        }
        absolute = all(
            times(r, starts[r.name][k])[0] is not None
            for r in recordings
            for k in heard.get(r.name, [])
        )

        def begin(
            r: Recording, heard: Any = heard, starts: Any = starts, absolute: bool = absolute
        ) -> dt.datetime:
            assert r.clock is not None
            start_s = starts[r.name][heard[r.name][0]]
            utc = times(r, start_s)[0]
            if not absolute or utc is None:
                return r.clock
            return utc.replace(tzinfo=None) - dt.timedelta(seconds=start_s)

        for channel in (0, 1):
            ours = [r for r in recordings if heard.get(r.name) and channel in r.channels]
            end = dt.datetime.min
            for r in sorted(ours, key=lambda r: (begin(r), r.name)):
                for k in heard[r.name]:
                    start_s = starts[r.name][k]
                    if begin(r) + dt.timedelta(seconds=start_s) < end:
                        continue
                    when = times(r, start_s)[1]
                    assert when is not None
                    place = (site, channel) if each else (site,)
                    hour = (*place, when.replace(minute=0, second=0, microsecond=0))
                    scored[hour] += 1
                    scores = {x: r.scores[k, x] for x in "xy" if (k, x) in r.scores}
                    if task == "singlelabel":
                        top = max(scores, key=lambda x: scores[x], default=None)
                        scores = {x: s for x, s in scores.items() if x == top}
                    for x, score in scores.items():
                        positive[x, *hour] += score >= 0.5
                stop = plans[r.name].bounds()[1][heard[r.name][-1]] / r.rate
                end = max(end, begin(r) + dt.timedelta(seconds=stop))
    return {(x, *hour): (positive[x, *hour], count) for hour, count in scored.items() for x in "xy"}


deployed = st.builds(
    lambda site, clock, zone, open_day: Deployment(
        site, clock, zone, first_day=DAY.date() + dt.timedelta(days=1) if open_day else None
    ),
    st.sampled_from("AB"),
    st.sampled_from(["utc", "-05:00", "+05:45"]),
    st.sampled_from([None, "Asia/Kathmandu", "America/New_York"]),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(
    recordings=st.lists(recording, max_size=6, unique_by=lambda r: r.name),
    window=st.sampled_from([20.0, 45.0, 60.0]),
    hop=st.sampled_from([0.5, 0.77, 1.0]),
    tail=st.sampled_from(["pad", "shift", "drop"]),
    task=st.sampled_from(["multilabel", "singlelabel"]),
    each=st.booleans(),
    zone=st.sampled_from([None, "clock", "Asia/Kathmandu", "America/St_Johns"]),
    deployments=st.none()
    | st.lists(deployed, min_size=1, max_size=2, unique_by=lambda d: d.site).map(tuple),
)
def test_activity_is_what_the_slow_reference_counts(
    recordings: list[Recording],
    window: float,
    hop: float,
    tail: Any,
    task: str,
    each: bool,
    zone: str | None,
    deployments: tuple[Deployment, ...] | None,
) -> None:
    rule = WindowRule(window, window * hop, tail)
    for r in recordings:
        plan = WindowPlan(rule, r.frames, r.rate)
        r.lost |= {plan.count - 1} if plan.dropped else set()
        r.channels = r.channels if each else (0,)
    dataset = tables(recordings, rule, task=task, channel="each" if each else "0")
    dataset.given = deployments
    expected = slow(recordings, rule, task, each, zone, deployments)
    try:
        found = measured(dataset, zone=zone)
    except UserError:
        # Refused only where there is something, and none of it has a time in the zone.
        assert not expected and recordings
        assert zone not in (None, "clock") or (zone is None and deployments is not None)
        return
    assert found == expected


def long_table(by: Any = "hour", days: int = 12, sites: int = 2) -> pa.Table:
    recordings = [
        Recording(
            f"{site}/{hour}",
            at(hour),
            minutes(2),
            site=f"site {site}",
            scores={(0, "x"): 0.9} if hour % 5 == 0 else {},
        )
        for hour in range(24 * days)
        for site in range(sites)
    ]
    return activity(tables(recordings), by, HALF, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["hour", "date", "diel"])
@pytest.mark.parametrize("width", [80, 100])
def test_the_report_fits_the_screen(by: str, width: int) -> None:
    text = report(long_table(by), width)
    assert max(map(len, text.splitlines())) <= width
    assert len(text.splitlines()) <= 110
    assert "clock time" in text and "1,152 windows scored" in text


def test_the_report_of_a_short_table_shows_each_hour() -> None:
    text = report(long_table(days=1, sites=1))
    assert "site    hour" in text
    assert "site 0  2024-06-01 05:00       2  1  50%  0   0%" in text


def test_the_report_of_nothing_is_a_sentence() -> None:
    table = activity(tables([]), "hour", HALF, None)  # type: ignore[arg-type]
    assert report(table) == "No scored windows with a time, so there is no activity.\n"


def test_the_chart_marks_hours_without_audio() -> None:
    scores = {(0, "x"): 0.9}
    table = activity(
        tables([Recording("a", at(7), minutes(2), scores=scores)]),  # type: ignore[arg-type]
        "diel",
        HALF,
        None,
    )
    line = next(x for x in report(table, 100).splitlines() if x.startswith("x "))
    assert line.count("··") == 23 and line.count("██") == 1 and line.endswith(" 50% at 07")
    assert report(table, 100, blocks=False).isascii()


def test_csv_and_parquet_hold_the_table(tmp_path: Any) -> None:
    table = long_table(days=1)
    for name in ("a.csv", "a.parquet"):
        assert writer(str(tmp_path / name))(table.schema, [table]) == table.num_rows
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").equals(table)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0].replace('"', "") == ",".join(table.column_names)
    assert lines[1].replace('"', "") == "x,site 0,2024-06-01 00:00:00,1,2,0.5"
    assert len(lines) == 1 + table.num_rows
    with pytest.raises(UserError, match=r"neither \.csv nor \.parquet"):
        writer("a.xlsx")
    with pytest.raises(UserError, match="cannot be written"):
        writer(str(tmp_path / "a.csv" / "b.csv"))(table.schema, [table])


def test_details_survive_parquet(tmp_path: Any) -> None:
    table = long_table(days=1)
    writer(str(tmp_path / "a.parquet"))(table.schema, [table])
    about = details(pyarrow.parquet.read_table(tmp_path / "a.parquet"))
    assert about["by"] == "hour" and about["time_zone"] is None
    assert about["thresholds"] == HALF
    assert np.sum(list(about["windows_left_out"].values())) == 0
