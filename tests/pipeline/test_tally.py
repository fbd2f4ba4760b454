"""The numbers of a shard: those of its tables, in whatever pieces they come."""

import json
import random
from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tally import Tally

SECONDS = st.floats(0, 900, allow_nan=False)
COVERAGE = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90), SECONDS, SECONDS), max_size=9)
LOSSES = st.one_of(st.none(), SECONDS)
ERRORS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["damaged", "silent"]), LOSSES), max_size=9
)
LABELS = st.lists(st.sampled_from(["wren", "robin", "ünï"]), max_size=20)


def coverage(rows: list[tuple[int, int, float, float]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ((),) * 4
    names = ("windows_expected", "windows_scored", "seconds_expected", "seconds_scored")
    kinds = (pa.int32(), pa.int32(), pa.float64(), pa.float64())
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def errors(rows: list[tuple[str, str, float | None]]) -> pa.Table:
    return pa.table(
        {
            "recording": pa.array([row[0] for row in rows], pa.string()),
            "reason": pa.array([row[1] for row in rows], pa.string()),
            "from_s": pa.array([None if row[2] is None else 0.0 for row in rows], pa.float64()),
            "to_s": pa.array([row[2] for row in rows], pa.float64()),
            "windows_lost": pa.array([2 for _ in rows], pa.int32()),
        }
    )


def pieces(table: pa.Table, chance: random.Random) -> list[pa.Table]:
    at = sorted(chance.randint(0, table.num_rows) for _ in range(3))
    bounds = [0, *at, table.num_rows]
    return [table.slice(a, b - a) for a, b in pairwise(bounds) if b > a]


@given(COVERAGE, ERRORS, LABELS, st.randoms(use_true_random=False))
def test_pieces_make_the_whole(
    covered: list[tuple[int, int, float, float]],
    lost: list[tuple[str, str, float | None]],
    labels: list[str],
    chance: random.Random,
) -> None:
    lost = sorted(lost, key=lambda row: row[0])
    tables = {
        "coverage": coverage(covered),
        "errors": errors(lost),
        "predictions": pa.table({"label": pa.array(labels, pa.string())}),
    }
    tallies = []
    for _ in range(2):
        tally = Tally()
        for name, table in tables.items():
            for piece in pieces(table, chance):
                tally.add(name, piece)
        tallies.append(tally)
    one, other = tallies
    assert one.to_json() == other.to_json()
    assert Tally.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert one.windows_expected == sum(row[0] for row in covered)
    assert one.scored_us == sum(round(row[3] * 1e6) for row in covered)
    assert one.labels == {label: labels.count(label) for label in set(labels)}
    for reason, (recordings, windows, _) in one.errors.items():
        assert recordings == len({row[0] for row in lost if row[1] == reason})
        assert windows == 2 * sum(row[1] == reason for row in lost)
    twice = Tally()
    twice.add_json(one.to_json())
    twice.add_json(other.to_json())
    assert twice.windows_expected == 2 * one.windows_expected
    assert twice.labels == {label: 2 * count for label, count in one.labels.items()}
