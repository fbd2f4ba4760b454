"""`dawnchorus tune`: the search for options of training, with TPE."""

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import UserError
from model.locks import locked
from model.search_space import STANDARD, SearchSpace, read_space
from model.train_arguments import add_train_arguments

if TYPE_CHECKING:
    from model.trials import Trial

EXAMPLE = """example:
  dawnchorus tune --audio recordings --annotations recordings --output search --window 3 \\
      --trials 40
"""
SHOWN = 10
"""Trials on the screen; the table has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `dawnchorus tune`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Searches for the options of training with the lowest loss (1 - macro average precision\n"
        "on validation) by TPE. The options of training given here are trial 0. The same command\n"
        "goes on with a search that was stopped, or joins one that runs."
    )
    parser.epilog = EXAMPLE
    search = parser.add_argument_group("search").add_argument
    search("--output", type=Path, required=True, metavar="DIR", help="folder of the search")
    search(
        "--trials", type=int, metavar="N", help="trials in all (default: 40, or until --minutes)"
    )
    search("--minutes", type=float, metavar="M", help="begin no trial after so long")
    search(
        "--space",
        type=Path,
        metavar="TOML",
        help="what is varied (default: the standard space, which is written to DIR/space.toml)",
    )
    search(
        "--refit",
        action="store_true",
        help="train the best configuration on all recordings, into DIR/refit.bundle",
    )
    add_train_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Searches, writes table, plots and bundles, and prints the best; the exit status."""
    from model.search_plots import plot_search
    from model.tuning import Search, refit, search, variable_options, write_best

    for name, value in (("--trials", args.trials), ("--minutes", args.minutes)):
        if value is not None and not value > 0:
            raise UserError(f"{name} is {value:g}; it must be above 0.")
    space = read_space(args.space, variable_options())
    this = Search(args, space, args.output, args.seed)
    most = args.trials or (None if args.minutes else 40)
    trials = search(this, lambda line: print(line, flush=True), most=most, minutes=args.minutes)
    if args.space is None:
        (args.output / "space.toml").write_text(STANDARD, encoding="utf-8")
    # Two processes may come to the end together.
    with locked(args.output / "end.lock"):
        order = write_tables(args.output, space, trials)
        if not order:
            raise UserError(f"No trial of {args.output} has a loss; look at its trials.csv.")
        plot_search(args.output / "loss.png", space, trials)
        best = write_best(this, order[0])
        print(table(order[:SHOWN]))
        print(f"best: {best.path}")
        if args.refit:
            print(f"trained on all recordings: {refit(this, order[0]).path}")
    print(f"all trials: {args.output / 'trials.csv'}, {args.output / 'loss.png'}")
    return 0


def write_tables(output: Path, space: SearchSpace, trials: Sequence["Trial"]) -> list["Trial"]:
    """Writes trials.csv and trials.json, best first; the trials that have a loss, in that order."""
    from model.trials import ranked

    order = ranked(trials)
    rest = [trial for trial in trials if trial not in order]
    options = [parameter.option for parameter in space.parameters]
    rows = []
    for rank, trial in enumerate(order + rest, 1):
        row = {
            "rank": rank if trial.loss is not None else "",
            "trial": trial.number,
            "loss": "" if trial.loss is None else f"{trial.loss:.6f}",
            "status": trial.status,
            "epochs": " ".join(str(len(one)) for one in trial.course),
            "seconds": trial.seconds,
        }
        rows.append(row | {option: trial.values.get(option, "default") for option in options})
    with (output / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["rank"])
        writer.writeheader()
        writer.writerows(rows)
    document = [replace(trial, point=None).to_json() for trial in order + rest]
    for one in document:
        del one["point"]
    (output / "trials.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return order


def table(order: Sequence["Trial"]) -> str:
    """Ranked trials as lines."""
    lines = ["trial    loss  status      seconds  options"]
    for trial in order:
        values = "  ".join(f"{k}={v}" for k, v in trial.values.items()) or "the default"
        about = f"{trial.number:>5}  {trial.loss:.4f}  {trial.status:<10}{trial.seconds:>9.0f}"
        lines.append(f"{about}  {values}")
    return "\n".join(lines)
