"""Times as they are written for other programs."""

import datetime as dt

import pytest

from pipeline.placed import iso

AT = dt.datetime(2024, 6, 1, 23, 59, 59, 250_000)
QUARTER = dt.timedelta(microseconds=750_000)


@pytest.mark.parametrize(
    ("hours", "offset"),
    [(-4, "-04:00"), (-3.5, "-03:30"), (0, "+00:00"), (5.75, "+05:45"), (14, "+14:00")],
)
def test_the_site_s_own_offset(hours: float, offset: str) -> None:
    local = AT + dt.timedelta(hours=hours)
    assert iso(AT, local, None) == f"{local:%Y-%m-%dT%H:%M:%S}{offset}"


def test_utc_the_clock_and_nothing() -> None:
    assert iso(AT, None, AT - dt.timedelta(hours=1)) == "2024-06-01T23:59:59Z"
    assert iso(None, None, AT) == "2024-06-01T23:59:59"
    assert iso(None, None, None) is None


def test_ends_are_whole_seconds_that_are_not_before() -> None:
    assert iso(AT, None, None, up=True) == "2024-06-02T00:00:00Z"
    assert iso(AT, None, None, later=QUARTER, up=True) == "2024-06-02T00:00:00Z"
    assert iso(AT, None, None, later=QUARTER + dt.timedelta(microseconds=1), up=True) == (
        "2024-06-02T00:00:01Z"
    )
    assert iso(AT, None, None, later=-dt.timedelta(hours=24)) == "2024-05-31T23:59:59Z"
