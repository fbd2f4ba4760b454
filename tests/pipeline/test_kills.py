"""Kills, full disks and two jobs at once: nothing that was committed is lost or torn."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import kills
from pipeline.cli import main
from tests.pipeline.archive import tone, write
from tests.pipeline.test_detection import content, detect, rows


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve short recordings of different hours."""
    folder = tmp_path_factory.mktemp("recordings")
    return [
        write(folder / f"X_20240601_{hour:02d}1000.wav", tone(4, seed=hour)) for hour in range(12)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--embeddings"]])
def test_killed_jobs_end_as_undisturbed_ones(
    recordings: list[Path], bundle: Path, tmp_path: Path, options: list[str]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    count = kills.campaign(recordings, bundle, tmp_path, 6, seed, *options)
    assert count["worker"] + count["launcher"] == 6


def test_two_jobs_at_once_do_no_harm(recordings: list[Path], bundle: Path, tmp_path: Path) -> None:
    audio, out = recordings[0].parent, tmp_path / "out"
    command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", bundle]
    command += ["--output", out, "--min-score", "0", "--slot", "1"]
    jobs = [
        subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [job.communicate(timeout=300)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert any("may still be writing" in text for text in said)
    assert detect(audio, bundle, tmp_path / "alone", "--slot", "1") == 0
    assert content(out) == content(tmp_path / "alone")
    assert not any((out / "_tmp").rglob("*"))


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 400 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root on Linux can make a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(
    recordings: list[Path],
    bundle: Path,
    tmp_path: Path,
    small_disk: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio, out = recordings[0].parent, small_disk / "out"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(395_000))
    arguments = ["detect", "--input", str(audio), "--model", str(bundle), "--output", str(out)]
    arguments += ["--min-score", "0", "--slot", "1"]
    assert main(arguments) == 1
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "no space left" in said.lower()
    # Room for the plan and some shards.
    for size in (260_000, 200_000, 150_000, 100_000, 0):
        ballast.write_bytes(bytes(size))
        status = main(arguments)
        said = capsys.readouterr().err.strip().splitlines()[-1]
        if status == 0:
            break
        assert said.startswith("error: ") and "no space left" in said.lower()
        shutil.copytree(out, tmp_path / f"state-{size}")
    assert status == 0
    kept = [len(content(tmp_path / state)) for state in os.listdir(tmp_path) if "state-" in state]
    assert any(kept), "no run was stopped between two commits"
    assert detect(audio, bundle, tmp_path / "alone", "--slot", "1") == 0
    assert content(out) == content(tmp_path / "alone")
    assert rows(out, "SELECT count(*) FROM errors") == [(0,)]
    assert not any((out / "_tmp").rglob("*"))
