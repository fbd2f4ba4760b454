"""From spans to rows: decode, score in batches, and book every window. Needs no Beam."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model.audio import Decoded, decode_span
from model.bundle import Bundle
from model.runtime import BATCH
from model.scorer import Outputs, Scorer
from model.sound import AudioError, Sound
from model.stages import timed
from model.windows import WindowPlan
from pipeline.coverage import Account, unreadable_rows
from pipeline.guard import UNGUARDED, Guard
from pipeline.job import Job
from pipeline.probe import check_told
from pipeline.recording import NOT_PROBED, Recording
from pipeline.schema import PREDICTIONS, WINDOW, plain
from pipeline.spans import Span, window_plan
from pipeline.storage import check_answers

Float32 = npt.NDArray[np.float32]
Score = Callable[[Sequence[Float32]], Outputs]
LARGEST = float(np.finfo(np.float16).max)


def score_of(job: Job, scorer: Scorer) -> Score:
    """What a job asks of a scorer: without embeddings, ones of no numbers."""
    if job.embedding_size is not None:
        return scorer.outputs
    return lambda waveforms: Outputs(scorer(waveforms), np.zeros((len(waveforms), 0), np.float32))


@dataclass
class Rows:
    """Rows of the tables, in the tables' order, of one stretch of a shard.

    There are no embeddings where the dataset has none, or no window of the stretch is scored.
    """

    predictions: pa.Table
    coverage: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    embeddings: pa.Table | None = None


@dataclass
class _Pass:
    """One recording and channel on its way through the scorer."""

    span: Span
    plan: WindowPlan
    account: Account


def score_spans(
    spans: Sequence[Span], job: Job, bundle: Bundle, score: Score, guard: Guard = UNGUARDED
) -> Iterator[Rows]:
    """The rows of several spans, sorted as they are given; windows of several share a batch.

    Memory holds one batch of waveforms and the books of the recordings in it. Raises OSError
    where storage fails.
    """
    waiting: deque[tuple[_Pass, Decoded, str, bool]] = deque()
    sounding = 0
    for span in spans:
        if span.recording.reason is not None:
            guard.at(None)
            yield from _flush(waiting, job, bundle, score)
            sounding = 0
            channel = None if job.channel in ("mean", "each") else int(job.channel)
            covered, error = unreadable_rows(span.recording, span.place, channel)
            yield Rows(_no_predictions(), [covered], [error])
            continue
        plan = window_plan(span.recording, job.rule)
        for channel in job.channels(span.recording.channels or 1):
            account = Account(span.recording, span.place, plan, channel, span.first, span.stop)
            step = _Pass(span, plan, account)
            for decoded, at in _windows(span, plan, channel, bundle, guard):
                waiting.append((step, decoded, at, decoded.k == span.stop - 1))
                sounding += decoded.waveform is not None
                if sounding == BATCH or not sounding:
                    guard.at(None)
                    yield from _flush(waiting, job, bundle, score)
                    sounding = 0
    guard.at(None)
    yield from _flush(waiting, job, bundle, score)


def open_recording(recording: Recording) -> Sound:
    """A planned recording, to be decoded. Raises AudioError for one that is not what was planned.

    StorageError where the storage as a whole does not answer.
    """
    try:
        if NOT_PROBED in recording.flags:
            check_told(recording)
        with timed("decode"):
            return Sound(recording.url, recording.size_bytes)
    except AudioError as error:
        if error.reason in ("vanished", "permission"):
            check_answers(recording.url)
        raise


def _windows(
    span: Span, plan: WindowPlan, channel: int | None, bundle: Bundle, guard: Guard
) -> Iterator[tuple[Decoded, str]]:
    """Every window of a span, decoded or with the reason and the stage at which it was lost."""
    k, at, front_end = span.first, "open", bundle.front_end
    name = span.recording.recording
    try:
        blame = guard.blamed.get(name)
        if blame is not None:
            raise AudioError(blame.reason, blame.message)
        guard.at(name)
        with open_recording(span.recording) as sound:
            at = "decode"
            rate, samples = front_end.sample_rate, front_end.window_samples
            for decoded in decode_span(sound, plan, span.first, span.stop, rate, samples, channel):
                yield decoded, "plan" if decoded.reason == "tail" else at
                k = decoded.k + 1
                guard.at(name)
    except AudioError as error:
        for lost in range(k, span.stop):
            yield Decoded(lost, None, error.reason, error.message), at


def _flush(
    waiting: deque[tuple[_Pass, Decoded, str, bool]], job: Job, bundle: Bundle, score: Score
) -> Iterator[Rows]:
    """Scores and books all that waits, in order."""
    if not waiting:
        return
    waveforms = [d.waveform for _, d, _, _ in waiting if d.waveform is not None]
    scored = [(step, d.k) for step, d, _, _ in waiting if d.waveform is not None]
    outputs = score(waveforms) if waveforms else None
    with timed("write"):
        rows = Rows(_no_predictions(), [], [])
        if outputs is not None:
            windows = _window_columns(scored)
            rows.predictions = _predictions(windows, outputs.scores, job, bundle)
            if job.embedding_size is not None:
                rows.embeddings = _embeddings(windows, outputs.embeddings, job)
        while waiting:
            step, decoded, at, last = waiting.popleft()
            step.account.book(decoded.k, decoded.reason, decoded.message, at)
            if last:
                step.account.finish()
                rows.coverage += step.account.coverage
                rows.errors += step.account.errors
    yield rows


def _no_predictions() -> pa.Table:
    return plain(PREDICTIONS).empty_table()


def _window_columns(scored: Sequence[tuple[_Pass, int]]) -> list[pa.Array]:
    """The columns of `WINDOW` for several windows, in their order."""
    starts = [step.plan.start(k) / step.plan.rate for step, k in scored]
    places = [step.span.place for step, _ in scored]
    values = {
        "recording": [step.span.recording.recording for step, _ in scored],
        "channel": [step.account.channel for step, _ in scored],
        "start_s": starts,
        "end_s": [step.plan.end(k) / step.plan.rate for step, k in scored],
        "start_clock": [place.clock_at(s) for place, s in zip(places, starts, strict=True)],
        "start_utc": [place.utc_at(s) for place, s in zip(places, starts, strict=True)],
    }
    return [pa.array(values[field.name], field.type) for field in plain(WINDOW)]


def _predictions(
    windows: Sequence[pa.Array], scores: Float32, job: Job, bundle: Bundle
) -> pa.Table:
    """The predictions of several windows, in their order and that of the bundle's labels."""
    kept = scores >= np.float32(job.min_score)
    if bundle.task == "singlelabel":
        kept[np.arange(len(scores)), scores.argmax(axis=1)] = True
    rows, labels = np.nonzero(kept)
    columns = [column.take(rows) for column in windows]
    columns.append(pa.array(bundle.output_labels, pa.string()).take(labels))
    columns.append(pa.array(scores[kept], pa.float32()))
    return pa.Table.from_arrays(columns, schema=plain(PREDICTIONS))


def _embeddings(windows: Sequence[pa.Array], embeddings: Float32, job: Job) -> pa.Table:
    """The embeddings of several windows, in their order: what float16 cannot hold is cut off."""
    schema = plain(job.tables["embeddings"])
    numbers = embeddings.clip(-LARGEST, LARGEST).astype(np.float16)
    lists = pa.FixedSizeListArray.from_arrays(
        pa.array(numbers.ravel()), type=schema.field("embedding").type
    )
    return pa.Table.from_arrays([*windows, lists], schema=schema)
