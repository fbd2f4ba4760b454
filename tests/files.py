"""Audio files made in memory, byte by byte where a test needs it."""

import io
import itertools
import struct

import numpy as np
import soundfile

from model.flac import find_heads, stream_info


def encode(sound: np.ndarray, rate: int, kind: str, subtype: str | None = None) -> bytes:
    """The bytes of a file of libsndfile's format `kind` (WAV, FLAC, OGG, MP3, ...)."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, 1 if sound.ndim == 1 else sound.shape[1], subtype, format=kind
    ) as writer:
        # In blocks: libsndfile can crash on minutes of OGG in one call.
        for at in range(0, len(sound), rate):
            writer.write(sound[at : at + rate])
    return file.getvalue()


def wav(
    audio: bytes,
    *,
    rate: int = 8000,
    channels: int = 1,
    bits: int = 16,
    tag: int = 1,
    promised: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A WAV of these raw samples whose header says what it is told to."""
    align = channels * bits // 8 & 0xFFFF
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    size = len(audio) if promised is None else promised
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + before
    body += b"data" + struct.pack("<I", size) + audio + after
    return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a WAV, padded to even size."""
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def flac_count(content: bytes, frames: int) -> bytes:
    """A FLAC whose header tells another number of samples."""
    packed = int.from_bytes(content[18:26]) >> 36 << 36 | frames
    return content[:18] + packed.to_bytes(8) + content[26:]


def flac_rate(content: bytes, rate: int) -> bytes:
    """A FLAC whose header tells another sample rate."""
    packed = int.from_bytes(content[18:26]) & (1 << 44) - 1 | rate << 44
    return content[:18] + packed.to_bytes(8) + content[26:]


def flac_variable(pieces: list[bytes]) -> bytes:
    """One FLAC of the frames of several, whose heads tell samples and not the frame's number."""
    head, body, first = pieces[0][:42], b"", 0
    for content in pieces:
        stream = stream_info(content)
        assert stream is not None
        heads = [*find_heads(stream, content), (len(content), stream.frames, 0)]
        for (at, start, _), (end, _, _) in itertools.pairwise(heads):
            number = _flac_number(first + start)
            # Of the frame's number, the first byte's leading ones are the length.
            rest = content[at + 4 + max(1, 8 - (content[at + 4] ^ 0xFF).bit_length()) : end - 2]
            extra = {6: 1, 7: 2}.get(content[at + 2] >> 4, 0)
            extra += {12: 1, 13: 2, 14: 2}.get(content[at + 2] & 15, 0)
            opening = b"\xff\xf9" + content[at + 2 : at + 4] + number + rest[:extra]
            frame = opening + bytes([_crc(opening, 8, 0x07)]) + rest[extra + 1 :]
            body += frame + _crc(frame, 16, 0x8005).to_bytes(2)
        first += stream.frames
    largest = max(content[10:12] for content in pieces)
    head = head[:4] + b"\x80" + head[5:8] + b"\0\x10" + largest + bytes(6) + head[18:26] + bytes(16)
    return flac_count(head + body, first)


def _flac_number(number: int) -> bytes:
    """A number written as UTF-8 writes that of a character, but up to 36 bits."""
    if number < 0x80:
        return bytes([number])
    tail = []
    while number >= 1 << max(0, 6 - len(tail)):
        tail.append(0x80 | number & 0x3F)
        number >>= 6
    return bytes([0xFF << 7 - len(tail) & 0xFF | number, *reversed(tail)])


def _crc(content: bytes, bits: int, polynomial: int) -> int:
    crc = 0
    for byte in content:
        crc ^= byte << bits - 8
        for _ in range(8):
            crc = crc << 1 ^ (polynomial | 1 << bits if crc >> bits - 1 else 0)
    return crc
