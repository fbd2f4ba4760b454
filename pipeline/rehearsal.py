"""A rehearsal: a little of a plan is really done, to learn what all of it will take."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.plan import ShardRef
from pipeline.spans import Span

ENOUGH_S = 20.0
"""After so long no further recording is tried."""
SAMPLES = 8
SAMPLE_S = 120.0
"""Seconds of sound that are tried of one recording."""


@dataclass(frozen=True)
class Rehearsal:
    """What some spans took: seconds of sound scored, seconds of one worker, bytes.

    `empty_bytes` are those of a shard's parts without rows, `row_bytes` those of the rows.
    """

    scored_s: float
    took_s: float
    empty_bytes: int
    row_bytes: int


def sample_spans(refs: Sequence[ShardRef], hop_s: float, seed: int = 0) -> list[Span]:
    """A few windows in a row of a few recordings that are planned, drawn by their length."""
    with_sound = [ref for ref in refs if ref.seconds]
    chance = random.Random(seed)
    chosen = chance.choices(with_sound, [ref.seconds for ref in with_sound], k=SAMPLES)
    spans = []
    for ref in dict.fromkeys(chosen):
        readable = [span for span in ref.load().spans if span.recording.reason is None]
        if readable:
            span = chance.choice(readable)
            windows = max(1, round(SAMPLE_S / hop_s))
            latest = max(span.first, span.stop - windows)
            first = chance.randint(span.first, latest)
            spans.append(replace(span, first=first, stop=min(span.stop, first + windows)))
    return spans
