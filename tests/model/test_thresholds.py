from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import fbeta_score, precision_score, recall_score

from model.errors import UserError
from model.threshold_facts import Goal, LabelFacts, ThresholdFacts
from model.thresholds import Checked, choose_threshold, choose_thresholds, measure

F1 = Goal()
PAIRS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 100).map(lambda n: n / 100)), min_size=1, max_size=14
)
GOALS = st.sampled_from(["f1", "f0.5", "f2", "precision=0.5", "precision=0.9", "precision=1"])


def checked(truth: Any, scores: Any, **more: Any) -> Checked:
    units = more.pop("units", np.arange(len(truth)))
    return Checked(np.array(truth, bool), np.array(scores, np.float32), np.array(units), **more)


@pytest.mark.parametrize(
    ("truth", "scores", "expected"),
    [
        ([1, 1, 0, 0], [0.8, 0.6, 0.4, 0.1], 0.5),
        ([0, 1, 1, 0], [0.1, 0.6, 0.8, 0.4], 0.5),
        # All positive is best: F1 of 6/7 against 4/5 and 1/2... the cut lies below the lowest.
        ([1, 0, 1, 1], [0.8, 0.6, 0.5, 0.4], 0.2),
        # Equal scores stand or fall together.
        ([1, 1, 0, 0], [0.6, 0.6, 0.6, 0.2], 0.4),
        # Kept within the bounds.
        ([1, 0], [0.04, 0.02], 0.1),
        ([1, 0], [1.0, 0.98], 0.95),
        # No positive or no negative window, or none at all: nothing to choose by.
        ([0, 0], [0.9, 0.2], 0.5),
        ([1, 1], [0.9, 0.2], 0.5),
        ([1], [0.9], 0.5),
        ([], [], 0.5),
    ],
)
def test_the_threshold_of_the_best_f1(
    truth: list[int], scores: list[float], expected: float
) -> None:
    threshold, facts = choose_threshold(checked(truth, scores), F1)
    assert threshold == pytest.approx(expected, abs=1e-6)
    assert facts.reached == (0 < sum(truth) < len(truth))
    assert (facts.positives, facts.windows) == (sum(truth), len(truth))


@pytest.mark.parametrize(
    ("goal", "expected", "reached"),
    [
        # Right are the windows with 0.9, 0.7, 0.5 and 0.2.
        ("precision=1", 0.85, True),
        ("precision=0.7", 0.45, True),
        ("precision=0.6", 0.35, True),
        ("precision=0.5", 0.1, True),
        ("f0.5", 0.45, True),
        ("f2", 0.15, True),
    ],
)
def test_the_threshold_of_a_goal(goal: str, expected: float, reached: bool) -> None:
    truth = [1, 0, 1, 1, 0, 0, 1, 0]
    scores = [0.9, 0.8, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1]
    threshold, facts = choose_threshold(checked(truth, scores), Goal.parse(goal))
    assert (threshold, facts.reached) == (pytest.approx(expected), reached)


