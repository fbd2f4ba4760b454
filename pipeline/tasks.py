"""Tasks: what worker processes are asked to do. They need no Beam."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.bundle import Bundle, load_bundle
from model.retries import take_retries
from model.runtime import Engine, Precision
from model.scorer import Scorer
from model.stages import take_times
from pipeline.guard import ANY, Guard
from pipeline.job import Job
from pipeline.memory import unlimited_memory
from pipeline.plan import ShardRef
from pipeline.probe import probe
from pipeline.recording import INVENTORY, Recording, unreadable
from pipeline.scoring import score_of
from pipeline.shard import run_shard
from pipeline.storage import Folder


@dataclass(frozen=True)
class Costs:
    """What an element took: the seconds of each stage, and how often storage was asked again."""

    times: dict[str, float] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)


PROBE_BATCH = 500
PROBE_THREADS = 16

_scorers: dict[tuple[str, Engine, Precision, bool], tuple[Bundle, Scorer]] = {}


def scorer_of(job: Job) -> tuple[Bundle, Scorer]:
    """A job's bundle and its scorer, loaded once in a process."""
    embeddings = job.embedding_size is not None
    key = job.bundle, job.engine, job.precision, embeddings
    if key not in _scorers:
        with unlimited_memory():
            bundle = load_bundle(job.bundle)
            scorer = Scorer(bundle, job.engine, job.precision, embeddings=embeddings)
            _scorers[key] = bundle, scorer
    return _scorers[key]


def detect_shard(ref: ShardRef, job: Job, guard: Guard) -> tuple[bool, Costs]:
    """Takes a shard to its commit; whether there was work, and what it cost.

    Raises ShardError.
    """
    bundle, scorer = scorer_of(job)
    take_times()
    done = run_shard(ref.load(), job, bundle, score_of(job, scorer), guard)
    return done, Costs(take_times(), take_retries())


def probe_batch(place: str, first: int, guard: Guard) -> Costs:
    """Makes a part of the inventory from the rows of the listing from `first` on.

    The rows are probed by several threads, or where a worker died of one, one at a time.
    """
    folder = Folder(place)
    rows = pq.read_table(io.BytesIO(folder.read("listing.parquet"))).slice(first, PROBE_BATCH)

    def probe_row(row: dict[str, Any]) -> Recording:
        name, url = row["recording"], os.fsdecode(row["url"])
        guard.at(ANY if guard.attempt == 1 else name)
        blame = guard.blamed.get(name)
        if blame is not None:
            return unreadable(Recording(name, url, row["stamp"]), blame.reason, blame.message)
        return probe(name, url, row["stamp"], is_folder=row["is_folder"], size=row["size"])

    with ThreadPoolExecutor(PROBE_THREADS if guard.attempt == 1 else 1) as threads:
        found = list(threads.map(probe_row, rows.to_pylist()))
    guard.at(None)
    table = pa.Table.from_pylist([recording.to_row() for recording in found], schema=INVENTORY)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    folder.write(f"inventory/part-{first:012d}.parquet", sink.getvalue())
    return Costs({}, take_retries())
