import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from model.errors import UserError
from model.windows import WindowPlan, WindowRule


def plan(frames: int, rate: int = 100, window: float = 1.0, hop: float = 1.0, tail: str = "pad"):
    return WindowPlan(WindowRule(window, hop, tail), frames, rate)


@pytest.mark.parametrize(
    ("frames", "count", "partial"),
    [(0, 0, False), (1, 1, True), (99, 1, True), (100, 1, False), (101, 2, True), (300, 3, False)],
)
def test_edges(frames: int, count: int, partial: bool) -> None:
    assert (plan(frames).count, plan(frames).partial) == (count, partial)


def test_tail_rules() -> None:
    assert (plan(250).start(2), plan(250).end(2)) == (200, 250)
    assert (plan(250, tail="shift").start(2), plan(250, tail="shift").end(2)) == (150, 250)
    assert plan(250, tail="drop").dropped and not plan(300, tail="drop").dropped
    assert (plan(50, tail="shift").start(0), plan(50, tail="shift").end(0)) == (0, 50)


def test_rounding_makes_no_window_without_samples() -> None:
    half_samples = plan(225, window=1.125, hop=1.125)
    assert list(half_samples.starts()) == [0, 112] and half_samples.end(1) == 224


@pytest.mark.parametrize(
    ("window", "hop"), [(0, 1), (1, 0), (1, 1e-9), (1, 2), (-1, -1), (float("inf"), 1)]
)
def test_bad_rules_are_refused(window: float, hop: float) -> None:
    with pytest.raises(UserError):
        WindowRule(window, hop)


@example(225, 100, 1.125, 1.0, "pad")
@given(
    st.integers(1, 50_000),
    st.sampled_from([100, 441, 22_050, 384_000]),
    st.floats(0.01, 10),
    st.floats(0.05, 1),
    st.sampled_from(["pad", "shift", "drop"]),
)
def test_every_sample_is_in_a_window(frames, rate, window, share, tail) -> None:
    hop = window * share
    assume(hop >= 0.001 and hop * rate >= 1)
    p = plan(frames, rate, window, hop, tail)
    starts = p.starts()
    assert len(starts) == p.count and starts[0] == 0
    assert (np.diff(starts) >= 0).all()
    ends = np.array([p.end(k) for k in range(p.count)])
    gap = 0 if float(window * rate).is_integer() else 1
    assert frames - gap <= ends[-1] <= frames and (starts < ends).all()
    assert (starts[1:] <= ends[:-1] + gap).all()
    if p.count > 1:
        assert starts[-2] + p.length < frames, "the window before the last one reached the end"


@given(st.integers(1, 5000), st.floats(0.1, 3), st.integers(0, 6000))
def test_first_from_splits_the_windows(frames: int, hop: float, sample: int) -> None:
    p = plan(frames, 100, 3.0, hop)
    k = p.first_from(sample)
    assert all(p.start(i) < sample for i in range(k))
    assert all(p.start(i) >= sample for i in range(k, p.count))


@example(225, 100, 1.125, 1.0, "pad")
@example(5000, 11_025, 0.125, 0.125, "shift")
@given(
    st.integers(1, 50_000),
    st.sampled_from([100, 441, 22_050, 384_000]),
    st.floats(0.01, 10),
    st.floats(0.05, 1),
    st.sampled_from(["pad", "shift", "drop"]),
)
def test_bounds_are_those_of_the_windows_to_a_sample(frames, rate, window, share, tail) -> None:
    hop = window * share
    assume(hop >= 0.001 and hop * rate >= 1)
    p = plan(frames, rate, window, hop, tail)
    starts, ends = p.bounds()
    assert starts.tolist() == [p.start(k) for k in range(p.count)]
    assert (abs(ends - [p.end(k) for k in range(p.count)]) <= 1).all()
    assert (np.diff(ends) >= 0).all() and ends[-1] == frames
    assert (starts[1:] <= ends[:-1]).all(), "rounding leaves no sample between windows"


@given(st.integers(2, 8), st.sampled_from([16_000, 22_050, 44_100, 11_025]), st.integers(1, 60))
def test_bounds_of_windows_that_are_whole_hops_meet(parts: int, rate: int, seconds: int) -> None:
    p = plan(seconds * rate + 7, rate, 1.0, 1.0 / parts)
    starts, ends = p.bounds()
    assert ends[:-parts].tolist() == starts[parts:].tolist()
