"""Events of datasets: real runs, and made ones against the slow way."""

import csv
import datetime as dt
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import fsspec.core
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from model.events import EventRule
from model.windows import WindowPlan, WindowRule
from pipeline import events as module
from pipeline.cli import main
from pipeline.dataset import open_dataset
from pipeline.events import METADATA_KEY, SCHEMA, events
from pipeline.output import writer
from tests.pipeline.archive import LABELS, RATE, cut, tiny_bundle, tone, write
from tests.pipeline.test_activity import Recording, at, tables
from tests.pipeline.test_detection import detect
from tests.slow_events import Heard, slow_events

HOP = 0.25
STEPS = 8
"""Steps of the grid in a second: half a hop, so that the middle of two centres is on it."""

Row = tuple[Any, ...]


def rows(tables: Iterable[pa.Table]) -> list[Row]:
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def timed(steps: list[Row], per_s: float) -> list[Row]:
    """Of `slow_events`: (label, start, end, score, windows)."""
    return [(x, start / per_s, end / per_s, score, n) for x, start, end, score, _, n in steps]


def found(
    dataset: Any, thresholds: dict[str, float], rule: EventRule, labels: list[str] | None = None
) -> dict[tuple[str, int | None], list[Row]]:
    """(label, start, end, score, windows) of the events of each recording and channel."""
    result: dict[tuple[str, int | None], list[Row]] = {}
    for row in rows(events(dataset, thresholds, rule, labels)):
        _, name, channel, label, start_s, end_s, _, _, score, _, windows = row
        result.setdefault((name, channel), []).append((label, start_s, end_s, score, windows))
    return result


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Midnight and digital silence inside a recording, two channels, a damaged one, no time."""
    root = tmp_path_factory.mktemp("archive") / "audio"
    sounds = [tone(3, hertz, seed=hertz) for hertz in (300, 900, 1500, 600, 2500, 1200)]
    long = np.concatenate(sounds)
    long[6 * RATE : 8 * RATE] = 0
    write(root / "Marsh/20240601_235950.WAV", long)
    write(root / "Marsh/20240602_001000.WAV", np.stack([long[: 7 * RATE], long[-7 * RATE :]], 1))
    damaged = write(root / "RIDGE/20240601_055955.wav", tone(8.5, 1000, seed=3))
    cut(damaged, lambda size: size * 3 // 4)
    write(root / "lost/no time.wav", np.concatenate(sounds[::-1])[: 5 * RATE])
    return root


@pytest.fixture(scope="module")
def out(audio: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `audio`: overlapping windows, each channel, all scores."""
    folder = tmp_path_factory.mktemp("dataset") / "out"
    more = ("--hop", str(HOP), "--channel", "each")
    assert detect(audio, bundle, folder, *more) == 0
    return folder


def heard(out: Path, min_score: float = 0) -> dict[tuple[str, int | None], list[Heard]]:
    """Scored windows by recording and channel, from a dataset that holds all scores."""
    query = """SELECT recording, channel, start_s, end_s, list(label), list(score)
        FROM predictions GROUP BY ALL ORDER BY ALL"""
    result: dict[Any, list[Heard]] = {}
    for name, channel, start, end, labels, values in (
        open_dataset(str(out)).connection.sql(query).fetchall()
    ):
        by_label = dict(zip(labels, values, strict=True))
        scores = tuple(s if (s := by_label[x]) >= np.float32(min_score) else 0.0 for x in LABELS)
        window = Heard(round(start * STEPS), round(end * STEPS), STEPS, scores)
        result.setdefault((name, channel), []).append(window)
    return result


def medians(out: Path) -> dict[str, float]:
    query = "SELECT label, median(score) FROM predictions GROUP BY label"
    return dict(open_dataset(str(out)).connection.sql(query).fetchall())


