import warnings

import librosa
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.mel import mel_filters


@settings(deadline=None)  # The first call imports much.
@given(
    st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000, 384_000]),
    st.integers(2, 4096),
    st.integers(1, 256),
    st.floats(0, 0.45),
    st.floats(0.46, 1),
)
def test_equal_to_librosa(rate: int, n_fft: int, n_mels: int, low: float, high: float) -> None:
    fmin, fmax = low * rate / 2, high * rate / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of filters that are narrower than a bin.
        expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    np.testing.assert_array_equal(mel_filters(rate, n_fft, n_mels, fmin, fmax), expected)


def test_equal_to_librosa_by_default() -> None:
    found = mel_filters(16_000, 1024, 128, 0.0, 8000.0)
    assert found.shape == (128, 513) and found.dtype == np.float32
    np.testing.assert_array_equal(found, librosa.filters.mel(sr=16_000, n_fft=1024))
