"""The command line: subcommands, exit status, and errors as one sentence."""

import argparse
import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from model.errors import UserError
from model.retries import StorageError
from pipeline.worker import DEBUG

COMMANDS = {
    "demo": ("pipeline.demo_command", "a small archive from synthesis to results, in minutes"),
    "train": ("model.train_command", "train a network on labelled sound, into a bundle"),
    "tune": ("model.tune_command", "search for the options of training that do best"),
    "evaluate": ("model.evaluate_command", "what a bundle is worth on annotated sound"),
    "inventory": ("pipeline.inventory_command", "what an archive holds, as a table to plan from"),
    "detect": ("pipeline.detect_command", "run a bundle over an archive, into a dataset"),
    "status": ("pipeline.status_command", "how far a dataset is, while it grows or after"),
    "calibrate": ("pipeline.calibrate_command", "thresholds from verified detections"),
    "deployments": ("pipeline.deployments_command", "where and when the sites were, from a table"),
    "activity": ("pipeline.activity_command", "counts per label, site and hour, by effort"),
    "events": ("pipeline.events_command", "when each label was heard, as a table of events"),
    "report": ("pipeline.report_command", "a page of coverage, activity and scores, for browsers"),
    "sample": ("pipeline.sample_command", "detections to listen to and verify, with their sound"),
    "review": (
        "pipeline.review_command",
        "judge a sample by ear and eye, on a page of this machine",
    ),
    "export": ("pipeline.export_command", "events as the files of other programs"),
}
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; gives the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    debug = "--debug" in (sys.argv if argv is None else argv)
    os.environ[DEBUG] = "1" if debug else ""
    # Libraries log errors with tracebacks, and then raise what is told in one sentence.
    level = logging.ERROR if debug else logging.CRITICAL
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be text, nor the terminal able to show it.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="dawnchorus",
        description="From months of soundscape recordings to Parquet prediction records.",
        epilog="`dawnchorus COMMAND --help` tells more. Begin with: dawnchorus demo",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('dawnchorus')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        command.set_defaults(module=module)
        if name in arguments[:1]:
            importlib.import_module(module).add_arguments(command)
    args, rest = parser.parse_known_args(arguments)
    if rest and args.command not in ("detect", "inventory"):
        parser.error(f"unknown option: {rest[0]}")
    args.beam = rest
    try:
        return int(importlib.import_module(args.module).run(args))
    except UserError as error:
        return _fail(args.debug, str(error))
    except StorageError as error:
        return _fail(args.debug, f"Storage failed: {error.strerror}.")
    except KeyboardInterrupt:
        goes_on = args.command in ("detect", "inventory")
        onward = "; the same command goes on from here" if goes_on else ""
        print(f"error: interrupted{onward}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(args.debug, f"{text} (--debug shows where)")


def _fail(debug: bool, text: str) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {text}", file=sys.stderr)
    return 1
