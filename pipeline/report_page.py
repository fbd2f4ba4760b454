"""The report as one HTML page that needs nothing else."""

import base64
import gzip
import html
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from importlib.resources import files
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.activity import CLOCK, SITES, left_out_notes
from pipeline.report import NEAR, STEPS, Report
from pipeline.summary import duration
from pipeline.text import count

WEB = files("pipeline") / "web"
SCRIPTS = ("report_view.js", "report_plots.js", "report.js")
MOST_CELLS = 1_500_000
"""Hours with a label, over all labels and sites, that a page holds: browsers grow slow above."""


def page(report: Report, title: str, about: str) -> str:
    """The page: charting library, data and all in one file.

    Labels that do not fit into `MOST_CELLS` can be chosen in no plot by time, the rarest first;
    the page says so. `title` and `about` are shown as text.
    """
    document = json.dumps(_data(report, about), separators=(",", ":"), default=_plain)
    packed = base64.b64encode(gzip.compress(document.encode(), mtime=0)).decode()
    text = (WEB / "report.html").read_text()
    parts = {
        "style": (WEB / "report.css").read_text(),
        "charts": (WEB / "echarts.min.js").read_text(),
        "script": "".join((WEB / name).read_text() for name in SCRIPTS),
        "title": html.escape(title),
        "data": packed,
    }
    pieces = text.split("<!--")
    return pieces[0] + "".join(_filled(piece, parts) for piece in pieces[1:])


def _filled(piece: str, parts: dict[str, str]) -> str:
    name, _, rest = piece.partition("-->")
    return parts[name] + rest


def clock_note(report: Report) -> str:
    """A sentence that says whose times the report has."""
    if all(first is None for first in report.tables["sites"]["first"].to_pylist()):
        return "No recording has a time that is known here, so no plot by time shows anything."
    if report.zone == CLOCK:
        return "Times are what the recorders' clocks showed; no deployment tells the sites' own."
    if report.zone == SITES:
        return "Times are each site's own, from its deployments."
    return f"Times are those of {report.zone} for all sites."


def lead(report: Report) -> str:
    """A sentence that says what the dataset holds."""
    sites = report.tables["sites"].to_pylist()
    scored = duration(sum(row["seconds_scored"] for row in sites))
    recordings = sum(row["recordings"] for row in sites)
    dated = [row for row in sites if row["first"] is not None]
    days = ""
    if dated:
        first, last = min(row["first"] for row in dated), max(row["last"] for row in dated)
        days = f", {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    channels = ", each channel by itself" if report.identity.get("channel") == "each" else ""
    return (
        f"{count(recordings, 'recording')} at {count(len(sites), 'site')}{days}: "
        f"{scored} scored{channels}, in windows of {report.identity['window_s']:g} s."
    )


def _data(report: Report, about: str) -> dict[str, Any]:
    tables = report.tables
    sites = [row | {"name": row.pop("site")} for row in tables["sites"].to_pylist()]
    number = {site["name"]: at for at, site in enumerate(sites)}
    first = min((row for row in tables["hours"]["hour"].to_pylist()), default=datetime(2000, 1, 1))
    base = datetime.combine(first, datetime.min.time())
    undated: dict[str, float] = defaultdict(float)
    for row in tables["days"].to_pylist():
        if row["date"] is None:
            undated[row["site"]] += row["seconds_expected"]
    for site in sites:
        site["undated"] = undated[site["name"]]
        site["cells"] = {name: [] for name in ("at", "expected", "scored", "windows")}
        site["sun"] = {"day": [], "sunrise": [], "sunset": []}
    hours = tables["hours"]
    for name, at, *values in _columns(
        hours, "site", "hour", "seconds_expected", "seconds_scored", "windows_scored"
    ):
        cells = sites[number[name]]["cells"]
        cells["at"].append(_hours(at, base))
        for key, value in zip(("expected", "scored", "windows"), values, strict=True):
            cells[key].append(round(value))
    for name, day, rises, sets in _columns(tables["sun"], *tables["sun"].column_names):
        sun = sites[number[name]]["sun"]
        sun["day"].append((day - base.date()).days)
        sun["sunrise"].append(_hundredths(rises))
        sun["sunset"].append(_hundredths(sets))
    labels, left = _labels(report, number, base)
    label_number = {label["name"]: at for at, label in enumerate(labels)}
    notes = [f"{clock_note(report)}", *left_out_notes(dict(report.left_out))]
    if left:
        notes.append(f"{count(left, 'rare label')} can be chosen in no plot: see activity.csv.")
    return {
        "base": base.date(),
        "near": NEAR,
        "lead": lead(report),
        "unfinished": report.unfinished or "",
        "clock": clock_note(report),
        "about": about,
        "notes": notes[1:],
        "sites": sites,
        "labels": labels,
        "label_sites": [
            (label_number[label], number[site], *values)
            for label, site, *values in _columns(
                tables["label_sites"], "label", "site", "windows_positive", "windows_scored"
            )
        ],
        **{
            name: [(number[site], *rest) for site, *rest in _rows(tables[name])]
            for name in ("gaps", "damage", "flags")
        },
        **{name: _rows(tables[name]) for name in ("runs", "stages")},
    }


def _labels(
    report: Report, number: dict[str, int], base: datetime
) -> tuple[list[dict[str, Any]], int]:
    """The labels, the most frequent first, and how many of those heard have no hours."""
    labels = [row | {"name": row.pop("label")} for row in report.tables["labels"].to_pylist()]
    scores: dict[str, list[int]] = defaultdict(lambda: [0] * STEPS)
    for label, low, detections in _columns(
        report.tables["scores"], "label", "score_from", "detections"
    ):
        scores[label][round(low * STEPS)] += detections
    activity = report.tables["activity"]
    sizes = {row["values"]: row["counts"] for row in activity["label"].value_counts().to_pylist()}
    room, kept = MOST_CELLS, list[str]()
    for row in labels:
        size = sizes.get(row["name"], 0)
        row["scores"], row["positive"] = scores[row["name"]], None
        if size <= room:
            room -= size
            kept.append(row["name"])
            row["positive"] = defaultdict(list)
    by_name = {row["name"]: row for row in labels}
    shown = activity.filter(pc.is_in(activity["label"], pa.array(kept, pa.string())))
    for label, site, hour, windows in _columns(shown, "label", "site", "hour", "windows_positive"):
        by_name[label]["positive"][number[site]] += (_hours(hour, base), windows)
    return labels, sum(label not in kept for label in sizes)


def _columns(table: pa.Table, *names: str) -> Iterable[Sequence[Any]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def _rows(table: pa.Table) -> list[Sequence[Any]]:
    return list(_columns(table, *table.column_names))


def _hours(at: datetime, base: datetime) -> int:
    return (at - base).days * 24 + at.hour


def _hundredths(hour: float | None) -> float | None:
    return None if hour is None else round(hour, 2)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a page")
