"""Marks of reviewers: what stands, what is on the disk, and what they add up to."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.errors import UserError
from pipeline.marks import (
    VERDICTS,
    Detection,
    Mark,
    MarkLog,
    Marks,
    agreements,
    outcome_of,
)

DETECTIONS = [
    Detection("A/20240601_050000.wav", None, 0.0, 1.0, "wren"),
    Detection("A/20240601_050000.wav", None, 0.0, 1.0, "robin"),
    Detection("böse #1/\n'x'.wav", 1, 3.2, 4.2, "=wren"),
]
WREN = DETECTIONS[0]
comments = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)
texts = st.one_of(st.just(""), comments)
steps = st.lists(
    st.tuples(
        st.sampled_from(["anna", "ben", "Zoë 🐦"]),
        st.sampled_from([None, *VERDICTS, "other", "undo"]),
        st.sampled_from(DETECTIONS),
        texts,
    ),
    max_size=25,
)


def do(log: MarkLog, step: tuple[str, Any, Detection, str]) -> None:
    reviewer, what, detection, comment = step
    if what == "undo":
        log.undo(reviewer, DETECTIONS)
    elif what == "other":
        log.add(Mark(detection, reviewer, "wrong", "nightjar", comment))
    else:
        log.add(Mark(detection, reviewer, what, "", comment))


def state(log: MarkLog) -> dict[str, dict[Detection, Mark]]:
    return {name: log.marks.of(name) for name in log.marks.reviewers()}


def undone(path: Path) -> list[Mark]:
    """All that can be taken back, from the last one on."""
    log, found = MarkLog(path), []
    for name in log.marks.reviewers():
        while (mark := log.undo(name, DETECTIONS)) is not None:
            found.append(mark)
    log.close()
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps, data=st.data())
def test_what_was_confirmed_is_read_again_whatever_was_torn(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[Any], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("log") / "marks.jsonl"
    log, before, size = MarkLog(path), {}, 0
    for step in steps:
        before, size = state(log), path.stat().st_size
        do(log, step)
    expected = state(log)
    log.close()
    # The log opened again says the same, and so do its undos.
    again = MarkLog(path)
    assert state(again) == expected
    again.close()
    # A power cut in the middle of the last line takes back that line and nothing else.
    content = path.read_bytes()
    if len(content) > size:
        kept = data.draw(st.integers(size, len(content) - 1))
        path.write_bytes(content[:kept] + data.draw(st.sampled_from([b"", b"\0\0\0"])))
        torn = MarkLog(path)
        whole = path.read_bytes() == content
        assert state(torn) == (expected if whole else before)
        # What is written after it stands.
        mark = Mark(WREN, "carl", "unsure", comment="after")
        torn.add(mark)
        torn.close()
        more = MarkLog(path)
        assert more.marks.of("carl") == {WREN: mark}
        more.close()
    marks = undone(path)
    assert {mark.reviewer for mark in marks} <= {"anna", "ben", "Zoë 🐦", "carl"}
    final = MarkLog(path)
    assert not final.marks.reviewers()
    final.close()


def test_undo_goes_back_mark_by_mark_and_only_ones_own(tmp_path: Path) -> None:
    log = MarkLog(tmp_path / "marks.jsonl")
    log.add(Mark(WREN, "anna", "right"))
    log.add(Mark(WREN, "ben", "unsure"))
    log.add(Mark(DETECTIONS[1], "anna", "wrong"))
    log.add(Mark(WREN, "anna", "wrong", "robin"))
    said = []
    while (mark := log.undo("anna", DETECTIONS)) is not None:
        standing = log.marks.of("anna").get(mark.detection)
        said.append((mark.detection.label, mark.verdict, standing and standing.verdict))
    assert said == [("wren", "wrong", "right"), ("robin", "wrong", None), ("wren", "right", None)]
    assert log.marks.of("ben")[WREN].verdict == "unsure"
    # Of detections that are not shown nothing is taken back.
    assert log.undo("ben", DETECTIONS[1:]) is None
    log.close()


def test_to_say_the_same_again_is_no_mark(tmp_path: Path) -> None:
    log = MarkLog(tmp_path / "marks.jsonl")
    for _ in range(3):
        log.add(Mark(WREN, "anna", "right"))
    assert len((tmp_path / "marks.jsonl").read_text().splitlines()) == 1
    log.close()


def test_a_line_that_an_editor_left_open_counts(tmp_path: Path) -> None:
    path = tmp_path / "marks.jsonl"
    log = MarkLog(path)
    log.add(Mark(WREN, "anna", "right"))
    log.close()
    path.write_bytes(path.read_bytes().rstrip())
    log = MarkLog(path)
    log.add(Mark(DETECTIONS[1], "anna", "wrong"))
    log.close()
    assert [json.loads(line)["verdict"] for line in path.read_text().splitlines()] == [
        "right",
        "wrong",
    ]


@pytest.mark.parametrize(
    "line", [b"nothing", b"[]", b"{}", b'{"detection": {}}', b"\xff", b'{"undo": true}', b"5"]
)
def test_a_damaged_line_is_named_and_nothing_is_touched(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "marks.jsonl"
    log = MarkLog(path)
    log.add(Mark(WREN, "anna", "right"))
    log.close()
    content = path.read_bytes() + line + b"\n" + path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(UserError, match="line 2 is no mark"):
        MarkLog(path)
    assert path.read_bytes() == content


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "marks.jsonl"
    log = MarkLog(path)
    log.add(Mark(WREN, "anna", "right"))
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
        with pytest.raises(OSError):
            log.add(Mark(WREN, "anna", "wrong"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.stat().st_size == size
    # What was not kept does not stand; once there is space, it can be said again.
    assert log.marks.of("anna")[WREN].verdict == "right"
    log.add(Mark(WREN, "anna", "unsure"))
    log.close()
    log = MarkLog(path)
    assert log.marks.of("anna")[WREN].verdict == "unsure"
    log.close()


def marks_of(*said: tuple[str, Any] | tuple[str, Any, str] | tuple[str, Any, str, str]) -> list:
    return [Mark(WREN, *one) for one in said]


@pytest.mark.parametrize(
    ("said", "verdict", "other", "disagreement"),
    [
        ([], "", "", ""),
        ([("anna", "right")], "right", "", ""),
        ([("anna", "unsure")], "", "", ""),
        ([("anna", None, "", "a comment")], "", "", ""),
        ([("anna", "right"), ("ben", "right")], "right", "", ""),
        ([("anna", "right"), ("ben", "unsure")], "right", "", ""),
        ([("anna", "right"), ("ben", "wrong")], "", "", "verdict"),
        ([("anna", "right"), ("ben", "wrong", "robin")], "", "", "verdict"),
        ([("anna", "wrong"), ("ben", "wrong", "robin")], "wrong", "robin", ""),
        ([("anna", "wrong", "robin"), ("ben", "wrong", "robin")], "wrong", "robin", ""),
        ([("anna", "wrong", "jay"), ("ben", "wrong", "robin")], "wrong", "", "other_label"),
        ([("table", "right"), ("ben", "right")], "right", "", ""),
        ([("table", "right"), ("ben", "wrong")], "", "", "verdict"),
    ],
)
def test_what_reviewers_add_up_to(said: list, verdict: str, other: str, disagreement: str) -> None:
    outcome = outcome_of(marks_of(*said))
    assert (outcome.verdict, outcome.other_label, outcome.disagreement) == (
        verdict,
        other,
        disagreement,
    )


def test_comments_make_no_formulas() -> None:
    outcome = outcome_of(
        marks_of(
            ("anna", "right", "", "=HYPERLINK(1); +1;-2 ;  @x, faint - but there"),
            ("ben", None, "", "+49"),
        )
    )
    assert outcome.comment == ("anna: =HYPERLINK(1); '+1;'-2 ;  '@x, faint - but there | ben: +49")
    assert outcome.reviewers == "anna"


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ({"verdict": "maybe"}, "The verdict is 'maybe'"),
        ({"reviewer": ""}, "reviewer's name must be 1 to 80"),
        ({"reviewer": "x" * 81}, "reviewer's name must be 1 to 80"),
        ({"reviewer": "a\nb"}, "reviewer's name must be 1 to 80"),
        ({"reviewer": " a"}, "reviewer's name must be 1 to 80"),
        ({"reviewer": "Table"}, "kept for verdicts of the table"),
        ({"reviewer": "=1+1"}, "formula"),
        ({"reviewer": "＋1"}, "formula"),
        ({"reviewer": "a; -1"}, "formula"),
        ({"other_label": "robin"}, "Only a wrong detection"),
        ({"verdict": "wrong", "other_label": "@robin"}, "formula"),
        ({"verdict": "wrong", "other_label": "wren"}, "detection's own"),
        ({"verdict": "wrong", "other_label": "Unknown"}, "reserved"),
        ({"verdict": "wrong", "other_label": "x" * 81}, "other label must be 1 to 80"),
        ({"comment": "x" * 2001}, "2,001 characters"),
        ({"comment": "a\nb"}, "line breaks or control"),
        ({"comment": "\ud800"}, "line breaks or control"),
        ({"comment": "\x1b[0m"}, "line breaks or control"),
    ],
)
def test_marks_that_are_none(mark: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Mark(**{"detection": WREN, "reviewer": "anna", "verdict": "right"} | mark)


def test_names_of_all_people_are_names() -> None:
    for name in ("x" * 80, "Zoë", "安娜", "O'Neil-Smith", "anna+ben", "<b>anna</b>"):
        Mark(WREN, name, "right", comment="علی‌رضا 👨‍👩‍👧")


def test_times_that_a_spreadsheet_rewrote_are_the_same_detection() -> None:
    assert Detection("a.wav", None, 1.0000001, 2, "wren") == Detection(
        "a.wav", None, 1, 2.0, "wren"
    )
    with pytest.raises(UserError, match="no numbers"):
        Detection("a.wav", None, float("nan"), 2, "wren")


def test_agreement_of_pairs() -> None:
    marks = Marks()
    pairs = [("right", "right")] * 20 + [("right", "wrong")] * 5
    pairs += [("wrong", "right")] * 10 + [("wrong", "wrong")] * 15
    detections = [Detection("a.wav", None, i, i + 1, "wren") for i in range(len(pairs) + 1)]
    for detection, (anna, ben) in zip(detections, pairs, strict=False):
        marks.add(Mark(detection, "anna", anna))
        marks.add(Mark(detection, "ben", ben))
    marks.add(Mark(detections[-1], "anna", "right"))  # Only she judged it.
    marks.add(Mark(detections[0], "carl", "right"))
    marks.add(Mark(detections[1], "dora", None, comment="what is it?"))
    found = {(one.first, one.second): one for one in agreements(marks.judged(detections))}
    assert found.keys() == {("anna", "ben"), ("anna", "carl"), ("ben", "carl")}
    both = found["anna", "ben"]
    # Cohen's kappa by its definition: (0.7 - 0.5) / (1 - 0.5).
    assert (both.shared, both.equal) == (50, 0.7) and both.kappa == pytest.approx(0.4)
    # Both said one thing only: chance would agree as well, so kappa is undefined.
    assert (found["ben", "carl"].shared, found["ben", "carl"].kappa) == (1, None)
    # What is not of the sample does not count.
    assert [one.shared for one in agreements(marks.judged(detections[:10]))] == [10, 1, 1]
