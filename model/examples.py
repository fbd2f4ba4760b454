"""Annotated recordings to training examples: windows, what they contain, their spectrograms."""

import hashlib
import math
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.annotations import Annotation, AnnotationSet, Warnings
from model.audio import read_windows
from model.bundle_document import Task
from model.errors import UserError
from model.frontend import FrontEnd, LogMel
from model.locks import locked
from model.sound import AudioError, read_header
from model.windows import WindowPlan, WindowRule

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

TOLERANCE_S = 1e-6
"""Times in tables are rounded: what misses half by less than this counts as half."""
BATCH = 64
"""Spectrograms that are read together."""


@dataclass(frozen=True)
class RecordingWindows:
    """The windows of one recording that are examples, and what they contain.

    `numbers` (n,) int64 are the windows' places in the recording's plan, `targets` (n, n_labels)
    float32 is 1 where a label is in the window, `mask` (n, n_labels) float32 is 0 where it is
    unclear whether it is, so that the label does not count in the loss.
    """

    recording: str
    numbers: npt.NDArray[np.int64]
    targets: Float32
    mask: Float32


@dataclass(frozen=True)
class ExamplePlan:
    """All examples before any audio is decoded; `warnings` count what was left out."""

    labels: tuple[str, ...]
    task: Task
    rule: WindowRule
    windows: tuple[RecordingWindows, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Examples:
    """Examples with what a network takes of each, in a file on the disk.

    `inputs` is float32 (n, ...): levels of spectrograms (n, n_mels, n_frames) in dB, before
    reference and range are taken, or a frozen backbone's features (n, d). `recordings` (n,) int64
    are places in the plan's `windows`; `targets` and `mask` are (n, n_labels) float32. `usable`
    (n,) is False where a window could not be decoded: there is no input then.
    """

    labels: tuple[str, ...]
    task: Task
    inputs: Float32
    targets: Float32
    mask: Float32
    recordings: npt.NDArray[np.int64]
    usable: Bool
    warnings: tuple[str, ...] = ()

    def moments(self, rows: npt.NDArray[np.int64], front_end: FrontEnd) -> tuple[float, float]:
        """Mean and variance, in dB, over all values of the spectrograms of these rows."""
        sums = np.zeros(2)
        count = 0
        log_mel = LogMel(front_end)
        for first in range(0, len(rows), BATCH):
            levels = np.array(self.inputs[rows[first : first + BATCH]])
            values = log_mel.referenced(levels).astype(np.float64)
            sums += values.sum(), np.square(values).sum()
            count += values.size
        mean = float(sums[0] / count)
        return mean, max(float(sums[1] / count) - mean**2, 1e-6)


def label_windows(
    starts_s: npt.NDArray[np.float64],
    ends_s: npt.NDArray[np.float64],
    window_s: float,
    annotations: Sequence[Annotation],
    labels: Sequence[str],
) -> tuple[Float32, Float32]:
    """What windows contain: targets and mask, each float32 (n, n_labels).

    A window is positive for a label if it overlaps at least half of the annotation or half of
    the window, whichever is shorter; where it overlaps less (but at all) the label is masked.
    Annotations of the whole recording make every window positive. `starts_s` must ascend.
    """
    targets = np.zeros((len(starts_s), len(labels)), np.float32)
    mask = np.ones_like(targets)
    column = {label: i for i, label in enumerate(labels)}
    for annotation in annotations:
        i = column[annotation.label]
        if annotation.start_s is None or annotation.end_s is None:
            targets[:, i] = 1
            continue
        start, end = annotation.start_s, annotation.end_s
        first = int(np.searchsorted(starts_s, start - window_s))
        stop = int(np.searchsorted(starts_s, end))
        overlap = np.minimum(ends_s[first:stop], end) - np.maximum(starts_s[first:stop], start)
        half = min(end - start, window_s) / 2
        targets[first:stop, i][overlap >= half - TOLERANCE_S] = 1
        mask[first:stop, i][overlap > TOLERANCE_S] = 0
    mask[targets == 1] = 1
    return targets, mask


def plan_windows(
    audio_dir: Path,
    annotations: AnnotationSet,
    labels: Sequence[str],
    rule: WindowRule,
    task: Task,
    warnings: Warnings,
) -> list[RecordingWindows]:
    """The windows of all annotated recordings with which of `labels` they contain.

    Reads headers only. `labels` has every label of the annotations. Labels that begin after a
    recording's end and recordings that cannot be opened are left out and counted in `warnings`.
    Of a whole clip, windows with less than half a window of sound are left out, unless the clip
    has no other. For a single-label task windows with no label or several are left out.
    """
    found = annotations.by_recording()
    planned = []
    for recording in annotations.recordings:
        try:
            info = read_header(str(audio_dir / recording))
        except (AudioError, OSError) as error:
            example = f"{recording}: {error}"
            warnings.add("{n} annotated recordings cannot be read", example)
            continue
        plan = WindowPlan(rule, info.frames, info.sample_rate)
        if not plan.count:
            warnings.add("{n} annotated recordings hold no sound", recording)
            continue
        if info.frames < plan.length:
            short = f"{{n}} annotated recordings are shorter than a window of {rule.window_s:g} s"
            warnings.add(short, recording)
        inside = _inside(found[recording], info.frames / info.sample_rate, warnings)
        windows = _plan_recording(plan, recording, inside, labels, task, warnings)
        if len(windows.numbers):
            planned.append(windows)
    return planned


def plan_examples(
    audio_dir: Path, annotations: AnnotationSet, rule: WindowRule, task: Task
) -> ExamplePlan:
    """What `plan_windows` finds, as examples for training.

    Labels without any example are left out. UserError if too few labels are left.
    """
    warnings = Warnings()
    labels = annotations.labels
    planned = plan_windows(audio_dir, annotations, labels, rule, task, warnings)
    counts = np.zeros(len(labels))
    for windows in planned:
        counts += windows.targets.sum(axis=0)
    kept = np.flatnonzero(counts)
    for i in np.flatnonzero(counts == 0):
        warnings.add("{n} labels are in no window and were left out", labels[i])
    if not len(kept):
        raise UserError(
            f"No annotation fills a window of {rule.window_s:g} s; give a shorter --window, or "
            "more annotations."
        )
    if task == "singlelabel" and len(kept) == 1:
        raise UserError(
            f"All windows have the label {labels[kept[0]]}; a single-label task needs two labels "
            "or more: give more annotations, or --task multilabel."
        )
    return ExamplePlan(
        labels=tuple(labels[i] for i in kept),
        task=task,
        rule=rule,
        windows=tuple(
            RecordingWindows(w.recording, w.numbers, w.targets[:, kept], w.mask[:, kept])
            for w in planned
        ),
        warnings=warnings.sentences(),
    )


def _inside(
    annotations: Sequence[Annotation], duration_s: float, warnings: Warnings
) -> list[Annotation]:
    """The annotations that begin within the recording; what lies outside is counted."""
    inside = []
    for annotation in annotations:
        start, end = annotation.start_s, annotation.end_s
        if start is None or end is None:
            inside.append(annotation)
            continue
        where = f"{annotation.label} at {start:g} to {end:g} s of {annotation.recording}, "
        where += f"which lasts {duration_s:g} s"
        if start >= duration_s:
            warnings.add("{n} labels lie outside the audio and were left out", where)
            continue
        inside.append(annotation)
        # Hundredths are the rounding of tables, and of no interest.
        if end > duration_s + 0.05:
            warnings.add("{n} labels end after the audio and were cut", where)
    return [
        Annotation(a.recording, a.start_s, min(a.end_s, duration_s), a.label)
        if a.end_s is not None
        else a
        for a in inside
    ]


def _plan_recording(
    plan: WindowPlan,
    recording: str,
    annotations: Sequence[Annotation],
    labels: Sequence[str],
    task: Task,
    warnings: Warnings,
) -> RecordingWindows:
    starts = plan.starts()
    ends = np.minimum(starts + plan.length, plan.frames)
    window_s = plan.length / plan.rate
    targets, mask = label_windows(
        starts / plan.rate, ends / plan.rate, window_s, annotations, labels
    )
    keep = np.ones(len(starts), bool)
    if any(annotation.whole for annotation in annotations):
        full = 2 * (ends - starts) >= plan.length
        keep &= full if full.any() else np.arange(len(starts)) == 0
    if task == "singlelabel":
        several, none = targets.sum(axis=1) > 1, targets.sum(axis=1) == 0
        for wrong, what in ((several, "several labels"), (none, "no label")):
            if (wrong & keep).any():
                sentence = f"{{n}} windows with {what} were left out of a single-label task"
                warnings.add(sentence, recording, int((wrong & keep).sum()))
        keep &= ~several & ~none
    numbers = np.flatnonzero(keep)
    return RecordingWindows(recording, numbers, targets[numbers], mask[numbers])


def compute_examples(
    audio_dir: Path, plan: ExamplePlan, front_end: FrontEnd, folder: Path, show_progress: bool
) -> Examples:
    """Decodes the planned windows and writes their levels to a file in `folder`, once.

    What stands there from an earlier call is taken if neither plan, front end nor the recordings'
    sizes and times have changed; `db_ref` and `top_db` may. Memory does not grow with the
    recordings. Windows that cannot be decoded or are digitally silent are left out and counted, as
    detection skips them. UserError if the disk is too small, or if nothing can be decoded.
    """
    counts = [len(windows.numbers) for windows in plan.windows]
    shape = (sum(counts), *front_end.input_shape)
    digest = _digest(audio_dir, plan, front_end)
    file, record = folder / f"levels-{digest}.f32", folder / f"levels-{digest}.npz"
    # Several trainings may share a folder.
    with locked(folder / f"levels-{digest}.lock"):
        if not record.exists():
            size = 4 * math.prod(shape)
            free = shutil.disk_usage(folder).free
            if size > free:
                raise UserError(
                    f"The spectrograms of {shape[0]} windows need {size / 1e9:.1f} GB, but "
                    f"{folder} has {free / 1e9:.1f} GB free; give a --work on a larger disk, or "
                    "use a longer --hop."
                )
            levels: Float32 = np.memmap(file, np.float32, "w+", shape=shape)
            usable, sentences = _compute(audio_dir, plan, front_end, levels, show_progress)
            levels.flush()  # type: ignore[attr-defined]
            partial = record.with_name(f"{digest}.partial.npz")
            np.savez(partial, usable=usable, warnings=np.array(sentences, np.str_))
            partial.rename(record)
    with np.load(record) as stored:
        usable, warnings = stored["usable"], tuple(str(text) for text in stored["warnings"])
    if not usable.any():
        raise UserError(f"None of the annotated windows below {audio_dir} can be decoded.")
    return Examples(
        labels=plan.labels,
        task=plan.task,
        inputs=np.memmap(file, np.float32, "r", shape=shape),
        targets=np.concatenate([windows.targets for windows in plan.windows]),
        mask=np.concatenate([windows.mask for windows in plan.windows]),
        recordings=np.repeat(np.arange(len(counts)), counts),
        usable=usable,
        warnings=warnings,
    )


def _digest(audio_dir: Path, plan: ExamplePlan, front_end: FrontEnd) -> str:
    """What decides the levels, in a name."""
    sha = hashlib.sha256(repr(replace(front_end, db_ref="max", top_db=None)).encode())
    sha.update(repr(plan.rule).encode())
    for windows in plan.windows:
        about = (audio_dir / windows.recording).stat()
        known = (windows.recording, about.st_size, about.st_mtime_ns, windows.numbers.tolist())
        sha.update(repr(known).encode("utf-8", "surrogateescape"))
    return sha.hexdigest()[:16]


def _compute(
    audio_dir: Path, plan: ExamplePlan, front_end: FrontEnd, levels: Float32, show_progress: bool
) -> tuple[Bool, tuple[str, ...]]:
    """Fills `levels`; which of them are usable, and what to tell of the others."""
    from tqdm import tqdm

    log_mel = LogMel(front_end)
    usable = np.zeros(len(levels), bool)

    def compute(windows: RecordingWindows, first: int) -> str | None:
        """One recording's levels, from row `first` on; what broke off."""
        place = {int(k): first + i for i, k in enumerate(windows.numbers)}
        path = str(audio_dir / windows.recording)
        try:
            for k, _, _, waveform in read_windows(path, plan.rule, front_end.sample_rate):
                if k in place:
                    levels[place[k]] = log_mel.levels(waveform[None])[0]
                    usable[place[k]] = True
        except (AudioError, OSError) as error:
            return f"{windows.recording}: {error}"
        return None

    firsts = np.cumsum([0, *(len(windows.numbers) for windows in plan.windows)])
    warnings = Warnings()
    # Decoding, resampling and transforming let other threads run.
    threads = ThreadPoolExecutor(os.cpu_count())
    try:
        broken = threads.map(compute, plan.windows, firsts)
        shown = tqdm(
            broken, "spectrograms", len(firsts) - 1, unit=" recordings", disable=not show_progress
        )
        for windows, first, problem in zip(plan.windows, firsts, shown, strict=False):
            if problem:
                warnings.add("{n} recordings broke off", problem)
            lost = int((~usable[first : first + len(windows.numbers)]).sum())
            if lost:
                sentence = "{n} windows are silent or cannot be decoded and were left out"
                warnings.add(sentence, windows.recording, lost)
    finally:
        threads.shutdown(cancel_futures=True)
    return usable, warnings.sentences()
