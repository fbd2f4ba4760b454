"""Guard: what work on recordings is given, so that one that breaks its decoder is found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

ANY = "*"
"""What `Guard.at` is told where several recordings are open at once."""


@dataclass(frozen=True)
class Blame:
    """Why a recording is left out: a code of `REASONS` and what happened."""

    reason: str
    message: str


def _nobody(_: str | None) -> None:
    pass


@dataclass(frozen=True)
class Guard:
    """`at` is told the recording before its decoder is called, and None before anything else.

    Recordings in `blamed` are not to be opened: their decoder crashed or hung. `attempt` counts
    from 1; from 2 on, recordings are to be opened one at a time.
    """

    at: Callable[[str | None], None] = _nobody
    blamed: Mapping[str, Blame] = field(default_factory=dict)
    attempt: int = 1


UNGUARDED = Guard()
"""For work in a process that nobody watches."""
