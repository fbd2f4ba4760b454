"""Discovery: the recordings below the inputs, as a listing that no file was opened for."""

import csv
import glob
import heapq
import io
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import PurePosixPath

import fsspec

from model.errors import UserError
from pipeline.storage import Entry, Folder, absolute, entry_of, is_local, local_entry

EXTENSIONS = frozenset(
    {"wav", "wave", "w64", "rf64", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff"}
)
UNSUPPORTED = frozenset({"wac"})
LISTS = (".txt", ".csv", ".parquet")
THREADS = 16
MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Input:
    """One `--input`: the entries that it names, and the folder under which they are named."""

    root: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Listing:
    """Recordings found: each entry once, sorted by name under the root.

    `unlisted` are the folders that could not be listed, with what was said.
    """

    root: str
    recordings: tuple[tuple[str, Entry], ...]
    unlisted: tuple[str, ...]


def extension(name: str) -> str:
    """The extension in lower case, without the dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""


def is_recording(name: str) -> bool:
    """Whether a file's name is one of a recording (or of a known format that is not read)."""
    hidden = name.startswith(".")
    return not hidden and extension(name) in EXTENSIONS | UNSUPPORTED


def discover(inputs: Sequence[str], root: str | None = None) -> Listing:
    """All recordings below files, folders, globs, URLs or lists of them.

    `root` is the folder under which recordings are named; without one it is the folder given, or
    the common parent of several. Raises UserError where an input does not exist, or is not below
    the root.
    """
    found = [_resolve(absolute(text)) for text in inputs]
    top = absolute(root) if root is not None else common_root([item.root for item in found])
    unlisted: list[str] = []
    entries: dict[str, Entry] = {}
    for item in found:
        for entry in _walk(item.entries, unlisted):
            entries[entry.url] = entry
    named = sorted((name_under(top, entry.url), entry) for entry in entries.values())
    return Listing(top, tuple(named), tuple(sorted(unlisted)))


def common_root(roots: Sequence[str]) -> str:
    """The deepest folder that holds all `roots`."""
    if not roots:
        raise UserError("No input was given; name a folder of recordings with --input.")
    if len({is_local(root) for root in roots}) > 1:
        raise UserError("The inputs lie on a disk and in a bucket; name their root with --root.")
    parts = [root.split("/") for root in roots]
    shared = _common_start(parts)
    top = "/".join(shared)
    if not is_local(roots[0]) and len(shared) < 4:
        if len(shared) == 3 and shared[2]:
            return top
        raise UserError("The inputs lie in different buckets; a dataset has one root (--root).")
    return top or "/"


def _common_start(parts: Sequence[Sequence[str]]) -> list[str]:
    shared = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return shared


def name_under(root: str, url: str) -> str:
    """The name of a recording under the root; UserError where it is not below it."""
    prefix = root.rstrip("/") + "/"
    if not url.startswith(prefix):
        raise UserError(
            f"{url} is not below the dataset's root {root}; give --root if the archive has moved, "
            "or write to another output."
        )
    return url.removeprefix(prefix).encode("utf-8", "backslashreplace").decode()


def _resolve(text: str) -> Input:
    """What one input names: a thing that exists, the entries of a list, or a pattern."""
    entry = _entry(text)
    if entry is not None and not entry.is_folder and text.lower().endswith(LISTS):
        return _read_list(text)
    if entry is not None:
        return Input(text if entry.is_folder else _parent(text), (entry,))
    if MAGIC.search(text):
        matches = tuple(
            e for e in _glob(text) if e.is_folder or is_recording(e.url.rsplit("/")[-1])
        )
        if matches:
            fixed = text[: MAGIC.search(text).start()]  # type: ignore[union-attr]
            return Input(_parent(fixed + "x"), matches)
        raise UserError(f"No recording matches {text}; check the pattern given to --input.")
    raise UserError(f"There is no file or folder at {text}; check the path given to --input.")


def _entry(url: str) -> Entry | None:
    if is_local(url):
        if not os.path.lexists(url):
            return None
        if os.path.isdir(url):
            try:
                os.scandir(url).close()
            except PermissionError as error:
                raise UserError(
                    f"The folder {url} may not be read; check its permissions."
                ) from error
        return local_entry(url)
    fs = Folder(url).fs
    try:
        found = entry_of(fs, fs.info(url))
        return Entry(url, found.size, found.stamp, found.is_folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{url} cannot be read: {error}.") from error


def _parent(url: str) -> str:
    return url.rsplit("/", 1)[0] or "/"


def _glob(pattern: str) -> tuple[Entry, ...]:
    if is_local(pattern):
        return tuple(local_entry(path) for path in sorted(glob.glob(pattern, recursive=True)))
    fs = Folder(pattern).fs
    found = fs.glob(pattern, detail=True)
    return tuple(entry_of(fs, found[name]) for name in sorted(found))


def _read_list(url: str) -> Input:
    """The inputs that a text (a line each), CSV or Parquet file lists."""
    where = _parent(url)
    lines = [line for line in _lines(url) if line]
    if not lines:
        raise UserError(f"The list {url} names no recordings.")
    places = [
        absolute(line) if "://" in line or line.startswith("/") else absolute(f"{where}/{line}")
        for line in lines
    ]
    entries = []
    for place in places:
        entry = _entry(place)
        entries.append(entry or Entry(place, None, None, False))
    return Input(common_root([_parent(place) for place in places]), tuple(entries))


def _lines(url: str) -> list[str]:
    with fsspec.open(url, "rb") as file:
        content = file.read()
    if url.lower().endswith(".parquet"):
        import pyarrow.parquet as pq

        rows = pq.read_table(io.BytesIO(content))
        column = _path_column(rows.column_names, url)
        values: list[object] = rows[column].to_pylist()
        return [str(value) for value in values if value is not None]
    text: str = content.decode("utf-8-sig")
    if url.lower().endswith(".csv"):
        table = csv.DictReader(io.StringIO(text))
        column = _path_column(list(table.fieldnames or []), url)
        return [str(row[column] or "") for row in table]
    return text.splitlines()


def _path_column(names: Sequence[str], url: str) -> str:
    known = [name for name in names if name in ("recording", "file", "path", "url")]
    if len(known) != 1:
        raise UserError(
            f"The list {url} needs one column recording, file, path or url; it has "
            f"{', '.join(names) or 'none'}."
        )
    return known[0]


def _walk(entries: Sequence[Entry], unlisted: list[str]) -> Iterator[Entry]:
    """Recordings among the entries and below their folders, listed by several threads.

    A folder that can be reached on several ways is listed once: by its own name rather than by a
    link, so that recordings have the same names in every run.
    """
    seen: set[tuple[int, int]] = set()
    links: list[str] = []
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: dict[Future[list[Entry]], str] = {}

        def enter(folder: str) -> None:
            if is_local(folder):
                try:
                    info = os.stat(folder)
                except OSError as error:
                    unlisted.append(f"{folder}: {error.strerror or error}")
                    return
                if (info.st_dev, info.st_ino) in seen:
                    return
                seen.add((info.st_dev, info.st_ino))
            waiting[pool.submit(Folder(folder).list)] = folder

        def consider(entry: Entry, given: bool) -> Iterator[Entry]:
            name = PurePosixPath(entry.url).name
            if entry.is_folder and not (name.startswith(".") and not given):
                if is_local(entry.url) and os.path.islink(entry.url):
                    heapq.heappush(links, entry.url)
                else:
                    enter(entry.url)
            if (given and not entry.is_folder) or is_recording(name):
                yield entry

        for entry in entries:
            yield from consider(entry, True)
        while waiting or links:
            if not waiting:
                enter(heapq.heappop(links))
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                folder = waiting.pop(future)
                try:
                    children = future.result()
                except OSError as error:
                    unlisted.append(f"{folder}: {error.strerror or error}")
                    continue
                for child in children:
                    yield from consider(child, False)
