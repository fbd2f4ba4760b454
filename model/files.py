"""Files on a disk or at a URL, read by range: few requests, and hardly a byte too many."""

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any, BinaryIO, cast

import fsspec.core
from fsspec.registry import known_implementations

from model.errors import UserError
from model.retries import HalfError, ask, patience_s

BLOCK = 64 * 1024
"""Bytes of a request for what was not read before: a header, an end, a place that is sought."""
MOST = 4 * 1024 * 1024
"""Bytes of a request while a file is read from front to back."""
AHEAD = 4
"""Files of a process of which the next block is fetched at the same time."""

LISTING = frozenset({"gs", "gcs", "s3", "s3a", "abfs", "abfss", "az", "adl"})
"""Kinds of storage whose file systems keep listings unless told not to."""
TOTAL_S = 300.0
"""Seconds that one request may take, its content included."""
KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
OUT_OF_RANGE = "416"


class ChangedError(FileNotFoundError):
    """A file is not any more the one that was listed: that one has vanished."""


def file_system(url: str) -> Any:
    """The fsspec file system of a URL or path, to be asked by `ask`.

    Raises UserError where its library is not installed, or nobody knows of such a one.
    """
    try:
        return _file_system(url)
    except (ImportError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        library = known_implementations.get(url.partition("://")[0], {}).get("err")
        told = library if isinstance(error, ImportError) and library else str(error)
        why = told.strip().partition("\n")[0].rstrip(".")
        raise UserError(f"{url} cannot be opened: {why}.") from error


def _file_system(url: str) -> Any:
    if "::" in url:
        return fsspec.core.url_to_fs(url)[0]  # A chain, such as zip://::gs://bucket/bundle.zip.
    scheme, colon, rest = url.partition("://")
    # Of the name of a file nothing is asked: `#1` at its end would be taken for a version.
    place = f"{scheme}{colon}{rest.partition('/')[0]}" if colon else url
    # Listings are not kept: others write there too.
    options: dict[str, Any] = {"use_listings_cache": False} if scheme in LISTING else {}
    if scheme in ("gs", "gcs"):
        options |= _google_options()
    fs = fsspec.core.url_to_fs(place, **options)[0]
    once = getattr(getattr(type(fs), "_request", None), "__wrapped__", None)
    if once is not None and "_request" not in vars(fs):
        # gcsfs tries again by itself, uncounted, and for half a minute whatever is asked of it.
        fs._request = MethodType(once, fs)
    return fs


def _google_options() -> dict[str, Any]:
    """What gcsfs is told: without it, a server that falls silent is waited for without end."""
    # Workers of a cluster do not come by the command line, which sets this too.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    import aiohttp

    answer_s = max(1.0, patience_s() / 4)
    options: dict[str, Any] = {
        "requests_timeout": aiohttp.ClientTimeout(
            total=TOTAL_S, sock_connect=answer_s, sock_read=answer_s
        )
    }
    if os.environ.get("STORAGE_EMULATOR_HOST") and not os.environ.get(KEY_FILE):
        options["token"] = "anon"  # Looking for credentials takes a quarter of a minute.
    return options


def size_of(fs: Any, path: str) -> int:
    """Bytes of a file. Raises FileNotFoundError, IsADirectoryError, or what `ask` does."""
    if is_google(fs):
        # `info` would list besides, for there might be a folder of that name.
        bucket, _, key = path.partition("/")
        told = ask(fs, "call", "GET", "b/{}/o/{}", bucket, key, json_out=True, fields="size")
        return int(told["size"])
    found = ask(fs, "info", path)
    if found["type"] == "directory":
        raise IsADirectoryError(path)
    return int(found["size"])


def is_google(fs: Any) -> bool:
    """Whether a file system is that of Google's buckets."""
    return "gs" in (fs.protocol if isinstance(fs.protocol, tuple | list) else [fs.protocol])


def open_file(url: str, size: int | None = None) -> BinaryIO:
    """A file, for reading; `size` are its bytes where they are known.

    Raises OSError as the storage does.
    """
    if "://" not in url:
        return open(url, "rb", buffering=0)
    return cast(BinaryIO, RemoteFile(file_system(url), url, size))


def read_file(url: str) -> bytes:
    """A file's whole content, by one request. Raises OSError as the storage does."""
    if "://" not in url:
        return Path(url).read_bytes()
    fs = file_system(url)
    return cast(bytes, ask(fs, "cat_file", fs._strip_protocol(url)))


def read_end(url: str, count: int) -> bytes:
    """The last `count` bytes of a file, or all if there are fewer, by one request.

    Raises OSError as the storage does.
    """
    if "://" in url:
        fs = file_system(url)
        return cast(bytes, ask(fs, _part, fs, fs._strip_protocol(url), -count, None))
    with Path(url).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - count))
        return file.read()


