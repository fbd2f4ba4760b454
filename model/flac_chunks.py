"""FLAC: the samples of a stream that is whole, in about half the time that libsndfile takes."""

from collections.abc import Callable

import miniaudio
import numpy as np
import numpy.typing as npt

from model.flac import FlacStream, find_heads

Float32 = npt.NDArray[np.float32]

CHUNK_BYTES = 128 * 1024
CHUNK_SAMPLES = 2**20
"""Samples of all channels that a chunk may hold: silence takes next to no bytes."""
MAX_METADATA = 128
"""Blocks of metadata that are passed over before the first frame."""


class FlacChunks:
    """The samples of a FLAC, decoded in chunks of whole frames that are known to be undamaged.

    The decoder leaves out frames whose checksum is wrong and says nothing. So a chunk is taken only
    if the heads of its frames tell numbers of samples that follow each other, and if as many are
    decoded: then no frame is lost, doubled or in another's place.

    `part` gives bytes of the file by place and count, and may raise what storage raises; `size` are
    the bytes of the file and `frames` the samples per channel that are to be had.
    """

    def __init__(
        self, part: Callable[[int, int], bytes], stream: FlacStream, size: int, frames: int
    ) -> None:
        self._part, self._stream, self._size, self._frames = part, stream, size, frames
        # Four frames and more, even if nothing is compressed.
        frame_bytes = stream.block_size * stream.channels * stream.bits // 8
        self._bytes = max(CHUNK_BYTES, 4 * frame_bytes)
        self._chunk = np.zeros((0, stream.channels), np.float32)
        self._start = self._stop = 0
        self._next: int | None = None
        self._first = 0

    def read(self, start: int, count: int) -> Float32 | None:
        """`count` samples from `start`: float32 (count, channels), not to be written to.

        None if they are not to be had this way: what is damaged, odd or beyond the end is another
        reader's work. Raises what `part` raises, and MemoryError.
        """
        if self._stream.bits not in (8, 16, 24):
            return None
        pieces = []
        while count > 0:
            if not self._start <= start < self._stop and not self._load(start):
                return None
            pieces.append(self._chunk[start - self._start :][:count])
            start, count = start + len(pieces[-1]), count - len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _load(self, sample: int) -> bool:
        """Decodes a chunk that holds `sample`."""
        if self._next is None:
            self._next = self._first = self._first_frame()
        place, start = self._next, self._stop
        if sample != start:
            found = self._find(sample)
            if found is None:
                return False
            place, start = found
        content = self._part(place, self._bytes)
        length, stop = self._measure(content, start, place + len(content) >= self._size)
        chunk = self._decode(content[:length], stop - start) if length else None
        if chunk is None:
            return False
        self._chunk, self._start, self._stop, self._next = chunk, start, stop, place + length
        return sample < stop

    def _measure(self, content: bytes, start: int, to_end: bool) -> tuple[int, int]:
        """Bytes of the whole frames at the beginning, and the sample after the last of them.

        (0, `start`) if they do not begin with sample `start`, or if one is out of order.
        """
        length, stop, following = 0, start, start
        limit = min(self._frames, start + CHUNK_SAMPLES // self._stream.channels)
        for place, first, after in find_heads(self._stream, content):
            if first != following or (place == 0) != (first == start):
                return 0, start
            if first > limit:
                return length, stop
            length, stop, following = place, first, after
        if to_end and start < following <= limit:
            return len(content), following
        return length, stop

    def _decode(self, content: bytes, count: int) -> Float32 | None:
        try:
            # Told a length, the decoder would fill up what it lacks.
            sound = miniaudio.flac_read_f32(self._stream.opening() + content)
        except miniaudio.DecodeError:
            return None
        samples = np.frombuffer(sound.samples, np.float32)
        if sound.nchannels != self._stream.channels or len(samples) != count * sound.nchannels:
            return None
        samples.flags.writeable = False
        return samples.reshape(count, sound.nchannels)

    def _first_frame(self) -> int:
        """The place after the metadata."""
        at = self._stream.place - 17
        for _ in range(MAX_METADATA):
            head = self._part(at, 4)
            at += 4 + int.from_bytes(head[1:])
            if not head or head[0] & 0x80:
                break
        return at

    def _find(self, sample: int) -> tuple[int, int] | None:
        """The place and the first sample of the frame that holds `sample`."""
        # By turns where the sample should be if all frames took as many bytes, and by halves.
        low, low_sample, high, high_sample = self._first, 0, self._size, self._frames
        halve = False
        while low < high:
            share = 0.5 if halve else (sample - low_sample) / (high_sample - low_sample)
            at = max(low, min(high - 1, low + int((high - low) * share) - self._bytes // 2))
            passed = None
            for place, start, stop in find_heads(self._stream, self._part(at, self._bytes)):
                if start > sample:
                    high_sample = start
                    break
                if sample < stop:
                    return at + place, start
                passed = at + place, start
            if passed is None:
                high = at
            elif passed[0] > low:
                low, low_sample = passed
            else:
                return None
            halve = not halve
        return None
