import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.loss import label_weights, make_loss
from model.metrics import (
    average_precision,
    best_threshold,
    best_thresholds,
    chance_precision,
    macro,
    top_accuracy,
)


def column(*values: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array(values, np.float32)[:, None]


def test_average_precision_ignores_what_is_masked() -> None:
    truth, scores = column(1, 0, 1, 0), column(0.9, 0.8, 0.7, 0.1)
    # Positives at ranks 1 and 3: (1/1 + 2/3) / 2.
    assert average_precision(truth, column(1, 1, 1, 1), scores, ["a"]) == {
        "a": pytest.approx(5 / 6)
    }
    assert average_precision(truth, column(1, 0, 1, 1), scores, ["a"]) == {"a": 1}
    assert average_precision(truth, column(0, 1, 0, 1), scores, ["a"]) == {"a": None}


def test_chance_is_the_share_of_positives() -> None:
    assert chance_precision(column(1, 0, 0, 1), column(1, 1, 1, 0), ["a"]) == {
        "a": pytest.approx(1 / 3)
    }
    assert chance_precision(column(0, 0), column(1, 1), ["a"]) == {"a": None}


def test_macro_is_over_labels_with_a_value() -> None:
    assert macro({"a": 0.5, "b": None, "c": 1.0}) == 0.75
    assert macro({"a": None}) is None


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
        # No positive or no negative window: nothing to choose by.
        ([0, 0], [0.9, 0.2], 0.5),
        ([1, 1], [0.9, 0.2], 0.5),
    ],
)
def test_the_best_threshold(truth: list[int], scores: list[float], expected: float) -> None:
    found = best_threshold(np.array(truth, bool), np.array(scores, np.float32))
    assert found == pytest.approx(expected, abs=1e-6)


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(10, 95).map(lambda n: n / 100)),
        min_size=2,
        max_size=12,
    )
)
def test_no_threshold_is_better(pairs: list[tuple[bool, float]]) -> None:
    truth = np.array([t for t, _ in pairs])
    scores = np.array([s for _, s in pairs], np.float32)
    if not truth.any() or truth.all():
        return

    def f1(threshold: float) -> float:
        called = scores >= threshold
        return float(2 * (truth & called).sum() / (truth.sum() + called.sum()))

    assert f1(best_threshold(truth, scores)) >= max(f1(float(s)) for s in scores) - 1e-9


def test_thresholds_ignore_what_is_masked() -> None:
    truth, scores = column(1, 1, 0, 0), column(0.8, 0.6, 0.7, 0.2)
    assert best_thresholds(truth, column(1, 1, 0, 1), scores, ["a"])["a"] == pytest.approx(0.4)


def test_accuracy_of_the_top_label() -> None:
    targets = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    scores = np.array([[0.6, 0.4], [0.4, 0.6], [0.9, 0.1]], np.float32)
    assert top_accuracy(targets, scores) == pytest.approx(2 / 3)


def test_weights_of_rare_labels() -> None:
    targets = np.zeros((100, 3), np.float32)
    targets[:80, 0] = targets[:20, 1] = targets[:2, 2] = 1
    mask = np.ones_like(targets)
    mask[20:40, 1] = 0
    # 20 negatives by 80; (100 - 20 masked - 20) by 20; 98 by 2, limited.
    np.testing.assert_array_equal(label_weights(targets, mask, "multilabel"), [1, 3, 10])
    np.testing.assert_array_equal(label_weights(targets, mask * 0 + 1, "singlelabel"), [1, 4, 10])


def test_the_multilabel_loss() -> None:
    loss = make_loss("multilabel", np.array([3, 1], np.float32))
    targets, mask = np.array([[1, 0]], np.float32), np.ones((1, 2), np.float32)
    logits = np.array([[0.5, -1.0]], np.float32)
    total, weight = loss(targets, mask, logits)
    expected = 3 * np.log1p(np.exp(-0.5)) + np.log1p(np.exp(-1.0))
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert float(weight) == 2
    total, weight = loss(targets, np.array([[1, 0]], np.float32), logits)
    assert float(total) == pytest.approx(3 * np.log1p(np.exp(-0.5)), rel=1e-5)
    assert float(weight) == 1


def test_the_singlelabel_loss() -> None:
    loss = make_loss("singlelabel", np.array([3, 1], np.float32))
    targets = np.array([[1, 0], [0, 1]], np.float32)
    logits = np.array([[0.0, 0.0], [0.0, 0.0]], np.float32)
    total, weight = loss(targets, np.ones_like(targets), logits)
    assert float(total) == pytest.approx(4 * np.log(2), rel=1e-5)
    assert float(weight) == 4
