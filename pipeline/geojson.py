"""Sites as points on a map (GeoJSON, RFC 7946), with what was heard there."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from pipeline.dataset import Dataset, registered
from pipeline.deployments import joined, to_table
from pipeline.export_kind import Row, Seen, Written, rows
from pipeline.placed import iso, placed
from pipeline.storage import Folder
from pipeline.text import count, listed

NAME = "sites.geojson"
Place = tuple[str, float | None, float | None]
"""A site, and its latitude and longitude where they are known."""


@dataclass
class Heard:
    """What was heard at a place: events of each label, and when the first and the last began.

    The two times, with what they are written as, are by the clock and, where all events have it,
    by UTC. `absolute` is whether they do.
    """

    events: Counter[str] = field(default_factory=Counter)
    clock: list[tuple[datetime, str]] = field(default_factory=list)
    utc: list[tuple[datetime, str]] = field(default_factory=list)
    absolute: bool = True

    def add(self, row: Row) -> None:
        """Counts an event."""
        self.events[row["label"]] += 1
        utc, clock = row["utc"], row["start_clock"]
        if clock is not None:
            self.absolute &= utc is not None
            _widen(self.clock, clock, iso(None, None, clock))
        if utc is not None:
            _widen(self.utc, utc, iso(utc, row["site_time"], clock))


def _widen(span: list[tuple[datetime, str]], at: datetime, text: str | None) -> None:
    known = [*span, (at, str(text))]
    span[:] = [min(known), max(known)]


def write_geojson(dataset: Dataset, tables: Iterable[pa.Table], out: Folder) -> Written:
    """Writes one FeatureCollection: a Feature for each site, or for each position that it had.

    All that was scored is there, also sites without events. Sound without a position, as nothing
    tells when it was or no deployment where, has a Feature with null for its geometry. The
    deployments' degrees are WGS 84, as GeoJSON's are.
    """
    seen, hours = Seen(), _hours(dataset)
    heard = {place: Heard() for place in hours}
    for row in rows(placed(dataset, tables)):
        seen.add(row)
        place = row["site"], row["site_latitude"], row["site_longitude"]
        heard.setdefault(place, Heard()).add(row)
    features = [_feature(place, hours.get(place, 0.0), found) for place, found in heard.items()]
    out.write_json(NAME, {"type": "FeatureCollection", "features": features})
    lost = sorted({site for site, latitude, _ in heard if latitude is None})
    note = (
        f"No deployment tells the position of sound of {count(len(lost), 'site')}, which has null "
        f"for its geometry: {listed(lost)}"
    )
    return Written(seen.events, seen.recordings, 1, (note,) if lost else ())


def _hours(dataset: Dataset) -> dict[Place, float]:
    """Hours of sound that were scored at each place, of several channels once; sorted."""
    deployments = to_table(dataset.deployments() or ())
    with registered(dataset.connection, deployments=deployments):
        found = dataset.connection.sql(
            f"""SELECT site, site_latitude, site_longitude, sum(seconds) / 3600 FROM (
                SELECT site, site_latitude, site_longitude, recording, from_s,
                    max(seconds_scored) AS seconds
                FROM {joined("coverage", "from_s")} WHERE windows_scored > 0 GROUP BY ALL
            ) GROUP BY ALL ORDER BY ALL"""
        ).fetchall()
    return {(site, latitude, longitude): hours for site, latitude, longitude, hours in found}


def _feature(place: Place, hours: float, heard: Heard) -> dict[str, Any]:
    site, latitude, longitude = place
    point = {"type": "Point", "coordinates": [longitude, latitude]}
    span = heard.utc if heard.absolute else heard.clock
    times = "with the offset from UTC" if heard.absolute else "the recorder's clock"
    return {
        "type": "Feature",
        "geometry": None if latitude is None else point,
        "properties": {
            "site": site,
            "hours_scored": round(hours, 4),
            "first_event": span[0][1] if span else None,
            "last_event": span[-1][1] if span else None,
            "times": times if span else None,
            "events": dict(sorted(heard.events.items())),
        },
    }
