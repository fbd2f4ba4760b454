"""Deployments: the table and what it refuses, its screen, and the join."""

import datetime as dt
import zoneinfo
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from model.tables import read_table
from pipeline.cli import main
from pipeline.dataset import registered
from pipeline.deployments import (
    SCHEMA,
    Deployment,
    joined,
    parse_deployments,
    read_deployments,
    to_table,
    write_deployments,
)
from pipeline.storage import Folder
from tests.pipeline.deployed import HEADER, MARCH, NOVEMBER, STRANGE, deploy


def test_the_screen_and_the_file(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deployments", str(out)]) == 1
    assert "There are no deployments in" in capsys.readouterr().err
    text = (
        "CREEK,utc,America/Los_Angeles,37.9,-119.5,,\n"
        "007,-5,America/New_York,,,2024-11-03,\n"
        "007,zone,America/New_York,,,2024-01-01,2024-02-01\n"
        "NOWHERE,+0545,,,,,2024-02-01\n"
    )
    assert deploy(out, tmp_path / "t.csv", text) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Written: {out}/deployments.parquet\n4 deployments at 3 sites\n")
    assert "007      2024-01-01  2024-02-01  zone    America/New_York              0\n" in said
    assert "CREEK    open        open        utc     America/Los_Angeles          24\n" in said
    assert (
        f"4 sites of the dataset have no deployment: HILL, MOVED, ZONED, {STRANGE!r}"[:60] in said
    )
    assert "2 deployments have no recordings: 007 (2024-01-01 to 2024-02-01), NOWHERE" in said
    assert "25 recordings lie outside the days of the site's deployments" in said
    assert "warning" not in said
    assert max(map(len, said.splitlines()[1:])) <= 110
    assert main(["deployments", str(out)]) == 0
    assert capsys.readouterr().out == said.partition("\n")[2]
    table = pq.read_table(out / "deployments.parquet")
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist()[1] == {
        "site": "007",
        "clock": "-05:00",
        "time_zone": "America/New_York",
        "latitude": None,
        "longitude": None,
        "first_day": NOVEMBER.date(),
        "last_day": None,
    }


REFUSED = {
    "the site is empty": ",utc,,,,,",
    "the clock '' is not known; give utc": "A,,,,,,",
    "the clock '05:00' is not known": "A,05:00,,,,,",
    "the clock 'EST' is not known": "A,EST,,,,,",
    "the clock '-13:00' is an impossible offset; give one from": "A,-13:00,,,,,",
    "the clock '+14:15' is an impossible offset": "A,+14:15,,,,,",
    "the clock '+05:40' is an impossible offset": "A,+05:40,,,,,",
    "the time zone 'Mars/Base' is not known; give an IANA name": "A,utc,Mars/Base,,,,",
    "the time zone 'BST' is not known": "A,utc,BST,,,,",
    "the clock is zone and the time zone is empty": "A,zone,,,,,",
    "the latitude 'north' cannot be read; give a number": "A,utc,,north,1,,",
    "the latitude is 90.5; give one from -90 to 90": "A,utc,,90.5,1,,",
    "the latitude is nan": "A,utc,,nan,1,,",
    "the longitude is -181; give one from -180 to 180": "A,utc,,1,-181,,",
    "one of latitude and longitude is empty": "A,utc,,1,,,",
    "the first day '6/1/2024' cannot be read; give a day such as": "A,utc,,,,6/1/2024,",
    "the last day '2024-02-30' cannot be read": "A,utc,,,,,2024-02-30",
    "the last day 2024-05-01 is before the first day 2024-05-02": "A,utc,,,,2024-05-02,2024-05-01",
    "more cells than the header has columns": "A,utc,,,,,,x",
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_cell_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    table = tmp_path / "t.csv"
    assert deploy(made, table, "B,utc,,,,,\n" + REFUSED[message] + "\n") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {table}, line 3: {message}") and said.count("\n") == 1
    assert not (made / "deployments.parquet").exists()


@pytest.mark.parametrize(
    "second",
    [
        "A,utc,,,,2024-05-01,2024-05-31",
        "A,utc,,,,2024-05-31,2024-06-01",
        "A,utc,,,,,2024-05-01",
        "A,utc,,,,2024-05-31,",
        "A,zone,Europe/Berlin,,,,",
    ],
)
def test_days_that_overlap_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], second: str
) -> None:
    text = "A,utc,,,,2024-05-01,2024-05-31\nB,utc,,,,,\n" + second + "\n"
    assert deploy(made, tmp_path / "t.csv", text) == 1
    said = capsys.readouterr().err
    assert "the days of the site 'A' overlap those of" in said
    assert ", line 2" in said and ", line 4" in said


