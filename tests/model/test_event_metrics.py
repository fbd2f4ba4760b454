"""Agreement of events with annotations, against what counting by hand gives."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.annotations import Annotation
from model.event_metrics import Agreement, ceiling, match_events, match_frames, perfect_scores
from model.events import EventRule, Frames, find_events, frame_scores
from model.timeline import Intervals
from model.windows import WindowPlan, WindowRule

Rows = list[tuple[int, float, float]]
INTERVALS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20), st.integers(1, 8)).map(
        lambda row: (row[0], float(row[1]), float(row[1] + row[2]))
    ),
    max_size=6,
)


def cells(rows: Rows) -> set[tuple[int, int]]:
    return {(n, cell) for n, start, end in rows for cell in range(int(start), int(end))}


@settings(deadline=None)
@given(INTERVALS, INTERVALS, INTERVALS, st.booleans())
def test_seconds_are_those_of_a_grid(
    predicted: Rows, annotated: Rows, scored: Rows, everything: bool
) -> None:
    inside = None if everything else Intervals.of(scored)
    found = match_frames(Intervals.of(predicted), Intervals.of(annotated), inside)
    p, a = cells(predicted), cells(annotated)
    if not everything:
        p, a = p & cells(scored), a & cells(scored)
    assert found == Agreement(len(p & a), len(p), len(a))


def overlap(one: tuple[int, float, float], other: tuple[int, float, float]) -> float:
    both = cells([one]) & cells([other])
    return len(both) / len(cells([one]) | cells([other]))


def most_pairs(predicted: Rows, annotated: Rows, least: float) -> int:
    few, many = sorted((predicted, annotated), key=len)
    return max(
        sum(overlap(x, y) >= least for x, y in zip(few, chosen, strict=True))
        for chosen in itertools.permutations(many, len(few))
    )


@settings(deadline=None)
@given(INTERVALS, INTERVALS, st.sampled_from([0.01, 0.2, 1 / 3, 0.5, 0.8, 1.0]))
def test_the_most_pairs_that_can_be(predicted: Rows, annotated: Rows, least: float) -> None:
    found = match_events(Intervals.of(predicted), Intervals.of(annotated), least)
    expected = most_pairs(predicted, annotated, least)
    assert found == Agreement(expected, len(predicted), len(annotated))


def test_the_best_pair_first_would_lose_one() -> None:
    # The second prediction fits the first annotation best, and the first fits no other.
    predicted, annotated = [(0, 0.0, 6.0), (0, 2.0, 10.0)], [(0, 1.0, 9.0), (0, 5.0, 13.0)]
    found = match_events(Intervals.of(predicted), Intervals.of(annotated), 0.4)
    assert found == Agreement(2, 2, 2)


def test_an_overlap_at_the_limit_counts() -> None:
    whole, half = Intervals.of([(0, 0.1, 0.7)]), Intervals.of([(0, 0.1, 0.4)])
    assert match_events(whole, half, 0.5).both == 1
    assert match_events(whole, half, 0.51).both == 0
    assert match_events(whole, Intervals.of([(1, 0.1, 0.7)])).both == 0
    for wrong in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            match_events(whole, half, wrong)


def test_ratios_and_sums() -> None:
    total = Agreement(2, 4, 3) + Agreement(1, 1, 3)
    assert total == Agreement(3, 5, 6)
    assert (total.precision, total.recall, total.f1) == (0.6, 0.5, 6 / 11)
    assert Agreement().precision is None and Agreement().f1 is None
    assert Agreement(0, 0, 2).recall == 0 and Agreement(0, 0, 2).f1 == 0
    assert match_frames(Intervals.of([]), Intervals.of([])) == Agreement()
    assert match_events(Intervals.of([]), Intervals.of([])) == Agreement()


def perfect(
    calls: list[tuple[float, float]], window_s: float, hop_s: float
) -> tuple[Frames, Intervals, Frames]:
    """The frames of perfect windows over 60 s, the calls, and the frames by centre."""
    start, end = WindowPlan(WindowRule(window_s, hop_s), 60_000, 1000).bounds()
    windows = Intervals(np.zeros(len(start), np.int64), start / 1000, end / 1000)
    annotations = {0: [Annotation("a", begin, stop, "x") for begin, stop in calls]}
    scores = perfect_scores(windows, window_s, annotations, ["x"])
    truth = Intervals.of((0, begin, stop) for begin, stop in calls)
    mean, centre = (frame_scores(windows, scores, centre=centre) for centre in (False, True))
    return mean, truth, centre


def test_the_ceiling_of_windows_longer_than_the_calls() -> None:
    # One window of 3 s is all that there is for a call of 1 s.
    mean, truth, _ = perfect([(10.0, 11.0)], 3, 3)
    assert ceiling(mean, [truth], EventRule()) == [(Agreement(1, 3, 1), Agreement(0, 1, 1))]
    # Of the twelve windows that cover a moment of the call most hold half of it, and only there.
    mean, truth, centre = perfect([(10.0, 11.0)], 3, 0.25)
    assert ceiling(mean, [truth], EventRule()) == [(Agreement(1, 1, 1), Agreement(1, 1, 1))]
    # By the nearest centre every window speaks for itself: 13 hold half of the call.
    assert ceiling(centre, [truth], EventRule())[0][0] == Agreement(1, 3.25, 1)
    mean, truth, _ = perfect([(12.0, 24.0)], 3, 3)
    assert ceiling(mean, [truth], EventRule()) == [(Agreement(12, 12, 12), Agreement(1, 1, 1))]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 230), min_size=1, max_size=6, unique=True),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.sampled_from([1.0, 1.5, 3.0]),
    st.floats(0.05, 1),
    st.builds(EventRule, st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])),
)
def test_no_threshold_of_perfect_scores_is_better_than_the_ceiling(
    quarters: list[int], lasting: float, hop_s: float, threshold: float, rule: EventRule
) -> None:
    mean, truth, _ = perfect([(q / 4, q / 4 + lasting) for q in quarters], 3, hop_s)
    ((frames, events),) = ceiling(mean, [truth], rule)
    found = find_events(mean, [threshold], rule).of_label(0)
    time = mean.scored_time()
    assert (match_frames(found, truth, time).f1 or 0) <= (frames.f1 or 0)
    assert (match_events(found, truth).f1 or 0) <= (events.f1 or 0)
    assert frames.annotated == match_frames(truth, truth, time).both


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 19), min_size=1, max_size=8, unique=True),
    st.booleans(),
    st.sampled_from([0.01, 0.5, 1.0]),
)
def test_perfect_scores_reach_all_calls_that_are_windows(
    numbers: list[int], centre: bool, threshold: float
) -> None:
    windows = Intervals.of((0, 3.0 * n, 3.0 * n + 3) for n in range(20))
    annotations = {0: [Annotation("a", 3.0 * n, 3.0 * n + 3, "x") for n in numbers]}
    scores = perfect_scores(windows, 3, annotations, ["x", "y"])
    found = find_events(frame_scores(windows, scores, centre=centre), [threshold] * 2, EventRule())
    truth = Intervals.of((0, 3.0 * n, 3.0 * n + 3) for n in numbers)
    assert match_frames(found.of_label(0), truth) == Agreement(*[3.0 * len(numbers)] * 3)
    assert not len(found.of_label(1))


def test_perfect_scores_are_the_rule_of_training_in_any_order() -> None:
    windows = Intervals.of([(7, 3, 6), (7, 0, 3), (9, 0, 3)])
    annotations = {
        7: [Annotation("a", 2.0, 3.5, "x"), Annotation("a", 5.5, 9, "y")],
        9: [Annotation("b", None, None, "y")],
    }
    scores = perfect_scores(windows, 3, annotations, ["x", "y"])
    assert scores.tolist() == [[0, 0], [1, 0], [0, 1]]
