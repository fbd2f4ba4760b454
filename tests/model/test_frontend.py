import librosa
import numpy as np
import pytest
import soundfile

from model.errors import UserError
from model.frontend import FrontEnd, LogMel, default_hop_length
from tests.data import data_folder


@pytest.mark.parametrize("window", [0.25, 0.5, 3, 8])
@pytest.mark.parametrize("reference", ["max", 1.0])
def test_equals_librosa_on_real_sound(window: float, reference) -> None:
    recording = sorted(data_folder("s4a").rglob("*.flac"))[24]
    samples, rate = soundfile.read(recording, dtype="float32")
    samples = librosa.resample(samples, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
    hop = default_hop_length(16_000, window)
    front_end = FrontEnd(window_s=window, hop_length=hop, db_ref=reference)
    waveform = samples[: front_end.window_samples]
    spectrogram = LogMel(front_end)(waveform[None])[0]
    power = librosa.feature.melspectrogram(y=waveform, sr=16_000, n_fft=1024, hop_length=hop)
    expected = librosa.power_to_db(power, ref=np.max if reference == "max" else 1.0)
    assert spectrogram.shape == front_end.input_shape == expected.shape
    assert front_end.n_frames >= 128
    np.testing.assert_allclose(spectrogram, expected, atol=1e-3)


def test_other_parameters_equal_librosa() -> None:
    rng = np.random.default_rng(1)
    front_end = FrontEnd(22_050, 0.7, 512, 200, 40, 300, 9000, 1.0, 1e-7, None)
    waveforms = rng.normal(0, 0.1, (3, front_end.window_samples)).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=waveforms, sr=22_050, n_fft=512, hop_length=200, n_mels=40, fmin=300, fmax=9000
    )
    expected = librosa.power_to_db(power, amin=1e-7, top_db=None)
    np.testing.assert_allclose(LogMel(front_end)(waveforms), expected, atol=1e-3)


def test_a_window_does_not_depend_on_its_batch() -> None:
    front_end = FrontEnd(window_s=0.5, hop_length=default_hop_length(16_000, 0.5))
    waveforms = np.random.default_rng(0).normal(0, 1, (4, 8000)).astype(np.float32)
    together = LogMel(front_end)(waveforms)
    for waveform, spectrogram in zip(waveforms, together, strict=True):
        np.testing.assert_array_equal(LogMel(front_end)(waveform[None])[0], spectrogram)


def test_silence_is_finite() -> None:
    spectrogram = LogMel(FrontEnd())(np.zeros((1, 128_000), np.float32))
    assert np.isfinite(spectrogram).all()


def test_json_round_trip() -> None:
    front_end = FrontEnd(fmax=7000.0, top_db=None)
    assert FrontEnd.from_json(front_end.to_json()) == front_end
    with pytest.raises(UserError, match="colour"):
        FrontEnd.from_json(front_end.to_json() | {"colour": 1})
    with pytest.raises(UserError, match="n_fft"):
        FrontEnd.from_json(front_end.to_json() | {"n_fft": "many"})


@pytest.mark.parametrize(
    "values",
    [
        {"sample_rate": 0},
        {"window_s": 0},
        {"n_fft": 1},
        {"hop_length": 0},
        {"n_mels": 0},
        {"fmin": 9000.0},
        {"fmax": 9000.0},
        {"db_ref": "mean"},
        {"db_ref": 0.0},
        {"top_db": 0.0},
        {"window_s": 1e-6},
    ],
)
def test_bad_parameters_are_refused(values) -> None:
    with pytest.raises(UserError):
        FrontEnd(**values)


def test_spectrograms_are_levels_referenced_each_to_its_own_peak():
    front_end = FrontEnd(sample_rate=8_000, window_s=1.0, n_mels=32, top_db=30.0)
    log_mel = LogMel(front_end)
    waveforms = np.random.default_rng(1).standard_normal((3, 8_000)).astype(np.float32)
    waveforms[1] = waveforms[0] / 1000
    waveforms[2] = 0
    levels = log_mel.levels(waveforms)
    assert np.allclose(levels[0] - levels[1], 60, atol=0.01)
    assert np.allclose(levels[2], -100)
    spectrograms = log_mel.referenced(levels.copy())
    assert np.array_equal(spectrograms, log_mel(waveforms))
    assert (spectrograms.max(axis=(1, 2)) == 0).all()
    assert (spectrograms[:2].min(axis=(1, 2)) >= -30).all()
