"""Sunrise and sunset at a place."""

import functools
from datetime import date, datetime, timedelta, timezone

from astral import Observer
from astral.sun import sunrise, sunset


@functools.lru_cache(maxsize=100_000)
def sun_hours(
    latitude: float, longitude: float, day: date, offset_s: int
) -> tuple[float | None, float | None]:
    """Hours of the day at which the sun rises and sets, None where it does not on that day.

    Degrees are WGS 84; the day and the hours are those of a clock that is `offset_s` ahead of UTC.
    The sun's upper edge is at the horizon, with refraction (the NOAA's equations, by astral); in
    hilly country the sun is seen later.
    """
    clock = timezone(timedelta(seconds=offset_s))
    observer = Observer(latitude, longitude)

    def hours(event: datetime) -> float:
        return (event.replace(tzinfo=None) - datetime.combine(day, datetime.min.time())) / (
            timedelta(hours=1)
        )

    found: list[float | None] = []
    for event in (sunrise, sunset):
        try:
            found.append(hours(event(observer, date=day, tzinfo=clock)) % 24)
        except ValueError:  # Astral's word for a sun that stays above or below the horizon.
            found.append(None)
    return found[0], found[1]
