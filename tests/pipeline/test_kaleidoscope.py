"""Kaleidoscope's CSV of results."""

from pathlib import Path

import pytest

from pipeline.kaleidoscope import COLUMNS
from tests.pipeline.exported import LABELS, LINE, SUM, export_to, has_no_formula, read_csv


def test_where_and_when_and_what(
    placed: Path, hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_to(tmp_path, placed, "kaleidoscope") == 0
    assert "DATE and TIME are when the recording began, by the recorder's clock." in (
        capsys.readouterr().out
    )
    rows = read_csv(tmp_path / "cluster.csv")
    assert tuple(rows[0]) == COLUMNS
    assert has_no_formula(rows)
    (first,) = (
        row
        for row in rows
        if row["IN FILE"] == "20241103_053000.wav" and row["TOP1MATCH"] == "<b>@wren</b>"
    )
    score = float(first.pop("SCORE"))
    assert float(first.pop("TOP1DIST")) == pytest.approx(1 - score, abs=1e-4)
    assert first == {
        "INDIR": str(hostile.parent / "audio"),
        "FOLDER": f"./{SUM}",
        "IN FILE": "20241103_053000.wav",
        "CHANNEL": "0",
        "OFFSET": "0.000000",
        "DURATION": "2.500000",
        "DATE": "2024-11-03",
        "TIME": "05:30:00",
        "HOUR": "5",
        "DATE-12": "2024-11-02",
        "TIME-12": "17:30:00",
        "HOUR-12": "17",
        "TOP1MATCH": "<b>@wren</b>",
        "MANUAL ID": "",
        "SITE": f" {SUM}",
    }
    assert {row["TOP1MATCH"].strip() for row in rows} == set(LABELS)


def test_the_root_and_recordings_without_a_time(hostile: Path, tmp_path: Path) -> None:
    assert export_to(tmp_path, hostile, "kaleidoscope") == 0
    rows = read_csv(tmp_path / "cluster.csv")
    files = {(row["FOLDER"], row["IN FILE"]): row for row in rows}
    assert files["", "./+P_20240601_060000.wav"]["TIME"] == "06:00:00"
    assert files["./" + LINE.replace("\n", " "), "20240601_050000.wav"]["TIME"] == "05:00:00"
    undated = files["D..x", "tone.flac"]
    assert {undated[name] for name in ("DATE", "TIME", "HOUR", "DATE-12", "HOUR-12")} == {""}
