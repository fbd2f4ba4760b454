"""How well events agree with annotations: in seconds, and one to one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.annotations import Annotation
from model.events import EventRule, Frames, Windows, find_events
from model.timeline import Int64, Intervals, covering, place

Float32 = npt.NDArray[np.float32]

MIN_IOU = 0.5
"""Intersection over union from which two events are taken for the same."""
CEILING_THRESHOLDS = np.linspace(0.05, 1, 20)
"""Shares of positive windows that are tried for the ceiling."""


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class Agreement:
    """How much was predicted, annotated and both: seconds, or events. Agreements add up."""

    both: float = 0
    predicted: float = 0
    annotated: float = 0

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.both + other.both,
            self.predicted + other.predicted,
            self.annotated + other.annotated,
        )

    @property
    def precision(self) -> float | None:
        """Share of what was predicted that is annotated; None where nothing was predicted."""
        return _ratio(self.both, self.predicted)

    @property
    def recall(self) -> float | None:
        """Share of what is annotated that was predicted; None where nothing is annotated."""
        return _ratio(self.both, self.annotated)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two; None where nothing was predicted or annotated."""
        return _ratio(2 * self.both, self.predicted + self.annotated)


def match_frames(
    predicted: Intervals, annotated: Intervals, scored: Intervals | None = None
) -> Agreement:
    """Seconds that are predicted, annotated and both, exact by the intervals' bounds.

    Intervals of one side that overlap count once. Only time inside `scored` counts, where given.
    """
    inside = [predicted, annotated, *([] if scored is None else [scored])]
    axis, places = place(*inside)
    covered = [covering(axis, start, end) > 0 for start, end in places]
    seconds = axis.seconds * (covered[2] if scored is not None else 1)
    both = covered[0] & covered[1]
    return Agreement(*(float(seconds[where].sum()) for where in (both, covered[0], covered[1])))


def match_events(predicted: Intervals, annotated: Intervals, min_iou: float = MIN_IOU) -> Agreement:
    """Events that are predicted, annotated, and matched one to one.

    Two of one recording can match if their intersection over union is `min_iou` or more; of all
    matchings the one with the most pairs is taken (Hopcroft and Karp), so that no order of events
    matters: as in the DCASE few-shot task and voxaboxen, and sed_eval's "optimal". Raises
    ValueError for an overlap that is not above 0 and at most 1.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not 0 < min_iou <= 1:
        raise ValueError(f"The overlap is {min_iou:g}; it must be above 0 and at most 1.")
    i, j = _overlapping(predicted, annotated)
    start_s = np.stack([predicted.start_s[i], annotated.start_s[j]])
    end_s = np.stack([predicted.end_s[i], annotated.end_s[j]])
    union = end_s.max(axis=0) - start_s.min(axis=0)
    same = end_s.min(axis=0) - start_s.max(axis=0) >= min_iou * union * (1 - 1e-12)
    i, j = i[same], j[same]
    pairs = 0
    if len(i):
        shape = (len(predicted), len(annotated))
        graph = coo_array((np.ones(len(i), bool), (i, j)), shape).tocsr()
        pairs = int((maximum_bipartite_matching(graph) >= 0).sum())
    return Agreement(pairs, len(predicted), len(annotated))


def _overlapping(first: Intervals, second: Intervals) -> tuple[Int64, Int64]:
    """Numbers of all pairs that share time, each once."""
    _, ((start, end), (other_start, other_end)) = place(first, second)
    order = np.argsort(other_start, kind="stable")
    # Ends need not ascend: the furthest so far does.
    furthest = np.maximum.accumulate(other_end[order])
    lower = np.searchsorted(furthest, start, "right")
    upper = np.searchsorted(other_start[order], end, "left")
    lengths = np.maximum(upper - lower, 0)
    i = np.repeat(np.arange(len(first)), lengths)
    j = order[np.arange(len(i)) + np.repeat(lower - np.cumsum(lengths) + lengths, lengths)]
    share = (other_end[j] > start[i]) & (other_start[j] < end[i])
    return i[share], j[share]


def perfect_scores(
    windows: Windows,
    window_s: float,
    annotations: Mapping[int, Sequence[Annotation]],
    labels: Sequence[str],
) -> Float32:
    """The scores (n, n_labels) of a model that labels every window right: 1 or 0.

    A window is positive as it is in training (`label_windows`), and 0 where training leaves it
    open.
    """
    from model.examples import label_windows

    scores = np.zeros((len(windows), len(labels)), np.float32)
    order = np.lexsort((windows.start_s, windows.recording))
    recordings, first = np.unique(windows.recording[order], return_index=True)
    for number, rows in zip(recordings, np.split(order, first[1:]), strict=True):
        heard = annotations.get(int(number), ())
        bounds = windows.start_s[rows], windows.end_s[rows]
        scores[rows], _ = label_windows(*bounds, window_s, heard, labels)
    return scores


def ceiling(
    perfect: Frames, annotated: Sequence[Intervals], rule: EventRule, min_iou: float = MIN_IOU
) -> list[tuple[Agreement, Agreement]]:
    """For each label the most that right windows of this length and hop reach: seconds, events.

    `perfect` are the frames of `perfect_scores`, `annotated` what is annotated of each label. Both
    agreements are those of the threshold that gives them the highest F1: on perfect scores it says
    which share of the windows that cover a moment must be positive, and a model's scores can come
    to any share, whatever its own threshold is.
    """
    scored = perfect.scored_time()
    tried = [
        find_events(perfect, np.full(len(annotated), threshold), rule)
        for threshold in CEILING_THRESHOLDS
    ]
    return [
        (
            _best(match_frames(found.of_label(label), truth, scored) for found in tried),
            _best(match_events(found.of_label(label), truth, min_iou) for found in tried),
        )
        for label, truth in enumerate(annotated)
    ]


def _best(agreements: Iterable[Agreement]) -> Agreement:
    return max(agreements, key=lambda agreement: agreement.f1 or 0.0)
