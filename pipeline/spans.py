"""Spans: a recording's windows, cut where slots of clock time begin."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from model.windows import WindowPlan, WindowRule
from pipeline.commit import Member
from pipeline.recording import Place, Recording
from pipeline.shard_key import ShardKey, dated, undated


@dataclass(frozen=True)
class Span:
    """The windows `first` to before `stop` of one recording, in one shard."""

    key: ShardKey
    recording: Recording
    place: Place
    first: int
    stop: int

    def member(self, *, curable: bool = False, damaged: bool = False) -> Member:
        """The recording as the shard's commit knows it."""
        clock = self.place.start_clock
        return Member(
            self.recording.recording,
            self.recording.version or "",
            self.first,
            self.stop,
            clock.isoformat() if clock else "",
            curable,
            damaged,
            self.recording.reason is None,
        )


def window_plan(recording: Recording, rule: WindowRule) -> WindowPlan:
    """The windows of a readable recording."""
    assert recording.frames is not None and recording.sample_rate is not None
    return WindowPlan(rule, recording.frames, recording.sample_rate)


def spans_of(
    recording: Recording, place: Place, rule: WindowRule, slot_hours: int
) -> Iterator[Span]:
    """The spans of one recording, which together hold each of its windows once.

    An unreadable recording has one span without windows, in the shard of its name's time.
    """
    start = place.start_clock
    readable = recording.reason is None
    if start is None:
        count = window_plan(recording, rule).count if readable else 0
        yield Span(undated(place.site, recording.recording), recording, place, 0, count)
    elif not readable:
        yield Span(dated(place.site, start, slot_hours), recording, place, 0, 0)
    else:
        plan = window_plan(recording, rule)
        k = 0
        while k < plan.count:
            clock = place.clock_at(plan.start(k) / plan.rate)
            assert clock is not None
            stop = _first_at(plan, place, slot_end(clock, slot_hours))
            yield Span(dated(place.site, clock, slot_hours), recording, place, k, stop)
            k = stop


def slot_end(clock: datetime, slot_hours: int) -> datetime:
    """The moment at which the slot of a clock time is over."""
    day = datetime.combine(clock.date(), time())
    return day + timedelta(hours=(clock.hour // slot_hours + 1) * slot_hours)


def _first_at(plan: WindowPlan, place: Place, moment: datetime) -> int:
    """The first window whose clock time, to the microsecond, is `moment` or later."""
    assert place.start_clock is not None
    k = plan.first_from(int((moment - place.start_clock).total_seconds() * plan.rate) - 1)
    while k < plan.count:
        clock = place.clock_at(plan.start(k) / plan.rate)
        if clock is None or clock >= moment:
            break
        k += 1
    return k


def hours_of(recording: Recording, place: Place) -> Iterator[datetime]:
    """The hours of clock time that hold audio of a recording with a time."""
    if place.start_clock is None or not recording.duration_s:
        return
    hour = place.start_clock.replace(minute=0, second=0, microsecond=0)
    end = place.start_clock + timedelta(seconds=recording.duration_s)
    while hour < end:
        yield hour
        hour += timedelta(hours=1)
