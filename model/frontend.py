"""Waveform to log-mel spectrogram, with its parameters."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from model.errors import UserError
from model.mel import mel_filters

MIN_FRAMES = 128
"""Frames that a default spectrogram has at least: what the paper's pools (2, 4, 4, 4) need."""

MODULES = ("scipy.fft", "scipy.sparse")
"""What is imported where spectrograms are computed, and not before."""

Float32 = npt.NDArray[np.float32]


def default_hop_length(sample_rate: int, window_s: float) -> int:
    """512 samples, or the longest hop (never below 1) that gives a window `MIN_FRAMES` frames."""
    window = round(window_s * sample_rate)
    return max(1, min(512, window // (MIN_FRAMES - 1)))


@dataclass(frozen=True)
class FrontEnd:
    """Parameters from a mono waveform to a log-mel spectrogram, in librosa's names.

    `db_ref` is the power that is 0 dB: "max", each window's own maximum, or a number. `top_db`
    limits the range below a window's maximum; None leaves it free. `fmax` None is half the
    sample rate. Raises UserError for values that give no spectrogram.
    """

    sample_rate: int = 16_000
    window_s: float = 8.0
    n_fft: int = 1024
    hop_length: int = 512
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    db_ref: Literal["max"] | float = "max"
    amin: float = 1e-10
    top_db: float | None = 80.0

    def __post_init__(self) -> None:
        _require(self.sample_rate in range(1, 1_000_001), "sample rate", self.sample_rate, "in Hz")
        _require(0 < self.window_s <= 3600, "window", self.window_s, "above 0 s, at most an hour")
        _require(self.n_fft in range(2, 2**20), "n_fft", self.n_fft, "2 samples or more")
        _require(self.hop_length in range(1, 2**20), "hop length", self.hop_length, "1 or more")
        _require(self.n_mels in range(1, 4097), "n_mels", self.n_mels, "between 1 and 4096")
        top = self.sample_rate / 2 if self.fmax is None else self.fmax
        _require(0 <= self.fmin < top, "fmin", self.fmin, f"from 0 to below fmax ({top:g} Hz)")
        _require(top <= self.sample_rate / 2, "fmax", top, "at most half the sample rate")
        reference = self.db_ref if isinstance(self.db_ref, (int, float)) else 1.0
        _require(
            self.db_ref == "max" or (not isinstance(self.db_ref, str) and 0 < reference < math.inf),
            "db_ref",
            self.db_ref,
            '"max" or a power above 0',
        )
        _require(0 < self.amin < math.inf, "amin", self.amin, "above 0")
        _require(
            self.top_db is None or 0 < self.top_db < math.inf, "top_db", self.top_db, "above 0"
        )
        _require(self.window_samples >= 1, "window", self.window_s, "one sample or longer")

    @property
    def window_samples(self) -> int:
        """Samples of a window at the front end's rate."""
        return round(self.window_s * self.sample_rate)

    @property
    def n_frames(self) -> int:
        """Frames of a window's spectrogram (centred frames, as librosa counts them)."""
        centred = self.window_samples + 2 * (self.n_fft // 2)
        return 1 + max(0, centred - self.n_fft) // self.hop_length

    @property
    def input_shape(self) -> tuple[int, int]:
        """(n_mels, n_frames): the shape of one window's spectrogram."""
        return self.n_mels, self.n_frames

    def to_json(self) -> dict[str, Any]:
        """The parameters as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "FrontEnd":
        """The front end that `to_json` wrote; UserError for unknown, missing or bad values."""
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            wrong = ", ".join(sorted(set(values) ^ names))
            raise UserError(f"The front end has unknown or missing values: {wrong}.")
        for name, value in values.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            optional = value is None and name in ("fmax", "top_db")
            if not (number or optional or (name == "db_ref" and value == "max")):
                raise UserError(f"The front end's {name} is {value!r}; it must be a number.")
        return cls(**values)


def _require(holds: bool, name: str, value: object, accepted: str) -> None:
    if not holds:
        raise UserError(f"The front end's {name} is {value}; it must be {accepted}.")


@dataclass(frozen=True)
class LogMel:
    """Computes log-mel spectrograms in float32, as librosa's melspectrogram and power_to_db do.

    Frames are centred and zero-padded, windowed with a periodic Hann window; the mel filters are
    Slaney's (librosa's default). Each window is computed by itself, so its spectrogram does not
    depend on the windows that it is batched with.
    """

    front_end: FrontEnd

    @cached_property
    def _hann(self) -> Float32:
        n_fft = self.front_end.n_fft
        return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)

    @cached_property
    def _filters(self) -> Any:
        import scipy.sparse

        f = self.front_end
        top = f.sample_rate / 2 if f.fmax is None else f.fmax
        return scipy.sparse.csr_matrix(mel_filters(f.sample_rate, f.n_fft, f.n_mels, f.fmin, top))

    def __call__(self, waveforms: Sequence[Float32] | Float32) -> Float32:
        """Spectrograms in dB of n float32 waveforms (window_samples,): (n, n_mels, n_frames)."""
        return self.referenced(self.levels(waveforms))

    def levels(self, waveforms: Sequence[Float32] | Float32) -> Float32:
        """Spectrograms before `db_ref` and `top_db`: 10 log10 of the mel power, `amin` at least.

        Shapes and dtypes as for the spectrograms themselves. Sounds are mixed by adding the powers
        10 ** (levels / 10), which `referenced` spectrograms no longer tell.
        """
        f = self.front_end
        for waveform in waveforms:
            if waveform.shape != (f.window_samples,):
                expected = f"({f.window_samples},)"
                raise ValueError(f"A waveform has the shape {waveform.shape}; expected {expected}.")
        out = np.empty((len(waveforms), *f.input_shape), np.float32)
        for waveform, levels in zip(waveforms, out, strict=True):
            self._window(waveform, levels)
        return out

    def referenced(self, levels: Float32) -> Float32:
        """Changes `levels` in place to spectrograms in dB, each by its own peak, and gives them."""
        f = self.front_end
        for window in levels:
            peak = window.max()
            if f.top_db is not None:
                np.maximum(window, peak - np.float32(f.top_db), out=window)
            reference = peak if f.db_ref == "max" else 10 * math.log10(max(f.db_ref, f.amin))
            window -= np.float32(reference)
        return levels

    def _window(self, waveform: Float32, out: Float32) -> None:
        import scipy.fft

        f = self.front_end
        padded = np.zeros(max(len(waveform) + 2 * (f.n_fft // 2), f.n_fft), np.float32)
        padded[f.n_fft // 2 : f.n_fft // 2 + len(waveform)] = waveform
        frames = np.lib.stride_tricks.sliding_window_view(padded, f.n_fft)[:: f.hop_length]
        spectrum = scipy.fft.rfft(frames[: f.n_frames] * self._hann, axis=-1)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        mel = self._filters @ power.T
        np.log10(np.maximum(mel, np.float32(f.amin)), out=out)
        out *= 10
