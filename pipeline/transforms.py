"""The Beam steps: thin wrappers of `tasks`, which worker processes carry out."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from model.errors import UserError
from model.retries import take_retries
from model.runtime import Engine
from pipeline import tasks
from pipeline.job import Job
from pipeline.plan import ShardRef, read_refs
from pipeline.pool import DeadWorkerError, Pool, pool
from pipeline.run_record import RETRIES, read_run, was_stopped
from pipeline.runner import NAMESPACE
from pipeline.shard import ShardError
from pipeline.storage import NO_SPACE, Folder
from pipeline.text import listed

ATTEMPTS = 3
GIVE_UP = 8
"""Shards that fail one after another before the others are not tried any more: storage or the
network is at fault then, not a shard."""

Outcome = tuple[str, tasks.Costs]
"""The name of the counter that an element adds to, and what it cost."""


class _SideBySide(beam.DoFn):  # type: ignore[misc]
    """Does a bundle's elements in `parallel` threads, each of which waits for a worker process.

    Where there are several, the longest elements come first, so that none is left alone at the
    end; where there is one, each element is done when it comes, so that a runner that shares out
    elements sees how far it is. The bundle is done when all its elements are.
    """

    parallel: int
    engine: Any = None

    def start_bundle(self) -> None:
        self._pool = pool(self.engine)
        self._elements: list[Any] = []

    def process(self, element: Any) -> None:
        if self.parallel == 1:
            self._book(self.work(self._pool, element))
        else:
            self._elements.append(element)

    def finish_bundle(self) -> None:
        threads = ThreadPoolExecutor(self.parallel)
        try:
            elements = sorted(self._elements, key=self.length, reverse=True)
            for outcome in threads.map(lambda element: self.work(self._pool, element), elements):
                self._book(outcome)
        finally:
            threads.shutdown(cancel_futures=True)

    def _book(self, outcome: Outcome) -> None:
        counter, costs = outcome
        Metrics.counter(NAMESPACE, counter).inc()
        for stage, seconds in costs.times.items():
            Metrics.distribution(NAMESPACE, f"{stage}_ms").update(round(1000 * seconds))
        for retries in (costs.retries, take_retries()):  # of the worker process, and of this one
            for kind, times in retries.items():
                Metrics.distribution(NAMESPACE, RETRIES + kind).update(times)

    def length(self, element: Any) -> float:
        """How long an element is, compared with others."""
        return 0.0

    def work(self, workers: Pool, element: Any) -> Outcome:
        """Does an element's work, in a thread."""
        raise NotImplementedError


class ListBatches(beam.DoFn):  # type: ignore[misc]
    """The plan's folder to the row ranges of its listing."""

    def process(self, folder: str) -> Iterator[tuple[str, int]]:
        with Folder(folder).open("listing.parquet") as file:
            rows = pq.read_metadata(file).num_rows
        for first in range(0, rows, tasks.PROBE_BATCH):
            yield folder, first


@dataclass
class ProbeBatch(_SideBySide):
    """A row range of the listing to a part of the inventory, named by its first row."""

    parallel: int
    timeout_s: float

    def work(self, workers: Pool, element: tuple[str, int]) -> Outcome:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                costs = workers.run(tasks.probe_batch, *element, timeout_s=self.timeout_s)
                break
            except DeadWorkerError:
                if attempt == ATTEMPTS:
                    raise
        return "batches_probed", costs


class ReadShards(beam.DoFn):  # type: ignore[misc]
    """The plan's folder to the shards that have work to do."""

    def process(self, folder: str) -> Iterator[ShardRef]:
        yield from read_refs(folder)


@dataclass
class DetectShard(_SideBySide):
    """Takes a shard to its commit.

    A shard that fails several times is left uncommitted and its failure is kept beside the plan:
    the others go on, unless many fail in a row, and the run's exit status tells.
    """

    job: Job
    parallel: int

    @property
    def engine(self) -> Engine:
        return self.job.engine

    def setup(self) -> None:
        self._in_a_row = 0

    def length(self, element: ShardRef) -> float:
        return element.seconds

    def work(self, workers: Pool, element: ShardRef) -> Outcome:
        if self._in_a_row < GIVE_UP and was_stopped(Folder(self.job.output), self.job.owner):
            return "shards_given_up", tasks.Costs()
        for attempt in range(1, ATTEMPTS + 1):
            if self._in_a_row >= GIVE_UP:
                return "shards_given_up", tasks.Costs()
            if attempt > 1:
                time.sleep(2**attempt)
            try:
                timeout_s = self.job.timeout_s
                done, costs = workers.run(
                    tasks.detect_shard, element, self.job, timeout_s=timeout_s
                )
            except (ShardError, DeadWorkerError, UserError) as error:
                failure = error
                lasts = getattr(error, "gone", False) or getattr(error, "errno", None) in NO_SPACE
                if lasts or isinstance(error, UserError):
                    self._in_a_row = GIVE_UP
                    break
            else:
                self._in_a_row = 0
                if done.held:
                    gone = f"gone or unreadable: {listed(done.held, 3)}; their rows are kept"
                    _note_failure(element, f"shard {element.key}: {gone}")
                return "shards_committed" if done.is_new else "shards_standing", costs
        self._in_a_row += 1
        _note_failure(element, str(failure))
        return "shards_failed", tasks.Costs()


def _note_failure(ref: ShardRef, message: str) -> None:
    """Writes beside the plan why not all of a shard was done."""
    name = str(ref.key).replace("/", "_")
    with contextlib.suppress(OSError):
        about = {"shard": str(ref.key), "message": message}
        Folder(ref.folder).write_json(f"failed/{name}.json", about)


@dataclass
class CloseRun(beam.DoFn):  # type: ignore[misc]
    """Writes the end of a run whose command does not wait for its job."""

    folder: str
    job: Job

    def process(self, element: Any) -> None:
        record = read_run(Folder(self.job.output), self.job.owner)
        if record is not None:
            failed = Folder(self.folder).files("failed")
            record.finish(Folder(self.job.output), status=1 if failed else 0)


@dataclass
class Inventory(beam.PTransform):  # type: ignore[misc]
    """Probes every recording of a plan's listing, in `parallel` worker processes."""

    folder: str
    parallel: int
    timeout_s: float

    def expand(self, begin: beam.Pipeline) -> beam.PCollection[int]:
        return (
            begin
            | beam.Create([self.folder])
            | "list" >> beam.ParDo(ListBatches())
            | beam.Reshuffle()
            | "probe" >> beam.ParDo(ProbeBatch(self.parallel, self.timeout_s))
        )


@dataclass
class Detection(beam.PTransform):  # type: ignore[misc]
    """Takes every shard of a plan to its commit, in `parallel` worker processes of each worker.

    `closes`: the run's record is closed by the job, because nobody waits for it.
    """

    folder: str
    job: Job
    parallel: int
    closes: bool = False

    def expand(self, begin: beam.Pipeline) -> beam.PCollection[str]:
        done = (
            begin
            | beam.Create([self.folder])
            | "shards" >> beam.ParDo(ReadShards())
            | beam.Reshuffle()
            | "detect" >> beam.ParDo(DetectShard(self.job, self.parallel))
        )
        if self.closes:
            close = CloseRun(self.folder, self.job)
            _ = done | "all" >> beam.combiners.Count.Globally() | "close" >> beam.ParDo(close)
        return done
