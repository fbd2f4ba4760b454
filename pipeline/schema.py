"""The tables of the dataset: columns, types and sort order."""

import pyarrow as pa

SCHEMA_VERSION = 1
"""Major version of the tables: columns are only ever added within one."""
RESULTS_VERSION = 2
"""Raised when the code's scores change, so that a dataset never mixes two."""

_TEXT = pa.dictionary(pa.int32(), pa.string())
_CLOCK = pa.timestamp("us")
_UTC = pa.timestamp("us", tz="UTC")

WINDOW = pa.schema(
    [
        pa.field("recording", _TEXT, nullable=False),
        pa.field("channel", pa.int8()),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("start_clock", _CLOCK),
        pa.field("start_utc", _UTC),
    ]
)
"""What says which window a row is of."""
PREDICTIONS = pa.schema(
    [
        *WINDOW,
        pa.field("label", _TEXT, nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
FACTS = pa.schema(
    [
        ("duration_s", pa.float64()),
        ("sample_rate", pa.int32()),
        ("channels", pa.int32()),
        ("format", pa.string()),
        ("version", pa.string()),
        ("size_bytes", pa.int64()),
        ("recorder_id", pa.string()),
        ("firmware", pa.string()),
        ("battery_v", pa.float32()),
        ("temperature_c", pa.float32()),
        ("gain_db", pa.float32()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("flags", pa.list_(pa.string())),
    ]
)
"""What a recording's row in the inventory and its rows in coverage both say."""
COVERAGE = pa.schema(
    [
        pa.field("recording", _TEXT, nullable=False),
        pa.field("channel", pa.int8()),
        pa.field("start_clock", _CLOCK),
        pa.field("start_utc", _UTC),
        pa.field("time_source", pa.string()),
        pa.field("from_s", pa.float64()),
        pa.field("to_s", pa.float64()),
        pa.field("windows_expected", pa.int32(), nullable=False),
        pa.field("windows_scored", pa.int32(), nullable=False),
        pa.field("windows_skipped", pa.int32(), nullable=False),
        pa.field("seconds_expected", pa.float64(), nullable=False),
        pa.field("seconds_scored", pa.float64(), nullable=False),
        pa.field("seconds_skipped", pa.float64(), nullable=False),
        *FACTS,
    ]
)
ERRORS = pa.schema(
    [
        pa.field("recording", _TEXT, nullable=False),
        pa.field("channel", pa.int8()),
        pa.field("from_s", pa.float64()),
        pa.field("to_s", pa.float64()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("curable", pa.bool_(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("windows_lost", pa.int32(), nullable=False),
    ]
)
TABLES = {"predictions": PREDICTIONS, "errors": ERRORS, "coverage": COVERAGE}
"""The tables of every dataset, in the order of a commit: coverage is the commit record and comes
last."""


def embeddings(size: int) -> pa.Schema:
    """The table of embeddings of `size` numbers: one row per scored window."""
    number = pa.field("element", pa.float16(), nullable=False)
    return pa.schema([*WINDOW, pa.field("embedding", pa.list_(number, size), nullable=False)])


def tables_of(embedding_size: int | None) -> dict[str, pa.Schema]:
    """The tables of a dataset, in the order of a commit; without embeddings if there is no size."""
    if embedding_size is None:
        return TABLES
    return {"embeddings": embeddings(embedding_size), **TABLES}


def list_bytes(field: pa.Field) -> int:
    """Bytes of a fixed-size list in each row; 0 for a field of another type."""
    kind = field.type
    return kind.list_size * kind.value_type.byte_width if pa.types.is_fixed_size_list(kind) else 0


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema with strings in place of dictionaries."""
    return pa.schema(
        [
            field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
            for field in schema
        ]
    )
