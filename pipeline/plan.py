"""The plan of a run: which shards have work to do, as Parquet that the workers read."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.windows import WindowRule
from pipeline.commit import Commit, read_commit
from pipeline.recording import INVENTORY, Place, Recording
from pipeline.shard import Shard, merge
from pipeline.shard_key import ShardKey, key_of
from pipeline.spans import Span, spans_of
from pipeline.storage import Folder

SPANS = pa.schema(
    [
        *INVENTORY,
        ("site", pa.string()),
        ("date", pa.string()),
        ("slot", pa.int32()),
        ("first", pa.int64()),
        ("stop", pa.int64()),
        ("start_clock", pa.timestamp("us")),
        ("start_utc", pa.timestamp("us", tz="UTC")),
        ("time_source", pa.string()),
        ("place_flags", pa.list_(pa.string())),
    ]
)
"""One row per span, sorted by shard and recording."""
SHARDS = pa.schema(
    [
        ("site", pa.string()),
        ("date", pa.string()),
        ("slot", pa.int32()),
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
        ("seconds", pa.float64()),
        ("drop", pa.list_(pa.string())),
        ("seen", pa.string()),
        ("redo_damaged", pa.bool_()),
    ]
)
"""One row per shard that has work to do: its rows in the table of spans."""
ROW_GROUP = 10_000
THREADS = 32


@dataclass(frozen=True)
class ShardRef:
    """The place of a shard in the plan: what travels through the job graph."""

    folder: str
    site: str
    date: str
    slot: int
    first_row: int
    rows: int
    seconds: float
    drop: tuple[str, ...]
    seen: str | None
    redo_damaged: bool

    @property
    def key(self) -> ShardKey:
        """The shard's name."""
        return ShardKey(self.site, self.date, self.slot)

    def load(self) -> Shard:
        """The shard with its spans, read from the plan by range."""
        spans = tuple(_span(row) for row in self._rows())
        return Shard(self.key, spans, frozenset(self.drop), self.seen, self.redo_damaged)

    def _rows(self) -> Iterator[dict[str, Any]]:
        with Folder(self.folder).open("spans.parquet") as file:
            part, at = pq.ParquetFile(file), 0
            for group in range(part.num_row_groups):
                rows = part.metadata.row_group(group).num_rows
                begin, end = self.first_row - at, self.first_row + self.rows - at
                if begin < rows and end > 0:
                    start = max(0, begin)
                    yield from part.read_row_group(group).slice(start, end - start).to_pylist()
                at += rows


def span_table(
    placed: Iterable[tuple[Recording, Place]], rule: WindowRule, slot_hours: int
) -> pa.Table:
    """The spans of all recordings, sorted by shard and recording."""
    tables, rows = [SPANS.empty_table()], []
    for recording, place in placed:
        for span in spans_of(recording, place, rule, slot_hours):
            rows.append(_row(span))
        if len(rows) >= ROW_GROUP:
            tables.append(pa.Table.from_pylist(rows, schema=SPANS))
            rows = []
    tables.append(pa.Table.from_pylist(rows, schema=SPANS))
    order = [(name, "ascending") for name in ("site", "date", "slot", "recording")]
    return pa.concat_tables(tables).sort_by(order)


def _row(span: Span) -> dict[str, Any]:
    key, place = span.key, span.place
    return span.recording.to_row() | {
        "site": key.site,
        "date": key.date,
        "slot": key.slot,
        "first": span.first,
        "stop": span.stop,
        "start_clock": place.start_clock,
        "start_utc": place.start_utc,
        "time_source": place.time_source,
        "place_flags": list(place.flags),
    }


def _span(row: dict[str, Any]) -> Span:
    place = Place(
        row["site"],
        row["start_clock"],
        row["start_utc"],
        row["time_source"],
        tuple(row["place_flags"] or ()),
    )
    key = ShardKey(row["site"], row["date"], row["slot"])
    return Span(key, Recording.from_row(row), place, row["first"], row["stop"])


