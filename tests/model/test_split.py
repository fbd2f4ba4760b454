import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from model.split import group_recordings, split_folds, split_groups

NAMES = ("hill/A_1.wav", "hill/B_2.wav", "dale/A_3.wav")
COLUMNS = {name: {"site": name[:4], "year": "2024"} for name in NAMES}


class TestGroups:
    def test_the_default_is_the_recording(self) -> None:
        assert group_recordings(NAMES, COLUMNS, None) == list(NAMES)

    def test_a_column(self) -> None:
        assert group_recordings(NAMES, COLUMNS, "site") == ["hill", "hill", "dale"]

    @pytest.mark.parametrize("pattern", [r"([AB])_\d", "[AB]"])
    def test_a_pattern(self, pattern: str) -> None:
        assert group_recordings(NAMES, {}, pattern) == ["A", "B", "A"]

    def test_what_groups_nothing_is_refused(self) -> None:
        partial = {NAMES[0]: {"site": "hill"}}
        with pytest.raises(UserError, match="column site has no value, or several, for hill/B"):
            group_recordings(NAMES, partial, "site")
        with pytest.raises(UserError, match=r"no column of the annotations \(site, year\).*hill/A"):
            group_recordings(NAMES, COLUMNS, "sight")
        with pytest.raises(UserError, match="no regular expression"):
            group_recordings(NAMES, {}, "(")


def split(groups: list[str], positives: list[list[int]], seed: int = 0) -> list[bool]:
    counts = np.array(positives, float)
    return split_groups(groups, counts, np.full(len(groups), 10), 0.2, seed).tolist()


def test_about_the_fraction_of_each_label_is_validation() -> None:
    rng = np.random.default_rng(0)
    positives = rng.poisson([3, 1, 0.2], (200, 3)).astype(float)
    groups = [str(i) for i in range(200)]
    chosen = split_groups(groups, positives, np.full(200, 10), 0.2, 7)
    share = positives[chosen].sum(axis=0) / positives.sum(axis=0)
    assert ((share > 0.1) & (share < 0.35)).all()
    assert 0.1 < chosen.mean() < 0.35


def test_a_seed_decides() -> None:
    groups = [str(i) for i in range(40)]
    positives = [[1, i % 2] for i in range(40)]
    assert split(groups, positives, 1) == split(groups, positives, 1)
    assert split(groups, positives, 1) != split(groups, positives, 2)


def test_a_label_of_one_group_stays_in_training() -> None:
    for seed in range(20):
        assert not split(["a", "b", "c", "d"], [[1, 5], [1, 0], [1, 0], [1, 0]], seed)[0]


def test_no_group_to_spare_is_refused() -> None:
    with pytest.raises(UserError, match="All recordings are in one group"):
        split(["a", "a"], [[1], [1]])
    with pytest.raises(UserError, match="No group can be spared"):
        split(["a", "b"], [[1, 0], [0, 1]])
    assert split(["a", "b"], [[1], [0]]) == [False, True]


@settings(max_examples=200)
@given(st.data())
def test_the_guarantees(data: st.DataObject) -> None:
    n = data.draw(st.integers(4, 20))
    n_labels = data.draw(st.integers(1, 4))
    groups = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=n, max_size=n))
    row = st.lists(st.integers(0, 3), min_size=n_labels, max_size=n_labels)
    positives = np.array(data.draw(st.lists(row, min_size=n, max_size=n)), float)
    try:
        chosen = split_groups(groups, positives, np.full(n, 10), 0.2, data.draw(st.integers(0, 9)))
    except UserError:
        return
    assert chosen.any() and not chosen.all()
    for group in set(groups):
        assert len({bool(c) for c, g in zip(chosen, groups, strict=True) if g == group}) == 1
    in_training = positives[~chosen].sum(axis=0)
    assert (in_training[positives.sum(axis=0) > 0] > 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(6, 40), st.integers(1, 4))
def test_folds_hold_whole_groups_and_every_recording_once(seed, folds, count, labels):
    rng = np.random.default_rng(seed)
    groups = [f"g{i % max(folds, count // 3)}" for i in range(count)]
    positives = rng.integers(0, 9, (count, labels)).astype(float)
    fold = split_folds(groups, positives, rng.integers(1, 30, count), folds, seed)
    assert set(fold) == set(range(folds))
    for name in set(groups):
        assert len({f for f, group in zip(fold, groups, strict=True) if group == name}) == 1


def test_folds_share_each_label_evenly():
    positives = np.repeat(np.eye(2), [20, 10], axis=0)
    groups = [str(i) for i in range(30)]
    fold = split_folds(groups, positives, np.ones(30, np.int64), 5, 3)
    for k in range(5):
        np.testing.assert_array_equal(positives[fold == k].sum(axis=0), [4, 2])


def test_as_many_groups_as_folds_are_the_folds():
    groups = ["b", "a", "c", "a"]
    fold = split_folds(groups, np.ones((4, 1)), np.ones(4, np.int64), 3, 1)
    assert list(fold) == [1, 0, 2, 0]


def test_more_folds_than_groups_are_refused():
    with pytest.raises(UserError, match="from 2 to the number of groups"):
        split_folds(["a", "b"], np.ones((2, 1)), np.ones(2, np.int64), 3, 1)
