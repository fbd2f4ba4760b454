"""Deployments: where and when a site was, how its clock ran, and so what its times are."""

import functools
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import UserError
from model.tables import Table
from pipeline.storage import Folder

T = TypeVar("T")

NAME = "deployments.parquet"
SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("clock", pa.string()),
        ("time_zone", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("first_day", pa.date32()),
        ("last_day", pa.date32()),
    ]
)
"""Columns of the table: one row per deployment."""

_OFFSET = re.compile(r"([+-])([0-9]{1,2}):?([0-9]{2})?")
_LIMITS = {"latitude": 90.0, "longitude": 180.0}


@dataclass(frozen=True)
class Deployment:
    """A stay of a recorder at a site.

    `clock` is how the recorder's clock ran: "utc", a fixed offset from UTC such as "-05:00"
    (written so, however it is given), or "zone" if it followed the time zone with its daylight
    saving. `time_zone` is the site's own, an IANA name, None if unknown. Degrees are WGS 84. The
    days are those of the clock, both inclusive, None where open. Raises UserError, as a sentence
    that goes on after a colon.
    """

    site: str
    clock: str
    time_zone: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    first_day: date | None = None
    last_day: date | None = None

    def __post_init__(self) -> None:
        if not self.site:
            raise UserError("the site is empty; give its name in the dataset.")
        object.__setattr__(self, "clock", _clock(self.clock))
        name = "an IANA name such as Europe/Berlin"
        if self.time_zone is not None and self.time_zone not in time_zones():
            raise UserError(f"the time zone {self.time_zone!r} is not known; give {name}.")
        if self.clock == "zone" and self.time_zone is None:
            raise UserError(f"the clock is zone and the time zone is empty; give {name}.")
        if (self.latitude is None) != (self.longitude is None):
            raise UserError("one of latitude and longitude is empty; give both or none.")
        for what, limit in _LIMITS.items():
            value = getattr(self, what)
            if value is not None and not -limit <= value <= limit:
                raise UserError(f"the {what} is {value:g}; give one from -{limit:g} to {limit:g}.")
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise UserError(
                f"the last day {self.last_day} is before the first day {self.first_day}; "
                "correct one."
            )


def _clock(text: str) -> str:
    clock = text.lower()
    if clock in ("utc", "zone"):
        return clock
    found = _OFFSET.fullmatch(clock)
    if found is None:
        raise UserError(
            f"the clock {text!r} is not known; give utc, an offset from UTC such as -05:00, or "
            "zone if it followed the time zone."
        )
    sign, hours, minutes = found[1], int(found[2]), int(found[3] or 0)
    offset = (60 * hours + minutes) * (-1 if sign == "-" else 1)
    # Zones are whole quarters of an hour from UTC, and so are the rows of coverage.
    if minutes not in (0, 15, 30, 45) or not -12 * 60 <= offset <= 14 * 60:
        raise UserError(
            f"the clock {text!r} is an impossible offset; give one from -12:00 to +14:00, in "
            "quarters of an hour."
        )
    return f"{sign}{hours:02d}:{minutes:02d}"


@functools.cache
def time_zones() -> frozenset[str]:
    """The IANA names of time zones that DuckDB knows, without abbreviations.

    Some of those mean other zones than people think: BST is that of Bangladesh.
    """
    with duckdb.connect() as connection:
        rows = connection.sql("SELECT name FROM pg_timezone_names()").fetchall()
    return frozenset(name for (name,) in rows if len(name) > 3 or name in ("UTC", "GMT"))


def parse_deployments(table: Table) -> tuple[tuple[Deployment, ...], tuple[str, ...]]:
    """The deployments of a text table, and the names of its further columns.

    Columns are those of `SCHEMA`, in any case, with spaces for `_`; all but site and clock may be
    absent. Raises UserError, naming the line, for a cell that cannot be, a missing column, a table
    without rows, or deployments of a site whose days overlap.
    """
    spelt: dict[str, str] = {}
    further = []
    plain = {name.replace("_", ""): name for name in SCHEMA.names}
    for column in table.columns:
        name = plain.get(re.sub(r"[\s_]", "", column.casefold()))
        if name is None:
            further.append(column)
        elif name in spelt:
            raise UserError(
                f"{table.path} has the columns {spelt[name]} and {column}, which mean the same; "
                "remove one."
            )
        else:
            spelt[name] = column
    for name in ("site", "clock"):
        if name not in spelt:
            present = ", ".join(table.columns)
            raise UserError(f"{table.path} has no column {name}; its columns are: {present}.")
    if not table.rows:
        raise UserError(f"{table.path} has no deployments; give it a line for each.")
    found = []
    for row in table.rows:
        try:
            cells = {name: row.cells[column] for name, column in spelt.items()}
            found.append((row.where, _deployment(cells)))
        except UserError as error:
            raise UserError(f"{row.where}: {error}") from None
    _check_days(found)
    return tuple(deployment for _, deployment in found), tuple(further)


