"""One run of detection, from the command's options to the exit status."""

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.bundle import Bundle, copy_bundle, load_bundle
from model.embedding import embedding_of
from model.errors import UserError
from model.retries import StorageError
from model.runtime import Engine, Precision, check_engine, check_precision
from model.windows import Tail, WindowRule
from pipeline import progress
from pipeline.clock import TimePattern
from pipeline.commit import clear
from pipeline.dataset import open_dataset
from pipeline.discovery import Listing, discover
from pipeline.identity import check_identity, identity_of, read_identity, settle_identity
from pipeline.inventory import take_inventory
from pipeline.job import Channel, Job
from pipeline.memory import release_memory
from pipeline.plan import (
    ShardRef,
    Standing,
    plan_shards,
    read_refs,
    read_standing,
    span_table,
    write_plan,
)
from pipeline.pool import pool, retire
from pipeline.recording import Place, PlaceRules, Recording
from pipeline.run_record import (
    RETRIES,
    RunRecord,
    first_value,
    last_value,
    living_runs,
    remove_plans,
)
from pipeline.runner import (
    check_beam_options,
    is_local_runner,
    run_pipeline,
    worker_processes,
)
from pipeline.shard import merge
from pipeline.shard_key import choose_slot_hours
from pipeline.site import check_sites
from pipeline.spans import hours_of
from pipeline.storage import NO_SPACE, Folder, absolute
from pipeline.summary import check_not_empty, duration, screen, summarise

FAILED, SKIPPED = 1, 3
CELLS_PER_S = 4e6
"""Spectrogram cells that one core takes from audio to scores in a second with the paper's
network, to the order of magnitude: it decides between one process and several."""
PROBES_PER_S = 500
ROWS = 10_000
LITTLE_SPACE = 1 << 20
"""Bytes free on a disk below which a commit may have failed for want of space."""


@dataclass(frozen=True)
class DetectOptions:
    """What a run of detection is asked for; None where the dataset or the bundle decides."""

    inputs: tuple[str, ...]
    model: str
    output: str
    root: str | None = None
    site: str | None = None
    time_pattern: str | None = None
    hop_s: float | None = None
    tail: Tail = "pad"
    channel: Channel = "mean"
    min_score: float = 0.1
    embeddings: bool = False
    slot_hours: int | None = None
    max_skipped: float = 1.0
    engine: Engine = "tensorflow"
    precision: Precision = "float32"
    decode_timeout_s: float = 300.0
    redo_damaged: bool = False
    prune: bool = False
    beam: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("--min-score", self.min_score), ("--max-skipped", self.max_skipped)):
            if not 0 <= value <= 1:
                raise UserError(f"{name} is {value:g}; it must be from 0 to 1.")
        if not self.decode_timeout_s > 0:
            raise UserError(f"--decode-timeout is {self.decode_timeout_s:g}; it must be above 0 s.")


def detect(options: DetectOptions) -> int:
    """Runs the job and prints its summary; gives the exit status. Raises UserError."""
    began = time.monotonic()
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
    if not is_local_runner(options.beam) and out.is_local:
        _say("warning: the output is on this machine's disk; the runner's workers must see it too")
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
        root = options.root or last_value(out, "root")
    listing = discover(options.inputs, root)
    if not listing.recordings:
        places = ", ".join(options.inputs)
        raise UserError(f"No recordings were found in {places}; check the path given to --input.")
    for problem in listing.unlisted:
        _say(f"warning: not listed: {problem}")

    record = _begin(out, options, listing, bundle)
    try:
        job = _plan(out, options, listing, bundle, rule, wanted, pattern, record)
        del listing
        plan = out.child(f"_plan/{record.name}")
        refs = list(read_refs(plan.url))
        scoring = time.monotonic()
        if refs:
            release_memory()
            spent = _score(out, plan, refs, job, bundle, options)
            record.values["stages_ms"] = {
                name: value for name, value in spent.items() if not name.startswith(RETRIES)
            }
            record.add_retries(spent)
            pool(job.engine).rest()
        took = time.monotonic() - scoring
        record.add_retries()
        status = _end(out, plan, options, refs, took, record.values["storage_retries"])
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
        recordings=len(listing.recordings),
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
        _say(
            f"warning: run {run.name} on {run.values.get('host')} may still be writing to "
            f"{out.url}; both do no harm, but work twice"
        )
    alive = {run.name for run in others} | {record.name}
    with _writable(out):
        clear(out, alive)
        remove_plans(out, alive)
    return record


