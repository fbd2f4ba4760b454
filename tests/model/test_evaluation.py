import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from model.evaluation import Sample, evaluate, largest_confusions, mean_by_recording

LABELS = ("a", "b", "c")
THRESHOLDS = {"a": 0.5, "b": 0.3, "c": 0.9}


def make(scores, truth, known=None, groups=None, outputs=LABELS) -> Sample:
    truth = np.array(truth, bool)
    known = np.ones_like(truth) if known is None else np.array(known, bool)
    groups = np.arange(len(truth)) if groups is None else np.array(groups)
    return Sample(LABELS, outputs, np.array(scores, np.float32), truth, known, groups)


def random_sample(seed: int = 0, n: int = 300) -> Sample:
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 3)) < 0.3
    scores = rng.random((n, 3)) * 0.6 + 0.4 * truth * rng.random((n, 3))
    return make(scores, truth, rng.random((n, 3)) < 0.8, np.arange(n) // 10)


def single_sample(seed: int = 0, n: int = 300, outputs=LABELS) -> Sample:
    rng = np.random.default_rng(seed)
    truth = np.eye(3)[rng.choice(3, n, p=[0.7, 0.2, 0.1])]
    scores = rng.dirichlet(np.ones(len(outputs)), n)
    scores[:, :3] += 0.4 * truth
    return make(scores, truth, outputs=outputs)


def test_metrics_are_those_of_scikit_learn_on_the_windows_that_count() -> None:
    sample = random_sample()
    result = evaluate(sample, THRESHOLDS, False, 50, 1)
    means: dict[str, list[float]] = {}
    for i, each in enumerate(result.labels):
        used = sample.known[:, i]
        truth, scores = sample.truth[used, i], sample.scores[used, i]
        found = scores >= THRESHOLDS[each.label]
        expected = {
            "average_precision": average_precision_score(truth, scores),
            "roc_auc": roc_auc_score(truth, scores),
            "precision": precision_score(truth, found),
            "recall": recall_score(truth, found),
            "f1": f1_score(truth, found),
        }
        for name, value in expected.items():
            assert getattr(each, name) == pytest.approx(value), name
            means.setdefault(name, []).append(value)
        assert (each.windows, each.positives, each.reported) == (
            used.sum(),
            truth.sum(),
            found.sum(),
        )
        assert each.chance == pytest.approx(truth.mean())
        low, high = each.average_precision_interval or (1, 0)
        assert low < each.average_precision < high
    for name, values in means.items():
        assert getattr(result, name) == pytest.approx(np.mean(values))
    assert (result.windows, result.groups, result.top) == (300, 30, None)
    assert evaluate(sample, THRESHOLDS, False, 50, 1) == result
    assert evaluate(sample, THRESHOLDS, False, 50, 2) != result


def test_what_the_mask_hides_changes_nothing() -> None:
    sample = random_sample()
    other = np.where(sample.known, sample.scores, 1 - sample.scores)
    flipped = np.where(sample.known, sample.truth, ~sample.truth)
    changed = Sample(LABELS, LABELS, other, flipped, sample.known, sample.groups)
    assert evaluate(changed, THRESHOLDS, False, 20, 1) == evaluate(sample, THRESHOLDS, False, 20, 1)


def test_a_threshold_counts_as_the_score_it_is() -> None:
    # 0.7 in float32 is below 0.7.
    sample = make([[0.7, 0, 0], [0.6, 0, 0]], [[1, 0, 0], [0, 0, 0]])
    assert evaluate(sample, dict.fromkeys(LABELS, 0.7), False, 5, 1).labels[0].reported == 1


def test_labels_without_positives_or_negatives() -> None:
    sample = make([[0.6, 0.1, 0.2], [0.4, 0.8, 0.3]], [[1, 0, 0], [1, 0, 1]])
    everywhere, nowhere, silent = evaluate(sample, THRESHOLDS, False, 20, 1).labels
    assert everywhere.average_precision == everywhere.chance == everywhere.precision == 1
    assert everywhere.roc_auc is None and everywhere.recall == 0.5
    # Reported once, never there.
    assert (nowhere.positives, nowhere.reported, nowhere.precision) == (0, 1, 0)
    assert nowhere.average_precision is nowhere.average_precision_interval is nowhere.chance is None
    assert nowhere.roc_auc is nowhere.recall is nowhere.f1 is None
    # There once, never reported.
    assert silent.precision is None and silent.recall == silent.f1 == 0
    means = evaluate(sample, THRESHOLDS, False, 20, 1)
    assert means.average_precision == 1 and means.recall == 0.25 and means.precision == 1


def test_nothing_known_gives_no_metric() -> None:
    sample = make([[0.6, 0.1, 0.2]] * 4, [[1, 0, 0]] * 4, np.zeros((4, 3)))
    result = evaluate(sample, THRESHOLDS, True, 20, 1)
    assert result.average_precision is result.f1 is result.top is None
    assert all(each.windows == each.positives == each.reported == 0 for each in result.labels)
    assert all(each.precision is None for each in result.labels)


def test_one_group_has_no_interval() -> None:
    sample = single_sample()
    alone = Sample(
        LABELS, LABELS, sample.scores, sample.truth, sample.known, np.zeros(300, np.int64)
    )
    result = evaluate(alone, THRESHOLDS, True, 20, 1)
    assert result.average_precision is not None and result.average_precision_interval is None
    assert result.top is not None and result.top.accuracy_interval is None
    assert result.labels[0].average_precision_interval is None


def test_accuracies_of_the_top_label() -> None:
    sample = single_sample()
    top = evaluate(sample, THRESHOLDS, True, 200, 1).top
    assert top is not None
    truth, guess = sample.truth.argmax(axis=1), sample.scores.argmax(axis=1)
    assert top.accuracy == pytest.approx(accuracy_score(truth, guess))
    assert top.category_weighted == pytest.approx(balanced_accuracy_score(truth, guess))
    assert top.f1 == pytest.approx(f1_score(truth, guess, average="macro"))
    assert top.confusion.sum() == top.windows == 300
    assert np.trace(top.confusion) / 300 == pytest.approx(top.accuracy)
    for value, bounds in (
        (top.accuracy, top.accuracy_interval),
        (top.category_weighted, top.category_weighted_interval),
    ):
        assert bounds is not None and bounds[0] < value < bounds[1]
    # Of single windows the interval is about the binomial one.
    error = 1.96 * np.sqrt(top.accuracy * (1 - top.accuracy) / 300)
    assert top.accuracy_interval == pytest.approx(
        (top.accuracy - error, top.accuracy + error), abs=0.02
    )


def test_unweighted_and_category_weighted_differ_where_labels_do() -> None:
    # 8 of 9 windows of a, none of b: c is not in the data.
    scores = [[1, 0, 0]] * 8 + [[0, 0, 1]] + [[1, 0, 0]]
    truth = [[1, 0, 0]] * 9 + [[0, 1, 0]]
    top = evaluate(make(scores, truth), THRESHOLDS, True, 5, 1).top
    assert top is not None
    assert top.accuracy == pytest.approx(0.8)
    assert top.category_weighted == pytest.approx((8 / 9 + 0) / 2)


def test_windows_without_one_clear_label_are_not_in_the_accuracy() -> None:
    scores = np.eye(3)[[0, 1, 2, 0]]
    truth = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]]
    known = np.ones((4, 3))
    known[3, 1] = 0
    top = evaluate(make(scores, truth, known), THRESHOLDS, True, 5, 1).top
    assert top is not None and top.windows == 1 and top.accuracy == 1