def _groups(spans: pa.Table) -> Iterator[tuple[ShardKey, int, list[Span]]]:
    """(key, first row, spans) of each shard of a sorted table of spans."""

    def all_spans() -> Iterator[Span]:
        for batch in spans.to_batches(max_chunksize=ROW_GROUP):
            yield from (_span(row) for row in batch.to_pylist())

    at = 0
    for key, group in groupby(all_spans(), key=lambda span: span.key):
        found = list(group)
        yield key, at, found
        at += len(found)


@dataclass(frozen=True)
class Standing:
    """What the dataset holds before a run: every shard's commit, None where its parts disagree."""

    commits: dict[ShardKey, Commit | None]

    @property
    def sites(self) -> frozenset[str]:
        """Sites that have a shard."""
        return frozenset(key.site for key in self.commits)

    @property
    def readable(self) -> frozenset[str]:
        """Recordings that stand with windows that could be read."""
        return frozenset(
            name
            for commit in self.commits.values()
            if commit is not None
            for name, member in commit.members.items()
            if member.readable
        )


def read_standing(out: Folder) -> Standing:
    """The commits of all shards in the dataset, their footers read by several threads."""
    if not out.exists("coverage"):
        return Standing({})
    found = (key_of(name.removeprefix("coverage/")) for name in out.files("coverage"))
    keys = [key for key in found if key is not None]
    with ThreadPoolExecutor(THREADS) as pool:
        commits = list(pool.map(lambda key: read_commit(out, key), keys))
    return Standing(dict(zip(keys, commits, strict=True)))


def plan_shards(
    spans: pa.Table,
    standing: Standing,
    present: frozenset[str],
    hop_s: float,
    *,
    prune: Sequence[str] = (),
    redo_damaged: bool = False,
) -> pa.Table:
    """The shards of a run that have work to do, as a table of `SHARDS`.

    `present` are the recordings that this run sees; those that stand in a shard where they are not
    planned are dropped from it. `prune` are standing recordings that are to be dropped as well.
    """
    rows: list[dict[str, Any]] = []
    seen: set[ShardKey] = set()
    gone = frozenset(prune)

    def consider(key: ShardKey, first_row: int, planned: list[Span]) -> None:
        seen.add(key)
        commit = standing.commits.get(key)
        names = {span.recording.recording for span in planned}
        drop = [
            name
            for name in (commit.members if commit else ())
            if name not in names and (name in present or name in gone)
        ]
        known = commit.coverage_id if commit else None
        shard = Shard(key, tuple(planned), frozenset(drop), known, redo_damaged)
        todo = merge(shard, commit)
        if (commit is not None and todo.is_nothing) or not (planned or drop):
            return
        seconds = sum(_seconds(span, hop_s) for span in todo.score)
        rows.append(
            {
                "site": key.site,
                "date": key.date,
                "slot": key.slot,
                "first_row": first_row,
                "rows": len(planned),
                "seconds": seconds,
                "drop": drop,
                "seen": known,
                "redo_damaged": redo_damaged,
            }
        )

    for key, first_row, planned in _groups(spans):
        consider(key, first_row, planned)
    for key in standing.commits.keys() - seen:
        consider(key, 0, [])
    return pa.Table.from_pylist(rows, schema=SHARDS)


def _seconds(span: Span, hop_s: float) -> float:
    """Seconds of a recording that a span owns."""
    end = min(span.stop * hop_s, span.recording.duration_s or 0.0)
    return max(0.0, end - span.first * hop_s)


def read_refs(folder: str) -> Iterator[ShardRef]:
    """The shards of a plan that lies in a folder."""
    with Folder(folder).open("shards.parquet") as file:
        for row in pq.read_table(file).to_pylist():
            yield ShardRef(folder, **row | {"drop": tuple(row["drop"] or ())})


def write_plan(folder: Folder, spans: pa.Table, shards: pa.Table) -> None:
    """Writes the tables of a plan."""
    for name, table in (("spans", spans), ("shards", shards)):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=ROW_GROUP, compression="zstd")
        folder.write(f"{name}.parquet", sink.getvalue().to_pybytes())
