"""Parts: the same bytes for the same rows, in row groups of bounded size."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.parts import LIST_BYTES, ROW_GROUP, PartWriter, rows_by_recording, rows_in_group
from pipeline.schema import TABLES, embeddings, plain
from pipeline.storage import Folder

SIZE = 1 << 16
"""Numbers of an embedding that is so large that 32 fill a row group."""


def rows(count: int, size: int = SIZE) -> pa.Table:
    schema = plain(embeddings(size))
    numbers = np.random.default_rng(0).normal(size=(count, size)).astype(np.float16)
    return pa.table(
        {
            "recording": [f"{i // 50:04}.wav" for i in range(count)],
            "channel": pa.nulls(count, pa.int8()),
            "start_s": np.arange(count, dtype=float),
            "end_s": np.arange(count, dtype=float) + 1,
            "start_clock": pa.nulls(count, pa.timestamp("us")),
            "start_utc": pa.nulls(count, pa.timestamp("us", tz="UTC")),
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(numbers.ravel()), type=schema.field("embedding").type
            ),
        },
        schema=schema,
    )


def test_row_groups_are_bounded_in_rows_and_in_bytes() -> None:
    assert {rows_in_group(schema) for schema in TABLES.values()} == {ROW_GROUP}
    assert rows_in_group(embeddings(1)) == rows_in_group(embeddings(32)) == ROW_GROUP
    assert rows_in_group(embeddings(128)) == 16_384
    assert rows_in_group(embeddings(1024)) * 1024 * 2 == LIST_BYTES
    assert rows_in_group(embeddings(LIST_BYTES)) == 1


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(1, 89)))
def test_bytes_do_not_depend_on_how_rows_arrive(cuts: set[int]) -> None:
    table = rows(90)
    with tempfile.TemporaryDirectory() as folder:
        files = {"whole": [0, 90], "pieces": [0, *sorted(cuts), 90]}
        ids = set()
        for name, bounds in files.items():
            writer = PartWriter(embeddings(SIZE), f"{folder}/{name}", {"a": "b"})
            for start, stop in pairwise(bounds):
                writer.write(table.slice(start, stop - start))
            ids.add(writer.close())
        whole, pieces = (Path(folder, name) for name in files)
        assert whole.read_bytes() == pieces.read_bytes() and len(ids) == 1
        part = pq.ParquetFile(whole)
        groups = [part.metadata.row_group(i).num_rows for i in range(part.num_row_groups)]
        assert groups == [32, 32, 26]
        assert part.read().cast(table.schema).equals(table)
        found = list(rows_by_recording(Folder(folder), "whole"))
        assert [(name, len(run)) for name, run in found] == [
            ("0000.wav", 32), ("0000.wav", 18), ("0001.wav", 14), ("0001.wav", 26)
        ]  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_part_without_rows_has_its_columns(tmp_path: Path, table: str) -> None:
    PartWriter(TABLES[table], str(tmp_path / "part"), {}).close()
    assert pq.read_schema(tmp_path / "part").remove_metadata().equals(TABLES[table])
