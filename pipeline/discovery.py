"""Discovery: the recordings below the inputs, as a listing that no file was opened for."""

import glob
import heapq
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.errors import UserError
from model.retries import ask
from pipeline.given import place_of, read_given
from pipeline.lists import SUFFIXES, Line, extension, read_list
from pipeline.recording import INVENTORY
from pipeline.storage import Entry, Folder, absolute, entry_of, is_local, local_entry

EXTENSIONS = frozenset(
    {"wav", "wave", "w64", "rf64", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff"}
)
UNSUPPORTED = frozenset({"wac"})
THREADS = 16
MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Input:
    """One `--input`: the entries that it names, and the folder under which they are named.

    `told` is what a list tells of the recording at a URL; `rows` are those of an inventory.
    """

    root: str
    entries: tuple[Entry, ...]
    told: Mapping[str, Line] = field(default_factory=dict)
    rows: pa.Table = field(default_factory=INVENTORY.empty_table)


@dataclass(frozen=True)
class Listing:
    """Recordings found: each entry once, sorted by name under the root.

    `rows` are the recordings of inventories, of which all is known. `unlisted` are the folders that
    could not be listed, with what was said; `told` is what lists tell of a recording, by its name.
    `folders` are the folders given, of which all is listed.
    """

    root: str
    recordings: tuple[tuple[str, Entry], ...]
    unlisted: tuple[str, ...]
    told: Mapping[str, Line] = field(default_factory=dict)
    rows: pa.Table = field(default_factory=INVENTORY.empty_table)
    folders: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many recordings there are."""
        return len(self.recordings) + int(self.rows.num_rows)

    @property
    def names(self) -> frozenset[str]:
        """The names of all recordings."""
        listed = {name for name, _ in self.recordings}
        return frozenset(listed.union(self.rows["recording"].to_pylist()))


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
    rows = _named(top, [item.rows for item in found if item.rows.num_rows])
    if rows.num_rows:
        for url in rows["url"].to_pylist():
            entries.pop(os.fsdecode(url), None)
    named = sorted((name_under(top, entry.url), entry) for entry in entries.values())
    lines = {url: line for item in found for url, line in item.told.items()}
    told = {name: lines[entry.url] for name, entry in named if entry.url in lines}
    folders = tuple(entry.url for item in found for entry in item.entries if entry.is_folder)
    return Listing(top, tuple(named), tuple(sorted(unlisted)), told, rows, folders)


def _named(top: str, tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of inventories with their names under the root, sorted, each once."""
    if not tables:
        return INVENTORY.empty_table()
    table = pa.concat_tables(tables)
    names = pa.array(
        (name_under(top, os.fsdecode(url.as_py())) for url in table["url"]), pa.string()
    )
    table = table.set_column(0, INVENTORY.field("recording"), names).sort_by("recording")
    names = table["recording"].combine_chunks()
    again = np.flatnonzero(pc.equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False))
    for row in again.tolist():
        one, other = table.slice(row, 2).to_pylist()
        if one != other:
            raise UserError(
                f"The inventory tells two things of {one['recording']}; leave one of its rows out."
            )
    return table.take(np.delete(np.arange(len(names)), again + 1)) if len(again) else table


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
    if entry is not None and not entry.is_folder and text.lower().endswith(SUFFIXES):
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
        raise UserError(f"No recording matches {text}; check the pattern.")
    raise UserError(f"There is no file or folder at {text}; check the path.")


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
        found = entry_of(fs, ask(fs, "info", url))
        return Entry(url, found.size, found.stamp, found.is_folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{url} cannot be read: {error.strerror or error}.") from error


def _children(folder: Folder) -> list[Entry]:
    """The entries of a folder; in a bucket, where folders are but names, all recordings below."""
    if folder.is_local:
        return folder.list()
    found = ((entry, entry.url.removeprefix(folder.url).split("/")) for entry in folder.walk())
    return [
        entry
        for entry, (*above, name) in found
        if is_recording(name) and not any(part.startswith(".") for part in above)
    ]


def _parent(url: str) -> str:
    return url.rsplit("/", 1)[0] or "/"


def _glob(pattern: str) -> tuple[Entry, ...]:
    if is_local(pattern):
        return tuple(local_entry(path) for path in sorted(glob.glob(pattern, recursive=True)))
    fs = Folder(pattern).fs
    found = ask(fs, "glob", pattern, detail=True)
    # As on a disk: a star stands for no name that begins with a dot, unless the dot is written.
    written = any(part.startswith(".") for part in pattern.split("/"))
    return tuple(
        entry_of(fs, found[name])
        for name in sorted(found)
        if written or not any(part.startswith(".") for part in name.split("/"))
    )


def _read_list(url: str) -> Input:
    """The inputs that a list names, and what it tells of them."""
    given = read_given(url) if url.lower().endswith(".parquet") else None
    lines = [(line, None, None) for line in read_list(url)] if given is None else given.lines
    entries, told = [], dict[str, Line]()
    for line, size, stamp in lines:
        place = place_of(line.path, _parent(url))
        known = None if stamp is None else Entry(place, size, f"{stamp}-{size}", False)
        entry = known or _entry(place) or Entry(place, None, None, False)
        entries.append(entry)
        if line.start is None and line.site is None:
            continue
        if entry.is_folder and not is_recording(PurePosixPath(place).name):
            raise UserError(
                f"The list {url} names the folder {place} in {line.where}; a start_clock or site "
                "can be given for files only."
            )
        other = told.setdefault(place, line)
        if (other.start, other.site) != (line.start, line.site):
            raise UserError(
                f"The list {url} tells {place} one start_clock and site in {other.where} and "
                f"another in {line.where}; remove one."
            )
    if given is None:
        return Input(common_root([_parent(entry.url) for entry in entries]), tuple(entries), told)
    parents = {_parent(os.fsdecode(url.as_py())) for url in given.rows["url"]}
    parents.update(_parent(entry.url) for entry in entries)
    return Input(given.root or common_root(sorted(parents)), tuple(entries), told, given.rows)


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
            waiting[pool.submit(_children, Folder(folder))] = folder

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
