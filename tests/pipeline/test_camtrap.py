"""The Camtrap DP data package, against its published profile and Table Schemas."""

import datetime as dt
import importlib.resources
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from frictionless import Package
from jsonschema import Draft7Validator, ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT7

from pipeline.cli import main
from pipeline.dataset import open_dataset
from tests.pipeline.archive import tiny_bundle, tone, write
from tests.pipeline.exported import (
    LABELS,
    LINE,
    PLUS,
    SUM,
    UNDATED,
    deploy,
    export_to,
    has_no_formula,
    read_csv,
)

PUBLISHED = Path(__file__).parent / "camtrap_dp"
ADDRESS = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/"


def validate(folder: Path) -> dict[str, Any]:
    """Checks the package by profile, schemas and foreign keys; gives its descriptor."""
    descriptor = json.loads((folder / "datapackage.json").read_text())
    assets = importlib.resources.files("frictionless") / "assets/profiles/geojson.json"
    registry = Registry().with_resources(
        [
            (url, DRAFT7.create_resource(schema))
            for url, schema in (
                (
                    "https://specs.frictionlessdata.io/schemas/data-package.json",
                    Package.metadata_profile,
                ),
                ("http://json.schemastore.org/geojson.json", json.loads(assets.read_text())),
            )
        ]
    )
    assert descriptor["profile"] == f"{ADDRESS}camtrap-dp-profile.json"
    profile = json.loads((PUBLISHED / "camtrap-dp-profile.json").read_text())
    Draft7Validator(profile, registry=registry).validate(descriptor)
    local = json.loads(json.dumps(descriptor))
    del local["profile"]
    for resource in local["resources"]:
        name = resource["schema"].removeprefix(ADDRESS)
        resource["schema"] = json.loads((PUBLISHED / name).read_text())
    report = Package.from_descriptor(local, basepath=str(folder)).validate()
    assert report.valid, report.flatten(["type", "note"])
    return dict(descriptor)


