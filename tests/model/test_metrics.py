import numpy as np
import pytest

from model.loss import label_weights, make_loss
from model.metrics import (
    average_precision,
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
