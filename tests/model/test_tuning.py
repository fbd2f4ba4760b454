import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from model import tune_command
from model.bundle import load_bundle
from model.errors import UserError
from model.trials import Trials
from tests.model.test_training import ROOT, archive

__all__ = ["archive"]

SPACE = """
filters = ["default", "4", "4,4,4,4"]
learning-rate = { low = 0.001, high = 0.1, scale = "log" }
mixup = [0, 0.5]
"""


def command(archive: Path, output: Path, *more: str) -> list[str]:
    front = "--sample-rate 8000 --window 0.5 --n-fft 256 --hop-length 100 --n-mels 32"
    fit = "--filters 4,4 --epochs 4 --learning-rate 0.01 --batch-size 8"
    places = ["--audio", str(archive), "--annotations", str(archive / "labels.csv")]
    return [*places, "--output", str(output), *front.split(), *fit.split(), *more]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    tune_command.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


@pytest.mark.slow
def test_a_search_gives_a_table_plots_and_bundles(
    archive: Path, space: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "search"
    more = ["--space", str(space), "--group-by", "site", "--holdout", "0.2"]
    more += ["--refit", "--calibrate", "platt"]
    args = parse(command(archive, out, *more, "--trials", "4"))
    assert tune_command.run(args) == 0
    printed = capsys.readouterr().out
    trials = Trials(out / "trials").read()
    counted = [trial for trial in trials if trial.status != "refused"]
    assert len(counted) == 4
    assert trials[0].values == {} and trials[0].point is not None
    # Four convolutions do not fit 32 mels: such trials cost nothing and do not count.
    assert all("128 mels" in t.message for t in trials if t.status == "refused")
    with (out / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows if row["status"] == "finished"]
    assert losses == sorted(losses) and len(rows) == len(trials)
    assert (out / "loss.png").stat().st_size > 10_000
    best = load_bundle(str(out / "best.bundle"))
    metrics = best.provenance["metrics"]
    assert metrics["data"] == "holdout"
    loss = 1 - metrics["networks"][0]["val_macro_average_precision"]
    assert loss == pytest.approx(float(rows[0]["loss"]), abs=1e-6)
    refitted = load_bundle(str(out / "refit.bundle"))
    assert refitted.provenance["data"]["training_windows"] == 40
    assert f"trial {trials[0].number}: loss" in printed and "the default" in printed
    # The same command again repeats nothing.
    before = (out / "trials.csv").read_text()
    assert tune_command.run(args) == 0
    assert (out / "trials.csv").read_text() == before
    with pytest.raises(UserError, match="another options"):
        tune_command.run(parse(command(archive, out, *more, "--epochs", "5")))


def test_a_search_is_of_its_annotations(archive: Path, space: Path, tmp_path: Path) -> None:
    audio = shutil.copytree(archive, tmp_path / "audio")
    args = parse(command(audio, tmp_path / "out", "--space", str(space), "--trials", "1"))
    assert tune_command.run(args) == 0
    table = audio / "labels.csv"
    table.write_text(table.read_text().replace("r0.wav,0,0.5,low", "r0.wav,0,0.5,high"))
    with pytest.raises(UserError, match="another annotations"):
        tune_command.run(args)


def test_a_place_that_cannot_be_written(archive: Path, space: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    args = parse(command(archive, tmp_path / "file", "--space", str(space), "--trials", "1"))
    with pytest.raises(UserError, match="cannot be written"):
        tune_command.run(args)


@pytest.mark.slow
def test_a_killed_search_goes_on_and_two_work_at_one(
    archive: Path, space: Path, tmp_path: Path
) -> None:
    out = tmp_path / "search"
    more = ["--space", str(space), "--trials", "4"]
    code = (
        "import sys; from tests.model.test_tuning import parse, tune_command;"
        "sys.exit(tune_command.run(parse(sys.argv[1:])))"
    )
    line = [sys.executable, "-c", code, *command(archive, out, *more)]
    first = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(Trials(out / "trials").read()) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    left = Trials(out / "trials").read()
    assert any(trial.status == "running" for trial in left)
    points = {trial.number: trial.point for trial in left}
    both = [subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    trials = Trials(out / "trials").read()
    assert len([t for t in trials if t.status != "refused"]) == 4
    assert not [t for t in trials if t.status in ("running", "failed")]
    assert all(trials[number].point == point for number, point in points.items())
    assert len({json.dumps(t.values, sort_keys=True) for t in trials}) == len(trials)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--trials", "0"], "--trials is 0"),
        (["--validation", "0"], "needs something to judge by"),
        (["--space", "/nowhere.toml"], "cannot be read"),
        (["--filters", "8,8,8,8"], "128 mels"),
    ],
)
def test_errors_come_first(archive: Path, tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tune_command.run(parse(command(archive, tmp_path / "s", *more)))
