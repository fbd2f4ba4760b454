"""`detect --dry-run`: what a run would do and what it would take, before anything is done."""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from model.errors import UserError
from pipeline import tasks
from pipeline.detect_options import DetectOptions
from pipeline.detection import job_of, prober
from pipeline.discovery import Listing
from pipeline.inventory import keep_rows, read_index, take_inventory
from pipeline.job import Job
from pipeline.plan import ShardRef, SortedSpans, Standing, read_refs
from pipeline.planning import Setting, plan_run, say
from pipeline.pool import DeadWorkerError, pool, retire
from pipeline.rehearsal import ENOUGH_S, Rehearsal, sample_spans
from pipeline.runner import cores, is_local_runner
from pipeline.storage import Folder, write_report
from pipeline.summary import duration
from pipeline.text import count, size


@dataclass(frozen=True)
class Estimate:
    """What a run would do. Times are in seconds, sizes in bytes; None where it is not known."""

    recordings: int
    seconds: float
    size_bytes: int
    unreadable: dict[str, int]
    undated: int
    flags: dict[str, int]
    slot_hours: int
    shards_committed: int
    shards: int
    shard_seconds: float
    longest_shard_seconds: float
    windows: int
    bytes_to_read: int
    parts: int
    core_s_per_hour: float
    tried_s: float | None
    workers: int
    core_hours: float = field(init=False)
    wall_s: float = field(init=False)
    output_bytes: int | None
    price: float | None
    cost: float | None = field(init=False)

    def __post_init__(self) -> None:
        rate = self.core_s_per_hour / 3600
        core_s = self.shard_seconds * rate
        object.__setattr__(self, "core_hours", core_s / 3600)
        longest = self.longest_shard_seconds * rate
        object.__setattr__(self, "wall_s", max(core_s / self.workers, longest))
        cost = None if self.price is None else self.core_hours * self.price
        object.__setattr__(self, "cost", cost)


def dry_run(setting: Setting, listing: Listing) -> int:
    """Tells what a run would do; gives the exit status. Writes nothing but `--json`.

    Raises UserError where the run would be refused, or nothing can be tried.
    """
    options = setting.options
    # Only this machine's processes see a folder that nobody keeps.
    beam = options.beam if is_local_runner(options.beam) else ()
    facts: dict[str, int] = {}

    def look(spans: SortedSpans) -> None:
        facts.update(spans.facts())

    with tempfile.TemporaryDirectory(prefix="dawnchorus-dry-") as place:
        scratch = Folder(place)
        keep_rows(scratch, read_index(setting.out))
        probe_all = prober(scratch, options.decode_timeout_s, beam, lambda sums: None)
        inventory = take_inventory(scratch, scratch, listing, probe_all)
        retire()
        identity, standing = plan_run(
            setting, listing, inventory, scratch, settle=_slot_alone, look=look
        )
        refs = list(read_refs(scratch.url))
        job = job_of(setting, identity, setting.bundle.path, "dry-run")
        has_sound = any(ref.seconds for ref in refs)
        tried = _rehearse(options, refs, job) if has_sound and options.rate is None else None
    estimate = _estimate(options, inventory, standing, identity, facts, refs, job, tried)
    if options.json is not None:
        write_report(options.json, asdict(estimate))
    print(screen(estimate, setting.out.url))
    return 0


def _slot_alone(out: Folder, wanted: dict[str, Any], slot_hours: int) -> dict[str, Any]:
    """The identity of a dataset that is not begun."""
    return wanted | {"slot_hours": slot_hours}


