"""The few verbs on files that the project needs, on a disk or under any fsspec URL.

Everything written appears whole: on a disk by a synced temporary and a link or rename, in a bucket
because an object does.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from model.errors import UserError
from model.files import RemoteFile, file_system, is_google, read_end, read_file
from model.retries import StorageError, ask

FIELDS = "nextPageToken,items(name,size,md5Hash,etag,updated)"
"""What is asked of a listing of Google's: all that is known of a file is twenty times as much."""
PAGE = 1000
"""Files in an answer of Google's to a listing: it gives no more."""
THREADS = 16
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of storage that no new try mends."""


def is_local(url: str) -> bool:
    """Whether a path or URL is on this machine's disks."""
    return "://" not in url or url.startswith(("file://", "local://"))


def absolute(url: str) -> str:
    """An absolute path without a trailing slash, or the URL as it is (without one).

    Raises UserError for the URL of a bucket without its name.
    """
    if is_local(url):
        return os.path.abspath(cast(str, fsspec.core.strip_protocol(url)))
    scheme, _, rest = url.partition("://")
    if not rest.strip("/"):
        raise UserError(f"{url} names no bucket; give one, as {scheme}://BUCKET/FOLDER.")
    # Of two names of one place.
    return f"{'gs' if scheme == 'gcs' else scheme}://{rest.strip('/')}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder as a listing tells it: `stamp` changes when the content does.

    `modified` is when it was written, in Unix seconds, where the listing tells it.
    """

    url: str
    size: int | None
    stamp: str | None
    is_folder: bool
    modified: float | None = None


@dataclass(frozen=True)
class Folder:
    """A folder or bucket prefix; names are relative and use `/`."""

    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", absolute(self.url))

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk."""
        return is_local(self.url)

    @property
    def fs(self) -> Any:
        """The fsspec file system."""
        return file_system(self.url)

    def at(self, name: str) -> str:
        """The path or URL of a name."""
        return f"{self.url}/{name}" if name else self.url

    def child(self, name: str) -> "Folder":
        """The folder below it."""
        return Folder(self.at(name))

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder has that name."""
        if self.is_local:
            return os.path.lexists(self.at(name))
        try:
            ask(self.fs, "info", self.at(name))
        except FileNotFoundError:
            return False
        return True

    def below(self, name: str = "") -> dict[str, Entry]:
        """Each file below `name` by its name in this folder, by one listing."""
        if not self.is_local:
            return {self._name(entry): entry for entry in self.walk(name)}
        entries: dict[str, Entry] = {}
        folders = [self.at(name)]
        while folders:
            with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as children:
                for child in children:
                    if child.is_dir(follow_symlinks=False):
                        folders.append(child.path)
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        info = child.stat()
                        stamp = f"{info.st_mtime_ns}-{info.st_ino}-{info.st_size}"
                        path = child.path.removeprefix(f"{self.url}/")
                        entries[path] = Entry(child.path, info.st_size, stamp, False, info.st_mtime)
        return entries

    def open(self, name: str) -> BinaryIO:
        """The file, for reading by range."""
        if self.is_local:
            return Path(self.at(name)).open("rb")
        file = RemoteFile(self.fs, self.at(name))
        file.until = 0  # Columns are read, not the whole.
        return cast(BinaryIO, file)

    def require_empty(self) -> None:
        """Raises UserError if files are there, with which new ones would mix."""
        if self.exists() and self.files():
            raise UserError(f"{self.url} is not empty; give a new folder, so that nothing mixes.")

    def read(self, name: str) -> bytes:
        """The whole content."""
        return read_file(self.at(name))

    def read_end(self, name: str, count: int) -> bytes:
        """The last `count` bytes, or all if there are fewer, by one request."""
        return read_end(self.at(name), count)

    def read_json(self, name: str) -> Any:
        """The JSON content; None if there is no such file."""
        try:
            return json.loads(self.read(name))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole, replacing one of that name."""
        if self.is_local:
            with self._temporary(name) as temporary:
                _write_synced(temporary, content)
                os.replace(temporary, self.at(name))
        else:
            ask(self.fs, "pipe_file", self.at(name), content)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file written bit by bit, which appears whole after the block, if that ends well.

        In a bucket it lies on this machine's disk until then.
        """
        with contextlib.ExitStack() as stack:
            if self.is_local:
                path = stack.enter_context(self._temporary(name))
            else:
                place = tempfile.TemporaryDirectory(prefix="dawnchorus-")
                path = os.path.join(stack.enter_context(place), "file")
            with open(path, "wb") as file:
                yield file
            self.place(path, name, replace=True)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file whole, readable by people."""
        self.write(name, to_json(value))

    def create(self, name: str, content: bytes) -> bool:
        """Writes a file whole if none has that name; False, and nothing done, if one has."""
        if not self.is_local:
            try:
                ask(self.fs, "pipe_file", self.at(name), content, mode="create")
                return True
            except FileExistsError:
                # The answer to the first try may have been lost: then it is ours that is there.
                with contextlib.suppress(FileNotFoundError):
                    return self.read(name) == content
                return False
        with self._temporary(name) as temporary:
            _write_synced(temporary, content)
            return _link(temporary, self.at(name))

    def place(self, source: str, name: str, *, replace: bool) -> bool:
        """Moves the local file `source` to a name; False if one is there and not `replace`."""
        if self.is_local:
            os.makedirs(os.path.dirname(self.at(name)), exist_ok=True)
            sync(source)
            if replace:
                os.replace(source, self.at(name))
                return True
            return _link(source, self.at(name))
        try:
            mode = "overwrite" if replace else "create"
            ask(self.fs, "put_file", source, self.at(name), mode=mode)
            return True
        except FileExistsError:
            return False

    def move(self, source: str, target: str) -> None:
        """Moves a file within the folder over what is there; nothing if the source is gone.

        On a disk a whole folder can be moved too.
        """
        with contextlib.suppress(FileNotFoundError):
            if source == target:
                return
            if self.is_local:
                os.makedirs(os.path.dirname(self.at(target)), exist_ok=True)
                os.replace(self.at(source), self.at(target))
            else:
                ask(self.fs, "cp_file", self.at(source), self.at(target))
                ask(self.fs, "rm_file", self.at(source))

    def remove(self, name: str) -> None:
        """Removes a file or folder with all below it, if there is one."""
        if not self.is_local:
            fs = self.fs
            with ThreadPoolExecutor(THREADS) as pool:
                # One by one: fsspec takes the names of several for patterns.
                found = pool.map(lambda entry: _remove(fs, entry.url), self.walk(name))
                if not sum(1 for _ in found):
                    _remove(fs, self.at(name))
            return
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(self.at(name)):
                shutil.rmtree(self.at(name), ignore_errors=True)
            else:
                os.remove(self.at(name))

    def files(self, name: str = "") -> list[str]:
        """Names (relative to this folder, sorted) of all files below `name`."""
        if self.is_local:
            top = self.at(name)
            found = [
                os.path.relpath(os.path.join(folder, file), self.url).replace(os.sep, "/")
                for folder, _, files in os.walk(top)
                for file in files
            ]
        else:
            found = [self._name(entry) for entry in self.walk(name)]
        return sorted(found)

    def walk(self, name: str = "") -> Iterator[Entry]:
        """All files below a name of remote storage; of Google's, a page of a listing at a time."""
        fs = self.fs
        top = fs._strip_protocol(self.at(name)).rstrip("/")
        if not is_google(fs):
            fs.invalidate_cache()
            for info in ask(fs, "find", top, detail=True).values():
                if info["name"] != top:
                    yield entry_of(fs, info)
            return
        bucket, _, below = top.partition("/")
        wanted: dict[str, Any] = {"prefix": f"{below}/" if below else None, "fields": FIELDS}
        wanted |= {"maxResults": PAGE, "pageToken": None}
        while True:
            try:
                page = ask(fs, "call", "GET", "b/{}/o", bucket, json_out=True, **wanted)
            except FileNotFoundError as error:
                raise UserError(
                    f"There is no bucket gs://{bucket}; make it, or correct the name."
                ) from error
            for item in page.get("items", []):
                if not item["name"].endswith("/"):
                    info = {**item, "name": f"{bucket}/{item['name']}", "type": "file"}
                    yield entry_of(fs, info | {"size": int(item["size"])})
            wanted["pageToken"] = page.get("nextPageToken")
            if not wanted["pageToken"]:
                return

    def _name(self, entry: Entry) -> str:
        return entry.url.removeprefix(f"{self.url}/")

    def list(self, name: str = "") -> list[Entry]:
        """The entries of one folder on a disk, sorted by name. Raises OSError."""
        with os.scandir(self.at(name)) as found:
            return sorted((local_entry(child.path) for child in found), key=lambda e: e.url)

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[str]:
        """A path beside the file of a name that readers skip; removed afterwards."""
        folder, base = os.path.split(self.at(name))
        os.makedirs(folder, exist_ok=True)
        temporary = os.path.join(folder, f"_{base}.{uuid.uuid4().hex}")
        try:
            yield temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(temporary)


