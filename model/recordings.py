"""The recordings of a training folder, and how annotations name them."""

import os
import unicodedata
from collections import defaultdict
from itertools import takewhile
from pathlib import Path, PurePosixPath

from model.errors import UserError

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".w64", ".rf64")


class Recordings:
    """The audio files below a folder, as paths relative to it with forward slashes.

    Hidden files and folders are left out; the case of an extension does not count. Raises
    UserError if the folder is missing or holds no audio.
    """

    def __init__(self, audio_dir: Path) -> None:
        if not audio_dir.is_dir():
            raise UserError(f"{audio_dir} is no folder; give the folder that holds the audio.")
        self.folder = audio_dir
        self.paths = tuple(sorted(_walk(audio_dir, EXTENSIONS)))
        if not self.paths:
            kinds = ", ".join(extension[1:] for extension in EXTENSIONS)
            raise UserError(f"{audio_dir} holds no audio ({kinds}).")
        self._by_path = {_key(path): path for path in self.paths}
        self._folders = {_folder(path).as_posix() for path in self.paths} - {"."}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            self._by_name[_key(PurePosixPath(path).name)].append(path)
            self._by_stem[_key(PurePosixPath(path).stem)].append(path)

    def find(self, name: str, where: str, near: str = "") -> str | None:
        """The recording that `name` means, None if there is none.

        `name` is a path relative to the folder, an absolute path, or a file's name, with its
        extension, another one (recordings get converted) or none. A name alone means the file in
        the folder `near` first; it means one of another folder only if it occurs once and `near`
        has no recordings of its own. A path means the file that shares most of its last folders:
        for a relative one at least one, or one that lies in no subfolder. UserError, beginning
        with `where`, if that leaves two.
        """
        path = _key(name.replace("\\", "/"))
        below = _key(str(self.folder.resolve()).replace("\\", "/")) + "/"
        path = path.removeprefix(below).removeprefix("./")
        folders, near = PurePosixPath(path).parent.parts, _key(near)
        if not folders and f"{near}/{path}" in self._by_path:
            return self._by_path[f"{near}/{path}"]
        if path in self._by_path:
            return self._by_path[path]
        last = PurePosixPath(path).name
        found = self._by_name.get(last) or self._by_stem.get(last) or []
        if not found and last.casefold().endswith(EXTENSIONS):
            found = self._by_stem.get(PurePosixPath(last).stem, [])
        if folders:
            shared = {p: self._shared(p, folders) for p in found}
            most = max(shared.values(), default=0)
            elsewhere = path.startswith("/") or path[1:2] == ":"
            found = [p for p in found if shared[p] == most and (most or elsewhere or "/" not in p)]
        elif near in self._folders or len(found) > 1:
            beside = [p for p in found if _is_beside(_folder(p), PurePosixPath(near))]
            found = beside if near in self._folders else beside or found
        if len(found) > 1:
            raise UserError(
                f"{where}: {name} may be {found[0]} or {found[1]}; name the path below "
                f"{self.folder}."
            )
        return found[0] if found else None

    def _shared(self, path: str, folders: tuple[str, ...]) -> int:
        """How many of the last of `folders` are also the last that a recording lies in."""
        own = (*map(_key, self.folder.resolve().parts), *_folder(path).parts)
        pairs = zip(reversed(own), reversed(folders), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _folder(path: str) -> PurePosixPath:
    return PurePosixPath(_key(path)).parent


def _is_beside(folder: PurePosixPath, near: PurePosixPath) -> bool:
    return folder.is_relative_to(near) or near.is_relative_to(folder)


def find_files(folder: Path, extension: str) -> list[Path]:
    """The files below a folder with an extension (any case), sorted, without hidden ones."""
    return [folder / path for path in sorted(_walk(folder, (extension,)))]


def _walk(folder: Path, extensions: tuple[str, ...]) -> list[str]:
    found = []
    root, seen = folder.resolve(), set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = Path(parent)
        # A link into the folder would show recordings twice, and a loop without end.
        inside = here != folder and here.is_symlink() and here.resolve().is_relative_to(root)
        if inside or here.resolve() in seen:
            folders.clear()
            continue
        seen.add(here.resolve())
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = here.relative_to(folder)
        found += [
            (below / name).as_posix()
            for name in files
            if name.casefold().endswith(extensions) and not name.startswith(".")
        ]
    return found


def _key(path: str) -> str:
    # macOS writes file names decomposed; tables are mostly composed.
    return unicodedata.normalize("NFC", path)
