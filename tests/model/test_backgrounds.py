import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from model import backgrounds as module
from model import training
from model.architecture import Architecture
from model.augmentation import Augmentation
from model.backgrounds import from_recordings, harvest
from model.bundle import Bundle
from model.errors import UserError
from model.examples import Examples
from model.fitting import FitOptions
from model.frontend import FrontEnd, LogMel
from model.member_fitting import Recipe
from model.training import TrainOptions, train
from tests.data import data_folder

RATE = 8000
FRONT_END = FrontEnd(sample_rate=RATE, window_s=1.0, n_fft=256, hop_length=100, n_mels=32)
RNG = np.random.default_rng(5)


def record(folder: Path, name: str, seconds: float, scale: float = 0.1) -> Any:
    sound = (RNG.normal(size=round(seconds * RATE)) * scale).astype(np.float32)
    folder.mkdir(exist_ok=True)
    soundfile.write(folder / name, sound, RATE, "FLOAT")
    return sound


def record_flac(path: Path, seconds: float) -> None:
    soundfile.write(path, RNG.normal(size=round(seconds * RATE)) * 0.1, RATE)


def made_of(waves: Any, recordings: Any) -> Examples:
    levels = LogMel(FRONT_END).levels(np.asarray(waves, np.float32))
    n = len(levels)
    labels = np.ones((n, 1), np.float32)
    places = np.asarray(recordings, np.int64)
    return Examples(("a",), "multilabel", levels, labels, labels, places, np.ones(n, bool))


