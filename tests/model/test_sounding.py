from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from model.frontend import FrontEnd, LogMel
from model.sounding import MARGIN_DB, excess_db, sounding_threshold
from tests.data import data_folder

FRONT_END = FrontEnd(sample_rate=16_000, window_s=3.0, hop_length=256)
LENGTH = FRONT_END.window_samples
THRESHOLD = sounding_threshold(np.zeros(0, np.float32), FRONT_END)


def noise(seed: int = 1, level: float = 0.01) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(LENGTH, np.float32)


def call(level: float, length: int = 3200, hz: float = 3000.0) -> np.ndarray:
    """A tone of a fifth of a second amid silence."""
    wave = np.zeros(LENGTH, np.float32)
    time = np.arange(length) / 16_000
    wave[20_000 : 20_000 + length] = level * np.hanning(length) * np.sin(2 * np.pi * hz * time)
    return wave


def excess(*waveforms: np.ndarray, front_end: FrontEnd = FRONT_END) -> np.ndarray:
    return excess_db(LogMel(front_end)(list(waveforms)), front_end)


def test_silence_has_no_excess() -> None:
    assert excess(np.zeros(LENGTH, np.float32)).tolist() == [0]
    assert excess(np.full(LENGTH, 0.25, np.float32))[0] < THRESHOLD


@pytest.mark.parametrize("level", [1e-5, 0.01, 1.0])
def test_steady_noise_does_not_sound_and_a_call_in_it_does(level: float) -> None:
    quiet, loud = excess(noise(level=level), noise(level=level) + call(3 * level))
    assert quiet < THRESHOLD - 1 and loud > THRESHOLD


def test_steady_noise_is_below_the_threshold_by_its_margin() -> None:
    found = excess(*(noise(seed) for seed in range(100)))
    assert 0.01 <= np.mean(found >= THRESHOLD - MARGIN_DB) <= 0.12
    assert (found < THRESHOLD).all()


def test_a_steady_hum_does_not_sound_though_windows_cut_it() -> None:
    time = np.arange(LENGTH) / 16_000
    hum = (0.5 * np.sin(2 * np.pi * 93.7 * time + 0.3)).astype(np.float32)
    assert excess(hum + noise(level=1e-4))[0] < THRESHOLD


@pytest.mark.parametrize("filled", [0.05, 0.3, 0.7, 0.95])
def test_padding_and_gaps_do_not_make_noise_sound(filled: float) -> None:
    padded, gap = noise(3), noise(4)
    padded[round(filled * LENGTH) :] = 0
    gap[round(0.4 * LENGTH) : round((0.4 + 0.5 * filled) * LENGTH)] = 0
    assert (excess(padded, gap) < THRESHOLD).all()


def test_the_reference_does_not_matter_and_windows_stand_alone() -> None:
    waves = [noise(i) + call(0.05 * i) for i in range(3)]
    absolute = replace(FRONT_END, db_ref=1.0)
    together = excess(*waves)
    assert np.allclose(together, excess(*waves, front_end=absolute), atol=1e-4)
    assert [excess(wave)[0] for wave in waves] == together.tolist()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.02, 0.2), st.floats(1.2, 5.0))
def test_a_louder_call_has_more_excess(level: float, factor: float) -> None:
    less, more = excess(noise() + call(level), noise() + call(level * factor))
    assert less <= more


def test_few_windows_of_a_quiet_background_sound_whatever_the_others_hold() -> None:
    rng = np.random.default_rng(1)
    quiet = rng.normal(20, 2, 4000).astype(np.float32)
    threshold = sounding_threshold(quiet, FRONT_END)
    assert np.mean(quiet >= threshold) == pytest.approx(0.05, abs=0.02)
    # Half of the windows with sounds that nobody labelled.
    busy = np.concatenate([quiet, rng.normal(40, 5, 4000).astype(np.float32)])
    assert np.mean(quiet >= sounding_threshold(busy, FRONT_END)) < 0.05
    assert sounding_threshold(busy, FRONT_END) < 27
    assert sounding_threshold(quiet - 20, FRONT_END) == THRESHOLD
    assert sounding_threshold(quiet[:1] * 0 + 20, FRONT_END) == pytest.approx(20)


def test_calls_of_finches_sound_in_a_real_night_and_its_quiet_windows_do_not() -> None:
    night = [
        samples[at : at + LENGTH]
        for path in sorted(data_folder("s4a").glob("*_0[01]*.flac"))
        for samples in [_resampled(path)]
        for at in (0, LENGTH, 2 * LENGTH)
    ]
    song = _resampled(min((data_folder("finch") / "gy6or6").glob("*.flac")))
    loudest = int(np.abs(song).argmax())
    syllable = song[max(0, loudest - 1600) : loudest + 1600]
    mixed = []
    for window in night:
        gain = np.sqrt(np.mean(window**2) / np.mean(syllable**2))
        mixed.append(window.copy())
        mixed[-1][20_000 : 20_000 + len(syllable)] += gain * syllable
    threshold = sounding_threshold(excess(*night), FRONT_END)
    assert np.median(excess(*night)) < THRESHOLD
    assert np.mean(excess(*night) >= threshold) <= 0.1
    assert np.mean(excess(*mixed) >= threshold) >= 0.9


def _resampled(path: object) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32")
    return soxr.resample(samples, rate, 16_000).astype(np.float32)
