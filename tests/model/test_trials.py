from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from model.search_space import Choice, Range, SearchSpace
from model.trials import Trial, Trials, is_hopeless, ranked, suggest

SPACE = SearchSpace((Choice("kernel", ("3", "5")), Range("mixup", 0.0, 1.0)))
START = {"kernel": 0.0, "mixup": 0.5}


def test_trial_0_is_the_default_and_each_is_claimed_once(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    with trials.claim(SPACE, START, 1, 3) as first, trials.claim(SPACE, START, 1, 3) as second:
        assert first == Trial(0, START, {})
        assert second is not None and second.number == 1
    # Neither was finished: both are left, and taken again as they were.
    with trials.claim(SPACE, START, 1, 3) as again, trials.claim(SPACE, START, 1, 3) as other:
        assert (again, other) == (first, second)
        with trials.claim(SPACE, START, 1, 2) as none:
            assert none is None


def test_refused_trials_do_not_count(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    for _ in range(3):
        with trials.claim(SPACE, START, 1, 1) as trial:
            assert trial is not None
            trials.write(Trial(trial.number, trial.point, trial.values, "refused"))
    assert len(trials.read()) == 3


def test_suggestions_follow_from_seed_and_trials_and_learn() -> None:
    known = []
    for i in range(40):
        point = suggest(SPACE, known, i)
        assert suggest(SPACE, known, i) == point
        loss = abs(point["mixup"] - 0.8) + point["kernel"]
        known.append(Trial(i, point, SPACE.values(point), "finished", loss))
    losses = [trial.loss or 0.0 for trial in known]
    # Drawn at random they are 0.8 on average.
    assert sum(losses[20:]) / 20 < 0.5


def test_failed_trials_are_no_reason_to_stop() -> None:
    known = [Trial(i, {"kernel": 1.0, "mixup": 0.5}, {}, "failed") for i in range(12)]
    assert set(suggest(SPACE, known, 3)) == {"kernel", "mixup"}


def test_the_rank_is_by_loss_and_stopped_ones_come_last() -> None:
    trials = [
        Trial(0, None, {}, "finished", 0.3),
        Trial(1, None, {}, "stopped", 0.1),
        Trial(2, None, {}, "failed"),
        Trial(3, None, {}, "finished", 0.2),
    ]
    assert [trial.number for trial in ranked(trials)] == [3, 0, 1]


def test_hopeless_is_worse_than_the_median_of_the_others() -> None:
    others = [[0.9, 0.5, 0.1], [0.9, 0.6, 0.2], [0.9, 0.7, 0.3]]
    assert not is_hopeless([0.9, 0.61], others, 3)
    assert is_hopeless([0.9, 0.61], others, 2)
    assert not is_hopeless([0.9, 0.6], others, 2)
    assert not is_hopeless([0.9, 0.9], others[:2], 1)
    # Two that were stopped count too: better than they is enough, also late.
    assert not is_hopeless([0.9, 0.5, 0.25], [[0.9, 0.8], [0.9, 0.7], [0.9, 0.5, 0.1]], 1)
    assert is_hopeless([0.9, 0.9, 0.75], [[0.9, 0.8], [0.9, 0.7], [0.9, 0.5, 0.1]], 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_what_is_as_good_as_the_others_is_never_stopped(course: list[float]) -> None:
    assert not is_hopeless(course, [course] * 5, 1)
