"""MP3: how many frames a file has, where no table in it tells.

An MP3 of variable bit rate begins with a table that tells its number of frames (`Xing` or `VBRI`).
Without it, decoders take all frames for as large as the first ones, and so hide what is beyond the
length that follows. The numbers are those of ISO/IEC 11172-3 and 13818-3, and of the MPEG 2.5 of
its users.
"""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from model.files import BLOCK

Part = Callable[[int, int], bytes]
"""The bytes of a file from a place on, at most so many."""

KBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Of MPEG 1, and of MPEG 2 and 2.5, by the index in the header."""
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""In Hz, by version (3 is MPEG 1) and index."""
AT_ONCE = 1 << 20
CHAIN = 3
"""Frames that must follow one another to be believed."""
TABLE_BYTES = 64
"""A frame of so many bytes holds the side information and a table of the number of frames."""


@dataclass(frozen=True)
class Frame:
    """What the four bytes at a frame's head tell: `size` in bytes, samples per channel, bit rate.

    `kind` are the bits that are the same in all frames of a file, `mean_size` the bytes of a frame
    of this bit rate, of which some have one more.
    """

    kind: tuple[int, int]
    kbits: int
    mean_size: float
    size: int
    samples: int
    head: bytes


def read_frame(head: bytes) -> Frame | None:
    """The frame of layer III that begins with these four bytes; None if none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, at_rate, at_bits = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or at_rate == 3 or at_bits in (0, 15):
        return None
    is_first = version == 3
    kbits, rate = KBITS[is_first][at_bits], RATES[version][at_rate]
    samples = 1152 if is_first else 576
    mean = samples // 8 * kbits * 1000 / rate
    size = int(mean) + (head[2] >> 1 & 1)
    return Frame((head[1] & 0xFE, at_rate), kbits, mean, size, samples, bytes(head[:4]))


def _tag_bytes(start: bytes) -> int:
    """Bytes of the ID3 tag that a file begins with."""
    if len(start) < 10 or start[:3] != b"ID3":
        return 0
    footer = 10 if start[5] & 0x10 else 0
    return 10 + footer + sum((start[6 + i] & 0x7F) << 7 * (3 - i) for i in range(4))


def _chain(content: bytes, at: int, count: int) -> bool:
    """Whether `count` frames of one kind follow one another from a place on, or end the content."""
    kind = None
    for _ in range(count):
        frame = read_frame(content[at : at + 4])
        if frame is None or kind not in (None, frame.kind):
            return frame is None and kind is not None and at + 4 > len(content)
        kind, at = frame.kind, at + frame.size
    return True


def frames_in(content: bytes) -> Iterator[tuple[int, Frame]]:
    """(place, frame) of each frame that begins in some bytes of a file; what is none is skipped."""
    at, is_sure = 0, False
    while at + 4 <= len(content):
        frame = read_frame(content[at : at + 4])
        if frame is None or not (is_sure or _chain(content, at, CHAIN)):
            is_sure = False
            at = content.find(b"\xff", at + 1)
            if at < 0:
                return
            continue
        yield at, frame
        at, is_sure = at + frame.size, True


def table_of(part: Part, size: int) -> tuple[bytes, int]:
    """A frame to be read before a file, whose table tells the number of frames; or no bytes.

    And the place of the first frame of the file: what is before must not be between the two.

    Nothing where the file tells it by itself. Where all frames of its first and last 64 KiB have
    the same bit rate, the place of the last one tells; otherwise the whole file is read, once.
    """
    content = part(0, BLOCK)
    start = _tag_bytes(content)
    content = content[start:] if start < BLOCK // 2 else part(start, BLOCK)
    at, frame = next(frames_in(content), (0, None))
    head = content[at : at + TABLE_BYTES]
    if frame is None or any(name in head for name in (b"Xing", b"Info", b"VBRI")):
        return b"", 0
    last = max(start, size - BLOCK)
    found = list(frames_in(part(last, BLOCK)))
    if {one.kbits for _, one in (*frames_in(content), *found)} == {frame.kbits}:
        whole = [last + place for place, one in found if last + place + one.size <= size]
        count = 1 + round((whole[-1] - start - at) / frame.mean_size) if whole else 0
    else:
        count = count_frames(part, start, size)
    return table_frame(frame, count), start + at


def count_frames(part: Part, start: int, size: int) -> int:
    """The whole frames of a file from a place on."""
    count, at = 0, start
    while at < size:
        content = part(at, AT_ONCE)
        end = at + len(content)
        found = list(frames_in(content))
        if not content or not found:
            at = max(end, at + 1)
            continue
        if end < size and len(found) > CHAIN:
            # The last ones are read with what follows them.
            found = found[:-CHAIN]
        count += sum(at + place + frame.size <= size for place, frame in found)
        at += found[-1][0] + found[-1][1].size
    return count


def table_frame(like: Frame, count: int) -> bytes:
    """A frame of the kind of another, with a `Xing` table that tells `count` frames."""
    for at_bits in range(1, 15):
        head = bytes([0xFF, like.head[1] | 1, at_bits << 4 | like.head[2] & 0x0C, like.head[3]])
        frame = read_frame(head)
        if frame is not None and frame.size >= TABLE_BYTES:
            break
    assert frame is not None
    is_mono, is_first = head[3] >> 6 == 3, frame.samples == 1152
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    table = head + bytes(side) + b"Xing" + (1).to_bytes(4) + count.to_bytes(4)
    return table.ljust(frame.size, b"\0")


class Prefixed(io.RawIOBase):
    """A file with other bytes in place of its first `skipped` ones."""

    def __init__(self, prefix: bytes, skipped: int, file: BinaryIO) -> None:
        self._prefix, self._file, self._at = prefix, file, 0
        self._shift = skipped - len(prefix)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._prefix[self._at : self._at + len(buffer)]
        if left:
            buffer[: len(left)] = left
            count = len(left)
        else:
            self._file.seek(self._at + self._shift)
            count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        if base is None:
            base = self._file.seek(0, os.SEEK_END) - self._shift
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at
