"""Detection with embeddings: a fourth table of the same commit, chosen at the first run."""

import json
import re
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import soundfile

from model.audio import read_windows
from model.bundle import load_bundle
from model.runtime import Engine
from model.scorer import Outputs, Scorer
from model.windows import WindowRule
from pipeline.cli import main
from pipeline.dataset import HIVE_TYPES, open_dataset
from pipeline.job import Job
from pipeline.probe import probe
from pipeline.recording import PlaceRules
from pipeline.schema import embeddings, tables_of
from pipeline.scoring import score_spans
from pipeline.spans import spans_of
from tests.bundles import bundle_of
from tests.pipeline.archive import LABELS, RATE, cut, tiny_bundle, tone, write
from tests.pipeline.test_dataset import PARTITIONING
from tests.pipeline.test_detection import content, detect, rows

ROOT = Path(__file__).resolve().parents[2]
SIZE = 8
WINDOW = "site, date, recording, channel, start_s, end_s, start_clock, start_utc"


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Midnight inside a recording, one cut in half, one without a time, one that is empty."""
    root = tmp_path_factory.mktemp("archive") / "audio"
    write(root / "007/20240601_235955.WAV", tone(12.5, 800, seed=1))
    write(root / "007/20240602_001000+0200.WAV", tone(4, 900, seed=2))
    cut(write(root / "a b/20240601_120000.wav", tone(6, 1000, seed=3)), lambda size: size // 2)
    write(root / "a b/no time.wav", tone(4, 1200, seed=5))
    (root / "a b/20240605_000000.wav").write_bytes(b"")
    write(root / "a b/20240607_000000.wav", np.zeros(3 * RATE, np.float32))
    return root


@pytest.fixture(scope="module")
def out(audio: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "out"
    assert detect(audio, bundle, folder, "--embeddings") == 0
    return folder


def stored(out: Path, recording: str) -> np.ndarray[Any, Any]:
    """The embeddings of a recording, (n, d)."""
    where = f"WHERE recording = '{recording}' ORDER BY start_s"
    return np.array([row[0] for row in rows(out, f"SELECT embedding FROM embeddings {where}")])


def test_every_scored_window_has_one(out: Path) -> None:
    scored = "SELECT recording, sum(windows_scored)::INT AS n FROM coverage GROUP BY 1 HAVING n > 0"
    found = "SELECT recording, count(*)::INT AS n FROM embeddings GROUP BY 1"
    assert rows(out, f"{found} ORDER BY 1") == rows(out, f"{scored} ORDER BY 1")
    assert rows(out, "SELECT sum(windows_skipped)::INT FROM coverage") == [(7,)]
    windows = f"SELECT DISTINCT {WINDOW} FROM predictions ORDER BY ALL"
    assert rows(out, f"SELECT {WINDOW} FROM embeddings ORDER BY ALL") == rows(out, windows)
    assert rows(out, "SELECT count(*) FROM embeddings WHERE start_utc IS NOT NULL") == [(4,)]


@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
def test_they_are_those_of_the_network(
    out: Path, audio: Path, bundle: Path, tmp_path: Path, engine: Engine
) -> None:
    import keras

    if engine != "tensorflow":
        assert detect(audio, bundle, tmp_path / "out", "--embeddings", "--engine", engine) == 0
        out = tmp_path / "out"
    name = "007/20240601_235955.WAV"
    loaded = load_bundle(str(bundle))
    windows = read_windows(str(audio / name), WindowRule(1, 1), RATE)
    waveforms = np.stack([waveform for _, _, _, waveform in windows])
    given = Scorer(loaded, engine).outputs(waveforms).embeddings
    found = stored(out, name)
    assert found.shape == (13, SIZE)
    np.testing.assert_allclose(found, given, rtol=2**-11, atol=1e-5)
    from model.frontend import LogMel

    network = keras.saving.load_model(bundle / loaded.networks[0])
    flat = keras.Model(network.inputs[0], network.get_layer("logits").input)
    expected = np.asarray(flat(LogMel(loaded.front_end)(waveforms)))
    np.testing.assert_allclose(found, expected, rtol=2**-11, atol=1e-4)


def test_the_other_tables_are_as_without(
    out: Path, audio: Path, bundle: Path, tmp_path: Path
) -> None:
    assert detect(audio, bundle, tmp_path / "out") == 0
    without, given = content(tmp_path / "out"), content(out)
    assert {name.partition("/")[0] for name in without} == {"predictions", "coverage", "errors"}
    assert {name.replace("coverage", "embeddings", 1) for name in without} | without.keys() == (
        given.keys()
    )
    for name, part in without.items():
        # The commit record in coverage names the fourth part.
        assert given[name] == part or name.startswith("coverage"), name
    query = "SELECT * FROM coverage ORDER BY ALL"
    assert rows(out, query) == rows(tmp_path / "out", query)
    views = "SELECT view_name FROM duckdb_views() WHERE NOT internal AND view_name = 'embeddings'"
    assert rows(out, views) and not rows(tmp_path / "out", views)


def test_it_is_chosen_at_the_first_run(
    out: Path, audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = json.loads((out / "dataset.json").read_text())
    assert identity["embeddings"] is True and identity["embedding_size"] == SIZE
    assert detect(audio, bundle, out) == 1
    assert "embeddings is True there and False here" in capsys.readouterr().err
    assert detect(audio, bundle, out, "--embeddings") == 0
    assert "nothing was left to do" in capsys.readouterr().out
    few = tmp_path / "few"
    write(few / "A_20240601_000000.wav", tone(1))
    assert detect(few, bundle, tmp_path / "without") == 0
    identity = json.loads((tmp_path / "without/dataset.json").read_text())
    assert identity["embeddings"] is False and "embedding_size" not in identity
    assert detect(few, bundle, tmp_path / "without", "--embeddings") == 1
    assert "embeddings is False there and True here" in capsys.readouterr().err


def test_the_minimum_score_does_not_matter(
    out: Path, audio: Path, bundle: Path, tmp_path: Path
) -> None:
    tiny_bundle(tmp_path / "strict", threshold=1.0)
    more = ("--embeddings", "--min-score", "1")
    assert detect(audio, tmp_path / "strict", tmp_path / "out", *more) == 0
    assert rows(tmp_path / "out", "SELECT count(*) FROM predictions") == [(0,)]
    parts = [name for name in content(out) if name.startswith("embeddings")]
    assert len(parts) == 6
    for name in parts:
        assert content(tmp_path / "out")[name] == content(out)[name]


def test_a_part_without_rows_and_before_the_first_commit(
    out: Path, bundle: Path, tmp_path: Path
) -> None:
    for day in ("2024-06-05", "2024-06-07"):  # Unreadable; silent.
        (part,) = (out / f"embeddings/site=a%20b/date={day}").glob("*.parquet")
        assert pq.read_table(part, partitioning=None).num_rows == 0
        found = pq.read_schema(part)
        assert found.remove_metadata().equals(embeddings(SIZE))
        assert found.metadata[b"dawnchorus.score_fingerprint"]
    (tmp_path / "dataset.json").write_bytes((out / "dataset.json").read_bytes())
    query = "SELECT * FROM embeddings"
    nothing, given = (open_dataset(str(o)).connection.sql(query) for o in (tmp_path, out))
    assert dict(zip(nothing.columns, nothing.types, strict=True)) == dict(
        zip(given.columns, given.types, strict=True)
    )
    assert not nothing.fetchall()


def test_a_shard_without_its_embeddings_is_not_committed(
    out: Path, audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "out"
    shutil.copytree(out, broken)
    parts = sorted((broken / "embeddings").rglob("*.parquet"))
    parts[0].unlink()
    parts[1].write_bytes(parts[1].read_bytes()[:-9])
    assert detect(audio, bundle, broken, "--embeddings") == 0
    assert "2 shards done" in capsys.readouterr().out
    assert content(broken) == content(out)


def test_redo_carry_over_and_prune(out: Path, audio: Path, bundle: Path, tmp_path: Path) -> None:
    archive, grown = tmp_path / "audio", tmp_path / "grown"
    shutil.copytree(audio, archive)
    late, hidden = archive / "007/20240602_001000+0200.WAV", tmp_path / "hidden.wav"
    shutil.move(late, hidden)
    added = [write(archive / f"007/20240601_23590{n}.WAV", tone(2, seed=n)) for n in (0, 5)]
    alone = write(archive / "007/20240609_000000.WAV", tone(2))
    assert detect(archive, bundle, grown, "--embeddings") == 0
    before = stored(grown, "007/20240601_235955.WAV")
    write(added[0], tone(2, seed=7))
    added[1].unlink()
    alone.unlink()
    shutil.move(hidden, late)
    assert detect(archive, bundle, grown, "--embeddings") == 0
    assert len(rows(grown, "SELECT DISTINCT recording FROM embeddings")) == 7
    np.testing.assert_array_equal(stored(grown, "007/20240601_235955.WAV"), before)
    added[0].unlink()
    assert detect(archive, bundle, grown, "--embeddings", "--prune") == 0
    # A shard left without members has no part left.
    assert content(grown) == content(out)


def test_each_channel_and_overlap(bundle: Path, tmp_path: Path) -> None:
    sound = np.stack([tone(3, 800, seed=1), tone(3, 2000, seed=2)], axis=1)
    path = tmp_path / "audio/A_20240601_000000.wav"
    path.parent.mkdir()
    soundfile.write(path, sound, RATE)
    more = ["--embeddings", "--channel", "each", "--hop", "0.5"]
    assert detect(path.parent, bundle, tmp_path / "out", *more) == 0
    query = "SELECT channel, start_s, embedding FROM embeddings ORDER BY channel, start_s"
    found = rows(tmp_path / "out", query)
    assert [row[:2] for row in found] == [(c, k / 2) for c in (0, 1) for k in range(5)]
    scorer = Scorer(load_bundle(str(bundle)))
    loud = soundfile.read(path, dtype="float32")[0]
    for channel, start, embedding in found:
        window = loud[round(start * RATE) : round((start + 1) * RATE), channel]
        expected = scorer.outputs(window[None]).embeddings[0]
        np.testing.assert_allclose(embedding, expected, rtol=2**-11, atol=1e-5)


def test_a_network_without_one_is_refused_before_any_work(
    audio: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras
    from keras import layers

    front_end = load_bundle(str(bundle)).front_end
    image = [layers.Reshape((*front_end.input_shape, 1)), layers.Conv2D(3, 3, activation="sigmoid")]
    stack = [keras.Input(front_end.input_shape), *image, layers.GlobalAveragePooling2D()]
    bundle_of(tmp_path / "flat", [keras.Sequential(stack)], front_end, LABELS)
    assert detect(audio, tmp_path / "flat", tmp_path / "out", "--embeddings") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "has no Dense layer" in said and not (tmp_path / "out").exists()


def test_what_float16_cannot_hold_is_cut_off(bundle: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "A_20240601_000000.wav", tone(2))
    recording = probe(path.name, str(path), "")
    rule = WindowRule(1, 1)
    place = PlaceRules("root", None, None)(recording)
    job = Job("", "", rule, "mean", 0.0, {}, "run", embedding_size=3)
    wide = np.array([[1e6, -1e6, 1 / 3], [65519, 65520, np.inf]], np.float32)
    (found,) = score_spans(
        list(spans_of(recording, place, rule, 1)),
        job,
        load_bundle(str(bundle)),
        lambda waveforms: Outputs(np.zeros((2, 3), np.float32), wide),
    )
    assert found.embeddings is not None
    kept = np.array(found.embeddings["embedding"].to_pylist(), np.float16)
    third = np.float16(1 / 3)
    np.testing.assert_array_equal(kept, [[65504, -65504, third], [65504, 65504, 65504]])


class TestReaders:
    """Each in one line, `site` and `date` typed, the numbers as they are stored."""

    def expected(self, out: Path) -> list[tuple[str, date | None, str, float, list[float]]]:
        query = "SELECT site, date, recording, start_s, embedding FROM embeddings"
        return sorted(rows(out, query), key=lambda row: row[2:4])

    def check(self, out: Path, found: list[Any]) -> None:
        assert sorted(found, key=lambda row: row[2:4]) == self.expected(out)

    def test_duckdb(self, out: Path) -> None:
        source = f"read_parquet('{out}/embeddings/*/*/*.parquet', {HIVE_TYPES})"
        columns = f"site, date, recording, start_s, embedding::FLOAT[{SIZE}]"
        found = duckdb.sql(f"SELECT {columns} FROM {source}").fetchall()
        self.check(out, [(*row[:4], list(row[4])) for row in found])

    def test_polars(self, out: Path) -> None:
        schema = {"site": pl.String, "date": pl.Date}
        place = str(out / "embeddings/**/*.parquet")
        frame = pl.read_parquet(place, hive_partitioning=True, hive_schema=schema)
        assert frame.schema["embedding"] == pl.Array(pl.Float16, SIZE)
        assert frame["embedding"].to_numpy().shape == (len(frame), SIZE)
        columns = frame.select("site", "date", "recording", "start_s", "embedding")
        self.check(out, [(*row[:4], list(row[4])) for row in columns.rows()])

    def test_pyarrow(self, out: Path) -> None:
        table = ds.dataset(out / "embeddings", partitioning=PARTITIONING).to_table()
        assert table.schema.field("embedding").type == tables_of(SIZE)["embeddings"].field(-1).type
        columns = table.select(["site", "date", "recording", "start_s", "embedding"])
        self.check(out, [tuple(row.values()) for row in columns.to_pylist()])
        array = table["embedding"].combine_chunks()
        numbers = array.flatten().to_numpy().reshape(-1, SIZE)
        assert numbers.dtype == np.float16 and len(numbers) == len(table)

    def test_pandas(self, out: Path) -> None:
        frame = pd.read_parquet(out / "embeddings", partitioning=PARTITIONING)
        numbers = np.stack(frame["embedding"])
        assert numbers.dtype == np.float16 and numbers.shape == (len(frame), SIZE)
        days = [None if pd.isna(day) else day for day in frame["date"]]
        columns = [frame["site"].astype(str), days, frame["recording"], frame["start_s"]]
        self.check(out, list(zip(*columns, numbers.tolist(), strict=True)))


def test_what_the_docs_show_runs(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With four numbers in place of 128."""
    text = (ROOT / "docs/embeddings.md").read_text().replace("128", str(SIZE))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle, "birds.bundle")
    for hour in (5, 6):
        write(Path(f"recordings/CREEK_20240601_{hour:02}0000.wav"), tone(6, 300 * hour, seed=hour))
    (command,) = re.findall(r"^dawnchorus (.*)$", text, re.MULTILINE)
    assert main(command.split()) == 0
    shown: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "embeddings.md", "exec"), shown)
    numbers = shown["of_polars"].astype(float)
    (example,) = stored(Path("detections"), "CREEK_20240601_050000.wav")[2:3]
    cosines = numbers @ example / np.linalg.norm(numbers, axis=1) / np.linalg.norm(example)
    similar = [row[3] for row in shown["alike"].fetchall()]
    np.testing.assert_allclose(similar, np.sort(cosines)[:-11:-1], atol=1e-6)
    assert len(shown["both"].fetchall()) == 12 * len(LABELS)
    for numbers in (shown["of_polars"], shown["of_pyarrow"], shown["of_pandas"]):
        assert numbers.dtype == np.float16 and numbers.shape == (12, SIZE)
    wide = pq.read_table("embeddings32")
    assert wide.num_rows == 12 and wide.schema.field("embedding").type.value_type == pa.float32()
