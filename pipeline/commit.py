"""The commit of a shard: its parts appear together, or they do not count.

A first commit creates each part exclusively, coverage last. A replacement lies whole under
`_tmp/` before an exclusive record names it; then it is moved into place and the record goes.
Whoever finds a record finishes it. A record is named by the coverage that it replaces: of several
replacements of one coverage one is chosen, and a late removal never meets another's record.
"""

import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.parts import COMMIT, CONTENT_ID, PartWriter, read_metadata
from pipeline.shard_key import ShardKey, key_of
from pipeline.storage import Folder
from pipeline.tally import Tally

RECORD = "record-"


@dataclass(frozen=True, slots=True)
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
    """A committed shard: the coverage part's content id, the members by recording, the numbers."""

    coverage_id: str
    members: dict[str, Member]
    tally: Tally = field(default_factory=Tally)


def coverage_id(out: Folder, key: ShardKey) -> str | None:
    """The content id of the coverage part that is in place; None without one."""
    return _content_id(out, key.part("coverage"))


def read_commit(out: Folder, key: ShardKey) -> Commit | None:
    """The commit of a shard; None if its parts disagree, or there are none."""
    metadata = read_metadata(out, key.part("coverage"))
    if metadata is None or COMMIT not in metadata:
        return None
    try:
        record = json.loads(metadata[COMMIT])
        members = [Member.from_json(values) for values in record["members"]]
        parts = dict(record["parts"])
        # Datasets that were begun before there were numbers have none.
        tally = Tally.from_json(record["tally"]) if "tally" in record else Tally()
    except (ValueError, KeyError, TypeError):
        return None
    if any(_content_id(out, key.part(table)) != parts[table] for table in parts):
        return None
    return Commit(metadata[CONTENT_ID], {m.recording: m for m in members}, tally)


class Staging:
    """The parts of a shard while they are written, out of the readers' sight."""

    def __init__(
        self, folder: str, tables: Mapping[str, pa.Schema], facts: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.tally = Tally()
        self.writers = {
            table: PartWriter(schema, self.path(table), facts, partial(self.tally.add, table))
            for table, schema in tables.items()
        }
        self.ids: dict[str, str] = {}
        """Content ids of the parts once they are closed, in the order of the commit."""

    def path(self, table: str) -> str:
        """The local path of a table's part."""
        return os.path.join(self.folder, f"{table}.parquet")

    def close(self, members: list[Member]) -> None:
        """Finishes all parts; coverage binds the others, the members and the numbers."""
        for table, writer in self.writers.items():
            if table != "coverage":
                self.ids[table] = writer.close()
        record = {
            "parts": dict(self.ids),
            "tally": self.tally.to_json(),
            "members": [member.to_json() for member in members],
        }
        self.ids["coverage"] = self.writers["coverage"].close(record)


def _temporaries(key: ShardKey) -> str:
    return f"_tmp/{key.path}"


@contextlib.contextmanager
def staging(
    out: Folder,
    key: ShardKey,
    tables: Mapping[str, pa.Schema],
    facts: Mapping[str, str],
    owner: str,
) -> Iterator[Staging]:
    """A place to write a shard's parts: under `_tmp/` on a disk, else on this machine's disk.

    `owner` names the run, so that what a killed one leaves can be told from a living one's.
    """
    if out.is_local:
        folder = out.at(f"{_temporaries(key)}/{owner}.{uuid.uuid4().hex}")
        os.makedirs(folder)
    else:
        folder = tempfile.mkdtemp(prefix="dawnchorus-")
    stage = Staging(folder, tables, facts)
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
    done = read_commit(out, key)
    return done is not None and done.coverage_id == stage.ids["coverage"]


def _create(out: Folder, key: ShardKey, stage: Staging) -> bool:
    """First commit; False where a different part is already in a place."""
    for table in stage.ids:
        name = key.part(table)
        created = out.place(stage.path(table), name, replace=False)
        if not created and _content_id(out, name) != stage.ids[table]:
            return False
    return True


def _replace(out: Folder, key: ShardKey, stage: Staging, replaces: str | None, owner: str) -> bool:
    place = f"{_temporaries(key)}/{owner}.{uuid.uuid4().hex}"
    for table in stage.ids:
        if os.path.exists(stage.path(table)):
            out.place(stage.path(table), f"{place}/{table}.parquet", replace=True)
    record = {"place": place, "ids": stage.ids}
    created = out.create(_record(key, replaces), json.dumps(record).encode())
    finish(out, key)
    out.remove(place)
    return created


def _record(key: ShardKey, replaces: str | None) -> str:
    return f"{_temporaries(key)}/{RECORD}{replaces or 'none'}.json"


def finish(out: Folder, key: ShardKey) -> None:
    """Finishes the replacement of what stands, if a record names one that is whole."""
    name = _record(key, coverage_id(out, key))
    record = out.read_json(name)
    if record is None:
        return
    place, ids = record["place"], record["ids"]
    parts = {f"{place}/{table}.parquet": (key.part(table), ids[table]) for table in ids}
    if all(
        content_id in (_content_id(out, source), _content_id(out, target))
        for source, (target, content_id) in parts.items()
    ):
        for source, (target, _) in parts.items():
            out.move(source, target)
        if coverage_id(out, key) != ids["coverage"]:
            return
    out.remove(name)
    out.remove(place)
    tidy(out, key)


def _content_id(out: Folder, name: str) -> str | None:
    metadata = read_metadata(out, name)
    return metadata.get(CONTENT_ID) if metadata else None


def clear(out: Folder, alive: Container[str]) -> None:
    """Finishes replacements that killed runs left, and removes the temporaries of runs not alive.

    A worker may have outlived its run and make its record just now: on a disk, a place is moved
    aside and looked for in the records before it goes.
    """
    if not out.exists("_tmp"):
        return
    names = out.files("_tmp")
    for name in names:
        folder, _, base = name.rpartition("/")
        if base.startswith(RECORD):
            key = key_of(folder.removeprefix("_tmp/"))
            if key is None:
                continue
            finish(out, key)
            if name != _record(key, coverage_id(out, key)):
                out.remove(name)
    for place in sorted({name.rpartition("/")[0] for name in names}):
        folder, _, base = place.rpartition("/")
        if folder.endswith(".parquet") and base.partition(".")[0] not in alive:
            aside = f"{folder}/swept.{uuid.uuid4().hex}" if out.is_local else place
            out.move(place, aside)
            if place not in _recorded(out, folder):
                out.remove(aside)
            else:
                out.move(aside, place)
    if out.is_local:
        for path, _, _ in sorted(os.walk(out.at("_tmp")), reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _recorded(out: Folder, folder: str) -> set[str]:
    """The places that records of a shard's folder of temporaries name."""
    names = [name for name in out.files(folder) if name.startswith(f"{folder}/{RECORD}")]
    return {record["place"] for name in names if (record := out.read_json(name))}
