"""What readers of a dataset are told that is not there: in a run, after a kill, of torn shards."""

import os
import re
import shutil
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.dataset import open_dataset
from pipeline.report import make_report
from pipeline.report_page import page
from pipeline.status import read_status
from pipeline.storage import Folder
from pipeline.unfinished import unfinished_note
from tests.pipeline.archive import LABELS, tone, write
from tests.pipeline.test_detection import detect
from tests.pipeline.test_inventory import SECONDS, table, told
from tests.pipeline.test_report import page_data
from tests.pipeline.test_status import SHARDS, stopped_run

READERS = ["activity", "events", "report", "export --to csv", "sample --number 1 --clips none"]


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive") / "audio"
    first = write(root / "A/20240601_000000.wav", tone(60))
    for at in range(1, SHARDS):
        os.link(first, root / f"A/2024060{1 + at // 24}_{at % 24:02d}0000.wav")
    return root


@pytest.fixture(scope="module")
def half(audio: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose run was killed after some shards."""
    out = tmp_path_factory.mktemp("half") / "out"
    job = stopped_run(audio, bundle, out, "--min-score", "0")
    note = unfinished_note(open_dataset(str(out)))
    assert note and note.startswith("A run is still writing this dataset: ")
    job.kill()
    job.wait()
    return out


def left(note: str | None) -> int:
    """How many shards a note says are not done."""
    found = re.fullmatch(
        rf"The dataset is not whole: (\d+) of the last run's {SHARDS} shards (?:is|are) not done; "
        "the same detect command goes on from there.",
        note or "",
    )
    assert found
    return int(found[1])


def test_after_a_kill_and_after_the_next_run(
    half: Path, audio: Path, bundle: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(half, tmp_path / "out")
    dataset = open_dataset(str(out))
    done = sum(commit is not None for commit in dataset.standing.commits.values())
    note = unfinished_note(dataset)
    assert left(note) == SHARDS - done and 0 < done < SHARDS
    assert detect(audio, bundle, out, "--slot", "1") == 0
    assert unfinished_note(open_dataset(str(out))) is None
    # The plan may go; a shard whose parts disagree is then still known.
    shutil.rmtree(out / "_plan")
    shutil.rmtree(out / "_index")
    assert unfinished_note(open_dataset(str(out))) is None
    next(iter(sorted(out.glob("coverage/*/*/*.parquet")))).write_bytes(b"nothing")
    assert unfinished_note(open_dataset(str(out))) == (
        "1 shard of the dataset, whose parts do not belong together, left out; the same detect "
        "command writes them again."
    )


def test_a_new_try_with_the_same_outcome_is_done(bundle: Path, tmp_path: Path) -> None:
    """What can be cured is tried by each run; it may leave the same coverage as before."""
    audio, out = tmp_path / "audio", tmp_path / "out"
    for name, seconds in SECONDS.items():
        write(audio / name, tone(seconds))
    known = told(audio)
    known["duration"][0] = 5.0
    inventory = table(tmp_path / "inventory.parquet", known)
    for _ in range(2):
        assert detect(inventory, bundle, out, "--slot", "1", "--root", str(audio)) == 0
        status = read_status(Folder(str(out)))
        assert status.done == status.planned and status.done_s == status.planned_s
        assert unfinished_note(open_dataset(str(out))) is None


@pytest.mark.parametrize("command", READERS)
def test_every_reader_warns(
    half: Path, tmp_path: Path, capsys: pytest.CaptureFixture, command: str
) -> None:
    name, *options = command.split()
    if name not in ("activity", "events"):
        options += ["--output", str(tmp_path / "new")]
    if name != "sample":
        options += ["--threshold", "0"]
    assert main([name, str(half), *options]) == 0
    said = capsys.readouterr().err.splitlines()
    note = unfinished_note(open_dataset(str(half)))
    assert said[0] == f"warning: {note}" and left(note)


def test_the_report_says_it_on_its_page(half: Path) -> None:
    report = make_report(open_dataset(str(half)), dict.fromkeys(LABELS, 0.0))
    assert left(page_data(page(report, "half", ""))["unfinished"])
