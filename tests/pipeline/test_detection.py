"""The job from the command to the dataset, on real files with a real network."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kills import content
from model import runtime
from model.bundle import load_bundle
from model.bundle_document import Task
from model.errors import UserError
from pipeline.activity import activity
from pipeline.cli import main
from pipeline.dataset import open_dataset
from pipeline.detection import check_min_score
from pipeline.thresholds import resolve_thresholds
from tests.bundles import bundle_of
from tests.pipeline.archive import LABELS, RATE, cut, tiny_bundle, tone, write

CPUINFO = Path("/proc/cpuinfo")
needs_bfloat16 = pytest.mark.skipif(
    not (CPUINFO.exists() and runtime.has_bfloat16(CPUINFO.read_text())),
    reason="a processor without bfloat16",
)


def detect(audio: Path | str, bundle: Path, out: Path | str, *more: str) -> int:
    return main(
        ["detect", "--input", str(audio), "--model", str(bundle), "--output", str(out)]
        + ["--debug", "--min-score", "0", *more]
    )


def rows(out: Path | str, sql: str) -> list[tuple]:
    return open_dataset(str(out)).connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites, midnight inside a recording, one recording without a time."""
    root = tmp_path_factory.mktemp("archive") / "audio"
    write(root / "Marsh/Data/20240601_235950.WAV", tone(20.5, 800, seed=1))
    write(root / "Marsh/Data/20240602_001000.WAV", tone(7, 900, seed=2))
    write(root / "RIDGE_20240601_055955.flac", tone(10, 1000, 22_050, seed=3), 22_050)
    write(root / "RIDGE_20240601_180000.flac", tone(3.2, 1100, 22_050, seed=4), 22_050)
    write(root / "lost/no time.wav", tone(4, 1200, seed=5))
    return root


