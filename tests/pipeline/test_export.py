"""Events as the files of other programs, and back."""

import csv
import io
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from model.annotations import read_annotations
from pipeline.cli import main
from pipeline.events import SCHEMA
from pipeline.export import KINDS, RAVEN, export
from pipeline.storage import Folder
from tests.pipeline.archive import tone, write


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive") / "audio"
    write(root / "A b/20240601_000000.wav", tone(6, seed=1))
    write(root / "A b/20240601_010000.wav", tone(5, seed=2))
    write(root / "böse #1/20240601_000000.wav", tone(4, seed=3))
    return root


@pytest.fixture(scope="module")
def dataset(audio: Path, bundle: Path) -> Path:
    out = audio.parent / "out"
    given = ["--input", str(audio), "--model", str(bundle), "--output", str(out)]
    assert main(["detect", *given, "--min-score", "0"]) == 0
    return out


def of_events(dataset: Path, tmp_path: Path) -> list[tuple]:
    path = tmp_path / "events.parquet"
    assert main(["events", str(dataset), "--threshold", "0.5", "--output", str(path)]) == 0
    query = f"SELECT recording, label, start_s, end_s, score FROM '{path}' ORDER BY ALL"
    return duckdb.sql(query).fetchall()


def test_what_raven_is_given_train_reads_again(
    audio: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "tables"
    command = ["export", str(dataset), "--to", "raven", "--threshold", "0.5"]
    assert main([*command, "--output", str(out)]) == 0
    assert "Written: " in capsys.readouterr().out
    expected = of_events(dataset, tmp_path)
    assert expected
    found = read_annotations(audio, out)
    assert sorted((a.recording, a.label, a.start_s, a.end_s) for a in found.annotations) == [
        (recording, label, pytest.approx(start, abs=1e-6), pytest.approx(end, abs=1e-6))
        for recording, label, start, end, _ in expected
    ]
    (first, *_) = sorted(out.rglob("*.txt"))
    rows = list(csv.DictReader(io.StringIO(first.read_text()), delimiter="\t"))
    assert tuple(rows[0]) == RAVEN
    assert first.name == "20240601_000000.Table.1.selections.txt"
    assert {row["Begin File"] for row in rows} == {"20240601_000000.wav"}
    assert [row["Selection"] for row in rows] == [str(n) for n in range(1, len(rows) + 1)]
    assert all(float(row["Low Freq (Hz)"]) < float(row["High Freq (Hz)"]) for row in rows)


def test_audacity(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    command = ["export", str(dataset), "--to", "audacity", "--threshold", "0.5"]
    assert main([*command, "--output", str(out)]) == 0
    lines = [
        (str(path.relative_to(out)).replace(".labels.1.txt", ".wav"), *line.split("\t"))
        for path in out.rglob("*.txt")
        for line in path.read_text().splitlines()
    ]
    assert sorted(lines) == sorted(
        (recording, f"{start:.6f}", f"{end:.6f}", f"{label} {score:.4f}")
        for recording, label, start, end, score in of_events(dataset, tmp_path)
    )


def test_names_that_differ_in_the_extension_and_hostile_ones(tmp_path: Path) -> None:
    names = ["A/x.flac", "A/x.wav", "A/y\t=1+1\n.wav"]
    rows = [
        dict.fromkeys(SCHEMA.names) | {"recording": name, "label": "a\tb\n=c", "start_s": 0.0,
         "end_s": 1.0, "score": 0.5, "channel": channel}
        for name in names
        for channel in (0, 1)
    ]  # fmt: skip
    tables = [pa.Table.from_pylist([row], SCHEMA) for row in rows]
    written = list(export(tables, KINDS["raven"], Folder(str(tmp_path)), (0.0, 8000.0)))
    assert written == [
        ("A/x.Table.1.selections.txt", 2),
        ("A/x.Table.2.selections.txt", 2),
        ("A/y\t=1+1\n.Table.1.selections.txt", 2),
    ]
    for name, _ in written:
        lines = (tmp_path / name).read_text().splitlines()
        assert len(lines) == 3 and all(line.count("\t") == len(RAVEN) - 1 for line in lines)
        assert [line.split("\t")[2] for line in lines[1:]] == ["1", "2"]
        assert lines[1].split("\t")[8] == "a b =c"


def test_what_cannot_be_done(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "file").touch()
    command = ["export", str(dataset), "--to", "raven", "--output"]
    for place, said in (("full", "is not empty"), ("file/below", "cannot be written")):
        assert main([*command, str(tmp_path / place), "--threshold", "0.5"]) == 1
        assert said in capsys.readouterr().err
    assert main([*command, str(tmp_path / "none"), "--threshold", "1"]) == 0
    assert "0 events in 0 recordings" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    assert main([*command, str(tmp_path / "none"), "--label", "nobody"]) == 1
    assert "no label nobody" in capsys.readouterr().err
