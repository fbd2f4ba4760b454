"""Events with where and when they were, as deployments tell it."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset import Dataset, registered
from pipeline.deployments import joined, to_table
from pipeline.export_kind import Row

SECOND = timedelta(seconds=1)


def placed(dataset: Dataset, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables of events, in their order, with the further columns of `deployments.joined`.

    Those are null where a dataset has no deployments. `utc` and `site_time` are timestamps without
    a zone; `start_utc` is left out, as `utc` is it where it is known.
    """
    deployments = to_table(dataset.deployments() or ())
    for table in tables:
        numbered = table.append_column("place", pa.array(range(len(table)), pa.int64()))
        with registered(dataset.connection, deployments=deployments, placed_events=numbered):
            # DuckDB would give times with a zone in that of the machine.
            found = dataset.connection.sql(
                f"""SELECT * EXCLUDE (start_utc, clock_utc, elapsed)
                REPLACE (timezone('UTC', utc) AS utc)
                FROM {joined("placed_events", "start_s")}"""
            ).to_arrow_table()
        yield found.take(pc.sort_indices(found["place"])).drop_columns(["place"])


def started(row: Row) -> datetime | None:
    """The clock time at which the recording of an event began; None if it is not known."""
    clock: datetime | None = row["start_clock"]
    return clock and clock - _elapsed(row["start_s"])


def bounds(row: Row) -> tuple[str, str] | None:
    """When a placed event began and ended, in whole seconds that hold it (see `iso`)."""
    lasting = _elapsed(row["end_s"]) - _elapsed(row["start_s"])
    times = row["utc"], row["site_time"], row["start_clock"]
    first, last = iso(*times), iso(*times, later=lasting, up=True)
    return None if first is None or last is None else (first, last)


def iso(
    utc: datetime | None,
    site_time: datetime | None,
    clock: datetime | None,
    *,
    later: timedelta = timedelta(0),
    up: bool = False,
) -> str | None:
    """A time, or one so much later, as ISO 8601 in whole seconds; the times given have no zone.

    With the offset of the site's time zone from UTC; with Z where the zone is not known; without
    either, as the recorder's clock showed it, where UTC is not known; None without a time. Parts
    of a second are left off, or with `up` made whole.
    """
    local = site_time or utc or clock
    if local is None:
        return None
    at = local + later
    whole = at.replace(microsecond=0) + (SECOND if up and at.microsecond else timedelta(0))
    if utc is None:
        return whole.isoformat()
    if site_time is None:
        return f"{whole.isoformat()}Z"
    minutes = round((site_time - utc) / timedelta(minutes=1))
    sign, minutes = "-" if minutes < 0 else "+", abs(minutes)
    return f"{whole.isoformat()}{sign}{minutes // 60:02d}:{minutes % 60:02d}"


def event_id(dataset: Dataset, row: Row) -> str:
    """An identifier of an event: the same as long as model, recording and start are."""
    names = (dataset.identity["score_fingerprint"], *_of_recording(row), row["channel"])
    return _digest(*names, row["label"], round(row["start_s"] * 1e6))


def recording_id(row: Row) -> str:
    """An identifier of an event's recording: of its name, its site and its clock time."""
    return _digest(*_of_recording(row))


def model_name(dataset: Dataset) -> str:
    """The name of the model that scored a dataset."""
    return f"dawnchorus model {dataset.identity['score_fingerprint'][:12]}"


def _of_recording(row: Row) -> tuple[str, str, str]:
    return row["site"], row["recording"], str(started(row))


def _elapsed(seconds: float) -> timedelta:
    return timedelta(microseconds=round(seconds * 1e6))


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
