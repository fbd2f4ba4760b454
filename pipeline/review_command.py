"""`dawnchorus review`: a page on which people judge the detections of a sample by ear and eye."""

import argparse
import contextlib
import getpass
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import UserError
from pipeline.text import align, count

if TYPE_CHECKING:
    from pipeline.review import Review

LOG, LOCK = "marks.jsonl", ".review.lock"
PORT = 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Opens a page in the browser, on this machine only, that shows and plays the clips of a "
        "sample and takes right, wrong or unsure by single keys. Every mark is on the disk at "
        "once; verified.csv is for `calibrate --verified`, annotations.csv for `train`."
    )
    parser.epilog = "Example: dawnchorus review wren/ --reviewer anna"
    add = parser.add_argument
    add("folder", metavar="DIR", help="the output of dawnchorus sample, on this machine")
    add("--reviewer", metavar="NAME", help="whose marks they are (default: your user name)")
    add("--port", type=int, metavar="N", help=f"default: the first free one from {PORT} on")
    add("--no-browser", action="store_true", help="only print the page's address")


def run(args: argparse.Namespace) -> int:
    """Serves the page until it is interrupted; exit status 0, UserError for what cannot be."""
    import asyncio

    from model.locks import held_by_us
    from pipeline.drawn import ANNOTATIONS, VERIFIED, DrawnSample
    from pipeline.marks import MarkLog, check_reviewer
    from pipeline.review import HOST, Review, listen, serve

    if "://" in args.folder:
        raise UserError(f"{args.folder} is not on this machine; copy the folder here first.")
    if args.port is not None and not 1024 <= args.port < 65536:
        raise UserError(f"--port is {args.port}; give a number from 1024 to 65535.")
    reviewer = args.reviewer if args.reviewer is not None else _user()
    check_reviewer(reviewer)
    folder = Path(args.folder)
    sample = DrawnSample(folder)
    with contextlib.ExitStack() as held:
        try:
            if not held_by_us(held, folder / LOCK):
                raise UserError(f"{folder} is being reviewed by another dawnchorus review; end it.")
            log = MarkLog(folder / LOG, sample.stated)
            held.callback(log.close)
            review = Review(sample, log, reviewer)
            review.write_results()
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from error
        sock = held.enter_context(listen(args.port, PORT))
        address = f"http://{HOST}:{sock.getsockname()[1]}/"

        def ready() -> None:
            print(f"Sample       {count(len(sample.rows), 'detection')} in {folder}")
            print(f"Marks        {folder / LOG}")
            print(f"Page         {address} (Ctrl-C ends)", flush=True)
            if not args.no_browser and _has_screen():
                webbrowser.open(address)

        asyncio.run(serve(review, sock, ready))
        try:
            review.write_results()
        except OSError as error:
            raise UserError(
                f"{folder / VERIFIED} cannot be written: {error.strerror or error}; all marks are "
                f"in {folder / LOG}."
            ) from error
        print("\n".join(_report(review)))
        print(f"Verified     {folder / VERIFIED}")
        print(f"Annotations  {folder / ANNOTATIONS}")
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise UserError("Your user name is not known; give --reviewer NAME.") from error


def _has_screen() -> bool:
    """Whether a browser would open a window, and not take over the terminal."""
    return sys.platform != "linux" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))


def _report(review: "Review") -> list[str]:
    """How far the review is, and how far the reviewers agree."""
    told = review.progress(review.judged())
    lines = [["", "judged", "right", "wrong", "unsure"]]
    for one in told["reviewers"]:
        cells = [f"{one[name]:,}" for name in ("judged", "right", "wrong", "unsure")]
        lines.append([one["name"], *cells])
    said = [*align(lines, 1), ""] if told["reviewers"] else []
    for pair in told["pairs"]:
        kappa = "-" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
        said.append(
            f"Agreement    {pair['first']} and {pair['second']}: {pair['equal']:.0%} of "
            f"{count(pair['shared'], 'detection')}, kappa {kappa}"
        )
    return ["", f"Of           {count(told['total'], 'detection')}", *said]
