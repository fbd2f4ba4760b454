from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from model.annotations import Annotation, AnnotationSet
from model.bundle_document import Task
from model.errors import UserError
from model.examples import compute_examples, label_windows, plan_examples
from model.frontend import FrontEnd, LogMel
from model.windows import WindowRule

RATE = 8000
FRONT_END = FrontEnd(sample_rate=RATE, window_s=1.0, n_fft=256, hop_length=200, n_mels=16)


def annotation(start: float | None, end: float | None, label: str = "a") -> Annotation:
    return Annotation("x.wav", start, end, label)


def states(annotations: Sequence[Annotation], n: int = 4, hop: float = 1.0) -> list[Any]:
    """Of label a in windows of 1 s: 1 positive, 0 negative, None masked."""
    starts = np.arange(n) * hop
    targets, mask = label_windows(starts, starts + 1, 1.0, annotations, ["a"])
    return [
        int(t) if m else None
        for t, m in zip(targets[:, 0].tolist(), mask[:, 0].tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (1.0, 2.0, [0, 1, 0, 0]),
        (1.2, 1.3, [0, 1, 0, 0]),
        # Half of the window, exactly; then a little less on one side.
        (1.5, 2.5, [0, 1, 1, 0]),
        (1.51, 2.6, [0, None, 1, 0]),
        (1.5, 3.4, [0, 1, 1, None]),
        # Half of a short annotation, exactly; then less.
        (1.9, 2.1, [0, 1, 1, 0]),
        (1.9, 2.2, [0, None, 1, 0]),
        # A window that only touches is a negative.
        (0.5, 1.0, [1, 0, 0, 0]),
        (0.0, 9.0, [1, 1, 1, 1]),
    ],
)
def test_half_of_the_shorter_one_is_positive_and_less_is_masked(
    start: float, end: float, expected: list[Any]
) -> None:
    assert states([annotation(start, end)]) == expected


def test_a_positive_window_is_not_masked_by_another_annotation() -> None:
    brief, long = annotation(1.0, 1.2), annotation(1.9, 3.0)
    assert states([brief]) == [0, 1, 0, 0]
    assert states([long]) == [0, None, 1, 0]
    for order in ([brief, long], [long, brief]):
        assert states(order) == [0, 1, 1, 0]


def test_overlapping_windows() -> None:
    assert states([annotation(1.0, 2.0)], n=7, hop=0.5) == [0, 1, 1, 1, 0, 0, 0]
    assert states([annotation(1.25, 2.25)], n=7, hop=0.5) == [0, None, 1, 1, None, 0, 0]


def test_labels_do_not_mask_each_other() -> None:
    starts = np.arange(3.0)
    found = [annotation(0.9, 2.0, "a"), annotation(0.0, 1.0, "b"), annotation(None, None, "c")]
    targets, mask = label_windows(starts, starts + 1, 1.0, found, ["a", "b", "c"])
    np.testing.assert_array_equal(targets, [[0, 1, 1], [1, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(mask, [[0, 1, 1], [1, 1, 1], [1, 1, 1]])


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 400)), max_size=6),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_the_rule_by_its_definition(spans: list[tuple[int, int]], hop: float) -> None:
    found = [annotation(a / 100, (a + length) / 100) for a, length in spans]
    starts = np.arange(0, 10, hop)
    targets, mask = label_windows(starts, starts + 1, 1.0, found, ["a"])
    for i, start in enumerate(starts):
        # In hundredths, which are whole numbers.
        first, last = round(start * 100), round(start * 100) + 100
        overlaps = [
            (max(0, min(last, a + length) - max(first, a)), min(length, 100)) for a, length in spans
        ]
        positive = any(overlap and 2 * overlap >= shorter for overlap, shorter in overlaps)
        touched = any(overlap for overlap, _ in overlaps)
        assert targets[i, 0] == positive
        assert mask[i, 0] == (positive or not touched)


def write(folder: Path, name: str, seconds: float, rate: int = RATE) -> str:
    sound = np.random.default_rng(len(name)).normal(0, 0.1, round(seconds * rate))
    soundfile.write(folder / name, sound.astype(np.float32), rate, subtype="FLOAT")
    return name


def annotated(
    annotations: Sequence[Annotation], extra: Sequence[str] = (), task: Task = "multilabel"
) -> AnnotationSet:
    recordings = sorted({a.recording for a in annotations} | set(extra))
    return AnnotationSet(tuple(recordings), tuple(annotations), {}, task)


RULE = WindowRule(1.0, 1.0)


def test_windows_without_label_are_negatives(tmp_path: Path) -> None:
    write(tmp_path, "x.wav", 2.3)
    write(tmp_path, "empty.wav", 1.0)
    plan = plan_examples(tmp_path, annotated([annotation(1, 2)], ["empty.wav"]), RULE, "multilabel")
    found = {w.recording: w.targets[:, 0].tolist() for w in plan.windows}
    assert found == {"x.wav": [0, 1, 0], "empty.wav": [0]}


