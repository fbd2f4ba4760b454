import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from model.annotations import read_annotations
from model.bundle import Bundle, load_bundle, write_bundle
from model.bundle_document import Task
from model.errors import UserError
from model.evaluating import EvaluateOptions, seen_in_training
from model.frontend import FrontEnd
from model.threshold_facts import Data, Goal, LabelFacts, ThresholdFacts
from pipeline.cli import main
from tests.data import data_folder
from tests.model.test_report import read

RATE = 8000
FRONT_END = FrontEnd(sample_rate=RATE, window_s=0.5, n_fft=256, hop_length=100, n_mels=16, fmin=100)
LABELS = ("high", "low")
HERTZ = {"high": 3000, "low": 400}


def network(task: Task) -> Any:
    """Compares the upper mels with the lower ones: what it says of the tones is known."""
    import keras

    n_mels, n_frames = FRONT_END.input_shape
    upper = (np.arange(n_mels) >= n_mels // 2).astype(np.float32) - 0.5
    weights = np.repeat(upper, n_frames)[:, None] * np.array([[1.0, -1.0]]) / n_frames / 10
    inputs = keras.Input(FRONT_END.input_shape, name="spectrogram")
    logits = keras.layers.Dense(2, name="logits")
    activation = "softmax" if task == "singlelabel" else "sigmoid"
    outputs = keras.layers.Activation(activation, name="scores")(
        logits(keras.layers.Flatten()(inputs))
    )
    made = keras.Model(inputs, outputs)
    logits.set_weights([weights, np.zeros(2)])
    return made


def bundle_at(
    path: Path, task: Task = "multilabel", log: Any = None, data: Any = None, **more: Any
) -> Bundle:
    return write_bundle(
        str(path),
        task=task,
        labels=LABELS,
        front_end=FRONT_END,
        thresholds=dict.fromkeys(LABELS, 0.5),
        networks=[network(task)],
        provenance={"data": data or {}},
        log=log or {"epochs": [{"epoch": 1, "loss": 1.0, "val_loss": 0.9}]},
        **more,
    )


def tone(label: str, seconds: float, seed: int = 0) -> Any:
    n = round(seconds * RATE)
    noise = np.random.default_rng(seed).normal(0, 0.01, n)
    return 0.3 * np.sin(2 * np.pi * HERTZ[label] * np.arange(n) / RATE) + noise


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Six clips of a second, one folder for each label; one of the low ones sounds high."""
    for i in range(6):
        label = LABELS[i % 2]
        path = tmp_path / f"clips/{label}/site{i // 2}-{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone("high" if i == 5 else label, 1.0, i), RATE)
    return tmp_path / "clips"


def evaluate(tmp_path: Path, audio: Path, *more: str) -> int:
    places = ["--model", str(tmp_path / "b"), "--audio", str(audio)]
    return main(["evaluate", *places, "--output", str(tmp_path / "out"), *more])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", ["singlelabel", "multilabel"])
def test_whole_clips_from_audio_to_the_page(
    tmp_path: Path, clips: Path, capsys, task: Task
) -> None:
    bundle_at(tmp_path / "b", task)
    group = ["--group-by", r"site\d"]
    assert evaluate(tmp_path, clips, "--annotations", str(clips), *group) == 0
    said = capsys.readouterr()
    out = tmp_path / "out"
    assert said.out.splitlines()[-1] == f"page: {out / 'report.html'}"
    assert "clips: accuracy 0.833" in said.out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["windows"]["windows"] == 12 and metrics["clips"]["windows"] == 6
    assert metrics["windows"]["groups"] == metrics["clips"]["groups"] == 3
    top = metrics["clips"]["top"]
    assert (top["accuracy"], top["category_weighted"]) == pytest.approx((5 / 6, 5 / 6))
    assert top["confusion"] == [[3, 0], [1, 2]]
    confusion = rows(out / "confusion.csv")
    assert confusion == [
        {"label": "high", "high": "6", "low": "0"},
        {"label": "low", "high": "2", "low": "4"},
    ]
    (high, low) = rows(out / "clip-labels.csv")
    assert (high["label"], high["positives"], high["reported"]) == ("high", "3", "4")
    assert float(high["precision"]) == 0.75 and float(low["recall"]) == pytest.approx(2 / 3)
    scores = pq.read_table(out / "scores.parquet")
    assert scores.num_rows == 12 * 2
    assert scores.column_names == ["recording", "start_s", "end_s", "label", "score", "truth"]
    first = scores.to_pylist()[0]
    assert first["recording"] == "high/site0-0.wav" and first["label"] == "high"
    assert first["truth"] is True and first["score"] > 0.9 and first["end_s"] == 0.5
    page = read((out / "report.html").read_text())
    assert {"high", "low", "Clips", "Windows", "Training"} <= set(page.text)
    assert len(page.images) == 7
    for name in ("precision-recall", "confusion-matrix", "clip-reliability", "training"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "Events in time" not in page.text and not (out / "events.csv").exists()


def test_a_second_run_gives_the_same_and_needs_a_new_folder(
    tmp_path: Path, clips: Path, capsys
) -> None:
    bundle_at(tmp_path / "b", "singlelabel")
    annotations = ["--annotations", str(clips)]
    assert evaluate(tmp_path, clips, *annotations) == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    assert evaluate(tmp_path, clips, *annotations) == 1
    assert re.fullmatch(r"error: .*out is not empty; .*\.\n", capsys.readouterr().err)
    (tmp_path / "out").rename(tmp_path / "before")
    assert evaluate(tmp_path, clips, *annotations) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two recordings of 4 s: low throughout, and high from 1 to 2 s instead."""
    audio = tmp_path / "audio"
    audio.mkdir()
    for i in range(2):
        sound = np.concatenate([tone("low", 1), tone("high", 1), tone("low", 2)])
        soundfile.write(audio / f"r{i}.wav", sound, RATE)
    lines = ["file,start,end,label,site"]
    for i in range(2):
        lines += [f"r{i}.wav,{a},{b},{c},s{i}" for a, b, c in ((0, 1, "low"), (2, 4, "low"))]
        lines += [f"r{i}.wav,1,2,high,s{i}"]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return audio


def test_events_beside_their_ceiling(tmp_path: Path, archive: Path, capsys) -> None:
    bundle_at(tmp_path / "b")
    annotations = ["--annotations", str(tmp_path / "labels.csv"), "--hop", "0.25"]
    assert evaluate(tmp_path, archive, *annotations, "--group-by", "site") == 0
    (high, low) = rows(tmp_path / "out/events.csv")
    assert (high["annotated"], high["matched"]) == ("2", "2")
    assert (low["annotated"], low["predicted"], low["matched"]) == ("4", "4", "4")
    # A moment is scored by two windows, so bounds are open by half a window.
    assert 0.6 < float(high["frame_f1"]) <= 1 and 0.6 < float(high["ceiling_frame_f1"]) <= 1
    assert high["ceiling_event_f1"] == low["ceiling_event_f1"] == "1.0"
    assert "Events in time" in read((tmp_path / "out/report.html").read_text()).text
    assert not (tmp_path / "out/clip-labels.csv").exists()
    assert "perfect windows reach 1.000" in capsys.readouterr().out


def test_events_at_an_overlap_that_windows_cannot_reach(tmp_path: Path, archive: Path) -> None:
    bundle_at(tmp_path / "b")
    (tmp_path / "labels.csv").write_text("file,start,end,label\nr0.wav,1.2,1.3,high\n")
    assert evaluate(tmp_path, archive, "--annotations", str(tmp_path / "labels.csv")) == 0
    (high, _) = rows(tmp_path / "out/events.csv")
    # The window from 1.0 to 1.5 s is right, and five times as long as the call.
    assert float(high["ceiling_frame_recall"]) == 1
    assert float(high["ceiling_frame_precision"]) == pytest.approx(0.2)
    assert float(high["ceiling_event_f1"]) == float(high["event_f1"]) == 0


def test_masked_windows_and_labels_of_others(tmp_path: Path, archive: Path, capsys) -> None:
    bundle_at(tmp_path / "b")
    lines = ["file,start,end,label", "r0.wav,1,2.1,high", "r0.wav,0,1,owl", "r0.wav,2,3,bat"]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    assert evaluate(tmp_path, archive, "--annotations", str(tmp_path / "labels.csv")) == 0
    warnings = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning: ")]
    assert len(warnings) == 1 and "2 annotations" in warnings[0] and "bat, owl" in warnings[0]
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert [f"warning: {text}" for text in metrics["warnings"]] == warnings
    # Of 8 windows one holds 0.1 s of the label's second: it counts neither way.
    high, low = (metrics["windows"]["labels"][label] for label in LABELS)
    assert (high["windows"], high["positives"], high["average_precision"]) == (7, 2, 1)
    assert (low["windows"], low["positives"], low["average_precision"]) == (8, 0, None)
    truth = [row["truth"] for row in pq.read_table(tmp_path / "out/scores.parquet").to_pylist()]
    assert truth.count(None) == 1 and truth.count(True) == 2 and len(truth) == 16


def test_a_single_label_bundle_on_sound_with_times(tmp_path: Path, archive: Path, capsys) -> None:
    bundle_at(tmp_path / "b", "singlelabel")
    lines = ["file,start,end,label", "r0.wav,1,2,high", "r0.wav,2,3,low"]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    assert evaluate(tmp_path, archive, "--annotations", str(tmp_path / "labels.csv")) == 0
    assert "4 windows hold no label of the single-label bundle" in capsys.readouterr().err
    top = json.loads((tmp_path / "out/metrics.json").read_text())["windows"]["top"]
    assert top["windows"] == 4 and top["accuracy"] == 1


def test_damage_costs_its_windows_only(tmp_path: Path, archive: Path, capsys) -> None:
    bundle_at(tmp_path / "b")
    sound = np.concatenate([tone("high", 1), np.zeros(RATE), tone("high", 1)])
    soundfile.write(archive / "r1.wav", sound, RATE)
    (archive / "r2.wav").write_bytes(b"no sound")
    lines = ["file,start,end,label", "r1.wav,0,1,high", "r2.wav,0,1,high"]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    assert evaluate(tmp_path, archive, "--annotations", str(tmp_path / "labels.csv")) == 0
    said = capsys.readouterr().err
    assert "1 annotated recordings cannot be read" in said
    assert "2 windows are silent" in said
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["windows"]["windows"] == 4 and metrics["recordings"] == 1


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ({"training_recordings": ["r0.wav", "q.wav"]}, "1 of 2 recordings .* trained on"),
        (
            {"holdout_recordings": ["r1.wav", "r0.wav"], "training_recordings": []},
            "2 of 2 recordings .* thresholds",
        ),
        ({"training_recordings": ["q.wav"]}, None),
        ({}, "annotations are those"),
        ([], "annotations are those"),
    ],
)
def test_sound_of_the_training_is_named(
    tmp_path: Path, archive: Path, log: Any, expected: str | None
) -> None:
    annotations = read_annotations(archive, tmp_path / "labels.csv")
    same = {} if expected is None else {"annotations_sha256": annotations.sha256()}
    bundle = bundle_at(tmp_path / "b", log=log or {"epochs": []}, data=same)
    sentences = seen_in_training(bundle, annotations)
    assert len(sentences) == (expected is not None)
    if expected:
        assert re.search(expected, sentences[0]) and "not those of unseen sound" in sentences[0]


