"""A recording as a run's inventory sees it: what its file says, and what follows from its name."""

import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from pipeline.clock import EARLIEST, ClockTime, TimePattern, name_time
from pipeline.schema import FACTS
from pipeline.site import name_site, site_of

AGREE_S = 2.0
"""Sources whose times are closer than this agree: names have whole seconds."""

_OWN = pa.schema(
    [
        ("recording", pa.string()),
        ("url", pa.binary()),
        ("stamp", pa.string()),
        ("frames", pa.int64()),
        ("guano_clock", pa.timestamp("us")),
        ("guano_utc", pa.timestamp("us", tz="UTC")),
        ("audiomoth_clock", pa.timestamp("us")),
        ("audiomoth_utc", pa.timestamp("us", tz="UTC")),
        ("inventory_clock", pa.timestamp("us")),
        ("inventory_utc", pa.timestamp("us", tz="UTC")),
        ("inventory_site", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)
NOT_PROBED = "not_probed"
"""The flag of recordings whose inventory told all that a plan needs: their file was not opened."""
INVENTORY = pa.schema([*_OWN, *FACTS])
"""Columns of the inventory: one row per recording, readable or not."""


@dataclass(frozen=True)
class Recording:
    """One row of the inventory: what follows from the file itself, and what the user's list tells.

    `frames` are the samples per channel that the header promises; `reason` is the code of a
    recording that cannot be opened, which has no frames.
    """

    recording: str
    url: str
    stamp: str | None = None
    frames: int | None = None
    guano_clock: datetime | None = None
    guano_utc: datetime | None = None
    audiomoth_clock: datetime | None = None
    audiomoth_utc: datetime | None = None
    inventory_clock: datetime | None = None
    inventory_utc: datetime | None = None
    inventory_site: str | None = None
    reason: str | None = None
    message: str | None = None
    duration_s: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    format: str | None = None
    version: str | None = None
    size_bytes: int | None = None
    recorder_id: str | None = None
    firmware: str | None = None
    battery_v: float | None = None
    temperature_c: float | None = None
    gain_db: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    flags: tuple[str, ...] = ()

    def to_row(self) -> dict[str, Any]:
        """The values by column name. The URL is bytes: a local path need not be valid text."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"url": os.fsencode(self.url)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Recording":
        """The recording of a row of the inventory (further columns are left aside)."""
        values = {name: row[name] for name in cls.__dataclass_fields__}
        flags, url = tuple(values["flags"] or ()), os.fsdecode(values["url"])
        return cls(**values | {"flags": flags, "url": url})


@dataclass(frozen=True)
class Place:
    """Where and when a recording belongs: its site, its start and what told it."""

    site: str
    start_clock: datetime | None
    start_utc: datetime | None
    time_source: str | None
    flags: tuple[str, ...] = ()

    def clock_at(self, seconds: float) -> datetime | None:
        """Clock time `seconds` after the start, to the microsecond."""
        if self.start_clock is None:
            return None
        return self.start_clock + timedelta(microseconds=round(seconds * 1e6))

    def utc_at(self, seconds: float) -> datetime | None:
        """Absolute time `seconds` after the start."""
        if self.start_utc is None:
            return None
        return self.start_utc + timedelta(microseconds=round(seconds * 1e6))


@dataclass(frozen=True)
class PlaceRules:
    """How names and headers give a recording's site and start."""

    root_name: str
    site: str | None = None
    time_pattern: TimePattern | None = None

    def __call__(self, recording: Recording) -> Place:
        """The site and the start of a recording, by the order of trust among its sources."""
        name = recording.recording.rpartition("/")[2]
        named: ClockTime | None
        if self.time_pattern is not None:
            matched = self.time_pattern.match(recording.recording)
            named, prefix = matched if matched is not None else (None, None)
        else:
            named, prefix = name_time(name), name_site(name)
        where = (
            self.site
            or recording.inventory_site
            or site_of(recording.recording, self.root_name, prefix)
        )
        sources = [
            ("guano", recording.guano_clock, recording.guano_utc),
            ("audiomoth", recording.audiomoth_clock, recording.audiomoth_utc),
            ("name", named.clock if named else None, named.utc if named else None),
            ("inventory", recording.inventory_clock, recording.inventory_utc),
        ]
        told = [(name, at, utc) for name, at, utc in sources if at and at >= EARLIEST]
        flags = set(recording.flags)
        if any(at and at < EARLIEST for _, at, _ in sources):
            flags.add("clock_reset")
        if not told:
            return Place(where, None, None, None, tuple(sorted(flags)))
        source, start, utc = told[0]
        for _, other, other_utc in told[1:]:
            if abs((other - start).total_seconds()) >= AGREE_S:
                flags.add("times_disagree")
            elif utc is None:
                utc = other_utc
        return Place(where, start, utc, source, tuple(sorted(flags)))


def unreadable(recording: Recording, reason: str, message: str) -> Recording:
    """The recording, as one that cannot be opened."""
    return replace(recording, reason=reason, message=message, frames=None, duration_s=None)
