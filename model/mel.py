"""Mel filters, as librosa has them by default.

Not from librosa itself, which is the reference in the tests: it brings Numba with it, which costs
each process that computes spectrograms 60 MB and up to half a second.
"""

import numpy as np
import numpy.typing as npt

STEP_HZ = 200 / 3
"""Width of a mel below `LOG_HZ`, where the scale is linear."""
LOG_HZ = 1000.0
LOG_MEL = LOG_HZ / STEP_HZ
LOG_STEP = np.log(6.4) / 27


def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float
) -> npt.NDArray[np.float32]:
    """Triangular filters of equal area, float32 (n_mels, n_fft // 2 + 1), between two frequencies.

    On the mel scale of Slaney's Auditory Toolbox (1998): linear below 1000 Hz, logarithmic above.
    """
    bins = np.fft.rfftfreq(n=n_fft, d=1.0 / sample_rate)
    edges = _to_hz(np.linspace(_to_mel(fmin), _to_mel(fmax), n_mels + 2))
    slopes = np.subtract.outer(edges, bins)
    widths = np.diff(edges)[:, None]
    rising, falling = -slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters: npt.NDArray[np.float32] = triangles.astype(np.float32)
    filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters


def _to_mel(hz: float) -> float:
    return float(LOG_MEL + np.log(hz / LOG_HZ) / LOG_STEP if hz >= LOG_HZ else hz / STEP_HZ)


def _to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = LOG_HZ * np.exp(LOG_STEP * (mel - LOG_MEL))
    return np.where(mel >= LOG_MEL, above, STEP_HZ * mel)
