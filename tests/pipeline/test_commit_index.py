"""The index of commits tells what the parts tell, whatever happened to either."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import commit_index
from pipeline.commit import read_commit
from pipeline.commit_index import INDEX, commits_of, refresh
from pipeline.shard_key import key_of
from pipeline.storage import Folder
from tests.pipeline.archive import cut, tone, write
from tests.pipeline.test_detection import detect, rows


@pytest.fixture(scope="module")
def made(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("indexed")
    for hour in range(4):
        write(top / f"audio/A/20240601_{hour:02d}0000.wav", tone(3, seed=hour))
    write(top / "audio/B/20240601_005958.wav", tone(5, seed=9))
    assert detect(top / "audio", bundle, top / "out", "--slot", "1") == 0
    return top / "out"


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Folder:
    return Folder(str(shutil.copytree(made, tmp_path / "out")))


def check(out: Folder) -> None:
    """The index is what the parts say, read one by one."""
    paths = [name.removeprefix("coverage/") for name in out.files("coverage")]
    keys = [key for path in paths if (key := key_of(path)) is not None]
    found = commits_of(refresh(out))
    assert found == {key: read_commit(out, key) for key in keys}
    assert all(commit is None or commit.tally.windows_expected for commit in found.values())


def part(out: Folder, table: str, number: int) -> Path:
    return Path(out.at(out.files(table)[number]))


def damage(out: Folder) -> None:
    cut(part(out, "predictions", 1), lambda size: size // 2)


def lose(out: Folder) -> None:
    part(out, "errors", 0).unlink()


def swap(out: Folder) -> None:
    """Another shard's part, whole, in a place."""
    shutil.copyfile(part(out, "predictions", 0), part(out, "predictions", 2))


def drop(out: Folder) -> None:
    for table in ("predictions", "coverage", "errors"):
        part(out, table, 3).unlink()


def break_index(out: Folder) -> None:
    cut(Path(out.at(INDEX)), lambda size: size - 9)


def empty_index(out: Folder) -> None:
    Path(out.at(INDEX)).write_bytes(b"")


def lose_index(out: Folder) -> None:
    Path(out.at(INDEX)).unlink()


@pytest.mark.parametrize("change", [damage, lose, swap, drop, break_index, empty_index, lose_index])
def test_index_and_changes_are_the_parts(out: Folder, change: Callable[[Folder], None]) -> None:
    check(out)
    check(out)
    change(out)
    check(out)
    check(out)


def test_a_quick_look_lists_coverage_alone(out: Folder) -> None:
    lose_index(out)
    quick = refresh(out, every_part=False)
    assert quick.sort_by("path").equals(refresh(out).sort_by("path"))
    drop(out)
    assert refresh(out, every_part=False).num_rows == 5
    lose(out)
    assert refresh(out, every_part=False)["coverage_id"].null_count == 0
    assert refresh(out)["coverage_id"].null_count == 1
    check(out)


def test_a_redo_is_seen(out: Folder, made: Path, bundle: Path, tmp_path: Path) -> None:
    check(out)
    audio = shutil.copytree(made.parent / "audio", tmp_path / "audio")
    write(audio / "A/20240601_010000.wav", tone(2, seed=77))
    write(audio / "A/20240601_090000.wav", tone(2, seed=78))
    assert detect(audio, bundle, out.url, "--root", str(audio)) == 0
    check(out)


def test_only_what_is_new_is_read(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def counted(folder: Folder, key: object) -> object:
        read.append(key)
        return read_commit(folder, key)

    monkeypatch.setattr(commit_index, "read_commit", counted)
    lose_index(out)
    refresh(out)
    assert len(read) == 6
    read.clear()
    refresh(out)
    assert read == []
    swap(out)
    refresh(out)
    assert len(read) == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_dataset_that_may_not_be_written(out: Folder) -> None:
    lose_index(out)
    Path(out.at("_index")).chmod(0o555)
    check(out)
    assert rows(out.url, "SELECT count(*) FROM coverage")[0][0] > 0


def test_an_index_that_cannot_be_written(out: Folder) -> None:
    """A file stands where its folder should be."""
    shutil.rmtree(out.at("_index"))
    Path(out.at("_index")).write_text("")
    check(out)