@pytest.mark.parametrize("data", ["holdout", "validation"])
def test_what_thresholds_promised_stands_beside_what_is_found(
    tmp_path: Path, clips: Path, data: Data
) -> None:
    promised = LabelFacts(True, 0.5, (0.3, 0.7), 1.0, 0.1, (0.0, 0.4), 0.1, 10, 100)
    labels = {"high": promised, "low": replace(promised, reached=False)}
    facts = ThresholdFacts(data, Goal("precision", 0.5), labels)
    bundle_at(tmp_path / "b", threshold_facts=facts)
    assert evaluate(tmp_path, clips, "--annotations", str(clips)) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["thresholds"]
    assert (found["goal"], found["data"]) == ("precision=0.5", data)
    high = found["labels"]["high"]
    assert high["promised"] == promised.to_json() and high["threshold"] == 0.5
    # Of 12 windows 6 are high, and 2 of the low ones sound so.
    assert high["expected_precision"] == pytest.approx(0.5 / (0.5 + 0.1 * 0.5))
    assert (high["found"]["precision"], high["found"]["prevalence"]) == (0.75, 0.5)
    assert high["found"]["false_positive_rate"] == pytest.approx(1 / 3)
    page = read((tmp_path / "out" / "report.html").read_text())
    assert {"Thresholds", "0.909", "0.300 to 0.700", "(not reached)"} <= set(page.text)
    assert any("no promise" in text for text in page.text) == (data == "validation")


