"""`dawnchorus deployments`: where and when the sites of a dataset were, from a table."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import UserError
from pipeline.site import folded
from pipeline.text import align, count, listed, printable, short

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.deployments import Deployment

SHOWN = 40
"""Deployments on the screen; of more the first, and how many there are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Checks a table of deployments, puts it beside the dataset's tables and says how they "
        "fit. Without --table it shows the one that stands. Nothing is scored or written again."
    )
    parser.epilog = "Example: dawnchorus deployments out --table deployments.csv"
    parser.add_argument("dataset", metavar="OUT", help="the output of dawnchorus detect")
    parser.add_argument(
        "--table",
        metavar="CSV",
        help="columns site, clock (utc, an offset such as -05:00, or zone), time_zone, latitude, "
        "longitude, first_day, last_day; it replaces an earlier one",
    )


def run(args: argparse.Namespace) -> int:
    """Write or show the deployments of a dataset; exit status 0, UserError for a bad table."""
    from model.tables import read_table
    from pipeline.dataset import open_dataset
    from pipeline.deployments import NAME, parse_deployments, write_deployments
    from pipeline.identity import require_identity
    from pipeline.storage import Folder

    out = Folder(args.dataset)
    require_identity(out)
    if args.table is not None:
        given, further = parse_deployments(read_table(Path(args.table)))
        if further:
            left_out = f"{count(len(further), 'further column')} left out: {listed(further)}"
            print(f"warning: {args.table}: {left_out}", file=sys.stderr)
        write_deployments(out, given)
        print(f"Written: {out.at(NAME)}")
    dataset = open_dataset(args.dataset)
    deployments = dataset.deployments()
    if deployments is None:
        raise UserError(f"There are no deployments in {out.url}; give a table of them as --table.")
    print(report(deployments, fit(dataset, deployments)), end="")
    return 0


@dataclass(frozen=True)
class Fit:
    """How deployments and a dataset's recordings fit together.

    `recordings` is how many each deployment has; `without` are the sites that have no deployment;
    `outside` counts recordings with times outside the days of their site's deployments, and
    `disagree` those whose file tells another UTC than the deployment's clock, by 2 s or more, with
    one of them as `example`.
    """

    recordings: tuple[int, ...]
    without: tuple[str, ...]
    outside: int
    disagree: int
    example: str | None


def fit(dataset: "Dataset", deployments: "Sequence[Deployment]") -> Fit:
    """How the deployments fit the recordings of a dataset, from its coverage."""
    from pipeline.dataset import registered
    from pipeline.deployments import joined, to_table
    from pipeline.recording import AGREE_S

    sql = dataset.connection.sql
    coverage = joined("coverage", "from_s")
    with registered(dataset.connection, deployments=to_table(deployments)):
        of_deployment = {
            row[:2]: row[2]
            for row in sql(
                f"""SELECT site, first_day, count(DISTINCT recording) FROM {coverage}
                WHERE clock IS NOT NULL GROUP BY ALL"""
            ).fetchall()
        }
        without = sql(
            """SELECT DISTINCT site FROM coverage
            WHERE site NOT IN (SELECT site FROM deployments) ORDER BY site"""
        ).fetchall()
        ((outside,),) = sql(
            f"""SELECT count(DISTINCT recording) FROM {coverage}
            WHERE clock IS NULL AND start_clock IS NOT NULL
            AND site IN (SELECT site FROM deployments)"""
        ).fetchall()
        # Of a clock that follows the zone UTC is not sure in the hour that comes twice.
        ((disagree, example),) = sql(
            f"""SELECT count(DISTINCT recording), min(recording) FROM {coverage}
            WHERE from_s = 0 AND {AGREE_S} * 1e6 <= abs(CASE clock
                WHEN 'zone' THEN epoch_us(timezone(time_zone, start_utc)) - epoch_us(start_clock)
                ELSE epoch_us(start_utc) - epoch_us(clock_utc) END)"""
        ).fetchall()
    return Fit(
        tuple(of_deployment.get((d.site, d.first_day), 0) for d in deployments),
        tuple(site for (site,) in without),
        outside,
        disagree,
        example,
    )


def report(deployments: "Sequence[Deployment]", found: Fit) -> str:
    """Deployments and how they fit, as the text of a short screen."""
    sites = len({d.site for d in deployments})
    body = [["site", "first day", "last day", "clock", "time zone", "recordings"]]
    for d, recordings in list(zip(deployments, found.recordings, strict=True))[:SHOWN]:
        zone = d.time_zone or "unknown"
        body.append([short(printable(d.site), 24), *_days(d), d.clock, zone, f"{recordings:,}"])
    lines = [
        f"{count(len(deployments), 'deployment')} at {count(sites, 'site')}",
        "",
        *align(body, 5),
    ]
    if len(deployments) > SHOWN:
        lines.append(f"and {count(len(deployments) - SHOWN, 'more deployment')}")
    notes = []
    empty = [
        d.site + (f" ({first} to {last})" if (first, last) != ("open", "open") else "")
        for d, recordings in zip(deployments, found.recordings, strict=True)
        for first, last in [_days(d)]
        if not recordings
    ]
    if found.without:
        have = "site of the dataset has" if len(found.without) == 1 else "sites of the dataset have"
        notes.append(f"{len(found.without):,} {have} no deployment: {listed(found.without)}")
    given = {folded(d.site): d.site for d in deployments}
    notes += [
        f"the site {site!a} of the dataset is {given[folded(site)]!a} in the table, "
        "which is another"
        for site in found.without
        if folded(site) in given
    ]
    if empty:
        have = "has" if len(empty) == 1 else "have"
        notes.append(f"{count(len(empty), 'deployment')} {have} no recordings: {listed(empty)}")
    if found.outside:
        lie = "lies" if found.outside == 1 else "lie"
        notes.append(
            f"{count(found.outside, 'recording')} {lie} outside the days of the site's "
            "deployments, wholly or in part"
        )
    if found.disagree:
        tell = "tells" if found.disagree == 1 else "tell"
        notes.append(
            f"warning: {count(found.disagree, 'recording')} {tell} another UTC than the "
            f"deployment's clock, and what the file tells holds: {printable(found.example or '')}"
        )
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def _days(deployment: "Deployment") -> tuple[str, str]:
    return str(deployment.first_day or "open"), str(deployment.last_day or "open")
