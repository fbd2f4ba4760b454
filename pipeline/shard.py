"""A shard as a transaction: from its planned spans to its committed parts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from model.bundle import Bundle
from model.retries import StorageError
from model.sound import AudioError
from model.stages import timed
from pipeline.commit import (
    Commit,
    Member,
    Staging,
    commit,
    coverage_id,
    finish,
    read_commit,
    staging,
)
from pipeline.guard import UNGUARDED, Guard
from pipeline.job import Job
from pipeline.parts import rows_by_recording
from pipeline.recording import Recording
from pipeline.scoring import Rows, Score, open_recording, score_spans
from pipeline.shard_key import ShardKey
from pipeline.spans import Span
from pipeline.storage import Folder

ATTEMPTS = 20
"""Times that a shard is merged again when others commit to it in between."""


NO_DAMAGE = frozenset({"silent", "tail", "no_channel"})
"""Permanent reasons that say nothing against the file: a new try would end the same."""


class ShardError(Exception):
    """A shard could not be done; the message says which and why, `errno` what storage said.

    `gone`: storage failed in a way that no other shard will mend.
    """

    errno: int | None = None
    gone = False


@dataclass(frozen=True)
class Shard:
    """The spans planned for one shard, sorted by recording.

    `drop` are standing members whose rows must go. `seen` is the coverage id that stood when the
    plan was made: what was curable (or, with `redo_damaged`, damaged) in it is tried again.
    """

    key: ShardKey
    spans: tuple[Span, ...]
    drop: frozenset[str] = frozenset()
    seen: str | None = None
    redo_damaged: bool = False


@dataclass
class Merge:
    """What a shard's next commit holds: spans to score, and members carried over."""

    score: list[Span] = field(default_factory=list)
    carry: list[Member] = field(default_factory=list)
    dropped: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether the shard stands as it is."""
        return not self.score and not self.dropped


def merge(shard: Shard, standing: Commit | None) -> Merge:
    """Compares a shard's plan with its commit: scores what is new, changed or worth a new try."""
    plan = Merge()
    left = dict(standing.members) if standing else {}
    again = standing is not None and standing.coverage_id == shard.seen
    for span in shard.spans:
        old = left.pop(span.recording.recording, None)
        retry = old is not None and again and (old.curable or (shard.redo_damaged and old.damaged))
        if old is None or retry or old.identity != span.member().identity:
            plan.score.append(span)
        else:
            plan.carry.append(old)
    for recording, member in left.items():
        if recording in shard.drop:
            plan.dropped += 1
        else:
            plan.carry.append(member)
    return plan


def hold_back(plan: Merge, standing: Commit | None, guard: Guard) -> tuple[str, ...]:
    """Carries over what was to be scored again, stands with rows and cannot be opened now.

    Recordings of an inventory are not looked at before, so the disk that they are on may be away.
    Gives the names of those of which other rows were asked for than those that stand.
    """
    members = standing.members if standing else {}
    score: list[Span] = []
    held = []
    for span in plan.score:
        old = members.get(span.recording.recording)
        if old is None or not old.readable or _opens(span.recording, guard):
            score.append(span)
            continue
        plan.carry.append(old)
        if old.identity != span.member().identity:
            held.append(old.recording)
    plan.score = score
    return tuple(held)


def _opens(recording: Recording, guard: Guard) -> bool:
    if recording.recording in guard.blamed:
        return True  # It is, and its decoder dies of it.
    guard.at(recording.recording)
    try:
        open_recording(recording).close()
    except AudioError:
        return False
    finally:
        guard.at(None)
    return True


@dataclass(frozen=True)
class Done:
    """What became of a shard: whether it was committed now, or stood so before.

    `held` are recordings whose rows stand although others were asked for: their files are gone.
    """

    is_new: bool
    held: tuple[str, ...] = ()


def run_shard(
    shard: Shard, job: Job, bundle: Bundle, score: Score, guard: Guard = UNGUARDED
) -> Done:
    """Takes a shard to its commit.

    Raises ShardError, with the shard's name, where it cannot be done; nothing is committed then.
    """
    try:
        return _run(shard, job, bundle, score, guard)
    except Exception as error:
        why = error.strerror if isinstance(error, StorageError) else None
        failure = ShardError(f"shard {shard.key}: {why or f'{type(error).__name__}: {error}'}")
        failure.errno = getattr(error, "errno", None)
        failure.gone = getattr(error, "gone", False)
        raise failure from error


