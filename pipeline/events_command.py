"""`dawnchorus events`: when each label was heard, as a table of events."""

import argparse
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from textwrap import fill
from typing import TYPE_CHECKING, Any

from pipeline import output, thresholds
from pipeline.text import align, count, printable, short

if TYPE_CHECKING:
    import pyarrow as pa

SCREEN_ROWS = 30
"""More events than these are shown as one line per label."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Finds when each label was heard: runs of time in which its score is at or above its "
        "threshold. Where windows overlap, a moment's score is the mean of those that cover it."
    )
    parser.epilog = "Example: dawnchorus events out --merge-gap 2 --output events.csv"
    parser.add_argument("dataset", metavar="OUT", help="the output of dawnchorus detect")
    add_event_arguments(parser)
    output.add_arguments(parser)


def add_event_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides which events there are."""
    parser.add_argument(
        "--label", action="append", metavar="LABEL", help="only this label; may be repeated"
    )
    thresholds.add_arguments(parser)
    parser.add_argument(
        "--merge-gap",
        type=float,
        default=0.0,
        metavar="S",
        help="join events of a label that are at most so many seconds apart (default 0)",
    )
    parser.add_argument(
        "--min-duration",
        type=float,
        default=0.0,
        metavar="S",
        help="leave out events shorter than so many seconds (default 0)",
    )
    parser.add_argument(
        "--centre",
        action="store_true",
        help="score a moment by the window of nearest centre, for calls shorter than a window",
    )


def run(args: argparse.Namespace) -> int:
    """Print or write the events of a dataset; exit status 0, UserError for bad options."""
    write = None if args.output is None else output.writer(args.output)
    from model.events import EventRule
    from pipeline.events import events, schema_of
    from pipeline.unfinished import open_warned

    rule = EventRule(args.merge_gap, args.min_duration, args.centre)
    dataset = open_warned(args.dataset)
    limits, note = thresholds.thresholds_of(dataset, args)
    found = events(dataset, limits, rule, args.label)
    labels = [x for x in dataset.identity["labels"] if args.label is None or x in args.label]
    tally = Tally({label: limits[label] for label in labels})
    if write is None:
        for _ in tally.watch(found):
            pass
    else:
        write(schema_of(dataset, limits, rule, labels), tally.watch(found))
    scored = dataset.connection.sql("SELECT sum(seconds_scored) FROM coverage").fetchall()[0][0]
    print(report(tally, scored or 0.0), end="")
    if note is not None:
        print("\n" + fill(note, shutil.get_terminal_size((100, 24)).columns))
    if write is not None:
        print(f"Written: {args.output} ({count(tally.events, 'row')})")
    return 0


@dataclass
class Tally:
    """What passes by of the tables of events: the first rows, and totals per label."""

    thresholds: dict[str, float]
    events: int = 0
    sites: set[str] = field(default_factory=set)
    rows: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, list[float]] = field(default_factory=dict)

    def watch(self, tables: Iterable["pa.Table"]) -> Iterator["pa.Table"]:
        """The same tables, counted."""
        import pyarrow.compute as pc

        for table in tables:
            self.events += table.num_rows
            self.sites.update(table["site"].unique().to_pylist())
            self.rows += table.slice(0, SCREEN_ROWS + 1 - len(self.rows)).to_pylist()
            lasting = pc.subtract(table["end_s"], table["start_s"])
            grouped = (
                table.select(["label", "score"])
                .append_column("s", lasting)
                .group_by("label")
                .aggregate([("s", "count"), ("s", "sum"), ("s", "max"), ("score", "max")])
            )
            for label, number, total, longest, highest in zip(
                *(grouped[f"{x}"].to_pylist() for x in ("label", "s_count", "s_sum")),
                *(grouped[f"{x}"].to_pylist() for x in ("s_max", "score_max")),
                strict=True,
            ):
                known = self.labels.setdefault(label, [0, 0.0, 0.0, 0.0])
                known[:2] = known[0] + number, known[1] + total
                known[2:] = max(known[2], longest), max(known[3], highest)
            yield table


def report(tally: Tally, seconds_scored: float) -> str:
    """What was found, as text: each event where there are few, else a line per label."""
    from pipeline.summary import duration

    where = f" at {count(len(tally.sites), 'site')}" if tally.events else ""
    title = f"{count(tally.events, 'event')}{where} in {duration(seconds_scored)} scored\n"
    lines = [title] if tally.events else []
    if tally.events > SCREEN_ROWS:
        body = [["label", "threshold", "events", "together", "longest", "highest score"]]
        for label, (number, total, longest, highest) in sorted(
            tally.labels.items(), key=lambda item: -item[1][0]
        ):
            limit = f"{tally.thresholds[label]:.3g}"
            times = (duration(total), duration(longest))
            body.append([short(printable(label), 40), limit, f"{int(number):,}", *times])
            body[-1].append(f"{highest:.3f}")
        lines += [*align(body[: SCREEN_ROWS + 1], 1), ""]
        hidden = len(body) - 1 - SCREEN_ROWS
        lines += [f"{count(hidden, 'more label')}.", ""] if hidden > 0 else []
        lines.append("Every event is in the table: see it with --output FILE.")
    elif tally.events:
        places = ["site", "recording"]
        if any(row["channel"] is not None for row in tally.rows):
            places.append("channel")
        body = [[*places, "label", "clock", "start", "end", "score", "mean"]]
        for row in tally.rows:
            clock = row["start_clock"]
            cells = [short(printable(str(row[name])), 40) for name in (*places, "label")]
            cells.append(f"{clock:%Y-%m-%d %H:%M:%S}" if clock else "-")
            cells += [f"{row[name]:.2f}" for name in ("start_s", "end_s")]
            body.append([*cells, *(f"{row[name]:.3f}" for name in ("score", "mean_score"))])
        lines += align(body, len(places) + 2)
    return "\n".join([*(lines or [title.rstrip()]), ""])