def expected(
    out: Path, thresholds: dict[str, float], rule: EventRule, min_score: float = 0, **more: Any
) -> dict[tuple[str, int | None], list[Row]]:
    result = {}
    for key, windows in heard(out, min_score).items():
        steps = slow_events(
            windows,
            [thresholds[label] for label in LABELS],
            gap=round(rule.merge_gap_s * STEPS),
            least=round(rule.min_duration_s * STEPS),
            centre=rule.centre,
            **more,
        )
        steps.sort(key=lambda row: (row[1], row[0]))
        if steps:
            result[key] = [(LABELS[x], *rest) for x, *rest in timed(steps, STEPS)]
    return result


RULES = [EventRule(), EventRule(centre=True), EventRule(0.5, 1), EventRule(1, 0.5, centre=True)]


@pytest.mark.parametrize("rule", RULES)
def test_events_of_a_run_are_those_of_all_its_windows(out: Path, rule: EventRule) -> None:
    thresholds = medians(out)
    events_of = found(open_dataset(str(out)), thresholds, rule)
    assert events_of == expected(out, thresholds, rule)
    assert len(events_of) == 5 and sum(map(len, events_of.values())) > 10


def test_events_run_on_across_slots_and_not_across_silence(out: Path) -> None:
    name, dataset = "Marsh/20240601_235950.WAV", open_dataset(str(out))
    commits = dataset.standing.commits.values()
    assert sum(name in commit.members for commit in commits if commit) == 2
    every = found(dataset, dict.fromkeys(LABELS, 0.0), EventRule(merge_gap_s=9))
    # Windows from 6 to 7 s on are silent as a whole; others reach up to 6.75 s and from 7.25 s on.
    parts = [(start, end) for start, end in ((0.0, 6.75), (7.25, 18.0)) for _ in LABELS]
    assert [row[1:3] for row in every[name, 0]] == parts
    assert [row[0] for row in every[name, 0]] == [*LABELS, *LABELS]


def test_events_end_where_a_shard_is_not_committed(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "out/coverage/site=Marsh/date=2024-06-02/part-00.parquet").unlink()
    dataset = open_dataset(str(tmp_path / "out"))
    # At the lowest scores, means that count what is not there would not reach the end.
    query = "SELECT label, min(score) FROM predictions GROUP BY label"
    lowest = dict(dataset.connection.sql(query).fetchall())
    every = found(dataset, lowest, EventRule())
    assert every == expected(tmp_path / "out", lowest, EventRule())
    # The last window before midnight starts at 9.75 s.
    name = "Marsh/20240601_235950.WAV"
    assert [row[1:3] for row in every[name, 0]][3:] == [(7.25, 10.75)] * 3


def test_times_are_those_of_the_predictions(out: Path) -> None:
    dataset = open_dataset(str(out))
    query = "SELECT recording, start_s, start_clock FROM predictions"
    clocks = {row[:2]: row[2] for row in dataset.connection.sql(query).fetchall()}
    table = rows(events(dataset, medians(out), EventRule()))
    assert len({row[6] for row in table}) > 3
    for _, name, _, _, start_s, _, clock, utc, *_ in table:
        assert clock == clocks.get((name, start_s), clock) and utc is None
        assert (clock is None) == (name == "lost/no time.wav")
    assert any((row[1], row[4]) in clocks for row in table)


@pytest.mark.parametrize("rule", RULES)
def test_scores_below_the_min_score_count_as_0(
    audio: Path, bundle: Path, out: Path, tmp_path: Path, rule: EventRule
) -> None:
    least = float(np.float32(np.median(list(medians(out).values()))))
    more = ("--hop", str(HOP), "--channel", "each", "--min-score", repr(least))
    tiny_bundle(tmp_path / "strict", threshold=1.0)
    assert detect(audio, tmp_path / "strict", tmp_path / "out", *more) == 0
    dataset = open_dataset(str(tmp_path / "out"))
    assert dataset.identity["min_score"] == least
    thresholds = dict.fromkeys(LABELS, least)
    events_of = found(dataset, thresholds, rule)
    assert events_of == expected(out, thresholds, rule, least) and events_of
    if rule.centre:
        assert events_of == expected(out, thresholds, rule)