def test_a_precision_out_of_reach_gives_the_nearest_and_says_so() -> None:
    truth, scores = [0, 1, 1, 0, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    threshold, facts = choose_threshold(checked(truth, scores), Goal.parse("precision=0.9"))
    assert threshold == pytest.approx(0.65)
    assert not facts.reached and facts.precision == pytest.approx(2 / 3)


def test_a_precision_that_needs_it_goes_above_the_upper_bound() -> None:
    truth, scores = [1, 1, 0, 0], [0.99, 0.98, 0.97, 0.2]
    threshold, facts = choose_threshold(checked(truth, scores), Goal.parse("precision=0.9"))
    assert threshold == pytest.approx(0.975) and facts.reached
    assert choose_threshold(checked(truth, scores), F1)[0] == 0.95


def test_facts_of_a_hand_made_case() -> None:
    _, facts = choose_threshold(checked([1, 1, 0, 0, 1], [0.8, 0.7, 0.6, 0.2, 0.05]), F1)
    # At 0.65 or 0.4: F1 of 4/5 against 6/8... all but the last positive, and no negative.
    assert (facts.precision, facts.recall) == (1, pytest.approx(2 / 3))
    assert (facts.false_positive_rate, facts.prevalence) == (0, 0.6)
    assert facts.precision_interval == pytest.approx((0.158, 1), abs=1e-3)
    assert facts.false_positive_rate_interval == pytest.approx((0, 0.842), abs=1e-3)


def test_windows_of_one_group_promise_less() -> None:
    truth, scores = [1] * 8 + [0] * 8, [0.9] * 8 + [0.2] * 8
    apart = choose_threshold(checked(truth, scores), F1)[1].precision_interval
    together = choose_threshold(checked(truth, scores, units=[0] * 16), F1)[1].precision_interval
    assert apart == (pytest.approx(0.631, abs=1e-3), 1)
    assert together == (pytest.approx(0.025, abs=1e-3), 1)


@settings(deadline=None)  # The first example imports scikit-learn or scipy.
@given(PAIRS, GOALS)
def test_what_is_told_is_what_scikit_learn_finds(
    pairs: list[tuple[bool, float]], goal: str
) -> None:
    sample = checked(*zip(*pairs, strict=True))
    threshold, facts = choose_threshold(sample, Goal.parse(goal))
    called = sample.scores >= threshold
    precision, recall = facts.precision, facts.recall
    if called.any():
        assert precision == pytest.approx(precision_score(sample.truth, called))
        low, high = facts.precision_interval or (2, 2)
        assert 0 <= low <= precision <= high <= 1
    else:
        assert precision is facts.precision_interval is None
    if sample.truth.any():
        assert recall == pytest.approx(recall_score(sample.truth, called))
    else:
        assert recall is None
    assert 0.1 <= threshold <= (1 if goal.startswith("p") else 0.95)
    assert threshold == float(str(np.float32(threshold)))


@settings(deadline=None)  # The first example imports scikit-learn or scipy.
@given(PAIRS, GOALS)
def test_no_threshold_is_better(pairs: list[tuple[bool, float]], goal: str) -> None:
    sample = checked(*zip(*pairs, strict=True))
    if not sample.truth.any() or sample.truth.all():
        return
    wanted = Goal.parse(goal)
    threshold, facts = choose_threshold(sample, wanted)
    called = sample.scores >= threshold
    others = [s for s in {*sample.scores.tolist(), 0.1} if 0.1 <= s <= 0.95]
    if wanted.kind == "f":

        def f(value: float) -> float:
            found = fbeta_score(
                sample.truth, sample.scores >= value, beta=wanted.value, zero_division=0
            )
            return float(found)

        assert f(threshold) >= max(map(f, others), default=0) - 1e-9
        return
    precisions = {
        s: sample.truth[sample.scores >= np.float32(s)].mean()
        for s in others
        if (sample.scores >= np.float32(s)).any()
    }
    good = [s for s, precision in precisions.items() if precision >= wanted.value]
    if good:
        assert facts.reached and (facts.precision or 0) >= wanted.value
        assert called.sum() >= (sample.scores >= np.float32(min(good))).sum()
    elif not facts.reached:
        assert (facts.precision or 0) >= max(precisions.values(), default=0) - 1e-9


def test_neighbouring_scores_are_told_apart() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    threshold, facts = choose_threshold(checked([1, 0], [high, low]), F1)
    assert np.float32(threshold) == high and facts.precision == facts.recall == 1


def test_thresholds_ignore_what_is_masked_and_follow_the_labels() -> None:
    targets = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float32)
    scores = np.array([[0.8, 0.3], [0.6, 0.3], [0.7, 0.3], [0.2, 0.3]], np.float32)
    mask = np.array([[1, 0], [1, 0], [0, 0], [1, 0]], np.float32)
    thresholds, facts = choose_thresholds(
        targets, mask, scores, ["a", "b"], ["x", "x", "y", "z"], F1, "holdout"
    )
    assert thresholds == {"a": pytest.approx(0.4), "b": 0.5}
    assert facts.labels["a"].windows == 3 and facts.labels["b"].windows == 0
    assert facts.calibrated and not replace(facts, data="validation").calibrated
    # Two windows of x, one of z: the precision rests on one group.
    assert facts.labels["a"].precision_interval == (pytest.approx(0.025, abs=1e-3), 1)


