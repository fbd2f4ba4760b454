import os
import time
from pathlib import Path

import pytest

from pipeline.storage import Folder, absolute, file_at, is_local


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return Folder(str(tmp_path / "out"))
    return Folder(f"memory://{tmp_path.name}-{os.getpid()}")


def test_write_read_list_remove(folder: Folder) -> None:
    assert folder.read_json("a/b.json") is None and not folder.exists("a/b.json")
    folder.write_json("a/b.json", {"x": "ü"})
    folder.write("a/c", b"1")
    folder.write("a/c", b"2")
    assert folder.read_json("a/b.json") == {"x": "ü"} and folder.read("a/c") == b"2"
    assert folder.files() == ["a/b.json", "a/c"] and folder.files("a") == ["a/b.json", "a/c"]
    if folder.is_local:
        assert [e.url.rpartition("/")[2] for e in folder.list("a")] == ["b.json", "c"]
    before = folder.below()
    assert before.keys() == {"a/b.json", "a/c"} and folder.below("a") == before
    assert before["a/c"].size == 1 and abs((before["a/c"].modified or 0) - time.time()) < 60
    time.sleep(0.02)
    folder.write("a/c", b"33")
    after = folder.below()
    assert after["a/b.json"] == before["a/b.json"] and after["a/c"].stamp != before["a/c"].stamp
    assert folder.below("none") == {}
    folder.remove("a")
    folder.remove("a")
    assert folder.files() == []


def test_create_is_exclusive(folder: Folder) -> None:
    assert folder.create("d/once", b"first")
    assert not folder.create("d/once", b"second")
    assert folder.read("d/once") == b"first"
    assert folder.files() == ["d/once"], "no temporaries stay"


def test_place_and_move(folder: Folder, tmp_path: Path) -> None:
    source = tmp_path / "part"
    source.write_bytes(b"new")
    assert folder.place(str(source), "p/x", replace=False)
    source.write_bytes(b"newer")
    assert not folder.place(str(source), "p/x", replace=False)
    other = tmp_path / "other"
    other.write_bytes(b"newest")
    assert folder.place(str(other), "p/y", replace=True)
    folder.move("p/y", "q/x")
    folder.move("p/y", "q/x")
    assert folder.read("q/x") == b"newest" and not folder.exists("p/y")


def test_the_place_of_a_file() -> None:
    for url, folder, name in (
        ("/status.json", "/", "status.json"),
        ("status.json", str(Path.cwd()), "status.json"),
        ("a/status.json", str(Path.cwd() / "a"), "status.json"),
        ("gs://b/a#1/x", "gs://b/a#1", "x"),
    ):
        assert file_at(url) == (Folder(folder), name)


def test_names(tmp_path: Path) -> None:
    assert is_local("file:///a") and is_local("/a") and not is_local("gs://b")
    assert absolute("gs://b/c/") == "gs://b/c" and absolute("file:///a/") == "/a"
    assert absolute("x") == str(Path.cwd() / "x")
