import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from model import train_command
from model.architecture import Architecture
from model.augmentation import Augmentation
from model.batches import split_batches
from model.bundle import Bundle, load_bundle
from model.errors import UserError
from model.fitting import FitOptions
from model.frontend import FrontEnd
from model.member_fitting import Recipe
from model.scorer import Scorer
from model.threshold_facts import Goal
from model.thresholds import choose_thresholds
from model.train_arguments import train_options_of
from model.train_options import TrainOptions
from model.training import train, weights_print

RATE = 8000
FRONT_END = FrontEnd(sample_rate=RATE, window_s=0.5, n_fft=256, hop_length=100, n_mels=32)
ROOT = Path(__file__).resolve().parents[2]
HERTZ = {"low": 700, "high": 2500}


def tone(hertz: float | None, seconds: float, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    return noise + (0.3 * np.sin(2 * np.pi * hertz * time) if hertz else 0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten recordings: half a second each of low, nothing, high, nothing, with a CSV."""
    folder = tmp_path_factory.mktemp("archive")
    rows = ["file,start,end,label,site"]
    for i in range(10):
        parts = [tone(hertz, 0.5, 10 * i + j) for j, hertz in enumerate((700, None, 2500, None))]
        soundfile.write(folder / f"r{i}.wav", np.concatenate(parts), RATE)
        rows += [f"r{i}.wav,0,0.5,low,s{i // 2}", f"r{i}.wav,1,1.5,high,s{i // 2}"]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def options(archive: Path, output: Path, **changes: Any) -> TrainOptions:
    base = TrainOptions(
        audio=archive,
        annotations=archive / "labels.csv",
        output=str(output),
        front_end=FRONT_END,
        recipe=Recipe(
            Architecture(filters=(8, 8)),
            FitOptions(epochs=12, learning_rate=0.01, batch_size=8),
            Augmentation.none(),
        ),
    )
    recipe = base.recipe
    names = {field.name for field in fields(FitOptions)}
    fit = {name: changes.pop(name) for name in list(changes) if name in names}
    recipe = replace(recipe, fit=replace(recipe.fit, **fit))
    return replace(base, **{"recipe": recipe, **changes})


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def bundle(archive: Path, lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    output = tmp_path_factory.mktemp("out") / "bundle"
    return train(options(archive, output, group_by="site"), lines.append)


def test_it_learns_what_is_annotated(bundle: Bundle) -> None:
    assert bundle.labels == ("high", "low")
    assert bundle.task == "multilabel"
    waveforms = [tone(HERTZ.get(label), 0.5, 99) for label in ("high", "low", "none")]
    scores = Scorer(bundle)(np.stack(waveforms).astype(np.float32))
    thresholds = [bundle.thresholds[label] for label in bundle.labels]
    np.testing.assert_array_equal(scores >= thresholds, [[1, 0], [0, 1], [0, 0]])
    assert bundle.provenance["metrics"]["macro_average_precision"] == 1


def test_the_log_has_each_epoch(bundle: Bundle, lines: list[str]) -> None:
    log = json.loads(bundle.read_file("log.json"))
    (network,) = log["networks"]
    epochs = network["epochs"]
    assert [entry["epoch"] for entry in epochs] == list(range(1, len(epochs) + 1))
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert set(epochs[0]["val_average_precision"]) == {"high", "low"}
    best = bundle.provenance["metrics"]["networks"][0]["best_epoch"]
    assert epochs[best - 1]["val_loss"] == min(entry["val_loss"] for entry in epochs)
    assert len([line for line in lines if line.startswith("epoch")]) == len(epochs)


def test_validation_keeps_groups_together(bundle: Bundle) -> None:
    names = json.loads(bundle.read_file("log.json"))["networks"][0]["validation_recordings"]
    # One site of five is a fifth; a site's two recordings are both in it.
    assert len(names) == 2
    assert {int(name[1]) // 2 for name in names} == {int(names[0][1]) // 2}


def test_provenance_tells_how_it_was_made(bundle: Bundle) -> None:
    provenance = load_bundle(bundle.path).provenance
    assert provenance["options"]["seed"] == 1
    assert provenance["options"]["group_by"] == "site"
    assert provenance["data"]["training_windows"] == 32
    assert provenance["data"]["validation_windows"] == 8
    assert provenance["metrics"]["training_examples"] == {"high": 8, "low": 8}
    # 24 negative windows by 8 positive ones.
    assert provenance["imbalance"]["weights"] == {"high": 3, "low": 3}
    assert {"keras", "tensorflow", "numpy", "python"} <= set(provenance["versions"])


def command(archive: Path, output: Path, *more: str) -> list[str]:
    front = "--sample-rate 8000 --window 0.5 --n-fft 256 --hop-length 100 --n-mels 32"
    fit = "--filters 4,4 --epochs 2 --learning-rate 0.01 --batch-size 8 --seed 3"
    places = ["--audio", str(archive), "--annotations", str(archive / "labels.csv")]
    return [*places, "--output", str(output), *front.split(), *fit.split(), *more]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train_command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_two_runs_give_the_same_bundle_wherever_they_are(archive: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(archive, tmp_path / "moved"))
    code = (
        "import sys; from tests.model.test_training import parse;"
        "from model import train_command; sys.exit(train_command.run(parse(sys.argv[1:])))"
    )
    printed = []
    for i, place in enumerate((archive, moved)):
        arguments = command(place, tmp_path / f"b{i}")
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        printed.append(done.stdout)
    first, second = load_bundle(str(tmp_path / "b0")), load_bundle(str(tmp_path / "b1"))
    assert first.files == second.files
    assert first.content_fingerprint == second.content_fingerprint
    assert "macro average precision (validation)" in printed[0]
    assert printed[0].splitlines()[-1] == f"bundle: {first.path}"
    other = train(
        train_options_of(
            parse([*command(archive, tmp_path / "b2"), "--seed", "4"]), str(tmp_path / "b2")
        )
    )
    assert other.score_fingerprint != first.score_fingerprint


def test_whole_clips_give_a_single_label_bundle(tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    for label, hertz in HERTZ.items():
        (audio / label).mkdir(parents=True)
        for i in range(6):
            soundfile.write(audio / label / f"{i}.flac", tone(hertz, 1.0, i), RATE)
    bundle = train(options(audio, tmp_path / "b", annotations=audio, epochs=8), lambda line: None)
    assert bundle.task == "singlelabel"
    waveforms = np.stack([tone(HERTZ[label], 0.5, 99) for label in bundle.labels])
    scores = Scorer(bundle)(waveforms.astype(np.float32))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert scores.argmax(axis=1).tolist() == [0, 1]
    assert bundle.provenance["metrics"]["accuracy"] == 1
    (network,) = json.loads(bundle.read_file("log.json"))["networks"]
    assert network["epochs"][-1]["val_accuracy"] == 1


def test_early_stopping(archive: Path, tmp_path: Path) -> None:
    # At this rate the loss rises again after the first steps.
    made = options(archive, tmp_path / "b", epochs=40, patience=2, learning_rate=0.5)
    bundle = train(made, lambda line: None)
    (metrics,) = bundle.provenance["metrics"]["networks"]
    assert metrics["epochs"] == metrics["best_epoch"] + 2 < 40


def test_warnings_are_reported_and_recorded(archive: Path, tmp_path: Path) -> None:
    rows = (archive / "labels.csv").read_text() + "gone.wav,0,1,low,s1\nr0.wav,7,8,low,s0\n"
    (tmp_path / "labels.csv").write_text(rows)
    lines: list[str] = []
    made = options(archive, tmp_path / "b", annotations=tmp_path / "labels.csv", epochs=1)
    bundle = train(made, lines.append)
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert [f"warning: {w}" for w in bundle.provenance["data"]["warnings"]] == warnings


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--validation", "1"], "validation is 1.0"),
        (["--epochs", "0"], "epochs is 0"),
        (["--learning-rate", "nan"], "learning rate is nan"),
        (["--seed", "-1"], "seed is -1"),
        (["--hop", "0.6"], "hop is 0.6 s"),
        (["--window", "0"], "window is 0.0"),
        (["--window", "nan"], "window is nan"),
        (["--fmax", "5000"], "fmax is 5000.0"),
        (["--filters", "8,8,8,8"], "128 mels"),
        (["--filters", "8,8,8"], None),
        (["--n-mels", "4"], "8 mels"),
    ],
)
def test_options_are_checked_before_anything_is_read(more: list[str], message: str | None) -> None:
    args = parse([*command(Path("/nowhere"), Path("/nowhere/b")), *more])
    if message is None:
        assert train_options_of(args, "x").recipe.architecture.filters == (8, 8, 8)
    else:
        with pytest.raises(UserError, match=message):
            train_options_of(args, "x")


@pytest.mark.parametrize(("window", "hop"), [("8", 512), ("3", 377), ("0.5", 62), ("0.25", 31)])
def test_the_default_hop_length_fits_the_papers_network(window: str, hop: int) -> None:
    places = ["--audio", "a", "--annotations", "b", "--output", "c"]
    made = train_options_of(parse([*places, "--window", window]), "x")
    assert made.front_end.hop_length == hop
    assert made.recipe.architecture.resolved().filters == (64, 64, 128, 128)


def test_a_full_output_folder_is_refused_before_training(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        train(options(archive, tmp_path), lambda line: pytest.fail(line))


def test_the_command_s_help_needs_no_tensorflow() -> None:
    code = (
        "import argparse, sys; from model import train_command;"
        "train_command.add_arguments(argparse.ArgumentParser());"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("size", [1, 7, 16, 32, 33, 100])
def test_batches_are_as_equal_as_can_be(size: int) -> None:
    rows = np.arange(33)
    batches = split_batches(rows, size)
    np.testing.assert_array_equal(np.concatenate(batches), rows)
    lengths = [len(batch) for batch in batches]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


def test_folds_average_networks_and_the_holdout_is_in_none(archive: Path, tmp_path: Path) -> None:
    made = options(archive, tmp_path / "b", group_by="site", folds=4, holdout=0.2, epochs=4)
    bundle = train(made, lambda line: None)
    assert len(bundle.networks) == 4
    log = json.loads(bundle.read_file("log.json"))
    held = set(log["holdout_recordings"])
    parts = [set(network["validation_recordings"]) for network in log["networks"]]
    assert len(held) == 2 and all(len(part) == 2 for part in parts)
    # Each recording outside the hold-out stops exactly one network.
    assert sorted(held.union(*parts)) == sorted(f"r{i}.wav" for i in range(10))
    assert set(log["training_recordings"]) == set().union(*parts)
    metrics = bundle.provenance["metrics"]
    assert metrics["data"] == "holdout"
    assert metrics["examples"] == {"high": 2, "low": 2}
    assert metrics["out_of_fold"]["examples"] == {"high": 8, "low": 8}
    waveforms = np.stack([tone(700, 0.5, 99)]).astype(np.float32)
    single = [replace(bundle, networks=(name,)) for name in bundle.networks]
    scores = [Scorer(one)(waveforms) for one in single]
    np.testing.assert_allclose(Scorer(bundle)(waveforms), np.mean(scores, axis=0), atol=1e-6)
    assert len({one.tobytes() for one in scores}) == 4


def test_networks_of_several_seeds_share_their_validation(archive: Path, tmp_path: Path) -> None:
    bundle = train(options(archive, tmp_path / "b", networks=2, epochs=2), lambda line: None)
    first, second = json.loads(bundle.read_file("log.json"))["networks"]
    assert first["validation_recordings"] == second["validation_recordings"]
    assert bundle.files[bundle.networks[0]] != bundle.files[bundle.networks[1]]


def test_without_validation_all_epochs_are_trained(archive: Path, tmp_path: Path) -> None:
    bundle = train(options(archive, tmp_path / "b", validation=0, epochs=3), lambda line: None)
    metrics = bundle.provenance["metrics"]
    assert metrics["data"] == "nothing"
    assert metrics["networks"][0]["epochs"] == metrics["networks"][0]["best_epoch"] == 3
    assert metrics["training_examples"] == {"high": 10, "low": 10}
    assert bundle.thresholds == {"high": 0.5, "low": 0.5}
    assert bundle.threshold_facts is not None and not bundle.threshold_facts.calibrated
    assert train_command.summarise(bundle)
    one = options(archive, tmp_path / "one", validation=0, epochs=1, task="singlelabel")
    assert "accuracy" not in train(one, lambda line: None).provenance["metrics"]


class KilledError(Exception):
    pass


def test_a_killed_training_goes_on_where_it_was(archive: Path, tmp_path: Path) -> None:
    recipe = options(archive, tmp_path / "x").recipe
    recipe = replace(
        recipe,
        architecture=Architecture(filters=(8, 8), dropout=0.3),
        fit=replace(recipe.fit, epochs=4, schedule="cosine", weight_decay=1e-3),
        augmentation=Augmentation(),
    )
    changes: dict[str, Any] = {"recipe": recipe, "folds": 2}
    whole = train(options(archive, tmp_path / "whole", **changes), lambda line: None)
    lines: list[str] = []

    def kill(line: str) -> None:
        lines.append(line)
        if len([line for line in lines if line.startswith("epoch")]) == 6:
            raise KilledError

    made = options(archive, tmp_path / "again", **changes)
    with pytest.raises(KilledError):
        train(made, kill)
    assert list((tmp_path / "again.work").iterdir())
    rest: list[str] = []
    again = train(made, rest.append)
    # The first network was whole; the second had done an epoch whose end was not kept.
    assert [line.split()[1] for line in rest if line.startswith("epoch")] == [
        "2/4",
        "3/4",
        "4/4",
    ]
    assert again.files == whole.files
    assert not (tmp_path / "again.work").exists()


def test_a_work_folder_serves_again(archive: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    train(options(archive, tmp_path / "a", epochs=1, work=work), lambda line: None)
    (levels,) = work.glob("levels-*.f32")
    before = levels.stat().st_mtime_ns
    other = replace(FRONT_END, top_db=40.0)
    train(options(archive, tmp_path / "b", epochs=1, work=work, front_end=other), lambda line: None)
    assert [levels] == list(work.glob("levels-*.f32")) and levels.stat().st_mtime_ns == before
    other = replace(FRONT_END, n_mels=40)
    train(options(archive, tmp_path / "c", epochs=1, work=work, front_end=other), lambda line: None)
    assert len(list(work.glob("levels-*.f32"))) == 2


def test_other_sound_of_the_same_names_is_trained_anew(archive: Path, tmp_path: Path) -> None:
    audio, work = tmp_path / "audio", tmp_path / "work"
    shutil.copytree(archive, audio)
    first = train(options(audio, tmp_path / "a", epochs=1, work=work), lambda line: None)
    again = train(options(audio, tmp_path / "b", epochs=1, work=work), lambda line: None)
    assert first.files == again.files and len(list(work.glob("network-*.npz"))) == 1
    for path in audio.glob("*.wav"):
        sound, rate = soundfile.read(path)
        soundfile.write(path, sound[::-1] / 2, rate)
    other = train(options(audio, tmp_path / "c", epochs=1, work=work), lambda line: None)
    assert other.files[other.networks[0]] != first.files[first.networks[0]]
    assert len(list(work.glob("network-*.npz"))) == 2


def test_files_of_weights_are_told_apart_by_their_content(tmp_path: Path) -> None:
    for folder, content in (("a", b"1"), ("b", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.h5").write_bytes(content)
    a, b = (weights_print(str(tmp_path / folder / "w.h5")) for folder in "ab")
    assert a != b and len(a) == 64 and weights_print("imagenet") == "imagenet"


def test_mixed_precision_gives_a_network_in_float32(archive: Path, tmp_path: Path) -> None:
    made = options(archive, tmp_path / "b", epochs=12)
    made = replace(made, recipe=replace(made.recipe, precision="mixed_bfloat16"))
    bundle = train(made, lambda line: None)
    assert b"bfloat16" not in bundle.read_file(bundle.networks[0])
    assert bundle.provenance["metrics"]["macro_average_precision"] > 0.9


def test_a_work_folder_that_cannot_be_written(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        train(options(archive, tmp_path / "b", work=tmp_path / "file" / "x"), lambda line: None)


def test_thresholds_and_calibrator_are_of_the_holdout(archive: Path, tmp_path: Path) -> None:
    made = options(archive, tmp_path / "b", holdout=0.4, group_by="site", calibrate="platt")
    made = replace(made, threshold_goal=Goal("precision", 0.8), reject="max_score")
    bundle = train(made, lambda line: None)
    facts = bundle.threshold_facts
    assert facts is not None and facts.calibrated and facts.data == "holdout"
    assert facts.labels["low"].windows == 16 and facts.labels["low"].positives == 4
    assert bundle.calibrator is not None and bundle.calibrator.method == "platt"
    assert bundle.output_labels == ("high", "low", "unknown")
    waveforms = np.stack([tone(hertz, 0.5, 99) for hertz in (2500, None)]).astype(np.float32)
    scores = Scorer(bundle)(waveforms)
    assert scores.shape == (2, 3) and scores[0, 0] > 0.5 and scores[1].max() < 0.5


def test_thresholds_are_of_scores_as_detection_writes_them(archive: Path, tmp_path: Path) -> None:
    rows = [f"r{i}.wav,0,0.5,low\nr{i}.wav,1,1.5,high" for i in range(10)]
    (tmp_path / "one.csv").write_text("\n".join(["file,start,end,label", *rows]) + "\n")
    made = options(archive, tmp_path / "b", annotations=tmp_path / "one.csv", holdout=0.4)
    made = replace(made, task="singlelabel", unannotated="skip", reject="distance")
    bundle = train(replace(made, reject_share=0.5), lambda line: None)
    held = json.loads(bundle.read_file("log.json"))["holdout_recordings"]
    waveforms, truth = [], []
    for name in held:
        sound, _ = soundfile.read(archive / name, dtype="float32")
        for start, label in ((0.0, "low"), (1.0, "high")):
            first = round(start * RATE)
            waveforms.append(sound[first : first + RATE // 2])
            truth.append([label == "high", label == "low"])
    scores = Scorer(bundle)(np.stack(waveforms))
    assert (scores[:, 2] >= 0.5).any()
    targets = np.array(truth, np.float32)
    known = targets, np.ones_like(targets), scores[:, :2], bundle.labels
    thresholds, facts = choose_thresholds(*known, np.repeat(held, 2), Goal(), "holdout")
    assert facts == bundle.threshold_facts
    assert bundle.thresholds == pytest.approx(thresholds, abs=1e-3)


def test_a_training_that_cannot_begin_leaves_no_folder(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names no group"):
        train(options(archive, tmp_path / "b", group_by="year"), print)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_missing_are_told_before_spectrograms(
    archive: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    architecture = Architecture("mobilenet", weights=str(tmp_path / "nowhere.h5"))
    made = options(archive, tmp_path / "b", work=tmp_path / "work")
    made = replace(made, recipe=replace(made.recipe, architecture=architecture))
    with pytest.raises(UserError, match=r"no file of weights .*nowhere\.h5"):
        train(made, lines.append)
    assert not list((tmp_path / "work").iterdir())


def test_without_a_holdout_thresholds_are_uncalibrated(bundle: Bundle) -> None:
    assert bundle.threshold_facts is not None
    assert bundle.threshold_facts.data == "validation" and not bundle.threshold_facts.calibrated


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibrate": "platt"}, "give --holdout"),
        ({"reject": "distance", "folds": 3}, "give --holdout"),
        ({"reject": "distance", "validation": 0}, "give --holdout"),
        ({"reject": "nearest"}, "The rejecter is nearest"),
        ({"networks": 2, "folds": 3}, "networks is 2; it must be 1 with --folds"),
        ({"folds": 1}, "folds is 1"),
        ({"holdout": 1.0}, "holdout is 1.0"),
    ],
)
def test_options_that_do_not_go_together(
    archive: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        options(archive, tmp_path / "b", **changes)
