"""Events the slow way: on a grid of whole steps, one recording at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Heard:
    """A scored window in steps, with the length that it would have without the recording's end."""

    start: int
    end: int
    length: int
    scores: tuple[float, ...]

    def distance(self, cell: int) -> float:
        return abs(cell + 0.5 - (self.start + self.length / 2))


def cell_scores(heard: Sequence[Heard], cell: int, centre: bool) -> list[np.float32] | None:
    """The score of each label in the step from `cell` on; None where nothing scores it."""
    covering = [w for w in sorted(heard, key=lambda w: w.start) if w.start <= cell < w.end]
    if not covering:
        return None
    if centre:
        covering = [min(covering, key=lambda w: w.distance(cell))]
    columns = zip(*(w.scores for w in covering), strict=True)
    return [np.float32(sum(map(float, column)) / len(covering)) for column in columns]


def slow_events(
    heard: Sequence[Heard],
    thresholds: Sequence[float],
    *,
    gap: int = 0,
    least: int = 0,
    centre: bool = False,
    top_only: bool = False,
) -> list[tuple[Any, ...]]:
    """(label, start, end, score, mean score, windows) of each event, by label and time."""
    cells = {
        cell: scores
        for cell in range(max((w.end for w in heard), default=0))
        if (scores := cell_scores(heard, cell, centre)) is not None
    }
    found = []
    for label, threshold in enumerate(thresholds):
        positive = [
            cell
            for cell, scores in cells.items()
            if scores[label] >= np.float32(threshold)
            and not (top_only and scores.index(max(scores)) != label)
        ]
        runs: list[list[int]] = []
        for cell in positive:
            between = range(runs[-1][1], cell) if runs else range(0)
            if runs and len(between) <= gap and all(x in cells for x in between):
                runs[-1][1] = cell + 1
            else:
                runs.append([cell, cell + 1])
        for start, end in runs:
            if end - start >= least:
                scores = [cells[cell][label] for cell in range(start, end)]
                mean = np.float32(np.mean(scores, dtype=np.float64))
                found.append(
                    (label, start, end, max(scores), mean, _reach(heard, start, end, centre))
                )
    return found


def _reach(heard: Sequence[Heard], start: int, end: int, centre: bool) -> int:
    """How many windows score a step between two."""
    reached: Mapping[int, bool] = {}
    for cell in range(start, end):
        covering = [w for w in heard if w.start <= cell < w.end]
        if centre:
            covering = [min(covering, key=lambda w: w.distance(cell))]
        reached = {**reached, **{w.start: True for w in covering}}
    return len(reached)
