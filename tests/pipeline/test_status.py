"""`dawnchorus status`: while a run lives, after it, after a kill, of nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.dataset import open_dataset
from pipeline.status import read_status, screen
from pipeline.storage import Folder
from pipeline.unfinished import unfinished_note
from tests.pipeline.archive import tone, write
from tests.pipeline.test_detection import detect, rows

SHARDS = 30


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive") / "audio"
    first = write(root / "A/20240601_000000.wav", tone(60))
    for at in range(1, SHARDS - 1):
        path = root / f"A/2024060{1 + at // 24}_{at % 24:02d}0000.wav"
        os.link(first, path)
    (root / "A/20240609_000000.wav").write_bytes(b"RIFF nothing")
    return root


@pytest.fixture(scope="module")
def made(audio: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    assert detect(audio, bundle, out, "--slot", "1") == 0
    return out


def test_after_a_run(made: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    capsys.readouterr()
    assert main(["status", str(made), "--json", str(tmp_path / "status.json")]) == 0
    said = capsys.readouterr().out
    told = json.loads((tmp_path / "status.json").read_text())
    seconds = 60.0 * (SHARDS - 1)
    assert (told["planned"], told["done"], told["failed"], told["torn"]) == (SHARDS, SHARDS, 0, 0)
    assert told["planned_s"] == told["done_s"] == seconds and not told["is_alive"]
    assert (told["recordings"], told["unreadable"]) == (SHARDS, 1)
    assert told["tally"]["windows"] == [60 * (SHARDS - 1)] * 2
    assert told["tally"]["errors"] == {"not_audio": [1, 0, 0]}
    counts = dict(rows(made, "SELECT label, count(*) FROM predictions GROUP BY 1"))
    assert told["tally"]["labels"] == counts
    assert told["rate"] > 0 and told["left_s"] is None
    for line in (
        f"Shards       {SHARDS} of {SHARDS} done\n",
        "Audio        29.0 min of 29.0 min done (100.0%)",
        "finished 20",
        "with exit status 0",
        "1 of them unreadable",
        "not_audio              1           0     unknown",
        "unheard bird",
    ):
        assert line in said


def test_without_a_plan(made: Path, tmp_path: Path) -> None:
    """Plans of runs that ended go with the next run, and the index may go at any time."""
    out = shutil.copytree(made, tmp_path / "out")
    before = read_status(Folder(str(out)))
    shutil.rmtree(out / "_plan")
    shutil.rmtree(out / "_index")
    after = read_status(Folder(str(out)))
    assert after.planned is None and after.done == after.committed == SHARDS
    assert after.tally == before.tally and after.done_s == before.done_s
    assert "of" not in screen(after).splitlines()[2]


def stopped_run(audio: Path, bundle: Path, out: Path, *more: str) -> "subprocess.Popen[bytes]":
    """A run with one worker, halted after some of its shards were committed."""
    code = "import sys; from pipeline.cli import main; sys.exit(main())"
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    job = subprocess.Popen(
        [
            *(sys.executable, "-c", code, "detect", "--input", str(audio), "--slot", "1"),
            *("--model", str(bundle), "--output", str(out), "--direct_num_workers=1", *more),
        ],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(list(out.glob("coverage/*/*/*.parquet"))) < 3:
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGSTOP)
    return job


def test_while_it_works_and_after_a_kill(audio: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = stopped_run(audio, bundle, out)
    now = time.time()
    status = read_status(Folder(str(out)), now)
    assert status.is_alive and status.run_state.startswith("works, started 20")
    assert status.planned == SHARDS and 3 <= status.done < SHARDS
    assert status.done_s == 60 * status.done and status.rate and status.left_s
    left = 60 * (SHARDS - 1 - status.done)
    assert status.left_s == pytest.approx(left / status.rate, rel=0.05)
    assert "left" in screen(status, now)
    job.kill()
    job.wait()
    status = read_status(Folder(str(out)))
    assert not status.is_alive and "ended without a word" in status.run_state
    assert "the same command goes on from here" in screen(status)
    assert main(["status", str(out), "--watch"]) == 0, "there is nothing to wait for"


def test_a_run_that_failed(audio: Path, bundle: Path, tmp_path: Path) -> None:
    """What failed is told with its reason."""
    out = tmp_path / "out"
    (out / "coverage").mkdir(parents=True)
    (out / "coverage/site=A").write_text("a file where a folder should be")
    assert detect(audio, bundle, out, "--slot", "1") == 1
    status = read_status(Folder(str(out)))
    assert status.failed and status.failure and "shard" in status.failure
    assert f"{status.failed:,} failed (" in screen(status)
    assert status.done == 0


@pytest.mark.parametrize("name", ["none", "empty"])
def test_where_there_is_no_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["status", str(tmp_path / name)]) == 1
    assert "There is no dataset in" in capsys.readouterr().err


def test_coverage_that_somebody_took_away(made: Path, tmp_path: Path) -> None:
    out = shutil.copytree(made, tmp_path / "out")
    min(out.glob("coverage/site=A/date=2024-06-01/*.parquet")).unlink()
    status = read_status(Folder(str(out)))
    assert (status.done, status.planned) == (SHARDS - 1, SHARDS)
    assert unfinished_note(open_dataset(str(out))) == (
        f"The dataset is not whole: 1 of the last run's {SHARDS} shards is not done; the same "
        "detect command goes on from there."
    )


def test_a_plan_that_somebody_broke(made: Path, tmp_path: Path) -> None:
    out = shutil.copytree(made, tmp_path / "out")
    (plan,) = out.glob("_plan/*/shards.parquet")
    plan.write_bytes(plan.read_bytes()[:500])
    status = read_status(Folder(str(out)))
    assert status.planned is None and status.done == SHARDS


def test_an_identity_that_is_damaged(
    made: Path, audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = shutil.copytree(made, tmp_path / "out")
    (out / "dataset.json").write_text("{")
    assert read_status(Folder(str(out))).done == SHARDS, "it needs no identity"
    assert main(["activity", str(out)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {out}/dataset.json is damaged (") and said.count("\n") == 1
    assert detect(audio, bundle, out, "--slot", "1") == 1
    assert f"{out}/dataset.json is damaged (" in capsys.readouterr().err
    assert main(["status", str(out / "dataset.json")]) == 1
    assert "There is no dataset in" in capsys.readouterr().err


def test_what_somebody_broke(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = shutil.copytree(made, tmp_path / "out")
    (out / "_runs/20990101T000000-000000-abcdef.json").write_text("{")
    assert read_status(Folder(str(out))).done == SHARDS
    (tmp_path / "file").write_text("")
    assert main(["status", str(out), "--json", str(tmp_path / "file/x.json")]) == 1
    assert "file/x.json cannot be written: " in capsys.readouterr().err


def test_it_loads_neither_beam_nor_tensorflow(made: Path) -> None:
    code = (
        "import sys; from pipeline.cli import main; main(sys.argv[1:]);"
        "print([m for m in ('apache_beam', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "status", str(made)], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
