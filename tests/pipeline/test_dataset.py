"""The output as other tools open it: `site` and `date` are columns, whatever was found."""

from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from model.errors import UserError
from pipeline.dataset import HIVE_TYPES, open_dataset
from pipeline.schema import TABLES
from tests.pipeline.archive import cut, tiny_bundle, tone, write
from tests.pipeline.test_detection import detect

PARTITIONING = ds.partitioning(
    pa.schema([("site", pa.string()), ("date", pa.date32())]), flavor="hive"
)
KINDS = ("normal", "nothing", "errors", "undated")


@pytest.fixture(scope="module")
def datasets(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A normal run, one that detects nothing, one with errors, one with an undated recording."""
    top = tmp_path_factory.mktemp("datasets")
    for kind in KINDS:
        audio = top / f"{kind}-audio"
        write(audio / "007/20240601_000000.wav", tone(3))
        write(audio / "a b ü/20240602_000000.wav", tone(2))
        if kind == "errors":
            (audio / "007/20240603_000000.wav").write_bytes(b"")
            cut(audio / "a b ü/20240602_000000.wav", lambda size: size * 3 // 4)
        if kind == "undated":
            write(audio / "007/no time.wav", tone(1))
        model, more = bundle, []
        if kind == "nothing":
            model, more = top / "high", ["--min-score", "1"]
            tiny_bundle(model, threshold=1)
        assert detect(audio, model, top / kind, *more) == 0
    return {kind: top / kind for kind in KINDS}


def counts(kind: str, table: str) -> dict[tuple[str, date | None], int]:
    """Rows by site and date that a table must have."""
    first, second = ("007", date(2024, 6, 1)), ("a b ü", date(2024, 6, 2))
    broken, undated = ("007", date(2024, 6, 3)), ("007", None)
    if table == "predictions":
        if kind == "nothing":
            return {}
        scored = {first: 9, second: 3 if kind == "errors" else 6}
        return scored | ({undated: 3} if kind == "undated" else {})
    if table == "errors":
        return {second: 1, broken: 1} if kind == "errors" else {}
    extra = {broken: 1} if kind == "errors" else {undated: 1} if kind == "undated" else {}
    return {first: 1, second: 1} | extra


def grouped(frame: pd.DataFrame) -> dict[tuple[str, date | None], int]:
    pairs = zip(frame["site"].astype(str), frame["date"], strict=True)
    found: dict[tuple[str, date | None], int] = {}
    for site, day in pairs:
        key = site, None if pd.isna(day) else pd.Timestamp(str(day)).date()
        found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", TABLES)
class TestReaders:
    def test_duckdb(self, datasets: dict[str, Path], kind: str, table: str) -> None:
        source = f"read_parquet('{datasets[kind]}/{table}/*/*/*.parquet', {HIVE_TYPES})"
        relation = duckdb.sql(f"SELECT * FROM {source}")
        assert {"site", "date"} < set(relation.columns)
        query = f"SELECT site, date, count(*) FROM {source} GROUP BY ALL"
        found = {row[:2]: row[2] for row in duckdb.sql(query).fetchall()}
        assert found == counts(kind, table)

    def test_polars(self, datasets: dict[str, Path], kind: str, table: str) -> None:
        schema = {"site": pl.String, "date": pl.Date}
        place = str(datasets[kind] / table / "**/*.parquet")
        frame = pl.read_parquet(place, hive_partitioning=True, hive_schema=schema)
        groups = frame.group_by("site", "date").len().rows()
        assert {row[:2]: row[2] for row in groups} == counts(kind, table)

    def test_pyarrow(self, datasets: dict[str, Path], kind: str, table: str) -> None:
        found = ds.dataset(datasets[kind] / table, partitioning=PARTITIONING).to_table()
        assert grouped(found.select(["site", "date"]).to_pandas()) == counts(kind, table)

    def test_pandas(self, datasets: dict[str, Path], kind: str, table: str) -> None:
        found = pd.read_parquet(datasets[kind] / table, partitioning=PARTITIONING)
        assert {"site", "date"} < set(found.columns)
        assert grouped(found) == counts(kind, table)


def test_parts_have_the_schema_and_explain_themselves(datasets: dict[str, Path]) -> None:
    for table, schema in TABLES.items():
        for path in (datasets["errors"] / table).rglob("*.parquet"):
            found = pq.read_schema(path)
            assert found.remove_metadata().equals(schema.remove_metadata()), path
            metadata = {key.decode(): value.decode() for key, value in found.metadata.items()}
            assert metadata["dawnchorus.window_s"] == "1.0"
            assert {"schema_version", "hop_s", "score_fingerprint"} <= {
                key.removeprefix("dawnchorus.") for key in metadata
            }


def test_uncommitted_shards_do_not_count(datasets: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(datasets["normal"], tmp_path / "out")
    next((tmp_path / "out/errors/site=007").rglob("*.parquet")).unlink()
    dataset = open_dataset(str(tmp_path / "out"))
    sites = dataset.connection.sql("SELECT DISTINCT site FROM predictions").fetchall()
    assert sites == [("a b ü",)]
    shutil.rmtree(tmp_path / "out/coverage")
    dataset = open_dataset(str(tmp_path / "out"))
    for table in TABLES:
        relation = dataset.connection.sql(f"SELECT * FROM {table}")
        assert {"site", "date"} < set(relation.columns) and not relation.fetchall()


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset"):
        open_dataset(str(tmp_path))
    (tmp_path / "dataset.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="not that of a dawnchorus dataset"):
        open_dataset(str(tmp_path))
