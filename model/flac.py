"""FLAC: how long a stream really is, told by the frame at its end."""

from dataclasses import dataclass

_BLOCK_SIZES = {1: 192, **{code: 576 << (code - 2) for code in range(2, 6)}}
_BLOCK_SIZES |= {code: 256 << (code - 8) for code in range(8, 16)}
_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}


@dataclass(frozen=True)
class FlacStream:
    """What STREAMINFO says: samples per channel (0 where left open), largest block, channels, bits.

    `place` is where in the file the number of samples stands, `shared` its first byte, half of
    which belongs to the bits.
    """

    frames: int
    block_size: int
    channels: int
    bits: int
    place: int
    shared: int

    def count(self, frames: int) -> bytes:
        """The bytes at `place` that tell another number of samples."""
        return bytes([self.shared & 0xF0 | frames >> 32 & 0x0F]) + (frames & 0xFFFFFFFF).to_bytes(4)


def stream_info(head: bytes) -> FlacStream | None:
    """The stream that a file's first bytes describe; None if they do not reach so far."""
    at = head.find(b"fLaC") + 8
    body = head[at : at + 18]
    if at < 8 or len(body) < 18:
        return None
    packed = int.from_bytes(body[10:18])
    return FlacStream(
        frames=packed & (1 << 36) - 1,
        block_size=int.from_bytes(body[2:4]),
        channels=(packed >> 41 & 7) + 1,
        bits=(packed >> 36 & 31) + 1,
        place=at + 13,
        shared=body[13],
    )


def find_ends(stream: FlacStream, tail: bytes) -> list[tuple[int, int]]:
    """(first sample, the sample after the last) of each frame whose head is in `tail`, in order.

    A head is known by its sync code and its CRC-8, and by fitting the stream; one of 10,000 such
    tails may show a head where none is.
    """
    found, at = [], tail.find(b"\xff")
    while at >= 0:
        bounds = _frame(stream, tail[at : at + 16])
        if bounds:
            found.append(bounds)
        at = tail.find(b"\xff", at + 1)
    return found


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
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x107) if crc & 0x80 else crc << 1
    return crc
