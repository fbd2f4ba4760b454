"""What later runs on a dataset do again, and what they leave alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model.bundle_document import content_fingerprint
from pipeline.dataset import open_dataset
from tests.pipeline.archive import LABELS, cut, tone, write
from tests.pipeline.test_detection import content, detect, rows

ERRORS = "SELECT recording, reason, windows_lost FROM errors ORDER BY 1"
SCORED = "SELECT recording, sum(windows_scored)::INT FROM coverage GROUP BY 1 ORDER BY 1"


def detect_without_rights(
    audio: Path, bundle: Path, out: Path, *more: str
) -> "subprocess.CompletedProcess[str]":
    """Detection by a user who may not read and write everything, as root may."""
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", bundle]
    command += ["--output", out, *more]
    return subprocess.run(
        [str(part) for part in (drop if os.geteuid() == 0 else []) + command],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    write(tmp_path / "audio/A_20240601_000000.wav", tone(3))
    write(tmp_path / "audio/A_20240601_000100.wav", tone(2, seed=1))
    return tmp_path / "audio"


def test_a_curable_reason_is_tried_again(audio: Path, bundle: Path, tmp_path: Path) -> None:
    out, name = tmp_path / "out", "A_20240601_000200.wav"
    (audio / name).symlink_to(tmp_path / "later.wav")
    assert detect(audio, bundle, out) == 0
    assert rows(out, ERRORS) == [(name, "vanished", 0)]
    standing = content(out)
    assert detect(audio, bundle, out) == 0
    assert content(out) == standing
    write(tmp_path / "later.wav", tone(1))
    assert detect(audio, bundle, out) == 0
    assert rows(out, ERRORS) == [] and (name, 1) in rows(out, SCORED)


def test_damage_is_tried_again_only_when_asked(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    cut(audio / "A_20240601_000100.wav", lambda size: size * 3 // 4)
    assert detect(audio, bundle, out) == 0
    standing = content(out)
    assert rows(out, ERRORS) == [("A_20240601_000100.wav", "truncated", 1)]
    capsys.readouterr()
    assert detect(audio, bundle, out) == 0
    assert "nothing was left to do" in capsys.readouterr().out
    assert detect(audio, bundle, out, "--redo-damaged") == 0
    assert "1 shard done: 2.0 s" in capsys.readouterr().out
    assert content(out) == standing


def test_what_stands_scored_and_is_unreadable_now_counts_as_absent(
    audio: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert detect(audio, bundle, out) == 0
    standing = content(out)
    (audio / "A_20240601_000100.wav").write_bytes(b"")
    assert detect(audio, bundle, out) == 0
    assert content(out) == standing
    assert detect(audio, bundle, out, "--prune") == 0
    assert content(out) == standing


def test_a_recording_that_became_shorter_is_cut_in_its_shards(bundle: Path, tmp_path: Path) -> None:
    audio, out = tmp_path / "audio", tmp_path / "out"
    long = write(audio / "A_20240601_005958.wav", tone(5))
    assert detect(audio, bundle, out) == 0
    assert len([name for name in content(out) if name.startswith("coverage")]) == 2
    write(long, tone(2, seed=3))
    assert detect(audio, bundle, out) == 0
    assert rows(out, "SELECT count(DISTINCT start_s)::INT FROM predictions") == [(2,)]
    write(tmp_path / "again/A_20240601_005958.wav", tone(2, seed=3))
    assert (
        detect(tmp_path / "again", bundle, tmp_path / "fresh", "--root", str(tmp_path / "again"))
        == 0
    )
    assert content(out) == content(tmp_path / "fresh")


def test_prune_keeps_what_is_not_below_the_inputs(
    audio: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write(audio / "x/B_20240601_000000.wav", tone(1))
    assert detect(audio, bundle, out) == 0
    (audio / "A_20240601_000100.wav").unlink()
    assert detect(audio / "x", bundle, out, "--prune") == 0
    assert len(rows(out, SCORED)) == 3
    assert detect(audio, bundle, out, "--prune") == 0
    assert len(rows(out, SCORED)) == 2


@pytest.mark.parametrize("given", ["*.wav", "list.txt"])
def test_prune_needs_a_folder(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture, given: str
) -> None:
    """Of a pattern or a list nobody knows what it held before."""
    out = tmp_path / "out"
    assert detect(audio, bundle, out) == 0
    standing = content(out)
    (audio / "A_20240601_000100.wav").unlink()
    (audio / "list.txt").write_text("".join(f"{path}\n" for path in audio.glob("*.wav")))
    assert detect(audio / given, bundle, out, "--prune", "--root", str(audio)) == 0
    assert "nothing is pruned, because only a folder" in capsys.readouterr().err
    assert content(out) == standing


def test_thresholds_may_change(audio: Path, bundle: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    shutil.copytree(bundle, second)
    document = json.loads((second / "bundle.json").read_text())
    document["thresholds"] = dict.fromkeys(LABELS, 0.9)
    document["fingerprints"]["content"] = content_fingerprint(document)
    (second / "bundle.json").write_text(json.dumps(document))
    assert detect(audio, bundle, tmp_path / "out") == 0
    assert detect(audio, second, tmp_path / "out") == 0
    assert open_dataset(str(tmp_path / "out")).bundle().thresholds["wren"] == 0.9


def test_sites_that_cannot_be_told_apart_are_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a/Ridge/20240601_000000.wav", tone(1))
    write(tmp_path / "a/RIDGE/20240601_000000.wav", tone(1))
    assert detect(tmp_path / "a", bundle, tmp_path / "out") == 1
    assert "Ridge" in capsys.readouterr().err.splitlines()[-1]
    assert content(tmp_path / "out") == {}


def test_permissions(audio: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (audio / "A_20240601_000100.wav").chmod(0o000)
    write(audio / "closed/A_20240601_000300.wav", tone(1))
    (audio / "closed").chmod(0o000)
    (tmp_path / "readonly").mkdir(mode=0o500)
    refused = detect_without_rights(audio, bundle, tmp_path / "readonly/out")
    assert refused.returncode == 1
    assert "Permission denied" in refused.stderr.splitlines()[-1]
    found = detect_without_rights(audio, bundle, out)
    assert found.returncode == 0 and "not listed" in found.stderr
    assert rows(out, ERRORS) == [("A_20240601_000100.wav", "permission", 0)]
    (audio / "A_20240601_000000.wav").unlink()
    found = detect_without_rights(audio, bundle, out, "--prune")
    assert found.returncode == 0 and "nothing is pruned" in found.stderr
    assert ("A_20240601_000000.wav", 3) in rows(out, SCORED)
    found = detect_without_rights(audio / "closed", bundle, out)
    assert found.returncode == 1 and "may not be read" in found.stderr
    (audio / "closed").chmod(0o700)
