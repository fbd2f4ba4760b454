"""Windows of a recording, planned in integer samples before a sample is read."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from model.errors import UserError

SHORTEST_S = 0.001
Tail = Literal["pad", "drop", "shift"]


@dataclass(frozen=True)
class WindowRule:
    """How recordings are cut: window and hop in seconds, and what happens to the partial tail.

    `tail` is "pad" (scored, padded with zeros), "shift" (moved back to end with the recording)
    or "drop" (left out). Raises UserError for a window or hop below `SHORTEST_S`, or a hop
    longer than the window, which would leave sound unheard.
    """

    window_s: float
    hop_s: float
    tail: Tail = "pad"

    def __post_init__(self) -> None:
        if not (SHORTEST_S <= self.window_s < math.inf):
            raise UserError(f"The window is {self.window_s:g} s; it must be {SHORTEST_S} or more.")
        if not (SHORTEST_S <= self.hop_s <= self.window_s):
            raise UserError(
                f"The hop is {self.hop_s:g} s; it must be {SHORTEST_S} or more and at most the "
                f"window ({self.window_s:g} s)."
            )
        if self.tail not in get_args(Tail):
            raise UserError(f"The tail is {self.tail!r}; it must be pad, drop or shift.")


@dataclass(frozen=True)
class WindowPlan:
    """The windows of one recording of `frames` samples at `rate` Hz.

    Window k starts at sample round(k x hop x rate) and is round(window x rate) samples long; the
    last window is the first that reaches the recording's end. An empty recording has none. Where
    the window is no whole number of samples, rounding may leave one sample between two windows.
    """

    rule: WindowRule
    frames: int
    rate: int

    def __post_init__(self) -> None:
        if self.frames < 0 or self.rate < 1:
            raise ValueError(f"A recording of {self.frames} samples at {self.rate} Hz.")

    @property
    def length(self) -> int:
        """Samples of a whole window (at least 1)."""
        return max(1, round(self.rule.window_s * self.rate))

    @property
    def count(self) -> int:
        """Windows that are expected, a partial last one included whatever the tail rule."""
        if not self.frames:
            return 0
        if self.frames <= self.length:
            return 1
        step = self.rule.hop_s * self.rate
        last = max(0, math.floor((self.frames - self.length) / step) - 2)
        while self._planned(last) + self.length < self.frames > self._planned(last + 1):
            last += 1
        return last + 1

    @property
    def partial(self) -> bool:
        """Whether the last window reaches beyond the recording's end."""
        last = self.count - 1
        return last >= 0 and self._planned(last) + self.length > self.frames

    @property
    def dropped(self) -> bool:
        """Whether the last window is left out (tail "drop")."""
        return self.rule.tail == "drop" and self.partial

    def _planned(self, k: int) -> int:
        return round(k * self.rule.hop_s * self.rate)

    def start(self, k: int) -> int:
        """First sample of window k."""
        planned = self._planned(k)
        if self.rule.tail == "shift" and k == self.count - 1:
            return max(0, min(planned, self.frames - self.length))
        return planned

    def end(self, k: int) -> int:
        """The sample after window k's last, at most the recording's end."""
        return min(self.start(k) + self.length, self.frames)

    def starts(self, first: int = 0, stop: int | None = None) -> npt.NDArray[np.int64]:
        """First samples (int64) of the windows from `first` to before `stop`."""
        count = self.count
        stop = count if stop is None else min(stop, count)
        # The same products, rounded in the same way, as of one window.
        products = np.arange(first, stop) * self.rule.hop_s * self.rate
        starts: npt.NDArray[np.int64] = np.rint(products).astype(np.int64)
        if first < stop == count:
            starts[-1] = self.start(count - 1)
        return starts

    def bounds(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First samples of all windows, and where the sound ends that each stands for (int64).

        That is the window's end, but where rounding to whole samples sets it one sample beside the
        start of another window or the recording's end: they are one moment there. So windows that
        touch or overlap evenly in seconds do so in samples.
        """
        starts = self.starts()
        ends = np.minimum(starts + self.length, self.frames)
        marks = np.append(starts, self.frames)
        at = np.searchsorted(marks, ends)
        before, after = marks[at - 1], marks[at]
        return starts, np.where(
            after - ends <= 1, after, np.where(ends - before == 1, before, ends)
        )

    def first_from(self, sample: int) -> int:
        """Number of the first window that starts at `sample` or later (`count` if none does)."""
        k = max(0, math.floor(sample / (self.rule.hop_s * self.rate)) - 2)
        count = self.count
        while k < count and self.start(k) < sample:
            k += 1
        return min(k, count)
