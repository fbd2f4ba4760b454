"""Stages: where the time of a process's thread goes, from audio to the commit."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("decode", "resample", "spectrogram", "network", "write")
"""What a window of sound goes through, in this order."""

_spent = threading.local()


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Books the time of the body for a stage. Stages do not nest."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        times: defaultdict[str, float] = _spent.__dict__.setdefault("s", defaultdict(float))
        times[stage] += time.perf_counter() - begun


def take_times() -> dict[str, float]:
    """Seconds of each stage in this thread since they were last taken."""
    return dict(_spent.__dict__.pop("s", {}))