def test_a_further_output_competes_and_is_never_right() -> None:
    sample = single_sample(outputs=(*LABELS, "unknown"))
    result = evaluate(sample, THRESHOLDS, True, 20, 1)
    top = result.top
    assert top is not None and top.confusion.shape == (3, 4)
    assert top.confusion[:, 3].sum() == (sample.scores.argmax(axis=1) == 3).sum() > 0
    assert top.accuracy == pytest.approx(np.trace(top.confusion[:, :3]) / 300)
    assert [each.label for each in result.labels] == list(LABELS)


def test_clips_are_the_mean_of_their_windows() -> None:
    truth = [[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
    scores = [[0.2, 0.5, 0], [0, 1, 0], [0.4, 0.5, 0], [0.9, 0.2, 0]]
    clips = mean_by_recording(make(scores, truth, groups=[5, 7, 5, 5]), np.array([3, 9, 3, 3]))
    np.testing.assert_allclose(clips.scores, [[0.5, 0.4, 0], [0, 1, 0]], atol=1e-7)
    np.testing.assert_array_equal(clips.truth, [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(clips.groups, [5, 7])


def test_the_largest_confusions() -> None:
    confusion = np.array([[9, 2, 0], [5, 1, 2]])
    assert largest_confusions(confusion, 2) == [(1, 0, 5), (0, 1, 2)]
    assert largest_confusions(confusion, 10) == [(1, 0, 5), (0, 1, 2), (1, 2, 2)]
    assert largest_confusions(np.eye(3, dtype=np.int64), 5) == []
