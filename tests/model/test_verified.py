from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from model.tables import read_table
from model.threshold_facts import Goal
from model.thresholds import measure
from model.verified import (
    EDGES,
    Verified,
    bin_of,
    choose_verified,
    parse_verified,
    sample,
    weigh_by_bin,
)

HEADER = "recording,start,end,label,verdict"


def parse(tmp_path: Path, *lines: str, header: str = HEADER) -> Any:
    (tmp_path / "t.csv").write_text("\n".join([header, *lines]))
    return parse_verified(read_table(tmp_path / "t.csv"), ["wren", "robin"])


@pytest.mark.parametrize(
    ("word", "right"),
    [("right", True), ("Wrong", False), ("1", True), ("0", False), ("TRUE", True)]
    + [("false", False), ("yes", True), ("no", False)],
)
def test_verdicts(tmp_path: Path, word: str, right: bool) -> None:
    (one,), waiting = parse(tmp_path, f"a/b.wav,3,6,wren,{word}")
    assert (one.recording, one.start_s, one.end_s, one.label) == ("a/b.wav", 3, 6, "wren")
    assert (one.right, one.score, one.weight, one.channel, waiting) == (right, None, None, None, 0)


def test_further_columns_and_rows_without_a_verdict(tmp_path: Path) -> None:
    found, waiting = parse(
        tmp_path,
        "0.5,1,a.wav,0,3,wren,right,0.25,first",
        "0.5,,a.wav,3,6,wren,,0.25,",
        "0.75,,a.wav,6,9,robin,wrong,1,",
        "0.5,1,a.wav,0,3,wren,right,0.25,again",
        header="score,channel,file,start_s,end_s,label,verdict,probability,note",
    )
    assert waiting == 1
    assert [(x.label, x.score, x.weight, x.channel) for x in found] == [
        ("wren", 0.5, 4, 1),
        ("robin", 0.75, 1, None),
    ]
    ((one,), _) = parse(tmp_path, "a.wav,0,3,wren,1,7", header=f"{HEADER},weight")
    assert one.weight == 7


def test_verdicts_stand_for_what_was_drawn_with_them(tmp_path: Path) -> None:
    """Of a stratum of 30 detections three were drawn, of which two have a verdict: 15 each."""
    found, waiting = parse(
        tmp_path,
        *("a.wav,0,3,wren,right,10,low", "a.wav,3,6,wren,,10,low", "a.wav,6,9,wren,wrong,10,low"),
        "a.wav,6,9,wren,wrong,10,low",
        *("b.wav,0,3,wren,right,2,high", "b.wav,0,3,robin,right,4,low", "b.wav,3,6,robin,,4,high"),
        header=f"{HEADER},weight,stratum",
    )
    assert waiting == 2
    assert [(x.label, x.start_s, x.weight) for x in found] == [
        ("wren", 0, 15),
        ("wren", 6, 15),
        ("wren", 0, 2),
        ("robin", 0, 4),
    ]


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("recording,start,end,label", [], "no column verdict"),
        (HEADER, [], "no verdict"),
        (HEADER, ["a.wav,0,3,wren,"], "no verdict"),
        (HEADER, ["a.wav,0,3,wren,maybe"], "line 2: the verdict is 'maybe'"),
        (HEADER, ["a.wav,0,3,owl,right"], "no label 'owl'; its labels are wren, robin"),
        (HEADER, ["a.wav,x,3,wren,right"], "start is 'x'"),
        (HEADER, ["a.wav,0,nan,wren,right"], "end is 'nan'"),
        (HEADER, ["a.wav,0,3,wren,right", "a.wav,0.0001,3,wren,wrong"], "line 3 contradicts .*2"),
        (f"{HEADER},weight", ["a.wav,0,3,wren,right,0"], "weight is '0'"),
        (f"{HEADER},weight", ["a.wav,0,3,wren,right,"], "weight is ''"),
        (f"{HEADER},probability", ["a.wav,0,3,wren,right,1.5"], "probability is '1.5'"),
        (f"{HEADER},score", ["a.wav,0,3,wren,right,2"], "score is '2'"),
        (f"{HEADER},channel", ["a.wav,0,3,wren,right,0.5"], "channel is '0.5'"),
        (f"{HEADER},weight,probability", ["a.wav,0,3,wren,right,1,1"], "a weight and a prob"),
    ],
)
def test_tables_that_do_not_tell_are_refused(
    tmp_path: Path, header: str, lines: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        parse(tmp_path, *lines, header=header)


def test_bins_hold_their_lower_edge() -> None:
    scores = np.array([0, 0.0999, 0.1, 0.55, 0.9, 1], np.float32)
    assert bin_of(scores, EDGES).tolist() == [0, 0, 1, 5, 9, 9]
    assert bin_of(scores, ()).tolist() == [0] * 6


def test_weights_by_bin() -> None:
    scores = np.array([0.3, 0.35, 0.75], np.float32)
    # Bins from 0, 0.25, 0.5, 0.7 and 0.9: nothing verified in the first, third and last.
    weights, strata, lowest = weigh_by_bin(
        scores, np.array([900, 40, 20, 6, 2]), (0.25, 0.5, 0.7, 0.9)
    )
    assert weights.tolist() == [30, 30, 8] and lowest == 0.25
    assert strata[0] == strata[1] != strata[2]
    weights, _, lowest = weigh_by_bin(scores[:1], np.array([5]), ())
    assert weights.tolist() == [5] and lowest == 0


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=10).filter(
        lambda bins: any(n and k for n, k in bins)
    )
)
def test_weights_add_up_to_the_dataset_from_the_lowest_score_on(
    bins: list[tuple[int, int]],
) -> None:
    counts = np.array([n for n, _ in bins])
    edges = tuple((i + 1) / len(bins) for i in range(len(bins) - 1))
    verified = np.repeat(np.arange(len(bins)), [min(n, k) for n, k in bins])
    scores = ((verified + 0.5) / len(bins)).astype(np.float32)
    weights, _, lowest = weigh_by_bin(scores, counts, edges)
    assert weights.sum() == pytest.approx(counts[verified.min() :].sum())
    assert lowest == pytest.approx(verified.min() / len(bins))


