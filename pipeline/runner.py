"""Which Beam runner takes a job, with which options."""

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners import create_runner

from model.errors import UserError
from pipeline.pool import stop

LOCAL = {None, "DirectRunner", "direct", "FnApiRunner"}
NAMESPACE = "dawnchorus"
"""Of Beam's metrics: counters of elements by their end, distributions of stage times of shards."""
LONG_S = 4
"""Work, in seconds of one core, from which further worker processes earn their start."""


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


def worker_processes(flags: Sequence[str], work_s: float) -> int:
    """Worker processes that each of the runner's workers keeps for `work_s` seconds' work.

    On this machine as many as Beam's --direct_num_workers says (0: one for each core); without it
    one for each core where the work is long, one where it is short. A cluster's runner itself has
    as many workers as it wants side by side, each of which keeps one.
    """
    if not is_local_runner(flags):
        return 1
    wanted = PipelineOptions(list(flags)).view_as(DirectOptions).direct_num_workers
    if wanted == 1 and not any(flag.startswith("--direct_num_workers") for flag in flags):
        wanted = 0 if work_s >= LONG_S else 1
    return wanted or cores()


def run_pipeline(transform: beam.PTransform, flags: Sequence[str]) -> dict[str, int]:
    """Runs one transform to its end; the sums of its distributions, by name.

    Ends all worker processes if it is interrupted.
    """
    options = PipelineOptions(list(flags))
    runner: Any = options.view_as(StandardOptions).runner
    if runner in LOCAL:
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        # One thread of Beam's is enough: the work is done in worker processes of ours.
        direct = options.view_as(DirectOptions)
        direct.direct_running_mode, direct.direct_num_workers = "in_memory", 1
        runner = FnApiRunner()
    else:
        logging.getLogger().setLevel(logging.INFO)
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | transform
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except BaseException:
        stop()
        raise
    if state not in (None, "DONE"):
        raise RuntimeError(f"the runner ended the job as {state}")
    try:
        metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    except Exception:
        return {}  # The work is done and committed; a runner that tells no figures is no failure.
    return {one.key.metric.name: one.result.sum for one in metrics["distributions"]}
