"""One run of detection, from the command's options to the exit status."""

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from model.bundle import Bundle, copy_bundle, load_bundle
from model.embedding import embedding_of
from model.errors import UserError
from model.retries import StorageError
from model.runtime import check_engine, check_precision
from model.windows import WindowRule
from pipeline import progress
from pipeline.clock import TimePattern
from pipeline.commit import clear
from pipeline.dataset import open_dataset
from pipeline.detect_options import DetectOptions
from pipeline.discovery import Listing, discover
from pipeline.identity import check_identity, identity_of
from pipeline.inventory import keep_parts, take_inventory
from pipeline.job import Job
from pipeline.memory import release_memory
from pipeline.plan import ShardRef, Standing, read_refs, read_shards, read_standing
from pipeline.planning import Setting, plan_run, say
from pipeline.pool import pool, retire
from pipeline.run_record import FAILED, RETRIES, RunRecord, dead_plans, last_value, living_runs
from pipeline.runner import (
    PROBES_PER_S,
    check_beam_options,
    hands_over,
    is_dataflow,
    is_local_runner,
    run_pipeline,
    worker_processes,
)
from pipeline.shard import Shard, merge
from pipeline.storage import NO_SPACE, Folder
from pipeline.summary import check_not_empty, duration, screen, summarise, tallied

Prober = Callable[[int], None]
"""Reads the headers of so many recordings."""
Tell = Callable[[Mapping[str, int]], None]
SKIPPED = 3
CELLS_PER_S = 4e6
"""Spectrogram cells that one core takes from audio to scores in a second with the paper's
network, to the order of magnitude: it decides between one process and several."""
MOST_OPENED = 1000
"""Shards in a bucket of which the end of a run counts the predictions above thresholds."""
LITTLE_SPACE = 1 << 20
"""Bytes free on a disk below which a commit may have failed for want of space."""


def detect(options: DetectOptions) -> int:
    """Runs the job and prints its summary; gives the exit status. Raises UserError."""
    began = time.monotonic()
    setting = prepare(options)
    out, bundle = setting.out, setting.bundle
    check_reach(out, options.beam)
    with _writable(out):
        root = options.root or last_value(out, "root")
    listing = list_archive(options.inputs, root, "the path given to --input")
    if is_dataflow(options.beam):
        check_reach(Folder(listing.root), options.beam)
    if options.dry_run:
        from pipeline.dry_run import dry_run

        return dry_run(setting, listing)
    record = _begin(out, options, listing, bundle)
    try:
        plan = out.child(f"_plan/{record.name}")
        # A launcher of templates can start one job; headers are read before, by itself.
        handed_over = hands_over(options.beam)
        probing = () if handed_over else options.beam
        probe_all = prober(plan, options.decode_timeout_s, probing, record.add_retries)
        inventory = take_inventory(out, plan, listing, probe_all)
        retire()
        identity, standing = plan_run(setting, listing, inventory, plan)
        del listing, inventory, standing  # Millions of members need not wait for the job's end.
        job = job_of(setting, identity, out.at(record.values["bundle"]), record.name)
        refs = list(read_refs(plan.url))
        scoring = time.monotonic()
        if refs or handed_over:
            release_memory()
            spent = _score(out, plan, refs, job, bundle, options)
            if handed_over:
                say(f"the job is handed over; `dawnchorus status {out.url}` tells how far it is")
                return 0
            record.values["stages_ms"] = {
                name: value for name, value in spent.items() if not name.startswith(RETRIES)
            }
            record.add_retries(spent)
            pool(job.engine).rest()
        took = time.monotonic() - scoring
        record.add_retries()
        status = _end(out, plan, options, refs, took, record)
        # What workers left that were killed.
        clear(out, {run.name for run in living_runs(out, record.name)})
        record.add_retries()
        record.finish(out, status=status, seconds=round(time.monotonic() - began, 1))
        return status
    except BaseException as error:
        record.add_retries()
        with contextlib.suppress(OSError):
            stopped = {"stopped": True} if isinstance(error, KeyboardInterrupt) else {}
            why = f"{type(error).__name__}: {error}"
            record.finish(out, status=FAILED, error=why, **stopped)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise UserError(
                f"There is no space left for the output {out.url}: free some and run the same "
                "command again; what is committed stays."
            ) from error
        if isinstance(error, StorageError):
            raise UserError(
                f"Storage failed: {error.strerror}; what is committed stays, and the same "
                "command goes on from there."
            ) from error
        raise


