"""Events as the files of other programs, and back."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from model.annotations import read_annotations
from model.events import EventRule
from pipeline.cli import main
from pipeline.dataset import open_dataset
from pipeline.events import SCHEMA, events
from pipeline.export import KINDS, OF_SITES, export
from pipeline.export_command import KINDS as TOLD
from pipeline.selections import BIRDNET, FORMS, RAVEN, Context, write_each
from pipeline.storage import Folder
from tests.pipeline.archive import tone, write
from tests.pipeline.exported import (
    LABELS,
    LINE,
    RECORDINGS,
    deploy,
    export_to,
    has_no_formula,
    of_events,
    read_csv,
)

CONTEXT = Context(Folder("/sound"), (0.0, 8000.0))


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


def tables_of(names: list[str], label: str, *channels: int | None) -> list[pa.Table]:
    """A table for each event of a second."""
    return [
        pa.Table.from_pylist(
            [
                dict.fromkeys(SCHEMA.names)
                | {"recording": name, "label": label, "start_s": 0.0, "end_s": 1.0, "score": 0.5}
                | {"channel": channel, "site": "A"}
            ],
            SCHEMA,
        )
        for name in names
        for channel in channels
    ]


def test_what_raven_is_given_train_reads_again(
    audio: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "tables"
    assert export_to(out, dataset, "raven", "--threshold", "0.5") == 0
    assert "Written: " in capsys.readouterr().out
    expected = of_events(dataset, tmp_path, "0.5")
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
    assert export_to(out, dataset, "audacity", "--threshold", "0.5") == 0
    lines = [
        (str(path.relative_to(out)).replace(".labels.1.txt", ".wav"), *line.split("\t"))
        for path in out.rglob("*.txt")
        for line in path.read_text().splitlines()
    ]
    assert sorted(lines) == sorted(
        (recording, f"{start:.6f}", f"{end:.6f}", f"{label} {score:.4f}")
        for recording, label, start, end, score in of_events(dataset, tmp_path, "0.5")
    )


def test_the_csv_is_what_train_reads_to_the_last_digit(
    audio: Path, dataset: Path, hostile: Path, tmp_path: Path
) -> None:
    for root, of, threshold in ((audio, dataset, "0.5"), (hostile.parent / "audio", hostile, "0")):
        out = tmp_path / of.parent.name
        assert export_to(out, of, "csv", "--threshold", threshold) == 0
        (file,) = out.iterdir()
        found = read_annotations(root, file)
        assert sorted((a.recording, a.label, a.start_s, a.end_s) for a in found.annotations) == [
            row[:4] for row in of_events(of, tmp_path, threshold)
        ]
        assert not found.warnings
        rows = read_csv(file)
        assert list(rows[0]) == ["file", "start", "end", "label", "score", "site"]
        assert has_no_formula(rows)


def test_birdnet(hostile: Path, tmp_path: Path) -> None:
    assert export_to(tmp_path / "out", hostile, "birdnet-csv") == 0
    root = hostile.parent / "audio"
    for name, seconds in RECORDINGS.items():
        stem, _, _ = name.rpartition(".")
        rows = read_csv(tmp_path / "out" / f"{stem}.BirdNET.results.csv")
        assert tuple(rows[0]) == BIRDNET
        assert has_no_formula(rows)
        file = str(root / name).replace("\n", " ")
        assert {row["File"] for row in rows} == {file}
        assert {row["End (s)"] for row in rows} == {f"{seconds:.6f}"}
        assert sorted((row["Scientific name"], row["Common name"]) for row in rows) == [
            (" =1+1", " =1+1"),
            ("<b>@wren</b>", "<b>@wren</b>"),
            ("Turdus merula", 'Black "bird", male'),
        ]
    assert len(list((tmp_path / "out").rglob("*.csv"))) == len(RECORDINGS)


def test_names_that_differ_in_the_extension_and_hostile_ones(tmp_path: Path) -> None:
    names = ["A/x.flac", "A/x.wav", "A/y\t=1+1\n.wav"]
    tables = tables_of(names, "a\tb\n=c", 0, 1)
    assert write_each(tables, FORMS["raven"], Folder(str(tmp_path)), CONTEXT).events == 6
    written = [
        "A/x.Table.1.selections.txt",
        "A/x.Table.2.selections.txt",
        "A/y\t=1+1\n.Table.1.selections.txt",
    ]
    assert Folder(str(tmp_path)).files() == written
    for name in written:
        lines = (tmp_path / name).read_text().splitlines()
        assert len(lines) == 3 and all(line.count("\t") == len(RAVEN) - 1 for line in lines)
        assert [line.split("\t")[2] for line in lines[1:]] == ["1", "2"]
        assert lines[1].split("\t")[8] == "a b =c"


def test_no_file_takes_the_place_of_another(tmp_path: Path) -> None:
    tables = tables_of(["x.2.wav", "x.flac", "x.wav"], "wren", None)
    assert write_each(tables, FORMS["birdnet-csv"], Folder(str(tmp_path)), CONTEXT).files == 3
    files = {path.name: read_csv(path)[0]["File"] for path in tmp_path.iterdir()}
    assert files == {
        "x.2.BirdNET.results.csv": "/sound/x.2.wav",
        "x.BirdNET.results.csv": "/sound/x.flac",
        "x.3.BirdNET.results.csv": "/sound/x.wav",
    }


def test_each_kind_is_told(capsys: pytest.CaptureFixture) -> None:
    assert list(TOLD) == list(KINDS)
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    said = capsys.readouterr().out
    assert all(f"{kind}:" in said for kind in KINDS)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(FORMS)))
def test_a_failure_on_the_way_leaves_nothing_half_written(
    placed: Path, tmp_path: Path, kind: str
) -> None:
    dataset = open_dataset(str(placed))

    def broken() -> Iterator[pa.Table]:
        yield from events(dataset, dict.fromkeys(LABELS, 0.0), EventRule())
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        export(dataset, broken(), kind, Folder(str(tmp_path / "out")))
    assert Folder(str(tmp_path / "out")).files() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_bucket_holds_what_a_folder_holds(
    placed: Path, tmp_path: Path, bucket: str, kind: str
) -> None:
    there = f"{bucket}/tables"
    assert export_to(tmp_path / "out", placed, kind) == export_to(there, placed, kind) == 0
    here = Folder(str(tmp_path / "out"))
    names = here.files()
    assert names and Folder(there).files() == names
    for name in names:
        if name != "datapackage.json":
            assert Folder(there).read(name) == here.read(name)


def test_what_cannot_be_done(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "file").touch()
    for kind in ("raven", "csv", "kaleidoscope", "geojson", "dwc"):
        for place, said in (("full", "is not empty"), ("file/below", "cannot be written")):
            assert export_to(tmp_path / place, dataset, kind, "--threshold", "0.5") == 1
            assert said in capsys.readouterr().err
    for kind in set(KINDS) - OF_SITES:
        assert export_to(tmp_path / "none", dataset, kind, "--threshold", "1") == 0
        assert "0 events in 0 recordings" in capsys.readouterr().out
        assert not (tmp_path / "none").exists()
    assert export_to(tmp_path / "none", dataset, "raven", "--label", "nobody") == 1
    assert "no label nobody" in capsys.readouterr().err


def test_a_line_break_in_a_name_is_exact_only_where_train_reads_it(
    hostile: Path, tmp_path: Path
) -> None:
    for kind, column in (("csv", "site"), ("kaleidoscope", "SITE"), ("dwc", "locality")):
        assert export_to(tmp_path / kind, hostile, kind) == 0
        (file,) = (tmp_path / kind).glob("*.csv")
        sites = {row[column].strip() for row in read_csv(file)}
        assert (LINE if kind == "csv" else LINE.replace("\n", " ")) in sites


def test_each_channel(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "audio/A/20240601_050000.wav", np.stack([tone(2), tone(2, 2000)], axis=1))
    given = ["--input", str(tmp_path / "audio"), "--model", str(bundle), "--min-score", "0"]
    out = tmp_path / "out"
    assert main(["detect", *given, "--output", str(out), "--channel", "each"]) == 0
    deploy(out, tmp_path / "t.csv", (("A", "utc", "", 1.0, 2.0),))
    for kind in ("kaleidoscope", "camtrap", "dwc", "geojson"):
        assert export_to(tmp_path / kind, out, kind) == 0
    rows = read_csv(tmp_path / "kaleidoscope/cluster.csv")
    assert [row["CHANNEL"] for row in rows] == ["0"] * 3 + ["1"] * 3
    rows = read_csv(tmp_path / "camtrap/observations.csv")
    assert [row["observationTags"][-9:] for row in rows] == ["channel:0"] * 3 + ["channel:1"] * 3
    assert len(read_csv(tmp_path / "camtrap/media.csv")) == 1
    rows = read_csv(tmp_path / "dwc/occurrence.csv")
    assert [row["eventRemarks"][-11:] for row in rows] == [", channel 0"] * 3 + [", channel 1"] * 3
    assert {row["samplingEffort"] for row in rows} == {"2.0 s of the recording scored"}
    assert len({row["occurrenceID"] for row in rows}) == 6
    (site,) = json.loads((tmp_path / "geojson/sites.geojson").read_text())["features"]
    assert site["properties"]["hours_scored"] == round(2 / 3600, 4)
    assert set(site["properties"]["events"].values()) == {2}
