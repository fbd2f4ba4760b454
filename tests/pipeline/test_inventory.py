"""Inventories made once, and those that users make: planned from without the audio."""

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.kills import content
from pipeline.cli import main
from tests.pipeline.archive import RATE, tone, write
from tests.pipeline.test_detection import detect, rows

SECONDS = {"Marsh/20240601_235955.wav": 12.5, "RIDGE_20240601_060000.flac": 7, "no time.wav": 4}


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    root = tmp_path / "audio"
    for seed, (name, seconds) in enumerate(SECONDS.items()):
        write(root / name, tone(seconds, 500 + 100 * seed, seed=seed))
    (root / "broken.wav").write_bytes(b"RIFF nothing")
    return root


def inventory(audio: Path, output: Path, *more: str) -> int:
    return main(["inventory", str(audio), "--output", str(output), *more])


def table(file: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def told(audio: Path) -> dict[str, list[Any]]:
    """What a user may know of the readable recordings."""
    files = [audio / name for name in SECONDS]
    return {
        "path": [f"audio/{name}" for name in SECONDS],
        "size": [file.stat().st_size for file in files],
        "modified": [datetime.fromtimestamp(int(file.stat().st_mtime)) for file in files],
        "duration": [float(seconds) for seconds in SECONDS.values()],
        "sample_rate": [RATE] * 3,
        "channels": [1] * 3,
    }


def test_planned_from_an_inventory(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The same dataset; the audio is looked at by workers alone."""
    file = tmp_path / "inventory.parquet"
    assert inventory(audio, file) == 0
    said = capsys.readouterr()
    assert "Recordings   4, 23.5 s of audio" in said.out and "1 not_audio" in said.out
    assert "reading the headers of 4 recordings" in said.err
    assert not (tmp_path / "inventory.parquet.work").exists()
    assert detect(audio, bundle, tmp_path / "own", "--slot", "1") == 0

    audio.rename(tmp_path / "away")
    out = tmp_path / "out"
    assert detect(file, bundle, out, "--slot", "1") == 1, "none can be read"
    assert rows(out, "SELECT DISTINCT reason, curable FROM errors ORDER BY 1") == [
        ("not_audio", False),
        ("vanished", True),
    ]
    (tmp_path / "away").rename(audio)
    capsys.readouterr()
    assert detect(file, bundle, out, "--slot", "1") == 0
    assert "reading the headers" not in capsys.readouterr().err
    assert content(out) == content(tmp_path / "own")
    assert detect(file, bundle, out, "--slot", "1") == 0
    assert "nothing was left to do" in capsys.readouterr().out


def test_an_inventory_is_brought_up_to_date(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "inventory.parquet"
    assert inventory(audio, file) == 0
    first = pq.read_table(file)
    capsys.readouterr()
    assert inventory(audio, file) == 0
    assert "reading the headers" not in capsys.readouterr().err
    assert pq.read_table(file).equals(first)
    write(audio / "new.wav", tone(1))
    (audio / "broken.wav").unlink()
    assert inventory(audio, file) == 0
    assert "reading the headers of 1 recordings" in capsys.readouterr().err
    names = pq.read_table(file)["recording"].to_pylist()
    assert names == sorted([*SECONDS, "new.wav"])


def test_what_may_be_cured_is_asked_again(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A recording that was not there when the inventory was made."""
    names = tmp_path / "names.txt"
    names.write_text("audio/no time.wav\naudio/late.wav\n")
    file = tmp_path / "inventory.parquet"
    assert inventory(names, file, "--root", str(audio)) == 0
    assert "1 vanished" in capsys.readouterr().out
    write(audio / "late.wav", tone(2))
    assert detect(file, bundle, tmp_path / "out", "--root", str(audio)) == 0
    assert "reading the headers of 1 recordings" in capsys.readouterr().err
    found = "SELECT recording, sum(windows_scored)::INT FROM coverage GROUP BY 1 ORDER BY 1"
    assert rows(tmp_path / "out", found) == [("late.wav", 2), ("no time.wav", 4)]


def test_a_killed_inventory_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sample = write(tmp_path / "one.wav", tone(0.1))
    root = tmp_path / "audio"
    root.mkdir()
    for number in range(2000):
        os.link(sample, root / f"{number:04d}.wav")
    file = tmp_path / "inventory.parquet"
    code = "import sys; from pipeline.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "inventory", str(root), "--output", str(file)]
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    job = subprocess.Popen(
        [*command, "--direct_num_workers=1"],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    while not list(tmp_path.glob("inventory.parquet.work/inventory/*.parquet")):
        assert job.poll() is None
        time.sleep(0.002)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not file.exists()
    assert inventory(root, file) == 0
    said = capsys.readouterr().err
    assert "reading the headers of " in said and "2,000" not in said
    assert pq.read_table(file).num_rows == 2000


def test_an_inventory_of_the_user_s(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """What tells all is not looked at to plan; of the rest the header is read."""
    (audio / "broken.wav").unlink()
    known = told(audio)
    known["channels"][2] = None
    file = table(tmp_path / "mine.parquet", known)
    out = tmp_path / "out"
    assert detect(file, bundle, out, "--slot", "1", "--root", str(audio)) == 0
    assert "reading the headers of 1 recordings" in capsys.readouterr().err
    assert detect(audio, bundle, tmp_path / "own", "--slot", "1") == 0
    query = "SELECT recording, start_s, start_clock, label, score FROM predictions ORDER BY ALL"
    assert rows(out, query) == rows(tmp_path / "own", query)
    flags = "SELECT DISTINCT recording, flags FROM coverage ORDER BY 1"
    assert rows(out, flags) == [
        (name, [] if name == "no time.wav" else ["not_probed"]) for name in sorted(SECONDS)
    ]
    capsys.readouterr()
    assert detect(file, bundle, out, "--root", str(audio)) == 0
    assert "nothing was left to do" in capsys.readouterr().out
    # Another word of the inventory's is another version.
    known["modified"][0] = datetime(2030, 1, 1)
    table(file, known)
    assert detect(file, bundle, out, "--root", str(audio)) == 0
    assert "2 shards done" in capsys.readouterr().out, "it lies in two slots"


@pytest.mark.parametrize("becomes", ["gone", "damaged", "another"])
def test_what_is_not_there_now_keeps_its_rows(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture, becomes: str
) -> None:
    """An inventory that names other versions, while its disk is away or has other files."""
    out, more = tmp_path / "out", ("--slot", "1", "--root", str(audio))
    known = told(audio)
    assert detect(table(tmp_path / "mine.parquet", known), bundle, out, *more) == 0
    standing = rows(out, "FROM predictions ORDER BY ALL")
    later = known | {"modified": [datetime(2030, 1, 1)] * 3}
    path = audio / "no time.wav"
    content = path.read_bytes()
    if becomes == "gone":
        path.unlink()
    else:
        path.write_bytes(b"RIFF nothing" if becomes == "damaged" else content + content)
    capsys.readouterr()
    file = table(tmp_path / "later.parquet", later)
    assert detect(file, bundle, out, *more) == 1
    said = capsys.readouterr().err
    assert "1 of 4 shards are not committed" in said
    assert "gone or unreadable: no time.wav; their rows are kept" in said
    assert rows(out, "FROM predictions ORDER BY ALL") == standing
    assert rows(out, "SELECT count(*) FROM errors") == [(0,)]
    path.write_bytes(content)
    assert detect(file, bundle, out, *more) == 0
    assert rows(out, "FROM predictions ORDER BY ALL") == standing


@pytest.mark.parametrize("kind", ["ns", "us", "s", "zone"])
def test_a_moment_is_the_same_however_it_is_written(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture, kind: str
) -> None:
    known = told(audio)
    moments = pa.array(known["modified"], pa.timestamp("ms"))
    more = ("--slot", "1", "--root", str(audio))
    first = table(tmp_path / "first.parquet", known | {"modified": moments})
    assert detect(first, bundle, tmp_path / "out", *more) == 0
    other = pa.timestamp("us", "Europe/Berlin") if kind == "zone" else pa.timestamp(kind)
    second = table(tmp_path / "second.parquet", known | {"modified": moments.cast(other)})
    capsys.readouterr()
    assert detect(second, bundle, tmp_path / "out", *more) == 0
    assert "nothing was left to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("column", "wrong", "message"),
    [
        ("duration", 5.0, "the inventory tells frames 40000, the file has 100000"),
        ("sample_rate", 16_000, "the inventory tells sample_rate 16000, the file has 8000"),
        ("channels", 2, "the inventory tells channels 2, the file has 1"),
        ("size", 17, "the inventory tells size_bytes 17"),
    ],
)
def test_what_an_inventory_tells_is_checked(
    audio: Path, bundle: Path, tmp_path: Path, column: str, wrong: Any, message: str
) -> None:
    """A recording is left out, and done when the inventory is right."""
    known = told(audio)
    known[column][0] = wrong
    file = table(tmp_path / "mine.parquet", known)
    more = ("--slot", "1", "--root", str(audio))
    assert detect(file, bundle, tmp_path / "out", *more) == 0
    for name, reason, curable, said in rows(
        tmp_path / "out", "SELECT DISTINCT recording, reason, curable, message FROM errors"
    ):
        assert (name, reason, curable) == ("Marsh/20240601_235955.wav", "changed", True)
        assert message in said
    scored = "SELECT count(DISTINCT recording) FROM predictions"
    assert rows(tmp_path / "out", scored) == [(2,)]
    assert detect(table(file, told(audio)), bundle, tmp_path / "out", *more) == 0
    assert rows(tmp_path / "out", "SELECT count(*) FROM errors") == [(0,)]
    assert rows(tmp_path / "out", scored) == [(3,)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": ["big"] * 3}, "has a column size of type string, which is no int64"),
        ({"duration": [1.0, -2.0, 3.0]}, "tells duration -2.0 in row 2, which no recording has"),
        ({"sample_rate": [8000, 8000, 3]}, "tells sample_rate 3 in row 3"),
        ({"start": ["at dawn"] * 3}, "'at dawn' in row 1"),
        ({"path": ["a.wav", "b.wav", "a.wav"]}, "tells two things of a.wav"),
        ({"path": [None] * 3}, "names no recordings"),
        ({"file": ["x"] * 3}, "needs one column"),
    ],
)
def test_what_an_inventory_may_not_tell(
    audio: Path,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    changes: dict[str, list[Any]],
    message: str,
) -> None:
    known = told(audio) | changes
    if "path" in changes:
        known["size"] = [1, 2, 3]
    file = table(tmp_path / "mine.parquet", known)
    assert detect(file, bundle, tmp_path / "out") == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_rows_that_stand_twice_count_once(audio: Path, bundle: Path, tmp_path: Path) -> None:
    known = {name: [*values, values[0]] for name, values in told(audio).items()}
    file = table(tmp_path / "mine.parquet", known)
    out = tmp_path / "out"
    given = ["detect", "--input", str(file), str(audio), "--model", str(bundle)]
    assert main([*given, "--output", str(out), "--min-score", "0", "--slot", "1"]) == 0
    found = rows(out, "SELECT recording, sum(windows_expected)::INT FROM coverage GROUP BY 1")
    assert len(found) == 4 and dict(found)["Marsh/20240601_235955.wav"] == 13


def test_a_start_that_is_told(audio: Path, bundle: Path, tmp_path: Path) -> None:
    known = told(audio) | {"start": [None, None, datetime(2024, 7, 1, 5)], "site": [7.0, None, 8.5]}
    file = table(tmp_path / "mine.parquet", known)
    assert detect(file, bundle, tmp_path / "out", "--slot", "1", "--root", str(audio)) == 0
    query = """SELECT DISTINCT recording, site, time_source, min(start_clock)::VARCHAR
        FROM coverage GROUP BY ALL ORDER BY 1"""
    assert rows(tmp_path / "out", query) == [
        ("Marsh/20240601_235955.wav", "7", "name", "2024-06-01 23:59:55"),
        ("RIDGE_20240601_060000.flac", "RIDGE", "name", "2024-06-01 06:00:00"),
        ("no time.wav", "8.5", "inventory", "2024-07-01 05:00:00"),
    ]


def test_what_cannot_be_an_inventory(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def said(*command: str) -> str:
        assert main(["inventory", *command]) == 1
        return str(capsys.readouterr().err.splitlines()[-1])

    assert "does not end in .parquet" in said(str(audio), "--output", str(tmp_path / "a.csv"))
    other = table(tmp_path / "other.parquet", {"x": [1]})
    assert "is no inventory of dawnchorus" in said(str(audio), "--output", str(other))
    assert pq.read_table(other).column_names == ["x"]
    (tmp_path / "none").mkdir()
    file = str(tmp_path / "new.parquet")
    assert "No recordings were found" in said(str(tmp_path / "none"), "--output", file)
    assert "Unknown option --nonsense" in said(str(audio), "--output", file, "--nonsense=1")
    (tmp_path / "cut.parquet").write_bytes(other.read_bytes()[:100])
    assert "is no whole Parquet file" in said(str(tmp_path / "cut.parquet"), "--output", file)
    assert "is no whole Parquet" in said(str(audio), "--output", str(tmp_path / "cut.parquet"))
    shutil.rmtree(tmp_path / "none")
    assert "There is no file or folder" in said(str(tmp_path / "none"), "--output", file)
