"""The Beam steps: thin wrappers of what `probe` and `shard` do without Beam."""

import io
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from model.bundle import Bundle, load_bundle
from model.scorer import Scorer
from pipeline.job import Job
from pipeline.plan import ShardRef, read_refs
from pipeline.probe import probe
from pipeline.recording import INVENTORY
from pipeline.shard import ShardError, run_shard
from pipeline.storage import Folder

PROBE_BATCH = 500
PROBE_THREADS = 16
ATTEMPTS = 3

_scorers: dict[str, tuple[Bundle, Scorer]] = {}
_lock = threading.Lock()


def scorer_of(bundle_url: str) -> tuple[Bundle, Scorer]:
    """A bundle and its scorer, loaded once in a process."""
    with _lock:
        if bundle_url not in _scorers:
            bundle = load_bundle(bundle_url)
            _scorers[bundle_url] = bundle, Scorer(bundle)
        return _scorers[bundle_url]


class ListBatches(beam.DoFn):  # type: ignore[misc]
    """The plan's folder to the row ranges of its listing."""

    def process(self, folder: str) -> Iterator[tuple[str, int]]:
        with Folder(folder).open("listing.parquet") as file:
            rows = pq.read_metadata(file).num_rows
        for first in range(0, rows, PROBE_BATCH):
            yield folder, first


class ProbeBatch(beam.DoFn):  # type: ignore[misc]
    """A row range of the listing to a part of the inventory, named by its first row."""

    def process(self, element: tuple[str, int]) -> Iterator[int]:
        place, first = element
        folder = Folder(place)
        rows = pq.read_table(io.BytesIO(folder.read("listing.parquet"))).slice(first, PROBE_BATCH)
        with ThreadPoolExecutor(PROBE_THREADS) as pool:
            found = list(pool.map(_probe_row, rows.to_pylist()))
        table = pa.Table.from_pylist([recording.to_row() for recording in found], schema=INVENTORY)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        folder.write(f"inventory/part-{first:012d}.parquet", sink.getvalue())
        Metrics.counter("dawnchorus", "recordings_probed").inc(len(found))
        yield len(found)


def _probe_row(row: dict[str, Any]) -> Any:
    url = os.fsdecode(row["url"])
    return probe(row["recording"], url, row["stamp"], is_folder=row["is_folder"])


class ReadShards(beam.DoFn):  # type: ignore[misc]
    """The plan's folder to the shards that have work to do."""

    def process(self, folder: str) -> Iterator[ShardRef]:
        yield from read_refs(folder)


@dataclass
class DetectShard(beam.DoFn):  # type: ignore[misc]
    """Takes a shard to its commit.

    A shard that fails several times is left uncommitted and its failure is kept beside the plan:
    the others go on, and the run's exit status tells.
    """

    job: Job

    def setup(self) -> None:
        scorer_of(self.job.bundle)

    def process(self, ref: ShardRef) -> Iterator[str]:
        bundle, scorer = scorer_of(self.job.bundle)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                done = run_shard(ref.load(), self.job, bundle, scorer)
            except ShardError as error:
                Metrics.counter("dawnchorus", "shard_failures").inc()
                if attempt == ATTEMPTS:
                    failure = {"shard": str(ref.key), "message": str(error)}
                    name = str(ref.key).replace("/", "_")
                    Folder(ref.folder).write_json(f"failed/{name}.json", failure)
                    return
                time.sleep(2**attempt)
                continue
            Metrics.counter("dawnchorus", "shards_committed" if done else "shards_standing").inc()
            yield str(ref.key)
            return


@dataclass
class Inventory(beam.PTransform):  # type: ignore[misc]
    """Probes every recording of a plan's listing."""

    folder: str

    def expand(self, begin: beam.Pipeline) -> beam.PCollection[int]:
        return (
            begin
            | beam.Create([self.folder])
            | "list" >> beam.ParDo(ListBatches())
            | beam.Reshuffle()
            | "probe" >> beam.ParDo(ProbeBatch())
        )


@dataclass
class Detection(beam.PTransform):  # type: ignore[misc]
    """Takes every shard of a plan to its commit."""

    folder: str
    job: Job

    def expand(self, begin: beam.Pipeline) -> beam.PCollection[str]:
        return (
            begin
            | beam.Create([self.folder])
            | "shards" >> beam.ParDo(ReadShards())
            | beam.Reshuffle()
            | "detect" >> beam.ParDo(DetectShard(self.job))
        )
