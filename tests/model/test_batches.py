from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.batches import ordered_batches, split_batches, training_batches
from model.examples import Examples


def examples_of(count: int) -> Examples:
    numbers = np.arange(count, dtype=np.float32)
    return Examples(
        labels=("a",),
        task="multilabel",
        inputs=np.tile(numbers[:, None, None], (1, 2, 3)),
        targets=numbers[:, None] + 0.25,
        mask=numbers[:, None] + 0.5,
        recordings=np.arange(count),
        usable=np.ones(count, bool),
    )


def same(inputs: Any, targets: Any, mask: Any, seed: Any) -> Any:
    return inputs, targets, mask


def seeds(inputs: Any, targets: Any, mask: Any, seed: Any) -> Any:
    return inputs, targets, seed


def rows_of(dataset: Any) -> list[list[int]]:
    found = []
    for inputs, targets, mask in dataset:
        numbers = inputs[:, 0, 0].numpy()
        np.testing.assert_array_equal(targets[:, 0], numbers + 0.25)
        np.testing.assert_array_equal(mask[:, 0], numbers + 0.5)
        found.append([int(number) for number in numbers])
    return found


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_each_epoch_has_every_row_once(count: int, size: int, seed: int) -> None:
    examples, rows = examples_of(count + 3), np.arange(3, count + 3)
    steps = len(split_batches(rows, size))
    found = rows_of(training_batches(examples, rows, size, same, seed=seed, epochs=2))
    assert len(found) == 2 * steps and max(map(len, found)) <= size
    for epoch in (found[:steps], found[steps:]):
        assert sorted(chain(*epoch)) == list(rows)
    later = training_batches(examples, rows, size, same, seed=seed, epochs=2, first_epoch=1)
    assert rows_of(later) == found[steps:]


def test_order_and_draws_follow_from_the_seed_and_the_batch() -> None:
    examples, rows = examples_of(20), np.arange(20)
    one, again, other = (
        rows_of(training_batches(examples, rows, 4, same, seed=seed, epochs=3))
        for seed in (1, 1, 2)
    )
    assert one == again != other
    assert one[:5] != one[5:10]
    drawn = [
        tuple(seed.numpy())
        for _, _, seed in training_batches(examples, rows, 4, seeds, seed=7, epochs=2)
    ]
    assert len(set(drawn)) == 10 and {first for first, _ in drawn} == {7}


@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_ordered_batches_keep_the_order(size: int) -> None:
    rows = np.array([4, 2, 9, 0, 7])
    found = rows_of(ordered_batches(examples_of(10), rows, size, same))
    assert list(chain(*found)) == list(rows)
