import numpy as np
import pytest

from model.errors import UserError
from model.members import Members, plan_members

GROUPS = [f"g{i // 2}" for i in range(24)]
POSITIVES = np.ones((24, 2))
WINDOWS = np.full(24, 3)


def plan(**changes: float) -> Members:
    values = {"holdout": 0.0, "folds": 0, "validation": 0.25, "networks": 1, "seed": 5} | changes
    return plan_members(GROUPS, POSITIVES, WINDOWS, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("holdout", [0.0, 0.25])
def test_folds_share_all_but_the_holdout(holdout: float) -> None:
    members = plan(folds=3, holdout=holdout)
    held = members.holdout
    assert held.sum() == 24 * holdout and members.folds
    validated = np.sum([m.validation for m in members.networks], axis=0)
    np.testing.assert_array_equal(validated, ~held)
    for member in members.networks:
        np.testing.assert_array_equal(member.training, ~held & ~member.validation)
    assert [m.seed for m in members.networks] == [5, 6, 7]


def test_networks_of_one_split_share_it() -> None:
    members = plan(networks=2, holdout=0.25)
    first, second = members.networks
    np.testing.assert_array_equal(first.validation, second.validation)
    assert first.seed != second.seed
    assert not (first.validation & members.holdout).any()
    assert (first.training ^ first.validation ^ members.holdout).all()
    for part in (members.holdout, first.validation):
        for i in range(0, 24, 2):
            assert part[i] == part[i + 1]


def test_without_validation_all_train() -> None:
    (member,) = plan(validation=0.0).networks
    assert member.training.all() and not member.validation.any()


def test_more_folds_than_groups_outside_the_holdout() -> None:
    with pytest.raises(UserError, match="number of groups that training has \\(9\\)"):
        plan(folds=10, holdout=0.25)