def test_short_tails_of_whole_clips_are_left_out(tmp_path: Path) -> None:
    for name, seconds in (("long.wav", 2.4), ("half.wav", 2.5), ("short.wav", 0.2)):
        write(tmp_path, name, seconds)
    clips = [Annotation(n, None, None, "a") for n in ("long.wav", "half.wav", "short.wav")]
    plan = plan_examples(tmp_path, annotated(clips), RULE, "multilabel")
    assert {w.recording: w.numbers.tolist() for w in plan.windows} == {
        "long.wav": [0, 1],
        "half.wav": [0, 1, 2],
        "short.wav": [0],
    }
    (warning,) = plan.warnings
    assert warning.startswith(
        "1 annotated recordings are shorter than a window of 1 s (the first: s"
    )


def test_labels_outside_the_audio_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "x.wav", 2.0)
    found = [annotation(0, 1), annotation(2, 3), annotation(5, 6), annotation(1.5, 2.04)]
    found += [annotation(1, 3), annotation(7, 8, "gone")]
    plan = plan_examples(tmp_path, annotated(found), RULE, "multilabel")
    assert plan.labels == ("a",)
    kinds = [warning.partition(" (")[0] for warning in plan.warnings]
    assert kinds == [
        "3 labels lie outside the audio and were left out",
        "1 labels end after the audio and were cut",
        "1 labels are in no window and were left out",
    ]
    assert "a at 2 to 3 s of x.wav, which lasts 2 s" in plan.warnings[0]


def test_unreadable_recordings_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "x.wav", 2.0)
    write(tmp_path, "none.wav", 0)
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    found = [Annotation(name, 0, 1, "a") for name in ("x.wav", "bad.wav", "gone.wav", "none.wav")]
    plan = plan_examples(tmp_path, annotated(found), RULE, "multilabel")
    assert [w.recording for w in plan.windows] == ["x.wav"]
    assert plan.warnings[0].startswith("2 annotated recordings cannot be read")
    assert plan.warnings[1].startswith("1 annotated recordings hold no sound")


def test_a_single_label_task_has_one_label_a_window(tmp_path: Path) -> None:
    write(tmp_path, "x.wav", 4.0)
    found = [annotation(0, 1, "a"), annotation(2, 3, "b"), annotation(3, 4, "a")]
    found += [annotation(3, 4, "b")]
    plan = plan_examples(tmp_path, annotated(found), RULE, "singlelabel")
    (windows,) = plan.windows
    assert windows.numbers.tolist() == [0, 2]
    assert windows.targets.tolist() == [[1, 0], [0, 1]]
    assert [warning.partition(" (")[0] for warning in plan.warnings] == [
        "1 windows with several labels were left out of a single-label task",
        "1 windows with no label were left out of a single-label task",
    ]
    with pytest.raises(UserError, match="needs two labels"):
        plan_examples(tmp_path, annotated([annotation(0, 1)]), RULE, "singlelabel")


def test_spectrograms_are_those_of_the_windows(tmp_path: Path) -> None:
    # 150 windows: more than two batches, with an incomplete one at the end.
    write(tmp_path, "x.wav", 150)
    write(tmp_path, "fast.wav", 3, 2 * RATE)
    found = [annotation(10, 11), Annotation("fast.wav", 0, 1, "b")]
    plan = plan_examples(tmp_path, annotated(found), RULE, "multilabel")
    examples = compute_examples(tmp_path, plan, FRONT_END, tmp_path, show_progress=False)
    assert examples.inputs.shape == (153, 16, 41)
    assert examples.recordings.tolist() == [0] * 3 + [1] * 150
    assert np.flatnonzero(examples.targets[:, 0]).tolist() == [13]
    assert np.flatnonzero(examples.targets[:, 1]).tolist() == [0]
    sound, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    expected = LogMel(FRONT_END)(sound.reshape(150, RATE))
    found_levels = LogMel(FRONT_END).referenced(np.array(examples.inputs[3:]))
    np.testing.assert_allclose(found_levels, expected, atol=1e-4)
    mean, variance = examples.moments(np.arange(3, 153), FRONT_END)
    assert mean == pytest.approx(expected.mean(), abs=1e-3)
    assert variance == pytest.approx(expected.var(), rel=1e-4)


def test_silent_windows_are_left_out_and_counted(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
    sound[RATE : 2 * RATE] = 0
    soundfile.write(tmp_path / "x.wav", sound, RATE)
    plan = plan_examples(tmp_path, annotated([annotation(2, 3)]), RULE, "multilabel")
    examples = compute_examples(tmp_path, plan, FRONT_END, tmp_path, show_progress=False)
    assert examples.targets[:, 0].tolist() == [0, 0, 1]
    assert examples.usable.tolist() == [True, False, True]
    (warning,) = examples.warnings
    assert warning.startswith("1 windows are silent or cannot be decoded")
