"""Intervals of time in recordings, and their bounds as places on one common axis."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Intervals:
    """Stretches of time of one or more recordings, in any order; they may overlap.

    `recording` (n,) int64 is the caller's own number of a recording (and channel); `start_s` and
    `end_s` (n,) float64 are seconds inside it. Raises ValueError where one ends before it starts.
    """

    recording: Int64
    start_s: Float64
    end_s: Float64

    def __post_init__(self) -> None:
        for name, kind in (("recording", np.int64), ("start_s", np.float64), ("end_s", np.float64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        if not len(self.recording) == len(self.start_s) == len(self.end_s):
            raise ValueError("The columns of intervals differ in length.")
        if not (self.start_s <= self.end_s).all():
            raise ValueError("An interval ends before it starts.")

    @classmethod
    def of(cls, rows: Iterable[tuple[int, float, float]]) -> "Intervals":
        """The intervals of rows (recording, start, end)."""
        table = list(rows)
        recording, start_s, end_s = zip(*table, strict=True) if table else ((), (), ())
        return cls(np.array(recording, np.int64), np.array(start_s), np.array(end_s))

    def __len__(self) -> int:
        return len(self.recording)


@dataclass(frozen=True)
class Axis:
    """The distinct bounds of intervals in order of recording and time, as places 0, 1, ...

    On it, comparing two places compares two moments, and those of different recordings never
    meet: integers carry the order, so that nothing is lost to the rounding of sums of seconds.
    Stretch i lies between the places i and i + 1; between two recordings it holds no time.
    """

    recording: Int64
    time_s: Float64

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def seconds(self) -> Float64:
        """How long each stretch is: (len,) float64, 0 for that after a recording's last bound."""
        same = np.append(self.recording[1:] == self.recording[:-1], [False] * min(1, len(self)))
        return np.where(same, np.append(np.diff(self.time_s), [0.0] * min(1, len(self))), 0.0)


def place(*several: Intervals) -> tuple[Axis, list[tuple[Int64, Int64]]]:
    """One axis of all bounds, and for each of the intervals the places (n,) of start and end."""
    recording = np.concatenate([part for x in several for part in (x.recording, x.recording)])
    time_s = np.concatenate([part for x in several for part in (x.start_s, x.end_s)])
    order = np.lexsort((time_s, recording))
    recording, time_s = recording[order], time_s[order]
    new = np.ones(len(order), bool)
    new[1:] = (recording[1:] != recording[:-1]) | (time_s[1:] != time_s[:-1])
    places = np.empty(len(order), np.int64)
    places[order] = np.cumsum(new) - 1
    bounds = np.split(places, np.cumsum([n for x in several for n in (len(x), len(x))])[:-1])
    return Axis(recording[new], time_s[new]), list(zip(bounds[::2], bounds[1::2], strict=True))


def covering(axis: Axis, start: Int64, end: Int64) -> Int64:
    """How many intervals, given by their places, cover each stretch of the axis: (len,) int64."""
    size = len(axis)
    return np.cumsum(np.bincount(start, minlength=size) - np.bincount(end, minlength=size))
