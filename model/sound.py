"""An open recording, whatever its container: samples by place, and what its header hides."""

import contextlib
import io
import os
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, Self, cast

import numpy as np
import numpy.typing as npt
import soundfile

from model.files import BLOCK, RemoteFile, open_file
from model.flac import FlacStream, find_ends, stream_info
from model.flac_chunks import FlacChunks
from model.mpeg import Prefixed, table_of
from model.ogg import find_gaps
from model.reasons import REASONS

Float32 = npt.NDArray[np.float32]

RATES = range(100, 1_000_001)
"""Sample rates in Hz that are taken for those of sound; a header with another one is damaged."""
MAX_CHANNELS = 128
CODES = {1: "not_audio", 4: "unsupported", 17: "memory", 18: "unsupported"}
"""Reasons for libsndfile's codes; every other one means damage."""
TAIL_BYTES = 256 * 1024
"""Bytes at a FLAC's end that hold the head of a frame, whatever its size."""
SAMPLES_PER_BYTE = 8192
"""More samples than this for each byte of the file are told by a wrong header only."""
OFFSET = re.compile(r"(?:PCM|Granule pos) offset *: *(\d+)")
"""Where libsndfile says that an OGG begins."""
KNOWN_CHUNKS = frozenset(
    {b"fmt ", b"data", b"LIST", b"guan", b"bext", b"fact", b"cue ", b"wamd", b"id3 ", b"ID3 "}
    | {b"JUNK", b"PAD ", b"FLLR", b"iXML", b"axml", b"smpl", b"inst", b"PEAK", b"plst", b"labl"}
)
"""Names of a WAV's chunks."""
UNCLOSED = re.compile(rb"data\0\0\0\0(?!" + b"|".join(sorted(KNOWN_CHUNKS)) + rb")")
"""A chunk of audio in a WAV that was never closed, and no other chunk after it."""


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


class _Source(io.RawIOBase):
    """The file that libsndfile calls back: C code would swallow what storage raises.

    `repair` is (place, bytes): bytes of a header that are read in place of those in the file.
    """

    def __init__(self, file: BinaryIO, repair: tuple[int, bytes] | None) -> None:
        self._file = file
        self._repair = repair
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
        at = self.tell() if self._repair else 0
        count: int = self._try(self._file.readinto, buffer) or 0  # type: ignore[attr-defined]
        if self._repair:
            place, content = self._repair
            first, last = max(place, at), min(place + len(content), at + count)
            if first < last:
                buffer[first - at : last - at] = content[first - place : last - place]
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        # Headers invent places that no file has, and seeking asks nothing of storage.
        with contextlib.suppress(OSError, ValueError, OverflowError):
            self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return self._try(self._file.tell) or 0

    def part(self, start: int, count: int) -> bytes:
        """Bytes of the file as they are; raises what storage raises."""
        here = self._file.tell()
        self._file.seek(max(0, start))
        content = self._file.read(count)
        self._file.seek(here)
        return content


def _opened(path: str) -> BinaryIO:
    try:
        return open_file(path)
    except FileNotFoundError as error:
        raise AudioError("vanished", "the file is not there any more") from error
    except PermissionError as error:
        raise AudioError("permission", "the file may not be read") from error
    except IsADirectoryError as error:
        raise AudioError("not_audio", "a folder, not a file") from error


