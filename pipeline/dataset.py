"""Opening a dataset: its tables in DuckDB, of committed shards only."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from model.bundle import Bundle, load_bundle
from model.errors import UserError
from pipeline.deployments import Deployment, read_deployments
from pipeline.duck_files import DuckFiles
from pipeline.identity import require_identity
from pipeline.plan import Standing, read_standing
from pipeline.run_record import last_value
from pipeline.schema import list_bytes, plain, tables_of
from pipeline.storage import Folder, is_local

HIVE_TYPES = "hive_types={'site': VARCHAR, 'date': DATE}"
"""Given wherever a dataset is read: readers would take a site `007` for a number."""


@dataclass(frozen=True)
class Dataset:
    """An open dataset: a view of each table, with `site` and `date`.

    They are `predictions`, `coverage`, `errors` and, where the dataset has them, `embeddings`.
    """

    folder: Folder
    identity: dict[str, Any]
    connection: duckdb.DuckDBPyConnection
    standing: Standing

    def bundle(self) -> Bundle:
        """The bundle of the latest run, from the dataset's own copy."""
        name = last_value(self.folder, "bundle")
        if name is None:
            raise UserError(f"No run of {self.folder.url} has recorded its bundle.")
        return load_bundle(self.folder.at(name))

    def root(self) -> Folder:
        """The folder under which the recordings were named at the last run."""
        return Folder(last_value(self.folder, "root") or ".")

    def deployments(self) -> tuple[Deployment, ...] | None:
        """The deployments beside the tables, read now; None where none were given."""
        return read_deployments(self.folder)


def open_dataset(output: str, standing: Standing | None = None) -> Dataset:
    """Opens the dataset in a folder or URL; UserError where there is none.

    `standing` is what is committed there, where that is known.
    """
    out = Folder(output)
    identity = require_identity(out)
    standing = standing or read_standing(out)
    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET enable_progress_bar = false")
    if not out.is_local:
        connection.register_filesystem(DuckFiles(out.fs))
    paths = sorted(key.path for key, commit in standing.commits.items() if commit is not None)
    for table, schema in tables_of(identity.get("embedding_size")).items():
        if paths:
            files = ", ".join(quoted(duck_path(out.at(f"{table}/{path}"))) for path in paths)
            source = f"read_parquet([{files}], hive_partitioning=true, {HIVE_TYPES})"
            connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}")
        else:
            connection.register(f"_{table}", _as_read(schema).empty_table())
            extra = "NULL::VARCHAR AS site, NULL::DATE AS date"
            connection.execute(f"CREATE VIEW {table} AS SELECT *, {extra} FROM _{table}")
    return Dataset(out, identity, connection, standing)


def _as_read(schema: pa.Schema) -> pa.Schema:
    """The columns as DuckDB gives them: it reads float16 from Parquet, but not from Arrow."""
    return pa.schema(
        [
            field.with_type(pa.list_(pa.float32())) if list_bytes(field) else field
            for field in plain(schema)
        ]
    )


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, **tables: pa.Table) -> Iterator[None]:
    """Lets queries read tables under the names given, within the block."""
    for name, table in tables.items():
        connection.register(name, table)
    try:
        yield
    finally:
        for name in tables:
            connection.unregister(name)


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def duck_path(path: str) -> str:
    """A path that DuckDB takes literally, not as a pattern."""
    if not is_local(path):
        return path
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)


def query_line(out: Folder) -> str:
    """A line for a shell that shows the predictions per label of a dataset."""
    pattern = duck_path(out.at("predictions")) + "/*/*/*.parquet"
    source = f"read_parquet({quoted(pattern)}, {HIVE_TYPES})"
    select = f"SELECT site, label, count(*) AS n FROM {source} GROUP BY ALL ORDER BY ALL"
    code = f"import duckdb; duckdb.sql('''{select}''').show()"
    return 'python -c "' + re.sub(r'([\\"$`])', r"\\\1", code) + '"'