@pytest.fixture(scope="module")
def out(audio: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `audio`, all scores kept."""
    folder = tmp_path_factory.mktemp("dataset") / "out"
    assert detect(audio, bundle, folder) == 0
    return folder


def test_every_window_is_scored_once(out: Path) -> None:
    found = rows(
        out,
        """SELECT recording, sum(windows_expected)::INT, sum(windows_scored)::INT,
            sum(seconds_expected), sum(seconds_scored), any_value(duration_s)
            FROM coverage GROUP BY 1 ORDER BY 1""",
    )
    expected = {
        "Marsh/Data/20240601_235950.WAV": 20.5,
        "Marsh/Data/20240602_001000.WAV": 7,
        "RIDGE_20240601_055955.flac": 10,
        "RIDGE_20240601_180000.flac": 3.2,
        "lost/no time.wav": 4,
    }
    assert {row[0]: row[5] for row in found} == pytest.approx(expected)
    for name, windows, scored, seconds, seconds_scored, _ in found:
        assert windows == scored == int(np.ceil(expected[name]))
        assert seconds == pytest.approx(expected[name]) == seconds_scored
    n, distinct = rows(
        out, "SELECT count(*), count(DISTINCT (recording, start_s, label)) FROM predictions"
    )[0]
    assert n == distinct == (21 + 7 + 10 + 4 + 4) * len(LABELS)
    assert rows(out, "SELECT count(*) FROM errors") == [(0,)]


def test_a_run_records_where_its_time_went(out: Path) -> None:
    record = json.loads(min((out / "_runs").glob("*.json")).read_text())
    stages = ("decode", "resample", "spectrogram", "network", "write")
    assert record["stages_ms"].keys() == {f"{stage}_ms" for stage in stages}
    assert 0 < sum(record["stages_ms"].values()) < 2000 * record["seconds"]


def test_places_and_times(out: Path) -> None:
    found = rows(
        out,
        """SELECT site, date::VARCHAR, min(start_clock)::VARCHAR, any_value(time_source)
            FROM coverage GROUP BY 1, 2 ORDER BY 1, 2""",
    )
    assert found == [
        ("Marsh", "2024-06-01", "2024-06-01 23:59:50", "name"),
        ("Marsh", "2024-06-02", "2024-06-02 00:00:00", "name"),
        ("RIDGE", "2024-06-01", "2024-06-01 05:59:55", "name"),
        ("lost", None, None, None),
    ]
    wrong = "SELECT count(*) FROM predictions WHERE date != start_clock::DATE"
    assert rows(out, wrong) == [(0,)]
    assert rows(out, "SELECT count(*) FROM predictions WHERE start_utc IS NOT NULL") == [(0,)]


def test_scores_are_those_of_the_network(out: Path, audio: Path, bundle: Path) -> None:
    from model.audio import read_windows
    from model.bundle import load_bundle
    from model.scorer import Scorer
    from model.windows import WindowRule

    name = "RIDGE_20240601_055955.flac"
    scorer = Scorer(load_bundle(str(bundle)))
    windows = read_windows(str(audio / name), WindowRule(1, 1), RATE)
    expected = [scorer(waveform[None])[0] for _, _, _, waveform in windows]
    found = rows(
        out, f"SELECT score FROM predictions WHERE recording = '{name}' ORDER BY start_s, label"
    )
    order = np.argsort(LABELS)
    np.testing.assert_allclose(np.reshape(found, (10, 3)), np.array(expected)[:, order], atol=1e-5)


def test_the_same_command_again_does_nothing(out: Path, audio: Path, bundle: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("part-*.parquet")}
    assert detect(audio, bundle, out) == 0
    after = {path: path.stat().st_mtime_ns for path in out.rglob("part-*.parquet")}
    assert {p: t for p, t in after.items() if "_plan" not in str(p)} == {
        p: t for p, t in before.items() if "_plan" not in str(p)
    }
    assert "nothing was left to do" in capsys.readouterr().out


@pytest.mark.parametrize("slot", [6, 24])
def test_any_slot_gives_the_same_predictions(
    out: Path, audio: Path, bundle: Path, tmp_path: Path, slot: int
) -> None:
    assert detect(audio, bundle, tmp_path / "out", "--slot", str(slot)) == 0
    query = """SELECT recording, start_s, end_s, start_clock, label, score FROM predictions
        ORDER BY recording, start_s, label"""
    a, b = rows(out, query), rows(tmp_path / "out", query)
    assert [row[:5] for row in a] == [row[:5] for row in b]
    np.testing.assert_allclose([row[5] for row in a], [row[5] for row in b], atol=1e-5)


def test_worker_processes_write_the_same_bytes(
    out: Path, audio: Path, bundle: Path, tmp_path: Path
) -> None:
    more = ["--direct_num_workers", "2"]
    command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", bundle]
    command += ["--output", tmp_path / "out", "--min-score", "0", *more]
    subprocess.run([str(part) for part in command], check=True, timeout=300)
    assert content(tmp_path / "out") == content(out)


@pytest.mark.parametrize(
    ("more", "tolerance"),
    [
        (["--engine", "openvino"], 1e-4),
        pytest.param(["--precision", "bfloat16"], 0.01, marks=needs_bfloat16),
    ],
)
def test_engines_write_the_same_dataset_but_for_small_differences(
    out: Path, audio: Path, bundle: Path, tmp_path: Path, more: list[str], tolerance: float
) -> None:
    assert detect(audio, bundle, tmp_path / "out", *more) == 0
    query = "SELECT * EXCLUDE (score), score FROM predictions ORDER BY recording, start_s, label"
    a, b = rows(out, query), rows(tmp_path / "out", query)
    assert [row[:-1] for row in a] == [row[:-1] for row in b]
    np.testing.assert_allclose(
        [row[-1] for row in b], [row[-1] for row in a], rtol=0, atol=tolerance
    )
    identity = json.loads((tmp_path / "out/dataset.json").read_text())
    assert identity[more[0].removeprefix("--")] == more[1]
    assert detect(audio, bundle, tmp_path / "out") == 1
    assert detect(audio, bundle, tmp_path / "out", *more) == 0


def test_openvino_never_imports_tensorflow(bundle: Path, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    write(audio / "A_20240601_000000.wav", tone(3))
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError('tensorflow is imported')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", bundle, "--output"]
    for engine, status in (("openvino", 0), ("tensorflow", 1)):
        done = subprocess.run(
            [str(part) for part in (*command, tmp_path / engine, "--engine", engine)],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stderr
    assert "cannot be started: RuntimeError: tensorflow is imported" in done.stderr


def test_what_a_worker_says_of_the_bundle_is_told(
    audio: Path, bundle: Path, tmp_path: Path, capsys
) -> None:
    import keras

    good = load_bundle(str(bundle))
    network = keras.saving.load_model(bundle / good.networks[0])
    bundle_of(tmp_path / "bad", [network], good.front_end, (*LABELS, "one too many"), good.task)
    assert detect(audio, tmp_path / "bad", tmp_path / "out") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "front end and labels need" in said and "Traceback" not in said


def test_what_an_engine_needs_is_asked_first(
    audio: Path, bundle: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(arguments: list[str], says: str) -> None:
        assert detect(audio, bundle, tmp_path / "o", *arguments) == 1
        assert says in capsys.readouterr().err.splitlines()[-1]
        assert not (tmp_path / "o").exists()

    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None)
    check(["--engine", "openvino"], 'pip install ".[openvino]"')
    monkeypatch.undo()
    monkeypatch.setattr(runtime, "has_bfloat16", lambda cpuinfo: False)
    check(["--precision", "bfloat16"], "needs Linux on a processor with avx512_bf16")


def test_a_copied_archive_is_the_same_archive(
    out: Path, audio: Path, bundle: Path, tmp_path: Path, capsys
) -> None:
    shutil.copytree(out, tmp_path / "out")
    shutil.copytree(audio, tmp_path / "moved")
    moved = tmp_path / "moved"
    assert detect(moved, bundle, tmp_path / "out") == 1
    assert "--root" in capsys.readouterr().err
    assert detect(moved, bundle, tmp_path / "out", "--root", str(moved)) == 0
    assert "nothing was left to do" in capsys.readouterr().out
    assert content(tmp_path / "out") == content(out)


def test_a_redo_carries_over_what_stands(
    out: Path, audio: Path, bundle: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "audio"
    shutil.copytree(audio, archive)
    late = archive / "Marsh/Data/20240602_001000.WAV"
    hidden = tmp_path / "hidden.wav"
    shutil.move(late, hidden)
    added = archive / "Marsh/Data/20240601_235900.WAV"
    write(added, tone(5))
    grown = tmp_path / "grown"
    assert detect(archive, bundle, grown) == 0
    added.unlink()
    shutil.move(hidden, late)
    # The added recording is gone, but keeps its rows; the late one is new to a standing shard.
    assert detect(archive, bundle, grown) == 0
    names = {row[0] for row in rows(grown, "SELECT DISTINCT recording FROM predictions")}
    assert added.name in {Path(name).name for name in names} and len(names) == 6
    assert detect(archive, bundle, grown, "--prune") == 0
    assert content(grown) == content(out)


def test_a_changed_recording_is_scored_again(
    out: Path, audio: Path, bundle: Path, tmp_path: Path
) -> None:
    archive, grown = tmp_path / "audio", tmp_path / "grown"
    shutil.copytree(audio, archive)
    changed = archive / "Marsh/Data/20240601_235950.WAV"
    original = changed.read_bytes()
    write(changed, tone(25, 2000, seed=9))
    assert detect(archive, bundle, grown) == 0
    assert content(grown) != content(out)
    changed.write_bytes(original)
    assert detect(archive, bundle, grown) == 0
    assert content(grown) == content(out)


def test_pruning_what_was_alone_removes_its_parts(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "audio/A_20240601_000000.wav", tone(2))
    gone = write(tmp_path / "audio/B_20240601_000000.wav", tone(2))
    assert detect(tmp_path / "audio", bundle, tmp_path / "out") == 0
    gone.unlink()
    assert detect(tmp_path / "audio", bundle, tmp_path / "out", "--prune") == 0
    assert {name.split("/")[1] for name in content(tmp_path / "out")} == {"site=A"}


def test_a_recording_whose_time_changed_leaves_its_old_shard(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "audio/x_20240601_000000.wav", tone(2))
    assert detect(tmp_path / "audio", bundle, tmp_path / "out", "--site", "One") == 0
    assert detect(tmp_path / "audio", bundle, tmp_path / "out", "--site", "Two") == 0
    assert rows(tmp_path / "out", "SELECT DISTINCT site FROM coverage") == [("Two",)]


@pytest.mark.parametrize(
    ("more", "names"),
    [
        (["--hop", "0.5"], "hop_s"),
        (["--tail", "drop"], "tail"),
        (["--channel", "each"], "channel"),
        (["--min-score", "0.3"], "min_score"),
        (["--slot", "24"], "slot_hours"),
        (["--engine", "openvino"], "engine"),
        pytest.param(["--precision", "bfloat16"], "precision", marks=needs_bfloat16),
        (["--time-pattern", "%Y%m%d_%H%M%S*"], "time_pattern"),
    ],
)
def test_a_run_that_contradicts_the_dataset_is_refused(
    out: Path, audio: Path, bundle: Path, capsys, more: list[str], names: str
) -> None:
    before = content(out)
    assert detect(audio, bundle, out, *more) == 1
    assert names in capsys.readouterr().err
    assert content(out) == before


def test_damage_is_contained_and_counted(bundle: Path, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    write(audio / "A_20240601_000000.wav", tone(10))
    cut(write(audio / "A_20240601_000100.wav", tone(10)), lambda size: size // 2)
    write(audio / "A_20240601_000200.wav", np.zeros(3 * RATE, np.float32))
    (audio / "A_20240601_000300.wav").write_bytes(b"")
    (audio / "A_20240601_000400.wav").write_text("not audio at all, but named so")
    (audio / "A_20240601_000500.wav").mkdir()
    (audio / "A_20240601_000600.wac").write_bytes(b"WAC ")
    (audio / "A_20240601_000700.wav").symlink_to(tmp_path / "nowhere")
    cut(write(audio / "A_20240601_000800.wav", tone(1)), lambda size: 44)
    assert detect(audio, bundle, tmp_path / "out") == 0
    found = {
        row[0]: row[1:]
        for row in rows(
            tmp_path / "out",
            """SELECT recording, reason, curable, sum(windows_lost)::INT, min(from_s), max(to_s)
                FROM errors GROUP BY ALL""",
        )
    }
    assert found == {
        "A_20240601_000100.wav": ("truncated", False, 6, 4.0, 10.0),
        "A_20240601_000200.wav": ("silent", False, 3, 0.0, 3.0),
        "A_20240601_000300.wav": ("empty", False, 0, None, None),
        "A_20240601_000400.wav": ("not_audio", False, 0, None, None),
        "A_20240601_000500.wav": ("not_audio", False, 0, None, None),
        "A_20240601_000600.wac": ("unsupported", False, 0, None, None),
        "A_20240601_000700.wav": ("vanished", True, 0, None, None),
        "A_20240601_000800.wav": ("empty", False, 0, None, None),
    }
    totals = """SELECT sum(windows_expected)::INT, sum(windows_scored)::INT,
        sum(windows_skipped)::INT, count(DISTINCT recording)::INT FROM coverage"""
    assert rows(tmp_path / "out", totals) == [(23, 14, 9, 9)]
    undated = rows(tmp_path / "out", "SELECT DISTINCT date::VARCHAR, site FROM coverage")
    assert undated == [("2024-06-01", "A")], "unreadable ones belong to their name's time"
    flags = "SELECT flags FROM coverage WHERE recording = 'A_20240601_000100.wav'"
    assert rows(tmp_path / "out", flags) == [(["header_lies"],)]
    assert detect(audio, bundle, tmp_path / "out", "--max-skipped", "0.5") == 3
    assert detect(audio / "A_20240601_000300.wav", bundle, tmp_path / "none") == 1


@pytest.mark.parametrize("tail", ["pad", "drop", "shift"])
def test_tails(bundle: Path, tmp_path: Path, tail: str) -> None:
    write(tmp_path / "A_20240601_000000.wav", tone(2.5))
    assert detect(tmp_path / "A_20240601_000000.wav", bundle, tmp_path / "o", "--tail", tail) == 0
    bounds = rows(tmp_path / "o", "SELECT DISTINCT start_s, end_s FROM predictions ORDER BY 1")
    expected = {"pad": [(2.0, 2.5)], "drop": [], "shift": [(1.5, 2.5)]}[tail]
    assert bounds == [(0.0, 1.0), (1.0, 2.0), *expected]
    lost = rows(tmp_path / "o", "SELECT reason, windows_lost FROM errors")
    assert lost == ([("tail", 1)] if tail == "drop" else [])


def test_channels(bundle: Path, tmp_path: Path) -> None:
    stereo = np.stack([tone(2, 500), tone(2, 3000)], axis=1)
    write(tmp_path / "a/S_20240601_000000.wav", stereo)
    write(tmp_path / "a/S_20240601_000100.wav", tone(2))
    assert detect(tmp_path / "a", bundle, tmp_path / "each", "--channel", "each") == 0
    query = """SELECT recording[12:17], channel, count(*)::INT FROM predictions
        GROUP BY ALL ORDER BY ALL"""
    assert rows(tmp_path / "each", query) == [("000000", 0, 6), ("000000", 1, 6), ("000100", 0, 6)]
    assert detect(tmp_path / "a", bundle, tmp_path / "one", "--channel", "1") == 0
    assert rows(tmp_path / "one", query) == [("000000", 1, 6)]
    lost = rows(tmp_path / "one", "SELECT reason, windows_lost FROM errors")
    assert lost == [("no_channel", 2)]


def test_overlapping_windows(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "S_20240601_000000.wav", tone(3))
    assert detect(tmp_path / "S_20240601_000000.wav", bundle, tmp_path / "o", "--hop", "0.25") == 0
    starts = rows(tmp_path / "o", "SELECT DISTINCT start_s FROM predictions ORDER BY 1")
    assert [row[0] for row in starts] == [k * 0.25 for k in range(9)]
    seconds = "SELECT sum(seconds_scored), sum(windows_scored)::INT FROM coverage"
    assert rows(tmp_path / "o", seconds) == [(3.0, 9)]


def test_single_label_bundles_always_write_the_top_label(
    single_bundle: Path, audio: Path, tmp_path: Path
) -> None:
    assert detect(audio, single_bundle, tmp_path / "o", "--min-score", "1") == 0
    query = "SELECT count(*), count(DISTINCT (recording, start_s)) FROM predictions"
    assert rows(tmp_path / "o", query) == [(46, 46)]


def test_buckets(out: Path, audio: Path, bundle: Path, bucket: str) -> None:
    import fsspec

    fs = fsspec.filesystem("gs")
    for path in audio.rglob("*.*"):
        if path.is_file():
            fs.pipe_file(f"{bucket}/audio/{path.relative_to(audio)}", path.read_bytes())
    assert detect(f"{bucket}/audio", bundle, f"{bucket}/out") == 0
    prefix = bucket.removeprefix("gs://") + "/out/"
    parts = {
        name.removeprefix(prefix): fs.cat_file(name)
        for name in fs.find(f"{bucket}/out")
        if not name.removeprefix(prefix).startswith("_") and name.endswith(".parquet")
    }
    assert parts == content(out)
    assert detect(f"{bucket}/audio", bundle, f"{bucket}/out") == 0


def test_names_that_are_not_text(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    sound = write(tmp_path / "x.wav", tone(2)).read_bytes()
    for name in (b"caf\xe9_20240601_000000.wav", "é [1]'\"$_20240601_000000.wav".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/" + name)).write_bytes(sound)
    assert detect(tmp_path / "a", bundle, tmp_path / "o 'u\"t [x]$") == 0
    found = rows(
        tmp_path / "o 'u\"t [x]$", "SELECT recording, count(*)::INT FROM predictions GROUP BY 1"
    )
    names = {"caf\\udce9_20240601_000000.wav", "é [1]'\"$_20240601_000000.wav"}
    assert dict(found) == dict.fromkeys(names, 6)


def test_a_minimum_score_up_to_the_lowest_threshold_is_taken(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "low", threshold=0.123456)
    check_min_score(bundle, 0.123456)
    with pytest.raises(UserError, match=r"'wren'.* 0.123456, .* --min-score 0.123 or less"):
        check_min_score(bundle, 0.2)
    check_min_score(replace(bundle, task="singlelabel"), 1)


def test_errors_are_one_sentence(audio: Path, bundle: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    cases = [
        ([tmp_path / "nowhere", bundle, tmp_path / "o"], "no file or folder"),
        ([tmp_path / "empty", bundle, tmp_path / "o"], "No recordings were found"),
        ([audio, tmp_path / "empty", tmp_path / "o"], "bundle"),
        ([audio, bundle, tmp_path / "file/out"], "cannot be written"),
        ([audio, bundle, tmp_path / "o", "--colour", "red"], "--colour"),
        ([audio, bundle, tmp_path / "o", "--channel", "left"], "--channel"),
        ([audio, bundle, tmp_path / "o", "--hop", "2"], "hop"),
        ([audio, bundle, tmp_path / "o", "--min-score", "2"], "--min-score"),
        ([audio, bundle, tmp_path / "o", "--min-score", "0.6"], "threshold of 'wren'"),
        ([audio, bundle, tmp_path / "o", "--time-pattern", "nothing"], "nothing"),
        ([audio, bundle, tmp_path / "o", "--runner", "NoSuchRunner"], "NoSuchRunner"),
    ]
    for arguments, says in cases:
        source, model, output, *more = (str(argument) for argument in arguments)
        command = ["detect", "--input", source, "--model", model, "--output", output, *more]
        assert main(command) == 1, says
        said = capsys.readouterr().err.strip().splitlines()
        assert says in said[-1] and said[-1].startswith("error: "), said
        assert not any("Traceback" in line for line in said)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("task", ["multilabel", "singlelabel"])
def test_unknown_is_a_label_of_the_dataset(task: Task, tmp_path: Path) -> None:
    call = np.zeros(RATE * 2, np.float32)
    quiet = np.random.default_rng(1).normal(0, 1e-3, RATE * 2).astype(np.float32)
    call[2000:3600] = tone(0.2) * np.hanning(1600)
    call[RATE + 2000 : RATE + 3600] = call[2000:3600]
    sound = np.concatenate([quiet, quiet + call, quiet])
    write(tmp_path / "audio/RIDGE_20240601_055900.wav", sound)
    tiny_bundle(tmp_path / "bundle", task, rejects=True)
    out = tmp_path / "out"
    assert detect(tmp_path / "audio", tmp_path / "bundle", out, "--min-score", "0.4") == 0
    dataset = open_dataset(str(out))
    assert dataset.identity["labels"] == [*LABELS, "unknown"]
    found = rows(out, "SELECT start_s FROM predictions WHERE label = 'unknown' ORDER BY 1")
    heard = [0, 1, 2, 3, 4, 5] if task == "singlelabel" else [2, 3]
    assert [start for (start,) in found] == heard
    if task == "singlelabel":
        assert rows(out, "SELECT DISTINCT label FROM predictions") == [("unknown",)]
    thresholds = resolve_thresholds(
        task, dataset.identity["labels"], dataset.bundle().thresholds, ()
    )
    table = activity(dataset, "hour", thresholds).to_pylist()
    (row,) = [row for row in table if row["label"] == "unknown"]
    assert (row["windows_positive"], row["windows_scored"]) == (len(heard), 6)


def test_a_bundle_with_a_rejecter_is_another_for_a_dataset(
    audio: Path, bundle: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_bundle(tmp_path / "rejecting", rejects=True)
    assert main(
        [
            "detect",
            "--input",
            str(audio),
            "--model",
            str(tmp_path / "rejecting"),
            "--output",
            str(out),
        ]
    )
    assert "score_fingerprint is" in capsys.readouterr().err
