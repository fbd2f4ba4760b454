import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from model.audio import decode_span, read_windows
from model.sound import Sound, read_header
from model.windows import WindowPlan, WindowRule

RATE = 8000


def noise(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(-0.5, 0.5, (round(seconds * rate), channels)).astype(np.float32)


def spans(path: Path, plan: WindowPlan, cuts: list[int], rate: int, channel: int | None = None):
    samples = round(plan.rule.window_s * rate)
    bounds = [0, *sorted(cuts), plan.count]
    with Sound(str(path)) as sound:
        for first, stop in itertools.pairwise(bounds):
            yield from decode_span(sound, plan, first, stop, rate, samples, channel)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_000, 44_100, 192_000])
def test_windows_equal_the_whole_recording_resampled(tmp_path: Path, rate: int) -> None:
    sound = noise(2.6, rate)
    soundfile.write(tmp_path / "a.wav", sound, rate, subtype="FLOAT")
    expected = soxr.resample(sound[:, 0], rate, RATE, quality="HQ")
    windows = list(read_windows(str(tmp_path / "a.wav"), WindowRule(0.5, 0.5), RATE))
    assert [k for k, *_ in windows] == list(range(6))
    for k, start, end, waveform in windows:
        assert (start, end) == pytest.approx((k * 0.5, min(k * 0.5 + 0.5, 2.6)), abs=1.5 / rate)
        piece = expected[k * 4000 : k * 4000 + 4000]
        np.testing.assert_allclose(waveform[: len(piece)], piece, atol=1e-6)
        assert not waveform[len(piece) :].any()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 13), max_size=4), st.sampled_from(["pad", "shift", "drop"]))
def test_any_spans_give_the_same_windows(tmp_path_factory, cuts, tail) -> None:
    path = tmp_path_factory.mktemp("spans") / "a.flac"
    soundfile.write(path, noise(3.3, 22_050), 22_050)
    plan = WindowPlan(WindowRule(0.5, 0.25, tail), round(3.3 * 22_050), 22_050)
    whole = list(spans(path, plan, [], RATE))
    cut = list(spans(path, plan, [min(c, plan.count) for c in cuts], RATE))
    assert [w.k for w in cut] == [w.k for w in whole] == list(range(plan.count))
    for a, b in zip(whole, cut, strict=True):
        assert a.reason == b.reason
        if a.waveform is not None and b.waveform is not None:
            np.testing.assert_allclose(a.waveform, b.waveform, atol=1e-6)


def test_channels(tmp_path: Path) -> None:
    sound = noise(1, channels=2)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    plan = WindowPlan(WindowRule(1, 1), RATE, RATE)
    for channel, expected in [(None, sound.mean(axis=1)), (0, sound[:, 0]), (1, sound[:, 1])]:
        (window,) = spans(tmp_path / "a.wav", plan, [], RATE, channel)
        np.testing.assert_allclose(window.waveform, expected, atol=1e-7)
    (window,) = spans(tmp_path / "a.wav", plan, [], RATE, 2)
    assert window.reason == "no_channel"


def test_silence_and_bad_numbers_cost_the_windows_that_they_touch(tmp_path: Path) -> None:
    sound = noise(4)
    sound[8000:16000] = 0
    sound[20_000] = np.nan
    sound[25_000] = np.inf
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    plan = WindowPlan(WindowRule(0.5, 0.5), 32_000, RATE)
    reasons = [w.reason for w in spans(tmp_path / "a.wav", plan, [3], RATE)]
    lost = "not_finite"
    assert reasons == [None, None, "silent", "silent", None, lost, lost, None]


@pytest.mark.parametrize("value", [0, -1, 1234])
def test_a_dead_microphone_gives_any_value(tmp_path: Path, value: int) -> None:
    sound = (noise(3.5, channels=2) * 20_000).astype(np.int16)
    sound[8000:16_000] = value
    sound[20_000:, 1] = value
    sound[20_001, 1] = value + 1
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="PCM_16")
    plan = WindowPlan(WindowRule(0.5, 0.5), 28_000, RATE)
    for channel, silent in ((None, {2, 3}), (0, {2, 3}), (1, {2, 3, 6})):
        reasons = [w.reason for w in spans(tmp_path / "a.wav", plan, [], RATE, channel)]
        assert {k for k, reason in enumerate(reasons) if reason == "silent"} == silent
        assert set(reasons) == {None, "silent"}


@pytest.mark.parametrize("sounding", [4000, 4063, 4064, 7999])
def test_one_sample_in_a_silent_window_is_sound(tmp_path: Path, sounding: int) -> None:
    sound = np.full(12_000, 5, np.int16)
    sound[sounding] = 6
    soundfile.write(tmp_path / "a.flac", sound, RATE, subtype="PCM_16")
    plan = WindowPlan(WindowRule(0.5, 0.5), 12_000, RATE)
    reasons = [w.reason for w in spans(tmp_path / "a.flac", plan, [], RATE)]
    assert reasons == ["silent", None, "silent"]


@pytest.mark.parametrize(("last", "reason"), [(0, "silent"), (500, None)])
def test_a_window_of_one_sample(tmp_path: Path, last: int, reason: str | None) -> None:
    sound = np.append((noise(0.5)[:, 0] * 20_000).astype(np.int16), np.int16(last))
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="PCM_16")
    plan = WindowPlan(WindowRule(0.5, 0.5), 4001, RATE)
    assert [w.reason for w in spans(tmp_path / "a.wav", plan, [], RATE)] == [None, reason]


def test_a_truncated_recording_keeps_what_is_there(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(4), RATE)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: len(data) // 2])
    plan = WindowPlan(WindowRule(0.5, 0.5), 4 * RATE, RATE)
    reasons = [w.reason for w in spans(tmp_path / "a.wav", plan, [], RATE)]
    assert reasons == [None] * 3 + ["truncated"] * 5


def test_a_hole_in_a_flac_costs_its_windows_only(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(20), RATE)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    plan = WindowPlan(WindowRule(0.5, 0.5), 20 * RATE, RATE)
    windows = list(spans(path, plan, [], RATE))
    lost = [w.k for w in windows if w.reason]
    assert {w.reason for w in windows} == {None, "damaged"}
    assert 19 in lost or 20 in lost
    assert len(lost) <= 6 and windows[0].waveform is not None and windows[-1].waveform is not None


def test_urls_and_threads(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(1), RATE)
    url = (tmp_path / "a.flac").as_uri()
    assert read_header(url).frames == RATE
    rule, found = WindowRule(0.5, 0.5), []
    threads = [
        threading.Thread(target=lambda: found.append(len(list(read_windows(url, rule, 16_000)))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2, 2]
