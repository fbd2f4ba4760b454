"""`dawnchorus detect`: the Beam job on an archive."""

import argparse
import gc
from typing import get_args

from model.errors import UserError
from model.runtime import Engine, Precision
from pipeline.archive_arguments import INPUT, add_archive_arguments

EXAMPLE = "  dawnchorus detect --input recordings/ --model birds.bundle --output detections/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the job; what is left over goes to Beam."""
    add = parser.add_argument
    add(
        "--input",
        nargs="+",
        action="extend",
        required=True,
        metavar="PATH",
        help=INPUT,
    )
    add("--model", required=True, metavar="BUNDLE", help="bundle: folder or URL")
    add(
        "--output",
        required=True,
        metavar="OUT",
        help="dataset: folder or URL, new or to go on with",
    )
    add(
        "--min-score",
        type=float,
        default=0.1,
        metavar="S",
        help="write scores from S on (default 0.1; 0 keeps all)",
    )
    add(
        "--embeddings",
        action="store_true",
        help="also write the first network's penultimate layer for each window",
    )
    add("--hop", type=float, metavar="SECONDS", help="distance of windows (default: no overlap)")
    add(
        "--tail",
        choices=["pad", "drop", "shift"],
        default="pad",
        help="the partial last window (default pad)",
    )
    add(
        "--engine",
        choices=get_args(Engine),
        default="tensorflow",
        help="what runs the network (default tensorflow, the reference)",
    )
    add(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="what the network multiplies (default float32)",
    )
    add("--channel", default="mean", metavar="mean|each|N", help="what is scored (default mean)")
    add("--site", metavar="NAME", help="the site of all recordings of this run")
    add(
        "--time-pattern",
        metavar="PATTERN",
        help="how names give time and site, such as '{site}_%%Y%%m%%d-%%H%%M%%S*'",
    )
    add(
        "--slot",
        type=int,
        choices=[1, 6, 24],
        metavar="HOURS",
        help="1, 6 or 24 hours a part (default: by the size of the archive)",
    )
    add(
        "--max-skipped",
        type=float,
        default=1.0,
        metavar="FRACTION",
        help="exit with 3 if more than this was skipped (default 1)",
    )
    add_archive_arguments(parser, EXAMPLE)
    add("--redo-damaged", action="store_true", help="try damaged recordings again")
    add("--dry-run", action="store_true", help="tell what would be done, and do nothing")
    add("--workers", type=int, metavar="N", help="with --dry-run: workers of one core each")
    add(
        "--rate",
        type=float,
        metavar="S",
        help="with --dry-run: core-seconds for an hour of audio (default: tried on some of it)",
    )
    add("--price", type=float, metavar="P", help="with --dry-run: the price of a core-hour")
    add("--json", metavar="FILE", help="with --dry-run: a file for the same as JSON")
    add(
        "--prune",
        action="store_true",
        help="drop the rows of recordings that are gone from the folders given",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the job; `args.beam` holds the options that are not ours."""
    from pipeline.pool import pool

    if not any(flag.startswith("--runner") for flag in args.beam):
        # Engines take long to import; meanwhile, this process imports Beam.
        pool(args.engine).warm()
        pool().warm()

    from pipeline.detect_options import DetectOptions
    from pipeline.detection import detect
    from pipeline.job import parse_channel

    # A plan is millions of objects that stay: looking for garbage among them takes a quarter of the
    # time of planning.
    gc.set_threshold(200_000, 50, 50)
    if args.hop is not None and args.hop <= 0:
        raise UserError(f"--hop is {args.hop:g}; it must be above 0 seconds.")
    return detect(
        DetectOptions(
            inputs=tuple(args.input),
            model=args.model,
            output=args.output,
            root=args.root,
            site=args.site,
            time_pattern=args.time_pattern,
            hop_s=args.hop,
            tail=args.tail,
            channel=parse_channel(args.channel),
            min_score=args.min_score,
            embeddings=args.embeddings,
            slot_hours=args.slot,
            max_skipped=args.max_skipped,
            engine=args.engine,
            precision=args.precision,
            decode_timeout_s=args.decode_timeout,
            redo_damaged=args.redo_damaged,
            prune=args.prune,
            dry_run=args.dry_run,
            workers=args.workers,
            rate=args.rate,
            price=args.price,
            json=args.json,
            beam=tuple(args.beam),
        )
    )
