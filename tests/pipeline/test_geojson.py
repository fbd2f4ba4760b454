"""Sites on a map."""

import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.pipeline.deployed import deploy
from tests.pipeline.exported import LABELS, LINE, PLUS, SUM, UNDATED, export_to


def sites(path: Path) -> dict[str, Any]:
    """The features by site, checked against the published schema of GeoJSON."""
    found = json.loads((path / "sites.geojson").read_text(encoding="utf-8"))
    assets = importlib.resources.files("frictionless") / "assets/profiles/geojson.json"
    Draft7Validator(json.loads(assets.read_text())).validate(found)
    assert found["type"] == "FeatureCollection" and set(found) == {"type", "features"}
    return {feature["properties"]["site"]: feature for feature in found["features"]}


def test_points_with_what_was_heard(
    placed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_to(tmp_path, placed, "geojson") == 0
    said = capsys.readouterr().out
    assert "No deployment tells the position of sound of 1 site, which has null" in said
    assert f"geometry: {UNDATED}\n" in said
    found = sites(tmp_path)
    assert list(found) == sorted([SUM, LINE, PLUS, UNDATED])
    # A recording without a time belongs to no deployment, which has its days.
    assert found[UNDATED]["geometry"] is None
    assert found[SUM] == {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [-73.25, 42.5]},
        "properties": {
            "site": SUM,
            "hours_scored": round(3.5 / 3600, 4),
            "first_event": "2024-11-03T01:30:00-04:00",
            "last_event": "2024-11-03T02:00:00-05:00",
            "times": "with the offset from UTC",
            "events": dict.fromkeys(sorted(LABELS), 2),
        },
    }
    assert found[LINE]["geometry"]["coordinates"] == [145.0, -37.5]
    assert found[LINE]["properties"]["first_event"] == "2024-06-01T10:00:00Z"
    assert found[PLUS]["properties"]["first_event"] == "2024-06-01T06:00:00+02:00"


def test_without_deployments_and_without_events(
    hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_to(tmp_path / "a", hostile, "geojson") == 0
    assert "the position of sound of 4 sites, which" in capsys.readouterr().out
    found = sites(tmp_path / "a")
    assert {feature["geometry"] for feature in found.values()} == {None}
    assert found[PLUS]["properties"]["times"] == "the recorder's clock"
    assert found[PLUS]["properties"]["first_event"] == "2024-06-01T06:00:00"
    assert found[UNDATED]["properties"]["first_event"] is None
    assert found[UNDATED]["properties"]["times"] is None
    assert export_to(tmp_path / "b", hostile, "geojson", "--threshold", "1") == 0
    assert [feature["properties"]["events"] for feature in sites(tmp_path / "b").values()] == [
        {}
    ] * 4


def test_a_site_that_moved_is_a_point_for_each_position(out: Path, tmp_path: Path) -> None:
    rows = "MOVED,utc,,1.5,2.5,,2024-06-01\nMOVED,utc,,3.5,4.5,2024-06-02,\n007,utc,,,,,\n"
    assert deploy(out, tmp_path / "t.csv", rows + "CREEK,utc,,5,6,2024-06-02,\n") == 0
    assert export_to(tmp_path / "map", out, "geojson") == 0
    found = json.loads((tmp_path / "map/sites.geojson").read_text())["features"]
    moved = [feature for feature in found if feature["properties"]["site"] == "MOVED"]
    assert [(x["geometry"]["coordinates"], x["properties"]["first_event"][:13]) for x in moved] == [
        ([2.5, 1.5], "2024-06-01T12"),
        ([4.5, 3.5], "2024-06-02T12"),
    ]
    assert [x["properties"]["hours_scored"] for x in moved] == [round(2 / 3600, 4)] * 2
    # Without a position, and outside the days of the deployment.
    others = [x for x in found if x["properties"]["site"] in ("007", "CREEK")]
    assert [x["geometry"] for x in others] == [None, None]