def archive(seed: int) -> tuple[Any, Any]:
    """Scores and truth of 100,000 detections, most of them low and wrong."""
    rng = np.random.default_rng(seed)
    scores = (0.1 + 0.9 * rng.beta(0.7, 2.5, 100_000)).astype(np.float32)
    return scores, rng.random(len(scores)) < scores**2


def check(scores: Any, truth: Any, rows: Any) -> Any:
    """The sample of verified rows of an archive of one label."""
    verified = [
        Verified("", "", None, i, i + 1, "x", bool(truth[i]), None, None) for i in rows.tolist()
    ]
    counts = {"x": np.bincount(bin_of(scores, EDGES), minlength=10)}
    return sample(verified, scores[rows], counts, EDGES, 0.1)["x"]


def test_strata_recover_the_true_precision_where_most_checks_came_from_high_scores() -> None:
    naive, errors, held = [], [], 0
    for seed in range(40):
        scores, truth = archive(seed)
        rng = np.random.default_rng(1000 + seed)
        bins = bin_of(scores, EDGES)
        high, low = np.flatnonzero(bins >= 7), np.flatnonzero(bins < 7)
        per_bin = [rng.choice(np.flatnonzero(bins == b), 10, replace=False) for b in range(1, 7)]
        rows = np.concatenate([rng.choice(high, 540, replace=False), *per_bin])
        assert len(rows) == 600 and np.isin(rows, low).sum() == 60
        checked = check(scores, truth, rows)
        facts = measure(checked, 0.3, reached=True)
        true = truth[scores >= np.float32(0.3)].mean()
        errors.append((facts.precision or 0) - true)
        naive.append(truth[rows][scores[rows] >= np.float32(0.3)].mean() - true)
        low_bound, high_bound = facts.precision_interval or (0, 0)
        held += low_bound <= true <= high_bound
    assert abs(np.mean(errors)) < 0.02
    assert min(naive) > 0.2  # What the same checks say without weights.
    assert held >= 36


def test_a_goal_is_met_in_the_dataset() -> None:
    scores, truth = archive(0)
    bins = bin_of(scores, EDGES)
    rng = np.random.default_rng(1)
    rows = np.concatenate(
        [rng.choice(np.flatnonzero(bins == b), 100, replace=False) for b in range(1, 10)]
    )
    samples = {"x": check(scores, truth, rows)}
    thresholds, facts = choose_verified(samples, {"x": 0.5, "y": 0.4}, Goal("precision", 0.6))
    called = scores >= np.float32(thresholds["x"])
    assert truth[called].mean() == pytest.approx(0.6, abs=0.06)
    assert facts.labels["x"].recall == pytest.approx(called[truth].mean(), abs=0.06)
    assert facts.labels["x"].prevalence == pytest.approx(truth.mean(), abs=0.03)
    assert facts.labels["x"].windows == 900 and facts.calibrated
    assert thresholds["y"] == 0.4 and facts.labels["y"].windows == 0


def test_verdicts_that_are_all_alike_change_no_threshold() -> None:
    scores, truth = archive(0)
    samples = {"x": check(scores, truth, np.flatnonzero(truth)[:20])}
    thresholds, facts = choose_verified(samples, {"x": 0.37}, Goal())
    assert thresholds == {"x": 0.37} and not facts.labels["x"].reached
    assert facts.labels["x"].precision == 1


def test_weights_of_the_table_count() -> None:
    verified = [
        Verified("", "a", None, i, i + 1, "x", right, score, weight)
        for i, (right, score, weight) in enumerate([(True, 0.9, 1.0), (False, 0.4, 9.0)])
    ]
    checked = sample(verified, np.array([0.9, 0.4], np.float32), None)["x"]
    facts = measure(checked, 0.2, reached=True)
    assert facts.precision == 0.1 and checked.lowest == pytest.approx(0.4)
