import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.augmentation import Augmentation, Masks, augment, reference
from model.augmentation_options import add_augmentation_options, augmentation_of
from model.errors import UserError
from model.frontend import FrontEnd, LogMel

FRONT_END = FrontEnd(
    sample_rate=8_000, window_s=0.5, n_fft=256, hop_length=100, n_mels=32, top_db=None, db_ref=1.0
)
N = 6
NONE = Augmentation.none()


@pytest.fixture(scope="module")
def levels() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Six windows, each a tone of its own in noise, of very different loudness."""
    time = np.arange(FRONT_END.window_samples) / FRONT_END.sample_rate
    rng = np.random.default_rng(1)
    tones = [np.sin(2 * np.pi * 500 * (i + 1) * time) for i in range(N)]
    waves = [(x + 0.01 * rng.normal(size=len(x))) * 10.0 ** (-i / 2) for i, x in enumerate(tones)]
    return LogMel(FRONT_END).levels(np.array(waves, np.float32))


def run(
    levels: Any, augmentation: Augmentation, task: Any = "multilabel", seed: int = 1, **more: Any
) -> tuple[Any, Any, Any]:
    count = len(levels)
    targets = more.pop("targets", np.eye(N, dtype=np.float32)[:count])
    mask = more.pop("mask", np.ones((count, targets.shape[1]), np.float32))
    found = augment(
        levels, targets, mask, np.array([seed, 0], np.int32), augmentation, FRONT_END, task, **more
    )
    return tuple(np.asarray(x) for x in found)  # type: ignore[return-value]


def power(levels: Any) -> Any:
    return 10 ** (np.asarray(levels, np.float64) / 10)


@pytest.mark.parametrize("db_ref", ["max", 2e-5])
@pytest.mark.parametrize("top_db", [None, 30.0])
def test_the_reference_is_the_front_ends(levels: Any, db_ref: Any, top_db: float | None) -> None:
    front_end = replace(FRONT_END, db_ref=db_ref, top_db=top_db)
    expected = LogMel(front_end).referenced(levels.copy())
    np.testing.assert_allclose(reference(levels, front_end), expected, atol=1e-4)


def test_none_changes_nothing(levels: Any) -> None:
    found, targets, mask = run(levels, NONE)
    np.testing.assert_allclose(found, levels, atol=1e-5)
    assert (targets == np.eye(N)).all() and (mask == 1).all()


@pytest.mark.parametrize(
    "one",
    [
        replace(NONE, time_shift=1.0),
        replace(NONE, noise=1.0, noise_snr=(0, 20)),
        replace(NONE, time_masks=Masks(2, 0.3)),
        replace(NONE, frequency_masks=Masks(2, 0.3)),
        replace(NONE, gain=10.0),
    ],
)
def test_all_but_mixing_leave_labels_alone(levels: Any, one: Augmentation) -> None:
    mask = np.ones((N, N), np.float32)
    mask[0, 3] = 0
    found, targets, changed = run(levels, one, mask=mask)
    assert (targets == np.eye(N)).all() and (changed == mask).all()
    assert not np.allclose(found, levels, atol=1e-3)
    assert np.isfinite(found).all()


def test_a_shift_is_a_rotation_of_the_frames(levels: Any) -> None:
    found, _, _ = run(levels, replace(NONE, time_shift=1.0))
    by = []
    for before, after in zip(levels, found, strict=True):
        turned = [np.allclose(np.roll(before, k, 1), after) for k in range(before.shape[1])]
        assert sum(turned) == 1
        by.append(turned.index(True))
    assert len(set(by)) > 1
    reach, small = round(0.25 * levels.shape[2]), []
    for seed in range(8):
        found, _, _ = run(levels, replace(NONE, time_shift=0.25), seed=seed)
        for before, after in zip(levels, found, strict=True):
            shifts = range(-reach, reach + 1)
            small.append([np.allclose(np.roll(before, k, 1), after) for k in shifts].index(True))
    # To either side, nearly as far as it may.
    assert min(small) < 0.2 * reach and max(small) > 1.8 * reach


@given(st.integers(0, 2**31 - 1), st.floats(-10, 30))
@settings(max_examples=20, deadline=None)
def test_noise_has_the_ratio_asked_for(levels: Any, seed: int, snr: float) -> None:
    noisy, _, _ = run(levels, replace(NONE, noise=1.0, noise_snr=(snr, snr)), seed=seed)
    signal = power(levels).mean(axis=(1, 2))
    added = (power(noisy) - power(levels)).mean(axis=(1, 2))
    np.testing.assert_allclose(10 * np.log10(signal / added), snr, atol=0.2)


def test_backgrounds_are_what_is_added(levels: Any) -> None:
    backgrounds = np.full_like(levels, -100)
    backgrounds[:, 20] = 0
    noisy, _, _ = run(levels, replace(NONE, noise=1.0, noise_snr=(0, 0)), backgrounds=backgrounds)
    added = power(noisy) - power(levels)
    assert (added[:, 20].sum(axis=1) > 0.99 * added.sum(axis=(1, 2))).all()


def test_mixed_windows_hold_the_labels_of_both(levels: Any) -> None:
    found, targets, mask = run(levels, replace(NONE, mixup=1.0))
    assert (mask == 1).all()
    for i in range(N):
        labels = np.flatnonzero(targets[i])
        assert i in labels and len(labels) <= 2
        # In each label's loudest band there is sound within 8 dB of the window's loudest.
        bands = found[i].mean(axis=1)
        for label in labels:
            assert bands[levels[label].mean(axis=1).argmax()] > bands.max() - 8
        # As loud as it was.
        assert 10 * np.log10(power(found[i]).mean() / power(levels[i]).mean()) == pytest.approx(
            0, abs=0.1
        )


def test_what_is_unclear_in_one_of_two_sounds_stays_so(levels: Any) -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    mask = np.array([[1, 0, 1], [1, 1, 0]], np.float32)
    for seed in range(9):
        _, mixed, changed = run(
            levels[:2], replace(NONE, mixup=1.0), targets=targets, mask=mask, seed=seed
        )
        if mixed.sum() == 4:  # each with the other
            break
    assert (mixed == [[1, 1, 0], [1, 1, 0]]).all()
    assert (changed == [[1, 1, 0], [1, 1, 0]]).all()


def test_mixed_single_label_windows_hold_shares(levels: Any) -> None:
    found, targets, _ = run(levels, replace(NONE, mixup=1.0), "singlelabel")
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert (targets.max(axis=1) < 1).any()
    for i in range(N):
        two = np.flatnonzero(targets[i])
        if len(two) == 2:
            bands = power(found[i]).mean(axis=1)
            loud = [bands[levels[label].mean(axis=1).argmax()] for label in two]
            assert (loud[0] > loud[1]) == (targets[i, two[0]] > targets[i, two[1]])


def test_masks_hide_as_much_as_they_may(levels: Any) -> None:
    one = replace(NONE, time_masks=Masks(2, 0.3), frequency_masks=Masks(1, 0.5))
    found, _, _ = run(levels, one)
    hidden = np.isclose(found, levels.mean(axis=(1, 2), keepdims=True), atol=1e-3)
    assert 0 < hidden.all(axis=1).mean() < 0.6 + 2 / levels.shape[2]
    assert 0 < hidden.all(axis=2).mean() < 0.5 + 2 / levels.shape[1]
    visible = ~hidden.all(axis=1, keepdims=True) & ~hidden.all(axis=2, keepdims=True)
    np.testing.assert_allclose(found[visible & ~hidden], levels[visible & ~hidden], atol=1e-4)


def test_the_gain_is_smooth_and_bounded(levels: Any) -> None:
    found, _, _ = run(levels, replace(NONE, gain=6.0))
    change = found - levels
    assert np.abs(change).max() <= 6.001
    assert np.ptp(change, axis=2).max() < 1e-3
    assert np.abs(np.diff(change, axis=1)).max() < 12 / 4


@given(st.integers(0, 2**31 - 2))
@example(2**31 - 2)
@settings(max_examples=10, deadline=None)
def test_a_seed_gives_the_same_batch_and_all_of_it_is_finite(levels: Any, seed: int) -> None:
    silent = np.concatenate([levels, np.full_like(levels[:1], -100)])
    targets = np.eye(N + 1, dtype=np.float32)
    first = run(silent, Augmentation(), targets=targets, seed=seed)
    second = run(silent, Augmentation(), targets=targets, seed=seed)
    for a, b in zip(first, second, strict=True):
        assert np.isfinite(a).all() and (a == b).all()
    other = run(silent, Augmentation(), targets=targets, seed=seed + 1)
    assert not (first[0] == other[0]).all()


@st.composite
def any_augmentation(draw: Any) -> Augmentation:
    share, masks = st.floats(0, 1), st.builds(Masks, st.integers(0, 3), st.floats(0, 0.99))
    low = draw(st.floats(-100, 100))
    return Augmentation(
        time_shift=draw(share),
        mixup=draw(share),
        noise=draw(share),
        noise_snr=(low, draw(st.floats(low, 100))),
        time_masks=draw(masks),
        frequency_masks=draw(masks),
        gain=draw(st.floats(0, 60)),
    )


@given(
    any_augmentation(),
    st.lists(st.sampled_from([-100.0, -60.0, 0.0, 60.0]), min_size=1, max_size=4),
    st.sampled_from(["multilabel", "singlelabel"]),
    st.booleans(),
    st.integers(0, 2**31 - 1),
)
@settings(max_examples=40, deadline=None)
def test_whatever_is_drawn_is_finite_and_its_labels_hold(
    one: Augmentation, loudness: list[float], task: Any, silent: bool, seed: int
) -> None:
    """Digital silence (flat at amin) and full scale, batches of one, backgrounds of silence."""
    count = len(loudness)
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 6, (count, *FRONT_END.input_shape)) + np.array(loudness)[:, None, None]
    batch = np.maximum(np.where(np.array(loudness)[:, None, None] > -100, noise, -100), -100)
    targets = np.eye(N, dtype=np.float32)[rng.integers(N, size=count)]
    mask = np.maximum(rng.integers(0, 2, targets.shape), targets).astype(np.float32)
    backgrounds = np.full_like(batch, -100, np.float32) if silent else None
    found, changed, clear = run(
        batch.astype(np.float32),
        one,
        task,
        seed,
        targets=targets,
        mask=mask,
        backgrounds=backgrounds,
    )
    assert found.dtype == np.float32 and np.isfinite(found.astype(np.float16)).all()
    assert found.min() >= -100.01  # the front end gives no less
    assert (changed >= 0).all() and (changed <= 1).all()
    if task == "singlelabel":
        np.testing.assert_allclose(changed.sum(axis=1), 1, atol=1e-6)
    else:
        # No label is lost, none is invented, and none that is present is masked.
        assert (changed >= targets).all() and (changed <= targets.max(axis=0)).all()
        assert (clear >= changed).all() and set(np.unique(clear)) <= {0, 1}


def test_the_data_pipeline_gives_what_a_call_gives(levels: Any) -> None:
    import tensorflow as tf

    targets, mask = np.eye(N, dtype=np.float32), np.ones((N, N), np.float32)

    def change(index: Any) -> Any:
        seed = tf.stack([tf.constant(1), tf.cast(index, tf.int32)])
        return augment(levels, targets, mask, seed, Augmentation(), FRONT_END, "multilabel")

    batches = list(tf.data.Dataset.range(2).map(change))
    expected = run(levels, Augmentation())
    for one, other in zip(batches[0], expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    assert not np.allclose(batches[1][0], expected[0])


def test_a_batch_of_one(levels: Any) -> None:
    found, targets, _ = run(levels[:1], Augmentation(mixup=1.0))
    assert found.shape == levels[:1].shape and (targets == np.eye(N)[:1]).all()


def parse(*arguments: str) -> Augmentation:
    parser = argparse.ArgumentParser()
    add_augmentation_options(parser)
    return augmentation_of(parser.parse_args(arguments))


def test_options_change_what_they_name_alone() -> None:
    assert parse() == Augmentation()
    assert parse("--no-augmentation") == NONE
    assert parse("--mixup", "0", "--time-masks", "1,0.2") == Augmentation(
        mixup=0.0, time_masks=Masks(1, 0.2)
    )
    alone = parse("--no-augmentation", "--noise", "0.5")
    assert alone == replace(NONE, noise=0.5, noise_snr=Augmentation().noise_snr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mixup", "2"], "mixup is 2.0; it must be from 0 to 1"),
        (["--time-shift", "nan"], "time shift is nan"),
        (["--noise-snr", "9,3"], "noise SNR is 9,3"),
        (["--time-masks", "2,1"], "time masks is 2,1"),
        (["--gain", "-1"], "gain is -1"),
        (["--no-augmentation", "--background", "x"], "give a --noise above 0"),
        (["--noise", "0", "--background", "harvest"], "give a --noise above 0"),
    ],
)
def test_values_out_of_range(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(*arguments)
