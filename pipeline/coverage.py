"""Coverage: what became of every window, in windows and seconds, and the errors that explain it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model.reasons import REASONS
from model.windows import WindowPlan
from pipeline.recording import Place, Recording

QUARTER_S = 900


def quarter_of(place: Place, start_s: float) -> datetime | int:
    """The quarter of an hour that a window's start falls in: of clock time, or of the recording."""
    clock = place.clock_at(start_s)
    if clock is None:
        return int(start_s // QUARTER_S)
    return clock.replace(minute=clock.minute // 15 * 15, second=0, microsecond=0)


def _facts(recording: Recording, place: Place) -> dict[str, Any]:
    facts = recording.to_row()
    del facts["recording"]
    return facts | {"flags": list(place.flags), "time_source": place.time_source}


@dataclass
class Account:
    """Books the windows `first` to before `stop` of one recording and channel, in order.

    A row of coverage owns the seconds from its first window's start to the next row's (the last
    one to the next span's, or the recording's end); a second is scored if a scored window of the
    row covers it. A run of windows lost for the same reason is one row of errors.
    """

    recording: Recording
    place: Place
    plan: WindowPlan
    channel: int | None
    first: int
    stop: int
    coverage: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    _quarter: datetime | int | None = None
    _row_start: int = 0
    _windows: int = 0
    _scored: int = 0
    _samples: int = 0
    _from: int = 0
    _to: int = 0

    def book(self, k: int, reason: str | None, message: str | None, stage: str = "decode") -> None:
        """Books window k: scored (no reason), or skipped."""
        start = self.plan.start(k)
        quarter = quarter_of(self.place, start / self.plan.rate)
        if k == self.first:
            self._quarter, self._row_start, self._from, self._to = quarter, start, start, start
        elif quarter != self._quarter:
            self._close(start)
            self._quarter, self._row_start, self._from, self._to = quarter, start, start, start
        self._windows += 1
        if reason is None:
            self._scored += 1
            if start > self._to:
                self._samples += self._to - self._from
                self._from = start
            self._to = max(self._to, self._reach(k))
        else:
            self._lose(k, reason, message or "", stage)

    def _reach(self, k: int) -> int:
        """Where window k ends, with the sample that rounding may leave after it."""
        following = k + 1 < self.plan.count
        return max(self.plan.end(k), self.plan.start(k + 1) if following else self.plan.frames)

    def finish(self) -> None:
        """Closes the last row, once every window is booked."""
        if self._windows:
            last = self.stop >= self.plan.count
            self._close(self.plan.frames if last else self.plan.start(self.stop))

    def _close(self, stop: int) -> None:
        rate, start = self.plan.rate, self._row_start
        scored = self._samples + max(0, min(self._to, stop) - self._from)
        expected_s, scored_s = (stop - start) / rate, scored / rate
        self.coverage.append(
            {
                **_facts(self.recording, self.place),
                "recording": self.recording.recording,
                "channel": self.channel,
                "start_clock": self.place.clock_at(start / rate),
                "start_utc": self.place.utc_at(start / rate),
                "from_s": start / rate,
                "to_s": stop / rate,
                "windows_expected": self._windows,
                "windows_scored": self._scored,
                "windows_skipped": self._windows - self._scored,
                "seconds_expected": expected_s,
                "seconds_scored": scored_s,
                "seconds_skipped": expected_s - scored_s,
            }
        )
        self._windows = self._scored = self._samples = 0

    def _lose(self, k: int, reason: str, message: str, stage: str) -> None:
        rate = self.plan.rate
        cause = {"stage": stage, "reason": reason, "message": message}
        last = self.errors[-1] if self.errors else None
        if last and last["_next"] == k and cause.items() <= last.items():
            last |= {"to_s": self.plan.end(k) / rate, "windows_lost": last["windows_lost"] + 1}
        else:
            last = {
                "recording": self.recording.recording,
                "channel": self.channel,
                "from_s": self.plan.start(k) / rate,
                "to_s": self.plan.end(k) / rate,
                **cause,
                "curable": REASONS[reason].curable,
                "windows_lost": 1,
            }
            self.errors.append(last)
        last["_next"] = k + 1


def unreadable_rows(
    recording: Recording, place: Place, channel: int | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The coverage and the errors row of a recording that could not be opened at all."""
    assert recording.reason is not None
    coverage = {
        **_facts(recording, place),
        "recording": recording.recording,
        "channel": channel,
        "start_clock": place.start_clock,
        "start_utc": place.start_utc,
        "from_s": None,
        "to_s": None,
    }
    for what in ("windows", "seconds"):
        coverage |= {f"{what}_{state}": 0 for state in ("expected", "scored", "skipped")}
    error = {
        "recording": recording.recording,
        "channel": channel,
        "from_s": None,
        "to_s": None,
        "stage": "probe",
        "reason": recording.reason,
        "curable": REASONS[recording.reason].curable,
        "message": recording.message or "",
        "windows_lost": 0,
    }
    return coverage, error
