"""Which Beam runner takes a job, with which options."""

import argparse
import contextlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.runners import create_runner

from model.errors import UserError
from pipeline.dataflow import check_dataflow
from pipeline.pool import stop
from pipeline.worker import DEBUG

BEAMS_OWN = {"direct", "fnapi"}
"""Beam's runner in this process, by its names in lower case without `runner`."""
NAMESPACE = "dawnchorus"
"""Of Beam's metrics: counters of elements by their end, distributions of stage times of shards."""
PROBES_PER_S = 500
"""Headers that one core reads in a second, to the order of magnitude."""
LONGEST_REASON = 300
"""Characters of what a runner says: a stack of Java's would fill the screen."""
ANSWER_S = 10.0
"""A job server that takes no connection for so long is not there."""
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
    workers = PipelineOptions(list(flags)).view_as(DirectOptions).direct_num_workers
    if workers is not None and workers < 0:
        raise UserError(f"--direct_num_workers is {workers}; give 1 or more, or 0 for all cores.")
    if is_dataflow(flags):
        check_dataflow(PipelineOptions(list(flags)))
    elif hands_over(flags):
        raise UserError("--template_location is for --runner DataflowRunner alone.")
    if _short(name) not in BEAMS_OWN:
        try:
            create_runner(name)
        except (ValueError, ImportError) as error:
            why = str(error).rstrip(".")
            raise UserError(f"--runner {name} cannot be used: {why}.") from error
    _check_endpoint(PipelineOptions(list(flags)).view_as(PortableOptions).job_endpoint)


def _check_endpoint(endpoint: str | None) -> None:
    """Raises UserError if nobody listens there: Beam would wait for minutes."""
    if not endpoint or endpoint == "embed":
        return
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"No job server answers at {endpoint} ({error}); start it, or check "
            "--job_endpoint (HOST:PORT)."
        ) from error


def _kinds(kind: Any) -> Iterator[Any]:
    for child in kind.__subclasses__():
        yield child
        yield from _kinds(child)


def _short(runner: str | None) -> str:
    """A runner's name as Beam compares it: lower case, without its module and `runner`."""
    return (runner or "direct").rpartition(".")[2].lower().removesuffix("runner")


def is_local_runner(flags: Sequence[str]) -> bool:
    """Whether the work is done on this machine, below this process."""
    options = PipelineOptions(list(flags))
    name = _short(options.view_as(StandardOptions).runner)
    if name == "prism":
        return options.view_as(PortableOptions).environment_type in (None, "LOOPBACK")
    return name in BEAMS_OWN


def is_dataflow(flags: Sequence[str]) -> bool:
    """Whether Google's Dataflow does the work: its workers see no disk but their own."""
    return _short(PipelineOptions(list(flags)).view_as(StandardOptions).runner) == "dataflow"


def hands_over(flags: Sequence[str]) -> bool:
    """Whether a job is only written as a template, and begins when this process has ended."""
    return bool(PipelineOptions(list(flags)).view_as(GoogleCloudOptions).template_location)


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
    as many workers as it wants side by side, each of which keeps one; so has Beam's own, where it
    is told to (--direct_running_mode).
    """
    direct = PipelineOptions(list(flags)).view_as(DirectOptions)
    if not is_local_runner(flags) or direct.direct_running_mode != "in_memory":
        return 1
    wanted = direct.direct_num_workers
    if not _says_workers(flags):
        wanted = 0 if work_s >= LONG_S else 1
    return wanted or cores()


def _says_workers(flags: Sequence[str]) -> bool:
    return any(flag.startswith("--direct_num_workers") for flag in flags)


def run_pipeline(transform: beam.PTransform, flags: Sequence[str]) -> dict[str, int]:
    """Runs one transform to its end; the sums of its distributions, by name.

    An interrupt ends the job, also at another runner, and all worker processes of this one. Raises
    UserError where another runner does not take the job, or gives it up.
    """
    options = PipelineOptions(list(flags))
    google, setup = options.view_as(GoogleCloudOptions), options.view_as(SetupOptions)
    if not google.job_name:
        what = type(transform).__name__.lower()
        google.job_name = f"{NAMESPACE}-{what}-{uuid.uuid4().hex[:8]}"
    if setup.setup_file:
        setup.setup_file = os.path.abspath(setup.setup_file)  # Beam changes to its folder.
    runner: Any = options.view_as(StandardOptions).runner
    if own := _short(runner) in BEAMS_OWN:
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        direct = options.view_as(DirectOptions)
        if direct.direct_running_mode == "in_memory":
            direct.direct_num_workers = 1  # The work is done in worker processes of ours.
        elif not _says_workers(flags):
            direct.direct_num_workers = cores()
        runner = FnApiRunner()
    else:
        logging.getLogger().setLevel(logging.INFO)
        # It warns at the end of each job server that it ends what it has started.
        logging.getLogger("apache_beam.utils.subprocess_server").setLevel(logging.ERROR)
        # It shows all that it has sent to Dataflow, some hundred lines.
        logging.getLogger("apache_beam.runners.dataflow.internal.apiclient").addFilter(_is_line)
    try:
        result = _run(transform, runner, options) if own else _run_at(transform, runner, options)
    except BaseException:
        stop()
        raise
    try:
        metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    except Exception:
        return {}  # The work is done and committed; a runner that tells no figures is no failure.
    return {one.key.metric.name: one.result.sum for one in metrics["distributions"]}


def _run(transform: beam.PTransform, runner: Any, options: PipelineOptions) -> Any:
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | transform
    return pipeline.run()


def _run_at(transform: beam.PTransform, runner: str, options: PipelineOptions) -> Any:
    """The result of a job that another runner has brought to its end."""
    try:
        result = _run(transform, runner, options)
    except Exception as error:
        raise UserError(f"{runner} did not take the job: {_why(error)}.") from error
    try:
        with _watched_polling() as lost:
            state, why = result.wait_until_finish(), ""
    except Exception as error:
        if lost:
            raise UserError(
                f"{runner} tells no more of the job ({_why(lost[-1])}), which may go on by itself; "
                "`dawnchorus status` tells of the dataset, and the same command does what is left."
            ) from error
        state = getattr(getattr(error, "result", None), "state", "FAILED")
        why = f" ({_why(error)})"
    except BaseException:
        with contextlib.suppress(Exception):
            result.cancel()
        raise
    if state != "DONE":
        raise UserError(
            f"{runner} ended the job as {state}{why}; what is committed stays, and the same "
            "command goes on from there."
        )
    return result


@contextlib.contextmanager
def _watched_polling() -> Iterator[list[BaseException]]:
    """What the thread died of in which Dataflow is asked how the job does: Beam only prints it."""
    lost: list[BaseException] = []
    before = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        is_polling = failure.thread is not None and "poll_for_job" in failure.thread.name
        if is_polling and failure.exc_value is not None:
            lost.append(failure.exc_value)
        if not is_polling or os.environ.get(DEBUG):
            before(failure)

    threading.excepthook = hook
    try:
        yield lost
    finally:
        threading.excepthook = before


def _is_line(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return "\n" not in text and len(text) <= LONGEST_REASON


def _why(error: BaseException) -> str:
    """What an error of a runner says, as one line."""
    details = getattr(error, "details", None)
    text = str(details() if callable(details) else error) or type(error).__name__
    told = text.partition("State: ")[2].partition("Error:\n")[2] or text  # Dataflow's preamble
    if told == "None":
        told = "its page in the console tells why"
    return " ".join(told.split())[:LONGEST_REASON].rstrip(".: ")
