"""The inventory of an archive as a file of its own, made once and planned from again and again."""

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from model.errors import UserError
from pipeline.detection import check_reach, list_archive, prober
from pipeline.given import ROOT, read_given
from pipeline.inventory import keep_rows, take_inventory
from pipeline.job import check_timeout
from pipeline.parts import write_table
from pipeline.runner import check_beam_options, hands_over, is_dataflow
from pipeline.storage import Folder, absolute, file_at
from pipeline.summary import duration
from pipeline.text import size

WORK = ".work"
"""Added to the file's name: the folder of what is probed, until the file is whole."""


@dataclass(frozen=True)
class InventoryOptions:
    """What an inventory is made of."""

    inputs: tuple[str, ...]
    output: str
    root: str | None = None
    decode_timeout_s: float = 300.0
    beam: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if PurePosixPath(self.output).suffix.lower() != ".parquet":
            raise UserError(f"--output {self.output} does not end in .parquet; name it so.")
        check_timeout(self.decode_timeout_s)


def make_inventory(options: InventoryOptions) -> int:
    """Lists and probes, writes the file and tells what it holds; gives the exit status.

    What a killed run has probed is not probed again, nor what an earlier file tells of files that
    have not changed. Raises UserError.
    """
    check_beam_options(options.beam)
    if hands_over(options.beam):
        raise UserError("--template_location is for detect alone: an inventory waits for its job.")
    output = absolute(options.output)
    (folder, name), work = file_at(output), Folder(output + WORK)
    check_reach(folder, options.beam)
    listing = list_archive(options.inputs, options.root, "the paths given")
    if is_dataflow(options.beam):
        check_reach(Folder(listing.root), options.beam)
    probe_all = prober(work, options.decode_timeout_s, options.beam, lambda sums: None)
    try:
        if folder.exists(name):
            known = read_given(output)
            if known is None or known.root is None:
                raise UserError(f"{output} is no inventory of dawnchorus; name another file.")
            keep_rows(work, known.rows)
        inventory = take_inventory(work, work, listing, probe_all)
        found = inventory.replace_schema_metadata({ROOT: listing.root.encode()})
        write_table(folder, name, _readable(found))
        work.remove("")
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}.") from error
    print(screen(inventory, output))
    return 0


def _readable(inventory: pa.Table) -> pa.Table:
    """The URLs as text, where all can be."""
    at = inventory.schema.get_field_index("url")
    try:
        text = pc.cast(inventory["url"], pa.string())
    except pa.ArrowInvalid:
        return inventory
    return inventory.set_column(at, "url", text)


def screen(inventory: pa.Table, output: str) -> str:
    """What an inventory holds, for people."""
    seconds = pc.sum(inventory["duration_s"]).as_py() or 0.0
    total = pc.sum(inventory["size_bytes"]).as_py() or 0
    reasons = Counter(reason for reason in inventory["reason"].to_pylist() if reason)
    lines = [
        f"Recordings   {inventory.num_rows:,}, {duration(seconds)} of audio, {size(total)}",
        *(f"Unreadable   {count:,} {reason}" for reason, count in reasons.most_common()),
        f"Inventory    {output}",
    ]
    return "\n".join(lines)
