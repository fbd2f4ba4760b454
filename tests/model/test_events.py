"""Events: exact on the bounds of windows, against a slow reference on a grid."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from model.events import (
    EventRule,
    Events,
    Frames,
    Windows,
    find_events,
    frame_scores,
    sparse_frame_scores,
)
from tests.slow_events import Heard, cell_scores, slow_events

STEP = 0.25
"""Seconds of a step of the grid: sums of them are exact."""
SCORES = st.one_of(
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(2**-20, 1, width=32, allow_nan=False)
)


@st.composite
def recordings(draw: st.DrawFn, labels: int = 2) -> list[list[Heard]]:
    """Windows of some recordings in steps, all even so that middles of centres are whole."""
    length = 2 * draw(st.integers(1, 5))
    hop = 2 * draw(st.integers(1, length // 2))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        end = draw(st.integers(1, 40))
        starts = [0]
        while starts[-1] + length < end:
            starts.append(starts[-1] + hop)
        kept = [start for start in starts if draw(st.integers(0, 4))]
        scores = st.tuples(*[SCORES] * labels)
        found.append([Heard(s, min(s + length, end), length, draw(scores)) for s in kept])
    return found


def flat(recordings: list[list[Heard]], labels: int = 2) -> tuple[Windows, np.ndarray]:
    rows = [(n, w) for n, heard in enumerate(recordings) for w in heard]
    windows = Windows.of((n, w.start * STEP, w.end * STEP) for n, w in rows)
    scores = np.array([w.scores for _, w in rows], np.float32).reshape(len(rows), labels)
    return windows, scores


def listed(events: Events) -> list[tuple[Any, ...]]:
    names = ("recording", "label", "start_s", "end_s", "score", "mean_score", "windows")
    return list(zip(*(getattr(events, name).tolist() for name in names), strict=True))


def seconds(events: Events) -> float:
    return float(np.sum(events.end_s - events.start_s))


def one(*windows: tuple[float, float, float], centre: bool = False) -> Frames:
    """Frames of one recording and label from (start, end, score)."""
    scores = np.array([[score] for _, _, score in windows], np.float32)
    found = Windows.of((0, start, end) for start, end, _ in windows)
    return frame_scores(found, scores, centre=centre)


def pieces(frames: Frames) -> list[tuple[float, float, float]]:
    return list(
        zip(frames.start_s.tolist(), frames.end_s.tolist(), frames.score.tolist(), strict=True)
    )


RULES = st.builds(
    EventRule,
    merge_gap_s=st.integers(0, 12).map(lambda n: n * STEP),
    min_duration_s=st.integers(0, 12).map(lambda n: n * STEP),
    centre=st.booleans(),
)
THRESHOLDS = st.lists(SCORES, min_size=2, max_size=2)


@settings(deadline=None)
@given(recordings(), THRESHOLDS, RULES, st.booleans())
def test_as_the_slow_way(
    given: list[list[Heard]], thresholds: list[float], rule: EventRule, top_only: bool
) -> None:
    windows, scores = flat(given)
    frames = frame_scores(windows, scores, centre=rule.centre)
    found = find_events(frames, thresholds, rule, top_only=top_only)
    expected = []
    for number, heard in enumerate(given):
        for label, start, end, *values in slow_events(
            heard,
            thresholds,
            gap=round(rule.merge_gap_s / STEP),
            least=round(rule.min_duration_s / STEP),
            centre=rule.centre,
            top_only=top_only,
        ):
            expected.append((number, label, start * STEP, end * STEP, *values))
    expected.sort(key=lambda row: (row[1], row[0], row[2]))
    assert [row[:5] + row[6:] for row in listed(found)] == [row[:5] + row[6:] for row in expected]
    assert found.mean_score.tolist() == pytest.approx([row[5] for row in expected], rel=1e-6)


@settings(deadline=None)
@given(recordings(), st.booleans())
def test_frames_are_the_scores_of_all_moments_and_only_of_those_scored(
    given: list[list[Heard]], centre: bool
) -> None:
    frames = frame_scores(*flat(given), centre=centre)
    cells = {}
    for number, label, start, end, score in zip(
        frames.recording, frames.label, frames.start_s, frames.end_s, frames.score, strict=True
    ):
        for cell in range(round(start / STEP), round(end / STEP)):
            assert (number, cell, label) not in cells
            cells[number, cell, label] = score
    expected = {
        (number, cell, label): score
        for number, heard in enumerate(given)
        for cell in range(40)
        for label, score in enumerate(cell_scores(heard, cell, centre) or ())
    }
    assert cells == expected
    scored = frames.scored_time()
    assert sum(scored.end_s - scored.start_s) == len(expected) / 2 * STEP


@settings(deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=20), st.booleans())
def test_windows_that_do_not_overlap_are_themselves(scores: list[float], centre: bool) -> None:
    # Seconds as they come: thirds are not exact.
    bounds = np.arange(len(scores) + 1) * 16_000 / 48_000
    windows = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), scores, strict=True))
    assert pieces(one(*windows, centre=centre)) == windows


@settings(deadline=None)
@given(recordings(), THRESHOLDS, RULES, st.randoms())
def test_the_order_of_windows_does_not_matter(
    given: list[list[Heard]], thresholds: list[float], rule: EventRule, random: Any
) -> None:
    windows, scores = flat(given)
    order = list(range(len(scores)))
    random.shuffle(order)
    columns = (windows.recording, windows.start_s, windows.end_s)
    shuffled = Windows(*(column[order] for column in columns))
    found, again = (
        find_events(frame_scores(w, s, centre=rule.centre), thresholds, rule)
        for w, s in ((windows, scores), (shuffled, scores[order]))
    )
    assert listed(found) == listed(again)


@settings(deadline=None)
@given(recordings(), THRESHOLDS, RULES, st.integers(0, 1000))
def test_events_shift_with_time(
    given: list[list[Heard]], thresholds: list[float], rule: EventRule, steps: int
) -> None:
    windows, scores = flat(given)
    by = steps * STEP
    later = Windows(windows.recording, windows.start_s + by, windows.end_s + by)
    found, shifted = (
        find_events(frame_scores(w, scores, centre=rule.centre), thresholds, rule)
        for w in (windows, later)
    )
    moved = replace(found, start_s=found.start_s + by, end_s=found.end_s + by)
    assert listed(moved) == listed(shifted)


@settings(deadline=None)
@given(recordings(), THRESHOLDS, THRESHOLDS, RULES, st.booleans())
def test_a_higher_threshold_never_gives_more_seconds(
    given: list[list[Heard]],
    some: list[float],
    others: list[float],
    rule: EventRule,
    top_only: bool,
) -> None:
    frames = frame_scores(*flat(given), centre=rule.centre)
    low, high = np.minimum(some, others), np.maximum(some, others)
    fewer = find_events(frames, high, rule, top_only=top_only)
    assert seconds(fewer) <= seconds(find_events(frames, low, rule, top_only=top_only))


@settings(deadline=None)
@given(recordings(), THRESHOLDS)
def test_without_a_rule_events_are_exactly_the_runs(
    given: list[list[Heard]], thresholds: list[float]
) -> None:
    frames = frame_scores(*flat(given))
    found = find_events(frames, thresholds, EventRule())
    above = frames.score >= np.array(thresholds, np.float32)[frames.label]
    rows = zip(frames.label, frames.recording, frames.start_s, frames.end_s, above, strict=True)
    runs: list[list[Any]] = []
    for label, recording, start, end, positive in rows:
        if positive and runs and runs[-1][:2] == [label, recording] and runs[-1][3] == start:
            runs[-1][3] = end
        elif positive:
            runs.append([label, recording, start, end])
    order = (found.label, found.recording, found.start_s, found.end_s)
    assert [list(row) for row in zip(*order, strict=True)] == runs


@settings(deadline=None)
@given(recordings(), THRESHOLDS, RULES)
def test_rows_that_are_absent_are_windows_that_score_0(
    given: list[list[Heard]], thresholds: list[float], rule: EventRule
) -> None:
    windows, scores = flat(given)
    thresholds = [max(0.25, threshold) for threshold in thresholds]
    kept = np.where(scores >= 0.25, scores, np.float32(0))
    window, label = np.nonzero(kept)
    sparse = sparse_frame_scores(windows, window, label, kept[window, label], centre=rule.centre)
    dense = frame_scores(windows, kept, centre=rule.centre)
    assert listed(find_events(sparse, thresholds, rule)) == listed(
        find_events(dense, thresholds, rule)
    )


def test_a_moment_is_the_mean_of_the_windows_that_cover_it() -> None:
    frames = one((0, 3, 0.25), (1, 4, 0.5), (2, 5, 1.0))
    third = np.float32(1.75 / 3)
    assert pieces(frames) == [
        (0, 1, 0.25),
        (1, 2, 0.375),
        (2, 3, third),
        (3, 4, 0.75),
        (4, 5, 1.0),
    ]
    found = find_events(frames, [third], EventRule())
    assert listed(found) == [(0, 0, 2, 5, 1.0, np.float32((1.75 / 3 + 1.75) / 3), 3)]


def test_centres_share_the_time_of_windows() -> None:
    frames = one((0, 3, 0.25), (1, 4, 0.5), (2, 5, 1.0), centre=True)
    assert pieces(frames) == [(0, 2, 0.25), (2, 3, 0.5), (3, 5, 1.0)]
    # The last window is cut at 4.25, and its centre is still at 3.5.
    assert pieces(one((0, 3, 0.25), (2, 4.25, 1.0), centre=True)) == [
        (0, 2.5, 0.25),
        (2.5, 4.25, 1),
    ]
    # The window in between was skipped: no centre reaches over its end.
    assert pieces(one((0, 2, 0.25), (3, 5, 1.0), centre=True)) == [(0, 2, 0.25), (3, 5, 1)]


def test_gaps_are_merged_and_unscored_time_is_not() -> None:
    frames = one((0, 1, 0.9), (1, 2, 0.1), (2, 3, 0.8), (4, 5, 0.9))
    assert listed(find_events(frames, [0.5], EventRule(merge_gap_s=1))) == [
        (0, 0, 0, 3, np.float32(0.9), np.float32(0.6), 3),
        (0, 0, 4, 5, np.float32(0.9), np.float32(0.9), 1),
    ]
    assert len(find_events(frames, [0.5], EventRule(merge_gap_s=0.99))) == 3
    both = EventRule(merge_gap_s=1, min_duration_s=3)
    assert len(find_events(frames, [0.5], both)) == 1, "short runs merge before they are dropped"


def test_seconds_that_are_not_exact_are_what_they_mean() -> None:
    # 0.3 - 0.2 and 0.8 - 0.7 are less than 0.1, 0.7 - 0.6 is more.
    bounds = [0.1 * n for n in range(10)]
    frames = one(*((a, b, n % 2) for n, (a, b) in enumerate(itertools.pairwise(bounds), 1)))
    assert len(find_events(frames, [0.5], EventRule(merge_gap_s=0.1))) == 1
    assert len(find_events(frames, [0.5], EventRule(min_duration_s=0.1))) == 5


def test_a_threshold_is_compared_as_a_score() -> None:
    frames = one((0, 1, 0.7))
    assert len(find_events(frames, [0.7], EventRule())) == 1
    assert not len(find_events(frames, [0.7000001], EventRule()))


def test_equal_scores_of_a_single_label_bundle_go_to_the_first() -> None:
    windows = Windows.of([(0, 0, 2), (0, 1, 3)])
    frames = frame_scores(windows, np.array([[0.5, 0.5], [0.25, 0.75]], np.float32))
    found = find_events(frames, [0, 0], EventRule(), top_only=True)
    assert [row[1:4] for row in listed(found)] == [(0, 0, 1), (1, 1, 3)]


def test_nothing_gives_nothing() -> None:
    for n_labels in (0, 3):
        frames = frame_scores(Windows.of([]), np.zeros((0, n_labels), np.float32), centre=True)
        assert not len(find_events(frames, [0.5] * n_labels, EventRule(), top_only=True))
        assert not len(frames.scored_time())


def test_what_is_refused() -> None:
    for values in ({"merge_gap_s": -1}, {"min_duration_s": float("nan")}):
        with pytest.raises(UserError, match="must be 0 or more"):
            EventRule(**values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inside another"):
        one((0, 5, 0.5), (1, 2, 0.5))
    with pytest.raises(ValueError, match="ends before"):
        one((1, 0, 0.5))
