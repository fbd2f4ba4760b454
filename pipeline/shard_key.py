"""The name of a shard: a site and a slot of its clock time."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote

from pipeline.site import encode_site

UNDATED_SLOTS = 32
NULL_DATE = "__HIVE_DEFAULT_PARTITION__"
SLOT_HOURS = (1, 6, 24)


@dataclass(frozen=True, order=True)
class ShardKey:
    """One site's slot: `date` is ISO or empty, `slot` the first hour or an undated number."""

    site: str
    date: str
    slot: int

    @property
    def path(self) -> str:
        """The place of its parts below each table's folder."""
        part = f"{self.slot:02d}" if self.date else f"u{self.slot:02d}"
        return f"site={encode_site(self.site)}/date={self.date or NULL_DATE}/part-{part}.parquet"

    def part(self, table: str) -> str:
        """The name of its part of a table, below the output folder."""
        return f"{table}/{self.path}"

    def __str__(self) -> str:
        return self.path


def key_of(path: str) -> ShardKey | None:
    """The key of a part's path below its table's folder; None for a file that is no part."""
    found = re.fullmatch(r"site=([^/]+)/date=([^/]+)/part-u?(\d\d)\.parquet", path)
    if not found:
        return None
    site, date, slot = found.groups()
    key = ShardKey(unquote(site), date.replace(NULL_DATE, ""), int(slot))
    return key if key.path == path else None


def dated(site: str, clock: datetime, slot_hours: int) -> ShardKey:
    """The shard of a moment of clock time."""
    return ShardKey(site, clock.date().isoformat(), clock.hour // slot_hours * slot_hours)


def undated(site: str, recording: str) -> ShardKey:
    """The shard of a recording without a time, by a hash of its name."""
    digest = hashlib.sha256(recording.encode("utf-8", "surrogateescape")).digest()
    return ShardKey(site, "", digest[0] % UNDATED_SLOTS)


def choose_slot_hours(site_hours: int) -> int:
    """Slot length in hours from the number of site-hours that hold audio."""
    return 1 if site_hours < 500 else 6 if site_hours < 50_000 else 24
