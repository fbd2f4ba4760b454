"""The inventory of a run: every recording listed, probed unless an earlier run did."""

import io
import os
from collections.abc import Callable

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from model.reasons import REASONS
from pipeline.discovery import Listing
from pipeline.parts import write_table
from pipeline.recording import INVENTORY
from pipeline.storage import Folder

LISTING = pa.schema(
    [
        ("recording", pa.string()),
        ("url", pa.binary()),
        ("stamp", pa.string()),
        ("is_folder", pa.bool_()),
        ("size", pa.int64()),
        ("inventory_clock", pa.timestamp("us")),
        ("inventory_utc", pa.timestamp("us", tz="UTC")),
        ("inventory_site", pa.string()),
    ]
)
TOLD = "inventory_clock, inventory_utc, inventory_site"
"""What a list tells of a recording: never kept in the index, for the list may change."""
INDEX = "_index/files-v2.parquet"
"""Rows of earlier inventories; rebuilt when it is missing. The name changes with what is probed."""


def listing_table(listing: Listing) -> pa.Table:
    """A listing as a table of `LISTING`."""
    entries = [entry for _, entry in listing.recordings]
    lines = [listing.told.get(name) for name, _ in listing.recordings]
    starts = [line.start if line else None for line in lines]
    columns = [
        pa.array([name for name, _ in listing.recordings], pa.string()),
        pa.array([os.fsencode(entry.url) for entry in entries], pa.binary()),
        pa.array([entry.stamp for entry in entries], pa.string()),
        pa.array([entry.is_folder for entry in entries], pa.bool_()),
        pa.array([entry.size for entry in entries], pa.int64()),
        pa.array([start.clock if start else None for start in starts], pa.timestamp("us")),
        pa.array([start.utc if start else None for start in starts], pa.timestamp("us", "UTC")),
        pa.array([line.site if line else None for line in lines], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=LISTING)


def take_inventory(
    out: Folder, plan: Folder, listing: Listing, probe_all: Callable[[int], None]
) -> pa.Table:
    """The inventory, sorted by recording; files with an unchanged stamp are not read again, nor are
    those of which the listing tells all.

    What is to be probed is written to the plan's `listing.parquet`; `probe_all` (given their
    number) makes the parts of its `inventory/`. Those that a killed run left there are used.
    """
    if not listing.recordings:
        return listing.rows
    keep_parts(out, plan)
    listed = listing_table(listing)
    index = read_index(out)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("listed", listed)
        connection.register("index", index)
        known: pa.Table = connection.sql(
            """SELECT i.* REPLACE (l.url AS url) FROM index i JOIN listed l
                USING (recording, stamp)"""
        ).to_arrow_table()
        new: pa.Table = connection.sql(
            """SELECT l.* FROM listed l ANTI JOIN index i USING (recording, stamp)
                ORDER BY recording"""
        ).to_arrow_table()
    tables = [known.select(INVENTORY.names).cast(INVENTORY)]
    if new.num_rows:
        write_table(plan, "listing.parquet", new)
        probe_all(new.num_rows)
        tables += [_read(plan, name) for name in plan.files("inventory")]
        inventory = pa.concat_tables(tables).sort_by("recording")
        write_table(out, INDEX, _index(index, inventory))
        plan.remove("inventory")
    else:
        inventory = tables[0]
    inventory = _with_told(inventory, listed)
    if listing.rows.num_rows:
        inventory = pa.concat_tables([inventory, listing.rows]).sort_by("recording")
    return inventory


def keep_parts(out: Folder, plan: Folder) -> None:
    """Keeps in the index what a run that was killed has probed for a plan."""
    parts = plan.files("inventory") if plan.exists("inventory") else []
    if parts:
        keep_rows(out, pa.concat_tables([_read(plan, name) for name in parts]))
        plan.remove("inventory")


def keep_rows(out: Folder, inventory: pa.Table) -> None:
    """Keeps rows of an inventory in the index, so that their files are not read again."""
    write_table(out, INDEX, _index(read_index(out), inventory))


def _with_told(inventory: pa.Table, listed: pa.Table) -> pa.Table:
    """The inventory, sorted, with what this run's lists tell."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("inventory", inventory)
        connection.register("listed", listed)
        told: pa.Table = connection.sql(
            f"""SELECT i.* EXCLUDE ({TOLD}), {TOLD.replace("inv", "l.inv")}
                FROM inventory i JOIN listed l USING (recording) ORDER BY recording"""
        ).to_arrow_table()
    return told.select(INVENTORY.names).cast(INVENTORY)


def read_index(out: Folder) -> pa.Table:
    """The rows of earlier inventories; none if there is no index, or it is broken."""
    try:
        return _read(out, INDEX)
    except (FileNotFoundError, ValueError):
        return INVENTORY.empty_table()
    except OSError as error:
        if error.errno is not None:
            raise
        return INVENTORY.empty_table()  # pyarrow's word for a footer that cannot be parsed


def _index(old: pa.Table, inventory: pa.Table) -> pa.Table:
    """What the next run need not probe again: all but what may be cured, and other inputs' rows."""
    curable = pa.array([code for code, reason in REASONS.items() if reason.curable], pa.string())
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("old", old)
        connection.register("inventory", inventory)
        connection.register("curable", pa.table({"reason": curable}))
        merged: pa.Table = connection.sql(
            """SELECT * FROM inventory WHERE stamp IS NOT NULL
                AND (reason IS NULL OR reason NOT IN (SELECT reason FROM curable))
                UNION ALL SELECT * FROM old ANTI JOIN inventory USING (recording)"""
        ).to_arrow_table()
    return merged.cast(INVENTORY)


def _read(folder: Folder, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(folder.read(name)), schema=None).cast(INVENTORY)
