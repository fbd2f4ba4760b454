"""Files read by range: what is fetched while the last block is at work."""

import threading
from pathlib import Path

import fsspec
import pytest

from model import files
from model.files import BLOCK, MOST, RemoteFile

SIZE = 5 * MOST + 12_345


@pytest.fixture
def remote(tmp_path: Path) -> RemoteFile:
    content = bytes(range(256)) * (SIZE // 256 + 1)
    url = f"memory://{tmp_path.name}/a"
    fs = fsspec.filesystem("memory")
    fs.pipe_file(url, content[:SIZE])
    return RemoteFile(fs, url)


def fetches(remote: RemoteFile, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges that are fetched from now on."""
    asked: list[tuple[int, int]] = []
    fetch = remote._fetch

    def counted(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return fetch(start, stop)

    monkeypatch.setattr(remote, "_fetch", counted)
    return asked


def test_each_byte_is_fetched_once(remote: RemoteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fetches(remote, monkeypatch)
    parts = []
    while part := remote.read(100_000):
        parts.append(part)
    assert b"".join(parts) == (bytes(range(256)) * (SIZE // 256 + 1))[:SIZE]
    assert sum(stop - start for start, stop in asked) == SIZE
    assert sorted(asked)[0] == (0, 100_000)


def test_the_next_block_is_fetched_before_it_is_asked_for(
    remote: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fetches(remote, monkeypatch)
    for _ in range(2):
        remote.read(BLOCK)  # A header, and on.
    files._threads().submit(threading.Event().is_set).result()
    assert set(asked) == {(0, BLOCK), (BLOCK, BLOCK + MOST), (BLOCK + MOST, BLOCK + 2 * MOST)}
    remote.read(MOST)
    assert asked.count((BLOCK + MOST, BLOCK + 2 * MOST)) == 1


def test_nothing_is_fetched_beyond_what_is_wanted(
    remote: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.until = BLOCK + MOST + 1000
    asked = fetches(remote, monkeypatch)
    for _ in range(70):
        remote.read(BLOCK)
        if remote.tell() >= remote.until - BLOCK:
            break
    files._threads().submit(threading.Event().is_set).result()
    assert max(stop for _, stop in asked) == remote.until


def test_who_looks_about_fetches_nothing_ahead(
    remote: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fetches(remote, monkeypatch)
    for place in (0, SIZE - BLOCK, 3 * MOST, MOST, 0):
        remote.seek(place)
        remote.read(100)
    assert len(asked) == 4


def test_a_failure_ahead_is_told_when_its_turn_comes(
    remote: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = remote._fetch

    def failing(start: int, stop: int) -> bytes:
        if start > BLOCK:
            raise PermissionError("not this one")
        return fetch(start, stop)

    monkeypatch.setattr(remote, "_fetch", failing)
    assert len(remote.read(BLOCK + MOST)) == BLOCK + MOST
    with pytest.raises(PermissionError, match="not this one"):
        remote.read(1)
