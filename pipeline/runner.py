"""Which Beam runner takes a job, with which options."""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners import create_runner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from model.errors import UserError

LOCAL = {None, "DirectRunner", "direct", "FnApiRunner"}
LONG_S = 15
"""Work, in seconds of one core, from which worker processes earn their slow start."""
ONE_THREAD = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)


def check_beam_options(flags: Sequence[str]) -> None:
    """Raises UserError for an option that Beam does not know, or a wrong value."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for options in sorted(set(_kinds(PipelineOptions)), key=lambda kind: kind.__name__):
        add = options.__dict__.get("_add_argparse_args")
        if add is not None:
            try:
                add.__get__(None, options)(parser)
            except argparse.ArgumentError:
                continue
    try:
        _, unknown = parser.parse_known_args(list(flags))
    except argparse.ArgumentError as error:
        raise UserError(f"A Beam option is wrong: {error}.") from error
    if unknown:
        raise UserError(
            f"Unknown option {unknown[0]}: neither dawnchorus nor Beam has it; see --help."
        )
    name = PipelineOptions(list(flags)).view_as(StandardOptions).runner
    if name not in LOCAL:
        try:
            create_runner(name)
        except (ValueError, ImportError) as error:
            why = str(error).rstrip(".")
            raise UserError(f"--runner {name} cannot be used: {why}.") from error


def _kinds(kind: Any) -> Iterator[Any]:
    for child in kind.__subclasses__():
        yield child
        yield from _kinds(child)


def is_local_runner(flags: Sequence[str]) -> bool:
    """Whether the job runs on this machine, in Beam's own runner."""
    return PipelineOptions(list(flags)).view_as(StandardOptions).runner in LOCAL


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def run_pipeline(transform: beam.PTransform, flags: Sequence[str], work_s: float) -> Any:
    """Runs one transform to its end.

    On this machine, all cores are used when `work_s` (seconds of one core) is long, and this
    process alone when it is short, whichever runner Beam would pick.
    """
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    options = PipelineOptions(list(flags))
    runner: Any = options.view_as(StandardOptions).runner
    if runner in LOCAL:
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        direct = options.view_as(DirectOptions)
        mode, workers = direct.direct_running_mode, direct.direct_num_workers
        if mode == "in_memory" and workers == 1 and work_s >= LONG_S:
            mode, workers = "multi_processing", cores()
        if mode == "multi_processing":
            # Beam's own mode would start its workers with their chatter on the screen.
            direct.direct_running_mode = "in_memory"
            direct.direct_num_workers = workers or cores()
            command = f"{shlex.quote(sys.executable)} -m pipeline.worker"
            environment = SubprocessSDKEnvironment.from_command_string(command)
            runner = FnApiRunner(default_environment=environment)
        else:
            runner = FnApiRunner()
    else:
        logging.getLogger().setLevel(logging.INFO)
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | transform
    result = pipeline.run()
    state = result.wait_until_finish()
    if state not in (None, "DONE"):
        raise RuntimeError(f"the runner ended the job as {state}")
    return result
