"""`dawnchorus calibrate` on a real dataset, and what `activity` says of thresholds."""

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.bundle import load_bundle
from model.threshold_facts import Goal, LabelFacts, ThresholdFacts
from model.verified import Verified, bin_of
from pipeline.cli import main
from pipeline.dataset import open_dataset
from pipeline.thresholds import threshold_note
from pipeline.verification import count_by_bin, scores_of
from tests.pipeline.archive import LABELS, tiny_bundle, tone, write
from tests.pipeline.reviewable import reviewing
from tests.pipeline.test_detection import detect

ROWS = "SELECT recording, channel, start_s, end_s, label, score FROM predictions ORDER BY ALL"


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory, bundle: Path, single_bundle: Path) -> Path:
    """Datasets `out` (mean of channels), `each` and `single` of one small archive."""
    top = tmp_path_factory.mktemp("calibrate")
    for seed, name in enumerate(("a", "b c,d")):
        sound = tone(10, 300 * (seed + 1), seed=seed) * np.linspace(0, 1, 80_000, dtype=np.float32)
        write(top / f"audio/{name}.wav", np.stack([sound, sound[::-1]], axis=1))
    assert detect(top / "audio", bundle, top / "out") == 0
    assert detect(top / "audio", bundle, top / "each", "--channel", "each") == 0
    assert detect(top / "audio", single_bundle, top / "single") == 0
    return top


def rows(out: Path) -> list[Any]:
    return open_dataset(str(out)).connection.sql(ROWS).fetchall()


def write_table(
    path: Path, given: list[Any], header: str = "recording,start,end,label,verdict"
) -> Path:
    lines = [",".join(f'"{cell}"' for cell in row) for row in given]
    path.write_text("\n".join([header, *lines]))
    return path


def halves(out: Path, label: str) -> list[Any]:
    """A verdict on every detection of a label: the upper half of the scores is right."""
    found = [row for row in rows(out) if row[4] == label]
    middle = np.median([row[5] for row in found])
    # Times as a spreadsheet may have rounded them.
    return [
        (name, f"{start:.2f}", f"{end:.2f}", label, "right" if score >= middle else "wrong")
        for name, _, start, end, _, score in found
    ]


def calibrate(table: Path, model: Path, output: Path, *more: str) -> int:
    command = ["calibrate", "--verified", table, "--model", model, "--output", output, *more]
    return main([str(text) for text in command])


def test_thresholds_of_what_was_verified(top: Path, bundle: Path, tmp_path: Path, capsys) -> None:
    table = write_table(
        tmp_path / "t.csv", [*halves(top / "out", "wren"), ("a.wav", 0, 1, "robin", "")]
    )
    new = tmp_path / "new"
    assert calibrate(table, bundle, new, "--dataset", str(top / "out")) == 0
    said = capsys.readouterr().out
    assert "from 20 verified detections" in said and "1 row without a verdict" in said
    old, made = load_bundle(str(bundle)), load_bundle(str(new))
    assert made.score_fingerprint == old.score_fingerprint
    scores = np.array([row[5] for row in rows(top / "out") if row[4] == "wren"], np.float32)
    assert (scores >= np.float32(made.thresholds["wren"])).sum() == 10
    assert made.thresholds["robin"] == 0.5
    assert made.threshold_facts is not None and made.threshold_facts.data == "verified"
    facts = made.threshold_facts.labels["wren"]
    assert (facts.precision, facts.recall, facts.positives, facts.windows) == (1, 1, 10, 20)
    # The line that it prints is a command that works.
    command = said.split("use them: dawnchorus ")[1].split()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "thresholds are for f1: precision 1.00 of verified detections" in " ".join(said.split())


def test_what_was_not_drawn_counts_by_its_bin(top: Path, bundle: Path, tmp_path: Path) -> None:
    given = halves(top / "out", "wren")[::2]
    table = write_table(tmp_path / "t.csv", given)
    options = ["--dataset", str(top / "out"), "--bins", "0.05"]
    assert calibrate(table, bundle, tmp_path / "new", *options) == 0
    made = load_bundle(str(tmp_path / "new")).threshold_facts
    assert made is not None
    # All lie in one bin, so each stands for two: shares as without weights.
    expected = np.mean([row[-1] == "right" for row in given])
    assert made.labels["wren"].prevalence == pytest.approx(expected)


