"""What a recording's own header tells, read by range: structure, times, recorder."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from model.sound import KNOWN_CHUNKS
from pipeline.notes import parse_guano, read_notes

MAX_CHUNKS = 1000
MAX_TEXT = 1 << 20
"""Bytes of one chunk of text that are read at most."""
PLACEHOLDERS = frozenset({0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF})
"""Data sizes that programs write when they cannot know it (sox, arecord, ffmpeg)."""
W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")


@dataclass(frozen=True)
class HeaderFacts:
    """What a file's header tells; None where it says nothing.

    `data_offset` is the first byte of audio; `data_bytes_promised` what the header says follows
    (None where it leaves that open), `data_bytes_present` what does. `block_align` is bytes per
    frame, or per block where the codec packs several (ADPCM, GSM). `format_tag` is that of WAVE,
    the inner one of an extensible header. `frames_promised` (samples per channel) is FLAC's.

    `clock`, `utc` are the more trusted of the GUANO and the AudioMoth time, `time_source` which it
    is. `battery_v` is the bound where only one is known ("less than 2.5V"), `temperature_c` the
    ambient one, else that inside the recorder, `gain_db` null where the recorder names a setting.

    Flags: `header_lies` (more or less data than promised, or no promise), `odd_chunk` (a chunk of
    odd size without its pad byte), `clock_reset` (a time before 2001, not used), `time_expanded`
    (GUANO's TE above 1: seconds of sound are not seconds of time).
    """

    container: str | None = None
    data_offset: int | None = None
    data_bytes_promised: int | None = None
    data_bytes_present: int | None = None
    frames_promised: int | None = None
    block_align: int | None = None
    sample_rate: int | None = None
    channels: int | None = None
    format_tag: int | None = None
    bits: int | None = None
    comment: str | None = None
    guano: dict[str, str] = field(default_factory=dict)
    clock: datetime | None = None
    utc: datetime | None = None
    time_source: str | None = None
    guano_clock: datetime | None = None
    guano_utc: datetime | None = None
    audiomoth_clock: datetime | None = None
    audiomoth_utc: datetime | None = None
    recorder_id: str | None = None
    firmware: str | None = None
    battery_v: float | None = None
    temperature_c: float | None = None
    gain_db: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    flags: tuple[str, ...] = ()


@dataclass
class _Source:
    """Bytes of a file by their place; a short answer where it ends."""

    file: BinaryIO
    size: int
    _start: bytes = b""

    def at(self, offset: int, count: int) -> bytes:
        count = min(count, self.size - offset)
        if count <= 0:
            return b""
        if not self._start:
            self._start = self._read(0, 4096)
        if offset + count <= len(self._start):
            return self._start[offset : offset + count]
        return self._read(offset, count)

    def _read(self, offset: int, count: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(min(count, self.size - offset))


@dataclass
class _Found:
    """What was found so far: fields of HeaderFacts, texts and flags."""

    fields: dict[str, Any] = field(default_factory=dict)
    byte_rate: int = 0
    artist: str = ""
    guano: dict[str, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)


def read_facts(file: BinaryIO, size: int) -> HeaderFacts:
    """The facts in the header of an open binary file of `size` bytes, whatever its content.

    Reads the start, the head of each chunk and the texts, never the audio. Raises OSError only
    where storage does.
    """
    source, found = _Source(file, max(0, size)), _Found()
    start = source.at(0, 16)
    container = _container(start)
    if start[:3] == b"ID3":
        after = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=False)
        )
        if source.at(after, 4) == b"fLaC":
            container = "flac"
            _walk_flac(source, found, after)
    found.fields["container"] = container
    if container in ("wav", "rf64"):
        _walk_riff(source, found, ">" if start[:4] == b"RIFX" else "<")
    elif container == "w64":
        _walk_w64(source, found)
    elif start[:4] == b"fLaC":
        _walk_flac(source, found, 0)
    return _facts(found)


def _container(start: bytes) -> str | None:
    if start[:4] in (b"RIFF", b"RIFX") and start[8:12] == b"WAVE":
        return "wav"
    if start[:4] in (b"RF64", b"BW64") and start[8:12] == b"WAVE":
        return "rf64"
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    for magic, name in (
        (W64_RIFF, "w64"),
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"ID3", "mp3"),
        (b"WAAC", "wac"),
    ):
        if start.startswith(magic):
            return name
    return "mp3" if _is_mpeg(start) else None


def _is_mpeg(start: bytes) -> bool:
    """Whether a frame of MP2 or MP3 begins here: sync bits and no reserved value."""
    if len(start) < 3 or start[0] != 0xFF or start[1] & 0xE0 != 0xE0:
        return False
    version, layer, rate, bits = start[1] & 0x18, start[1] & 0x06, start[2] & 0x0C, start[2] & 0xF0
    return version != 0x08 and layer in (0x02, 0x04) and rate != 0x0C and bits != 0xF0


def _is_id(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _walk_riff(source: _Source, found: _Found, order: str) -> None:
    offset, large = 12, dict[bytes, int]()
    for _ in range(MAX_CHUNKS):
        head = source.at(offset, 8)
        if len(head) < 8 or not _is_id(head[:4]):
            break
        name, length = head[:4], struct.unpack(order + "I", head[4:])[0]
        body = offset + 8
        if name == b"ds64":
            large = _large_sizes(source.at(body, min(length, 4096)))
        elif length == 0xFFFFFFFF:
            length = large.get(name, length)
        if name == b"data" and "data_offset" not in found.fields:
            if not _data(source, found, body, length):
                return
        else:
            _chunk(source, found, name, body, length, order)
        offset = _next_chunk(source, found, body + length) if length % 2 else body + length
    _check_rest(source, found, offset)


def _large_sizes(body: bytes) -> dict[bytes, int]:
    if len(body) < 24:
        return {}
    sizes = {b"data": struct.unpack("<Q", body[8:16])[0]}
    for at in range(28, len(body) - 11, 12):
        sizes.setdefault(body[at : at + 4], struct.unpack("<Q", body[at + 4 : at + 12])[0])
    return sizes


def _next_chunk(source: _Source, found: _Found, end: int) -> int:
    """Where the next chunk begins after one of odd size: some writers leave out the pad byte."""
    near = source.at(end, 5)
    padded, bare = near[1:5], near[:4]
    if padded not in KNOWN_CHUNKS and (
        bare in KNOWN_CHUNKS or (_is_id(bare) and not _is_id(padded))
    ):
        found.flags.add("odd_chunk")
        return end
    return end + 1


def _data(source: _Source, found: _Found, body: int, length: int) -> bool:
    """Takes note of the audio; whether chunks can be looked for after it."""
    present = max(0, source.size - body)
    found.fields["data_offset"] = body
    found.fields["data_bytes_present"] = min(length, present)
    found.fields["data_bytes_promised"] = length
    if length > present:
        if length in PLACEHOLDERS:
            found.fields["data_bytes_promised"] = None
            found.flags.add("header_lies")
        elif length - present >= found.fields.get("block_align", 1):
            found.flags.add("header_lies")
        return False
    if length == 0 and present and source.at(body, 4) not in KNOWN_CHUNKS:
        found.fields["data_bytes_present"] = present
        found.flags.add("header_lies")
        return False
    return True


def _check_rest(source: _Source, found: _Found, offset: int) -> None:
    """Finds audio that the header leaves out: a second or more after the data, not zeros."""
    if "data_offset" not in found.fields or not found.byte_rate:
        return
    rest = source.size - offset
    if rest >= found.byte_rate and source.at(offset, 1024).strip(b"\0"):
        found.fields["data_bytes_present"] = source.size - found.fields["data_offset"]
        found.flags.add("header_lies")


def _chunk(source: _Source, found: _Found, name: bytes, body: int, length: int, order: str) -> None:
    if name == b"fmt ":
        _format(source.at(body, min(length, 40)), found, order)
    elif name in (b"LIST", b"list"):
        _info(source.at(body, min(length, MAX_TEXT)), found, order)
    elif name == b"guan":
        _add_guano(source.at(body, min(length, MAX_TEXT)), found)


def _format(body: bytes, found: _Found, order: str) -> None:
    if len(body) < 16 or "format_tag" in found.fields:
        return
    tag, channels, rate, found.byte_rate, align, bits = struct.unpack(order + "HHIIHH", body[:16])
    if tag == 0xFFFE and len(body) >= 26:
        tag = struct.unpack(order + "H", body[24:26])[0]
    found.fields |= {
        "format_tag": tag,
        "channels": channels or None,
        "sample_rate": rate or None,
        "block_align": align or None,
        "bits": bits or None,
    }
    if not align:
        del found.fields["block_align"]


def _info(body: bytes, found: _Found, order: str) -> None:
    at = 4
    while body[:4] == b"INFO" and at + 8 <= len(body):
        name, length = body[at : at + 4], struct.unpack(order + "I", body[at + 4 : at + 8])[0]
        text = _text(body[at + 8 : at + 8 + length])
        if name == b"ICMT" and text:
            found.fields.setdefault("comment", text)
        elif name == b"IART":
            found.artist = found.artist or text
        at += 8 + length
        at += body[at : at + 1] == b"\0"


def _text(content: bytes) -> str:
    content = content.partition(b"\0")[0]
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return content.decode("latin-1").strip()


def _add_guano(content: bytes | str, found: _Found) -> None:
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    found.guano = parse_guano(text) | found.guano


def _walk_w64(source: _Source, found: _Found) -> None:
    offset = 40
    for _ in range(MAX_CHUNKS):
        head = source.at(offset, 24)
        if len(head) < 24 or not _is_id(head[:4]):
            break
        name, length = head[:4], max(0, struct.unpack("<Q", head[16:])[0] - 24)
        if name == b"data" and "data_offset" not in found.fields:
            if not _data(source, found, offset + 24, length):
                return
        else:
            _chunk(source, found, name, offset + 24, length, "<")
        offset += (24 + length + 7) // 8 * 8
    _check_rest(source, found, offset)


def _walk_flac(source: _Source, found: _Found, start: int) -> None:
    offset = start + 4
    for _ in range(MAX_CHUNKS):
        head = source.at(offset, 4)
        if len(head) < 4:
            return
        kind, length, body = head[0] & 0x7F, int.from_bytes(head[1:]), offset + 4
        if kind == 0:
            _stream_info(source.at(body, min(length, 18)), found)
        elif kind == 4:
            _tags(source.at(body, min(length, MAX_TEXT)), found)
        elif kind == 2:
            # What `flac --keep-foreign-metadata` saves: a RIFF chunk, head and all.
            kept = source.at(body, min(length, 12))
            if kept[:4] == b"riff" and len(kept) == 12:
                _chunk(source, found, kept[4:8], body + 12, length - 12, "<")
        offset = body + length
        if head[0] & 0x80:
            found.fields["data_offset"] = offset
            found.fields["data_bytes_present"] = max(0, source.size - offset)
            return


def _stream_info(body: bytes, found: _Found) -> None:
    if len(body) < 18:
        return
    packed = int.from_bytes(body[10:18])
    found.fields |= {
        "sample_rate": packed >> 44 or None,
        "channels": (packed >> 41 & 7) + 1,
        "bits": (packed >> 36 & 31) + 1,
        "frames_promised": packed & (1 << 36) - 1 or None,
    }


def _tags(body: bytes, found: _Found) -> None:
    for tag in _tag_texts(body):
        key, _, value = tag.partition("=")
        key = key.strip().upper()
        if key in ("GUANO", "GUAN") or value.lstrip().startswith("GUANO|Version"):
            _add_guano(value, found)
        elif key in ("COMMENT", "DESCRIPTION", "ICMT") and value.strip():
            if key == "COMMENT" or "comment" not in found.fields:
                found.fields["comment"] = value.strip()
        elif key in ("ARTIST", "IART"):
            found.artist = found.artist or value.strip()


def _tag_texts(body: bytes) -> Iterator[str]:
    at = 4 + int.from_bytes(body[:4], "little") + 4
    while at + 4 <= len(body):
        length = int.from_bytes(body[at : at + 4], "little")
        yield body[at + 4 : at + 4 + length].decode("utf-8", "replace")
        at += 4 + length


def _facts(found: _Found) -> HeaderFacts:
    notes = read_notes(found.fields.get("comment") or "", found.artist, found.guano)
    return HeaderFacts(
        **found.fields,
        **{name: value for name, value in vars(notes).items() if name != "flags"},
        flags=tuple(sorted(found.flags | notes.flags)),
    )
