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

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.commit import Commit, Member, read_commit
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


@dataclass(frozen=True)
class Row:
    """A shard as the index knows it, without its members."""

    key: ShardKey
    modified: float
    coverage_id: str | None
    recordings: int
    unreadable: int
    tally: Tally


def refresh(out: Folder) -> pa.Table:
    """The index of a dataset, brought up to date and, if that is allowed, written.

    Raises OSError where storage fails.
    """
    coverage, stamps = _listed(out)
    old = _read(out)
    known = dict(zip(old["path"].to_pylist(), old["stamps"].to_pylist(), strict=True))
    keys = {path: key for path in coverage if (key := key_of(path)) is not None}
    fresh = [path for path in keys if known.get(path) != stamps[path]]
    kept = pa.array([p in keys and s == stamps[p] for p, s in known.items()], pa.bool_())
    if not fresh and len(keys) == len(known):
        return old
    with ThreadPoolExecutor(THREADS) as pool:
        commits = pool.map(lambda path: read_commit(out, keys[path]), fresh)
        rows = [
            _row(path, stamps[path], coverage[path], commit)
            for path, commit in zip(fresh, commits, strict=True)
        ]
    table = pa.concat_tables([old.filter(kept), pa.Table.from_pylist(rows, schema=SCHEMA)])
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    with contextlib.suppress(OSError):
        out.write(INDEX, sink.getvalue())
    return table


def rows_of(index: pa.Table) -> Iterator[Row]:
    """The rows of an index."""
    columns = [name for name in SCHEMA.names if name not in ("members", "stamps")]
    for row in index.select(columns).to_pylist():
        key = key_of(row["path"])
        assert key is not None
        tally = Tally.from_json(json.loads(row["tally"])) if row["tally"] else Tally()
        yield Row(
            key,
            row["modified"],
            row["coverage_id"],
            row["recordings"],
            row["unreadable"],
            tally,
        )


def commits_of(index: pa.Table) -> dict[ShardKey, Commit | None]:
    """The commit of each shard; None where its parts disagree."""
    commits: dict[ShardKey, Commit | None] = {}
    members = index["members"].to_pylist()
    for row, told in zip(rows_of(index), members, strict=True):
        commit = None
        if row.coverage_id is not None:
            found = map(Member.from_json, json.loads(told))
            by_name = {member.recording: member for member in found}
            commit = Commit(row.coverage_id, by_name, row.tally)
        commits[row.key] = commit
    return commits


def _listed(out: Folder) -> tuple[dict[str, Entry], dict[str, str]]:
    """The coverage parts by path, and the stamps of all of a shard's parts."""
    stamps: dict[str, list[str]] = {}
    coverage: dict[str, Entry] = {}
    for table in TABLES:
        for name, entry in out.below(table).items():
            path = name.removeprefix(f"{table}/")
            stamps.setdefault(path, []).append(f"{table}:{entry.stamp}")
            if table == "coverage":
                coverage[path] = entry
    return coverage, {path: " ".join(found) for path, found in stamps.items()}


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
