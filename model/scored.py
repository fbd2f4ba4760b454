"""Annotated recordings to scored windows: what a bundle says, beside what people say."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.annotations import AnnotationSet, Warnings
from model.audio import read_windows
from model.bundle import Bundle
from model.errors import UserError
from model.examples import RecordingWindows, plan_windows
from model.runtime import Engine, Precision
from model.scorer import Scorer
from model.sound import AudioError
from model.windows import WindowRule

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

BATCH = 32
"""Windows that are scored together; a multiple of what engines pad to."""


@dataclass(frozen=True)
class ScoredWindows:
    """The scored windows of annotated recordings, by recording and start.

    `recordings` are names and `recording` (n,) int64 places in them; `start_s` and `end_s` (n,)
    are bounds in the recording. `scores` (n, n_outputs) float32 has the bundle's labels first;
    `truth` and `known` (n, n_labels) say whether a label is there and whether that is known.
    """

    recordings: tuple[str, ...]
    recording: Int64
    start_s: Float64
    end_s: Float64
    scores: Float32
    truth: Bool
    known: Bool
    warnings: tuple[str, ...]


def known_labels(annotations: AnnotationSet, bundle: Bundle) -> tuple[AnnotationSet, list[str]]:
    """The annotations with the bundle's labels only, and sentences on the others.

    UserError if there is no label of the bundle.
    """
    strange = sorted(set(annotations.labels) - set(bundle.labels))
    kept = tuple(a for a in annotations.annotations if a.label in bundle.labels)
    if not kept:
        raise UserError(
            f"The annotations have none of the bundle's labels ({_listed(bundle.labels)}) but "
            f"{_listed(strange)}; choose another --label-column, or map them with --label-map."
        )
    left_out = len(annotations.annotations) - len(kept)
    sentences = []
    if strange:
        sentences.append(
            f"{left_out} annotations have labels that the bundle does not know and were left out: "
            f"{_listed(strange)}."
        )
    return replace(annotations, annotations=kept), sentences


def score_windows(
    bundle: Bundle,
    audio_dir: Path,
    annotations: AnnotationSet,
    rule: WindowRule,
    engine: Engine,
    precision: Precision,
    show_progress: bool,
) -> ScoredWindows:
    """Scores every window of the annotated recordings.

    Of whole clips, windows with less than half a window of sound are left out, as in training.
    For a single-label bundle nothing is known of a window that holds no label or several. Memory
    grows with the windows' scores only. What cannot be decoded or is silent is left out and
    counted. UserError if nothing is left.
    """
    warnings = Warnings()
    labels = bundle.labels
    planned = plan_windows(audio_dir, annotations, labels, rule, "multilabel", warnings)
    total = sum(len(windows.numbers) for windows in planned)
    if not total:
        raise UserError(f"No annotated recording below {audio_dir} can be read.")
    scorer = Scorer(bundle, engine, precision)
    # Of no windows: only to learn how many outputs there are.
    empty = scorer.score_spectrograms(np.zeros((0, *bundle.front_end.input_shape), np.float32))
    scores = np.zeros((total, empty.shape[1]), np.float32)
    bounds = np.full((total, 2), np.nan)
    _fill(scorer, audio_dir, planned, rule, scores, bounds, warnings, show_progress)
    done = ~np.isnan(bounds[:, 0])
    if not done.any():
        raise UserError(f"None of the annotated windows below {audio_dir} can be decoded.")
    recording = np.repeat(np.arange(len(planned)), [len(each.numbers) for each in planned])
    truth = np.concatenate([windows.targets for windows in planned]) > 0
    known = np.concatenate([windows.mask for windows in planned]) > 0
    if bundle.task == "singlelabel":
        unclear = truth.sum(axis=1) != 1
        known[unclear] = False
        if (unclear & done).any():
            first = planned[recording[np.flatnonzero(unclear & done)[0]]].recording
            sentence = "{n} windows hold no label of the single-label bundle, or several"
            warnings.add(sentence, first, int((unclear & done).sum()))
    return ScoredWindows(
        recordings=tuple(windows.recording for windows in planned),
        recording=recording[done],
        start_s=bounds[done, 0],
        end_s=bounds[done, 1],
        scores=scores[done],
        truth=truth[done],
        known=known[done],
        warnings=warnings.sentences(),
    )


def _fill(
    scorer: Scorer,
    audio_dir: Path,
    planned: Sequence[RecordingWindows],
    rule: WindowRule,
    scores: Float32,
    bounds: Float64,
    warnings: Warnings,
    show_progress: bool,
) -> None:
    """Writes scores and bounds of each window that can be decoded into its row."""
    from tqdm import tqdm

    bar = tqdm(desc="windows", total=len(scores), unit="", disable=not show_progress)
    threads = os.cpu_count() or 1
    pending: deque[tuple[list[int], Future[Float32]]] = deque()

    def store() -> None:
        rows, future = pending.popleft()
        scores[rows] = future.result()
        bar.update(len(rows))

    # Decoding is the smaller part: one thread reads, the engine's work is shared out.
    pool = ThreadPoolExecutor(threads)
    rows: list[int] = []
    waveforms: list[Float32] = []
    try:
        for row, start, end, waveform in _decoded(scorer, audio_dir, planned, rule, warnings):
            bounds[row] = start, end
            rows.append(row)
            waveforms.append(waveform)
            if len(rows) == BATCH:
                if len(pending) > threads:
                    store()
                pending.append((rows, pool.submit(scorer, waveforms)))
                rows, waveforms = [], []
        if rows:
            pending.append((rows, pool.submit(scorer, waveforms)))
        while pending:
            store()
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()


def _decoded(
    scorer: Scorer,
    audio_dir: Path,
    planned: Sequence[RecordingWindows],
    rule: WindowRule,
    warnings: Warnings,
) -> Iterator[tuple[int, float, float, Float32]]:
    """(row, start in s, end in s, waveform) of each planned window that can be decoded."""
    rate, first = scorer.bundle.front_end.sample_rate, 0
    for windows in planned:
        place = {int(k): first + i for i, k in enumerate(windows.numbers)}
        found = 0
        try:
            for k, start, end, waveform in read_windows(
                str(audio_dir / windows.recording), rule, rate
            ):
                if k in place:
                    found += 1
                    yield place[k], start, end, waveform
        except (AudioError, OSError) as error:
            warnings.add("{n} recordings broke off", f"{windows.recording}: {error}")
        lost = len(place) - found
        if lost:
            sentence = "{n} windows are silent or cannot be decoded and were left out"
            warnings.add(sentence, windows.recording, lost)
        first += len(place)


def _listed(names: Sequence[str], limit: int = 10) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
