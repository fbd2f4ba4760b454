"""Memory of this process: its limit, and giving back what is not needed any more."""

import contextlib
import ctypes
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

HEADROOM = 4 << 30
"""Bytes that a worker may take on top of what the network needs: hundreds of times what decoding
needs. A decoder that wants more gets an error before the machine runs out."""


def limit_memory() -> None:
    """Limits this process to `HEADROOM` more than it has now, where the system tells (Linux)."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = pages * resource.getpagesize() + HEADROOM
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


@contextlib.contextmanager
def unlimited_memory() -> Iterator[None]:
    """Lifts the limit in the body, and sets it anew after it, if this is a worker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    try:
        yield
    finally:
        if soft != hard:
            limit_memory()


def release_memory() -> None:
    """Gives back what libraries keep for later use: a job of days should not hold its plan's."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # Not every C library has it.
            ctypes.CDLL(None).malloc_trim(0)
