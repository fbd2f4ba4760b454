"""`dawnchorus status`: how far a dataset is."""

import argparse
import sys
import time

WATCH_S = 5.0
CLEAR = "\x1b[H\x1b[J"
"""What empties a terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("output", metavar="OUT", help="dataset: folder or URL")
    add("--watch", action="store_true", help="tell it again and again, until the run has ended")
    add("--json", metavar="FILE", help="a file for the same as JSON")


def run(args: argparse.Namespace) -> int:
    """Tells the status; gives the exit status."""
    from pipeline.status import read_status, screen
    from pipeline.storage import Folder, write_report

    while True:
        status = read_status(Folder(args.output))
        if args.json is not None:
            write_report(args.json, status.to_json())
        clear = CLEAR if args.watch and sys.stdout.isatty() else ""
        print(clear + screen(status), flush=True)
        if not (args.watch and status.is_alive):
            return 0
        time.sleep(WATCH_S)
        if not clear:
            print()