def test_training_records_its_annotations_as_they_are_asked_for(
    tmp_path: Path, archive: Path
) -> None:
    for i in range(2, 4):
        shutil.copy(archive / "r0.wav", archive / f"r{i}.wav")
    lines = ["file,start,end,label", *(f"r{i}.wav,1,2,high" for i in range(4))]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    places = ["--audio", str(archive), "--annotations", str(tmp_path / "labels.csv")]
    front = ["--sample-rate", "8000", "--window", "0.5", "--n-fft", "256"]
    more = ["--epochs", "1", "--validation", "0.5", "--output", str(tmp_path / "b")]
    assert main(["train", *places, *front, *more]) == 0
    bundle = load_bundle(str(tmp_path / "b"))
    assert seen_in_training(bundle, read_annotations(archive, tmp_path / "labels.csv"))
    (tmp_path / "labels.csv").write_text("file,start,end,label\nr7.wav,1,2,high\n")
    shutil.copy(archive / "r0.wav", archive / "r7.wav")
    assert not seen_in_training(bundle, read_annotations(archive, tmp_path / "labels.csv"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--overlap", "0"], "overlap is 0"),
        (["--overlap", "nan"], "overlap is nan"),
        (["--merge-gap", "-1"], "gap of events is -1"),
        (["--hop", "0.6"], "hop is 0.6 s"),
        (["--group-by", "year"], "names no group"),
        (["--label-map", "map.csv"], "none of the bundle's labels"),
        (["--model", "nowhere"], "no bundle"),
    ],
)
def test_errors_are_one_sentence(
    tmp_path: Path, archive: Path, capsys, monkeypatch, more: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle_at(tmp_path / "b")
    (tmp_path / "map.csv").write_text("label,new_label\nlow,owl\nhigh,bat\n")
    annotations = ["--annotations", str(tmp_path / "labels.csv")]
    assert evaluate(tmp_path, archive, *annotations, *more) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="not empty"):
        EvaluateOptions("b", tmp_path, tmp_path, tmp_path / "out")


def test_real_finches(tmp_path: Path, capsys) -> None:
    finch = data_folder("finch") / "bl26lb16"
    audio = tmp_path / "finch"
    audio.mkdir()
    for path in sorted(finch.glob("*.flac"))[:2]:
        for each in finch.glob(f"{path.stem}.*"):
            (audio / each.name).symlink_to(each)
    labels = read_annotations(audio, audio).labels
    (tmp_path / "map.csv").write_text(
        "label,new_label\n" + "".join(f"{x},{LABELS[i % 2]}\n" for i, x in enumerate(labels))
    )
    bundle_at(tmp_path / "b")
    more = ["--annotations", str(audio), "--label-map", str(tmp_path / "map.csv"), "--centre"]
    assert evaluate(tmp_path, audio, *more, "--hop", "0.1") == 0
    result = json.loads((tmp_path / "out/metrics.json").read_text())
    assert result["recordings"] == 2 and result["windows"]["windows"] > 100
    assert result["events"]["mean_f1"]["ceiling_frames"] > 0.3
    assert (
        load_bundle(str(tmp_path / "b")).score_fingerprint == result["bundle"]["score_fingerprint"]
    )
