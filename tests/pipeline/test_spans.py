import itertools
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from model.windows import WindowRule
from pipeline.recording import Place, Recording
from pipeline.shard_key import choose_slot_hours, dated, key_of, undated
from pipeline.spans import hours_of, spans_of, window_plan

CLOCK = datetime(2024, 6, 1, 23, 59, 30)


def recording(frames: int, rate: int = 100) -> Recording:
    facts = {"frames": frames, "sample_rate": rate, "duration_s": frames / rate}
    return Recording("a/x.wav", "/a/x.wav", version="1-a", **facts)


def place(clock: datetime | None) -> Place:
    return Place("Ridge", clock, None, "name" if clock else None)


def test_cut_at_midnight() -> None:
    spans = list(spans_of(recording(9000), place(CLOCK), WindowRule(8, 8), 1))
    assert [(s.key.date, s.key.slot, s.first, s.stop) for s in spans] == [
        ("2024-06-01", 23, 0, 4),
        ("2024-06-02", 0, 4, 12),
    ]


def test_a_window_at_the_boundary_belongs_to_what_begins() -> None:
    spans = list(spans_of(recording(6000), place(CLOCK), WindowRule(10, 10), 24))
    assert [(s.key.date, s.first, s.stop) for s in spans] == [
        ("2024-06-01", 0, 3),
        ("2024-06-02", 3, 6),
    ]


@given(
    st.integers(1, 5_000_000),
    st.sampled_from([100, 441]),
    st.floats(0.5, 500),
    st.floats(0.1, 1),
    st.sampled_from(["pad", "shift", "drop"]),
    st.sampled_from([1, 6, 24]),
    st.integers(0, 86_400_000_000 - 1),
)
def test_every_window_is_in_one_span_of_its_own_slot(
    frames, rate, window, share, tail, hours, micros
) -> None:
    rule = WindowRule(window, window * share, tail)
    clock = datetime(2024, 6, 1) + timedelta(microseconds=micros)
    found = recording(frames, rate)
    spans = list(spans_of(found, place(clock), rule, hours))
    plan = window_plan(found, rule)
    assert spans[0].first == 0 and spans[-1].stop == plan.count
    assert all(a.stop == b.first for a, b in itertools.pairwise(spans))
    assert len({s.key for s in spans}) == len(spans)
    for span in spans:
        for k in {span.first, span.stop - 1}:
            start = span.place.clock_at(plan.start(k) / rate)
            assert start is not None and dated("Ridge", start, hours) == span.key


def test_without_a_time() -> None:
    (span,) = spans_of(recording(9000), place(None), WindowRule(8, 8), 1)
    assert span.key == undated("Ridge", "a/x.wav") and span.key.date == ""
    assert (span.first, span.stop) == (0, 12)


def test_unreadable_recordings_have_a_span_without_windows() -> None:
    broken = Recording("x.wav", "/x.wav", reason="damaged", message="no")
    (span,) = spans_of(broken, place(CLOCK), WindowRule(8, 8), 6)
    assert (span.key.slot, span.first, span.stop) == (18, 0, 0)


def test_keys_and_paths() -> None:
    for key in (dated("a b/ü=%", CLOCK, 6), undated("007", "x.wav")):
        assert key_of(key.path) == key
    assert dated("S", CLOCK, 1).path == "site=S/date=2024-06-01/part-23.parquet"
    assert undated("S", "x").path.startswith("site=S/date=__HIVE_DEFAULT_PARTITION__/part-u")
    assert [choose_slot_hours(n) for n in (0, 499, 500, 49_999, 50_000)] == [1, 1, 6, 6, 24]


def test_hours_that_hold_audio() -> None:
    assert len(list(hours_of(recording(3000), place(CLOCK)))) == 1
    assert len(list(hours_of(recording(3001), place(CLOCK)))) == 2
    assert not list(hours_of(recording(3000), place(None)))
