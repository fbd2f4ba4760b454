import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.audio import read_windows
from model.frontend import FrontEnd, LogMel
from model.separation import MARGIN, quiet_columns
from model.windows import WindowRule
from tests.data import data_folder

FRONT_END = FrontEnd(sample_rate=16_000, window_s=4.0)
FLOOR = -99.9
RNG = np.random.default_rng(3)
TIME = np.arange(FRONT_END.window_samples) / FRONT_END.sample_rate


def chirp(start_s: float, length_s: float, low: float, high: float) -> Any:
    """A tone that rises from `low` to `high` Hz, with a soft beginning and end."""
    at = (TIME - start_s) / length_s
    inside = (at >= 0) & (at < 1)
    phase = 2 * np.pi * length_s * (low * at + (high - low) * at**2 / 2)
    return np.where(inside, np.sin(phase) * np.sin(np.pi * np.clip(at, 0, 1)), 0)


def frames_of(spans: list[tuple[float, float]], count: int, front_end: FrontEnd) -> Any:
    """Which frames' centres lie in spans of seconds."""
    centres = np.arange(count) * front_end.hop_length / front_end.sample_rate
    return np.any([(centres >= start) & (centres <= end) for start, end in spans], axis=0)


def calls_in(background: Any) -> tuple[Any, Any]:
    """Levels of windows of background with chirps added, and which frames have these."""
    spans = [(0.5, 0.58), (1.5, 1.9), (2.6, 2.65), (2.7, 2.75)]
    calls = sum(
        chirp(start, end - start, 2000 + 700 * i, 2500 + 900 * i)
        for i, (start, end) in enumerate(spans)
    )
    waves = np.array([x + 2.0 * x.std() * calls for x in background], np.float32)
    levels = LogMel(FRONT_END).levels(waves)
    return levels, frames_of(spans, levels.shape[2], FRONT_END)


def test_chirps_in_noise_are_not_quiet_and_the_rest_is() -> None:
    levels, called = calls_in(RNG.normal(size=(5, len(TIME))))
    quiet = quiet_columns(levels, FLOOR)
    assert not quiet[:, called].any()
    # Away from the calls (and of the frames that reach into them) most is quiet.
    near = np.convolve(called, np.ones(2 * MARGIN + 5), "same") > 0
    assert quiet[:, ~near].mean() > 0.5


def test_chirps_in_a_real_soundscape_are_not_quiet() -> None:
    paths = sorted(data_folder("s4a").glob("*.flac"))[::12]
    rule = WindowRule(4.0, 4.0, "drop")
    real = [next(read_windows(str(path), rule, FRONT_END.sample_rate))[3] for path in paths]
    found = 0
    for wave in real:
        levels, called = calls_in(wave[None])
        quiet = quiet_columns(levels, FLOOR)
        assert not quiet[:, called].any()
        found += int(quiet.sum())
    assert len(real) == 8 and found > 50


@pytest.mark.parametrize("bird", ["gy6or6", "bl26lb16"])
@pytest.mark.parametrize("rate", [16_000, 32_000])
def test_hardly_a_frame_of_annotated_calls_real_birds_is_quiet(bird: str, rate: int) -> None:
    front_end = FrontEnd(sample_rate=rate, window_s=3.0)
    frames = quiet_frames = annotated = harvested = 0
    for path in sorted((data_folder("finch") / bird).glob("*.flac"))[:8]:
        with Path(str(path).replace(".flac", ".Table.1.selections.txt")).open() as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        spans = [(float(row["Begin Time (s)"]), float(row["End Time (s)"])) for row in rows]
        windows = list(read_windows(str(path), WindowRule(3.0, 3.0, "drop"), rate))
        levels = LogMel(front_end).levels(np.array([window[3] for window in windows]))
        quiet = quiet_columns(levels, FLOOR)
        for window, found in zip(windows, quiet, strict=True):
            shifted = [(start - window[1], end - window[1]) for start, end in spans]
            called = frames_of(shifted, len(found), front_end)
            frames, quiet_frames = frames + len(found), quiet_frames + found.sum()
            annotated, harvested = annotated + called.sum(), harvested + (found & called).sum()
    assert annotated > 500
    assert quiet_frames / frames > 0.1
    # Of all 68 recordings, in these windows at 16 kHz, 5 of 7493 frames.
    assert harvested / annotated < 0.005


def test_silence_is_neither_background_nor_part_of_a_median() -> None:
    noise = LogMel(FRONT_END).levels(RNG.normal(size=(3, len(TIME))).astype(np.float32))
    expected = quiet_columns(noise, FLOOR)
    silence = np.full_like(noise, -100)
    both = quiet_columns(np.concatenate([silence, noise]), FLOOR)
    assert not both[:3].any() and (both[3:] == expected).all() and expected.any()
    assert not quiet_columns(silence, FLOOR).any()


def test_one_frame_has_nothing_to_stand_out_of() -> None:
    levels = RNG.normal(0, 20, size=(1, 16, 1)).astype(np.float32)
    assert quiet_columns(levels, FLOOR).tolist() == [[True]]
    assert quiet_columns(np.full_like(levels, -100), FLOOR).tolist() == [[False]]


def test_a_sound_must_be_absent_from_half_of_a_recording_to_stand_out() -> None:
    """A median's limit, which the docs tell: what sounds all the time is background."""
    noise = LogMel(FRONT_END).levels(RNG.normal(size=(4, len(TIME))).astype(np.float32))
    half = noise.shape[2] // 2
    for share, expected in ((0.4, True), (0.6, False)):
        levels = noise.copy()
        loud = np.arange(levels.shape[2]) < share * levels.shape[2]
        levels[:, 40:44, loud] += 40
        quiet = quiet_columns(levels, FLOOR)
        assert (not quiet[:, :half][:, loud[:half]].any()) == expected


def test_a_windows_calls_are_judged_by_its_whole_recording() -> None:
    """A window that is full of one call stands out beside others of its recording."""
    levels = LogMel(FRONT_END).levels(RNG.normal(size=(4, len(TIME))).astype(np.float32))
    levels[1, 40:44] += 40
    assert not quiet_columns(levels, FLOOR)[1].any()
    assert quiet_columns(levels[1:2], FLOOR).any()


def test_a_loud_cell_needs_a_neighbour_and_costs_a_margin() -> None:
    levels = np.zeros((1, 10, 40), np.float32)
    levels[0, 4, 5] = 30  # alone
    levels[0, 4:6, 20] = 20 * np.log10(2.5) + 0.01
    levels[0, 4:6, 35] = 20 * np.log10(2.5) - 0.01
    quiet = quiet_columns(levels, FLOOR)[0]
    assert np.flatnonzero(~quiet).tolist() == list(range(20 - MARGIN, 20 + MARGIN + 1))
