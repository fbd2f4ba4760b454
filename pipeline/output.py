"""The file that a command writes its table to, as CSV or Parquet."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from model.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

Write = Callable[["pa.Schema", Iterable["pa.Table"]], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--output`."""
    parser.add_argument(
        "--output", metavar="FILE", help="write the table to a .csv or .parquet file"
    )


def writer(output: str) -> Write:
    """A function that writes tables of a schema, one after the other, and gives their rows.

    The file may be a URL, and appears whole or not at all. In CSV no text is a formula
    (`pipeline.csv_file`). UserError for another ending, at once,
    or if it cannot be written.
    """
    suffix = PurePosixPath(output).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UserError(f"--output {output} ends in neither .csv nor .parquet; name it so.")

    def write(schema: "pa.Schema", tables: Iterable["pa.Table"]) -> int:
        import fsspec.core
        import pyarrow.csv
        import pyarrow.parquet

        from pipeline.csv_file import guarded

        rows = 0
        try:
            fs, path = fsspec.core.url_to_fs(output)
            with fs.transaction, fs.open(path, "wb") as stream:
                if suffix == ".parquet":
                    sink = pyarrow.parquet.ParquetWriter(stream, schema, compression="zstd")
                else:
                    schema = _as_text(schema)
                    sink = pyarrow.csv.CSVWriter(stream, schema)
                with sink:
                    for table in tables:
                        shown = table if suffix == ".parquet" else guarded(table)
                        sink.write_table(shown.cast(schema))
                        rows += table.num_rows
        except OSError as error:
            raise UserError(f"{output} cannot be written: {error.strerror or error}.") from error
        return rows

    return write


def _as_text(schema: "pa.Schema") -> "pa.Schema":
    """The schema with hours in seconds: whole hours need no zeros of microseconds."""
    import pyarrow as pa

    at = schema.get_field_index("hour")
    if at < 0 or not pa.types.is_timestamp(schema.field(at).type):
        return schema
    return schema.set(at, pa.field("hour", pa.timestamp("s")))