class Sound:
    """An open recording, local or under any fsspec URL; a context manager.

    `info.frames` are the samples that are there, whatever the header says, and `end` those that
    may be readable: it moves when `look_ahead` finds nothing. `file` is the open file, if it is
    open, which stays so. Raises AudioError where it cannot be opened, or where it does not have
    `size_bytes`; OSError where storage fails.
    """

    def __init__(
        self, path: str, size_bytes: int | None = None, file: BinaryIO | None = None
    ) -> None:
        self.path = path
        self._own = file is None
        self._file = file if file is not None else _opened(path)
        self._size = self._file.seek(0, os.SEEK_END)
        self._repair: tuple[int, bytes] | None = None
        self._prefix = b"", 0
        self._stream: FlacStream | None = None
        self._chunks: FlacChunks | None = None
        self._gaps: list[tuple[int, int]] | None = None
        self._before = 0
        self._readable = 0
        try:
            if size_bytes not in (None, self._size):
                raise AudioError("changed", "the size is not the one that was planned")
            self._open()
            try:
                self._look()
            except BaseException:
                self._end()
                raise
        except BaseException:
            if self._own:
                self._file.close()
            raise

    def _look(self) -> None:
        rate, channels = self._sound.samplerate, self._sound.channels
        if rate not in RATES:
            raise AudioError("damaged", f"a sample rate of {rate} Hz")
        if channels > MAX_CHANNELS:
            raise AudioError("unsupported", f"{channels} channels, more than {MAX_CHANNELS}")
        kind, frames = f"{self._sound.format}/{self._sound.subtype}", self._frames()
        if frames > SAMPLES_PER_BYTE * self._size:
            raise AudioError("damaged", f"{frames:,} samples in {self._size:,} bytes")
        self.info = AudioInfo(frames, rate, channels, kind)
        self.end = frames
        if self._stream is not None:
            self._chunks = FlacChunks(self._source.part, self._stream, self._size, frames)

    def _open(self) -> None:
        self._file.seek(0)
        file = Prefixed(*self._prefix, self._file) if self._prefix[0] else self._file
        self._source = _Source(cast(BinaryIO, file), self._repair)
        try:
            self._sound = soundfile.SoundFile(self._source)
            self.check_storage()
        except BaseException as error:
            self._source.close()
            if not isinstance(error, soundfile.LibsndfileError | MemoryError):
                raise
            self.check_storage()
            raise as_audio_error(error) from error

    def _frames(self) -> int:
        """Samples that are there; what hides some of them in the header is read otherwise."""
        frames: int = self._sound.frames
        if self._sound.format == "FLAC":
            return self._flac_frames(frames)
        if self._sound.format == "OGG":
            return self._ogg_frames(frames)
        if self._sound.format == "MP3":
            self._prefix = table_of(self._source.part, self._size)
            if self._prefix[0]:
                self.reopen()
            return int(self._sound.frames)
        if not frames and self._sound.format in ("WAV", "WAVEX"):
            found = UNCLOSED.search(self._source.part(0, 4096))
            if found and found.end() < self._size:
                self._repair = found.end() - 4, b"\xff\xff\xff\xff"
                self.reopen()
                return int(self._sound.frames)
        return frames

    def _flac_frames(self, promised: int) -> int:
        """A FLAC's samples by its last frame: the header may promise any number, or none."""
        self._stream = stream = stream_info(self._source.part(0, BLOCK)) or stream_info(
            self._source.part(0, TAIL_BYTES)
        )
        if stream is None:
            return promised
        for count in (BLOCK, TAIL_BYTES):
            ends = find_ends(stream, self._source.part(self._size - count, count))
            if any(stop == stream.frames for _, stop in ends):
                return promised
        for end in (end for start, stop in reversed(ends) for end in (stop, start) if end):
            # The decoder seeks by the number in the header, so it is given the true one.
            self._repair = stream.place, stream.count(end)
            if self._is_readable(end - 1):
                self.reopen()
                return end
        self._repair = None
        self.reopen()
        if stream.frames:
            return promised
        raise AudioError("damaged", "a header without a length, and no frame at the end")

    def _ogg_frames(self, frames: int) -> int:
        """An OGG's samples with those of lost first pages, which libsndfile takes for no part."""
        offset = OFFSET.search(self._sound.extra_info)
        before = round(int(offset[1]) * self._scale) if offset else 0
        gaps = self._find_gaps(frames + before) if before else []
        if not gaps or gaps[0][0]:
            return frames
        self._before, self._gaps = before, gaps
        return frames + before

    @property
    def _scale(self) -> float:
        """Samples for each step of an OGG page's position."""
        opus = self._sound.subtype == "OPUS"
        return self._sound.samplerate / 48_000 if opus else 1.0

    def _find_gaps(self, frames: int) -> list[tuple[int, int]]:
        log = self._sound.extra_info
        if "hole" not in log and "Skipped" not in log:
            return []
        # After a gap, libsndfile finds its place in Vorbis at once, in Opus a page later.
        pages = 2 if self._sound.subtype == "OPUS" else 1
        return find_gaps(self._source.part, frames, self._scale, pages)

    def _is_readable(self, sample: int) -> bool:
        try:
            self.reopen()
            return len(self.read(sample, 1)) == 1
        except AudioError as error:
            if error.curable:
                raise
            return False

    def check_storage(self) -> None:
        """Raises what storage raised while the decoder was reading."""
        if isinstance(self._source.error, MemoryError):
            raise AudioError("memory", "not enough memory") from self._source.error
        if self._source.error is not None:
            raise self._source.error

    def read(self, start: int, count: int) -> Float32:
        """Up to `count` samples from `start`: float32 (n, channels), not to be written to.

        Raises AudioError.
        """
        place = start - self._before
        count = min(count, self._sound.frames - place)
        if count < 1:
            return np.zeros((0, self._sound.channels), np.float32)
        try:
            block = self._chunks.read(place, count) if self._chunks else None
            if block is not None:
                return block
            self._chunks = None
            if self._sound.tell() != place and self._sound.seek(place) != place:
                raise AudioError("damaged", "the decoder does not find the place")
            block = self._sound.read(count, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, MemoryError) as error:
            self.check_storage()
            raise as_audio_error(error) from error
        self.check_storage()
        return cast(Float32, block)

    def look_ahead(self, start: int) -> None:
        """Sets `end` to `start` if nothing can be read from there on.

        Tried at growing distances: each try may cost the reading of all that lies before.
        """
        if start < self._readable:
            return
        ahead = [start + self.info.sample_rate * 2**i for i in range(40)]
        for sample in [*(at for at in ahead if at < self.end), self.end - 1]:
            if self._is_readable(sample):
                self._readable = sample
                return
        self.end = start

    def gaps(self) -> list[tuple[int, int]]:
        """The samples [start, stop) that damaged pages of an OGG held.

        libsndfile leaves them out without a word but in its log, and gives what follows too early.
        The file is searched, once, when that log tells of damage; until then there are none.
        """
        if self._gaps is None and self.info.format.startswith("OGG/"):
            self._gaps = self._find_gaps(self.info.frames) or None
        return self._gaps or []

    def reopen(self) -> None:
        """Begins anew: after an error the decoder's state is not to be trusted."""
        self._end()
        self._open()

    def until(self, frame: int) -> None:
        """Tells that nothing is wanted from about a sample on, so that it need not be fetched."""
        if isinstance(self._file, RemoteFile):
            share = frame / max(1, self.info.frames)
            self._file.until = min(self._size, int(self._size * share) + BLOCK)

    def close(self) -> None:
        """Closes the recording, and its file if it opened it."""
        self._end()
        if self._own:
            self._file.close()

    def _end(self) -> None:
        self._chunks = None
        self._sound.close()
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_audio_error(error: Exception) -> AudioError:
    """What an error of libsndfile, or a want of memory, means for the recording."""
    if isinstance(error, soundfile.LibsndfileError):
        return AudioError(CODES.get(error.code, "damaged"), error.error_string)
    return AudioError("memory", "not enough memory")


def read_header(path: str) -> AudioInfo:
    """Frames, rate, channels and format of a recording; AudioError if it cannot be opened."""
    with Sound(path) as sound:
        return sound.info
