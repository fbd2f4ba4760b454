"""Remote files as DuckDB reads them: by few ranges, tried again while storage fails."""

from datetime import UTC, datetime
from typing import Any

from fsspec import AbstractFileSystem

from model.files import RemoteFile, size_of


class DuckFiles(AbstractFileSystem):  # type: ignore[misc]
    """The files of an fsspec file system, under its own protocol; names are never patterns."""

    cachable = False

    def __init__(self, fs: Any) -> None:
        super().__init__()
        self._fs = fs
        self.protocol = fs.protocol

    def _strip_protocol(self, path: str) -> str:
        return str(self._fs._strip_protocol(path))

    def unstrip_protocol(self, name: str) -> str:
        return str(self._fs.unstrip_protocol(name))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size and type of a file."""
        return {"name": path, "size": size_of(self._fs, self._strip_protocol(path)), "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """The one file of that name."""
        return [self._strip_protocol(path)]

    def modified(self, path: str) -> datetime:
        """A time: what is read was committed, and is not changed."""
        return datetime(2000, 1, 1, tzinfo=UTC)

    def open(self, path: str, mode: str = "rb", **_: Any) -> RemoteFile:
        """A file for reading."""
        if mode != "rb":
            raise ValueError(f"{path} is opened for reading only")
        file = RemoteFile(self._fs, self._strip_protocol(path))
        file.until = 0
        return file
