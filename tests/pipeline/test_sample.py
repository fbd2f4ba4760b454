"""Detections drawn to be verified, and their clips."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import duckdb
import fsspec
import matplotlib.image
import numpy as np
import pyarrow.compute as pc
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.errors import UserError
from pipeline.cli import main
from pipeline.clips import AXES, PLAY_RATE, draw_spectrogram, read_clip, slowed_wav
from pipeline.dataset import Dataset, open_dataset
from pipeline.drawn import DrawnSample
from pipeline.marks import Marks
from pipeline.sample import SampleRule, draw_sample
from tests.pipeline.archive import tone, write
from tests.pipeline.exported import PLUS, SUM, has_no_formula, make_hostile, read_csv


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive") / "audio"
    write(root / "A/20240601_000000.wav", tone(20, seed=1))
    write(root / "böse #1/20240601_000000.wav", tone(12.5, seed=3))
    return root


@pytest.fixture(scope="module")
def out(audio: Path, bundle: Path) -> Path:
    given = ["--input", str(audio), "--model", str(bundle), "--output", str(audio.parent / "out")]
    assert main(["detect", *given, "--min-score", "0"]) == 0
    return audio.parent / "out"


@pytest.fixture(scope="module")
def dataset(out: Path) -> Dataset:
    return open_dataset(str(out))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    number=st.integers(1, 50),
    seed=st.integers(0, 5),
    edges=st.lists(st.sampled_from([0.3, 0.45, 0.5, 0.505, 0.6]), unique=True).map(sorted),
)
def test_weights_add_up_to_all_detections(
    dataset: Dataset, number: int, seed: int, edges: list[float]
) -> None:
    rule = SampleRule("strata", number, tuple(edges), seed=seed)
    drawn = draw_sample(dataset, rule)
    assert drawn.equals(draw_sample(dataset, rule))
    everything = duckdb.sql(
        f"SELECT label, count(*) FROM '{dataset.folder.url}/predictions/*/*/*.parquet' GROUP BY 1"
    ).fetchall()
    for label, count in everything:
        own = drawn.filter(pc.equal(drawn["label"], label))
        assert pc.sum(own["weight"]).as_py() == pytest.approx(count)
        for stratum in own["stratum"].unique().to_pylist():
            part = own.filter(pc.equal(own["stratum"], stratum))
            low, high = map(float, stratum.split("-"))
            assert len(part) <= number
            assert all(
                np.float32(low) <= score < np.float32(high) or high == 1
                for score in part["score"].to_pylist()
            )
    keys = list(zip(*(drawn[k].to_pylist() for k in ("recording", "start", "label")), strict=True))
    assert len(set(keys)) == len(keys)


def test_what_was_rejected_is_not_drawn_unless_it_is_asked_for(dataset: Dataset) -> None:
    (label, *others) = dataset.identity["labels"]
    own = open_dataset(dataset.folder.url)
    renamed = f"* REPLACE (CASE label WHEN '{label}' THEN 'unknown' ELSE label END AS label)"
    own.connection.execute(f"CREATE TABLE rejected AS SELECT {renamed} FROM predictions")
    own.connection.execute("CREATE OR REPLACE VIEW predictions AS FROM rejected")
    own = replace(own, identity=own.identity | {"labels": [*others, "unknown"]})
    drawn = draw_sample(own, SampleRule())["label"].unique().to_pylist()
    assert set(drawn) == set(others)
    asked = draw_sample(own, SampleRule(labels=("unknown",)))["label"].unique().to_pylist()
    assert asked == ["unknown"]


def test_seeds_draw_others(dataset: Dataset) -> None:
    drawn = [draw_sample(dataset, SampleRule(number=2, seed=seed)) for seed in (0, 1)]
    assert not drawn[0].equals(drawn[1])


def test_the_highest_and_some_of_each_site(dataset: Dataset) -> None:
    (label, *_) = dataset.identity["labels"]
    top = draw_sample(dataset, SampleRule("top", 5, labels=(label,)))
    highest = duckdb.sql(
        f"""SELECT score FROM '{dataset.folder.url}/predictions/*/*/*.parquet'
        WHERE label = '{label}' ORDER BY score DESC LIMIT 5"""
    ).fetchall()
    assert sorted(top["score"].to_pylist(), reverse=True) == [score for (score,) in highest]
    assert "weight" not in top.column_names and set(top["stratum"].to_pylist()) == {"top"}
    some = draw_sample(dataset, SampleRule("random", 4, labels=(label,)))
    assert some["site"].value_counts().to_pylist() == [
        {"values": site, "counts": 4} for site in some["site"].unique().to_pylist()
    ]
    assert len(some) == 8


@pytest.mark.parametrize(
    "wrong",
    [{"number": 0}, {"edges": (0.5, 0.4)}, {"edges": (0.0, 0.5)}, {"edges": (0.5, 1.0)}],
)
def test_rules_that_are_none(wrong: dict) -> None:
    with pytest.raises(UserError):
        SampleRule(**wrong)


def test_table_clips_and_back_to_calibrate(
    audio: Path, bundle: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "sample"
    command = ["sample", str(out), "--per-stratum", "6", "--context", "0.5", "--output"]
    assert main([*command, str(folder)]) == 0
    rows = duckdb.sql(f"FROM read_csv('{folder}/sample.csv', header=true)").to_arrow_table()
    assert f"{len(rows)} detections" in capsys.readouterr().out
    for row in rows.to_pylist():
        assert row["problem"] is None
        clip, rate = soundfile.read(folder / row["clip"], dtype="float32")
        whole, _ = soundfile.read(audio / row["recording"], dtype="float32")
        first = max(0, round((row["start"] - 0.5) * rate))
        assert row["clip_start"] == first / rate
        expected = whole[first : round((row["end"] + 0.5) * rate)]
        assert len(clip) == len(expected) and np.abs(clip - expected).max() < 1e-6
        assert (folder / row["clip"]).with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    # Half right, half wrong, as a person would write it.
    table = (folder / "sample.csv").read_text().splitlines()
    place = table[0].split(",").index('"verdict"')
    for at, line in enumerate(table[1:], 1):
        cells = line.split(",")
        cells[place] = '"right"' if at % 2 else '"wrong"'
        table[at] = ",".join(cells)
    (tmp_path / "verified.csv").write_text("\n".join(table) + "\n")
    verified = ["--verified", str(tmp_path / "verified.csv"), "--model", str(bundle)]
    goal = ["--threshold-goal", "precision=0.4", "--output", str(tmp_path / "new")]
    assert main(["calibrate", *verified, *goal]) == 0, capsys.readouterr().err


def test_recordings_that_cannot_be_read(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "moved/A").mkdir(parents=True)
    (tmp_path / "moved/A/20240601_000000.wav").write_bytes(b"RIFF nothing")
    command = ["sample", str(out), "--draw", "random", "--number", "1"]
    folder = tmp_path / "sample"
    assert main([*command, "--root", str(tmp_path / "moved"), "--output", str(folder)]) == 0
    said = capsys.readouterr().out
    table = f"read_csv('{folder}/sample.csv')"
    rows = duckdb.sql(f"SELECT clip, clip_start, problem FROM {table}").fetchall()
    assert all(clip is start is None and problem for clip, start, problem in rows) and len(rows) > 1
    assert f"No clip      {len(rows)} detections: the column problem tells why" in said
    assert "Tell where it is with --root." in said


def test_a_sample_that_was_interrupted_is_drawn_again(out: Path, tmp_path: Path) -> None:
    command = ["sample", str(out), "--draw", "random", "--number", "1", "--output"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    left = tmp_path / "left"
    (left / "clips").mkdir(parents=True)
    for name in ("00001.flac", "00999.wav", "00999.png"):
        (left / "clips" / name).write_bytes(b"of another draw")
    assert main([*command, str(left)]) == 0

    def files(folder: Path) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert files(left) == files(tmp_path / "whole")
    (tmp_path / "own/clips").mkdir(parents=True)
    (tmp_path / "own/clips/song.flac").write_bytes(b"")
    assert main([*command, str(tmp_path / "own")]) == 1
    assert (tmp_path / "own/clips/song.flac").exists()


def test_what_cannot_be_done(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").touch()
    for more, said in (
        (["--label", "nobody"], "no label nobody"),
        (["--strata", "a,b"], "give scores"),
        (["--draw", "top", "--strata", "0.5"], "--strata is for --draw strata"),
        (["--context", "-1"], "--context is -1"),
        (["--number", "0"], "--number is 0"),
    ):
        assert main(["sample", str(out), "--output", str(tmp_path / "new"), *more]) == 1
        assert said in capsys.readouterr().err
    assert main(["sample", str(out), "--output", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_clips_at_the_edges(audio: Path) -> None:
    path = str(audio / "böse #1/20240601_000000.wav")
    samples, rate, at = read_clip(path, 0.0, 1.0, 3.0)
    assert (at, len(samples)) == (0.0, 4 * rate)
    samples, rate, at = read_clip(path, 12.0, 12.5, 3.0)
    assert at == 9.0 and len(samples) == round(3.5 * rate)
    for length in (0, 1, 15, 16, 100):
        picture = draw_spectrogram(np.zeros((length, 2), np.float32), 8000, 0.0, (0.0, 0.01))
        assert picture[:4] == b"\x89PNG"
    assert io.BytesIO(picture)


@pytest.mark.parametrize("rate", [8000, 384000])
def test_the_axes_of_a_picture_stand_where_they_are_said_to_be(rate: int) -> None:
    # A click in silence, a quarter into the clip, is the only bright column.
    samples = np.zeros((2 * rate, 1), np.float32)
    samples[rate // 2 : rate // 2 + 20] = 0.5
    content = draw_spectrogram(samples, rate, 100.0, (110.0, 111.0))
    picture = matplotlib.image.imread(io.BytesIO(content))[:, :, :3].sum(axis=2)
    left, bottom, width, height = AXES
    rows, columns = picture.shape
    place = picture[round((1 - bottom - 0.37 * height) * rows)]  # Between the ticks.
    first, stop = round(left * columns) + 3, round((left + width) * columns) - 3
    inside = place[first:stop]
    assert np.median(inside) < 0.1 < 1 < place[first - 10] and place[stop + 10] > 1
    brightest = (first + inside.argmax() - left * columns) / (width * columns)
    assert brightest == pytest.approx(0.25, abs=0.01)


def test_a_clip_is_played_slower_and_lower(tmp_path: Path) -> None:
    rate = 384000
    seconds = np.arange(rate // 4) / rate
    bat, hum = (0.2 * np.sin(2 * np.pi * hertz * seconds) for hertz in (40000, 1000))
    path = tmp_path / "bat.flac"
    soundfile.write(path, np.stack([bat, hum], axis=1), rate, subtype="PCM_24")
    for slow, channel, hertz in ((10, 0, 4000), (20, 0, 2000), (1, 1, 1000), (2, 1, 500)):
        content, own_rate = slowed_wav(str(path), channel, slow)
        assert own_rate == rate
        played, played_rate = soundfile.read(io.BytesIO(content), dtype="float32")
        assert soundfile.info(io.BytesIO(content)).subtype == "PCM_24"
        assert played_rate == PLAY_RATE
        assert len(played) == pytest.approx(slow * PLAY_RATE / 4, abs=2)
        spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played))))
        assert spectrum.argmax() * played_rate / len(played) == pytest.approx(hertz, rel=0.01)
    # At its own speed nothing is heard of a bat, and of the mean each channel has half.
    silent, _ = soundfile.read(io.BytesIO(slowed_wav(str(path), 0, 1)[0]))
    assert np.abs(silent[1000:-1000]).max() < 1e-3
    mean, _ = soundfile.read(io.BytesIO(slowed_wav(str(path), None, 1)[0]))
    assert np.abs(mean[1000:-1000]).max() == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ValueError, match="no channel 2"):
        slowed_wav(str(path), 2, 1)


def test_what_is_too_long_to_be_played_slower(tmp_path: Path) -> None:
    path = write(tmp_path / "long.wav", np.zeros(100 * 181, np.float32), rate=100)
    with pytest.raises(ValueError, match="too long to be played 10 times slower"):
        slowed_wav(str(path), None, 10)
    assert len(slowed_wav(str(path), None, 4)[0]) > 4 * 181 * PLAY_RATE * 3


def test_names_that_mean_harm(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out, folder = make_hostile(tmp_path), tmp_path / "sample"
    command = ["sample", str(out), "--draw", "random", "--number", "2", "--output", str(folder)]
    assert main(command) == 0
    rows = read_csv(folder / "sample.csv")
    assert has_no_formula(rows) and {row["site"].strip() for row in rows} >= {SUM, PLUS}
    for at, row in enumerate(rows):
        row["verdict"] = "right" if at % 2 else "wrong"
    with (folder / "sample.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    drawn = DrawnSample(folder)
    for name, content in drawn.results(Marks(drawn.stated)).items():
        (folder / name).write_bytes(content)
        assert has_no_formula(read_csv(folder / name))
    # Recordings and labels are found again under the names that they have.
    verified = ["--verified", str(folder / "verified.csv"), "--dataset", str(out)]
    made = ["--model", str(tmp_path / "bundle"), "--output", str(tmp_path / "new")]
    goal = ["--threshold-goal", "precision=0.1"]
    assert main(["calibrate", *verified, *made, *goal]) == 0, capsys.readouterr().err


def test_clips_of_an_archive_in_a_bucket(
    out: Path, audio: Path, bucket: str, tmp_path: Path
) -> None:
    fsspec.filesystem("gs").put(str(audio), f"{bucket}/audio", recursive=True)
    command = ["sample", str(out), "--draw", "random", "--number", "1"]
    assert main([*command, "--output", str(tmp_path / "here"), "--root", str(audio)]) == 0
    there = [*command, "--output", f"{bucket}/sample", "--root", f"{bucket}/audio"]
    assert main(there) == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "here/clips").iterdir()}
    assert any(name.endswith(".flac") for name in found)
    for name, content in found.items():
        assert fsspec.filesystem("gs").cat(f"{bucket}/sample/clips/{name}") == content
