"""Files on a disk or at a URL, read by range: few requests, and hardly a byte too many."""

import io
import os
from typing import Any, BinaryIO, cast

import fsspec.core

BLOCK = 64 * 1024
"""Bytes of a request for what was not read before: a header, an end, a place that is sought."""
MOST = 4 * 1024 * 1024
"""Bytes of a request while a file is read from front to back."""


def file_system(url: str) -> Any:
    """The fsspec file system of a URL or path. Raises ImportError or ValueError without one."""
    scheme, colon, rest = url.partition("://")
    # Of the name of a file nothing is asked: `#1` at its end would be taken for a version.
    place = f"{scheme}{colon}{rest.partition('/')[0]}" if colon else url
    return fsspec.core.url_to_fs(place)[0]


def open_file(url: str) -> BinaryIO:
    """A file, for reading. Raises OSError as the storage does."""
    if "://" not in url:
        return open(url, "rb", buffering=0)
    return cast(BinaryIO, RemoteFile(file_system(url), url))


class RemoteFile(io.RawIOBase):
    """A file of an fsspec file system.

    Kept are the blocks at both ends, where headers stand, and the last two that were read. Who goes
    on where a block ended is given a larger one, up to `until`: bytes beyond that place are thought
    to be of no use. Raises OSError as the storage does.
    """

    def __init__(self, fs: Any, url: str) -> None:
        self._fs, self._path = fs, fs._strip_protocol(url)
        found = fs.info(self._path)
        if found["type"] == "directory":
            raise IsADirectoryError(url)
        self.size = self.until = int(found["size"])
        self._at = 0
        self._ends: list[tuple[int, bytes]] = []
        self._recent: list[tuple[int, bytes]] = []

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"a place before the file's beginning: {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._at < self.size:
            start, block = self._block(self._at, len(view) - filled)
            piece = block[self._at - start :][: len(view) - filled]
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
            self._at += len(piece)
        return filled

    def _block(self, at: int, count: int) -> tuple[int, bytes]:
        """A block that holds the byte at `at`, and if it must be read, `count` from there on."""
        for start, block in (*self._recent, *self._ends):
            if start <= at < start + len(block):
                return start, block
        ended = [start + len(block) for start, block in self._recent]
        more = min(self.until, at + MOST) if at in ended else 0
        stop = max(at + max(count, BLOCK), more)
        stop = min([stop, self.size, *(start for start, _ in self._ends if start > at)])
        block = self._fs.cat_file(self._path, start=at, end=stop)
        if len(block) != stop - at:
            raise OSError(f"{self._path}: {len(block)} bytes came of {stop - at} from {at} on")
        if len(block) <= 4 * BLOCK and (at == 0 or stop == self.size):
            self._ends.append((at, block))
        self._recent = [*self._recent[-1:], (at, block)]
        return at, block
