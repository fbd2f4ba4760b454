"""The end of a run: from the parts, and from the commits alone."""

from pathlib import Path

import pytest

from pipeline import detection
from pipeline.cli import main
from pipeline.dataset import open_dataset
from pipeline.summary import summarise, tallied
from tests.pipeline.archive import tone, write
from tests.pipeline.test_buckets import upload


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites; one recording over a slot's edge, one damaged, one that ends too early."""
    root = tmp_path_factory.mktemp("archive") / "audio"
    write(root / "A/20240601_005955.wav", tone(12.5, seed=1))
    whole = write(root / "B/20240601_010000.wav", tone(9, seed=2))
    (root / "B/20240601_020000.wav").write_bytes(whole.read_bytes()[:-50_000])
    (root / "B/20240601_030000.wav").write_bytes(b"RIFF nothing")
    return root


def command(audio: str, bundle: Path, out: str) -> list[str]:
    given = ["--input", audio, "--model", str(bundle), "--output", out]
    return ["detect", *given, "--min-score", "0", "--slot", "1"]


def test_commits_tell_what_parts_hold(audio: Path, bundle: Path, tmp_path: Path) -> None:
    assert main(command(str(audio), bundle, str(tmp_path / "out"))) == 0
    dataset = open_dataset(str(tmp_path / "out"))
    read, told = summarise(dataset), tallied(dataset.standing)
    assert {(label, n) for label, _, n in read.labels} == {(name, n) for name, _, n in told.labels}
    assert all(above is None for _, above, _ in told.labels)
    numbers = ("recordings", "unreadable", "sites", "windows_expected", "windows_scored")
    assert [getattr(read, name) for name in numbers] == [getattr(told, name) for name in numbers]
    assert told.recordings == 4 and told.unreadable == 1 and told.sites == 2
    assert told.seconds_expected == pytest.approx(read.seconds_expected)
    assert told.seconds_scored == pytest.approx(read.seconds_scored)
    assert [error[:3] for error in told.errors] == [error[:3] for error in read.errors]
    assert [error[3] for error in told.errors] == pytest.approx([e[3] for e in read.errors])


def test_no_prediction_is_opened_over_a_bucket_with_many_shards(
    audio: Path,
    bundle: Path,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    upload(audio, f"{bucket}/audio")
    assert main(command(f"{bucket}/audio", bundle, f"{bucket}/out")) == 0
    with_thresholds = capsys.readouterr().out
    monkeypatch.setattr(detection, "MOST_OPENED", 1)
    monkeypatch.setattr(detection, "open_dataset", None)
    assert main(command(f"{bucket}/audio", bundle, f"{bucket}/out")) == 0
    without = capsys.readouterr().out
    assert "at threshold" in with_thresholds and "at threshold" not in without
    assert with_thresholds.splitlines()[1:4] == without.splitlines()[1:4]
    assert "written" in without
