"""Parts: the Parquet files of a shard, the same bytes for the same rows."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.schema import list_bytes, plain
from pipeline.storage import Folder

ROW_GROUP = 65_536
"""Rows of a row group: a part's bytes do not depend on how its rows arrived."""
LIST_BYTES = 1 << 22
"""Bytes of fixed-size lists in a row group at most: a row of these may be large."""
FOOTER = 64 * 1024
"""Bytes at a part's end that are read at once: most footers are shorter."""
CONTENT_ID = "dawnchorus.content_id"
COMMIT = "dawnchorus.commit"
FACTS = "dawnchorus."


class _Hashed:
    """A file that keeps the SHA-256 of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.closed = False

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def rows_in_group(schema: pa.Schema) -> int:
    """Rows of a row group of a table: `ROW_GROUP`, or fewer where lists make them large."""
    row = sum(list_bytes(field) for field in schema)
    return max(1, min(ROW_GROUP, LIST_BYTES // row)) if row else ROW_GROUP


class PartWriter:
    """Writes one part of a table to a local path, in row groups of the same number of rows.

    `facts` go into the metadata. `close` gives the content id: a SHA-256 over the written data.
    `seen` is shown all rows as they come.
    """

    def __init__(
        self,
        schema: pa.Schema,
        path: str,
        facts: Mapping[str, str],
        seen: Callable[[pa.Table], None] = lambda rows: None,
    ) -> None:
        self.schema = schema
        self._seen = seen
        self._group = rows_in_group(schema)
        self._plain = plain(self.schema)
        self._file = Path(path).open("wb")  # noqa: SIM115 - closed by `abandon`
        self._sink = _Hashed(self._file)
        metadata = {FACTS + key: value for key, value in facts.items()}
        # Of numbers that are all different, a dictionary and the extremes only cost time.
        short = [field.name for field in schema if not list_bytes(field)]
        listed: bool | list[str] = short if len(short) < len(schema) else True
        self._writer = pq.ParquetWriter(
            self._sink,
            self.schema.with_metadata(metadata),
            compression="zstd",
            version="2.6",
            use_dictionary=listed,
            write_statistics=listed,
        )
        self._pending: list[pa.Table] = []
        self._rows = 0

    def write(self, rows: pa.Table | list[dict[str, Any]]) -> None:
        """Adds rows: a table of the schema (dictionaries or strings), or one dict per row."""
        if isinstance(rows, list):
            rows = pa.Table.from_pylist(rows, schema=self._plain)
        if not rows.num_rows:
            return
        self._pending.append(rows.cast(self._plain))
        self._seen(self._pending[-1])
        self._rows += rows.num_rows
        while self._rows >= self._group:
            self._flush(self._group)

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables(self._pending)
        head, rest = table.slice(0, rows).combine_chunks(), table.slice(rows)
        self._pending, self._rows = [rest], rest.num_rows
        columns = [
            head[field.name].dictionary_encode().cast(field.type)
            if pa.types.is_dictionary(field.type)
            else head[field.name]
            for field in self.schema
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self.schema), rows)

    def close(self, commit: Mapping[str, Any] | None = None) -> str:
        """Finishes the part and gives its content id, which covers `commit` where given."""
        if self._rows:
            self._flush(self._rows)
        digest = self._sink.sha256.copy()
        if commit is not None:
            record = json.dumps(commit, ensure_ascii=False, separators=(",", ":"))
            digest.update(record.encode("utf-8", "surrogateescape"))
            self._writer.add_key_value_metadata({COMMIT: record})
        content_id = digest.hexdigest()
        self._writer.add_key_value_metadata({CONTENT_ID: content_id})
        self._writer.close()
        self._file.close()
        return content_id

    def abandon(self) -> None:
        """Closes the files, whatever state they are in."""
        for file in (self._writer, self._file):
            with contextlib.suppress(OSError):
                file.close()


def write_table(
    folder: Folder, name: str, table: pa.Table, row_group_size: int | None = None
) -> None:
    """Writes a Parquet file whole, that is no part of a shard."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=row_group_size, compression="zstd")
    folder.write(name, sink.getvalue().to_pybytes())


def read_metadata(folder: Folder, name: str) -> dict[str, str] | None:
    """The metadata in a part's footer; None if there is no part, or it is not whole.

    Raises OSError where storage fails.
    """
    try:
        content = folder.read_end(name, FOOTER)
        size = int.from_bytes(content[-8:-4], "little") + 8
        if content.endswith(b"PAR1") and len(content) == FOOTER < size:
            content = folder.read_end(name, size)
        found = pq.read_metadata(pa.BufferReader(content)).metadata or {}
        return {key.decode(): value.decode() for key, value in found.items()}
    except (FileNotFoundError, pa.ArrowInvalid, UnicodeDecodeError):
        return None
    except OSError as error:
        if error.errno is not None:
            raise
        return None  # pyarrow's word for a footer that cannot be parsed


def rows_by_recording(folder: Folder, name: str) -> Iterator[tuple[str, pa.Table]]:
    """(recording, rows) of a part in the order of the part, in bounded memory.

    The rows of one recording may come in several consecutive tables.
    """
    with folder.open(name) as file:
        part = pq.ParquetFile(file)
        for batch in part.iter_batches(batch_size=rows_in_group(part.schema_arrow)):
            table = pa.Table.from_batches([batch])
            recordings = table["recording"].combine_chunks()
            runs = pc.run_end_encode(recordings.dictionary_decode())
            if isinstance(runs, pa.ChunkedArray):
                runs = runs.combine_chunks()
            start = 0
            for recording, stop in zip(
                runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True
            ):
                yield recording, table.slice(start, stop - start)
                start = stop
