import itertools
import math
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.windows import WindowPlan, WindowRule
from pipeline.coverage import Account
from pipeline.recording import Place, Recording

CLOCK = datetime(2024, 6, 1, 5, 14, 58)


def account(plan: WindowPlan, clock: datetime | None, first: int, stop: int) -> Account:
    recording = Recording("a.wav", "/a.wav", duration_s=plan.frames / plan.rate)
    place = Place("Ridge", clock, None, "name" if clock else None)
    return Account(recording, place, plan, None, first, stop)


def test_a_quarter_of_an_hour_begins_a_row() -> None:
    plan = WindowPlan(WindowRule(1, 1), 450, 100)
    books = account(plan, CLOCK, 0, 5)
    for k in range(5):
        books.book(k, "silent" if k in (1, 4) else None, "zero")
    books.finish()
    first, second = books.coverage
    assert (first["from_s"], first["to_s"], first["start_clock"]) == (0, 2, CLOCK)
    assert (second["from_s"], second["to_s"]) == (2, 4.5)
    assert second["start_clock"] == datetime(2024, 6, 1, 5, 15)
    assert [(r["windows_expected"], r["windows_scored"]) for r in books.coverage] == [
        (2, 1),
        (3, 2),
    ]
    assert [r["seconds_scored"] for r in books.coverage] == [1, 2]
    assert [(e["from_s"], e["to_s"], e["windows_lost"]) for e in books.errors] == [
        (1, 2, 1),
        (4, 4.5, 1),
    ]


def test_the_sample_that_rounding_leaves_is_the_last_windows() -> None:
    books = account(WindowPlan(WindowRule(1.125, 1.125), 225, 100), None, 0, 2)
    for k in range(2):
        books.book(k, None, None)
    books.finish()
    assert [r["seconds_scored"] for r in books.coverage] == [2.25]


@given(
    st.integers(1, 400_000),
    st.sampled_from([100, 441]),
    st.floats(1, 30),
    st.floats(0.1, 1),
    st.sampled_from(["pad", "shift", "drop"]),
    st.booleans(),
    st.data(),
)
def test_windows_and_seconds_add_up(frames, rate, window, share, tail, timed, data) -> None:
    plan = WindowPlan(WindowRule(window, window * share, tail), frames, rate)
    lost = data.draw(st.sets(st.integers(0, plan.count - 1), max_size=5))
    middle = data.draw(st.integers(0, plan.count))
    rows, errors = [], []
    for first, stop in ((0, middle), (middle, plan.count)):
        books = account(plan, CLOCK if timed else None, first, stop)
        for k in range(first, stop):
            dropped = plan.dropped and k == plan.count - 1
            reason = "tail" if dropped else "damaged" if k in lost else None
            books.book(k, reason, reason)
        books.finish()
        rows += books.coverage
        errors += books.errors
    assert rows[0]["from_s"] == 0 and rows[-1]["to_s"] == frames / rate
    assert all(a["to_s"] == b["from_s"] for a, b in itertools.pairwise(rows))
    assert sum(r["windows_expected"] for r in rows) == plan.count
    for r in rows:
        assert r["windows_expected"] == r["windows_scored"] + r["windows_skipped"]
        assert r["seconds_expected"] == pytest.approx(r["seconds_scored"] + r["seconds_skipped"])
        assert -1e-9 <= r["seconds_scored"] <= r["seconds_expected"] + 1e-9
        if not r["windows_skipped"]:
            assert math.isclose(r["seconds_scored"], r["seconds_expected"])
    assert sum(e["windows_lost"] for e in errors) == sum(r["windows_skipped"] for r in rows)