def test_a_table_that_is_none(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    for text, message in (
        ("", "no header line"),
        (HEADER, "has no deployments"),
        ("name,clock\nA,utc\n", "has no column site; its columns are: name, clock"),
        ("site,zone\nA,utc\n", "has no column clock"),
        (
            "site,clock,Time Zone,time_zone\nA,utc,,\n",
            "Time Zone and time_zone, which mean the same",
        ),
    ):
        table.write_text(text)
        assert main(["deployments", str(made), "--table", str(table)]) == 1
        said = capsys.readouterr().err
        assert message in said and str(table) in said and said.count("\n") == 1
    assert main(["deployments", str(made), "--table", str(tmp_path / "none.csv")]) == 1
    assert "Cannot read" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert deploy(tmp_path / "empty", table, "A,utc,,,,,\n") == 1
    assert "There is no dataset in" in capsys.readouterr().err
    assert not (tmp_path / "empty/deployments.parquet").exists()


def test_headers_in_any_case_with_spaces_and_further_columns(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("Notes;SITE;Clock;Time zone;First Day;battery\nx;007;Zone;Asia/Tokyo;;y\n")
    assert main(["deployments", str(out), "--table", str(table)]) == 0
    said = capsys.readouterr().err
    assert said == f"warning: {table}: 2 further columns left out: Notes, battery\n"
    assert read_deployments(Folder(str(out))) == (Deployment("007", "zone", "Asia/Tokyo"),)


def test_a_table_in_its_place_that_is_not_ours(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = out / "deployments.parquet"
    row = {"site": "A", "clock": "utc"}
    for write_it in (
        lambda: file.write_bytes(b"site,clock\n"),
        lambda: pq.write_table(pa.table({"site": ["A"]}), file),
        lambda: pq.write_table(pa.Table.from_pylist([row, row], SCHEMA), file),
        lambda: pq.write_table(pa.Table.from_pylist([row | {"clock": "noon"}], SCHEMA), file),
    ):
        write_it()
        assert main(["activity", str(out)]) == 1
        said = capsys.readouterr().err
        assert "deployments.parquet cannot be used" in said and said.count("\n") == 1
        # A table given anew takes its place.
        assert deploy(out, tmp_path / "t.csv", "CREEK,utc,Asia/Tokyo,,,,\n") == 0
        assert main(["activity", str(out), "--threshold", "0"]) == 0
        capsys.readouterr()


def test_the_table_comes_back_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(HEADER + '"=1+2; é",-00:30,UTC,-90,180,2024-01-01,2024-01-01\n')
    deployments, further = parse_deployments(read_table(file))
    day = dt.date(2024, 1, 1)
    assert deployments == (Deployment("=1+2; é", "-00:30", "UTC", -90, 180, day, day),)
    assert further == ()
    write_deployments(Folder(str(tmp_path)), deployments)
    assert read_deployments(Folder(str(tmp_path))) == deployments
    assert read_deployments(Folder(str(tmp_path / "none"))) is None


def placed(
    deployments: Sequence[Deployment],
    site: str,
    clock: dt.datetime | None,
    seconds: float,
    utc: dt.datetime | None = None,
) -> tuple[dt.datetime | None, dt.datetime | None]:
    """The definition: UTC (the file's, else the deployment's) and the site's own time of a row."""
    for d in deployments:
        if clock is None or d.site != site:
            continue
        if (d.first_day or dt.date.min) <= clock.date() <= (d.last_day or dt.date.max):
            if utc is None:
                # Time runs on from the recording's start.
                elapsed = dt.timedelta(microseconds=round(seconds * 1e6))
                utc = in_utc(d, clock - elapsed) + elapsed
            zone = d.time_zone and zoneinfo.ZoneInfo(d.time_zone)
            return utc, utc.astimezone(zone).replace(tzinfo=None) if zone else None
    return utc, None


def in_utc(d: Deployment, start: dt.datetime) -> dt.datetime:
    if d.clock == "utc":
        return start.replace(tzinfo=dt.UTC)
    if d.clock != "zone":
        offset = dt.timedelta(hours=int(d.clock[1:3]), minutes=int(d.clock[4:]))
        return (start + offset if d.clock[0] == "-" else start - offset).replace(tzinfo=dt.UTC)
    zone = zoneinfo.ZoneInfo(d.time_zone or "")
    # Of a time that comes twice the second, of one that never comes the offset before.
    both = [start.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for fold in (0, 1)]
    return both[all(utc.astimezone(zone).replace(tzinfo=None) == start for utc in both)]


EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

ZONES = ["America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"]


@settings(max_examples=100, deadline=None)
@given(
    deployed=st.lists(
        st.tuples(
            st.sampled_from(["utc", "zone", "-05:00", "+05:45", "-09:30", "+14:00"]),
            st.sampled_from(ZONES),
            st.booleans(),
        ),
        min_size=1,
        max_size=3,
    ),
    rows=st.lists(
        st.tuples(
            # Quarters of hours about the changes in New York, Lord Howe and Newfoundland.
            st.sampled_from([MARCH, NOVEMBER, dt.datetime(2024, 4, 7), dt.datetime(2024, 10, 6)]),
            st.integers(-100, 100),
            st.sampled_from([0, 0.5, 900, 3600.0000005, 7200 - 1 / 3]),
            st.booleans(),
        ),
        min_size=1,
        max_size=20,
    ),
    session=st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"]),
)
def test_the_join_is_what_the_slow_reference_says(
    deployed: list[tuple[str, str, bool]], rows: list[Any], session: str
) -> None:
    days = [None, MARCH.date(), dt.date(2024, 7, 1), None]
    deployments = [
        Deployment(
            "A",
            clock,
            zone if named or clock == "zone" else None,
            first_day=days[i],
            last_day=days[i + 1] and days[i + 1] - dt.timedelta(days=1),  # type: ignore[operator]
        )
        for i, (clock, zone, named) in enumerate(deployed)
    ]
    given_rows = [
        {
            "site": "A" if ours else "B",
            "start_clock": start + n * dt.timedelta(minutes=15),
            "start_s": seconds,
            "start_utc": None,
        }
        for start, n, seconds, ours in rows
    ]
    types = [("site", pa.string()), ("start_clock", pa.timestamp("us")), ("start_s", pa.float64())]
    source = pa.Table.from_pylist(
        given_rows, pa.schema([*types, ("start_utc", pa.timestamp("us", "UTC"))])
    )
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{session}'")
    with registered(connection, source=source, deployments=to_table(deployments)):
        sql = f"""SELECT site, start_clock, start_s, epoch_us(utc), epoch_us(clock_utc), site_time
        FROM {joined("source", "start_s")}"""
        found = connection.sql(sql).fetchall()
    assert len(found) == len(rows)
    for site, clock, seconds, utc, clock_utc, site_time in found:
        expected, local = placed(deployments, site, clock, seconds)
        since = expected and (expected - EPOCH) // dt.timedelta(microseconds=1)
        assert (utc, clock_utc, site_time) == (since, since, local)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "deployments.parquet").mkdir()
    with pytest.raises(UserError, match=r"deployments\.parquet cannot be written"):
        write_deployments(Folder(str(tmp_path)), [Deployment("A", "utc")])


def test_what_a_deployment_refuses() -> None:
    with pytest.raises(UserError, match="the site is empty"):
        Deployment("", "utc")
    assert Deployment("A", "+5").clock == "+05:00" and Deployment("A", "-0330").clock == "-03:30"
