"""Annotated recordings to training examples: windows, what they contain, their spectrograms."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.annotations import Annotation, AnnotationSet, Warnings
from model.audio import read_windows
from model.bundle import Task
from model.errors import UserError
from model.frontend import FrontEnd, LogMel
from model.sound import AudioError, read_header
from model.windows import WindowPlan, WindowRule

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

TOLERANCE_S = 1e-6
"""Times in tables are rounded: what misses half by less than this counts as half."""
BATCH = 64
"""Spectrograms computed before they are written to the disk."""


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
    """Examples with their spectrograms, float32 (n, n_mels, n_frames), in a file on the disk.

    `recordings` (n,) int64 are places in the plan's `windows`; `targets` and `mask` are
    (n, n_labels) float32.
    """

    labels: tuple[str, ...]
    task: Task
    spectrograms: Float32
    targets: Float32
    mask: Float32
    recordings: npt.NDArray[np.int64]
    warnings: tuple[str, ...] = ()

    def moments(self, rows: npt.NDArray[np.int64]) -> tuple[float, float]:
        """Mean and variance, in dB, over all values of the spectrograms of these rows."""
        sums = np.zeros(2)
        count = 0
        for first in range(0, len(rows), BATCH):
            values = np.asarray(self.spectrograms[rows[first : first + BATCH]], np.float64)
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
    if len(kept) < (2 if task == "singlelabel" else 1):
        need = "at least two labels" if task == "singlelabel" else "a label"
        raise UserError(f"No training without {need} that fills windows of {rule.window_s:g} s.")
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
    """Decodes the planned windows and writes their spectrograms to a file in `folder`.

    Memory does not grow with the recordings. Windows that cannot be decoded or are digitally
    silent are left out and counted, as detection skips them. UserError if the disk is too small,
    or if nothing can be decoded.
    """
    from tqdm import tqdm

    total = sum(len(windows.numbers) for windows in plan.windows)
    size = 4 * total * front_end.n_mels * front_end.n_frames
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"The spectrograms of {total} windows need {size / 1e9:.1f} GB, but {folder} has "
            f"{free / 1e9:.1f} GB free; set TMPDIR to a larger disk, or use a longer --hop."
        )
    spectrograms: Float32 = np.memmap(
        folder / "spectrograms.f32", np.float32, "w+", shape=(total, *front_end.input_shape)
    )
    log_mel = LogMel(front_end)
    warnings = Warnings()
    rows: list[tuple[int, int]] = []
    progress = tqdm(plan.windows, "spectrograms", unit=" recordings", disable=not show_progress)
    for index, windows in enumerate(progress):
        place = {int(k): i for i, k in enumerate(windows.numbers)}
        before, waiting = len(rows), []
        path = str(audio_dir / windows.recording)
        try:
            for k, _, _, waveform in read_windows(path, plan.rule, front_end.sample_rate):
                if k not in place:
                    continue
                waiting.append(waveform)
                rows.append((index, place[k]))
                if len(waiting) == BATCH:
                    spectrograms[len(rows) - BATCH : len(rows)] = log_mel(np.stack(waiting))
                    waiting = []
        except (AudioError, OSError) as error:
            warnings.add("{n} recordings broke off", f"{windows.recording}: {error}")
        if waiting:
            spectrograms[len(rows) - len(waiting) : len(rows)] = log_mel(np.stack(waiting))
        lost = len(windows.numbers) - (len(rows) - before)
        if lost:
            sentence = "{n} windows are silent or cannot be decoded and were left out"
            warnings.add(sentence, windows.recording, lost)
    if not rows:
        raise UserError(f"None of the annotated windows below {audio_dir} can be decoded.")
    return Examples(
        labels=plan.labels,
        task=plan.task,
        spectrograms=spectrograms[: len(rows)],
        targets=np.stack([plan.windows[index].targets[i] for index, i in rows]),
        mask=np.stack([plan.windows[index].mask[i] for index, i in rows]),
        recordings=np.array([index for index, _ in rows], np.int64),
        warnings=warnings.sentences(),
    )