def _plan(
    out: Folder,
    options: DetectOptions,
    listing: Listing,
    bundle: Bundle,
    rule: WindowRule,
    wanted: dict[str, Any],
    pattern: TimePattern | None,
    record: RunRecord,
) -> Job:
    """Takes the inventory, settles the identity and writes the plan."""
    from pipeline.transforms import Inventory

    plan = out.child(f"_plan/{record.name}")

    def probe_all(count: int) -> None:
        _say(f"reading the headers of {count:,} recordings")
        parallel = worker_processes(options.beam, count / PROBES_PER_S)
        job = Inventory(plan.url, parallel, options.decode_timeout_s)
        record.add_retries(run_pipeline(job, options.beam))

    inventory = take_inventory(out, plan, listing, probe_all)
    retire()
    # That of the first run: an archive that has moved is the same archive.
    root = str(first_value(out, "root") or listing.root)
    root_name = root.rstrip("/").rpartition("/")[2] or "root"
    rules = PlaceRules(root_name, options.site, pattern)
    rate = bundle.front_end.sample_rate

    standing = read_standing(out)
    readable = standing.readable
    absent: set[str] = set()

    def placed() -> Iterator[tuple[Recording, Place]]:
        for batch in inventory.to_batches(max_chunksize=ROWS):
            for row in batch.to_pylist():
                recording = Recording.from_row(row)
                if recording.reason is not None and recording.recording in readable:
                    absent.add(recording.recording)
                    continue
                yield recording, _flagged(rules(recording), recording, rate)

    # Names that cannot be are refused before anything is written.
    identity = read_identity(out) or _first_identity(out, wanted, options, placed(), standing)
    spans = span_table(placed(), rule, int(identity["slot_hours"]))
    check_sites({*spans["site"].unique().to_pylist(), *standing.sites})
    listed = frozenset(name for name, _ in listing.recordings)
    prune = _prunable(options, listing, standing, listed) if options.prune else ()
    shards = plan_shards(
        spans,
        standing,
        listed - absent,
        rule.hop_s,
        prune=prune,
        redo_damaged=options.redo_damaged,
    )
    write_plan(plan, spans, shards)
    facts = {
        "schema_version": str(identity["schema_version"]),
        "window_s": repr(rule.window_s),
        "hop_s": repr(rule.hop_s),
        "score_fingerprint": bundle.score_fingerprint,
    }
    return Job(
        out.url,
        out.at(record.values["bundle"]),
        rule,
        options.channel,
        options.min_score,
        facts,
        record.name,
        options.decode_timeout_s,
        options.engine,
        options.precision,
        identity.get("embedding_size"),
    )


def _first_identity(
    out: Folder,
    wanted: dict[str, Any],
    options: DetectOptions,
    placed: Iterable[tuple[Recording, Place]],
    standing: Standing,
) -> dict[str, Any]:
    """Writes the identity of a new dataset, with the slot that fits the archive's size."""
    hours: set[tuple[str, Any]] = set()
    sites: set[str] = set()
    for recording, place in placed:
        sites.add(place.site)
        hours.update((place.site, hour) for hour in hours_of(recording, place))
    check_sites(sites | standing.sites)
    chosen = options.slot_hours or choose_slot_hours(len(hours))
    identity = settle_identity(out, wanted, chosen)
    slot = identity["slot_hours"]
    _say(f"a new dataset, in slots of {slot} h ({len(hours):,} site-hours hold audio)")
    return identity


def _flagged(place: Place, recording: Recording, model_rate: int) -> Place:
    rate = recording.sample_rate
    if rate is None or rate >= model_rate:
        return place
    flags = tuple(sorted({*place.flags, "below_model_rate"}))
    return Place(place.site, place.start_clock, place.start_utc, place.time_source, flags)


def _prunable(
    options: DetectOptions, listing: Listing, standing: Standing, listed: frozenset[str]
) -> Sequence[str]:
    """Standing recordings that are gone from below this run's inputs."""
    if listing.unlisted:
        _say("warning: nothing is pruned, because an input could not be listed")
        return ()
    root = listing.root.rstrip("/")
    below = [absolute(text).removeprefix(root).lstrip("/") for text in options.inputs]
    return [
        name
        for commit in standing.commits.values()
        for name in (commit.members if commit else ())
        if name not in listed
        and any(not top or name == top or name.startswith(f"{top}/") for top in below)
    ]


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
    _say(f"{len(refs):,} shards to do, with {duration(seconds)} of audio")
    with progress.shown(out, refs):
        parallel = min(len(refs), worker_processes(options.beam, work_s))
        return run_pipeline(Detection(plan.url, job, parallel), options.beam)


def _end(
    out: Folder,
    plan: Folder,
    options: DetectOptions,
    refs: Sequence[ShardRef],
    took: float,
    retries: Mapping[str, int],
) -> int:
    """Prints the summary; gives the exit status."""
    dataset = open_dataset(out.url)
    undone = [ref for ref in refs if not _stands(ref, dataset.standing)]
    summary = summarise(dataset)
    done_s = sum(ref.seconds for ref in refs if ref not in undone)
    done = len(refs) - len(undone)
    print(screen(dataset, summary, done_s=done_s, took_s=took, shards=done, retries=retries))
    if undone:
        _say(
            f"error: {len(undone):,} of {len(refs):,} shards are not committed{_why(out, plan)}; "
            "run the same command again, and it does those alone"
        )
        return FAILED
    check_not_empty(summary)
    if summary.skipped > options.max_skipped:
        _say(
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


def _stands(ref: ShardRef, standing: Standing) -> bool:
    """Whether all that was planned for a shard is committed."""
    commit = standing.commits.get(ref.key)
    shard = ref.load()
    if commit is None:
        return not shard.spans
    unseen = type(shard)(shard.key, shard.spans, shard.drop)
    return merge(unseen, commit).is_nothing
