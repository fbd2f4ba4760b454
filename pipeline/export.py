"""Events as the files of other programs and data portals."""

from collections.abc import Iterable, Iterator
from itertools import chain

import pyarrow as pa

from pipeline.camtrap import write_camtrap
from pipeline.darwin_core import write_darwin_core
from pipeline.dataset import Dataset
from pipeline.event_table import write_event_table
from pipeline.export_kind import Write, Written
from pipeline.geojson import write_geojson
from pipeline.kaleidoscope import write_kaleidoscope
from pipeline.selections import FORMS, writer_of
from pipeline.storage import Folder

KINDS: dict[str, Write] = {
    **{name: writer_of(form) for name, form in FORMS.items()},
    "kaleidoscope": write_kaleidoscope,
    "csv": write_event_table,
    "geojson": write_geojson,
    "camtrap": write_camtrap,
    "dwc": write_darwin_core,
}
"""What writes each kind of export."""
OF_SITES = frozenset({"geojson"})
"""Kinds that tell something of sites at which nothing was heard."""


def export(dataset: Dataset, tables: Iterable[pa.Table], kind: str, out: Folder) -> Written:
    """Writes a dataset's events, as `pipeline.events.events` gives them, in one of `KINDS`.

    Without events nothing is written, but for kinds `OF_SITES`. Raises as `Write` says.
    """
    filled: Iterator[pa.Table] = (table for table in tables if len(table))
    first = next(filled, None)
    if first is None and kind not in OF_SITES:
        return Written(0, 0, 0)
    return KINDS[kind](dataset, filled if first is None else chain([first], filled), out)
