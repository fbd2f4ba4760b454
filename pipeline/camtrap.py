"""Events as a Camtrap DP data package (version 1.0.2, https://camtrap-dp.tdwg.org)."""

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from model.bundle_document import RESERVED_LABEL
from model.errors import UserError
from pipeline.csv_file import cell, csv_file, line, no_formula
from pipeline.dataset import Dataset, registered
from pipeline.deployments import joined, to_table
from pipeline.export_kind import Row, Seen, Written, rows
from pipeline.lists import extension
from pipeline.placed import bounds, event_id, iso, model_name, placed, recording_id
from pipeline.storage import Folder
from pipeline.taxon import names_of
from pipeline.text import count, listed

NAME = "datapackage.json"
SCHEMAS = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2"
DEPLOYMENTS = (
    *("deploymentID", "locationID", "locationName", "latitude", "longitude"),
    *("coordinateUncertainty", "deploymentStart", "deploymentEnd", "setupBy", "cameraID"),
    *("cameraModel", "cameraDelay", "cameraHeight", "cameraDepth", "cameraTilt", "cameraHeading"),
    *("detectionDistance", "timestampIssues", "baitUse", "featureType", "habitat"),
    *("deploymentGroups", "deploymentTags", "deploymentComments"),
)
MEDIA = (
    *("mediaID", "deploymentID", "captureMethod", "timestamp", "filePath", "filePublic"),
    *("fileName", "fileMediatype", "exifData", "favorite", "mediaComments"),
)
OBSERVATIONS = (
    *("observationID", "deploymentID", "mediaID", "eventID", "eventStart", "eventEnd"),
    *("observationLevel", "observationType", "cameraSetupType", "scientificName", "count"),
    *("lifeStage", "sex", "behavior", "individualID", "individualPositionRadius"),
    *("individualPositionAngle", "individualSpeed", "bboxX", "bboxY", "bboxWidth", "bboxHeight"),
    *("classificationMethod", "classifiedBy", "classificationTimestamp"),
    *("classificationProbability", "observationTags", "observationComments"),
)
"""The columns of the three tables, all of them, as their Table Schemas have them."""
MEDIA_TYPES = {"flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}
"""Registered media types by a recording's extension; all else is WAV."""


_NO_PATH = re.compile(r"\.\.|[\x00-\x1f\x7f\x85\u2028\u2029]")
"""What the standard allows nowhere in a path: it is written as in a URL."""


@dataclass(frozen=True)
class Stay:
    """A deployment with what was recorded in it: position, first and last moment (ISO 8601)."""

    identifier: str
    site: str
    latitude: float
    longitude: float
    start: str
    end: str


def write_camtrap(dataset: Dataset, tables: Iterable[pa.Table], out: Folder) -> Written:
    """Writes deployments, media (recordings with events), observations (events) and the descriptor.

    Camtrap DP wants a position of every deployment and an offset from UTC of every time. Raises
    UserError, naming the sites, where a deployment or its position is missing, and if no event has
    both; events without are left out, and told.
    """
    _require_positions(dataset)
    stays = _stays(dataset)
    seen, lost, model = Seen(), 0, model_name(dataset)
    names: set[str] = set()
    with ExitStack() as stack:
        add_deployment, add_medium, add_observation = (
            stack.enter_context(csv_file(out, f"{name}.csv", columns))
            for name, columns in (
                ("deployments", DEPLOYMENTS),
                ("media", MEDIA),
                ("observations", OBSERVATIONS),
            )
        )
        for stay in stays:
            add_deployment(_cells(DEPLOYMENTS, _deployment(stay)))
        for row in rows(placed(dataset, tables)):
            if row["utc"] is None or row["clock"] is None:
                lost += 1
                continue
            if seen.add(row):
                add_medium(_cells(MEDIA, _medium(row)))
            observation = _observation(row, event_id(dataset, row), model)
            add_observation(_cells(OBSERVATIONS, observation))
            names.add(observation["scientificName"])
        if not seen.events:
            raise UserError(
                f"Of none of the {count(lost, 'event')} UTC and deployment are known, which "
                "Camtrap DP wants: see what fits the table of deployments with dawnchorus "
                f"deployments {dataset.folder.url}."
            )
    out.write_json(NAME, _descriptor(dataset, stays, sorted(names - {""})))
    notes = [
        f"{NAME} names no people, and takes the sampling design for opportunistic and the capture "
        "for timeLapse, on a schedule: put in what is true before you publish it."
    ]
    if lost:
        are = "is" if lost == 1 else "are"
        notes.append(f"{count(lost, 'event')} {are} left out: UTC or deployment is not known.")
    return Written(seen.events, seen.recordings, 4, tuple(notes))


def _require_positions(dataset: Dataset) -> None:
    """UserError where scored sound has no deployment, or its deployment has no position."""
    deployments = to_table(dataset.deployments() or ())
    with registered(dataset.connection, deployments=deployments):
        found = dataset.connection.sql(
            f"""SELECT site, bool_or(clock IS NOT NULL) FROM {joined("coverage", "from_s")}
            WHERE windows_scored > 0 AND site_latitude IS NULL
            AND (clock IS NOT NULL OR site NOT IN (SELECT site FROM deployments))
            GROUP BY site ORDER BY site"""
        ).fetchall()
    missing = {
        what: listed([site for site, deployed in found if deployed == given])
        for what, given in (("deployment", False), ("latitude and longitude", True))
        if any(deployed == given for _, deployed in found)
    }
    if missing:
        what = ", and ".join(f"no {name} of {sites}" for name, sites in missing.items())
        raise UserError(
            f"Camtrap DP needs to know where every site was, but there is {what}: give them with "
            f"dawnchorus deployments {dataset.folder.url} --table CSV."
        )


def _stays(dataset: Dataset) -> list[Stay]:
    """The deployments in which something was scored, from the first recording to the last."""
    deployments = to_table(dataset.deployments() or ())
    with registered(dataset.connection, deployments=deployments):
        found = dataset.connection.sql(
            f"""SELECT site, first_day, any_value(site_latitude) AS latitude,
                any_value(site_longitude) AS longitude,
                min(utc) AS start_utc, arg_min(site_time, utc) AS start_site,
                max(utc + lasting) AS end_utc, arg_max(site_time + lasting, utc + lasting)
                AS end_site
            FROM (
                SELECT * REPLACE (timezone('UTC', utc) AS utc),
                    to_microseconds(CAST((to_s - from_s) * 1e6 AS BIGINT)) AS lasting
                FROM {joined("coverage", "from_s")}
                WHERE clock IS NOT NULL AND utc IS NOT NULL AND windows_scored > 0
            ) GROUP BY site, first_day ORDER BY site, first_day NULLS FIRST"""
        ).to_arrow_table()
    return [
        Stay(
            _stay_id(row),
            row["site"],
            row["latitude"],
            row["longitude"],
            str(iso(row["start_utc"], row["start_site"], None)),
            str(iso(row["end_utc"], row["end_site"], None, up=True)),
        )
        for row in found.to_pylist()
    ]


def _stay_id(row: Row) -> str:
    """The identifier of a row's deployment: its first day and the site, which are unique."""
    return f"{row['first_day'] or 'open'} {line(row['site'])}"


def _deployment(stay: Stay) -> dict[str, Any]:
    return {
        "deploymentID": stay.identifier,
        "locationID": cell(stay.site),
        "locationName": cell(stay.site),
        "latitude": stay.latitude,
        "longitude": stay.longitude,
        "deploymentStart": stay.start,
        "deploymentEnd": stay.end,
    }


def _medium(row: Row) -> dict[str, Any]:
    """The recording of an event."""
    recording = row["recording"]
    begun = -timedelta(microseconds=round(row["start_s"] * 1e6))
    return {
        "mediaID": recording_id(row),
        "deploymentID": _stay_id(row),
        "timestamp": iso(row["utc"], row["site_time"], None, later=begun),
        # In a folder, as the standard allows no path that begins with `.` or `~`.
        "filePath": f"recordings/{_NO_PATH.sub(_encoded, recording)}",
        "filePublic": "false",
        "fileName": no_formula(line(PurePosixPath(recording).name), "./"),
        "fileMediatype": MEDIA_TYPES.get(extension(recording), "audio/vnd.wave"),
    }


def _encoded(found: re.Match[str]) -> str:
    return quote(found[0]).replace(".", "%2E")


def _observation(row: Row, identifier: str, model: str) -> dict[str, Any]:
    """An event. Its times are whole seconds, so the exact ones in its recording are tags."""
    known = row["label"] != RESERVED_LABEL
    start, end = bounds(row) or ("", "")
    tags = {"mediaID": recording_id(row), "start_s": f"{row['start_s']:.6f}"}
    tags["end_s"] = f"{row['end_s']:.6f}"
    if row["channel"] is not None:
        tags["channel"] = str(row["channel"])
    return {
        "observationID": identifier,
        "deploymentID": _stay_id(row),
        "eventID": identifier,
        "eventStart": start,
        "eventEnd": end,
        "observationLevel": "event",
        "observationType": "animal" if known else "unknown",
        "scientificName": cell(names_of(row["label"])[0]) if known else "",
        "classificationMethod": "machine",
        "classifiedBy": model,
        "classificationProbability": f"{row['score']:.4f}",
        "observationTags": " | ".join(f"{key}:{value}" for key, value in tags.items()),
    }


def _cells(columns: Sequence[str], values: dict[str, Any]) -> list[Any]:
    return [values.get(name, "") for name in columns]


def _descriptor(dataset: Dataset, stays: Sequence[Stay], names: Sequence[str]) -> dict[str, Any]:
    """What datapackage.json holds, by the profile of Camtrap DP."""
    points = sorted({(stay.longitude, stay.latitude) for stay in stays})
    sites = count(len({stay.site for stay in stays}), "site")
    return {
        "resources": [
            {
                "name": name,
                "path": f"{name}.csv",
                "profile": "tabular-data-resource",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "schema": f"{SCHEMAS}/{name}-table-schema.json",
            }
            for name in ("deployments", "media", "observations")
        ],
        "profile": f"{SCHEMAS}/camtrap-dp-profile.json",
        "name": f"dawnchorus-{dataset.identity['score_fingerprint'][:12]}",
        "created": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "title": f"Sounds detected at {sites}",
        "description": (
            f"Detections in sound recordings by {model_name(dataset)}; no person has verified them."
        ),
        "contributors": [{"title": "dawnchorus", "role": "contributor"}],
        "sources": [{"title": "dawnchorus", "version": version("dawnchorus")}],
        "project": {
            "title": f"Sound recordings of {sites}",
            "samplingDesign": "opportunistic",
            "captureMethod": ["timeLapse"],
            "individualAnimals": False,
            "observationLevel": ["event"],
        },
        "spatial": {"type": "MultiPoint", "coordinates": [list(point) for point in points]},
        "temporal": {
            "start": min(stay.start[:10] for stay in stays),
            "end": max(stay.end[:10] for stay in stays),
        },
        "taxonomic": [{"scientificName": name} for name in names],
    }