@pytest.fixture(scope="module")
def package(placed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the dataset's events, but for the recording without a time."""
    folder = tmp_path_factory.mktemp("camtrap") / "package"
    assert export_to(folder, placed, "camtrap") == 0
    return folder


def test_it_is_valid(package: Path) -> None:
    descriptor = validate(package)
    assert descriptor["temporal"] == {"start": "2024-06-01", "end": "2024-11-03"}
    assert descriptor["spatial"] == {
        "type": "MultiPoint",
        "coordinates": [[-73.25, 42.5], [13.0, 52.0], [145.0, -37.5]],
    }
    assert [taxon["scientificName"] for taxon in descriptor["taxonomic"]] == [
        " =1+1",
        "<b>@wren</b>",
        "Turdus merula",
    ]


def test_the_validation_sees_what_is_wrong(package: Path, tmp_path: Path) -> None:
    for name, old, new in (
        ("observations.csv", ",animal,", ",bird,"),
        ("observations.csv", "-04:00", ""),
        ("media.csv", "audio/vnd.wave", "sound"),
        ("media.csv", "open ", "shut "),
        ("datapackage.json", '"timeLapse"', '"continuous"'),
        ("datapackage.json", '"MultiPoint"', '"Points"'),
    ):
        wrong = Path(shutil.copytree(package, tmp_path / "wrong"))
        text = (wrong / name).read_text()
        assert old in text
        (wrong / name).write_text(text.replace(old, new))
        with pytest.raises((AssertionError, ValidationError)):
            validate(wrong)
        shutil.rmtree(wrong)


def test_deployments_hold_what_was_recorded_in_them(package: Path) -> None:
    rows = read_csv(package / "deployments.csv")
    found = {row["locationName"]: row for row in rows}
    assert found[f" {SUM}"]["deploymentStart"] == "2024-11-03T01:30:00-04:00"
    assert found[f" {SUM}"]["deploymentEnd"] == "2024-11-03T02:00:01-05:00"
    assert found[f" {SUM}"]["deploymentID"] == f"open {SUM}"
    line = found[" " + LINE.replace("\n", " ")]
    assert (line["deploymentStart"], line["latitude"]) == ("2024-06-01T10:00:00Z", "-37.5")
    assert found[f" {PLUS}"]["deploymentEnd"] == "2024-06-01T06:00:02+02:00"
    assert len(rows) == 3
    assert has_no_formula(rows, "latitude", "longitude")


def test_observations_and_media(package: Path, placed: Path) -> None:
    media = read_csv(package / "media.csv")
    assert sorted(row["filePath"] for row in media) == [
        "recordings/+P_20240601_060000.wav",
        f"recordings/{SUM}/20241103_053000.wav",
        f"recordings/{SUM}/20241103_070000.wav",
        "recordings/@L%0Aine/20240601_050000.wav",
    ]
    assert {row["fileMediatype"] for row in media} == {"audio/vnd.wave"}
    assert has_no_formula(media)
    observations = read_csv(package / "observations.csv")
    assert has_no_formula(observations)
    assert len(observations) == len(media) * len(LABELS)
    long = next(row for row in media if "053000" in row["filePath"])
    assert long["timestamp"] == "2024-11-03T01:30:00-04:00"
    own = [row for row in observations if f"mediaID:{long['mediaID']}" in row["observationTags"]]
    # Whole seconds that hold the event; the tags have it to the microsecond.
    assert {(row["eventStart"], row["eventEnd"]) for row in own} == {
        ("2024-11-03T01:30:00-04:00", "2024-11-03T01:30:03-04:00")
    }
    tags = f"mediaID:{long['mediaID']} | start_s:0.000000 | end_s:2.500000"
    assert {row["observationTags"] for row in own} == {tags}
    assert {row["observationType"] for row in observations} == {"animal"}
    assert {row["mediaID"] for row in observations} == {""}
    fingerprint = open_dataset(str(placed)).identity["score_fingerprint"]
    assert {row["classifiedBy"] for row in observations} == {f"dawnchorus model {fingerprint[:12]}"}
    for row in observations:
        assert dt.datetime.fromisoformat(row["eventStart"]).tzinfo is not None


def test_identifiers_stay(package: Path, placed: Path, tmp_path: Path) -> None:
    assert export_to(tmp_path / "again", placed, "camtrap", "--threshold", "0.01") == 0
    for name in ("deployments", "media", "observations"):
        assert (tmp_path / f"again/{name}.csv").read_bytes() == (
            package / f"{name}.csv"
        ).read_bytes()


def test_what_is_left_out_is_told(
    placed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_to(tmp_path / "a", placed, "camtrap") == 0
    said = capsys.readouterr().out
    assert "12 events in 4 recordings\n" in said
    assert "3 events are left out: UTC or deployment is not known." in said
    assert "datapackage.json names no people" in said


def test_sites_without_a_position_are_named(
    hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Path(shutil.copytree(hostile, tmp_path / "out"))
    assert export_to(tmp_path / "a", dataset, "camtrap") == 1
    said = capsys.readouterr().err
    assert f"there is no deployment of {PLUS}, {SUM}, {LINE!r}, {UNDATED}: give them with" in said
    assert f"dawnchorus deployments {dataset} --table CSV." in said
    deploy(dataset, tmp_path / "t.csv", ((SUM, "utc", "", 1.0, 2.0), (LINE, "utc", "", "", "")))
    capsys.readouterr()
    assert export_to(tmp_path / "a", dataset, "camtrap") == 1
    said = capsys.readouterr().err
    assert f"there is no deployment of {PLUS}, {UNDATED}, and no latitude and longitude of " in said
    assert not (tmp_path / "a").exists()


def test_nothing_with_a_time(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "audio/A/tone.wav", tone(2))
    given = ["--input", str(tmp_path / "audio"), "--model", str(bundle), "--min-score", "0"]
    assert main(["detect", *given, "--output", str(tmp_path / "out")]) == 0
    deploy(tmp_path / "out", tmp_path / "t.csv", (("A", "utc", "", 1.0, 2.0),))
    capsys.readouterr()
    assert export_to(tmp_path / "a", tmp_path / "out", "camtrap") == 1
    assert "Of none of the 3 events UTC and deployment are known" in capsys.readouterr().err
    assert not (tmp_path / "a").exists() or not list((tmp_path / "a").iterdir())


def test_unknown_sound_is_no_animal(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "bundle", rejects=True)
    write(tmp_path / "audio/a/20240601_060000.WAV", tone(2))
    given = ["--input", str(tmp_path / "audio"), "--model", str(tmp_path / "bundle")]
    out = tmp_path / "out"
    assert main(["detect", *given, "--output", str(out), "--min-score", "0"]) == 0
    deploy(out, tmp_path / "t.csv", (("a", "utc", "", 1.0, 2.0),))
    assert export_to(tmp_path / "p", out, "camtrap", "--label", "unknown", "--threshold", "0") == 0
    assert validate(tmp_path / "p")["taxonomic"] == []
    (row,) = read_csv(tmp_path / "p/observations.csv")
    assert (row["observationType"], row["scientificName"]) == ("unknown", "")