def test_a_table_with_scores_and_weights_needs_no_dataset(
    bundle: Path, tmp_path: Path, capsys
) -> None:
    header = "recording,start,end,label,verdict,score,weight"
    given = [("x.wav", i, i + 1, "wren", i % 2, 0.5 + i / 40, 2 - i % 2) for i in range(10)]
    table = write_table(tmp_path / "t.csv", given, header)
    assert calibrate(table, bundle, tmp_path / "new", "--threshold-goal", "precision=0.9") == 0
    assert "precision=0.9" in capsys.readouterr().out
    facts = load_bundle(str(tmp_path / "new")).threshold_facts
    assert facts is not None and facts.labels["wren"].prevalence == pytest.approx(5 / 15)
    assert facts.labels["wren"].precision == 1 and facts.goal == Goal("precision", 0.9)


def test_counts_by_bin_are_those_of_the_scores(top: Path) -> None:
    dataset = open_dataset(str(top / "out"))
    found = rows(top / "out")
    # Edges on scores that there are: bins hold their lower edge.
    edges = sorted({float(row[5]) for row in found if row[4] == "robin"})[3:6]
    counts = count_by_bin(dataset, edges)
    for label in LABELS:
        scores = np.array([row[5] for row in found if row[4] == label], np.float32)
        expected = np.bincount(bin_of(scores, edges), minlength=len(edges) + 1)
        assert counts[label].tolist() == expected.tolist()
    assert sum(counts["robin"]) == sum(count_by_bin(dataset, ())["robin"]) > 0


def test_of_single_label_datasets_the_top_label_counts(
    top: Path, single_bundle: Path, tmp_path: Path, capsys
) -> None:
    found = rows(top / "single")
    tops: dict[Any, Any] = {}
    for row in found:
        if row[5] > tops.get(row[:3], (0,) * 6)[5]:
            tops[row[:3]] = row
    assert len(tops) == 20 < len(found)
    counts = count_by_bin(open_dataset(str(top / "single")), ())
    assert sum(int(n.sum()) for n in counts.values()) == 20
    below = next(row for row in found if row not in tops.values())
    table = write_table(tmp_path / "t.csv", [(below[0], below[2], below[3], below[4], "right")])
    assert calibrate(table, single_bundle, tmp_path / "n", "--dataset", str(top / "single")) == 1
    assert "has no detection" in capsys.readouterr().err


def test_a_detection_in_several_channels_needs_its_channel(
    top: Path, bundle: Path, tmp_path: Path, capsys
) -> None:
    dataset = open_dataset(str(top / "each"))
    name, channel, start, end, label, _ = rows(top / "each")[0]
    assert channel == 0
    for number in (0, 1):
        one = Verified("t, line 2", name, number, start, end, label, True, None, None)
        found = dataset.connection.sql(
            "SELECT score FROM predictions WHERE recording = ? AND channel = ? AND start_s = ? "
            "AND label = ?",
            params=[name, number, start, label],
        ).fetchall()
        assert scores_of(dataset, [one]).tolist() == [found[0][0]]
    table = write_table(tmp_path / "t.csv", [(name, start, end, label, "right")])
    assert calibrate(table, bundle, tmp_path / "n", "--dataset", str(top / "each")) == 1
    assert "add a column channel" in capsys.readouterr().err


