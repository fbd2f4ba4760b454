"""What is committed, kept in one file: only parts that are new since are opened.

The index is a cache in the dataset's `_index/`. A shard's row holds the listing stamps of all its
parts, and stands as long as they do; without the file, or where it is broken, all parts are read.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.commit import Commit, Member, read_commit
from pipeline.parts import write_table
from pipeline.shard_key import ShardKey, key_of
from pipeline.storage import Entry, Folder
from pipeline.tally import Tally

INDEX = "_index/commits-v1.parquet"
TABLES = ("coverage", "predictions", "errors", "embeddings")
THREADS = 32
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("stamps", pa.string()),
        ("modified", pa.float64()),
        ("coverage_id", pa.string()),
        ("recordings", pa.int64()),
        ("unreadable", pa.int64()),
        ("tally", pa.string()),
        ("members", pa.large_string()),
    ]
)
"""One row per shard; `coverage_id` is null where the parts disagree. `recordings` are those that
begin in the shard, so that each counts once; JSON of the tally and of the members."""


EMPTY = Tally().to_json()


@dataclass(frozen=True, slots=True)
class Row:
    """A shard as the index knows it, without its members; `tally` is as JSON."""

    path: str
    modified: float
    coverage_id: str | None
    recordings: int
    unreadable: int
    tally: dict[str, Any]


def refresh(out: Folder, *, every_part: bool = True) -> pa.Table:
    """The index of a dataset, brought up to date and, if that is allowed, written.

    Without `every_part` a shard is taken to stand as long as its coverage part does: that is the
    last one written, and the listings of the other tables are left out.

    Raises OSError where storage fails.
    """
    listed = {table: _listed(out, table) for table in (TABLES if every_part else TABLES[:1])}
    coverage, old = listed["coverage"], _read(out)
    known: dict[str, str] = dict(
        zip(old["path"].to_pylist(), old["stamps"].to_pylist(), strict=True)
    )

    def stands(path: str) -> bool:
        stamps = known.get(path, "")
        if every_part:
            return stamps == _stamps(listed, path)
        return path in coverage and stamps.startswith(_stamps(listed, path))

    kept = pa.array([stands(path) for path in known], pa.bool_())
    standing = {path for path, keep in zip(known, kept.to_pylist(), strict=True) if keep}
    fresh = [path for path in coverage if path not in standing and key_of(path) is not None]
    if not fresh and len(standing) == len(known):
        return old

    def read(path: str) -> dict[str, object]:
        stamps = _stamps(listed, path)
        if not every_part:
            folder = path.rpartition("/")[0]
            near = {table: _listed(out, table, folder) for table in TABLES}
            stamps = _stamps(near, path)
        key = key_of(path)
        assert key is not None
        return _row(path, stamps, coverage[path], read_commit(out, key))

    with ThreadPoolExecutor(THREADS) as pool:
        rows = list(pool.map(read, fresh))
    table = pa.concat_tables([old.filter(kept), pa.Table.from_pylist(rows, schema=SCHEMA)])
    with contextlib.suppress(OSError):
        write_table(out, INDEX, table)
    return table


def _listed(out: Folder, table: str, folder: str = "") -> dict[str, Entry]:
    """A table's parts by path, all of them or those of one folder."""
    below = out.below(f"{table}/{folder}".rstrip("/"))
    return {name.removeprefix(f"{table}/"): entry for name, entry in below.items()}


def _stamps(listed: dict[str, dict[str, Entry]], path: str) -> str:
    """The stamps of a shard's parts, as far as tables were listed, the coverage's first."""
    found = ((table, entries.get(path)) for table, entries in listed.items())
    return "".join(f"{table}:{entry.stamp} " for table, entry in found if entry is not None)


def rows_of(index: pa.Table) -> Iterator[Row]:
    """The rows of an index."""
    names = ("path", "modified", "coverage_id", "recordings", "unreadable", "tally")
    columns = {name: index[name].to_pylist() for name in names}
    # As one text: a call for each would take three times as long.
    tallies = json.loads(f"[{','.join(tally or 'null' for tally in columns['tally'])}]")
    rows = zip(*(columns[name] for name in names[:-1]), tallies, strict=True)
    for path, modified, coverage_id, recordings, unreadable, tally in rows:
        yield Row(path, modified, coverage_id, recordings, unreadable, tally or EMPTY)


def commits_of(index: pa.Table) -> dict[ShardKey, Commit | None]:
    """The commit of each shard; None where its parts disagree."""
    commits: dict[ShardKey, Commit | None] = {}
    members = index["members"].to_pylist()
    for row, told in zip(rows_of(index), members, strict=True):
        commit = None
        if row.coverage_id is not None:
            found = map(Member.from_json, json.loads(told))
            by_name = {member.recording: member for member in found}
            commit = Commit(row.coverage_id, by_name, Tally.from_json(row.tally))
        key = key_of(row.path)
        assert key is not None
        commits[key] = commit
    return commits


def _row(path: str, stamps: str, entry: Entry, commit: Commit | None) -> dict[str, object]:
    members: Iterable[Member] = commit.members.values() if commit else ()
    begun = [member for member in members if member.first == 0]
    return {
        "path": path,
        "stamps": stamps,
        "modified": entry.modified or 0.0,
        "coverage_id": commit.coverage_id if commit else None,
        "recordings": len(begun),
        "unreadable": sum(not member.readable for member in begun),
        "tally": json.dumps(commit.tally.to_json()) if commit else None,
        "members": json.dumps([member.to_json() for member in members]),
    }


def _read(out: Folder) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(out.read(INDEX))).cast(SCHEMA)
    except (OSError, ValueError):
        return SCHEMA.empty_table()  # Storage that fails will do so again where it matters.
