"""From a listing to a plan: inventory, identity, places, and the shards that have work to do."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from model.bundle import Bundle
from model.windows import WindowRule
from pipeline.clock import TimePattern
from pipeline.detect_options import DetectOptions
from pipeline.discovery import Listing
from pipeline.identity import read_identity, settle_identity
from pipeline.plan import SortedSpans, Standing, read_standing, sorted_spans, write_plan
from pipeline.recording import Place, PlaceRules, Recording
from pipeline.run_record import first_value
from pipeline.shard_key import choose_slot_hours
from pipeline.site import check_sites
from pipeline.spans import hours_of
from pipeline.storage import Folder

ROWS = 10_000


@dataclass(frozen=True)
class Setting:
    """What a run works with: options and what follows from them, checked.

    `wanted` is the identity that a dataset of these options has, but for its slot.
    """

    options: DetectOptions
    out: Folder
    bundle: Bundle
    rule: WindowRule
    wanted: dict[str, Any]
    pattern: TimePattern | None


def say(text: str) -> None:
    """Tells the user something beside the results."""
    print(text, file=sys.stderr, flush=True)


def plan_run(
    setting: Setting,
    listing: Listing,
    inventory: pa.Table,
    plan: Folder,
    *,
    settle: Callable[[Folder, dict[str, Any], int], dict[str, Any]] = settle_identity,
    look: Callable[[SortedSpans], None] = lambda spans: None,
) -> tuple[dict[str, Any], Standing]:
    """Writes the plan of an inventory into a folder; the dataset's identity, and what stands.

    `settle` gives the identity of a new dataset its slot; `look` is shown all spans. Raises
    UserError.
    """
    options, out, rule = setting.options, setting.out, setting.rule
    # That of the first run: an archive that has moved is the same archive.
    root = str(first_value(out, "root") or listing.root)
    root_name = root.rstrip("/").rpartition("/")[2] or "root"
    rules = PlaceRules(root_name, options.site, setting.pattern)
    rate = setting.bundle.front_end.sample_rate

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

    identity = read_identity(out)
    if identity is None:
        # Names that cannot be are refused before anything is written.
        hours = _site_hours(placed(), standing)
        chosen = options.slot_hours or choose_slot_hours(hours)
        identity = settle(out, setting.wanted, chosen)
        slot = identity["slot_hours"]
        say(f"a new dataset, in slots of {slot} h ({hours:,} site-hours hold audio)")
    with sorted_spans(placed(), rule, int(identity["slot_hours"])) as spans:
        check_sites(spans.sites | standing.sites)
        look(spans)
        listed = listing.names if standing.commits else frozenset()
        prune = _prunable(listing, standing, listed) if options.prune else ()
        write_plan(
            plan,
            spans.batches(),
            standing,
            listed - absent,
            rule.hop_s,
            prune=prune,
            redo_damaged=options.redo_damaged,
        )
    return identity, standing


def _site_hours(placed: Iterable[tuple[Recording, Place]], standing: Standing) -> int:
    """How many hours of sites hold audio. Raises UserError for sites that cannot be."""
    hours: set[tuple[str, Any]] = set()
    sites: set[str] = set()
    for recording, place in placed:
        sites.add(place.site)
        hours.update((place.site, hour) for hour in hours_of(recording, place))
    check_sites(sites | standing.sites)
    return len(hours)


def _flagged(place: Place, recording: Recording, model_rate: int) -> Place:
    rate = recording.sample_rate
    if rate is None or rate >= model_rate:
        return place
    flags = tuple(sorted({*place.flags, "below_model_rate"}))
    return Place(place.site, place.start_clock, place.start_utc, place.time_source, flags)


def _prunable(listing: Listing, standing: Standing, listed: frozenset[str]) -> Sequence[str]:
    """Standing recordings that are gone from below the folders that this run was given."""
    if not listing.folders:
        say("warning: nothing is pruned, because only a folder as --input tells what is gone")
        return ()
    if listing.unlisted:
        say("warning: nothing is pruned, because an input could not be listed")
        return ()
    root = listing.root.rstrip("/")
    below = [url.rstrip("/").removeprefix(root).lstrip("/") for url in listing.folders]
    return [
        name
        for commit in standing.commits.values()
        for name in (commit.members if commit else ())
        if name not in listed and any(not top or name.startswith(f"{top}/") for top in below)
    ]