def _part(fs: Any, path: str, start: int, stop: int | None) -> bytes:
    try:
        return cast(bytes, fs.cat_file(path, start=start, end=stop))
    except Exception as error:
        if str(getattr(error, "code", "")) != OUT_OF_RANGE:
            raise
        return b""


@cache
def _threads() -> ThreadPoolExecutor:
    """The threads that fetch what will be read next; each process has its own."""
    return ThreadPoolExecutor(AHEAD, "ahead")


os.register_at_fork(after_in_child=_threads.cache_clear)


class RemoteFile(io.RawIOBase):
    """A file of an fsspec file system.

    Kept are the blocks at both ends, where headers stand, and the last two that were read. Who goes
    on where a block ended is given a larger one, up to `until`: bytes beyond that place are thought
    to be of no use; and the one after it is fetched meanwhile. Raises OSError as the storage does,
    and ChangedError where the file has not the `size` that was told.
    """

    def __init__(self, fs: Any, url: str, size: int | None = None) -> None:
        self._fs, self._path = fs, fs._strip_protocol(url)
        self.size = self.until = size_of(fs, self._path) if size is None else size
        self._at = 0
        self._ends: list[tuple[int, bytes]] = []
        self._recent: list[tuple[int, bytes]] = []
        self._ahead: tuple[int, int, Future[bytes]] | None = None

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
        goes_on = at in ended
        more = min(self.until, at + MOST) if goes_on else 0
        least = 2 * BLOCK if at == 0 and self.size <= 2 * BLOCK else BLOCK
        stop = self._stop(at, max(at + max(count, least), more))
        ahead, self._ahead = self._ahead, None
        fetched: Future[bytes] | None = None
        if ahead is not None and ahead[0] == at:
            _, stop, fetched = ahead
        if goes_on and stop < self.until:
            # While this block is waited for and decoded, the next one is on its way.
            end = self._stop(stop, min(self.until, stop + MOST))
            if end > stop:
                self._ahead = stop, end, _threads().submit(self._ask, stop, end)
        block = self._ask(at, stop) if fetched is None else fetched.result()
        if len(block) <= 4 * BLOCK and (at == 0 or stop == self.size):
            self._ends.append((at, block))
        self._recent = [*self._recent[-1:], (at, block)]
        return at, block

    def _stop(self, at: int, stop: int) -> int:
        """Where to end what is read from a place on: what is kept need not be read."""
        return min([stop, self.size, *(start for start, _ in self._ends if start >= at)])

    def _ask(self, start: int, stop: int) -> bytes:
        return cast(bytes, ask(self._fs, self._fetch, start, stop))

    def _fetch(self, start: int, stop: int) -> bytes:
        block = _part(self._fs, self._path, start, stop)
        if len(block) != stop - start:
            if size_of(self._fs, self._path) != self.size:
                raise ChangedError(f"{self._path} has another size than before")
            raise HalfError(f"{len(block)} bytes came of {stop - start} from {start} on")
        return block
