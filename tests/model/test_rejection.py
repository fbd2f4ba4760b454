import argparse
import io
import zipfile
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from model.bundle_document import Task
from model.errors import UserError
from model.frontend import FrontEnd, LogMel
from model.rejection import Known, Method, Rejecter, fit_rejecter
from model.rejection_options import add_rejection_options, rejection_of

METHODS: tuple[Method, ...] = get_args(Method)
BY_EMBEDDING: tuple[Method, ...] = ("distance", "openmax")
FRONT_END = FrontEnd(sample_rate=8000, window_s=0.5, n_fft=256, hop_length=64, n_mels=32)
CENTRES = 6 * np.eye(4, 5)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def single(n: int, seed: int, centres: np.ndarray = CENTRES, spread: float = 1.0) -> Known:
    """Gaussian classes around centres (c, d), scored by their nearness to the centres."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(centres)
    embeddings = centres[labels] + spread * rng.standard_normal((n, centres.shape[1]))
    distances = np.square(embeddings[:, None] - centres).sum(axis=2)
    targets = np.eye(len(centres), dtype=np.float32)[labels]
    return Known(
        softmax(-distances / 8), embeddings.astype(np.float32), targets, np.ones_like(targets)
    )


def several(n: int, seed: int) -> Known:
    """Of a multi-label task: four labels, every third window background, which is quiet."""
    known = single(n, seed, np.vstack([CENTRES, np.zeros(5)]))
    background = known.targets[:, 4] > 0.5
    excess = np.where(background, 5, 30).astype(np.float32)
    return Known(
        known.scores[:, :4], known.embeddings, known.targets[:, :4], known.mask[:, :4], excess
    )


def fitted(method: Method, task: Task = "singlelabel", share: float = 0.05) -> Rejecter:
    make = single if task == "singlelabel" else several
    return fit_rejecter(method, task, FRONT_END, make(400, 1), make(200, 2), share)


def unknown_of(rejecter: Rejecter, known: Known) -> np.ndarray:
    return rejecter.unknown(known.scores, known.embeddings, known.excess)


@pytest.mark.parametrize("method", METHODS)
def test_unknown_classes_are_told_from_known_ones(method: Method) -> None:
    rejecter = fitted(method)
    # Between two classes, so that also the scores can tell.
    strange = single(100, 4, np.array([[3.5, 3.5, 3.5, 3.5, 9]]))
    scores = softmax(-np.square(strange.embeddings[:, None] - CENTRES).sum(axis=2) / 8)
    found = rejecter.unknown(scores, strange.embeddings)
    known = unknown_of(rejecter, single(100, 3))
    truth = np.r_[np.zeros(100), np.ones(100)]
    assert roc_auc_score(truth, np.r_[known, found]) > 0.95
    assert np.mean(known >= 0.5) < 0.15 and np.mean(found >= 0.5) > 0.7


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_the_chosen_share_of_held_out_windows_is_rejected(method: Method, share: float) -> None:
    rejecter = fitted(method, share=share)
    found = unknown_of(rejecter, single(200, 2))
    assert np.sum(found >= 0.5) == round(share * 200)
    assert np.median(found[found < 0.5]) == pytest.approx(0.01, abs=1e-6)
    assert found.dtype == np.float32 and (found >= 0).all() and (found <= 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_of_few_held_out_windows_none_is_rejected(method: Method) -> None:
    held_out = single(8, 2)
    rejecter = fit_rejecter(method, "singlelabel", FRONT_END, single(400, 1), held_out)
    assert (unknown_of(rejecter, held_out) < 0.5).all()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0.3, 0.6, 0.9, 1.0]), min_size=1, max_size=60), st.floats(0.01, 0.99)
)
def test_equal_scores_stand_or_fall_together(tops: list[float], share: float) -> None:
    scores = np.array([[top, 1 - top] for top in tops], np.float32)
    targets = np.tile(np.float32([1, 0]), (len(tops), 1))
    known = Known(scores, np.zeros((len(tops), 1), np.float32), targets, np.ones_like(targets))
    rejecter = fit_rejecter("max_score", "singlelabel", FRONT_END, known, known, share)
    rejected = unknown_of(rejecter, known) >= 0.5
    lowest = [scores.max(axis=1) <= cut for cut in (-1, *sorted(set(scores.max(axis=1))))]
    allowed = [mask for mask in lowest if mask.sum() <= share * len(tops) + 1e-9]
    assert rejected.tolist() == allowed[-1].tolist()


@pytest.mark.parametrize("method", BY_EMBEDDING)
def test_unknown_grows_with_distance(method: Method) -> None:
    rejecter = fitted(method)
    away = CENTRES[0] + np.linspace(0, 20, 41)[:, None] * np.array([0, 0, 0, 0, 1])
    scores = np.tile(np.float32([0.9, 0.05, 0.03, 0.02]), (41, 1))
    found = rejecter.unknown(scores, away.astype(np.float32))
    assert (np.diff(found) >= 0).all() and found[0] < 0.1 and found[-1] > 0.7


def test_a_distance_is_measured_by_the_spread_of_its_class() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(400) % 2
    spread = np.where(labels, 3.0, 1.0)[:, None]
    embeddings = 100 * labels[:, None] + spread * rng.standard_normal((400, 4))
    targets = np.eye(2, dtype=np.float32)[labels]
    known = Known(targets, embeddings.astype(np.float32), targets, np.ones_like(targets))
    rejecter = fit_rejecter("distance", "singlelabel", FRONT_END, known, known)
    assert rejecter.spreads[1] / rejecter.spreads[0] == pytest.approx(3, rel=0.1)
    near, far = rejecter.statistic(targets[:2], np.float32([[5] * 4, [105] * 4]))
    assert near / far == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [2, 300])
def test_few_examples_or_equal_ones_fit(method: Method, n: int, size: int) -> None:
    centres = np.eye(4, size)
    for spread in (1.0, 0.0):
        training, held_out = single(n, 1, centres, spread), single(n + 1, 2, centres, spread)
        rejecter = fit_rejecter(method, "singlelabel", FRONT_END, training, held_out)
        assert (unknown_of(rejecter, held_out) < 0.5).all()
        far = np.full((1, size), 1e3, np.float32)
        found = rejecter.unknown(np.full((1, 4), 0.25, np.float32), far)
        assert np.isfinite(found).all() and (method != "distance" or found[0] > 0.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("background", [False, True])
def test_one_class_is_enough(method: Method, background: bool) -> None:
    rng = np.random.default_rng(1)
    targets = np.ones((40, 1), np.float32)
    targets[:20] -= background
    embeddings = rng.standard_normal((40, 3)).astype(np.float32) + 8 * targets
    excess = np.full(40, 30, np.float32)
    known = Known(0.1 + 0.8 * targets, embeddings, targets, np.ones_like(targets), excess)
    rejecter = fit_rejecter(method, "multilabel", FRONT_END, known, known)
    found = rejecter.unknown(np.float32([[0.9]]), np.float32([[90, -90, 0]]), np.float32([30]))
    assert len(rejecter.means) in (0, 1 + background)
    assert method != "distance" or found[0] > 0.9
    assert method != "openmax" or found[0] >= unknown_of(rejecter, known)[targets[:, 0] > 0.5].max()


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_sound_is_never_unknown_in_a_multi_label_task(method: Method) -> None:
    rejecter = fitted(method, "multilabel")
    assert rejecter.excess_db is not None
    far = np.full((3, 5), 1e4, np.float32)
    excess = np.float32([0, rejecter.excess_db - 0.01, rejecter.excess_db + 0.01])
    found = rejecter.unknown(np.full((3, 4), 1e-4, np.float32), far, excess)
    assert found[:2].tolist() == [0, 0]
    assert method != "distance" or found[2] > 0.5
    assert method == "max_score" or found[2] > 0
    windows = np.zeros((3, FRONT_END.window_samples), np.float32)
    windows[1] = 1e-3 * np.random.default_rng(3).standard_normal(windows.shape[1])
    windows[2, 1000:1400] = np.hanning(400) * np.sin(np.arange(400))
    windows[2] += windows[1]
    out = rejecter.apply(
        np.full((3, 4), 1e-4, np.float32), far, LogMel(FRONT_END)(windows), FRONT_END
    )
    assert out[:2, 4].tolist() == [0, 0] and out.shape == (3, 5)
    assert out[2, 4] == found[2]


@pytest.mark.parametrize("method", BY_EMBEDDING)
def test_background_is_among_the_known(method: Method) -> None:
    rejecter = fitted(method, "multilabel")
    noisy = replace(several(200, 3), excess=np.full(200, 40, np.float32))
    rejected = unknown_of(rejecter, noisy) >= 0.5
    assert noisy.background.sum() == 40 and len(rejecter.means) == 5
    assert rejected[noisy.background].mean() < 0.3


@pytest.mark.parametrize("method", METHODS)
def test_unclear_windows_are_no_background(method: Method) -> None:
    training = several(400, 1)
    mask = training.mask.copy()
    mask[training.background] = 0
    unclear = replace(training, mask=mask)
    assert not unclear.background.any()
    rejecter = fit_rejecter(method, "multilabel", FRONT_END, unclear, several(200, 2))
    assert len(rejecter.means) == (0 if method == "max_score" else 4)


def test_scores_of_a_single_label_task_stay_shares_and_those_of_others_stay() -> None:
    known = single(50, 5)
    spectrograms = np.zeros((50, *FRONT_END.input_shape), np.float32)
    out = fitted("distance").apply(known.scores, known.embeddings, spectrograms, FRONT_END)
    assert out.dtype == np.float32 and np.allclose(out.sum(axis=1), 1, atol=1e-6)
    assert (out.argmax(axis=1)[out[:, 4] > 0.5] == 4).all()
    out = fitted("distance", "multilabel").apply(
        known.scores, known.embeddings, spectrograms, FRONT_END
    )
    assert (out[:, :4] == known.scores).all()


@pytest.mark.parametrize("method", METHODS)
def test_windows_have_the_same_value_whatever_they_are_judged_with(method: Method) -> None:
    rejecter, known = fitted(method), single(50, 5)
    alone = [
        rejecter.unknown(known.scores[i : i + 1], known.embeddings[i : i + 1])[0] for i in range(50)
    ]
    assert alone == unknown_of(rejecter, known).tolist()
    assert rejecter.unknown(known.scores[:0], known.embeddings[:0]).shape == (0,)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", get_args(Task))
def test_a_saved_rejecter_is_the_same(method: Method, task: Task) -> None:
    rejecter = fitted(method, task)
    again = Rejecter.load(rejecter.save(), method, task, 4)
    known = several(50, 5)
    assert (unknown_of(rejecter, known) == unknown_of(again, known)).all()
    assert again.save() == rejecter.save() == fitted(method, task).save()


def tampered(content: bytes, **changes: np.ndarray | None) -> bytes:
    arrays = dict(np.load(io.BytesIO(content))) | changes
    out = io.BytesIO()
    np.savez(out, **{name: array for name, array in arrays.items() if array is not None})
    return out.getvalue()


def array_file(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def with_text(content: bytes) -> bytes:
    """With a member that is no array."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"text" if name == "means.npy" else old.read(name))
    return out.getvalue()


