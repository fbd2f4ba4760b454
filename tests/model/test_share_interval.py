import numpy as np
import pytest
from scipy.stats import binomtest

from model.share_interval import share_interval


def interval(
    right: list[int] | np.ndarray,
    units: list[int] | np.ndarray | None = None,
    weights: list[float] | np.ndarray | None = None,
    strata: list[int] | np.ndarray | None = None,
) -> tuple[float, float]:
    n = len(right)
    return share_interval(
        np.array(right, bool),
        np.ones(n) if weights is None else np.array(weights, float),
        np.arange(n) if units is None else np.array(units),
        np.zeros(n, int) if strata is None else np.array(strata),
    )


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 10), (99, 100)])
def test_independent_windows_have_the_exact_interval_of_a_share(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert interval([1] * k + [0] * (n - k)) == pytest.approx((expected.low, expected.high))


def test_weights_that_are_equal_do_not_count() -> None:
    assert interval([1, 0, 1, 1], weights=[7.0] * 4) == pytest.approx(interval([1, 0, 1, 1]))


def test_windows_of_one_group_tell_as_much_as_one_window() -> None:
    right = [1] * 40
    assert interval(right, units=[0] * 40) == pytest.approx(interval([1]))
    assert interval(right, units=[0, 1, 2, 3] * 10) == pytest.approx(interval([1] * 4))
    low, high = interval([1] * 30 + [0] * 10, units=[0] * 40)
    assert low < 0.05 and high > 0.95


def test_groups_that_are_alike_tell_no_more_than_their_windows() -> None:
    assert interval([1, 0] * 10, units=np.repeat(np.arange(10), 2)) == pytest.approx(
        interval([1, 0] * 10)
    )


def test_groups_that_differ_make_the_interval_wider() -> None:
    groups = np.repeat(np.arange(10), 10)
    right = np.repeat([1] * 8 + [0] * 2, 10)
    low, high = interval(right, units=groups)
    # As ten windows, of which eight are right, and a little wider: their variance is estimated.
    as_ten, as_seven = interval([1] * 8 + [0] * 2), interval([1] * 5 + [0] * 2)
    assert as_seven[0] < low < as_ten[0] < as_ten[1] < high < 1
    assert interval(right)[0] > as_ten[0]


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    # A bootstrap of the same groups held it in 0.67 to 0.94 of such cases.
    rng, held, tries = np.random.default_rng(0), 0, 300
    for _ in range(tries):
        groups = np.repeat(np.arange(15), 4)
        share = rng.beta(0.9 * 3, 0.1 * 3, 15)
        low, high = interval(rng.random(60) < share[groups], units=groups)
        held += low <= 0.9 <= high
    assert held / tries >= 0.92


def test_strata_count_by_their_weights() -> None:
    # 9 of 10 checks are from the part with one detection in ten.
    right, strata = [1] * 90 + [0] * 10, [0] * 90 + [1] * 10
    weights = [1.0] * 90 + [81.0] * 10
    low, high = interval(right, weights=weights, strata=strata)
    assert low <= 0.1 <= high
    # A stratum of a single one has no variance of its own; it still gives an interval.
    low, high = interval([1, 0, 1], weights=[1, 5, 1], strata=[0, 1, 0])
    assert 0 <= low < 2 / 7 < high <= 1
