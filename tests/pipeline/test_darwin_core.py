"""The Darwin Core Archive of occurrences."""

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline.cli import main
from tests.pipeline.archive import tiny_bundle, tone, write
from tests.pipeline.exported import (
    LINE,
    PLUS,
    SUM,
    UNDATED,
    export_to,
    has_no_formula,
    read_csv,
)

TEXT = "{http://rs.tdwg.org/dwc/text/}"
REQUIRED = {"occurrenceID", "basisOfRecord", "scientificName", "eventDate"}
"""What GBIF requires of occurrence datasets."""


def read_archive(folder: Path) -> list[dict[str, str]]:
    """The rows by term, read as the metafile says (Darwin Core text guide)."""
    archive = ElementTree.parse(folder / "meta.xml").getroot()
    assert archive.tag == f"{TEXT}archive"
    (core,) = archive
    assert core.attrib["rowType"] == "http://rs.tdwg.org/dwc/terms/Occurrence"
    (location,) = core.iterfind(f"{TEXT}files/{TEXT}location")
    text = (folder / str(location.text)).read_bytes().decode(core.attrib["encoding"])
    ends = core.attrib["linesTerminatedBy"].encode().decode("unicode_escape")
    assert text.endswith(ends)
    table = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=core.attrib["fieldsTerminatedBy"],
        quotechar=core.attrib["fieldsEnclosedBy"],
        strict=True,
    )
    header, *rows = table
    assert core.attrib["ignoreHeaderLines"] == "1"
    (identifier,) = core.iterfind(f"{TEXT}id")
    assert header[int(identifier.attrib["index"])] == "occurrenceID"
    terms = {int(x.attrib["index"]): x.attrib["term"] for x in core.iterfind(f"{TEXT}field")}
    assert [terms[i] for i in range(len(terms))] == [
        f"http://rs.tdwg.org/dwc/terms/{name}" for name in header
    ]
    # A line break in a cell is what readers of archives fail at.
    assert len(rows) == text.count(ends) - 1 == text.count("\n") - 1
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_occurrences_by_the_metafile(
    placed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_to(tmp_path, placed, "dwc") == 0
    said = capsys.readouterr().out
    assert "12 events in 4 recordings\n" in said
    assert "3 events left out: nothing tells their date." in said
    assert "coordinates" not in said and "clock" not in said
    rows = read_archive(tmp_path)
    assert has_no_formula(rows, "decimalLatitude", "decimalLongitude")
    assert all(row[name] for row in rows for name in REQUIRED)
    assert len({row["occurrenceID"] for row in rows}) == len(rows) == 12
    assert len({row["eventID"] for row in rows}) == 4
    (row,) = (
        row
        for row in rows
        if row["locality"] == f" {SUM}"
        and "2.500 s" in row["eventRemarks"]
        and row["scientificName"] == "Turdus merula"
    )
    assert len(row.pop("occurrenceID")) == len(row.pop("eventID")) == 32
    assert row.pop("identifiedBy").startswith("dawnchorus model ")
    assert row.pop("identificationRemarks").startswith("score 0.")
    assert row == {
        "basisOfRecord": "MachineObservation",
        "occurrenceStatus": "present",
        "eventDate": "2024-11-03T01:30:00-04:00/2024-11-03T01:30:03-04:00",
        "locality": f" {SUM}",
        "decimalLatitude": "42.5",
        "decimalLongitude": "-73.25",
        "geodeticDatum": "EPSG:4326",
        "samplingProtocol": "passive acoustic recording, windows of 1 s scored",
        "samplingEffort": "2.5 s of the recording scored",
        "eventRemarks": f"0.000 to 2.500 s of {SUM}/20241103_053000.wav",
        "vernacularName": 'Black "bird", male',
        "scientificName": "Turdus merula",
        "verbatimIdentification": 'Turdus merula_Black "bird", male',
        "identificationVerificationStatus": "PredictedByMachine",
    }


def test_without_deployments_times_are_the_clock_s(
    hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_to(tmp_path / "a", hostile, "dwc") == 0
    said = capsys.readouterr().out
    assert "12 events without coordinates: no deployment tells them." in said
    assert "12 events with the recorder's clock time, without an offset" in said
    rows = read_archive(tmp_path / "a")
    dates = {row["locality"].strip(): row["eventDate"] for row in rows}
    assert dates[PLUS] == "2024-06-01T06:00:00/2024-06-01T06:00:02"
    assert dates[LINE.replace("\n", " ")] == "2024-06-01T05:00:00/2024-06-01T05:00:03"
    assert UNDATED not in dates
    assert {(row["decimalLatitude"], row["geodeticDatum"]) for row in rows} == {("", "")}


def test_corrected_deployments_change_no_identifier(
    hostile: Path, placed: Path, tmp_path: Path
) -> None:
    found = []
    for number, dataset in enumerate((hostile, placed)):
        assert export_to(tmp_path / f"{number}", dataset, "dwc") == 0
        rows = read_csv(tmp_path / f"{number}/occurrence.csv")
        found.append([(row["occurrenceID"], row["eventID"]) for row in rows])
    assert found[0] == found[1]


def test_unknown_sound_is_no_occurrence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_bundle(tmp_path / "bundle", rejects=True)
    write(tmp_path / "audio/a/20240601_060000.wav", tone(2))
    given = ["--input", str(tmp_path / "audio"), "--model", str(tmp_path / "bundle")]
    out = tmp_path / "out"
    assert main(["detect", *given, "--output", str(out), "--min-score", "0"]) == 0
    assert export_to(tmp_path / "a", out, "dwc") == 0
    assert "1 event left out: unknown is no name." in capsys.readouterr().out
    found = {row["scientificName"] for row in read_archive(tmp_path / "a")}
    assert found == {"wren", "robin", "unheard bird"}
    assert export_to(tmp_path / "b", out, "dwc", "--label", "unknown", "--threshold", "0") == 1
    assert "No event has both a date and a name" in capsys.readouterr().err
    assert list((tmp_path / "b").iterdir()) == []
