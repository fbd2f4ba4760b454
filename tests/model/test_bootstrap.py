import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from model import bootstrap
from model.bootstrap import average_precisions, interval, ratios, resample


def sample(seed: int, n: int, n_labels: int = 3, n_groups: int = 6, digits: int = 1):
    """Windows with many equal scores, some of which do not count."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, n_labels)) < rng.random(n_labels)
    scores = np.round(rng.random((n, n_labels)) + 0.4 * truth, digits).astype(np.float32)
    known = rng.random((n, n_labels)) < 0.8
    groups = rng.integers(0, n_groups, n)
    groups[0] = n_groups - 1
    return truth, known, scores, groups


def test_each_draw_takes_as_many_groups_as_there_are() -> None:
    weights = resample(np.array([0, 2, 1, 1, 0]), 200, 1)
    assert weights.shape == (3, 200)
    assert (weights.sum(axis=0) == 3).all()
    assert weights.min() == 0 and weights.max() == 3
    np.testing.assert_array_equal(weights, resample(np.array([2, 1, 0]), 200, 1))
    assert (weights != resample(np.array([2, 1, 0]), 200, 2)).any()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 8))
def test_weights_equal_copies(seed: int, n: int, n_groups: int) -> None:
    truth, known, scores, groups = sample(seed, n, n_groups=n_groups)
    weights = resample(groups, 5, seed)
    result = average_precisions(truth, known, scores, groups, weights)
    for draw in range(5):
        copies = np.repeat(np.arange(n), weights[groups, draw])
        for label in range(3):
            rows = copies[known[copies, label]]
            if truth[rows, label].any():
                expected = average_precision_score(truth[rows, label], scores[rows, label])
                assert result[draw, label] == pytest.approx(expected, abs=1e-9)
            else:
                assert np.isnan(result[draw, label])


def test_the_size_of_what_is_worked_on_at_once_changes_nothing(monkeypatch) -> None:
    truth, known, scores, groups = sample(1, 200, n_groups=30)
    weights = resample(groups, 50, 1)
    whole = average_precisions(truth, known, scores, groups, weights)
    monkeypatch.setattr(bootstrap, "CELLS", 1)
    parts = average_precisions(truth, known, scores, groups, weights)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_one_group_tells_nothing_of_others() -> None:
    truth, known, scores, _ = sample(1, 20)
    groups = np.zeros(20, np.int64)
    weights = resample(groups, 10, 1)
    assert np.isnan(average_precisions(truth, known, scores, groups, weights)).all()
    assert np.isnan(ratios(np.ones((1, 2)), np.ones((1, 2)), weights)).all()
    assert interval(np.full(10, np.nan)) is None


def test_ratios_are_those_of_the_drawn_groups() -> None:
    weights = np.array([[2, 0], [0, 0], [1, 3]], np.uint16)
    part, whole = np.array([[1.0], [5.0], [2.0]]), np.array([[4.0], [5.0], [2.0]])
    np.testing.assert_allclose(ratios(part, whole, weights), [[4 / 10], [6 / 6]])
    nothing = ratios(np.zeros((3, 1)), np.array([[1.0], [1.0], [0.0]]), weights)
    np.testing.assert_array_equal(nothing, [[0.0], [np.nan]])


def test_an_interval_is_the_middle_of_what_there_is() -> None:
    values = np.append(np.arange(101.0), np.nan)
    assert interval(values) == pytest.approx((2.5, 97.5))


def draw(rng: np.random.Generator, n_groups: int, size: int = 4):
    """Windows of groups that are alike: some are easy and some are hard."""
    easy = np.repeat(rng.normal(1.5, 0.8, n_groups), size)
    truth = rng.random(len(easy)) < 0.3
    scores = (rng.normal(0, 1, len(easy)) + easy * truth).astype(np.float32)
    return truth, scores, np.repeat(np.arange(n_groups), size)


def test_intervals_hold_the_law_s_own_value_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    truth, scores, _ = draw(rng, 100_000)
    right = average_precision_score(truth, scores)
    held, runs = 0, 200
    for seed in range(runs):
        truth, scores, groups = draw(rng, 60)
        known = np.ones((len(truth), 1), bool)
        weights = resample(groups, 200, seed)
        values = average_precisions(truth[:, None], known, scores[:, None], groups, weights)
        low, high = interval(values[:, 0]) or (1.0, 0.0)
        held += low <= right <= high
    # 95 % are promised; percentiles of a bootstrap hold a little less.
    assert 0.87 <= held / runs <= 0.99