def _run(shard: Shard, job: Job, bundle: Bundle, score: Score, guard: Guard) -> Done:
    out = Folder(job.output)
    for _ in range(ATTEMPTS):
        finish(out, shard.key)
        replaces = coverage_id(out, shard.key)
        standing = read_commit(out, shard.key)
        plan = merge(shard, standing)
        held = hold_back(plan, standing, guard)
        if standing is not None and plan.is_nothing:
            return Done(False, held)
        with staging(out, shard.key, job.tables, job.facts, job.owner) as stage:
            members = write_rows(stage, plan, shard.key, job, bundle, score, guard)
            with timed("write"):
                stage.close(members)
                committed = commit(out, shard.key, stage, replaces, job.owner)
            if committed:
                if not members:
                    remove_parts(out, shard.key, job.tables)
                return Done(True, held)
    raise ShardError(f"others committed to it {ATTEMPTS} times in between")


def remove_parts(out: Folder, key: ShardKey, tables: Iterable[str]) -> None:
    """Removes the parts of a shard that was committed empty, the commit record first."""
    for table in reversed(list(tables)):
        out.remove(key.part(table))


def write_rows(
    stage: Staging,
    plan: Merge,
    key: ShardKey,
    job: Job,
    bundle: Bundle,
    score: Score,
    guard: Guard,
) -> list[Member]:
    """Writes all rows of a shard, sorted by recording; gives the members, sorted."""
    old = {table: _Cursor(Folder(job.output), key, table, plan.carry) for table in job.tables}
    carried = {member.recording: member for member in plan.carry}
    curable: set[str] = set()
    damaged: set[str] = set()
    for spans, kept in _stretches(plan.score, carried):
        for rows in score_spans(spans, job, bundle, score, guard):
            _put(stage, rows)
            for error in rows.errors:
                if error["curable"]:
                    curable.add(error["recording"])
                elif error["reason"] not in NO_DAMAGE:
                    damaged.add(error["recording"])
        for recording in kept:
            for table, cursor in old.items():
                for part in cursor.take(recording):
                    stage.writers[table].write(part)
    members = plan.carry + [
        span.member(
            curable=span.recording.recording in curable,
            damaged=span.recording.recording in damaged,
        )
        for span in plan.score
    ]
    return sorted(members, key=lambda member: member.recording)


def _put(stage: Staging, rows: Rows) -> None:
    with timed("write"):
        stage.writers["predictions"].write(rows.predictions)
        stage.writers["coverage"].write(rows.coverage)
        stage.writers["errors"].write(rows.errors)
        if rows.embeddings is not None:
            stage.writers["embeddings"].write(rows.embeddings)


def _stretches(
    score: Sequence[Span], carried: Iterable[str]
) -> Iterator[tuple[list[Span], list[str]]]:
    """Spans to score and then recordings to carry over, such that all come sorted."""
    todo: dict[str, Span | None] = dict.fromkeys(carried)
    todo |= {span.recording.recording: span for span in score}
    spans: list[Span] = []
    kept: list[str] = []
    for recording in sorted(todo):
        span = todo[recording]
        if span is None:
            kept.append(recording)
            continue
        if kept:
            yield spans, kept
            spans, kept = [], []
        spans.append(span)
    yield spans, kept


class _Cursor:
    """Reads a standing part once, from front to back."""

    def __init__(self, out: Folder, key: ShardKey, table: str, carried: Sequence[Member]) -> None:
        self._runs = rows_by_recording(out, key.part(table)) if carried else iter(())
        self._next: tuple[str, pa.Table] | None = next(self._runs, None)

    def take(self, recording: str) -> Iterator[pa.Table]:
        """The rows of a recording; those of recordings before it are passed over."""
        while self._next is not None and self._next[0] <= recording:
            if self._next[0] == recording:
                yield self._next[1]
            self._next = next(self._runs, None)