def prepare(options: DetectOptions) -> Setting:
    """What a run works with. Raises UserError where the options or the dataset forbid it."""
    bundle = load_bundle(options.model)
    check_min_score(bundle, options.min_score)
    window_s = bundle.front_end.window_s
    rule = WindowRule(window_s, options.hop_s or window_s, options.tail)
    out = Folder(options.output)
    pattern = TimePattern(options.time_pattern) if options.time_pattern else None
    check_beam_options(options.beam)
    check_engine(options.engine)
    if is_local_runner(options.beam):
        check_precision(options.precision)
    wanted = identity_of(
        bundle,
        rule,
        options.channel,
        options.min_score,
        options.time_pattern,
        options.engine,
        options.precision,
        embedding_of(bundle).size if options.embeddings else None,
    )
    with _writable(out):
        check_identity(out, wanted, options.slot_hours)
    return Setting(options, out, bundle, rule, wanted, pattern)


def check_reach(folder: Folder, beam: Sequence[str]) -> None:
    """Warns if other machines are to use a folder of this one.

    Raises UserError where they cannot: Dataflow's workers have no disk in common.
    """
    if folder.is_local and is_dataflow(beam):
        raise UserError(
            f"{folder.url} is on this machine's disk, which Dataflow's workers cannot see; copy it "
            "to a bucket, or name one, as gs://BUCKET/FOLDER."
        )
    if folder.is_local and not is_local_runner(beam):
        say("warning: the output is on this machine's disk; the runner's workers must see it too")


def list_archive(inputs: Sequence[str], root: str | None, given: str) -> Listing:
    """The recordings below inputs. Raises UserError if there are none; `given` is what to check."""
    listing = discover(inputs, root)
    if not listing.count:
        places = ", ".join(inputs)
        raise UserError(f"No recordings were found in {places}; check {given}.")
    for problem in listing.unlisted:
        say(f"warning: not listed: {problem}")
    return listing


def prober(plan: Folder, timeout_s: float, beam: Sequence[str], tell: Tell) -> Prober:
    """What reads the headers of the recordings in a plan's listing, by the runner asked for.

    `tell` is given the sums of the job's metrics.
    """
    from pipeline.transforms import Inventory

    def probe_all(count: int) -> None:
        say(f"reading the headers of {count:,} recordings")
        parallel = worker_processes(beam, count / PROBES_PER_S)
        tell(run_pipeline(Inventory(plan.url, parallel, timeout_s), beam))

    return probe_all


def job_of(setting: Setting, identity: dict[str, Any], bundle: str, owner: str) -> Job:
    """What the workers of a run need to know."""
    options, rule = setting.options, setting.rule
    facts = {
        "schema_version": str(identity["schema_version"]),
        "window_s": repr(rule.window_s),
        "hop_s": repr(rule.hop_s),
        "score_fingerprint": setting.bundle.score_fingerprint,
    }
    return Job(
        setting.out.url,
        bundle,
        rule,
        options.channel,
        options.min_score,
        facts,
        owner,
        options.decode_timeout_s,
        options.engine,
        options.precision,
        identity.get("embedding_size"),
    )


def check_min_score(bundle: Bundle, min_score: float) -> None:
    """Raises UserError if a dataset with `min_score` lacks what is above a threshold.

    Of single-label bundles the top label is kept whatever its score.
    """
    label, threshold = min(bundle.output_thresholds.items(), key=lambda item: item[1])
    if bundle.task == "multilabel" and np.float32(threshold) < np.float32(min_score):
        # Rounded down: what the message advises must not be refused.
        most = math.floor(threshold * 1000 + 1e-6) / 1000
        raise UserError(
            f"--min-score {min_score:g} is above the threshold of {label!r} in {bundle.path}, "
            f"{threshold:g}, so detections of it would be lost; give --min-score {most:g} or less."
        )