def _deployment(cells: dict[str, str]) -> Deployment:
    degrees, day = "a number of degrees such as 42.73", "a day such as 2024-06-01"
    return Deployment(
        site=cells["site"],
        clock=cells["clock"],
        time_zone=cells.get("time_zone") or None,
        latitude=_read(cells, "latitude", float, degrees),
        longitude=_read(cells, "longitude", float, degrees),
        first_day=_read(cells, "first_day", date.fromisoformat, day),
        last_day=_read(cells, "last_day", date.fromisoformat, day),
    )


def _read(cells: dict[str, str], name: str, parse: Callable[[str], T], wanted: str) -> T | None:
    text = cells.get(name)
    try:
        return parse(text) if text else None
    except ValueError:
        what = name.replace("_", " ")
        raise UserError(f"the {what} {text!r} cannot be read; give {wanted}.") from None


def _check_days(found: Iterable[tuple[str, Deployment]]) -> None:
    """UserError where days of one site overlap; each deployment comes with its place."""
    last: dict[str, tuple[str, date]] = {}
    for where, deployment in sorted(found, key=lambda pair: pair[1].first_day or date.min):
        site, first_day = deployment.site, deployment.first_day or date.min
        before = last.get(site)
        if before is not None and first_day <= before[1]:
            raise UserError(
                f"{where}: the days of the site {site!r} overlap those of {before[0]}; let one "
                "end before the other begins."
            )
        last[site] = (where, deployment.last_day or date.max)


def to_table(deployments: Iterable[Deployment]) -> pa.Table:
    """The deployments as a table of `SCHEMA`, sorted by site and day."""
    ordered = sorted(deployments, key=lambda d: (d.site, d.first_day or date.min))
    return pa.Table.from_pylist([asdict(deployment) for deployment in ordered], SCHEMA)


def write_deployments(out: Folder, deployments: Sequence[Deployment]) -> None:
    """Writes the table of a dataset's deployments whole; one that stands is replaced."""
    sink = io.BytesIO()
    pq.write_table(to_table(deployments), sink, compression="zstd")
    try:
        out.write(NAME, sink.getvalue())
    except OSError as error:
        raise UserError(f"{out.at(NAME)} cannot be written: {error.strerror or error}.") from error


def read_deployments(out: Folder) -> tuple[Deployment, ...] | None:
    """The deployments of a dataset, None without a table; UserError if it is none of ours."""
    try:
        table = pq.read_table(io.BytesIO(out.read(NAME)))
        if not table.schema.equals(SCHEMA):
            raise UserError(f"its columns must be {', '.join(SCHEMA.names)}.")
        deployments = tuple(Deployment(**row) for row in table.to_pylist())
        _check_days((f"row {number}", d) for number, d in enumerate(deployments, 1))
    except FileNotFoundError:
        return None
    except (UserError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{out.at(NAME)} cannot be used ({str(error).rstrip('.')}): write it again with "
            "dawnchorus deployments --table."
        ) from error
    return deployments


def joined(source: str, seconds: str) -> str:
    """SQL, in parentheses, of the rows of a relation with their deployment and its times.

    `source` has site, start_clock and start_utc; `seconds` is its column of where a row starts in
    its recording. A relation `deployments` (see `to_table`) must be there. A row's deployment is
    that of its site whose days hold the day of its start_clock. Further columns, null where not
    known: `clock`, `time_zone` and `first_day` of the deployment, and its position, `site_latitude`
    and `site_longitude`; `clock_utc`, what the deployment makes of start_clock, and `utc`,
    start_utc or else clock_utc (TIMESTAMP WITH TIME ZONE); `site_time`, utc in the deployment's
    time zone (TIMESTAMP).

    A clock that follows a zone does not jump within a recording: time is converted at the
    recording's start and runs on from there. A start in the hour that comes twice is taken for
    its second coming.
    """
    return f"""(
        SELECT s.*, d.clock, d.time_zone, d.first_day,
            d.latitude AS site_latitude, d.longitude AS site_longitude,
            to_microseconds(CAST(coalesce({seconds}, 0) * 1e6 AS BIGINT)) AS elapsed,
            CASE d.clock
                WHEN 'utc' THEN timezone('UTC', start_clock)
                WHEN 'zone' THEN timezone(d.time_zone, start_clock - elapsed) + elapsed
                ELSE timezone('UTC', start_clock - CAST(ltrim(d.clock, '+') AS INTERVAL))
            END AS clock_utc,
            coalesce(start_utc, clock_utc) AS utc,
            timezone(d.time_zone, utc) AS site_time
        FROM {source} s LEFT JOIN deployments d ON s.site = d.site
            AND CAST(start_clock AS DATE) >= coalesce(d.first_day, DATE '-infinity')
            AND CAST(start_clock AS DATE) <= coalesce(d.last_day, DATE 'infinity')
    )"""