def test_errors_are_one_sentence(
    top: Path, bundle: Path, single_bundle: Path, tmp_path: Path, capsys
) -> None:
    good = write_table(tmp_path / "good.csv", halves(top / "out", "wren"))
    weighted = write_table(
        tmp_path / "w.csv",
        [(*row, 1) for row in halves(top / "out", "wren")],
        "recording,start,end,label,verdict,weight",
    )
    elsewhere = write_table(
        tmp_path / "e.csv", [("z.wav", 0, 1, "wren", "right"), ("z.wav", 1, 2, "wren", "wrong")]
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    out = ["--dataset", str(top / "out")]
    cases: list[tuple[Path, Path, str, list[str], str]] = [
        (tmp_path / "none.csv", bundle, "n", out, "Cannot read"),
        (good, tmp_path / "none", "n", out, "is no bundle"),
        (good, bundle, "full", out, "is not empty"),
        (good, bundle, "n", [], "does not tell score and weight"),
        (weighted, bundle, "n", [], "does not tell score and weight"),
        (good, bundle, "n", ["--dataset", str(tmp_path)], "no dataset"),
        (good, single_bundle, "n", out, "scores in"),
        (weighted, bundle, "n", [*out, "--bins", "0.5"], "leave out --bins"),
        (elsewhere, bundle, "n", out, "nor of 1 other row;"),
        (good, bundle, "n", [*out, "--threshold-goal", "best"], "threshold goal best"),
    ]
    for table, model, output, more, says in cases:
        assert calibrate(table, model, tmp_path / output, *more) == 1, says
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1 and said[0].startswith("error: ") and says in said[0], said
    for edges in ("x", "0.5,0.4", "0,0.5"):
        with pytest.raises(SystemExit):
            calibrate(good, bundle, tmp_path / "n", *out, "--bins", edges)
    assert not (tmp_path / "n").exists()


def test_what_activity_says_of_thresholds(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b")
    print_ = bundle.score_fingerprint
    known = LabelFacts(True, 0.9, (0.7, 1.0), 0.5, 0.01, (0.0, 0.1), 0.1, 10, 100)
    labels = {"a": known, "b": replace(known, precision=0.625, prevalence=0.02)}
    facts = ThresholdFacts("validation", Goal(), labels)
    assert "does not say" in threshold_note(bundle, print_)
    told = replace(bundle, threshold_facts=facts)
    assert threshold_note(told, print_) == (
        "The thresholds are uncalibrated: precision 0.62 to 0.90 on validation windows, of which "
        "2.0% to 10.0% had the label."
    )
    for data, says in (("out_of_fold", "on out-of-fold windows"), ("nothing", "nothing was held")):
        other = replace(told, threshold_facts=replace(facts, data=data))
        note = threshold_note(other, print_)
        assert "uncalibrated" in note and says in note
    held = replace(told, threshold_facts=replace(facts, data="holdout", labels={"a": known}))
    assert threshold_note(held, print_) == (
        "The thresholds are for f1: precision 0.90 on held-out windows, of which 10.0% "
        "had the label."
    )
    assert "another model" in threshold_note(held, "0" * 64)
    # What was given instead has no part in it.
    assert threshold_note(told, print_, {"a": 0.5}) == (
        "The thresholds are uncalibrated: precision 0.62 on validation windows, of which 2.0% had "
        "the label. Given, and not among these: a 0.5."
    )
    everything = dict.fromkeys(told.labels, 0.25)
    assert threshold_note(told, print_, everything).startswith("The thresholds were given: ")


def test_a_threshold_for_all_labels_needs_no_note(top: Path, tmp_path: Path, capsys) -> None:
    out = shutil.copytree(top / "out", tmp_path / "out")
    for more, expected in (([], True), (["--threshold", "0.5"], False)):
        main(["activity", str(out), *more])
        assert ("thresholds" in capsys.readouterr().out) == expected
    main(["activity", str(out), "--threshold", "wren=0.5"])
    assert "thresholds" in capsys.readouterr().out


def test_what_the_docs_show_runs_as_it_is_shown(
    top: Path, bundle: Path, tmp_path: Path, monkeypatch
) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/thresholds.md").read_text()
    first, rest = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(top / "out", "detections")
    shutil.copytree(bundle, "birds.bundle")
    assert main(shlex.split(first)[1:]) == 0
    lines = Path("sample/sample.csv").read_text().splitlines()
    place = lines[0].split(",").index('"verdict"')
    assert len(lines) > 20
    for i, line in enumerate(lines[1:], 1):
        cells = line.split(",")
        cells[place] = "right" if i % 3 else "wrong"
        lines[i] = ",".join(cells)
    Path("sample/sample.csv").write_text("\n".join(lines))
    # A review begins with the verdicts of the table.
    with reviewing(tmp_path / "sample") as server:
        server.end()
    for command in rest.replace("\\\n", "").splitlines():
        assert main(shlex.split(command)[1:]) == 0, command