def test_precision_at_another_prevalence() -> None:
    facts = measure(
        checked([1] * 100 + [0] * 900, [0.9] * 80 + [0.2] * 20 + [0.9] * 9 + [0.1] * 891),
        0.5,
        reached=True,
    )
    assert (facts.recall, facts.false_positive_rate) == (0.8, 0.01)
    found = facts.precision_at(0.1)
    assert found and found[0] == pytest.approx(facts.precision or 0)
    value, low, high = facts.precision_at(0.001) or (0, 0, 0)
    # 0.8 of one in a thousand, against 0.01 of the others.
    assert value == pytest.approx(0.0008 / (0.0008 + 0.00999))
    assert low < value < high < 0.2
    # None wrong among 20 is no promise for a field.
    few = measure(checked([1] * 10 + [0] * 20, [0.9] * 10 + [0.1] * 20), 0.5, reached=True)
    value, low, high = few.precision_at(0.001) or (0, 0, 0)
    assert (value, high) == (1, 1) and low < 0.01
    assert few.precision_at(0) is None
    assert measure(checked([1], [0.9]), 0.5, reached=False).precision_at(0.5) is None


def test_weights_count_as_so_many_windows() -> None:
    truth, scores, weights = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6], np.array([1.0, 3.0, 5.0, 1.0])
    repeated = checked(
        np.repeat(truth, weights.astype(int)), np.repeat(scores, weights.astype(int))
    )
    for goal in ("f1", "precision=0.5", "precision=0.9"):
        one, facts = choose_threshold(checked(truth, scores, weights=weights), Goal.parse(goal))
        other, expected = choose_threshold(repeated, Goal.parse(goal))
        assert one == other
        for name in ("precision", "recall", "false_positive_rate", "prevalence", "reached"):
            assert getattr(facts, name) == pytest.approx(getattr(expected, name))


def test_no_threshold_lies_below_what_was_checked() -> None:
    truth, scores = [1, 1, 0, 1], [0.9, 0.8, 0.7, 0.6]
    threshold, facts = choose_threshold(checked(truth, scores, lowest=0.55), F1)
    assert threshold == pytest.approx(0.575) and facts.lowest == 0.55
    assert choose_threshold(checked([1, 1], [0.9, 0.8], lowest=0.7), F1)[0] == 0.7


@pytest.mark.parametrize("text", ["f1", "f0.5", "f2", "precision=0.9", "precision=1"])
def test_a_goal_is_its_text(text: str) -> None:
    assert str(Goal.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f",
        "f0",
        "f-1",
        "fx",
        "f11",
        "1",
        "precision",
        "precision=",
        "precision=0",
        "precision=1.1",
        "precision=nan",
        "recall=0.9",
        "f1=2",
        "finf",
    ],
)
def test_other_goals_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="nor a precision"):
        Goal.parse(text)


FACTS = ThresholdFacts(
    "holdout",
    Goal("precision", 0.9),
    {"a": LabelFacts(True, 0.9, (0.8, 1.0), 0.5, 0.0, (0.0, 0.2), 0.1, 3, 30)},
)


def test_facts_are_what_was_written() -> None:
    import json

    assert ThresholdFacts.from_json(json.loads(json.dumps(FACTS.to_json())), ["a"]) == FACTS
    _, empty = choose_thresholds(*[np.zeros((0, 1), np.float32)] * 3, ["a"], [], F1, "validation")
    assert ThresholdFacts.from_json(json.loads(json.dumps(empty.to_json())), ["a"]) == empty


@pytest.mark.parametrize(
    ("changes", "of_label", "message"),
    [
        ({"data": "field"}, {}, "data"),
        ({"calibrated": False}, {}, "contradict"),
        ({"calibrated": 1}, {}, "contradict"),
        ({"goal": "best"}, {}, "best"),
        ({"goal": 1}, {}, "goal"),
        ({"labels": {}}, {}, "labels"),
        ({"more": 1}, {}, "whole"),
        ({}, {"precision": 1.5}, "precision 1.5"),
        ({}, {"precision": "1"}, "precision '1'"),
        ({}, {"precision_interval": [0.9, 0.8]}, "interval"),
        ({}, {"precision_interval": [0.9]}, "interval"),
        ({}, {"positives": 31}, "counts"),
        ({}, {"windows": 2.5}, "windows"),
        ({}, {"reached": None}, "reached"),
        ({}, {"lowest": None}, "lowest"),
        ({}, {"more": 1}, "whole"),
    ],
)
def test_facts_that_cannot_be_are_refused(
    changes: dict[str, Any], of_label: dict[str, Any], message: str
) -> None:
    document = FACTS.to_json()
    document["labels"]["a"] |= of_label
    with pytest.raises(UserError, match=message):
        ThresholdFacts.from_json(document | changes, ["a"])