def _rehearse(options: DetectOptions, refs: Sequence[ShardRef], job: Job) -> Rehearsal:
    """A few recordings, really scored on one core. Raises UserError if none can be."""
    say("trying some of it")
    began = time.monotonic()
    done: list[Rehearsal] = []
    for span in sample_spans(refs, job.rule.hop_s):
        try:
            workers = pool(options.engine)
            done.append(workers.run(tasks.rehearse, (span,), job, timeout_s=job.timeout_s))
        except DeadWorkerError as error:
            say(f"warning: {span.recording.recording} could not be tried: {error}")
        if time.monotonic() - began > ENOUGH_S:
            break
    pool(options.engine).rest()
    scored = sum(one.scored_s for one in done)
    if not scored:
        raise UserError(
            "None of the recordings that were tried could be scored, so that their cost is not "
            "known; give it with --rate, in core-seconds for an hour of audio."
        )
    return Rehearsal(
        scored,
        sum(one.took_s for one in done),
        max(one.empty_bytes for one in done),
        sum(one.row_bytes for one in done),
    )


def _estimate(
    options: DetectOptions,
    inventory: pa.Table,
    standing: Standing,
    identity: dict[str, Any],
    facts: dict[str, int],
    refs: Sequence[ShardRef],
    job: Job,
    tried: Rehearsal | None,
) -> Estimate:
    seconds = sum(ref.seconds for ref in refs)
    rate = options.rate or 0.0
    output = None
    if tried is not None:
        rate = tried.took_s / tried.scored_s * 3600
        rows = round(tried.row_bytes / tried.scored_s * seconds)
        output = rows + tried.empty_bytes * len(refs)
    reasons = Counter(reason for reason in inventory["reason"].to_pylist() if reason)
    return Estimate(
        recordings=inventory.num_rows,
        seconds=pc.sum(inventory["duration_s"]).as_py() or 0.0,
        size_bytes=pc.sum(inventory["size_bytes"]).as_py() or 0,
        unreadable=dict(reasons.most_common()),
        undated=facts.pop("undated", 0),
        flags=facts,
        slot_hours=identity["slot_hours"],
        shards_committed=sum(commit is not None for commit in standing.commits.values()),
        shards=len(refs),
        shard_seconds=seconds,
        longest_shard_seconds=max((ref.seconds for ref in refs), default=0.0),
        windows=sum(ref.windows for ref in refs),
        bytes_to_read=sum(ref.bytes for ref in refs),
        parts=len(refs) * len(job.tables),
        core_s_per_hour=rate,
        tried_s=tried.scored_s if tried else None,
        workers=options.workers or cores(),
        output_bytes=output,
        price=options.price,
    )


def screen(e: Estimate, output: str) -> str:
    """An estimate for people."""
    how = "given by --rate" if e.tried_s is None else f"tried on {duration(e.tried_s)} of it"
    lines = [
        f"Archive      {count(e.recordings, 'recording')}, {duration(e.seconds)}, "
        f"{size(e.size_bytes)}",
    ]
    for number, what in (
        (sum(e.unreadable.values()), f"unreadable ({_counts(e.unreadable)})"),
        (e.undated, "without a known time"),
        (sum(e.flags.values()), f"with a flag ({_counts(e.flags)})"),
    ):
        if number:
            lines.append(f"             {number:,} {what}")
    lines += [
        f"Dataset      {output}",
        f"             slots of {e.slot_hours} h, {count(e.shards_committed, 'shard')} committed",
    ]
    if not e.shards:
        return "\n".join([*lines, "To do        nothing", "Nothing was written."])
    lines.append(
        f"To do        {count(e.shards, 'shard')}: {duration(e.shard_seconds)}, "
        f"{count(e.windows, 'window')}, {size(e.bytes_to_read)} to read"
    )
    if not e.shard_seconds:
        no_sound = "Work         none: what is to do holds no sound that can be read"
        return "\n".join([*lines, no_sound, "Nothing was written."])
    lines += [
        f"Work         {e.core_hours:,.2f} core-hours, at {e.core_s_per_hour:,.2f} core-seconds "
        f"for an hour of audio ({how})",
        f"Time         {duration(e.wall_s)} with {e.workers:,} workers of one core",
    ]
    about = "" if e.output_bytes is None else f", about {size(e.output_bytes)}"
    lines.append(f"Output       {e.parts:,} parts{about}")
    if e.cost is not None:
        lines.append(f"Cost         {e.cost:,.2f} at {e.price:g} for a core-hour")
    return "\n".join([*lines, "Nothing was written."])


def _counts(values: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in values.items())
