"""Events: from the scores of windows to scores of moments, and to runs above a threshold."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.errors import UserError
from model.timeline import Axis, Float64, Int64, Intervals, covering, place

Float32 = npt.NDArray[np.float32]

TOLERANCE_S = 1e-9
"""Seconds are quotients of samples and their differences are rounded: far below any sample."""

Windows = Intervals
"""Scored windows: none lies inside another, as windows of one length do not; a padded one ends
with its recording. Windows that were skipped are not among them: their time is unscored."""


@dataclass(frozen=True)
class EventRule:
    """How the scores of windows become events.

    Events of a label that are at most `merge_gap_s` apart are one, and those shorter than
    `min_duration_s` are none. A moment is scored by the mean of the windows that cover it, or with
    `centre` by that one of them whose centre is nearest. Raises UserError for seconds below 0.
    """

    merge_gap_s: float = 0.0
    min_duration_s: float = 0.0
    centre: bool = False

    def __post_init__(self) -> None:
        named = (("gap", self.merge_gap_s), ("duration", self.min_duration_s))
        for what, seconds in named:
            if not 0 <= seconds < math.inf:
                raise UserError(f"The {what} of events is {seconds:g} s; it must be 0 or more.")


@dataclass(frozen=True)
class Frames:
    """Scores of moments, constant between the bounds of windows, exact on them.

    A row is a stretch of time of one recording that windows score for one label: `label` (n,)
    int64, `stretch` (n,) int64 its place on the axis, `score` (n,) float32. Sorted by label,
    recording and time. Time without a row is unscored, or no window there has a row of the label.
    `scored` (len of the axis,) counts the windows that score each stretch; `window_start` and
    `window_end` are their places on the axis, sorted.
    """

    axis: Axis
    scored: Int64
    window_start: Int64
    window_end: Int64
    label: Int64
    stretch: Int64
    score: Float32

    @property
    def recording(self) -> Int64:
        """The recording of each row."""
        return self.axis.recording[self.stretch]

    @property
    def start_s(self) -> Float64:
        """Where each row starts, in seconds."""
        return self.axis.time_s[self.stretch]

    @property
    def end_s(self) -> Float64:
        """Where each row ends, in seconds."""
        return self.axis.time_s[self.stretch + 1]

    def scored_time(self) -> Intervals:
        """The time that any window scores, without overlaps."""
        inside = np.concatenate([[0], self.scored > 0, [0]]).astype(np.int8)
        first, stop = np.flatnonzero(np.diff(inside) > 0), np.flatnonzero(np.diff(inside) < 0)
        axis = self.axis
        return Intervals(axis.recording[first], axis.time_s[first], axis.time_s[stop])


@dataclass(frozen=True)
class Events:
    """Events by label, recording and time, as columns (n,).

    `score` is the highest frame score, `mean_score` the mean over the event's time, both float32;
    `windows` counts the scored windows that reach into the event (of `centre`, with their
    central part).
    """

    recording: Int64
    label: Int64
    start_s: Float64
    end_s: Float64
    score: Float32
    mean_score: Float32
    windows: Int64

    def __len__(self) -> int:
        return len(self.label)

    def of_label(self, label: int) -> Intervals:
        """When a label's events were."""
        chosen = self.label == label
        return Intervals(self.recording[chosen], self.start_s[chosen], self.end_s[chosen])


def central(windows: Windows) -> Windows:
    """The part of each window that its centre scores: nearer to it than to another centre.

    Windows that overlap share their time at the middle between their centres. A window cut by the
    recording's end has the centre that it would have without.
    """
    order = np.lexsort((windows.start_s, windows.recording))
    recording = windows.recording[order]
    start_s, end_s = windows.start_s[order], windows.end_s[order]
    same = recording[1:] == recording[:-1]
    first = np.flatnonzero(np.append(True, ~same)[: len(order)])
    # The longest of a recording is whole: only its last window may be cut.
    longest = np.maximum.reduceat(end_s - start_s, first) if len(order) else end_s
    length = np.repeat(longest, np.diff(np.append(first, len(order))))[1:]
    middle = (start_s[:-1] + start_s[1:] + length) / 2
    shared = same & (start_s[1:] < end_s[:-1])
    middle = np.clip(middle, start_s[1:], np.maximum(start_s[1:], end_s[:-1]))[shared]
    starts, ends = windows.start_s.copy(), windows.end_s.copy()
    ends[order[:-1][shared]] = middle
    starts[order[1:][shared]] = middle
    return Windows(windows.recording, starts, ends)


def frame_scores(windows: Windows, scores: Float32, *, centre: bool = False) -> Frames:
    """The frame scores of all labels from scores (n, n_labels), a row for each window."""
    n, n_labels = scores.shape
    label, window = np.divmod(np.arange(n * n_labels), max(1, n))
    return sparse_frame_scores(windows, window, label, scores.T.ravel(), centre=centre)


