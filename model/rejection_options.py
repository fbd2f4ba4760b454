"""The options of unknown sound on the command line, without NumPy."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.rejection import Method


def add_rejection_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `rejection_of` reads."""
    add = parser.add_argument_group("unknown sound (docs/unknown.md)").add_argument
    add(
        "--reject",
        choices=("none", "max_score", "distance", "openmax"),
        default="none",
        help="give the bundle a rejecter: windows unlike all training get the label unknown, "
        "judged by the highest score, the distance to the labels' means, or OpenMax "
        "(default: none)",
    )
    add(
        "--reject-share",
        type=float,
        default=0.05,
        metavar="F",
        help="share of known held-out windows that may be called unknown (default: 0.05)",
    )


def rejection_of(args: argparse.Namespace) -> "tuple[Method | None, float]":
    """The method, None for no rejecter, and the share; UserError for one that is none."""
    from model.rejection import check_method

    method = None if args.reject == "none" else args.reject
    check_method(method or "distance", args.reject_share)
    return method, args.reject_share
