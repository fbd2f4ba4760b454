"""`dawnchorus export`: events as the files of other programs."""

import argparse

from model.errors import UserError
from pipeline import thresholds
from pipeline.events_command import add_event_arguments
from pipeline.text import count

KINDS = {
    "raven": "Raven's selection tables, one for each recording",
    "audacity": "Audacity's label tracks, one for each recording",
    "birdnet-csv": "BirdNET-Analyzer's results, one CSV for each recording",
    "kaleidoscope": "Kaleidoscope's cluster.csv",
    "csv": "the table that train --annotations takes",
    "geojson": "sites on a map, with hours scored and events of each label",
    "camtrap": "a Camtrap DP data package",
    "dwc": "a Darwin Core Archive of occurrences, for GBIF",
}
"""What `--to` takes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Writes events above their thresholds as files for other programs and for data portals. "
        "Times and positions are what dawnchorus deployments was told."
    )
    parser.epilog = "Example: dawnchorus export out --to raven --output tables"
    parser.add_argument("dataset", metavar="OUT", help="the output of dawnchorus detect")
    parser.add_argument(
        "--to",
        choices=list(KINDS),
        required=True,
        help="; ".join(f"{kind}: {text}" for kind, text in KINDS.items()),
    )
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="folder or URL, new or empty"
    )
    add_event_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the files; exit status 0, UserError for bad options."""
    from model.events import EventRule
    from pipeline.events import events
    from pipeline.export import export
    from pipeline.storage import Folder
    from pipeline.unfinished import open_warned

    rule = EventRule(args.merge_gap, args.min_duration, args.centre)
    dataset = open_warned(args.dataset)
    limits, _ = thresholds.thresholds_of(dataset, args)
    out = Folder(args.output)
    found = events(dataset, limits, rule, args.label)
    try:
        out.require_empty()
        written = export(dataset, found, args.to, out)
    except OSError as error:
        raise UserError(f"{out.url} cannot be written: {error.strerror or error}.") from error
    print(f"{count(written.events, 'event')} in {count(written.recordings, 'recording')}")
    for note in written.notes:
        print(note)
    if not written.files:
        print("Nothing was written: no event reaches its threshold.")
    else:
        print(f"Written: {out.url} ({count(written.files, 'file')})")
    return 0
