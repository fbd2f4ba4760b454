from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import UserError
from pipeline.discovery import discover


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(listing) -> list[str]:
    return [name for name, _ in listing.recordings]


def test_folders_by_extension_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.WAV", "a/b/2.flac", "3.Mp3", "notes.txt", "4.wac", ".hid.wav", "._a.wav")
    listing = discover([str(tmp_path)])
    assert names(listing) == ["3.Mp3", "4.wac", "a/1.WAV", "a/b/2.flac"]
    assert listing.root == str(tmp_path)


def test_names_are_literal_before_they_are_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "a [1].wav", "a 1.wav", "ü*.wav", "x/[y]/z.wav")
    assert names(discover([str(tmp_path / "a [1].wav")])) == ["a [1].wav"]
    assert names(discover([str(tmp_path / "ü*.wav")])) == ["ü*.wav"]
    assert names(discover([str(tmp_path / "x/[y]")])) == ["z.wav"]
    assert names(discover([str(tmp_path / "a*.wav")])) == ["a 1.wav", "a [1].wav"]


def test_globs_are_named_under_their_fixed_folder(tmp_path: Path) -> None:
    touch(tmp_path, "s1/d/1.wav", "s2/d/2.wav", "s2/d/n.txt")
    listing = discover([str(tmp_path / "s*/d")])
    assert listing.root == str(tmp_path) and names(listing) == ["s1/d/1.wav", "s2/d/2.wav"]
    assert names(discover([str(tmp_path / "**/*")])) == ["s1/d/1.wav", "s2/d/2.wav"]


def test_several_inputs_share_a_root_and_duplicates_count_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.wav", "b/2.wav")
    listing = discover([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "a/1.wav")])
    assert names(listing) == ["a/1.wav", "b/2.wav"]


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_lists(tmp_path: Path, kind: str) -> None:
    touch(tmp_path, "a/1.wav", "b [x]/2.wav")
    lines = ["a/1.wav", str(tmp_path / "b [x]/2.wav"), "gone.wav"]
    path = tmp_path / f"list.{kind}"
    if kind == "txt":
        path.write_text("\n".join(lines) + "\n")
    elif kind == "csv":
        path.write_text("note,file\n" + "".join(f"x,{line}\n" for line in lines))
    else:
        pq.write_table(pa.table({"path": lines}), path)
    listing = discover([str(path)])
    assert names(listing) == ["a/1.wav", "b [x]/2.wav", "gone.wav"]
    assert dict(listing.recordings)["gone.wav"].size is None


def test_roots(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/1.wav")
    assert names(discover([str(tmp_path / "a/b")], str(tmp_path))) == ["a/b/1.wav"]
    with pytest.raises(UserError, match="not below"):
        discover([str(tmp_path / "a")], str(tmp_path / "other"))


def test_links_and_loops(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.wav")
    (tmp_path / "a/loop").symlink_to(tmp_path / "a")
    (tmp_path / "a/broken.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a/x.wav").mkdir()
    listing = discover([str(tmp_path)])
    assert names(listing) == ["a/1.wav", "a/broken.wav", "a/x.wav"]


def test_a_linked_folder_has_its_own_name(tmp_path: Path) -> None:
    touch(tmp_path, "b/deep/deeper/1.wav", "elsewhere/2.wav")
    (tmp_path / "b/a").symlink_to(tmp_path / "b/deep/deeper")
    (tmp_path / "b/z").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "b/y").symlink_to(tmp_path / "elsewhere")
    for _ in range(5):
        assert names(discover([str(tmp_path / "b")])) == ["deep/deeper/1.wav", "y/2.wav"]


@pytest.mark.parametrize("missing", ["none", "none/*.wav", "list.csv"])
def test_what_is_not_there(tmp_path: Path, missing: str) -> None:
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"none|list\.csv"):
        discover([str(tmp_path / missing)])


def test_urls(tmp_path: Path) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    top = f"memory://{tmp_path.name}"
    fs.pipe({f"{top}/s/1.wav": b"x", f"{top}/s/t/2.FLAC": b"x", f"{top}/s/n.txt": b"x"})
    assert names(discover([f"{top}/s"])) == ["1.wav", "t/2.FLAC"]
    assert names(discover([f"{top}/s/t/*.FLAC"])) == ["2.FLAC"]
