"""The recordings of a training folder, and how annotations name them."""

import os
import unicodedata
from collections import defaultdict
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
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            self._by_name[_key(PurePosixPath(path).name)].append(path)
            self._by_stem[_key(PurePosixPath(path).stem)].append(path)

    def find(self, name: str, where: str, near: str = "") -> str | None:
        """The recording that `name` means, None if there is none.

        `name` is a path relative to the folder, an absolute path, or a file's name that occurs
        once, with its extension, another one (recordings get converted) or none. Of several with
        that name the one in the folder `near` is meant; UserError, beginning with `where`, if
        that does not decide.
        """
        path = _key(name.replace("\\", "/"))
        below = _key(str(self.folder.resolve()).replace("\\", "/")) + "/"
        path = path.removeprefix(below).removeprefix("./")
        if path in self._by_path:
            return self._by_path[path]
        last = PurePosixPath(path).name
        found = self._by_name.get(last) or self._by_stem.get(last) or []
        if not found and last.casefold().endswith(EXTENSIONS):
            found = self._by_stem.get(PurePosixPath(last).stem, [])
        if len(found) > 1:
            folder = PurePosixPath(path).parent
            beside = folder if folder != PurePosixPath() else PurePosixPath(_key(near))
            found = [p for p in found if PurePosixPath(_key(p)).parent == beside] or found
        if len(found) > 1:
            raise UserError(
                f"{where}: {name} may be {found[0]} or {found[1]}; name the path below "
                f"{self.folder}."
            )
        return found[0] if found else None


def find_files(folder: Path, extension: str) -> list[Path]:
    """The files below a folder with an extension (any case), sorted, without hidden ones."""
    return [folder / path for path in sorted(_walk(folder, (extension,)))]


def _walk(folder: Path, extensions: tuple[str, ...]) -> list[str]:
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder)
        found += [
            (below / name).as_posix()
            for name in files
            if name.casefold().endswith(extensions) and not name.startswith(".")
        ]
    return found


def _key(path: str) -> str:
    # macOS writes file names decomposed; tables are mostly composed.
    return unicodedata.normalize("NFC", path)
