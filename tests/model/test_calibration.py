import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from model.calibration import Calibrator, check_method, fit_calibrator
from model.errors import UserError
from model.reliability import cross_calibrate, describe_reliability, reliability

LABELS = ["a", "b"]
SCORES = st.floats(0, 1, width=32)


def fit(method: Any, truth: Any, scores: Any, mask: Any = None) -> Calibrator:
    """A calibrator of one label."""
    targets = np.array(truth, np.float32)[:, None]
    known = np.ones_like(targets) if mask is None else np.array(mask, np.float32)[:, None]
    given_scores = np.array(scores, np.float32)[:, None]
    return fit_calibrator(targets, known, given_scores, ["a"], "multilabel", method)


def overconfident(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Targets, true shares and scores (n, 2) whose logits are three times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1, (n, 2))
    shares = 1 / (1 + np.exp(-logits))
    targets = (rng.random((n, 2)) < shares).astype(np.float32)
    return targets, shares, (1 / (1 + np.exp(-3 * logits - 1))).astype(np.float32)


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@settings(deadline=None)  # The first example imports scikit-learn or scipy.
@given(
    pairs=st.lists(st.tuples(st.booleans(), SCORES), min_size=1, max_size=20),
    new=st.lists(SCORES, min_size=1, max_size=10),
)
def test_a_calibrator_is_monotone_within_0_and_1(method: str, pairs: Any, new: Any) -> None:
    calibrate = fit(method, *zip(*pairs, strict=True))
    found = calibrate(np.array(sorted(new), np.float32)[:, None])
    assert found.dtype == np.float32 and found.shape == (len(new), 1)
    assert (np.diff(found[:, 0]) >= 0).all() and (found >= 0).all() and (found <= 1).all()


@settings(deadline=None)  # The first example imports scikit-learn or scipy.
@given(st.lists(st.tuples(st.booleans(), SCORES), min_size=2, max_size=30))
def test_isotonic_never_worsens_the_loss_on_what_it_saw(pairs: Any) -> None:
    truth, scores = (np.array(x) for x in zip(*pairs, strict=True))
    if truth.all() or not truth.any():
        return
    scores = scores.astype(np.float32)
    found = fit("isotonic", truth, scores)(scores[:, None])[:, 0].astype(np.float64)
    before = log_loss(truth, scores.astype(np.float64), labels=[False, True])
    assert log_loss(truth, found, labels=[False, True]) <= before + 1e-5


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_scores_become_shares(method: Any) -> None:
    targets, _, scores = overconfident(4000)
    mask = np.ones_like(targets)
    calibrate = fit_calibrator(targets, mask, scores, LABELS, "multilabel", method)
    new, new_shares, new_scores = overconfident(4000, seed=1)
    found = calibrate(new_scores)
    assert np.abs(new_scores - new_shares).mean() > 0.1
    assert np.abs(found - new_shares).mean() < 0.03
    before = describe_reliability(new, mask, new_scores, LABELS)
    after = describe_reliability(new, mask, found, LABELS)
    for label in LABELS:
        assert after[label]["error"] < 0.03 < 0.1 < before[label]["error"]
    assert calibrate.prevalence == pytest.approx(targets.mean(axis=0))


def test_platt_finds_the_line_that_made_the_scores() -> None:
    targets, _, scores = overconfident(20000)
    calibrate = fit_calibrator(
        targets, np.ones_like(targets), scores, LABELS, "multilabel", "platt"
    )
    # Their logits are 3 x the true one + 1.
    assert calibrate.slopes == pytest.approx([1 / 3] * 2, abs=0.02)
    assert calibrate.offsets == pytest.approx([-1 / 3] * 2, abs=0.05)


