"""`dawnchorus inventory`: what an archive holds, as a table that runs of detection plan from."""

import argparse

from pipeline.archive_arguments import INPUT, add_archive_arguments

EXAMPLE = """\
  dawnchorus inventory recordings/ --output inventory.parquet
  dawnchorus detect --input inventory.parquet --model birds.bundle --output detections/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command; what is left over goes to Beam."""
    add = parser.add_argument
    add("input", nargs="+", metavar="PATH", help=INPUT)
    add(
        "--output",
        required=True,
        metavar="FILE.parquet",
        help="the table: a path or URL, new or to be brought up to date",
    )
    add_archive_arguments(parser, EXAMPLE)


def run(args: argparse.Namespace) -> int:
    """Lists and probes; `args.beam` holds the options that are not ours."""
    from pipeline.inventory_file import InventoryOptions, make_inventory

    return make_inventory(
        InventoryOptions(
            inputs=tuple(args.input),
            output=args.output,
            root=args.root,
            decode_timeout_s=args.decode_timeout,
            beam=tuple(args.beam),
        )
    )
