"""Events of a dataset: runs of time in which a label's score stays above its threshold."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model.errors import UserError
from model.events import EventRule, Events, Windows, find_events, sparse_frame_scores
from pipeline.dataset import Dataset, quoted, registered
from pipeline.scored import KEYS, SAME, Covered, Key, read_covered, scored_windows, window_rule
from pipeline.text import listed
from pipeline.thresholds import check_thresholds

BATCH = 1_000_000
"""Predictions and windows that are in memory at a time, unless one recording has more."""

SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("recording", pa.string()),
        ("channel", pa.int8()),
        ("label", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("start_clock", pa.timestamp("us")),
        ("start_utc", pa.timestamp("us", tz="UTC")),
        ("score", pa.float32()),
        ("mean_score", pa.float32()),
        ("windows", pa.int64()),
    ]
)
"""Columns of the table of events: one row per event."""

METADATA_KEY = b"dawnchorus_events"
"""Key of the table's metadata: JSON with the thresholds and the rule."""


def events(
    dataset: Dataset,
    thresholds: Mapping[str, float],
    rule: EventRule,
    labels: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """The events of some labels (by default all), as tables of `schema_of`, a batch at a time.

    Rows are sorted by site, recording, channel, start and label. Events are of one recording and
    channel, across slots. Every scored window counts: one without a row for a label, because its
    score is below the dataset's `--min-score`, counts as 0. Windows that were skipped do not, and
    their time is in no event. Of single-label bundles a label counts where its score is the
    moment's highest.

    Raises UserError for an unknown label, or thresholds as `check_thresholds` does.
    """
    known = list(dataset.identity["labels"])
    unknown = [label for label in labels or () if label not in known]
    if unknown:
        raise UserError(f"The dataset has no label {listed(unknown)}; it has {listed(known)}.")
    chosen = known if labels is None else [label for label in known if label in labels]
    check_thresholds(dataset, thresholds, chosen)
    # In a single-label bundle the others compete for the top, though their events are not asked.
    limits = {label: thresholds[label] if label in chosen else np.inf for label in known}
    if dataset.identity["task"] != "singlelabel":
        limits = {label: limits[label] for label in chosen}
    return _events(dataset, limits, rule, schema_of(dataset, thresholds, rule, chosen))


def schema_of(
    dataset: Dataset, thresholds: Mapping[str, float], rule: EventRule, labels: Sequence[str]
) -> pa.Schema:
    """`SCHEMA` with how the events were made as its metadata (`METADATA_KEY`)."""
    about = {
        "thresholds": {label: float(thresholds[label]) for label in labels},
        "merge_gap_s": rule.merge_gap_s,
        "min_duration_s": rule.min_duration_s,
        "centre": rule.centre,
        "window_s": dataset.identity["window_s"],
        "hop_s": dataset.identity["hop_s"],
    }
    return SCHEMA.with_metadata({METADATA_KEY: json.dumps(about)})


def _events(
    dataset: Dataset, limits: Mapping[str, float], rule: EventRule, schema: pa.Schema
) -> Iterator[pa.Table]:
    given = pa.table(
        {
            "label": pa.array(limits, pa.string()),
            "number": pa.array(range(len(limits)), pa.int64()),
            "threshold": pa.array(np.array(list(limits.values()), np.float32)),
        }
    )
    with registered(dataset.connection, events_given=given):
        for batch in _batches(dataset):
            table = _events_of(dataset, batch, given, rule)
            yield table.replace_schema_metadata(schema.metadata)


def _batches(dataset: Dataset) -> Iterator[pa.Table]:
    """Recordings and channels (`KEYS`) that may hold events, as many as memory should."""
    # A mean of scores reaches a threshold only if one of the scores does.
    found = dataset.connection.sql(
        """
        WITH found AS (
            SELECT site, recording, channel, count(*) AS rows FROM predictions
            JOIN events_given USING (label)
            GROUP BY ALL HAVING bool_or(score >= threshold)
        ), planned AS (
            SELECT site, recording, channel, sum(windows_expected) AS windows FROM coverage
            GROUP BY ALL
        )
        SELECT c.site, c.recording, c.channel, c.rows + o.windows AS size
        FROM found c JOIN planned o ON c.site = o.site AND c.recording = o.recording
            AND c.channel IS NOT DISTINCT FROM o.channel
        ORDER BY ALL"""
    ).to_arrow_table()
    size = found["size"].to_numpy().astype(np.int64)
    number = (np.cumsum(size) - size) // BATCH
    bounds = np.flatnonzero(np.diff(number, prepend=-1, append=-1))
    for first, stop in pairwise(bounds):
        yield found.select(KEYS.names).slice(first, stop - first)


def _events_of(dataset: Dataset, batch: pa.Table, given: pa.Table, rule: EventRule) -> pa.Table:
    """The events of a batch of recordings and channels."""
    keys: list[Key] = list(zip(*(batch[name].to_pylist() for name in KEYS.names), strict=True))
    covered = read_covered(dataset, keys)
    tracks = batch.append_column("track", pa.array(range(len(keys)), pa.int64()))
    # The bounds spare the parts of other sites.
    sites = f"c.site BETWEEN {quoted(keys[0][0])} AND {quoted(keys[-1][0])}"
    with registered(dataset.connection, events_batch=tracks):
        rows = dataset.connection.sql(
            f"""SELECT o.track, g.number AS label, c.start_s, c.score FROM predictions c
            JOIN events_batch o ON {SAME} JOIN events_given g ON c.label = g.label
            WHERE {sites}"""
        ).to_arrow_table()
    track, label, start_s, score = (rows[name].to_numpy() for name in rows.column_names)
    order = np.argsort(track, kind="stable")
    track, label, start_s, score = track[order], label[order], start_s[order], score[order]
    cut = window_rule(dataset)
    windows, window, before = [], np.empty(len(track), np.int64), 0
    bounds = np.searchsorted(track, np.arange(len(keys) + 1))
    for number, key in enumerate(keys):
        scored = scored_windows(cut, covered[key])
        own = slice(bounds[number], bounds[number + 1])
        # Both are the same quotient of samples and rate.
        places = np.searchsorted(scored.start_s, start_s[own])
        if not (np.append(scored.start_s, np.nan)[places] == start_s[own]).all():
            raise UserError(
                f"Predictions of {key[1]} of the site {key[0]} are at times that its coverage does "
                "not have; if a run is writing to the dataset, try again when it is done."
            )
        window[own] = places + before
        before += len(scored.start_s)
        windows.append((np.full(len(scored.start_s), number), scored.start_s, scored.end_s))
    frames = sparse_frame_scores(
        Windows(*(np.concatenate(column) for column in zip(*windows, strict=True))),
        window,
        label,
        score,
        centre=rule.centre,
    )
    top_only = dataset.identity["task"] == "singlelabel"
    found = find_events(frames, given["threshold"].to_numpy(), rule, top_only=top_only)
    return _table(found, batch, [covered[key] for key in keys], given["label"])


def _table(
    found: Events, batch: pa.Table, covered: Sequence[Covered], labels: pa.ChunkedArray
) -> pa.Table:
    order = np.lexsort((found.label, found.start_s, found.recording))
    track = found.recording[order]
    columns: dict[str, Any] = {name: batch[name].take(track) for name in KEYS.names}
    columns |= {
        name: getattr(found, name)[order]
        for name in ("start_s", "end_s", "score", "mean_score", "windows")
    }
    columns["label"] = labels.take(found.label[order])
    for name in ("start_clock", "start_utc"):
        columns[name] = _times(name, covered)[track] + _microseconds(found.start_s[order])
    arrays = [
        pa.array(columns[f.name], f.type)
        if isinstance(columns[f.name], np.ndarray)
        else columns[f.name]
        for f in SCHEMA
    ]
    return pa.table(arrays, SCHEMA)


def _times(name: str, covered: Sequence[Covered]) -> npt.NDArray[np.datetime64]:
    """When each recording starts, to the microsecond; NaT where it is not known."""
    first = [known.rows[0] for known in covered]
    times = np.array([getattr(row, name) for row in first], "datetime64[us]")
    times -= _microseconds(np.array([row.from_s for row in first]))
    return times


def _microseconds(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.timedelta64]:
    """Rounded as `Place.clock_at` rounds."""
    return np.rint(seconds * 1e6).astype(np.int64).astype("timedelta64[us]")