def test_a_temperature_keeps_the_top_label_and_the_sum() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (3000, 3))
    shares = softmax(logits)
    targets = np.eye(3, dtype=np.float32)[[rng.choice(3, p=p) for p in shares]]
    scores = softmax(2 * logits).astype(np.float32)
    calibrate = fit_calibrator(
        targets, np.ones_like(targets), scores, ["a", "b", "c"], "singlelabel", "temperature"
    )
    assert 1 / calibrate.slopes[0] == pytest.approx(2, abs=0.1)
    found = calibrate(scores)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.argmax(axis=1), scores.argmax(axis=1))
    np.testing.assert_allclose(found, shares, atol=0.05)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], [1], [0]])
def test_a_label_without_both_kinds_keeps_its_scores(method: str, truth: list[int]) -> None:
    scores = np.linspace(0.1, 0.9, len(truth)).astype(np.float32)
    calibrate = fit(method, truth, scores)
    np.testing.assert_allclose(calibrate(scores[:, None])[:, 0], scores, rtol=1e-6)
    assert calibrate.prevalence == (None,)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_scores_that_tell_nothing_become_the_share(method: str) -> None:
    tied = fit(method, [1, 0, 0, 0] * 50, [0.7] * 200)
    assert tied(np.array([[0.1], [0.9]], np.float32)) == pytest.approx(0.25, abs=0.01)
    reverse = fit(method, [0] * 60 + [1] * 20, np.linspace(0.9, 0.1, 80)[::-1][::-1])
    assert reverse(np.array([[0.1], [0.9]], np.float32)) == pytest.approx(0.25, abs=0.02)


def test_scores_that_tell_all_do_not_become_certain() -> None:
    found = fit("platt", [0] * 10 + [1] * 10, [0.0] * 10 + [1.0] * 10)(
        np.array([[0.0], [1.0]], np.float32)
    )
    # Platt's targets: 1 / 12 and 11 / 12.
    assert found[:, 0] == pytest.approx([1 / 12, 11 / 12], abs=1e-3)


def test_what_is_masked_does_not_count() -> None:
    truth, scores, mask = [0, 1, 1, 0, 1], [0.2, 0.4, 0.6, 0.7, 0.1], [1, 1, 1, 1, 0]
    for method in ("platt", "isotonic"):
        assert fit(method, truth, scores, mask) == fit(method, truth[:4], scores[:4])


@pytest.mark.parametrize(
    ("method", "task"),
    [("platt", "singlelabel"), ("isotonic", "singlelabel"), ("temperature", "multilabel")],
)
def test_a_method_that_does_not_fit_the_task_is_refused(method: str, task: Any) -> None:
    with pytest.raises(UserError, match="does not fit"):
        check_method(method, task)


def examples() -> dict[str, Calibrator]:
    targets, _, scores = overconfident(50)
    mask = np.ones_like(targets)
    found = {
        method: fit_calibrator(targets, mask, scores, LABELS, "multilabel", method)
        for method in ("platt", "isotonic")
    }
    one = np.eye(2, dtype=np.float32)[targets[:, 0].astype(int)]
    sums = scores / scores.sum(axis=1, keepdims=True)
    found["temperature"] = fit_calibrator(one, mask, sums, LABELS, "singlelabel", "temperature")
    return found


@pytest.mark.parametrize("method", ["platt", "isotonic", "temperature"])
def test_a_calibrator_is_what_was_written_and_gives_equal_bits_in_any_batch(method: str) -> None:
    made = examples()[method]
    document = json.loads(json.dumps(made.to_json()))
    task = "singlelabel" if method == "temperature" else "multilabel"
    loaded = Calibrator.from_json(document, LABELS, task)
    assert loaded == made
    scores = np.random.default_rng(0).random((33, 2)).astype(np.float32)
    together = made(scores)
    np.testing.assert_array_equal(loaded(scores), together)
    for n in range(33):
        np.testing.assert_array_equal(made(scores[n : n + 1]), together[n : n + 1])
    assert made(scores[:0]).shape == (0, 2)
    # Another order of labels in the file is the same calibrator.
    document["labels"] = dict(reversed(document["labels"].items()))
    assert Calibrator.from_json(document, LABELS, task) == made