@contextlib.contextmanager
def _writable(out: Folder) -> Iterator[None]:
    """Turns a failure of the output's storage into a sentence."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"The output {out.url} cannot be written: {why}.") from error


def _begin(out: Folder, options: DetectOptions, listing: Listing, bundle: Bundle) -> RunRecord:
    """Writes the run's record, warns of another run, and clears up after killed ones."""
    record = RunRecord.new(
        inputs=list(options.inputs),
        root=listing.root,
        recordings=listing.count,
        bundle=f"_bundle/{bundle.content_fingerprint}",
        site=options.site,
        unlisted=list(listing.unlisted),
        local=is_local_runner(options.beam),
    )
    with _writable(out):
        copy_bundle(bundle, out.at(record.values["bundle"]))
        record.write(out)
        # Only now: of two that begin at once at least one sees the other.
        others = living_runs(out, record.name)
    for run in others:
        say(
            f"warning: run {run.name} on {run.values.get('host')} may still be writing to "
            f"{out.url}; both do no harm, but work twice"
        )
    alive = {run.name for run in others} | {record.name}
    with _writable(out):
        clear(out, alive)
        for dead in dead_plans(out, alive):
            keep_parts(out, dead)
            dead.remove("")
    return record


def _score(
    out: Folder,
    plan: Folder,
    refs: Sequence[ShardRef],
    job: Job,
    bundle: Bundle,
    options: DetectOptions,
) -> dict[str, int]:
    """Runs the job; the milliseconds of all workers in each stage."""
    from pipeline.transforms import Detection

    seconds = sum(ref.seconds for ref in refs)
    mels, frames = bundle.front_end.input_shape
    work_s = seconds / job.rule.hop_s * mels * frames / CELLS_PER_S
    say(f"{len(refs):,} shards to do, with {duration(seconds)} of audio")
    with progress.shown(out, refs):
        parallel = min(len(refs), worker_processes(options.beam, work_s))
        transform = Detection(plan.url, job, max(1, parallel), hands_over(options.beam))
        return run_pipeline(transform, options.beam)


def _end(
    out: Folder,
    plan: Folder,
    options: DetectOptions,
    refs: Sequence[ShardRef],
    took: float,
    record: RunRecord,
) -> int:
    """Prints the summary, and notes in the record what was done; gives the exit status."""
    standing = read_standing(out)
    undone = {ref.key for ref, shard in read_shards(plan.url) if not _stands(shard, standing)}
    # Predictions are opened where that takes seconds, not hours.
    if out.is_local or len(standing.commits) <= MOST_OPENED:
        summary = summarise(open_dataset(out.url, standing))
    else:
        summary = tallied(standing)
    done_s = sum(ref.seconds for ref in refs if ref.key not in undone)
    done = len(refs) - len(undone)
    record.values |= {"shards": done, "audio_s": done_s, "scoring_s": round(took, 1)}
    retries = record.values["storage_retries"]
    print(screen(out, summary, done_s=done_s, took_s=took, shards=done, retries=retries))
    if undone:
        say(
            f"error: {len(undone):,} of {len(refs):,} shards are not committed{_why(out, plan)}; "
            "run the same command again, and it does those alone"
        )
        return FAILED
    check_not_empty(summary)
    if summary.skipped > options.max_skipped:
        say(
            f"error: {summary.skipped:.2%} was skipped, more than --max-skipped "
            f"{options.max_skipped:.2%}"
        )
        return SKIPPED
    return 0


def _why(out: Folder, plan: Folder) -> str:
    """Why shards were not committed, as far as it is known."""
    failures = plan.files("failed")
    if failures:
        return f" ({plan.read_json(failures[0])['message'].rstrip('.')})"
    if out.is_local and shutil.disk_usage(out.url).free < LITTLE_SPACE:
        return ": no space left on the output's disk"  # Nor for a record of the failure.
    return ""


def _stands(shard: Shard, standing: Standing) -> bool:
    """Whether all that was planned for a shard is committed."""
    commit = standing.commits.get(shard.key)
    if commit is None:
        return not shard.spans
    unseen = Shard(shard.key, shard.spans, shard.drop)
    return merge(unseen, commit).is_nothing