GOOD = fitted("openmax").save()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        GOOD[:-100],
        array_file(np.zeros(3)),
        with_text(GOOD),
        tampered(GOOD, curve=None),
        tampered(GOOD, more=np.zeros(1)),
        tampered(GOOD, curve=np.array([0.05, np.nan, 1])),
        tampered(GOOD, curve=np.array([0.05, 1, 0.0])),
        tampered(GOOD, curve=np.array([0.05, 1, 1, 9])),
        tampered(GOOD, means=np.zeros((0, 5), np.float32)),
        tampered(GOOD, means=np.zeros((4, 5))),
        tampered(GOOD, means=np.zeros((9, 5), np.float32), tails=np.ones((9, 3))),
        tampered(GOOD, means=np.full((4, 5), np.inf, np.float32)),
        tampered(GOOD, tails=np.zeros((4, 3))),
        tampered(GOOD, tails=np.ones((3, 3))),
        tampered(GOOD, columns=np.array([0, 1, 2, 4])),
        tampered(GOOD, columns=np.array([0, 1, 2, -1])),
        tampered(GOOD, curve=np.array([print, 1, 2], object)),
    ],
)
def test_a_file_that_is_no_rejecter_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match="rejecter"):
        Rejecter.load(content, "openmax", "singlelabel", 4)


