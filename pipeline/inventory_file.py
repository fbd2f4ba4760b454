"""The inventory of an archive as a file of its own, made once and planned from again and again."""

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from model.errors import UserError
from pipeline.detection import prober
from pipeline.discovery import discover
from pipeline.given import ROOT, read_given
from pipeline.inventory import keep_rows, take_inventory, write_table
from pipeline.planning import say
from pipeline.runner import check_beam_options, is_local_runner
from pipeline.storage import Folder, absolute
from pipeline.summary import duration

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
        if not self.decode_timeout_s > 0:
            raise UserError(f"--decode-timeout is {self.decode_timeout_s:g}; it must be above 0 s.")


def make_inventory(options: InventoryOptions) -> int:
    """Lists and probes, writes the file and tells what it holds; gives the exit status.

    What a killed run has probed is not probed again, nor what an earlier file tells of files that
    have not changed. Raises UserError.
    """
    check_beam_options(options.beam)
    output = absolute(options.output)
    parent, _, name = output.rpartition("/")
    folder, work = Folder(parent or "/"), Folder(output + WORK)
    listing = discover(options.inputs, options.root)
    if not listing.count:
        places = ", ".join(options.inputs)
        raise UserError(f"No recordings were found in {places}; check the paths given.")
    if folder.is_local and not is_local_runner(options.beam):
        say("warning: the output is on this machine's disk; the runner's workers must see it too")
    for problem in listing.unlisted:
        say(f"warning: not listed: {problem}")

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
    size = pc.sum(inventory["size_bytes"]).as_py() or 0
    reasons = Counter(reason for reason in inventory["reason"].to_pylist() if reason)
    lines = [
        f"Recordings   {inventory.num_rows:,}, {duration(seconds)} of audio, {size / 1e9:,.1f} GB",
        *(f"Unreadable   {count:,} {reason}" for reason, count in reasons.most_common()),
        f"Inventory    {output}",
    ]
    return "\n".join(lines)
