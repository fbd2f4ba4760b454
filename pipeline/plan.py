"""The plan of a run: which shards have work to do, as Parquet that the workers read."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.windows import WindowRule
from pipeline.commit import Commit
from pipeline.commit_index import commits_of, refresh
from pipeline.parts import write_table
from pipeline.recording import INVENTORY, Place, Recording
from pipeline.shard import Shard, merge
from pipeline.shard_key import ShardKey
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
        ("file", pa.int32()),
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
        ("seconds", pa.float64()),
        ("windows", pa.int64()),
        ("bytes", pa.int64()),
        ("drop", pa.list_(pa.string())),
        ("seen", pa.string()),
        ("redo_damaged", pa.bool_()),
    ]
)
"""One row per shard that has work to do: the file of its spans, and its rows there."""
ROW_GROUP = 10_000
"""Rows of a file of spans, but for those of its last shard: who does a shard reads no more."""
SORT_MEMORY = "1GB"
KEY = ("site", "date", "slot")


@dataclass(frozen=True)
class ShardRef:
    """The place of a shard in the plan: what travels through the job graph."""

    folder: str
    site: str
    date: str
    slot: int
    file: int
    first_row: int
    rows: int
    seconds: float
    windows: int
    bytes: int
    drop: tuple[str, ...]
    seen: str | None
    redo_damaged: bool

    @property
    def key(self) -> ShardKey:
        """The shard's name."""
        return ShardKey(self.site, self.date, self.slot)

    def load(self) -> Shard:
        """The shard with its spans, read from the plan by range."""
        if not self.rows:
            return self.shard(())
        with Folder(self.folder).open(_spans_file(self.file)) as file:
            part, at = pq.ParquetFile(file), 0
            spans: list[Span] = []
            for group in range(part.num_row_groups):
                rows = part.metadata.row_group(group).num_rows
                begin, end = self.first_row - at, self.first_row + self.rows - at
                if begin < rows and end > 0:
                    start = max(0, begin)
                    found = part.read_row_group(group).slice(start, end - start)
                    spans += map(_span, found.to_pylist())
                at += rows
        return self.shard(spans)

    def shard(self, spans: Iterable[Span]) -> Shard:
        """The shard, with its spans."""
        drop = frozenset(self.drop)
        return Shard(self.key, tuple(spans), drop, self.seen, self.redo_damaged)


def _spans_file(number: int) -> str:
    return f"spans/part-{number:06d}.parquet"


@contextmanager
def sorted_spans(
    placed: Iterable[tuple[Recording, Place]], rule: WindowRule, slot_hours: int
) -> Iterator["SortedSpans"]:
    """The spans of all recordings, sorted by shard and recording, in bounded memory.

    They lie on this machine's disk until the block ends.
    """
    with tempfile.TemporaryDirectory(prefix="dawnchorus-plan-") as folder:
        path = Path(folder) / "spans.parquet"
        with pq.ParquetWriter(path, SPANS) as writer:
            rows: list[dict[str, Any]] = []
            for recording, place in placed:
                rows += (_row(span) for span in spans_of(recording, place, rule, slot_hours))
                if len(rows) >= ROW_GROUP:
                    writer.write_table(pa.Table.from_pylist(rows, schema=SPANS))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, schema=SPANS))
        yield SortedSpans(path)


@dataclass(frozen=True)
class SortedSpans:
    """A Parquet file of spans, and their order by shard and recording."""

    path: Path

    @property
    def sites(self) -> frozenset[str]:
        """The sites of all spans."""
        return frozenset(pq.read_table(self.path, columns=["site"])["site"].unique().to_pylist())

    def facts(self) -> dict[str, int]:
        """How many recordings have no known time (`undated`), and each flag."""
        with duckdb.connect() as connection:
            spans = connection.read_parquet(str(self.path))
            found = connection.sql(
                """SELECT 'undated', count(DISTINCT recording) FROM spans WHERE start_clock IS NULL
                    UNION ALL SELECT * FROM (SELECT flag, count(DISTINCT recording)
                    FROM (SELECT recording, unnest(place_flags) AS flag FROM spans)
                    GROUP BY flag ORDER BY flag)"""
            ).fetchall()
            del spans
        return dict(found)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All spans, sorted."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET enable_progress_bar = false")
            connection.execute(f"SET memory_limit = '{SORT_MEMORY}'")
            connection.execute(f"SET temp_directory = '{self.path.parent}/sorting'")
            order = ", ".join((*KEY, "recording"))
            source = connection.read_parquet(str(self.path))
            for batch in source.order(order).to_arrow_reader(ROW_GROUP):
                yield pa.Table.from_batches([batch]).cast(SPANS).combine_chunks().to_batches()[0]


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


def _shards(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[ShardKey, pa.Table]]:
    """The rows of each shard of sorted spans."""
    pieces: list[pa.RecordBatch] = []
    key: tuple[Any, ...] | None = None
    for batch in batches:
        for piece in _runs(batch):
            found = tuple(piece[name][0].as_py() for name in KEY)
            if key is not None and found != key:
                yield ShardKey(*key), pa.Table.from_batches(pieces)
                pieces = []
            key = found
            pieces.append(piece)
    if key is not None:
        yield ShardKey(*key), pa.Table.from_batches(pieces)


