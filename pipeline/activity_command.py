"""`dawnchorus activity`: how often each label was heard, by hour or date, as a table."""

import argparse
import shutil
import sys
from collections.abc import Iterable
from textwrap import fill
from typing import TYPE_CHECKING, Any

from pipeline import output, thresholds
from pipeline.text import align, count, printable, short

if TYPE_CHECKING:
    import pyarrow as pa


SCREEN_ROWS = 100
"""Longer tables are shown as one line per label and site."""

SCREEN_CHARTS = 12
"""So are the charts of more sites."""

_RAMPS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
_NOTE = len("  10% at 05") + 1
_BY = {"hour": "by hour", "date": "by date", "diel": "by hour of the day"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Counts, per label, site and hour, the windows at or above the label's threshold, and "
        "divides them by the windows scored in that hour. Hours without audio are absent."
    )
    parser.epilog = "Example: dawnchorus activity out --by diel --threshold 0.5 --output diel.csv"
    parser.add_argument("dataset", metavar="OUT", help="the output of dawnchorus detect")
    parser.add_argument(
        "--by",
        choices=sorted(_BY),
        default="hour",
        help="hour of each day (default), date, or diel: hour of the day over all dates",
    )
    thresholds.add_arguments(parser)
    add_time_zone(parser)
    output.add_arguments(parser)


def add_time_zone(parser: argparse.ArgumentParser) -> None:
    """Add what decides whose times are shown."""
    parser.add_argument(
        "--time-zone",
        metavar="ZONE",
        help="put all sites into one zone, such as Europe/Berlin, or `clock` for the recorders' "
        "clocks (default: each site's own where deployments were given, else the clocks)",
    )


def run(args: argparse.Namespace) -> int:
    """Print or write the activity of a dataset; exit status 0, UserError for bad options."""
    write = None if args.output is None else output.writer(args.output)
    from pipeline.activity import activity
    from pipeline.unfinished import open_warned

    dataset = open_warned(args.dataset)
    limits, note = thresholds.thresholds_of(dataset, args)
    table = activity(dataset, args.by, limits, args.time_zone)
    width = shutil.get_terminal_size((100, 24)).columns
    print(report(table, width, blocks=_prints_blocks()), end="")
    if note is not None:
        print("\n" + fill(note, width))
    if write is not None:
        write(table.schema, [table])
        print(f"Written: {args.output} ({count(table.num_rows, 'row')})")
    return 0


def _prints_blocks() -> bool:
    try:
        _RAMPS[0].encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def report(table: "pa.Table", width: int = 100, *, blocks: bool = True) -> str:
    """An activity table, and what it leaves out, as text of `width` (at least 80) columns.

    Labels are columns as far as they fit, the busiest first. A table of more than `SCREEN_ROWS`
    lines is shown as one line per label and site, with the highest value and its time. `blocks`
    says whether the terminal can show block characters.
    """
    from pipeline.activity import SITES, details, left_out_notes

    about = details(table)
    notes = "".join(f"{fill(note, width)}\n" for note in left_out_notes(about["windows_left_out"]))
    if not table.num_rows:
        return "No scored windows with a time, so there is no activity.\n" + notes
    time = "hour" if about["by"] != "date" else "date"
    rows: list[dict[str, Any]] = table.to_pylist()
    places = ["site", *(["channel"] if "channel" in rows[0] else [])]
    scored = {tuple(row[key] for key in (*places, time)): row["windows_scored"] for row in rows}
    zone = about["time_zone"] or "clock times, as the recorders showed them"
    if zone == SITES:
        zone = "each site's own, from deployments"
    title = (
        f"Activity {_BY[about['by']]}, {count(sum(scored.values()), 'window')} scored\n"
        f"Times are {zone}."
    )
    if about["by"] == "diel" and len({key[:-1] for key in scored}) <= SCREEN_CHARTS:
        lines = _charts(rows, places, width, _RAMPS[0 if blocks else 1])
    elif len(scored) <= SCREEN_ROWS:
        lines = _pivot(rows, places, time, scored, width)
    else:
        lines = _summary(rows, places, time, width)
    return "\n".join([title, "", *lines, ""]) + (f"\n{notes}" if notes else "")


def _cell(value: Any) -> str:
    from datetime import datetime

    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return printable(str(value))


def _busiest(rows: Iterable[dict[str, Any]]) -> list[str]:
    totals: dict[str, int] = {}
    for row in rows:
        totals[row["label"]] = totals.get(row["label"], 0) + row["windows_positive"]
    return sorted(totals, key=lambda label: -totals[label])


