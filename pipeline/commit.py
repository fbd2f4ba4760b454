"""The commit of a shard: its parts appear together, or they do not count.

A first commit creates each part exclusively, coverage last. A replacement lies whole under
`_tmp/` before an exclusive record names it; then it is moved into place and the record goes.
Whoever finds a record finishes it, or drops it if what it replaces is no longer there.
"""

import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.parts import COMMIT, CONTENT_ID, PartWriter, read_metadata
from pipeline.schema import TABLES
from pipeline.shard_key import ShardKey
from pipeline.storage import Folder

RECORD = "record.json"


@dataclass(frozen=True)
class Member:
    """A recording as a shard's commit knows it.

    Two are equal if nothing that decides the rows differs. `curable`: windows were lost for a
    reason that the next run tries again; `damaged`: for a permanent one.
    """

    recording: str
    version: str
    first: int
    stop: int
    start_clock: str
    curable: bool = False
    damaged: bool = False
    readable: bool = True

    @property
    def identity(self) -> tuple[str, str, int, int, str]:
        """What must be equal for its rows to stand."""
        return self.recording, self.version, self.first, self.stop, self.start_clock

    def to_json(self) -> list[Any]:
        """As a short list, for the part's footer."""
        state = ("c" if self.curable else "") + ("d" if self.damaged else "")
        return [*self.identity, state + ("" if self.readable else "u")]

    @classmethod
    def from_json(cls, values: list[Any]) -> "Member":
        """The member that `to_json` wrote."""
        recording, member_version, first, stop, clock, state = values
        flags = ("c" in state, "d" in state, "u" not in state)
        return cls(recording, member_version, first, stop, clock, *flags)


@dataclass(frozen=True)
class Commit:
    """A committed shard: the coverage part's content id and the members, by recording."""

    coverage_id: str
    members: dict[str, Member]


def coverage_id(out: Folder, key: ShardKey) -> str | None:
    """The content id of the coverage part that is in place; None without one."""
    metadata = read_metadata(out, key.part("coverage"))
    return metadata.get(CONTENT_ID) if metadata else None


def read_commit(out: Folder, path: str) -> Commit | None:
    """The commit of the shard whose parts have `path` below each table; None if they disagree."""
    metadata = read_metadata(out, f"coverage/{path}")
    if metadata is None or COMMIT not in metadata:
        return None
    record = json.loads(metadata[COMMIT])
    for table, content_id in record["parts"].items():
        part = read_metadata(out, f"{table}/{path}")
        if part is None or part.get(CONTENT_ID) != content_id:
            return None
    members = [Member.from_json(values) for values in record["members"]]
    return Commit(metadata[CONTENT_ID], {member.recording: member for member in members})


class Staging:
    """The parts of a shard while they are written, out of the readers' sight."""

    def __init__(self, folder: str, facts: Mapping[str, str]) -> None:
        self.folder = folder
        self.writers = {table: PartWriter(table, self.path(table), facts) for table in TABLES}
        self.ids: dict[str, str] = {}

    def path(self, table: str) -> str:
        """The local path of a table's part."""
        return os.path.join(self.folder, f"{table}.parquet")

    def close(self, members: list[Member]) -> None:
        """Finishes all parts; coverage binds the others and the members."""
        for table in TABLES:
            if table != "coverage":
                self.ids[table] = self.writers[table].close()
        record = {"parts": dict(self.ids), "members": [m.to_json() for m in members]}
        self.ids["coverage"] = self.writers["coverage"].close(record)


def _temporaries(key: ShardKey) -> str:
    return f"_tmp/{key.path}"


@contextmanager
def staging(out: Folder, key: ShardKey, facts: Mapping[str, str], owner: str) -> Iterator[Staging]:
    """A place to write a shard's parts: under `_tmp/` on a disk, else on this machine's disk.

    `owner` names the run, so that what a killed one leaves can be told from a living one's.
    """
    if out.is_local:
        folder = out.at(f"{_temporaries(key)}/{owner}.{uuid.uuid4().hex}")
        os.makedirs(folder)
    else:
        folder = tempfile.mkdtemp(prefix="dawnchorus-")
    stage = Staging(folder, facts)
    try:
        yield stage
    finally:
        for writer in stage.writers.values():
            writer.abandon()
        Folder(folder).remove("")
        tidy(out, key)


def tidy(out: Folder, key: ShardKey) -> None:
    """Removes the folders of temporaries that are empty now."""
    if out.is_local:
        folder = out.at(_temporaries(key))
        while folder != out.url:
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)


def commit(out: Folder, key: ShardKey, stage: Staging, replaces: str | None, owner: str) -> bool:
    """Puts a closed staging in place; True when it is what the shard holds.

    `replaces` is the coverage id that the parts were merged with (None: no coverage was in
    place). False: the shard holds something else by now, and must be merged with that.
    """
    finish(out, key)
    standing = coverage_id(out, key)
    if standing != replaces and standing != stage.ids["coverage"]:
        return False
    if replaces is None and _create(out, key, stage):
        pass
    elif not _replace(out, key, stage, replaces, owner):
        return False
    done = read_commit(out, key.path)
    return done is not None and done.coverage_id == stage.ids["coverage"]


def _create(out: Folder, key: ShardKey, stage: Staging) -> bool:
    """First commit; False where a different part is already in a place."""
    for table in TABLES:
        name = key.part(table)
        if not out.place(stage.path(table), name, replace=False):
            standing = read_metadata(out, name)
            if standing is None or standing.get(CONTENT_ID) != stage.ids[table]:
                return False
    return True


def _replace(out: Folder, key: ShardKey, stage: Staging, replaces: str | None, owner: str) -> bool:
    place = f"{_temporaries(key)}/{owner}.{uuid.uuid4().hex}"
    for table in TABLES:
        if os.path.exists(stage.path(table)):
            out.place(stage.path(table), f"{place}/{table}.parquet", replace=True)
    record = {"place": place, "ids": stage.ids, "replaces": replaces}
    created = out.create(f"{_temporaries(key)}/{RECORD}", json.dumps(record).encode())
    if not created:
        out.remove(place)
    finish(out, key)
    return created


def finish(out: Folder, key: ShardKey) -> None:
    """Finishes a replacement that a record names, or drops it; nothing without a record."""
    name = f"{_temporaries(key)}/{RECORD}"
    record = out.read_json(name)
    if record is None:
        return
    if coverage_id(out, key) == record["replaces"]:
        for table in TABLES:
            out.move(f"{record['place']}/{table}.parquet", key.part(table))
    out.remove(record["place"])
    out.remove(name)
    tidy(out, key)


def records(out: Folder) -> list[str]:
    """Names of all records of unfinished replacements."""
    if not out.exists("_tmp"):
        return []
    return [name for name in out.files("_tmp") if name.endswith(f"/{RECORD}")]
