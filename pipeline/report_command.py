"""`dawnchorus report`: a page that shows what a dataset holds."""

import argparse
import sys

from model.errors import UserError
from pipeline import thresholds
from pipeline.activity_command import add_time_zone
from pipeline.text import count

PAGE = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Writes a page that opens in any browser, without a network: what was recorded and what "
        "was lost, when and where each label was heard, scores, and what the runs cost. The data "
        "of every plot lie beside it as CSV."
    )
    parser.epilog = "Example: dawnchorus report out --output report --threshold 0.5"
    add = parser.add_argument
    add("dataset", metavar="OUT", help="the output of dawnchorus detect")
    add(
        "--output",
        metavar="DIR",
        default="report",
        help="folder or URL, new or one of a report, which is replaced (default report)",
    )
    thresholds.add_arguments(parser)
    add_time_zone(parser)
    add("--png", action="store_true", help="also pictures of the plots, for papers")


def run(args: argparse.Namespace) -> int:
    """Writes page, tables and pictures; exit status 0, UserError for bad options."""
    from datetime import UTC, datetime
    from importlib.metadata import version
    from textwrap import fill

    import pyarrow.csv

    from pipeline.activity import left_out_notes
    from pipeline.csv_file import guarded
    from pipeline.dataset import open_dataset
    from pipeline.report import make_report
    from pipeline.report_page import clock_note, lead, page
    from pipeline.storage import Folder

    dataset, out = open_dataset(args.dataset), Folder(args.output)
    is_report = out.exists("data/hours.csv")  # It is written first, also by a run that was killed.
    if not is_report:
        out.require_empty()
    limits, note = thresholds.thresholds_of(dataset, args)
    report = make_report(dataset, limits, args.time_zone)
    if note is None and args.threshold:
        note = f"The thresholds were given: {', '.join(args.threshold)}."
    made = f"Made {datetime.now(UTC):%Y-%m-%d} with dawnchorus {version('dawnchorus')}."
    pictures = 0
    title = dataset.folder.url.rstrip("/").rpartition("/")[2]
    try:
        if is_report:
            out.remove("plots")  # There may be fewer now; all else has the same names.
        for name, table in report.tables.items():
            with out.writing(f"data/{name}.csv") as file:
                pyarrow.csv.write_csv(guarded(table), file)
        if args.png:
            from pipeline.report_plots import plots

            for name, picture in plots(report):
                out.write(f"plots/{name}.png", picture)
                pictures += 1
        out.write(PAGE, page(report, title, " ".join(filter(None, [made, note]))).encode())
    except OSError as error:
        raise UserError(f"{out.url} cannot be written: {error.strerror or error}.") from error
    if report.unfinished is not None:
        print(f"warning: {report.unfinished}", file=sys.stderr)
    print(fill(lead(report), 100))
    for note in (clock_note(report), *left_out_notes(report.left_out)):
        print(fill(note, 100))
    print(f"Page         {out.at(PAGE)}")
    print(f"Tables       {out.at('data')} ({count(len(report.tables), 'file')})")
    if pictures:
        print(f"Pictures     {out.at('plots')} ({count(pictures, 'file')})")
    return 0
