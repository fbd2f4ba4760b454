"""A dataset whose sites, recordings and labels mean harm, and what `export` makes of it."""

import csv
from pathlib import Path

import duckdb

from pipeline.cli import main
from tests.pipeline.archive import tiny_bundle, tone, write

LABELS = ("=1+1", 'Turdus merula_Black "bird", male', "<b>@wren</b>")
SUM, LINE, PLUS, UNDATED = '=1+1,"S"<b>', "@L\nine", "+P", "D..x"
"""Sites. The last one's recording has no time."""
RECORDINGS = {
    f"{SUM}/20241103_053000.wav": 2.5,
    f"{SUM}/20241103_070000.wav": 1.0,
    f"{LINE}/20240601_050000.wav": 3.0,
    "+P_20240601_060000.wav": 2.0,
    f"{UNDATED}/tone.flac": 2.0,
}
"""Their recordings, with seconds."""
DEPLOYED = (
    (SUM, "utc", "America/New_York", 42.5, -73.25),
    (LINE, "-05:00", "", -37.5, 145.0),
    (PLUS, "zone", "Europe/Berlin", 52.0, 13.0),
    (UNDATED, "utc", "", 1.0, 2.0),
)


def make_hostile(top: Path) -> Path:
    """The dataset `top/out` of recordings below `top/audio`, without deployments."""
    for name, seconds in RECORDINGS.items():
        write(top / "audio" / name, tone(seconds))
    tiny_bundle(top / "bundle", labels=LABELS)
    given = ["--input", str(top / "audio"), "--model", str(top / "bundle")]
    assert main(["detect", *given, "--output", str(top / "out"), "--min-score", "0"]) == 0
    return top / "out"


def deploy(dataset: Path, table: Path, rows: tuple[tuple, ...] = DEPLOYED) -> None:
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("site", "clock", "time_zone", "latitude", "longitude"))
        writer.writerows(rows)
    assert main(["deployments", str(dataset), "--table", str(table)]) == 0


def export_to(out: Path | str, dataset: Path, kind: str, *more: str) -> int:
    """Exports every label of every recording, unless `more` says otherwise, as one event."""
    options = more or ("--threshold", "0")
    return main(["export", str(dataset), "--to", kind, "--output", str(out), *options])


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def of_events(dataset: Path, tmp_path: Path, threshold: str = "0") -> list[tuple]:
    """Recording, label, start, end and score of every event, sorted."""
    path = tmp_path / "events.parquet"
    assert main(["events", str(dataset), "--threshold", threshold, "--output", str(path)]) == 0
    query = f"SELECT recording, label, start_s, end_s, score FROM '{path}' ORDER BY ALL"
    return duckdb.sql(query).fetchall()


def has_no_formula(rows: list[dict[str, str]], *numbers: str) -> bool:
    """Whether no cell begins like a formula, but for those of columns that hold numbers."""
    return not any(
        value.startswith(("=", "+", "-", "@", "\t", "\r"))
        for row in rows
        for name, value in row.items()
        if name not in numbers
    )
