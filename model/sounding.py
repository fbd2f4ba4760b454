"""Whether a window holds a sound at all: what stands out of its own steady background."""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from model.frontend import FrontEnd, LogMel

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

LOUDEST = 0.001
"""Share of a window's cells whose mean excess counts: a short call fills few, a click one."""
FALSE_ALARMS = 0.05
"""Share of the windows without sound that may count as sounding."""
QUIET = (0.05, 0.25)
"""Quantiles of the background's excess that are taken to be of windows without sound: above them
there may be what nobody labelled."""
MARGIN_DB = 3.0
"""Excess above that of steady noise from which a window can be sounding: no field is so steady."""
STEADY_WINDOWS = 100
SOUND = 0.25
"""Share of a window's frames that must hold sound: the median of fewer is uncertain."""


def excess_db(spectrograms: Float32, front_end: FrontEnd) -> Float32:
    """How far a window's loudest cells stand above their own band's median, in dB: (n,) float32.

    Takes spectrograms (n, n_mels, n_frames) in dB, with any reference. The mean over the loudest
    `LOUDEST` of the cells. Silence has 0, and steady noise, whatever its level and colour, about
    10 dB. A sound as long as the window, such as that of cicadas, is its own median and does not
    stand out. Frames without sound (padding, gaps) and those that reach over an end of the sound,
    where a cut hum splashes over all bands, do not count.
    """
    out = np.zeros(len(spectrograms), np.float32)
    for i, spectrogram in enumerate(spectrograms):
        used = spectrogram[:, _whole_frames(spectrogram, front_end)]
        if used.shape[1] < SOUND * spectrogram.shape[1]:
            continue
        cells = (used - np.median(used, axis=1, keepdims=True)).ravel()
        n = max(1, round(LOUDEST * cells.size))
        out[i] = np.sort(np.partition(cells, cells.size - n)[-n:]).mean()
    return out


def _whole_frames(spectrogram: Float32, front_end: FrontEnd) -> npt.NDArray[np.bool_]:
    """Which frames (n_frames,) lie in sound with their whole length."""
    reach = -(-(front_end.n_fft // 2) // front_end.hop_length)
    # What is at the floor in all bands is no sound, or 80 dB below the window's loudest.
    empty = (spectrogram <= spectrogram.min()).all(axis=0)
    kernel = np.ones(4 * reach + 1)
    near = np.convolve(empty, kernel)[2 * reach : 2 * reach + len(empty)] > 0.5
    frames = np.arange(len(empty))
    inside = (frames >= reach) & (frames < len(empty) - reach)
    whole: npt.NDArray[np.bool_] = inside & ~near
    return whole


def sounding_threshold(background: Float32, front_end: FrontEnd) -> float:
    """The excess, in dB, from which a window is taken to hold a sound.

    `background` (n,) is the excess of training windows without a label. Windows without a label
    may yet hold sounds, on a busy day most of them, so only the quietest quarter is looked at: the
    threshold is where `FALSE_ALARMS` of a normal distribution with the same `QUIET` quantiles
    would lie above. It is never less than `MARGIN_DB` above what the same share of windows of
    steady noise exceed, which alone decides where there is no background.
    """
    rng = np.random.default_rng(0)
    log_mel = LogMel(front_end)
    steady = [
        excess_db(
            log_mel(rng.standard_normal((1, front_end.window_samples), np.float32)), front_end
        )
        for _ in range(STEADY_WINDOWS)
    ]
    least = float(np.quantile(steady, 1 - FALSE_ALARMS)) + MARGIN_DB
    if not len(background):
        return least
    low, high = np.quantile(background, QUIET)
    z_low, z_high, z = (NormalDist().inv_cdf(p) for p in (*QUIET, 1 - FALSE_ALARMS))
    return max(least, float(high + (z - z_high) * (high - low) / (z_high - z_low)))
