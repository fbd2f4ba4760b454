"""Events in time against annotated ones, beside what perfect window labels would reach."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.annotations import Annotation, AnnotationSet
from model.event_metrics import Agreement, ceiling, match_events, match_frames, perfect_scores
from model.events import EventRule, Windows, find_events, frame_scores
from model.metrics import macro
from model.scored import ScoredWindows
from model.timeline import Intervals

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LabelEvents:
    """One label: the model's match in seconds and in events, and that of perfect windows."""

    label: str
    frames: Agreement
    events: Agreement
    ceiling_frames: Agreement
    ceiling_events: Agreement


@dataclass(frozen=True)
class EventResult:
    """All labels, and how events were made and matched. `overlap` is intersection over union."""

    rule: EventRule
    overlap: float
    labels: tuple[LabelEvents, ...]

    def mean_f1(self, part: str) -> float | None:
        """The mean F1 over the labels with annotated events, of one of `LabelEvents`'s parts."""
        return macro({e.label: getattr(e, part).f1 for e in self.labels if e.events.annotated})


def evaluate_events(
    scored: ScoredWindows,
    annotations: AnnotationSet,
    labels: Sequence[str],
    thresholds: dict[str, float],
    rule: EventRule,
    overlap: float,
    window_s: float,
    top_only: bool,
) -> EventResult:
    """Makes events of the windows' scores and matches them with the annotated ones.

    Only time that was scored counts. `top_only` is for single-label bundles: a label is only
    where it is the top one.
    """
    windows = Windows(scored.recording, scored.start_s, scored.end_s)
    inside = _inside(scored, annotations)
    frames = frame_scores(windows, scored.scores, centre=rule.centre)
    ideal = perfect_scores(windows, window_s, inside, labels)
    # Outputs that no annotation can name only compete for the top.
    further = scored.scores.shape[1] - len(labels)
    limits = np.array([*(thresholds[label] for label in labels), *[2.0] * further], np.float32)
    found = find_events(frames, limits, rule, top_only=top_only)
    time = frames.scored_time()
    annotated = [
        Intervals.of(
            (number, a.start_s or 0.0, a.end_s or 0.0)
            for number, each in inside.items()
            for a in each
            if a.label == label
        )
        for label in labels
    ]
    most = ceiling(frame_scores(windows, ideal, centre=rule.centre), annotated, rule, overlap)
    results = []
    for i, (label, truth, best) in enumerate(zip(labels, annotated, most, strict=True)):
        model = found.of_label(i)
        seconds, events = match_frames(model, truth, time), match_events(model, truth, overlap)
        results.append(LabelEvents(label, seconds, events, *best))
    return EventResult(rule, overlap, tuple(results))


def _inside(scored: ScoredWindows, annotations: AnnotationSet) -> dict[int, list[Annotation]]:
    """The annotations of each scored recording, cut where its last window ends."""
    ends = np.zeros(len(scored.recordings))
    np.maximum.at(ends, scored.recording, scored.end_s)
    found = annotations.by_recording()
    inside: dict[int, list[Annotation]] = {}
    for number, (recording, last) in enumerate(zip(scored.recordings, ends, strict=True)):
        inside[number] = []
        for a in found[recording]:
            start, end = a.start_s or 0.0, float(last) if a.end_s is None else min(a.end_s, last)
            if start < end:
                inside[number].append(Annotation(recording, start, float(end), a.label))
    return inside
