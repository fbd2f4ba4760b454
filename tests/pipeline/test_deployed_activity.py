"""Activity of real datasets with deployments: each site's own hours."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.activity import details
from pipeline.cli import main
from tests.pipeline.archive import tone, write
from tests.pipeline.deployed import MARCH, NOVEMBER, STRANGE, deploy, hourly, measured
from tests.pipeline.test_detection import content, detect


def about(out: Path) -> dict[str, Any]:
    return details(pq.read_table(out.parent / "activity.parquet"))


def of(site: str, found: dict[Any, int]) -> dict[Any, int]:
    return {time: scored for (where, time), scored in found.items() if where == site}


def test_a_song_meter_on_a_fixed_offset_through_both_changes(out: Path, tmp_path: Path) -> None:
    assert deploy(out, tmp_path / "t.csv", "007,-05:00,America/New_York,,,,\n") == 0
    days = of("007", measured(out, "date"))
    # The last hour of the clock's day is the next day's first in summer.
    assert days == {
        MARCH.date(): 23,
        MARCH.date() + dt.timedelta(days=1): 1,
        NOVEMBER.date(): 25,
    }
    hours = of("007", measured(out))
    assert MARCH.replace(hour=2) not in hours and hours[MARCH.replace(hour=3)] == 1
    assert hours[NOVEMBER.replace(hour=1)] == 2
    assert len([hour for hour in hours if hour.date() == NOVEMBER.date()]) == 24
    clock = of("007", measured(out, "date", "--time-zone", "clock"))
    assert clock == {MARCH.date(): 24, NOVEMBER.date(): 24, dt.date(2024, 11, 2): 1}
    assert about(out)["time_zone"] is None


def test_an_audiomoth_on_utc_in_california(out: Path, tmp_path: Path) -> None:
    assert deploy(out, tmp_path / "t.csv", "CREEK,utc,America/Los_Angeles,,,,\n") == 0
    hours = of("CREEK", measured(out))
    # Its clock's day begins at five in the afternoon of the day before; dawn is at noon of it.
    assert hours == dict.fromkeys(hourly(dt.datetime(2024, 5, 31, 17), 24), 1)
    assert of("CREEK", measured(out, "date")) == {dt.date(2024, 5, 31): 7, dt.date(2024, 6, 1): 17}


def test_three_quarters_of_an_hour(out: Path, tmp_path: Path) -> None:
    assert deploy(out, tmp_path / "t.csv", "HILL,UTC,Asia/Kathmandu,27.7,85.3,,\n") == 0
    day = dt.datetime(2024, 6, 1)
    expected = {day.replace(hour=5): 2, day.replace(hour=6): 2}
    assert of("HILL", measured(out)) == expected
    assert deploy(out, tmp_path / "t.csv", "HILL,+05:45,UTC,,,,\n") == 0
    assert of("HILL", measured(out)) == {dt.datetime(2024, 5, 31, 18): 4}


def test_a_clock_that_follows_the_zone_runs_on_through_the_change(
    out: Path, tmp_path: Path
) -> None:
    assert deploy(out, tmp_path / "t.csv", "ZONED,zone,America/New_York,,,,\n") == 0
    in_utc = of("ZONED", measured(out, "hour", "--time-zone", "UTC"))
    assert in_utc == {
        MARCH.replace(hour=6): 2,
        MARCH.replace(hour=7): 2,
        # Begun before the hour that comes twice, so in its first coming.
        NOVEMBER.replace(hour=4): 2,
        NOVEMBER.replace(hour=5): 2,
        # Begun in it, so taken for its second coming.
        NOVEMBER.replace(hour=6): 1,
    }
    assert of("ZONED", measured(out)) == {
        MARCH.replace(hour=1): 2,
        MARCH.replace(hour=3): 2,
        NOVEMBER.replace(hour=0): 2,
        NOVEMBER.replace(hour=1): 3,
    }


def test_deployments_that_follow_each_other_with_another_clock(out: Path, tmp_path: Path) -> None:
    text = "MOVED,utc,Europe/Berlin,,,,2024-06-01\nMOVED,zone,Europe/Berlin,,,2024-06-02,\n"
    assert deploy(out, tmp_path / "t.csv", text) == 0
    first, second = dt.datetime(2024, 6, 1), dt.datetime(2024, 6, 2)
    assert of("MOVED", measured(out)) == dict.fromkeys(
        [first.replace(hour=14), first.replace(hour=15), second.replace(hour=12)]
        + [second.replace(hour=13)],
        1,
    )


def test_a_changed_table_changes_activity_and_no_part(out: Path, tmp_path: Path) -> None:
    def parts() -> dict[str, Any]:
        names = [name for name in content(out) if name != "deployments.parquet"]
        return {name: (content(out)[name], (out / name).stat().st_mtime_ns) for name in names}

    before, clocks = parts(), measured(out)
    assert deploy(out, tmp_path / "t.csv", "CREEK,utc,Asia/Tokyo,,,,\n") == 0
    first = measured(out)
    assert deploy(out, tmp_path / "t.csv", "CREEK,+09:00,Asia/Tokyo,,,,\n") == 0
    second = measured(out)
    assert parts() == before
    assert of("CREEK", first) == dict.fromkeys(hourly(dt.datetime(2024, 6, 1, 9), 24), 1)
    assert of("CREEK", second) == of("CREEK", clocks) != of("CREEK", first)
    assert {site for site, _ in second} == {"CREEK"} and len({site for site, _ in clocks}) == 6
    assert measured(out, "hour", "--time-zone", "clock") == clocks


def test_what_has_no_deployment_is_counted(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "CREEK,utc,Asia/Tokyo,,,,\nMOVED,utc,Asia/Tokyo,,,2024-06-02,\nHILL,utc,,,,,\n"
    assert deploy(out, tmp_path / "t.csv", text) == 0
    capsys.readouterr()
    assert {site for site, _ in measured(out)} == {"CREEK", "MOVED"}
    said = capsys.readouterr().out
    assert "Times are each site's own, from deployments." in said
    # 49 of 007, 9 of ZONED, 4 of HILL, whose zone is unknown, 2 of MOVED, 1 of the strange site.
    assert "65 scored windows are left out: no deployment tells their time zone." in said
    left_out = {"undated": 0, "without_utc": 0, "without_deployment": 65, "overlapping": 0}
    assert about(out)["windows_left_out"] == left_out
    assert about(out)["time_zone"] == "deployments"
    # HILL has no zone of its own, but it has UTC.
    assert {site for site, _ in measured(out, "hour", "--time-zone", "UTC")} == {
        "CREEK",
        "HILL",
        "MOVED",
    }
    assert about(out)["windows_left_out"] == left_out | {"without_deployment": 0, "without_utc": 61}


def test_deployments_that_place_nothing(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(out, tmp_path / "t.csv", "creek,utc,Asia/Tokyo,,,,\n") == 0
    assert "'CREEK' of the dataset is 'creek' in the table" in capsys.readouterr().out
    assert main(["activity", str(out)]) == 1
    assert "No deployment tells the time zone" in capsys.readouterr().err
    assert main(["activity", str(out), "--time-zone", "UTC"]) == 1
    assert "No recording of the dataset tells its offset" in capsys.readouterr().err
    assert main(["activity", str(out), "--time-zone", "clock"]) == 0


def test_overlaps_are_found_in_the_utc_of_deployments(bundle: Path, tmp_path: Path) -> None:
    audio, out = tmp_path / "audio", tmp_path / "out"
    write(audio / "A/20240601_235958.wav", tone(2))
    write(audio / "A/20240602_015959.wav", tone(2))
    assert detect(audio, bundle, out) == 0
    assert sum(measured(out).values()) == 4
    text = "A,utc,Europe/Berlin,,,,2024-06-01\nA,+02:00,Europe/Berlin,,,2024-06-02,\n"
    assert deploy(out, tmp_path / "t.csv", text) == 0
    assert measured(out) == {
        ("A", dt.datetime(2024, 6, 2, 1)): 2,
        ("A", dt.datetime(2024, 6, 2, 2)): 1,
    }
    assert about(out)["windows_left_out"]["overlapping"] == 1
    clock = measured(out, "hour", "--time-zone", "clock")
    assert sum(clock.values()) == 3


def test_a_recording_of_which_a_part_has_a_deployment(bundle: Path, tmp_path: Path) -> None:
    audio, out = tmp_path / "audio", tmp_path / "out"
    # Midnight is inside the first two; the first covers all of the others.
    write(audio / "A/20240601_235957.wav", tone(6))
    write(audio / "A/20240601_235958.wav", tone(4))
    write(audio / "A/20240602_000001.wav", tone(2))
    assert detect(audio, bundle, out) == 0
    assert deploy(out, tmp_path / "t.csv", "A,utc,UTC,,,2024-06-02,\n") == 0
    assert measured(out) == {("A", dt.datetime(2024, 6, 2)): 3}
    left_out = about(out)["windows_left_out"]
    assert left_out["without_deployment"] == 5 and left_out["overlapping"] == 4
    assert deploy(out, tmp_path / "t.csv", "A,utc,UTC,,,,2024-06-01\n") == 0
    assert measured(out) == {("A", dt.datetime(2024, 6, 1, 23)): 3}
    left_out = about(out)["windows_left_out"]
    assert left_out["without_deployment"] == 7 and left_out["overlapping"] == 2


def test_a_dataset_behind_a_url(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    url = f"memory://{tmp_path.name}/out"
    fsspec.filesystem("memory").put(f"{made}/", url, recursive=True)
    assert deploy(url, tmp_path / "t.csv", "CREEK,utc,Asia/Tokyo,,,,\n") == 0
    assert f"Written: {url}/deployments.parquet" in capsys.readouterr().out
    assert main(["deployments", url]) == 0
    assert "CREEK" in capsys.readouterr().out
    assert main(["activity", url, "--threshold", "0"]) == 0
    assert "each site's own" in capsys.readouterr().out


def test_strange_names_of_sites(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'"{STRANGE}",utc,Asia/Tokyo,,,,\n"a=b ",utc,,,,,\n'
    assert deploy(out, tmp_path / "t.csv", text) == 0
    said = capsys.readouterr().out
    assert repr(STRANGE)[:10] in said and STRANGE not in said
    assert "1 deployment has no recordings: a=b" in said
    assert measured(out) == {(STRANGE, dt.datetime(2024, 6, 1, 21)): 1}
    assert STRANGE not in capsys.readouterr().out


def test_a_file_that_tells_another_utc(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = tmp_path / "audio"
    # The same moment as the clock, two seconds off, and in the first coming of an hour.
    write(audio / "A/20240601_120000+0200.wav", tone(1))
    write(audio / "A/20240601_130000Z.wav", tone(1))
    write(audio / "B/20241103_013000-0400.wav", tone(1))
    out = tmp_path / "out"
    assert detect(audio, bundle, out) == 0
    text = "A,+02:00,Europe/Berlin,,,,\nB,zone,America/New_York,,,,\n"
    assert deploy(out, tmp_path / "t.csv", text) == 0
    said = capsys.readouterr().out
    assert "warning: 1 recording tells another UTC than the deployment's clock" in said
    assert "A/20240601_130000Z.wav" in said
    found = measured(out, "hour", "--time-zone", "UTC")
    assert found == {
        ("A", dt.datetime(2024, 6, 1, 10)): 1,
        ("A", dt.datetime(2024, 6, 1, 13)): 1,
        ("B", dt.datetime(2024, 11, 3, 5)): 1,
    }
