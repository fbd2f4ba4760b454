"""The report's tables, its page's data and its files, of datasets whose content is known."""

import base64
import datetime as dt
import gzip
import json
import re
import shutil
from pathlib import Path

import duckdb
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline import report_page
from pipeline.cli import main
from pipeline.dataset import open_dataset
from pipeline.report import Report, make_report
from pipeline.report_page import page
from pipeline.report_plots import plots
from pipeline.sun import sun_hours
from tests.pipeline.archive import LABELS, cut, tone, write
from tests.pipeline.deployed import deploy
from tests.pipeline.exported import has_no_formula, make_hostile, read_csv
from tests.pipeline.test_detection import detect
from tests.pipeline.test_detection import rows as dataset_rows

PLACED = "utc,America/New_York,42.75,-73.75,,\n"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """Two sites: A without 2 and 3 June, with a cut file; B without a time but for one file."""
    top = tmp_path_factory.mktemp("known")
    for name, seconds in (
        ("A/20240601_055959.wav", 3),  # Two hours have a part of it.
        ("A/20240601_235959.wav", 2),  # So have two days.
        ("A/20240604_120000.wav", 8),
        ("B/20240601_000000.wav", 2),
        ("B/no time.wav", 4),
    ):
        write(top / "audio" / name, tone(seconds))
    cut(top / "audio/A/20240604_120000.wav", lambda size: size // 2)
    (top / "audio/B/20240605_000000.wav").write_bytes(b"not audio at all, but a note" * 9)
    assert detect(top / "audio", bundle, top / "out", "--min-score", "0") == 0
    return top / "out"


def reported(out: Path, threshold: float = 0.0, zone: str | None = None) -> Report:
    return make_report(open_dataset(str(out)), dict.fromkeys(LABELS, threshold), zone)


def rows(report: Report, table: str, *columns: str) -> list[tuple]:
    return list(zip(*(report.tables[table][name].to_pylist() for name in columns), strict=True))


def page_data(text: str) -> dict:
    (packed,) = re.findall(r'<script id="data" type="text/plain">([^<]*)</script>', text)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_coverage_by_hour_day_and_site(known: Path) -> None:
    report = reported(known)
    hour = [dt.datetime(2024, 6, 1, 5), dt.datetime(2024, 6, 1, 6), dt.datetime(2024, 6, 1, 23)]
    found = {
        (s, h): (e, n)
        for s, h, e, n in rows(
            report, "hours", "site", "hour", "seconds_expected", "windows_scored"
        )
    }
    assert [found["A", at] for at in hour] == [(1.0, 1), (2.0, 2), (1.0, 1)]
    assert found["A", dt.datetime(2024, 6, 2)] == (1.0, 1)
    days = {
        (s, d): (n, u)
        for s, d, n, u in rows(report, "days", "site", "date", "recordings", "unreadable")
    }
    assert days["A", dt.date(2024, 6, 1)] == (2, 0) and days["A", dt.date(2024, 6, 2)] == (1, 0)
    assert days["B", None] == (1, 0) and days["B", dt.date(2024, 6, 5)] == (1, 1)
    assert rows(report, "gaps", "site", "first_day", "last_day", "days") == [
        ("A", dt.date(2024, 6, 3), dt.date(2024, 6, 3), 1)
    ]
    sites = {
        s: more
        for s, *more in rows(
            report, "sites", "site", "recordings", "unreadable", "days", "seconds_expected"
        )
    }
    assert sites == {"A": [3, 0, 3, 13.0], "B": [3, 1, 2, 6.0]}
    totals = duckdb.sql(f"""SELECT sum(seconds_expected), sum(seconds_scored), sum(seconds_skipped)
        FROM read_parquet('{known}/coverage/*/*/*.parquet')""").fetchall()[0]
    for table in ("days", "sites"):
        names = [f"seconds_{x}" for x in ("expected", "scored", "skipped")]
        assert tuple(pc.sum(report.tables[table][x]).as_py() for x in names) == totals
    damage = rows(report, "damage", "site", "reason", "recordings", "windows_lost")
    assert damage == [("A", "truncated", 1, 5), ("B", "not_audio", 1, 0)]
    assert rows(report, "flags", "site", "flag", "recordings") == [("A", "header_lies", 1)]


@pytest.mark.parametrize("threshold", [0.0, 0.45, 1.0])
def test_activity_is_that_of_the_command(out: Path, tmp_path: Path, threshold: float) -> None:
    deploy(out, tmp_path / "d.csv", f"007,{PLACED}HILL,{PLACED}ZONED,{PLACED}CREEK,{PLACED}")
    report = reported(out, threshold)
    for by, table in (("hour", "activity"), ("diel", "diel")):
        file = tmp_path / f"{by}.parquet"
        command = ["activity", str(out), "--by", by, "--threshold", str(threshold)]
        assert main([*command, "--output", str(file)]) == 0
        names = ("label", "site", "hour", "windows_positive", "windows_scored", "activity")
        expected = {tuple(row[x] for x in names) for row in pq.read_table(file).to_pylist()}
        found = set(rows(report, table, *names))
        heard = {row[0] for row in expected if row[3]}
        assert bool(heard) == (threshold < 1)
        if table == "activity":
            assert found == {row for row in expected if row[3]}
        else:
            assert found == {row for row in expected if row[0] in heard}
    for label, positive, scored, sites in rows(
        report, "labels", "label", "windows_positive", "windows_scored", "sites"
    ):
        # Here those count too that have no time.
        limit = f"label = '{label}' AND score >= {threshold}::REAL"
        own = dataset_rows(out, f"SELECT site FROM predictions WHERE {limit}")
        assert positive == len(own) and sites == len(set(own))
        assert scored == dataset_rows(out, "SELECT sum(windows_scored) FROM coverage")[0][0]
        timed = sum(row[3] for row in rows(report, "activity", *names) if row[0] == label)
        assert timed < positive if threshold == 0 else timed <= positive


def test_scores_count_every_detection(known: Path) -> None:
    report = reported(known)
    written = duckdb.sql(f"""SELECT label, floor(score::DOUBLE * 20) / 20, count(*)
        FROM read_parquet('{known}/predictions/*/*/*.parquet') GROUP BY ALL""").fetchall()
    assert set(rows(report, "scores", "label", "score_from", "detections")) == set(written)


def test_the_sun(out: Path, tmp_path: Path) -> None:
    deploy(out, tmp_path / "d.csv", f"007,{PLACED}HILL,{PLACED}")
    found = {
        (s, d): (up, down)
        for s, d, up, down in rows(
            reported(out), "sun", "site", "date", "sunrise_hour", "sunset_hour"
        )
    }
    # Albany, New York; the almanac has 7:17 and 18:55 on the day when daylight saving begins.
    assert found["007", dt.date(2024, 3, 10)] == pytest.approx(
        (7 + 17 / 60, 18 + 55 / 60), abs=0.05
    )
    assert {site for site, _ in found} == {"007", "HILL"}
    clock = {
        (s, d): up
        for s, d, up in rows(reported(out, zone="clock"), "sun", "site", "date", "sunrise_hour")
    }
    assert clock["007", dt.date(2024, 3, 10)] == pytest.approx(11 + 17 / 60, abs=0.05)
    assert not reported(out).near_each_other or len({s for s, _ in found}) == 2


def test_sun_hours_at_the_ends_of_the_earth() -> None:
    tromsø = (69.65, 18.96)
    assert sun_hours(*tromsø, dt.date(2024, 6, 21), 7200) == (None, None)
    assert sun_hours(*tromsø, dt.date(2024, 12, 21), 3600) == (None, None)
    rises, sets = sun_hours(0.0, 0.0, dt.date(2024, 3, 20), 0)
    assert rises == pytest.approx(6.07, abs=0.1) and sets == pytest.approx(18.17, abs=0.1)
    rises, sets = sun_hours(-17.0, 179.0, dt.date(2024, 12, 21), 13 * 3600)
    assert 5 < rises < 7 and 18 < sets < 20


def test_the_page_holds_the_tables(known: Path) -> None:
    report = reported(known)
    data = page_data(page(report, "known", "about"))
    a, b = data["sites"]
    assert (a["name"], b["name"], b["undated"]) == ("A", "B", 4.0)
    assert data["base"] == "2024-06-01" and a["cells"]["at"] == [5, 6, 23, 24, 84]
    assert a["cells"]["expected"] == [1, 2, 1, 1, 8]
    for label in data["labels"]:
        assert (
            sum(label["scores"])
            == pc.sum(
                pc.equal(
                    pq.read_table(known / "predictions")["label"].cast(pa.string()), label["name"]
                )
            ).as_py()
        )
        timed = report.tables["activity"].filter(pc.field("label") == label["name"])
        shown = sum(sum(pairs[1::2]) for pairs in label["positive"].values())
        assert shown == sum(timed["windows_positive"].to_pylist()) < label["windows_positive"]
    assert data["gaps"] == [[0, "2024-06-03", "2024-06-03", 1]]
    assert "recorders' clocks" in data["clock"] and "4 scored windows are left out" in str(
        data["notes"]
    )


def test_rare_labels_that_do_not_fit(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = reported(known)
    size = report.tables["activity"].num_rows // len(LABELS)
    monkeypatch.setattr(report_page, "MOST_CELLS", size)
    data = page_data(page(report, "known", "about"))
    assert [label["positive"] is None for label in data["labels"]] == [False, True, True]
    assert "2 rare labels" in str(data["notes"])


def test_the_command_writes_page_tables_and_pictures(
    known: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "report"
    command = ["report", str(known), "--output", str(folder), "--threshold", "0"]
    assert main([*command, "--png"]) == 0
    said = capsys.readouterr().out
    assert "6 recordings at 2 sites, 2024-06-01 to 2024-06-05" in said and "clocks" in said
    tables = {path.stem for path in (folder / "data").glob("*.csv")}
    assert tables == set(reported(known).tables)
    hours = duckdb.sql(f"SELECT sum(seconds_scored) FROM '{folder}/data/hours.csv'").fetchall()[0]
    assert hours == (pc.sum(reported(known).tables["hours"]["seconds_scored"]).as_py(),)
    pictures = {path.name for path in (folder / "plots").iterdir()}
    assert pictures == {"coverage.png", "effort.png", "damage.png", "overview.png"} | {
        f"label-{number:02d}.png" for number in range(1, len(LABELS) + 1)
    }
    text = (folder / "report.html").read_text()
    assert not re.search(r'(src|href)="(https?:)?//', text.partition("<script")[0])
    # Another report takes its place whole, also of one that was killed before its end; a folder of
    # something else is left alone.
    for name in ("report.html", "data/stages.csv"):
        (folder / name).unlink()
    assert main([*command, "--threshold", "1"]) == 0 and (folder / "data/stages.csv").exists()
    assert (folder / "report.html").exists() and not (folder / "plots").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/report.html").touch()
    assert main(["report", str(known), "--output", str(tmp_path / "other")]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_the_run_says_what_it_cost(known: Path) -> None:
    report = reported(known)
    ((status, shards, audio, scoring, seconds),) = rows(
        report, "runs", "status", "shards", "audio_s", "scoring_s", "seconds"
    )
    assert status == 0 and shards > 0 and audio == pytest.approx(19.0) and 0 < scoring <= seconds
    assert "network" in report.tables["stages"]["stage"].to_pylist()


def test_nothing_was_detected_and_nothing_was_readable(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write(tmp_path / "audio/A/no time.wav", tone(2))
    assert detect(tmp_path / "audio", bundle, tmp_path / "out") == 0
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.wav").write_bytes(b"")
    assert detect(tmp_path / "bad", bundle, tmp_path / "none") == 1
    for name in ("out", "none"):
        folder = tmp_path / f"report {name}"
        command = ["report", str(tmp_path / name), "--output", str(folder), "--threshold", "1"]
        assert main([*command, "--png"]) == 0, capsys.readouterr().err
        data = page_data((folder / "report.html").read_text())
        assert len(data["sites"]) == 1 and not any(x["windows_positive"] for x in data["labels"])
    assert main(["report", str(tmp_path / "bad"), "--output", str(tmp_path / "r")]) == 1
    assert "There is no dataset" in capsys.readouterr().err


def test_recordings_without_a_time_are_in_the_totals(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write(tmp_path / "audio/A/no time.wav", tone(6))
    assert detect(tmp_path / "audio", bundle, tmp_path / "out", "--min-score", "0") == 0
    report = reported(tmp_path / "out")
    for label, site, positive, scored in rows(
        report, "label_sites", "label", "site", "windows_positive", "windows_scored"
    ):
        assert (site, positive, scored) == ("A", 6, 6) and label in LABELS
    assert rows(report, "labels", "windows_positive", "sites") == [(6, 1)] * len(LABELS)
    assert not any(report.tables[name].num_rows for name in ("hours", "diel", "activity"))
    folder = tmp_path / "report"
    command = ["report", str(tmp_path / "out"), "--threshold", "0", "--output", str(folder)]
    assert main([*command, "--png"]) == 0
    said = capsys.readouterr().out
    assert "No recording has a time" in said and "6 scored windows are left out" in said
    assert f"Pictures     {folder}/plots (1 file)" in said
    assert [path.name for path in folder.glob("plots/*")] == ["overview.png"]


def test_single_label_and_each_channel(single_bundle: Path, tmp_path: Path) -> None:
    stereo = np.stack([tone(3), tone(3, seed=1)], axis=1)
    write(tmp_path / "audio/A/20240601_120000.wav", stereo)
    out = tmp_path / "out"
    assert detect(tmp_path / "audio", single_bundle, out, "--channel", "each") == 0
    report = reported(out)
    assert sum(n for (n,) in rows(report, "labels", "windows_positive")) == 6
    assert rows(report, "hours", "windows_scored") == [(6,)]
    assert "each channel by itself" in report_page.lead(report)


def test_hostile_names(tmp_path: Path) -> None:
    out = make_hostile(tmp_path)
    folder = tmp_path / "report"
    command = ["report", str(out), "--output", str(folder), "--threshold", "0", "--png"]
    assert main(command) == 0
    text = (folder / "report.html").read_text()
    before_data = text.partition('<script id="data"')[0]
    assert "<b>" not in before_data and "wren" not in before_data
    for path in (folder / "data").glob("*.csv"):
        numbers = ("longitude", "latitude")
        assert has_no_formula(read_csv(path), *numbers), path
    shutil.move(out, tmp_path / "<img src=x onerror=alert(1)>")
    command[1] = str(tmp_path / "<img src=x onerror=alert(1)>")
    assert main(command) == 0
    assert "<img" not in (folder / "report.html").read_text().partition("<script")[0]


def test_from_a_bucket_into_a_bucket(
    known: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    fsspec.filesystem("gs").put(str(known), f"{bucket}/out", recursive=True)
    options = ["--threshold", "0", "--output"]
    assert main(["report", f"{bucket}/out", *options, f"{bucket}/report"]) == 0
    assert main(["report", str(known), *options, str(tmp_path / "report")]) == 0
    for path in (tmp_path / "report/data").iterdir():
        there = fsspec.filesystem("gs").cat(f"{bucket}/report/data/{path.name}")
        assert there == path.read_bytes(), path.name
    page_there = fsspec.filesystem("gs").cat(f"{bucket}/report/report.html").decode()
    here = (tmp_path / "report/report.html").read_text()
    assert page_data(page_there) == page_data(here)
    assert main(["report", f"{bucket}/out", *options, f"{bucket}/out"]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_plots_need_no_sites_near_each_other(out: Path, tmp_path: Path) -> None:
    far = "utc,,-42.75,170,,\n"
    deploy(out, tmp_path / "d.csv", f"007,{PLACED}HILL,{far}")
    report = reported(out)
    assert not report.near_each_other
    assert all(picture[:4] == b"\x89PNG" for _, picture in plots(report))
