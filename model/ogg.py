"""OGG: which samples the damaged pages of a file held."""

import struct
import zlib
from collections.abc import Callable, Iterator

_PAGE = struct.Struct("<4sBBqIIIB")
_LARGEST = 27 + 255 + 255 * 255
_PIECE = 1 << 20
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def find_gaps(
    part: Callable[[int, int], bytes], frames: int, scale: float, pages: int
) -> list[tuple[int, int]]:
    """The samples [start, stop) that pages which are missing or damaged held.

    `part` gives bytes of the file by place and count; `frames` are the samples of the whole,
    `scale` the samples for each step of a page's position. A gap reaches from the end of the last
    good page to that of the first good one after it, or of as many as `pages` says.
    """
    found: list[tuple[int, bool]] = []
    number, missing = None, False
    for position, this in _good_pages(part):
        missing = missing or (number is not None and this != number + 1)
        number = this
        if position >= 0:
            found.append((position, missing))
            missing = False
    ends = [max(0, min(frames, frames - round((found[-1][0] - p) * scale))) for p, _ in found]
    gaps: list[tuple[int, int]] = []
    for i, (_, after_missing) in enumerate(found):
        if not after_missing:
            continue
        start, stop = ends[i - 1] if i else 0, ends[min(i + pages, len(ends)) - 1]
        if gaps and start <= gaps[-1][1]:
            start, stop = gaps.pop()[0], max(start, stop)
        gaps.append((start, stop))
    if gaps and ends != sorted(ends):
        # Pages in a wrong order: from here on libsndfile does not find its place.
        return [(min(start for start, _ in gaps), frames)]
    return gaps


def _good_pages(part: Callable[[int, int], bytes]) -> Iterator[tuple[int, int]]:
    """(position, number) of each page that is whole; what lies between is passed over."""
    at, content, begin = 0, b"", 0
    while True:
        if at + _LARGEST > begin + len(content):
            content, begin = part(at, _PIECE), at
        page = content[at - begin : at - begin + _LARGEST]
        if len(page) < _PAGE.size:
            return
        length = _length(page)
        if length:
            _, _, _, position, _, number, _, _ = _PAGE.unpack_from(page)
            yield position, number
            at += length
        else:
            following = content.find(b"OggS", at - begin + 1)
            at = begin + (following if following >= 0 else max(len(content) - 3, at - begin + 1))


def _length(page: bytes) -> int:
    """Bytes of the page that begins here; 0 if it is none, or damaged."""
    magic, version, _, _, _, _, crc, segments = _PAGE.unpack_from(page)
    length = 27 + segments + sum(page[27 : 27 + segments])
    if magic != b"OggS" or version or len(page) < length:
        return 0
    return length if _crc(page[:22] + bytes(4) + page[26:length]) == crc else 0


def _crc(content: bytes) -> int:
    """Ogg's CRC-32, which is that of zip with all bits reversed and nothing inverted."""
    crc = ~zlib.crc32(content.translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED))
