"""Decoding: the windows of a recording as mono waveforms at the model's rate.

A span of windows is read in blocks of about a second, resampled as one stream (soxr HQ) on a grid
that is the same wherever the span starts, and cut into windows. Damage costs the windows that
touch it, and nothing else.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from model.sound import AudioError, Sound, as_audio_error
from model.stages import timed
from model.windows import WindowPlan, WindowRule

Float32 = npt.NDArray[np.float32]

MARGIN = 256
"""Samples (at the lower of the two rates) that resampling needs on both sides of a span: from
128 on, a span's samples equal those of the whole recording to 4e-7 of full scale."""
PIECE = 4096
"""Samples first tried when a block cannot be read, up to a multiple of it: mostly a FLAC frame."""
FEW = 64
"""Samples that are looked at first, to tell whether a window is silent."""
ENDS = "the file ends before its samples"


@dataclass(frozen=True)
class Decoded:
    """Window k: its waveform, float32 (window_samples,), or the reason for having none."""

    k: int
    waveform: Float32 | None
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class _Loss:
    """Samples [start, stop) that are not to be used."""

    start: int
    stop: int
    reason: str
    message: str


def _read_block(sound: Sound, start: int, count: int) -> tuple[Float32, list[_Loss]]:
    """Exactly `count` samples from `start`; what cannot be read is zero, and a loss."""
    stop, error = start + count, "fewer samples than the header says"
    if start >= sound.end:
        return _nothing(sound, start, stop)
    clear, losses = _around_gaps(sound, start, stop)
    block = np.zeros((0, sound.info.channels), np.float32)
    if not losses:
        try:
            block = sound.read(start, count)
        except AudioError as failure:
            if failure.curable:
                raise
            error = failure.message
        clear, losses = _around_gaps(sound, start, stop)
        if len(block) == count and not losses:
            return block, []
    whole = np.zeros((count, sound.info.channels), np.float32)
    if not losses:
        whole[: len(block)] = block
        clear = [(start + len(block), stop)]
    for first, last in clear:
        losses += _salvage(sound, whole[first - start : last - start], first, error)
    if sum(loss.stop - loss.start for loss in losses) == count:
        sound.look_ahead(start)
        if start >= sound.end:
            return _nothing(sound, start, stop)
    return whole, losses


def _nothing(sound: Sound, start: int, stop: int) -> tuple[Float32, list[_Loss]]:
    block = np.zeros((stop - start, sound.info.channels), np.float32)
    return block, [_Loss(start, stop, "truncated", ENDS)]


def _around_gaps(sound: Sound, start: int, stop: int) -> tuple[list[tuple[int, int]], list[_Loss]]:
    """The stretches of samples that no damaged page held, and the losses between them."""
    clear, losses = [], []
    for first, last in sound.gaps():
        if first < stop and last > start:
            clear.append((start, max(start, first)))
            start = min(stop, last)
            losses.append(_Loss(clear[-1][1], start, "damaged", "a damaged page"))
    return [*clear, (start, stop)], losses


def _salvage(sound: Sound, target: Float32, start: int, error: str) -> list[_Loss]:
    """Reads what can be read from `start` into `target`, in small pieces; the rest are losses."""
    losses, at, piece = [], 0, PIECE
    while at < len(target):
        size = min(piece - (start + at) % PIECE, len(target) - at)
        got = target[:0]
        try:
            sound.reopen()
            got = sound.read(start + at, size)
        except AudioError as failure:
            if failure.curable:
                raise
            error = failure.message
        target[at : at + len(got)] = got
        if len(got) < size:
            losses.append(_Loss(start + at + len(got), start + at + size, "damaged", error))
            piece = min(2 * piece, max(PIECE, len(target)))
        else:
            piece = PIECE
        at += size
    return losses


def _mono(block: Float32, channel: int | None) -> Float32:
    if channel is not None:
        return np.ascontiguousarray(block[:, channel])
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


class _Tape:
    """The last samples of a stream, addressed by their position in it."""

    def __init__(self, start: int) -> None:
        self.stop = start
        self._start = start
        self._pieces: deque[Float32] = deque()

    def extend(self, samples: Float32) -> None:
        self._pieces.append(samples)
        self.stop += len(samples)

    def forget(self, before: int) -> None:
        while self._pieces and self._start + len(self._pieces[0]) <= before:
            self._start += len(self._pieces.popleft())

    def cut(self, start: int, stop: int) -> Float32:
        """A copy of the samples [start, stop), as far as they are there."""
        parts, at = [np.zeros(0, np.float32)], self._start
        for piece in self._pieces:
            parts.append(piece[max(0, start - at) : max(0, stop - at)])
            at += len(piece)
        return np.concatenate(parts)


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
    recording's rate is not the planned one, AudioError("memory"), and OSError if storage fails.
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
        try:
            yield from _decode(
                sound, plan, first, scored_stop, sample_rate, window_samples, channel
            )
        except MemoryError as error:
            raise as_audio_error(error) from error
    for k in range(max(first, scored_stop), stop):
        yield Decoded(k, None, "tail", "the partial last window is left out")


def _is_silent(tape: _Tape, start: int, stop: int) -> bool:
    """Whether all samples are equal: a dead microphone need not give zero. One alone may be any."""
    # Mostly the first few tell.
    few = tape.cut(start, min(stop, start + FEW))
    if (few != few[:1]).any():
        return False
    samples = tape.cut(start, stop)
    return not samples.any() or (len(samples) > 1 and bool((samples == samples[0]).all()))


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
    step = max(PIECE, rate // sound.info.channels)
    margin = math.ceil(MARGIN * max(rate / sample_rate, 1))
    grid = rate // math.gcd(rate, sample_rate)
    begin = max(0, plan.start(first) - margin) // grid * grid
    end = min(frames, plan.end(stop - 1) + margin)
    sound.until(end)
    # Integers, as those of PCM and FLAC, are always finite.
    may_be_infinite = "/PCM_" not in sound.info.format
    heard = _Tape(begin)
    resampled = _Tape(begin * sample_rate // rate)
    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    losses: list[_Loss] = []
    if frames < plan.frames:
        losses.append(_Loss(frames, plan.frames, "truncated", ENDS))

    k, at = first, begin
    while k < stop:
        window_start, window_end = plan.start(k), plan.end(k)
        cut = round(window_start * sample_rate / rate)
        while at < end and resampled.stop < cut + window_samples:
            size = min(step, end - at)
            with timed("decode"):
                block, lost = _read_block(sound, at, size)
            mono = _mono(block, channel)
            if may_be_infinite and not np.isfinite(mono).all():
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
                with timed("resample"):
                    resampled.extend(stream.resample_chunk(mono, last=at >= end))
        losses = [loss for loss in losses if loss.stop > window_start]
        hit = next((loss for loss in losses if loss.start < window_end), None)
        if hit is not None:
            yield Decoded(k, None, hit.reason, hit.message)
        elif _is_silent(heard, window_start, window_end):
            yield Decoded(k, None, "silent", "every sample has the same value")
        else:
            waveform = resampled.cut(cut, cut + window_samples)
            if len(waveform) < window_samples:
                waveform = np.pad(waveform, (0, window_samples - len(waveform)))
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
