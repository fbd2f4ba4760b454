from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from pipeline.clock import ClockTime
from pipeline.discovery import discover
from pipeline.lists import Line, read_list
from tests.pipeline.archive import tone, write
from tests.pipeline.test_detection import content, detect, rows

FIVE = datetime(2024, 6, 1, 5)


def csv(tmp_path: Path, *lines: str) -> str:
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return str(tmp_path / "list.csv")


def test_what_a_table_tells(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "note,file,start_clock,site",
        '"two\nlines",a.wav,2024-06-01T05:00:00,Ridge',
        "x,b.wav,2024-06-01 05:00:00.5+02:00,",
        'x,"c, d.wav",,"A, B"',
        ",,,",
        "x,e.wav",
    )
    half = FIVE + timedelta(seconds=0.5)
    assert read_list(path) == [
        Line("a.wav", "line 3", ClockTime(FIVE), "Ridge"),
        Line("b.wav", "line 4", ClockTime(half, datetime(2024, 6, 1, 3, 0, 0, 500_000, UTC))),
        Line("c, d.wav", "line 5", None, "A, B"),
        Line("e.wav", "line 7"),
    ]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_parquet(tmp_path: Path, unit: str) -> None:
    zone = timezone(timedelta(hours=-5))
    table = pa.table(
        {
            "url": ["a.wav", "b.wav", None],
            "start_clock": pa.array([FIVE, None, FIVE], pa.timestamp(unit)),
            "site": pa.array([7, None, 8], pa.int64()),
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")
    first, second = read_list(str(tmp_path / "list.parquet"))
    assert (first.start, first.site) == (ClockTime(FIVE), "7")
    assert (second.start, second.site, second.where) == (None, None, "row 2")
    aware = pa.array([FIVE.replace(tzinfo=zone)], pa.timestamp(unit, "-05:00"))
    pq.write_table(pa.table({"path": ["a"], "start_clock": aware}), tmp_path / "list.parquet")
    (line,) = read_list(str(tmp_path / "list.parquet"))
    assert line.start == ClockTime(FIVE, datetime(2024, 6, 1, 10, tzinfo=UTC))


@settings(deadline=None)
@given(st.datetimes(min_value=datetime(2001, 1, 1)), st.sampled_from(["T", " "]))
def test_any_time_is_read_back(tmp_path_factory, moment: datetime, gap: str) -> None:
    folder = tmp_path_factory.mktemp("lists")
    path = csv(folder, "path,start_clock", f"x.wav,{moment.isoformat(gap)}")
    assert read_list(path)[0].start == ClockTime(moment)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["path,start_clock", "a.wav,", "b.wav,yesterday"], r"'yesterday' in line 3"),
        (["path,start_clock", "a.wav,2024-06-01"], r"'2024-06-01' in line 2"),
        (["path,start_clock", "a.wav,2024-06-31T05:00"], r"'2024-06-31T05:00' in line 2"),
        (["path,start_clock", "a.wav,1717218000"], r"'1717218000' in line 2"),
        (["path,site", "d,Ridge"], "names the folder"),
        (["path,site", "a.wav,Ridge", "./a.wav,Marsh"], "in line 2 and another in line 3"),
        (["path,file", "a.wav,Ridge"], "one column"),
        (["path", ""], "no recordings"),
    ],
)
def test_wrong_lists_are_one_sentence(tmp_path: Path, lines: list[str], says: str) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match=says) as caught:
        discover([csv(tmp_path, *lines)])
    assert "list.csv" in str(caught.value)


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.wav\n")
    with pytest.raises(UserError, match="UTF-8"):
        read_list(str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_bytes(b"a\0b.wav\n")
    with pytest.raises(UserError, match="not text"):
        read_list(str(tmp_path / "list.txt"))


def test_times_and_sites_of_a_list(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.wav", "b.wav", "RIDGE_20240601_050000.wav"):
        write(tmp_path / name, tone(2))
    columns = "file,start_clock,site"
    path = csv(
        tmp_path,
        columns,
        "a.wav,2024-06-01T05:00:00,Marsh",
        "b.wav,,Marsh",
        "RIDGE_20240601_050000.wav,2024-06-01T06:00:00Z,",
    )
    out = tmp_path / "out"
    assert detect(path, bundle, out) == 0
    query = """SELECT recording, site, start_clock::VARCHAR, start_utc IS NULL, time_source, flags
        FROM coverage ORDER BY 1 DESC"""
    assert rows(out, query) == [
        ("b.wav", "Marsh", None, True, None, []),
        ("a.wav", "Marsh", "2024-06-01 05:00:00", True, "inventory", []),
        (
            "RIDGE_20240601_050000.wav",
            "RIDGE",
            "2024-06-01 05:00:00",
            True,
            "name",
            ["times_disagree"],
        ),
    ]
    # The files' stamps are the same: only the list has changed.
    csv(tmp_path, columns, "a.wav,2024-06-02T05:00:00+01:00,Hill", "b.wav,,Marsh")
    assert detect(path, bundle, out) == 0
    assert rows(out, query)[:2] == [
        ("b.wav", "Marsh", None, True, None, []),
        ("a.wav", "Hill", "2024-06-02 05:00:00", False, "inventory", []),
    ]
    standing = content(out)
    assert detect(path, bundle, out) == 0
    assert content(out) == standing
    csv(tmp_path, columns, "a.wav,at dawn,Hill")
    assert detect(path, bundle, out) == 1
    assert "'at dawn' in line 2" in capsys.readouterr().err.splitlines()[-1]
    assert content(out) == standing