def _pivot(
    rows: list[dict[str, Any]],
    places: list[str],
    time: str,
    scored: dict[tuple[Any, ...], int],
    width: int,
) -> list[str]:
    """A line per site and time, a column per label: positive windows and their share."""
    values = {
        (*(row[key] for key in (*places, time)), row["label"]): row["windows_positive"]
        for row in rows
    }
    labels = _busiest(rows)
    for shown in range(len(labels), 0, -1):
        body = [[*places, time, "scored", *(short(label, 24) for label in labels[:shown])]]
        for key in sorted(scored):
            cells = [
                f"{values[(*key, label)]:,} {100 * values[(*key, label)] / scored[key]:3.0f}%"
                for label in labels[:shown]
            ]
            body.append([*map(_cell, key), f"{scored[key]:,}", *cells])
        lines = align(body, len(places) + 1)
        if max(map(len, lines)) <= width:
            break
    hidden = len(labels) - shown
    if hidden:
        lines += ["", f"{count(hidden, 'more label')}: see them all with --output FILE."]
    return lines


def _summary(rows: list[dict[str, Any]], places: list[str], time: str, width: int) -> list[str]:
    """A line per label and site: totals, and where the activity is highest."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["label"], *(row[key] for key in places)), []).append(row)
    sums = {
        key: (sum(r["windows_positive"] for r in group), sum(r["windows_scored"] for r in group))
        for key, group in groups.items()
    }
    ordered = sorted(groups, key=lambda key: (-sums[key][0] / sums[key][1], *map(str, key)))
    body = [["label", *places, "positive", "scored", "share", "highest", "at"]]
    for key in ordered[:SCREEN_ROWS]:
        positive, windows = sums[key]
        peak = max(groups[key], key=lambda row: row["activity"])
        highest, at = f"{100 * peak['activity']:.0f}%", _cell(peak[time])
        if not positive:
            highest, at = "-", "-"
        names = [short(_cell(name), max(8, (width - 60) // 2)) for name in key]
        share = f"{100 * positive / windows:.1f}%"
        body.append([*names, f"{positive:,}", f"{windows:,}", share, highest, at])
    lines = align(body, len(places) + 1)
    hidden = len(ordered) - len(body) + 1
    return [
        *lines,
        "",
        *([f"{count(hidden, 'more line')} of label and site."] if hidden else []),
        f"Every {time} is in the table: see it with --output FILE.",
    ]


def _charts(rows: list[dict[str, Any]], places: list[str], width: int, ramp: str) -> list[str]:
    """A chart per site: labels down, the hours of the day across."""
    sites: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        sites.setdefault(tuple(row[key] for key in places), []).append(row)
    lines: list[str] = []
    for site, its_rows in sorted(sites.items()):
        windows = {row["hour"]: row["windows_scored"] for row in its_rows}
        name = ", channel ".join(map(_cell, site))
        lines += ["", f"{name}: {count(sum(windows.values()), 'window')} scored"]
        lines += chart(its_rows, width, ramp)
    if any(len({row["hour"] for row in its_rows}) < 24 for its_rows in sites.values()):
        lines += ["", f"{_gap(ramp)}  no audio at that hour"]
    return lines[1:]


def _gap(ramp: str) -> str:
    return "·" if ramp == _RAMPS[0] else "?"


def chart(rows: Iterable[dict[str, Any]], width: int = 100, ramp: str = _RAMPS[0]) -> list[str]:
    """Lines of a chart of one site's diel rows: a label a line, the hour of the day across.

    The height of a mark is the activity, from none (blank) to the highest of the chart; a dot
    in the middle is an hour without audio. At the line's end the label's highest share.
    """
    by_label: dict[str, dict[int, float]] = {}
    rows = list(rows)
    for row in rows:
        by_label.setdefault(row["label"], {})[row["hour"]] = row["activity"]
    labels = _busiest(rows)
    top = max((row["activity"] for row in rows), default=0) or 1.0
    names = max([*map(len, labels), 4])
    cell = 3 if names + 2 + 24 * 3 + _NOTE <= width else 2
    names = min(names, max(8, width - 2 - 24 * cell - _NOTE))
    limit = 40
    # Narrow columns have room for every second hour.
    hours = (f"{h:02d}" if cell == 3 or h % 2 == 0 else "" for h in range(24))
    head = "".join(text.ljust(cell) for text in hours)
    lines = [f"{' ' * (names + 2)}{head}  highest"]
    for label in labels[:limit]:
        values = by_label[label]
        marks = []
        for hour in range(24):
            if hour not in values:
                marks.append(_gap(ramp))
                continue
            level = values[hour] / top * (len(ramp) - 1)
            # A label that was heard at all shows, however little.
            marks.append(ramp[max(round(level), 1 if values[hour] else 0)])
        peak = max(values, key=lambda hour: values[hour])
        note = f"{100 * values[peak]:3.0f}% at {peak:02d}" if values[peak] else "   -"
        bars = "".join((mark * (cell - 1)).ljust(cell) for mark in marks)
        lines.append(f"{short(label, names).ljust(names)}  {bars} {note}")
    if len(labels) > limit:
        lines.append(f"{count(len(labels) - limit, 'more label')}: see them with --output FILE.")
    return lines
