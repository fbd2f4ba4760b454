"""`dawnchorus inventory`: what an archive holds, as a table that runs of detection plan from."""

import argparse

EPILOG = """\
Other options go to Beam, such as --runner or --direct_num_workers.

example:
  dawnchorus inventory recordings/ --output inventory.parquet
  dawnchorus detect --input inventory.parquet --model birds.bundle --output detections/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command; what is left over goes to Beam."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "input",
        nargs="+",
        metavar="PATH",
        help="recordings: files, folders, globs or URLs, or a .txt, .csv or .parquet list of them",
    )
    add(
        "--output",
        required=True,
        metavar="FILE.parquet",
        help="the table: a path or URL, new or to be brought up to date",
    )
    add("--root", metavar="PATH", help="folder under which recordings are named")
    add(
        "--decode-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="leave a recording out whose decoder gives nothing for so long (default 300)",
    )


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
