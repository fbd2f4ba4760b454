import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from model.stages import take_times, timed


def test_times_add_up_until_they_are_taken() -> None:
    take_times()
    for _ in range(2):
        with timed("decode"):
            time.sleep(0.01)
    with timed("write"):
        pass
    times = take_times()
    assert list(times) == ["decode", "write"]
    assert times["decode"] >= 0.02 > times["write"] >= 0
    assert take_times() == {}


def test_the_time_before_an_error_counts() -> None:
    take_times()
    with pytest.raises(ValueError), timed("decode"):
        time.sleep(0.01)
        raise ValueError
    assert take_times()["decode"] >= 0.01


def test_each_thread_has_its_own() -> None:
    take_times()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(time.sleep, 0).result()
        with timed("decode"):
            pass
        assert thread.submit(take_times).result() == {}
    assert list(take_times()) == ["decode"]
