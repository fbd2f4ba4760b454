"""CSV files for other programs."""

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.tables import read_table
from pipeline.csv_file import cell, csv_file, guarded, no_formula
from pipeline.storage import Folder

TEXTS = ("=1+1", "+1", "-1", "@x", "\tx", "\r=1", 'a "b", c\nd', "", "=", "'=1", "ü 🐦")


@pytest.mark.parametrize("text", TEXTS)
def test_a_spreadsheet_finds_no_formula(text: str) -> None:
    safe = no_formula(text)
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert safe.removeprefix(" ") == text
    assert no_formula(text, "./").removeprefix("./") == text


@given(st.text())
def test_a_cell_is_one_line_without_a_formula(text: str) -> None:
    found = cell(text)
    assert len(found.splitlines()) <= 1 and "\t" not in found
    assert not found.startswith(("=", "+", "-", "@"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with csv_file(Folder(str(tmp_path)), "a/t.csv", ("x", "y")) as write:
        for text in TEXTS:
            write([text, 1.5])
        assert [path.name for path in (tmp_path / "a").iterdir()] != ["t.csv"]
    (file,) = (tmp_path / "a").iterdir()
    rows = list(csv.reader(io.StringIO(file.read_bytes().decode(), newline=""), strict=True))
    assert rows == [["x", "y"], *([text, "1.5"] for text in TEXTS)]


def test_a_table_whose_texts_are_guarded() -> None:
    texts = [*TEXTS, "", None]
    columns = {"a": pa.array(texts), "b": pa.array(texts).dictionary_encode()}
    table = pa.table(columns | {"n": pa.array([-1.0] * len(texts))})
    told = guarded(table)
    expected = [text if text is None else no_formula(text) for text in texts]
    assert told["a"].to_pylist() == told["b"].to_pylist() == expected
    assert told["n"] == table["n"] and any(a != b for a, b in zip(texts, expected, strict=True))
    assert guarded(table.slice(0, 0)).num_rows == 0


def test_tables_of_ours_give_names_back_without_the_guard(tmp_path: Path) -> None:
    with csv_file(Folder(str(tmp_path)), "t.csv", ("x",)) as write:
        write([no_formula("=1+1")])
    assert [row.cells["x"] for row in read_table(tmp_path / "t.csv").rows] == ["=1+1"]


def test_undecodable_names_go_out_as_they_came(tmp_path: Path) -> None:
    name = b"\xff\xfe.wav".decode("utf-8", "surrogateescape")
    with csv_file(Folder(str(tmp_path)), "t.csv", ("x",)) as write:
        write([name])
    assert (tmp_path / "t.csv").read_bytes() == b"x\r\n\xff\xfe.wav\r\n"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="no"),
        csv_file(Folder(str(tmp_path)), "t.csv", ("x",)) as write,
    ):
        write(["y"])
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
