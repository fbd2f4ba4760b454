"""`dawnchorus export`: events as the files of other programs."""

import argparse

from model.errors import UserError
from pipeline import thresholds
from pipeline.events_command import add_event_arguments
from pipeline.text import count

PROGRAMS = ("raven", "audacity")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Writes events above their thresholds as files that other programs open with the "
        "recording: Raven's selection tables, or Audacity's label tracks. One file for each "
        "recording that has events, in folders like those of the recordings."
    )
    parser.epilog = "Example: dawnchorus export out --to raven --output tables"
    parser.add_argument("dataset", metavar="OUT", help="the output of dawnchorus detect")
    parser.add_argument("--to", choices=PROGRAMS, required=True, help="the program")
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="folder or URL, new or empty"
    )
    add_event_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the files; exit status 0, UserError for bad options."""
    from model.events import EventRule
    from pipeline.dataset import open_dataset
    from pipeline.events import events
    from pipeline.export import KINDS, export
    from pipeline.storage import Folder

    rule = EventRule(args.merge_gap, args.min_duration, args.centre)
    dataset = open_dataset(args.dataset)
    limits = thresholds.thresholds_of(dataset, args)
    out = Folder(args.output)
    front_end = dataset.bundle().front_end
    band = (front_end.fmin, front_end.fmax or front_end.sample_rate / 2)
    found = events(dataset, limits, rule, args.label)
    files = rows = 0
    try:
        out.require_empty()
        for _, number in export(found, KINDS[args.to], out, band):
            files, rows = files + 1, rows + number
    except OSError as error:
        raise UserError(f"{out.url} cannot be written: {error.strerror or error}.") from error
    print(f"{count(rows, 'event')} in {count(files, 'recording')}")
    if files:
        print(f"Written: {out.url} ({count(files, 'file')})")
    return 0