def test_single_label(audio: Path, single_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert detect(audio, single_bundle, folder, "--hop", str(HOP), "--channel", "each") == 0
    dataset, zero = open_dataset(str(folder)), dict.fromkeys(LABELS, 0.0)
    one = expected(folder, zero, EventRule(), top_only=True)
    assert found(dataset, zero, EventRule()) == one
    only = [row for row in one.values() for row in row if row[0] == LABELS[0]]
    asked = found(dataset, zero, EventRule(), [LABELS[0]])
    assert [row for rows in asked.values() for row in rows] == only


recording = st.builds(
    Recording,
    name=st.sampled_from([f"r{i}" for i in range(4)]),
    clock=st.none() | st.integers(0, 40).map(lambda q: at(23) + dt.timedelta(minutes=q)),
    frames=st.integers(1, 250),
    rate=st.sampled_from([3, 7, 11]),
    site=st.sampled_from("AB"),
    offset=st.none() | st.just(dt.timedelta(hours=2)),
    lost=st.frozensets(st.integers(0, 30), max_size=6),
    scores=st.dictionaries(
        st.tuples(st.integers(0, 30), st.sampled_from("xy")),
        st.sampled_from([0.25, 0.5, 0.75]),
        max_size=40,
    ),
    channels=st.sampled_from([(None,), (0, 1)]),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(recording, max_size=5, unique_by=lambda r: r.name),
    st.sampled_from([5.0, 8.0]),
    st.sampled_from([0.25, 0.4, 0.77, 1.0]),
    st.sampled_from(["pad", "shift", "drop"]),
    st.builds(EventRule, st.sampled_from([0, 2]), st.sampled_from([0, 4]), st.booleans()),
    st.sampled_from(["multilabel", "singlelabel"]),
    st.sampled_from([0.25, 0.3, 0.5]),
    st.integers(1, 60),
)
def test_made_datasets(
    recordings: list[Recording],
    window: float,
    share: float,
    tail: Any,
    rule: EventRule,
    task: str,
    threshold: float,
    batch: int,
) -> None:
    cut_by = WindowRule(window, window * share, tail)
    for r in recordings:
        plan = WindowPlan(cut_by, r.frames, r.rate)
        r.lost |= {plan.count - 1} if plan.dropped else frozenset()
    dataset = tables(recordings, cut_by, task=task, channel="each")
    expected: list[Row] = []
    for r in sorted(recordings, key=lambda r: (r.site, r.name)):
        plan = WindowPlan(cut_by, r.frames, r.rate)
        starts, ends = ((2 * bound).tolist() for bound in plan.bounds())
        kept = [k for k in range(plan.count) if k not in r.lost]
        # Rounding makes some windows a sample longer: then so are all, for their centres.
        length = max((ends[k] - starts[k] for k in kept), default=0)
        windows = [
            Heard(starts[k], ends[k], length, tuple(r.scores.get((k, x), 0.0) for x in "xy"))
            for k in kept
        ]
        steps = slow_events(
            windows,
            [threshold] * 2,
            gap=round(rule.merge_gap_s * 2 * r.rate),
            least=round(rule.min_duration_s * 2 * r.rate),
            centre=rule.centre,
            top_only=task == "singlelabel",
        )
        for channel in r.channels:
            for x, *rest in sorted(timed(steps, 2 * r.rate), key=lambda row: (row[1], row[0])):
                start = dt.timedelta(seconds=rest[0])
                utc = r.utc(r.clock)
                times = (r.clock and r.clock + start, utc and utc + start)
                expected.append((r.site, r.name, channel, "xy"[x], *rest[:2], *times, *rest[2:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", batch)
        table = rows(events(dataset, {"x": threshold, "y": threshold}, rule))  # type: ignore[arg-type]
    assert [row[:4] + row[6:9] + row[10:] for row in table] == [
        row[:4] + row[6:] for row in expected
    ]
    bounds = [second for row in expected for second in row[4:6]]
    assert [second for row in table for second in row[4:6]] == pytest.approx(bounds, abs=1e-9)


def test_the_command_writes_and_shows(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--threshold={label}={value!r}" for label, value in medians(out).items()]
    for name in ("e.csv", "e.parquet"):
        file = tmp_path / name
        assert main(["events", str(out), *options, "--output", str(file)]) == 0
        assert f"Written: {file}" in capsys.readouterr().out
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.schema.remove_metadata() == SCHEMA and table.num_rows > 30
    about = json.loads(table.schema.metadata[METADATA_KEY])
    assert about["hop_s"] == HOP and about["merge_gap_s"] == 0 and not about["centre"]
    with (tmp_path / "e.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["label"] for line in lines] == table["label"].to_pylist()
    assert [float(line["start_s"]) for line in lines] == table["start_s"].to_pylist()
    assert main(["events", str(out), *options]) == 0
    said = capsys.readouterr().out
    assert f"{table.num_rows} events at 3 sites in " in said and "Every event is in" in said
    assert main(["events", str(out), *options, "--label", "wren", "--min-duration", "2"]) == 0
    said = capsys.readouterr().out
    long = [row for row in lines if row["label"] == "wren"]
    long = [row for row in long if float(row["end_s"]) - float(row["start_s"]) >= 2]
    said = said.partition("The thresholds were given")[0]
    assert said.count(" wren ") == len(long) and "robin" not in said
    assert main(["events", str(out), "--threshold", "1"]) == 0
    assert capsys.readouterr().out.startswith("0 events in ")


def test_nothing_was_kept(audio: Path, bundle: Path, tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "strict", threshold=1.0)
    assert detect(audio / "lost", tmp_path / "strict", tmp_path / "out", "--min-score", "1") == 0
    dataset = open_dataset(str(tmp_path / "out"))
    assert rows(events(dataset, dict.fromkeys(LABELS, 1.0), EventRule())) == []
    file = tmp_path / "e.parquet"
    arguments = ["events", str(tmp_path / "out"), "--threshold", "1", "--output", str(file)]
    assert main(arguments) == 0
    assert pq.read_table(file).num_rows == 0


def test_what_is_refused(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = open_dataset(str(out))
    with pytest.raises(UserError, match="no label owl; it has wren"):
        events(dataset, dict.fromkeys(LABELS, 0.5), EventRule(), ["owl"])
    with pytest.raises(UserError, match="no threshold for robin"):
        events(dataset, {"wren": 0.5}, EventRule(), ["wren", "robin"])
    events(dataset, {"wren": 0.5}, EventRule(), ["wren"])
    made = tables([Recording("a", at(5), 100)], min_score=0.3)
    with pytest.raises(UserError, match=r"keeps scores from 0\.3"):
        events(made, {"x": 0.2, "y": 0.5}, EventRule())  # type: ignore[arg-type]
    for wrong, told in ((["--merge-gap", "-1"], "0 or more"), (["--output", "a.txt"], "neither")):
        assert main(["events", str(out), *wrong]) == 1
        assert told in capsys.readouterr().err
    columns = "predictions (recording, start_s, label, score, site)"
    made.connection.execute(f"INSERT INTO {columns} VALUES ('a', 1, 'x', 1, 'A')")
    with pytest.raises(UserError, match="try again when it is done"):
        rows(events(made, {"x": 0.5, "y": 0.5}, EventRule()))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["e.csv", "e.parquet"])
def test_a_table_appears_whole_or_not_at_all(bucket: str, tmp_path: Path, name: str) -> None:
    table = pa.table({"a": [1, 2]})

    def broken() -> Iterator[pa.Table]:
        yield table
        raise UserError("half of it")

    for place in (str(tmp_path), bucket):
        file = f"{place}/{name}"
        fs, path = fsspec.core.url_to_fs(file)
        with pytest.raises(UserError, match="half of it"):
            writer(file)(table.schema, broken())
        assert not fs.exists(path)
        assert writer(file)(table.schema, [table]) == 2
        whole = fs.cat(path)
        with pytest.raises(UserError, match="half of it"):
            writer(file)(table.schema, broken())
        fs.invalidate_cache()
        assert fs.cat(path) == whole
        assert fs.ls(place.removeprefix("gs://"), detail=False, refresh=True) == [path]