def _remove(fs: Any, url: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        ask(fs, "rm_file", url)


def check_answers(url: str) -> None:
    """Raises StorageError if the bucket of a file that is not to be had is not to be had either."""
    if is_local(url):
        return
    scheme, _, rest = url.partition("://")
    fs, bucket = file_system(url), rest.partition("/")[0]
    try:
        if is_google(fs):
            ask(fs, "call", "GET", "b/{}/o", bucket, json_out=True, maxResults=1, fields="kind")
        else:
            ask(fs, "info", f"{scheme}://{bucket}")
    except FileNotFoundError as error:
        gone = StorageError(errno.ENOENT, f"there is no bucket {scheme}://{bucket} any more")
        gone.gone = True
        raise gone from error


def file_at(url: str) -> tuple[Folder, str]:
    """The folder of a file, by path or URL, and the file's name there."""
    parent, _, name = absolute(url).rpartition("/")
    return Folder(parent or "/"), name


def write_report(url: str, value: Any) -> None:
    """Writes a JSON file that the user has asked for. Raises UserError where it cannot be."""
    folder, name = file_at(url)
    try:
        folder.write_json(name, value)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{url} cannot be written: {why}; name another file.") from error


def to_json(value: Any) -> bytes:
    """JSON for people: indented, keys as given, not escaped."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def entry_of(fs: Any, info: dict[str, Any]) -> Entry:
    """The entry of an fsspec listing."""
    stamp = next(
        (info[k] for k in ("md5Hash", "etag", "ETag", "mtime", "created") if k in info), ""
    )
    return Entry(
        absolute(fs.unstrip_protocol(info["name"])),
        info.get("size"),
        f"{stamp}-{info.get('size')}",
        info["type"] == "directory",
        _moment(info),
    )


def _moment(info: dict[str, Any]) -> float | None:
    """When a file was written, as an fsspec listing tells it."""
    told = next((info[k] for k in ("updated", "mtime", "LastModified", "created") if k in info), 0)
    if isinstance(told, str):
        told = datetime.fromisoformat(told)
    return told.timestamp() if isinstance(told, datetime) else float(told) or None


def local_entry(path: str) -> Entry:
    """The entry of a local path; a broken link has no size."""
    try:
        info = os.stat(path)
    except OSError:
        return Entry(path, None, None, False)
    return Entry(path, info.st_size, f"{info.st_mtime_ns}-{info.st_size}", os.path.isdir(path))


def _write_synced(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: str) -> None:
    """Makes sure that a local file's content, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _link(source: str, target: str) -> bool:
    """Gives a whole local file its name, exclusively; the source may stay."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without hard links: whole, and exclusive but for a race of an instant.
        if os.path.lexists(target):
            return False
        os.rename(source, target)
    return True
