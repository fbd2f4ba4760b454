"""Audio files made in memory, byte by byte where a test needs it."""

import io
import struct

import numpy as np
import soundfile


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
