"""Tasks: what worker processes are asked to do. They need no Beam."""

import io
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.bundle import Bundle, load_bundle
from model.retries import take_retries
from model.runtime import BATCH, Engine, Precision
from model.scorer import Scorer
from model.stages import take_times
from pipeline.commit import staging
from pipeline.guard import ANY, Guard
from pipeline.job import Job
from pipeline.memory import unlimited_memory
from pipeline.parts import write_table
from pipeline.plan import ShardRef
from pipeline.probe import probe
from pipeline.recording import INVENTORY, Recording, unreadable
from pipeline.rehearsal import Rehearsal
from pipeline.scoring import Score, score_of
from pipeline.shard import Done, Merge, run_shard, write_rows
from pipeline.shard_key import ShardKey
from pipeline.spans import Span
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


def detect_shard(ref: ShardRef, job: Job, guard: Guard) -> tuple[Done, Costs]:
    """Takes a shard to its commit; what became of it, and what it cost.

    Raises ShardError.
    """
    bundle, scorer = scorer_of(job)
    take_times()
    done = run_shard(ref.load(), job, bundle, score_of(job, scorer), guard)
    return done, Costs(take_times(), take_retries())


def rehearse(spans: tuple[Span, ...], job: Job, guard: Guard) -> Rehearsal:
    """Takes spans to parts that nobody keeps, after all that is done once in a process is done."""
    bundle, scorer = scorer_of(job)
    score = score_of(job, scorer)
    score([np.zeros(bundle.front_end.window_samples, np.float32)] * BATCH)
    empty = _parts_of((), job, bundle, score, guard)[1]
    began = time.perf_counter()
    scored, sizes = _parts_of(spans, job, bundle, score, guard)
    took_s = time.perf_counter() - began
    return Rehearsal(scored, took_s, empty, max(0, sizes - empty))


def _parts_of(
    spans: tuple[Span, ...], job: Job, bundle: Bundle, score: Score, guard: Guard
) -> tuple[float, int]:
    """Seconds of sound that were scored, be it in several channels, and the bytes of the parts."""
    key = spans[0].key if spans else ShardKey("site", "2000-01-01", 0)
    with tempfile.TemporaryDirectory(prefix="dawnchorus-") as folder:
        out = Folder(folder)
        with staging(out, key, job.tables, job.facts, job.owner) as stage:
            members = write_rows(stage, Merge(list(spans)), key, job, bundle, score, guard)
            stage.close(members)
            sizes = sum(os.path.getsize(stage.path(table)) for table in job.tables)
            covered = pq.read_table(stage.path("coverage"), columns=["channel", "seconds_scored"])
    scored = pc.sum(covered["seconds_scored"]).as_py() or 0.0
    return scored / max(1, len(covered["channel"].unique())), sizes


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
    write_table(folder, f"inventory/part-{first:012d}.parquet", table)
    return Costs({}, take_retries())
