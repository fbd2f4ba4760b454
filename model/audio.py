"""Decoding: the windows of a recording as mono waveforms at the model's rate.

A span of windows is read in blocks of about a second, resampled as one stream (soxr HQ) on a grid
that is the same wherever the span starts, and cut into windows. Damage costs the windows that
touch it, and nothing else.
"""

import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

import fsspec
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from model.reasons import REASONS
from model.windows import WindowPlan, WindowRule

Float32 = npt.NDArray[np.float32]

MARGIN = 256
"""Samples (at the lower of the two rates) that resampling needs on both sides of a span: from
128 on, a span's samples equal those of the whole recording to 4e-7 of full scale."""
PIECE = 4096
"""Samples first tried when a block cannot be read: about one FLAC frame."""
UNRECOGNISED = {1, 3, 4}
"""libsndfile's codes for a format or encoding that it does not know."""


class AudioError(Exception):
    """A recording cannot be read: `reason` is a code of `REASONS`, the text what was said."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.curable = REASONS[reason].curable


@dataclass(frozen=True)
class AudioInfo:
    """What the decoder says of a recording: frames (samples per channel), rate in Hz, format."""

    frames: int
    sample_rate: int
    channels: int
    format: str


@dataclass(frozen=True)
class Decoded:
    """Window k: its waveform, float32 (window_samples,), or the reason for having none."""

    k: int
    waveform: Float32 | None
    reason: str | None = None
    message: str | None = None


class _Watched(io.RawIOBase):
    """Keeps the exception of a file that libsndfile calls back: C code would swallow it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: BaseException | None = None

    def _try(self, call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        except Exception as error:
            self.error = error
            return None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._try(self._file.readinto, buffer) or 0  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._try(self._file.seek, offset, whence) or 0

    def tell(self) -> int:
        return self._try(self._file.tell) or 0


class Sound:
    """An open recording, local or under any fsspec URL; a context manager.

    Raises AudioError where it cannot be opened, and OSError where storage fails.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._watched: _Watched | None = None
        self._open()
        kind = f"{self._sound.format}/{self._sound.subtype}"
        self.info = AudioInfo(
            self._sound.frames, self._sound.samplerate, self._sound.channels, kind
        )

    def _open(self) -> None:
        try:
            if "://" in self.path:
                self._watched = _Watched(fsspec.open(self.path, "rb").open())
                source: Any = self._watched
            else:
                source = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise AudioError("vanished", "the file is not there any more") from error
        except PermissionError as error:
            raise AudioError("permission", "the file may not be read") from error
        except IsADirectoryError as error:
            raise AudioError("not_audio", "a folder, not a file") from error
        try:
            self._sound = soundfile.SoundFile(source, closefd=True)
        except soundfile.LibsndfileError as error:
            self.check_storage()
            reason = "not_audio" if error.code in UNRECOGNISED else "damaged"
            raise AudioError(reason, error.error_string) from error
        except MemoryError as error:
            raise AudioError("memory", "not enough memory") from error
        self.check_storage()

    def check_storage(self) -> None:
        """Raises what storage raised while the decoder was reading."""
        if self._watched is not None and self._watched.error is not None:
            raise self._watched.error

    def read(self, start: int, count: int) -> Float32:
        """Up to `count` samples from `start`: float32 (n, channels); soundfile's errors pass."""
        try:
            if self._sound.tell() != start:
                self._sound.seek(start)
            block: Float32 = self._sound.read(count, dtype="float32", always_2d=True)
            return block
        finally:
            self.check_storage()

    def reopen(self) -> None:
        """Opens the recording again: after an error the decoder's state is not to be trusted."""
        self.close()
        self._open()

    def close(self) -> None:
        """Closes the recording."""
        self._sound.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_header(path: str) -> AudioInfo:
    """Frames, rate, channels and format of a recording; AudioError if it cannot be opened."""
    with Sound(path) as sound:
        return sound.info


@dataclass(frozen=True)
class _Loss:
    """Samples [start, stop) that are not to be used."""

    start: int
    stop: int
    reason: str
    message: str


def _read_block(sound: Sound, start: int, count: int) -> tuple[Float32, list[_Loss]]:
    """Exactly `count` samples from `start`; what cannot be read is zero, and a loss."""
    try:
        block = sound.read(start, count)
        error = "fewer samples than the header says"
    except soundfile.LibsndfileError as failure:
        block, error = np.zeros((0, sound.info.channels), np.float32), failure.error_string
    if len(block) == count:
        return block, []
    whole = np.zeros((count, sound.info.channels), np.float32)
    whole[: len(block)] = block
    losses, at, piece = [], len(block), PIECE
    while at < count:
        size = min(piece, count - at)
        try:
            sound.reopen()
            got = sound.read(start + at, size)
        except (soundfile.LibsndfileError, AudioError) as failure:
            if isinstance(failure, AudioError) and failure.curable:
                raise
            got = whole[:0]
            error = str(getattr(failure, "error_string", None) or failure)
        whole[at : at + len(got)] = got
        if len(got) < size:
            losses.append(_Loss(start + at + len(got), start + at + size, "damaged", error))
            piece = min(2 * piece, count)
        else:
            piece = PIECE
        at += size
    return whole, losses


def _mono(block: Float32, channel: int | None) -> Float32:
    if channel is not None:
        return np.ascontiguousarray(block[:, channel])
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


class _Tape:
    """The last samples of a stream, addressed by their position in it."""

    def __init__(self, start: int) -> None:
        self.start = start
        self._samples = np.zeros(0, np.float32)

    @property
    def stop(self) -> int:
        return self.start + len(self._samples)

    def extend(self, samples: Float32) -> None:
        self._samples = np.concatenate([self._samples, samples])

    def forget(self, before: int) -> None:
        keep = min(max(0, before - self.start), len(self._samples))
        self._samples, self.start = self._samples[keep:], self.start + keep

    def cut(self, start: int, stop: int) -> Float32:
        return self._samples[max(0, start - self.start) : max(0, stop - self.start)]


def decode_span(
    sound: Sound,
    plan: WindowPlan,
    first: int,
    stop: int,
    sample_rate: int,
    window_samples: int,
    channel: int | None = None,
) -> Iterator[Decoded]:
    """The windows `first` to before `stop` of a recording, each once and in order.

    `plan` is that of the whole recording; `sample_rate` (Hz) and `window_samples` are the model's.
    `channel` counts from 0; None is the mean of all. Raises AudioError("changed") if the
    recording's rate is not the planned one, OSError if storage fails.
    """
    info = sound.info
    if info.sample_rate != plan.rate:
        raise AudioError("changed", "the sample rate is not the one that was planned")
    if channel is not None and channel >= info.channels:
        message = f"channel {channel} of {info.channels}"
        yield from (Decoded(k, None, "no_channel", message) for k in range(first, stop))
        return
    scored_stop = min(stop, plan.count - 1) if plan.dropped else stop
    if scored_stop > first:
        yield from _decode(sound, plan, first, scored_stop, sample_rate, window_samples, channel)
    for k in range(max(first, scored_stop), stop):
        yield Decoded(k, None, "tail", "the partial last window is left out")


def _decode(
    sound: Sound,
    plan: WindowPlan,
    first: int,
    stop: int,
    sample_rate: int,
    window_samples: int,
    channel: int | None,
) -> Iterator[Decoded]:
    rate, frames = plan.rate, min(sound.info.frames, plan.frames)
    margin = math.ceil(MARGIN * max(rate / sample_rate, 1))
    grid = rate // math.gcd(rate, sample_rate)
    begin = max(0, plan.start(first) - margin) // grid * grid
    end = min(frames, plan.end(stop - 1) + margin)
    heard = _Tape(begin)
    resampled = _Tape(begin * sample_rate // rate)
    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    losses: list[_Loss] = []
    if frames < plan.frames:
        losses.append(_Loss(frames, plan.frames, "truncated", "the file ends before its samples"))

    k, at = first, begin
    while k < stop:
        window_start, window_end = plan.start(k), plan.end(k)
        cut = round(window_start * sample_rate / rate)
        while at < end and resampled.stop < cut + window_samples:
            size = min(rate, end - at)
            block, lost = _read_block(sound, at, size)
            mono = _mono(block, channel)
            if not math.isfinite(float(mono.sum(dtype=np.float64))):
                wrong = np.flatnonzero(~np.isfinite(mono))
                lost.append(
                    _Loss(at + int(wrong[0]), at + int(wrong[-1]) + 1, "not_finite", "NaN or inf")
                )
                mono = np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0)
            at += size
            losses.extend(lost)
            heard.extend(mono)
            if rate == sample_rate:
                resampled.extend(mono)
            else:
                resampled.extend(stream.resample_chunk(mono, last=at >= end))
        losses = [loss for loss in losses if loss.stop > window_start]
        hit = next((loss for loss in losses if loss.start < window_end), None)
        if hit is not None:
            yield Decoded(k, None, hit.reason, hit.message)
        elif not heard.cut(window_start, window_end).any():
            yield Decoded(k, None, "silent", "every sample is zero")
        else:
            waveform = np.zeros(window_samples, np.float32)
            sounding = resampled.cut(cut, cut + window_samples)
            waveform[: len(sounding)] = sounding
            yield Decoded(k, waveform)
        k += 1
        heard.forget(window_end if k == stop else plan.start(k))
        resampled.forget(round(plan.start(min(k, stop - 1)) * sample_rate / rate))


def read_windows(
    path: str, rule: WindowRule, sample_rate: int, channel: int | None = None
) -> Iterator[tuple[int, float, float, Float32]]:
    """(k, start in s, end in s, waveform) of every readable window of a whole recording.

    Waveforms are float32 (round(window x sample_rate),). Raises AudioError where the recording
    cannot be opened.
    """
    with Sound(path) as sound:
        plan = WindowPlan(rule, sound.info.frames, sound.info.sample_rate)
        samples = round(rule.window_s * sample_rate)
        for window in decode_span(sound, plan, 0, plan.count, sample_rate, samples, channel):
            if window.waveform is not None:
                start, end = plan.start(window.k) / plan.rate, plan.end(window.k) / plan.rate
                yield window.k, start, end, window.waveform