def sparse_frame_scores(
    windows: Windows, window: Int64, label: Int64, score: Float32, *, centre: bool = False
) -> Frames:
    """The frame scores from rows (r,): number of the window, number of the label, score.

    A window without a row for a label counts there as a window with score 0. The mean is computed
    in float64 and rounded once; where one window scores a moment, it is that window's score.
    Raises ValueError if a window lies inside another.
    """
    axis, ((first, stop),) = place(central(windows) if centre else windows)
    size, scored = len(axis), covering(axis, first, stop)
    order = np.lexsort((stop[window], first[window], label))
    above = label[order] * size
    starts, ends = above + first[window[order]], above + stop[window[order]]
    if (np.diff(ends) < 0).any():
        raise ValueError("A window lies inside another.")
    # Both bounds ascend, so the rows of a stretch follow each other; all stretches that have rows:
    joint = np.flatnonzero(np.append(True, starts[1:] > ends[:-1])[: len(order)])
    lengths = np.append(ends[joint[1:] - 1], ends[-1:]) - starts[joint]
    key = np.repeat(starts[joint] - np.cumsum(lengths) + lengths, lengths)
    key += np.arange(len(key))
    lower, upper = np.searchsorted(ends, key, "right"), np.searchsorted(starts, key, "right")
    total = (
        np.add.reduceat(
            np.append(score[order].astype(np.float64), 0.0), np.stack([lower, upper], 1).ravel()
        )[::2]
        if len(key)
        else np.zeros(0)
    )
    labels, stretch = np.divmod(key, max(1, size))
    return Frames(
        axis=axis,
        scored=scored,
        window_start=np.sort(first),
        window_end=np.sort(stop),
        label=labels,
        stretch=stretch,
        score=(total / scored[stretch]).astype(np.float32),
    )


def find_events(
    frames: Frames, thresholds: npt.ArrayLike, rule: EventRule, *, top_only: bool = False
) -> Events:
    """Runs of frame scores at or above their label's threshold, as events.

    `thresholds` (n_labels,) are compared as float32, as scores are. Runs merge over scored time
    only: an event holds no moment that was not scored. With `top_only` (single-label bundles) a
    label counts where no other label's frame score is higher, of equal ones the first.
    """
    counts = frames.score >= np.asarray(thresholds, np.float32)[frames.label]
    if top_only:
        counts &= _is_top(frames)
    rows = np.flatnonzero(counts)
    label, stretch = frames.label[rows], frames.stretch[rows]
    new = np.append(True, (np.diff(label) != 0) | (np.diff(stretch) != 1))[: len(rows)]
    last = np.append(new[1:], True)[: len(rows)]
    first_row, last_row, label = rows[new], rows[last], label[new]
    begin, end = stretch[new], stretch[last] + 1
    start_s, end_s = frames.axis.time_s[begin], frames.axis.time_s[end]
    unscored = np.append(0, np.cumsum(frames.scored == 0))
    apart = (np.diff(label) != 0) | (unscored[begin[1:]] != unscored[end[:-1]])
    apart |= start_s[1:] - end_s[:-1] > rule.merge_gap_s + TOLERANCE_S
    new, last = np.append(True, apart)[: len(label)], np.append(apart, True)[: len(label)]
    long = end_s[last] - start_s[new] >= rule.min_duration_s - TOLERANCE_S
    new, last = np.flatnonzero(new)[long], np.flatnonzero(last)[long]
    start_s, end_s, begin, end = start_s[new], end_s[last], begin[new], end[last]
    slices = np.stack([first_row[new], last_row[last] + 1], 1).ravel()
    score, total = np.zeros(0, np.float32), np.zeros(0)
    if len(slices):
        weighted = frames.score * frames.axis.seconds[frames.stretch]
        score = np.maximum.reduceat(np.append(frames.score, np.float32(0)), slices)[::2]
        total = np.add.reduceat(np.append(weighted, 0.0), slices)[::2]
    reach = np.searchsorted(frames.window_start, end, "left")
    return Events(
        recording=frames.axis.recording[begin],
        label=label[new],
        start_s=start_s,
        end_s=end_s,
        score=score,
        mean_score=np.minimum((total / (end_s - start_s)).astype(np.float32), score),
        windows=reach - np.searchsorted(frames.window_end, begin, "right"),
    )


def _is_top(frames: Frames) -> npt.NDArray[np.bool_]:
    """Whether each row has the highest score of its stretch, of equal ones the first label."""
    order = np.lexsort((frames.label, -frames.score, frames.stretch))
    top = np.zeros(len(order), bool)
    top[order[np.append(True, np.diff(frames.stretch[order]) != 0)[: len(order)]]] = True
    return top