def _runs(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The stretches of a batch that belong to one shard each."""
    changes = np.zeros(max(0, len(batch) - 1), bool)
    for name in KEY:
        column = batch[name]
        changes |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(batch)]
    for start, stop in pairwise(bounds):
        if stop > start:
            yield batch.slice(start, stop - start)


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
    """The commits of all shards in the dataset; only parts that no index knows are read."""
    return Standing(commits_of(refresh(out)))


def write_plan(
    folder: Folder,
    batches: Iterable[pa.RecordBatch],
    standing: Standing,
    present: frozenset[str],
    hop_s: float,
    *,
    prune: Sequence[str] = (),
    redo_damaged: bool = False,
) -> None:
    """Writes the shards of a run that have work to do, and their spans, of all spans, sorted.

    `present` are the recordings that this run sees; those that stand in a shard where they are not
    planned are dropped from it. `prune` are standing recordings that are to be dropped as well.
    """
    gone = frozenset(prune)
    seen: set[ShardKey] = set()
    with _PlanWriter(folder, hop_s, redo_damaged) as writer:
        for key, spans in _shards(batches):
            seen.add(key)
            commit = standing.commits.get(key)
            if commit is None:
                writer.add(key, spans, spans, (), None)
                continue
            planned = [_span(row) for row in spans.to_pylist()]
            names = {span.recording.recording for span in planned}
            drop = _dropped(commit, present - names, gone - names)
            shard = Shard(key, tuple(planned), frozenset(drop), commit.coverage_id, redo_damaged)
            todo = merge(shard, commit)
            if not todo.is_nothing:
                again = {span.recording.recording for span in todo.score}
                scored = pc.is_in(spans["recording"], pa.array(sorted(again), pa.string()))
                writer.add(key, spans, spans.filter(scored), drop, commit.coverage_id)
        nothing = SPANS.empty_table()
        for key in standing.commits.keys() - seen:
            commit = standing.commits[key]
            drop = _dropped(commit, present, gone) if commit else ()
            if drop:
                writer.add(key, nothing, nothing, drop, commit.coverage_id if commit else None)


def _dropped(commit: Commit, present: frozenset[str], gone: frozenset[str]) -> Sequence[str]:
    return [name for name in commit.members if name in present or name in gone]


def _work(spans: pa.Table, hop_s: float) -> dict[str, float]:
    """Seconds of recordings that spans own, their windows, and their share of the files' bytes."""

    def column(name: str) -> npt.NDArray[np.float64]:
        values: npt.NDArray[np.float64] = spans[name].to_numpy().astype(np.float64)
        return np.nan_to_num(values)

    duration = column("duration_s")
    ends = np.minimum(column("stop") * hop_s, duration)
    owned = np.maximum(0.0, ends - column("first") * hop_s)
    share = np.divide(owned, duration, out=np.zeros_like(owned), where=duration > 0)
    return {
        "seconds": float(owned.sum()),
        "windows": int((column("stop") - column("first")).sum()),
        "bytes": round(float((share * column("size_bytes")).sum())),
    }


class _PlanWriter:
    """Writes spans into files of about `ROW_GROUP` rows, and in the end the shards."""

    def __init__(self, folder: Folder, hop_s: float, redo_damaged: bool) -> None:
        self._folder, self._hop_s, self._redo_damaged = folder, hop_s, redo_damaged
        self._shards: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._rows = self._file = 0

    def __enter__(self) -> "_PlanWriter":
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is None:
            self._flush()
            table = pa.Table.from_pylist(self._shards, schema=SHARDS)
            write_table(self._folder, "shards.parquet", table, ROW_GROUP)

    def add(
        self,
        key: ShardKey,
        spans: pa.Table,
        scored: pa.Table,
        drop: Sequence[str],
        seen: str | None,
    ) -> None:
        """Adds a shard with its spans, and those of them that are to be scored."""
        self._shards.append(
            {
                "site": key.site,
                "date": key.date,
                "slot": key.slot,
                "file": self._file,
                "first_row": self._rows,
                "rows": spans.num_rows,
                "drop": list(drop),
                "seen": seen,
                "redo_damaged": self._redo_damaged,
                **_work(scored, self._hop_s),
            }
        )
        self._tables.append(spans)
        self._rows += spans.num_rows
        if self._rows >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            spans = pa.concat_tables(self._tables)
            write_table(self._folder, _spans_file(self._file), spans, ROW_GROUP)
        self._tables, self._rows, self._file = [], 0, self._file + 1


def read_refs(folder: str) -> Iterator[ShardRef]:
    """The shards of a plan that lies in a folder."""
    table = pq.read_table(pa.BufferReader(Folder(folder).read("shards.parquet")))
    for batch in table.to_batches(ROW_GROUP):
        for row in batch.to_pylist():
            yield ShardRef(folder, **row | {"drop": tuple(row["drop"] or ())})


def read_shards(folder: str) -> Iterator[tuple[ShardRef, Shard]]:
    """The shards of a plan with their spans; each file of spans is read once."""
    for number, refs in groupby(read_refs(folder), key=lambda ref: ref.file):
        some = list(refs)
        spans = SPANS.empty_table()
        if any(ref.rows for ref in some):
            spans = pq.read_table(pa.BufferReader(Folder(folder).read(_spans_file(number))))
        for ref in some:
            rows = spans.slice(ref.first_row, ref.rows).to_pylist()
            yield ref, ref.shard(map(_span, rows))
