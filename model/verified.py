"""Detections that a person has verified, and what each stands for in the dataset."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.errors import UserError
from model.tables import Row, Table
from model.threshold_facts import Goal, LabelFacts, ThresholdFacts
from model.thresholds import Checked, choose_threshold, measure

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

EDGES = tuple(tenth / 10 for tenth in range(1, 10))
"""Scores at which the strata begin by default, but for the first, which begins at 0."""
VERDICTS = {"right": True, "wrong": False} | {
    word: answer
    for answer, words in ((True, ("1", "true", "yes")), (False, ("0", "false", "no")))
    for word in words
}


@dataclass(frozen=True)
class Verified:
    """A detection and whether it is right; times in seconds of the recording.

    `score` and `weight` (how many detections of the dataset it stands for) are None where the
    table does not tell them, `channel` where it has no such column. `where` names the row.
    """

    where: str
    recording: str
    channel: int | None
    start_s: float
    end_s: float
    label: str
    right: bool
    score: float | None
    weight: float | None


def parse_verified(table: Table, labels: Sequence[str]) -> tuple[tuple[Verified, ...], int]:
    """The verified detections of a table, and how many rows have no verdict yet.

    Columns: recording, start, end, label, verdict (right or wrong, 1 or 0, true or false, yes or
    no; empty: not verified), and perhaps channel, score, and weight or probability (that with
    which a detection like it was drawn). A detection that stands there twice counts once.

    Raises UserError for a column or value that is missing or wrong, a label that is none of
    `labels`, and two verdicts that contradict each other.
    """
    recording = table.column("recording", "file")
    start, end = table.column("start", "start_s"), table.column("end", "end_s")
    label, verdict = table.column("label"), table.column("verdict")
    channel, score = table.find_column("channel"), table.find_column("score")
    weight, probability = table.find_column("weight"), table.find_column("probability")
    stratum = table.find_column("stratum")
    if weight and probability:
        raise UserError(f"{table.path} has a weight and a probability; keep one of the columns.")
    found: dict[tuple[object, ...], Verified] = {}
    drawn: Counter[tuple[str, str]] = Counter()
    part: dict[tuple[object, ...], tuple[str, str]] = {}
    waiting = 0
    for row in table.rows:
        answer = VERDICTS.get(row.cells[verdict].casefold())
        own_part = row.cells[label], row.cells[stratum] if stratum else ""
        if not row.cells[verdict]:
            drawn[own_part] += 1
            waiting += 1
            continue
        if answer is None:
            raise UserError(
                f"{row.where}: the verdict is {row.cells[verdict]!r}; write right or wrong."
            )
        if row.cells[label] not in labels:
            raise UserError(
                f"{row.where}: the bundle has no label {row.cells[label]!r}; its labels are "
                f"{', '.join(labels[:10])}{', ...' if len(labels) > 10 else ''}."
            )
        share = _number(row, probability, lambda x: 0 < x <= 1, "above 0 and at most 1")
        one = Verified(
            row.where,
            row.cells[recording],
            _channel(row, channel),
            _needed(_number(row, start, lambda x: x >= 0, "0 or more")),
            _needed(_number(row, end, lambda x: x > 0, "above 0")),
            row.cells[label],
            answer,
            _number(row, score, lambda x: 0 <= x <= 1, "from 0 to 1"),
            _number(row, weight, lambda x: x > 0, "above 0") if share is None else 1 / share,
        )
        key = (one.recording, one.channel, round(one.start_s, 3), round(one.end_s, 3), one.label)
        drawn[own_part] += key not in found
        part[key] = own_part
        other = found.setdefault(key, one)
        if other.right != one.right:
            raise UserError(f"{one.where} contradicts {other.where}; keep the verdict that holds.")
    if not found:
        raise UserError(f"{table.path} has no verdict; write right or wrong beside detections.")
    if stratum and (weight or probability):
        # Those with a verdict stand for the others that were drawn with them.
        judged = Counter(part.values())
        raised = {one: drawn[one] / judged[one] for one in judged}
        found = {
            key: replace(one, weight=one.weight and one.weight * raised[part[key]])
            for key, one in found.items()
        }
    return tuple(found.values()), waiting


def sample(
    verified: Sequence[Verified],
    scores: Float32,
    counts: Mapping[str, Integers] | None,
    edges: Sequence[float] = EDGES,
    min_score: float = 0.0,
) -> dict[str, Checked]:
    """The verified detections of each label, weighted by how they were sampled.

    `scores` (n,) are those of the `verified`. `counts` are the detections of each label in the
    dataset between the `edges` (bins include their lower edge, n_edges + 1 of them), from
    `min_score` on: each verified one then stands for the dataset's in its bin divided by the
    verified ones in it. None: each has its own weight.
    """
    result = {}
    for label in dict.fromkeys(one.label for one in verified):
        rows = [i for i, one in enumerate(verified) if one.label == label]
        truth, own = np.array([verified[i].right for i in rows]), scores[rows]
        units = np.arange(len(rows))
        if counts is None:
            weights = np.array([verified[i].weight for i in rows], np.float64)
            result[label] = Checked(truth, own, units, weights, lowest=float(own.min()))
            continue
        weights, strata, lowest = weigh_by_bin(own, counts[label], edges)
        lowest = max(lowest, min_score)
        result[label] = Checked(truth, own, units, weights, strata, lowest)
    return result


def bin_of(scores: Float32, edges: Sequence[float]) -> Integers:
    """The bin (n,) of each score: the number of edges at or below it."""
    return np.searchsorted(np.array(edges, np.float32), scores, side="right").astype(np.int64)


def weigh_by_bin(
    scores: Float32, counts: Integers, edges: Sequence[float]
) -> tuple[Float64, Integers, float]:
    """Weights and strata (n,) of verified scores, and the score from which they tell anything.

    A bin in which nothing was verified joins the next lower one that has some, whose share of
    right ones is rather too low for it than too high. Below the lowest that has some, nothing is
    known.
    """
    bins = bin_of(scores, edges)
    verified = np.bincount(bins, minlength=len(counts))
    has = np.flatnonzero(verified)
    first = int(has[0])
    stratum = np.searchsorted(has, np.arange(len(counts)), side="right") - 1
    sizes = np.bincount(stratum[first:], counts[first:], len(has))
    strata = stratum[bins].astype(np.int64)
    weights = (sizes / verified[has])[strata]
    return weights, strata, float(edges[first - 1]) if first else 0.0


def choose_verified(
    samples: Mapping[str, Checked], thresholds: Mapping[str, float], goal: Goal
) -> tuple[dict[str, float], ThresholdFacts]:
    """A threshold for each label of which right and wrong detections were verified.

    The other labels keep theirs, with what was verified of it.
    """
    nothing = Checked(np.zeros(0, np.bool_), np.zeros(0, np.float32), np.zeros(0, np.int64))
    chosen: dict[str, float] = {}
    facts: dict[str, LabelFacts] = {}
    for label, standing in thresholds.items():
        checked = samples.get(label, nothing)
        if checked.truth.any() and not checked.truth.all():
            chosen[label], facts[label] = choose_threshold(checked, goal)
        else:
            chosen[label], facts[label] = standing, measure(checked, standing, reached=False)
    return chosen, ThresholdFacts("verified", goal, facts)


def _number(
    row: Row, column: str | None, valid: Callable[[float], bool], accepted: str
) -> float | None:
    if column is None:
        return None
    try:
        value = float(row.cells[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not valid(value):
        raise UserError(
            f"{row.where}: {column} is {row.cells[column]!r}; it must be a number {accepted}."
        )
    return value


def _needed(value: float | None) -> float:
    assert value is not None  # The column was asked for.
    return value


def _channel(row: Row, column: str | None) -> int | None:
    if column is None or not row.cells[column]:
        return None
    value = _number(row, column, lambda x: x >= 0 and x.is_integer(), "of a channel, from 0")
    return int(_needed(value))
