"""`detect --dry-run` tells what a run then does, and writes nothing."""

import json
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.storage import Folder
from tests.pipeline.archive import RATE, tone, write
from tests.pipeline.test_detection import detect, rows


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive") / "audio"
    for hour in range(4):
        write(root / f"marsh/20240601_{hour:02d}0000.wav", tone(20, 500 + 50 * hour, seed=hour))
    write(root / "ridge/20240601_005950.wav", tone(15.5, seed=7))
    write(root / "no time.wav", tone(4, seed=8))
    (root / "marsh/20240601_090000.wav").write_bytes(b"RIFF nothing")
    return root


def estimate(audio: Path, bundle: Path, out: Path, *more: str) -> dict:
    file = out.parent / "estimate.json"
    given = ("--slot", "1", "--dry-run", "--json", str(file), *more)
    assert detect(audio, bundle, out, *given) == 0
    return json.loads(file.read_text())


def test_what_is_told_is_what_is_done(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    told = estimate(audio, bundle, out, "--workers", "3", "--price", "0.5")
    said = capsys.readouterr().out
    assert not out.exists()
    assert detect(audio, bundle, out, "--slot", "1") == 0
    parts = [name for name in Folder(str(out)).files() if name.endswith(".parquet")]
    parts = [name for name in parts if not name.startswith("_")]
    (expected,) = rows(
        out,
        """SELECT count(DISTINCT recording), sum(seconds_expected), sum(windows_expected)::INT
            FROM coverage""",
    )
    assert (told["recordings"], told["shard_seconds"], told["windows"]) == expected
    assert told["seconds"] == 99.5 and told["undated"] == 1
    assert told["unreadable"] == {"not_audio": 1}
    assert told["parts"] == len(parts) == 3 * told["shards"]
    assert told["bytes_to_read"] == pytest.approx(99.5 * RATE * 2, rel=0.01)
    size = sum((out / name).stat().st_size for name in parts)
    assert told["output_bytes"] == pytest.approx(size, rel=0.15)
    assert told["longest_shard_seconds"] == 20 and told["shards_committed"] == 0
    assert 0 < told["core_s_per_hour"] < 3600 and told["tried_s"] > 0
    assert told["core_hours"] == pytest.approx(99.5 / 3600 * told["core_s_per_hour"] / 3600)
    assert told["cost"] == pytest.approx(told["core_hours"] * 0.5)
    longest = 20 * told["core_s_per_hour"] / 3600
    assert told["wall_s"] == pytest.approx(max(told["core_hours"] * 1200, longest))
    for line in (
        "Archive      7 recordings, 99.5 s",
        "1 unreadable (1 not_audio)",
        "1 without a known time",
        f"{told['shards']} shards: 99.5 s, {told['windows']} windows",
        "with 3 workers of one core",
        "at 0.5 for a core-hour",
        "Nothing was written.",
    ):
        assert line in said


def test_only_what_is_left_is_told(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert detect(audio / "marsh", bundle, out, "--slot", "1", "--root", str(audio)) == 0
    before = Folder(str(out)).files()
    told = estimate(audio, bundle, out, "--rate", "7.2")
    assert Folder(str(out)).files() == before
    assert (told["shards_committed"], told["shards"], told["shard_seconds"]) == (5, 3, 19.5)
    assert told["core_s_per_hour"] == 7.2 and told["output_bytes"] is None
    assert told["core_hours"] == pytest.approx(19.5 / 3600 * 7.2 / 3600)
    assert detect(audio, bundle, out, "--slot", "1", "--root", str(audio)) == 0
    capsys.readouterr()
    told = estimate(audio, bundle, out)
    assert (told["shards"], told["windows"], told["wall_s"]) == (0, 0, 0)
    assert "To do        nothing" in capsys.readouterr().out


def test_what_is_left_holds_no_sound(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A damaged file beside a dataset that is whole, and an archive of nothing else."""
    out = tmp_path / "out"
    assert detect(audio / "ridge", bundle, out, "--slot", "1", "--root", str(audio)) == 0
    broken = ("--input", str(audio / "marsh/20240601_090000.wav"), "--root", str(audio))
    for into in (out, tmp_path / "other"):
        capsys.readouterr()
        command = ["detect", "--model", str(bundle), "--output", str(into), "--min-score", "0"]
        assert main([*command, *broken, "--dry-run"]) == 0
        said = capsys.readouterr().out
        assert "To do        1 shard: 0.0 s, 0 windows" in said
        assert "Work         none: what is to do holds no sound that can be read" in said


def test_what_cannot_be_tried(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "inventory.parquet"
    moved = tmp_path / "moved"
    write(moved / "20240601_000000.wav", tone(3))
    assert main(["inventory", str(moved), "--output", str(file)]) == 0
    (moved / "20240601_000000.wav").unlink()
    assert detect(file, bundle, tmp_path / "out", "--dry-run") == 1
    assert "give it with --rate" in capsys.readouterr().err.splitlines()[-1]
    assert detect(file, bundle, tmp_path / "out", "--dry-run", "--rate", "3") == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--rate", "3"], "--rate is for --dry-run alone"),
        (["--price", "1"], "--price is for --dry-run alone"),
        (["--json", "x"], "--json is for --dry-run alone"),
        (["--dry-run", "--price", "inf"], "--price is inf; it must be a number above 0"),
        (["--direct_num_workers=-1"], "--direct_num_workers is -1; give 1 or more"),
        (["--dry-run", "--workers", "0"], "--workers is 0; it must be a number above 0"),
        (["--dry-run", "--rate", "-1"], "--rate is -1; it must be a number above 0"),
    ],
)
def test_options_that_make_no_sense(
    audio: Path,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    more: list[str],
    message: str,
) -> None:
    assert detect(audio, bundle, tmp_path / "out", *more) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_graph_does_not_grow(tmp_path: Path) -> None:
    """A runner is sent the plan's place, whatever it holds."""
    from benchmarks.plan import graph_bytes

    assert graph_bytes(str(tmp_path)) < 20_000
