"""The demo: its folder, its comparison with the truth, and once the whole of it."""

import argparse
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.verified import truth_of
from model import train_command
from model.errors import UserError
from model.train_arguments import train_options_of
from model.windows import WindowRule
from pipeline import demo
from pipeline.cli import main
from pipeline.dataset import open_dataset
from pipeline.demo import TRAINING, compare, losses, prepare_folder, train_apart
from pipeline.demo_command import _query
from pipeline.synth import Annotation
from tests.pipeline.reviewable import reviewing
from tests.pipeline.test_activity import Recording, Tables, at, tables


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        prepare_folder(tmp_path)
    (tmp_path / "demo.json").write_text("{}")
    with pytest.raises(UserError, match="not empty"):
        prepare_folder(tmp_path)
    with pytest.raises(UserError, match="not empty"):
        prepare_folder(tmp_path / "thesis.txt")
    with pytest.raises(UserError, match="cannot be used"):
        prepare_folder(tmp_path / "thesis.txt" / "demo")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_an_earlier_demo_is_emptied_but_for_what_it_did_not_write(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "demo"
    prepare_folder(folder)
    for name in ("audio/Ridge/x.WAV", "dataset/dataset.json", "bundle/bundle.json"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("old")
    (folder / "truth.csv").write_text("old")
    (folder / "notes.txt").write_text("mine")
    prepare_folder(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["demo.json", "notes.txt"]


def heard(scores: dict[tuple[int, str], float], lost: frozenset[int] = frozenset()) -> Tables:
    """Four windows of 3 s; scores not given are 0."""
    every = {(k, label): scores.get((k, label), 0.0) for k in range(4) for label in "xy"}
    recording = Recording("a.wav", at(5), 120, lost=lost, scores=every)
    return tables([recording], WindowRule(3, 3), min_score=0)


def compared(dataset: Tables, calls: list[tuple[float, float, str]]) -> dict[str, Any]:
    truth = [Annotation("a.wav", *call) for call in calls] + [Annotation("b.wav", 0, 3, "x")]
    found = compare(dataset, truth, ["a.wav", "not scored.wav"])  # type: ignore[arg-type]
    return {one.label: one for one in found}


def test_precision_by_hand() -> None:
    # Windows 0 and 2 hold x; window 1 scores between them: precision 1 at the first, 2/3 then.
    dataset = heard({(0, "x"): 0.9, (1, "x"): 0.6, (2, "x"): 0.5})
    found = compared(dataset, [(0.5, 2.5, "x"), (6.0, 9.0, "x")])
    assert found["x"].average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert (found["x"].windows, found["x"].positive, found["x"].unclear) == (4, 2, 0)
    assert found["x"].chance == 0.5
    assert found["y"].average_precision is None and found["y"].chance is None


def test_windows_that_a_call_only_touches_are_left_out() -> None:
    dataset = heard({(0, "x"): 0.9, (1, "x"): 0.95})
    # 2.0 s of the call lie in window 0, 0.5 s in window 1, which scores highest.
    found = compared(dataset, [(1.0, 3.5, "x")])
    assert found["x"].average_precision == 1
    assert (found["x"].windows, found["x"].positive, found["x"].unclear) == (3, 1, 1)


def test_lost_windows_are_not_compared() -> None:
    dataset = heard({(0, "x"): 0.9}, lost=frozenset({2, 3}))
    found = compared(dataset, [(0.5, 2.5, "x"), (6.0, 9.0, "x")])
    assert (found["x"].windows, found["x"].positive) == (2, 1)


def test_a_dataset_without_all_scores_is_refused() -> None:
    dataset = tables([Recording("a.wav", at(5), 120)], min_score=0.1)
    with pytest.raises(UserError, match="--min-score 0"):
        compared(dataset, [])


def test_losses_name_the_recording_the_seconds_and_the_reason() -> None:
    recordings = [
        Recording("whole.wav", at(5), 120),
        Recording("half.wav", at(6), 115, lost=frozenset({2, 3})),
    ]
    dataset = tables(recordings, WindowRule(3, 3))
    (loss,) = losses(dataset)  # type: ignore[arg-type]
    assert (loss.recording, loss.windows_lost) == ("half.wav", 2)
    assert (loss.seconds_lost, loss.seconds_expected) == (5.5, 11.5)
    assert loss.reasons == ("damaged (no sound)",)


def test_what_training_refuses_is_refused_here(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    arguments = ["--audio", missing, "--annotations", missing, "--output", str(tmp_path / "b")]
    with pytest.raises(UserError, match="missing"):
        train_apart(arguments)


def test_the_demos_options_are_the_training_commands(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    train_command.add_arguments(parser)
    places = ["--audio", "a", "--annotations", "b", "--output", str(tmp_path / "bundle")]
    args = parser.parse_args([*places, *(x for pair in TRAINING for x in pair)])
    options = train_options_of(args, args.output)
    assert options.recipe.architecture.filters == (16, 16, 32, 32)
    assert (options.front_end.window_s, options.front_end.n_frames) == (3.0, 128)


@pytest.mark.slow
def test_the_demo(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "demo"

    def run() -> str:
        assert main(["demo", str(folder)]) == 0
        text = capfd.readouterr().out
        assert len(re.findall(r"(?m)^\d\. ", text)) == 6
        # Times, rates and what holds them differ: the results are sections 1, 2 and 4 to 6.
        text = re.sub(r"(?s)3\. Detect.*?(?=4\. Compare)", "", text)
        return re.sub(r"\([\d.]+ s\)|took \d+ s", "", text)

    with monkeypatch.context() as short:
        short.setattr(demo, "TRAINING", (*TRAINING, ("--epochs", "2")))
        assert run() == run()
    text = run()
    for line in text.replace(str(folder), "demo").splitlines():
        assert len(line) <= 100, line
    macro = re.search(r"mean of the labels +([\d.]+) +([\d.]+)", text)
    assert macro is not None
    assert float(macro[1]) > 0.8 and float(macro[2]) < 0.2
    dataset = open_dataset(str(folder / "dataset"))
    (loss,) = losses(dataset)
    assert loss.recording == "Marsh/MARSH_20240601_160000.wav"
    assert loss.seconds_lost == pytest.approx(150) and loss.windows_lost == 50
    assert loss.seconds_expected == pytest.approx(300) and loss.reasons
    query = "\n".join(_query(folder / "dataset")).split("'''")[1]
    assert len(dataset.connection.sql(query).fetchall()) == 10
    follow_the_example(folder, monkeypatch)


def follow_the_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what docs/example.md shows after the demo; the review's marks are the truth's."""
    text = (Path(__file__).resolve().parents[2] / "docs/example.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    assert lines[:2] == ["dawnchorus demo", "cd dawnchorus-demo"]
    (pictures,) = (i for i, line in enumerate(lines) if "--no-browser" in line)
    commands = [line for line in lines[2:pictures] if not line.startswith("chromium")]
    monkeypatch.chdir(folder)
    for command in commands:
        if command.startswith("printf"):
            subprocess.run(command, shell=True, check=True)
        elif command == "dawnchorus review sample":
            with reviewing(folder / "sample") as server:
                truth = truth_of(folder / "dataset", folder / "audio", folder / "truth.csv")
                for number, row in enumerate(server.ask("/sample")[1]["rows"]):
                    right = truth[row["recording"], row["start"], row["label"]][1]
                    verdict = {True: "right", False: "wrong", None: "unsure"}[right]
                    assert server.mark(number, verdict) == 200
                server.end()
        else:
            assert main(shlex.split(command)[1:]) == 0, command
    made = [*(Path("report") / name for name in ("report.html", "plots/label-01.png"))]
    made += [Path("camtrap/datapackage.json"), Path("sample/annotations.csv")]
    assert all(path.exists() for path in made)
    assert len(list(Path("tables").rglob("*.selections.txt"))) > 12
