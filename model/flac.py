"""FLAC: the heads of a stream's frames, and how long it really is, told by the last of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SYNC = re.compile(rb"\xff[\xf8\xf9]")

_BLOCK_SIZES = {1: 192, **{code: 576 << (code - 2) for code in range(2, 6)}}
_BLOCK_SIZES |= {code: 256 << (code - 8) for code in range(8, 16)}
_COUNT = 13
"""Where in STREAMINFO the number of samples stands."""
MAX_NUMBER = 0x110000
"""From here on, numbers are no characters in Python."""
_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}


@dataclass(frozen=True)
class FlacStream:
    """What STREAMINFO says: samples per channel (0 where left open), largest block, channels, bits.

    `body` are the bytes of STREAMINFO, as far as they were seen, and `place` is where in the file
    the number of samples stands.
    """

    frames: int
    block_size: int
    channels: int
    bits: int
    place: int
    body: bytes

    def count(self, frames: int) -> bytes:
        """The bytes at `place` that tell another number of samples."""
        # Half of the first byte belongs to the bits.
        first = self.body[_COUNT] & 0xF0 | frames >> 32 & 0x0F
        return bytes([first]) + (frames & 0xFFFFFFFF).to_bytes(4)

    def opening(self) -> bytes:
        """The first bytes of a FLAC like this one that tells no length and has no other metadata:
        frames of this one may follow."""
        body = self.body[:_COUNT] + self.count(0) + self.body[_COUNT + 5 :]
        return b"fLaC\x80" + len(body).to_bytes(3) + body


def stream_info(head: bytes) -> FlacStream | None:
    """The stream that a file's first bytes describe; None if they do not reach so far."""
    at = head.find(b"fLaC") + 8
    body = head[at : at + 34]
    if at < 8 or len(body) < 18:
        return None
    packed = int.from_bytes(body[10:18])
    return FlacStream(
        frames=packed & (1 << 36) - 1,
        block_size=int.from_bytes(body[2:4]),
        channels=(packed >> 41 & 7) + 1,
        bits=(packed >> 36 & 31) + 1,
        place=at + _COUNT,
        body=body,
    )


def find_ends(stream: FlacStream, tail: bytes) -> list[tuple[int, int]]:
    """(first sample, the sample after the last) of each frame whose head is in `tail`, in order.

    A head is known by its sync code and its CRC-8, and by fitting the stream, or by being just what
    follows such a head; one of 10,000 such tails may show a head where none is.
    """
    return [(start, stop) for _, start, stop in find_heads(stream, tail)]


def find_heads(stream: FlacStream, content: bytes) -> Iterator[tuple[int, int, int]]:
    """(place, first sample, the sample after the last) of each frame whose head is in `content`."""
    following, start, stop = b"", 0, 0
    for sync in _SYNC.finditer(content):
        at = sync.start()
        if following and content.startswith(following, at):
            start, stop = stop, stop + stop - start
        else:
            bounds = _frame(stream, content[at : at + 16])
            if bounds is None:
                continue
            start, stop = bounds
        yield at, start, stop
        following = _following(stream, content[at : at + 4], stop)


def _following(stream: FlacStream, head: bytes, first: int) -> bytes:
    """How the next frame's head begins if it is like this one; nothing where it need not be.

    A quick look, for most heads: frames are numbered as UTF-8 numbers characters.
    """
    number, rest = divmod(first, max(1, stream.block_size))
    if rest or head[1] & 1 or head[2] >> 4 in (6, 7) or number >= MAX_NUMBER:
        return b""
    return head + chr(number).encode("utf-8", "surrogatepass")


def _frame(stream: FlacStream, head: bytes) -> tuple[int, int] | None:
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    channels = head[3] >> 4
    bits = _BITS.get(head[3] >> 1 & 7, stream.bits)
    if (channels + 1 if channels < 8 else 2) != stream.channels or bits != stream.bits:
        return None
    length = max(1, 8 - (head[4] ^ 0xFF).bit_length())
    number = head[4] & 0xFF >> length + (length > 1)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    at, code = 4 + length, head[2] >> 4
    size = _BLOCK_SIZES.get(code, 0)
    if code in (6, 7):
        size, at = int.from_bytes(head[at : at + code - 5]) + 1, at + code - 5
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 0x0F, 0)
    if not size or at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    start = number if head[1] & 1 else number * stream.block_size
    return start, start + size


def _crc8(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc8_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte << 1 ^ 0x107) if byte & 0x80 else byte << 1
    return byte


_CRC8 = bytes(_crc8_of(byte) for byte in range(256))
