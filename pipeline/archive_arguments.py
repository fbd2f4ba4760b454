"""The options of commands that list an archive and open its recordings by a Beam job."""

import argparse

INPUT = "recordings: files, folders, globs or URLs, or a .txt, .csv or .parquet list of them"
"""What may be given as input."""


def add_archive_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """Adds the options, and an example; what is left over goes to Beam."""
    parser.epilog = (
        "Other options go to Beam, such as --runner or --direct_num_workers.\n\n"
        f"example:\n{example}\n"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--root", metavar="PATH", help="folder under which recordings are named")
    add(
        "--decode-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="leave a recording out whose decoder gives nothing for so long (default 300)",
    )