def test_a_rejecter_of_another_method_or_task_is_refused() -> None:
    with pytest.raises(UserError, match="rejecter"):
        Rejecter.load(GOOD, "distance", "singlelabel", 4)
    with pytest.raises(UserError, match="curve"):
        Rejecter.load(GOOD, "openmax", "multilabel", 4)


def test_no_time_gets_into_the_file() -> None:
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_errors_say_what_may_be() -> None:
    known = single(20, 1)
    with pytest.raises(UserError, match="max_score, distance, openmax"):
        fit_rejecter("nearest", "singlelabel", FRONT_END, known, known)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="between 0 and 1"):
        fit_rejecter("distance", "singlelabel", FRONT_END, known, known, 1.0)
    broken = replace(known, embeddings=known.embeddings * np.float32(np.nan))
    with pytest.raises(UserError, match="no numbers"):
        fit_rejecter("distance", "singlelabel", FRONT_END, broken, known)


def test_options_of_the_command_line() -> None:
    parser = argparse.ArgumentParser()
    add_rejection_options(parser)
    assert rejection_of(parser.parse_args([])) == (None, 0.05)
    for method in METHODS:
        args = parser.parse_args(["--reject", method, "--reject-share", "0.1"])
        assert rejection_of(args) == (method, 0.1)
    with pytest.raises(UserError, match="between 0 and 1"):
        rejection_of(parser.parse_args(["--reject-share", "5"]))