@pytest.mark.parametrize(
    ("method", "of_a", "message"),
    [
        ("platt", {"slope": -1}, "monotone"),
        ("platt", {"slope": "1"}, "monotone"),
        ("platt", {"slope": 10**400}, "monotone"),
        ("platt", {"offset": None}, "monotone"),
        ("platt", {"prevalence": 2}, "prevalence"),
        ("platt", {"scores": [0, 1]}, "not whole for a"),
        ("isotonic", {"scores": [0.5, 0.5], "shares": [0, 1]}, "monotone"),
        ("isotonic", {"scores": [0, 1], "shares": [1, 0]}, "monotone"),
        ("isotonic", {"scores": [0, 1], "shares": [0, 2]}, "monotone"),
        ("isotonic", {"scores": [0, 1], "shares": [0]}, "monotone"),
        ("isotonic", {"scores": [], "shares": []}, "monotone"),
        ("temperature", {"slope": 9}, "temperature"),
    ],
)
def test_a_calibrator_that_cannot_be_is_refused(method: str, of_a: dict, message: str) -> None:
    document = examples()[method].to_json()
    document["labels"]["a"] |= of_a
    with pytest.raises(UserError, match=message):
        Calibrator.from_json(
            document, LABELS, "singlelabel" if method == "temperature" else "multilabel"
        )


def test_a_calibrator_of_another_model_is_refused() -> None:
    document = examples()["platt"].to_json()
    for wrong, message in (
        ({**document, "method": "beta"}, "unknown method"),
        ({**document, "more": 1}, "whole"),
        ({"method": "platt"}, "whole"),
    ):
        with pytest.raises(UserError, match=message):
            Calibrator.from_json(wrong, LABELS, "multilabel")
    with pytest.raises(UserError, match="labels"):
        Calibrator.from_json(document, ["a", "c"], "multilabel")
    with pytest.raises(UserError, match="does not fit"):
        Calibrator.from_json(document, LABELS, "singlelabel")


def test_reliability_of_a_hand_made_case() -> None:
    truth = np.array([0, 1, 0, 1, 1], bool)
    scores = np.array([0.1, 0.3, 0.6, 0.9, 1.0], np.float32)
    found = reliability(truth, scores, bins=2)
    assert found.counts == (2, 3)
    assert found.mean_scores == pytest.approx((0.2, 2.5 / 3))
    assert found.shares == pytest.approx((0.5, 2 / 3))
    assert found.error == pytest.approx(2 / 5 * 0.3 + 3 / 5 * 0.5 / 3)
    nothing = reliability(np.zeros(0, bool), np.zeros(0, np.float32), bins=2)
    assert nothing.error is None and nothing.shares == (None, None)


def test_cross_calibration_does_not_see_a_window_s_group() -> None:
    # What one group says of scores is the reverse of the others': nothing can be learnt.
    targets = np.array([[0], [1], [1], [0]], np.float32)
    scores = np.array([[0.2], [0.8], [0.2], [0.8]], np.float32)
    mask = np.ones_like(targets)
    found = cross_calibrate(targets, mask, scores, ["a"], [1, 1, 2, 2], "multilabel", "isotonic")
    assert found is not None
    np.testing.assert_allclose(found[:, 0], [0.5, 0.5, 0, 1], atol=1e-6)
    assert cross_calibrate(targets, mask, scores, ["a"], [1] * 4, "multilabel", "platt") is None


def test_a_bundle_scores_through_its_calibrator(tmp_path: Path) -> None:
    from dataclasses import replace

    from model.scorer import Scorer
    from tests.pipeline.archive import tiny_bundle

    bundle = tiny_bundle(tmp_path / "b")
    line = Calibrator("platt", bundle.labels, (0.1,) * 3, (0.5, 1.0, 2.0), (-1.0, 0.0, 1.0))
    plain, through = Scorer(bundle), Scorer(replace(bundle, calibrator=line))
    waveforms = np.random.default_rng(0).normal(size=(3, 8000)).astype(np.float32)
    np.testing.assert_array_equal(through(waveforms), line(plain(waveforms)))