def test_recordings_give_their_whole_windows(tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    first, second = record(sound, "a.wav", 2.5), record(sound, "b.wav", 1.0)
    record(sound, "short.wav", 0.9)
    record(sound, "silent.wav", 1.0, scale=0)
    (sound / "broken.wav").write_bytes(b"no sound")
    found = from_recordings(sound, FRONT_END, tmp_path)
    waves = np.array([first[:RATE], first[RATE : 2 * RATE], second])
    np.testing.assert_array_equal(found.levels, LogMel(FRONT_END).levels(waves))
    assert isinstance(found.levels, np.memmap)
    told = " ".join(found.warnings)
    assert "1 recordings of background cannot be read (the first: broken.wav" in told
    assert "1 recordings of background are shorter than a window (the first: short.wav)" in told
    assert "1 windows of background are silent" in told


def test_a_link_to_nowhere_and_a_damaged_file_cost_only_themselves(tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    wave = record(sound, "a.wav", 1.0)
    record_flac(sound / "cut.flac", 10.0)
    data = bytearray((sound / "cut.flac").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 500] = bytes(500)
    (sound / "cut.flac").write_bytes(data)
    (sound / "link.wav").symlink_to(tmp_path / "nowhere.wav")
    found = from_recordings(sound, FRONT_END, tmp_path)
    np.testing.assert_array_equal(found.levels[0], LogMel(FRONT_END).levels(wave[None])[0])
    assert 2 < len(found.levels) < 11
    told = " ".join(found.warnings)
    assert "1 recordings of background cannot be read (the first: link.wav" in told
    assert f"{11 - len(found.levels)} windows of background are silent or cannot be" in told
    again = from_recordings(sound, FRONT_END, tmp_path)
    assert (again.identity, again.warnings) == (found.identity, found.warnings)


def test_backgrounds_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "sound", "a.wav", 2)
    first = from_recordings(tmp_path / "sound", FRONT_END, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_decode", lambda *_: pytest.fail("decoded again"))
        again = from_recordings(tmp_path / "sound", FRONT_END, tmp_path)
    np.testing.assert_array_equal(again.levels, first.levels)
    assert again.identity == first.identity
    record(tmp_path / "sound", "b.wav", 1)
    more = from_recordings(tmp_path / "sound", FRONT_END, tmp_path)
    assert len(more.levels) == 3 and more.identity != first.identity


def test_of_much_sound_windows_are_taken_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    long = record(tmp_path / "sound", "a.wav", 15)
    other = record(tmp_path / "sound", "b.wav", 2)
    found = from_recordings(tmp_path / "sound", FRONT_END, tmp_path)
    windows = np.concatenate([long, other]).reshape(17, RATE)
    expected = LogMel(FRONT_END).levels(windows[[0, 4, 8, 12, 16]])
    np.testing.assert_allclose(found.levels, expected, atol=1e-3)


def test_a_folder_without_a_usable_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        from_recordings(tmp_path / "nothing", FRONT_END, tmp_path)
    record(tmp_path / "sound", "short.wav", 0.5)
    with pytest.raises(UserError, match="holds a window of 1 s that is not silent"):
        from_recordings(tmp_path / "sound", FRONT_END, tmp_path)
    record(tmp_path / "dead", "silent.wav", 3, scale=0)
    with pytest.raises(UserError, match="holds a window of 1 s that is not silent"):
        from_recordings(tmp_path / "dead", FRONT_END, tmp_path)


def test_a_full_disk_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "sound", "a.wav", 2)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(UserError, match="give a --work on a larger disk"):
        from_recordings(tmp_path / "sound", FRONT_END, tmp_path)


def test_only_the_rows_given_are_harvested(tmp_path: Path) -> None:
    """Each recording's noise has a level of its own, which tells where frames come from."""
    loudness = np.repeat([0.0, -20.0, -40.0], 3)
    waves = RNG.normal(size=(9, RATE)) * 10 ** (loudness[:, None] / 20)
    examples = made_of(waves, np.repeat([0, 1, 2], 3))
    found = harvest(examples, np.array([0, 1, 2, 6, 7, 8]), FRONT_END, tmp_path)
    assert found.levels.shape[1:] == FRONT_END.input_shape and len(found.levels) >= 2
    middle = np.median(examples.inputs[:3])
    offsets = np.median(found.levels, axis=(1, 2)) - middle
    assert set(np.round(offsets / 20).tolist()) == {0.0, -2.0}
    # Each of one recording alone.
    assert all(
        (abs(np.median(window, axis=0) - np.median(window)) < 10).all() for window in found.levels
    )


def test_calls_are_not_harvested(tmp_path: Path) -> None:
    time = np.arange(RATE) / RATE
    waves = RNG.normal(size=(8, RATE)) * 0.01
    waves[:, 3000:4000] += np.sin(2 * np.pi * 1500 * time[3000:4000])
    examples = made_of(waves, np.repeat([0, 1], 4))
    band = examples.inputs.max(axis=(0, 2)).argmax()
    loudest = examples.inputs[:, band].max()
    found = harvest(examples, np.arange(8), FRONT_END, tmp_path)
    assert found.levels[:, band].max() < loudest - 20
    # Nothing is left in the folder.
    assert not list(tmp_path.iterdir())


def test_few_quiet_frames_are_repeated_and_too_few_are_not(tmp_path: Path) -> None:
    noise = RNG.normal(size=(2, RATE)) * 0.01
    noise[0, 3000:] = 0  # three eighths of a window have sound
    noise[1, 1000:] = 0
    examples = made_of(noise, [0, 1])
    found = harvest(examples, np.arange(2), FRONT_END, tmp_path)
    assert len(found.levels) == 1 and np.isfinite(found.levels).all()
    assert found.levels.min() > -99
    assert found.warnings == ("1 training recordings have no quiet part to harvest.",)


def test_nothing_to_harvest_is_told(tmp_path: Path) -> None:
    examples = made_of(np.zeros((2, RATE)), [0, 1])
    with pytest.raises(UserError, match="no quiet parts"):
        harvest(examples, np.arange(2), FRONT_END, tmp_path)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight recordings of 2 s with a tone in their first half."""
    folder = tmp_path_factory.mktemp("archive")
    time = np.arange(2 * RATE) / RATE
    rows = ["file,start,end,label"]
    for i in range(8):
        tone = np.where(time < 0.5, np.sin(2 * np.pi * 1500 * time), 0)
        soundfile.write(folder / f"r{i}.wav", 0.3 * tone + RNG.normal(0, 0.01, len(time)), RATE)
        rows.append(f"r{i}.wav,0,0.5,tone")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def trained(archive: Path, output: Path, **changes: Any) -> tuple[Bundle, list[str]]:
    recipe = Recipe(
        Architecture(filters=(4, 4)),
        FitOptions(epochs=1, batch_size=8),
        replace(Augmentation.none(), noise=1.0, noise_snr=(0, 10)),
    )
    options = TrainOptions(
        archive, archive / "labels.csv", str(output), front_end=FRONT_END, recipe=recipe
    )
    lines: list[str] = []
    return train(replace(options, **changes), lines.append), lines


def test_a_network_harvests_from_its_own_training_recordings(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[set[int]] = []

    def spy(examples: Examples, rows: Any, *more: Any) -> Any:
        used.append(set(examples.recordings[rows].tolist()))
        return harvest(examples, rows, *more)

    monkeypatch.setattr(training, "harvest", spy)
    bundle, _ = trained(archive, tmp_path / "b", background="harvest", folds=2, holdout=0.25)
    log = json.loads(bundle.read_file("log.json"))
    for rows, network in zip(used, log["networks"], strict=True):
        unseen = {*log["holdout_recordings"], *network["validation_recordings"]}
        assert {f"r{i}.wav" for i in rows} == {f"r{i}.wav" for i in range(8)} - unseen
    assert bundle.provenance["options"]["background"] == "harvest"


def test_other_backgrounds_make_another_network(archive: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    for name in ("one", "two"):
        record(tmp_path / name, "noise.wav", 3)
    record(tmp_path / "one", "short.wav", 0.5)
    found = {}
    for run, source in enumerate(("one", "two", None, "one")):
        background = None if source is None else str(tmp_path / source)
        bundle, lines = trained(archive, tmp_path / f"{run}", background=background, work=work)
        found[run] = bundle.files[bundle.networks[0]]
        assert any("shorter than a window" in line for line in lines) == (source == "one")
    assert found[0] == found[3] and len(set(found.values())) == 3


def test_a_real_soundscape(tmp_path: Path) -> None:
    found = from_recordings(data_folder("s4a"), FrontEnd(), tmp_path)
    assert found.levels.shape == (96, 128, 251) and not found.warnings
