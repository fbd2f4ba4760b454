import hashlib
import json
import shutil
import subprocess
import sys
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.architecture import Architecture
from model.bundle import (
    Bundle,
    check_vacant,
    copy_bundle,
    load_bundle,
    with_thresholds,
    write_bundle,
)
from model.bundle_document import content_fingerprint, score_fingerprint
from model.calibration import Calibrator
from model.errors import UserError
from model.frontend import FrontEnd
from model.network import build_network
from model.network_file import keras_bytes
from model.scorer import Scorer
from model.threshold_facts import Goal, LabelFacts, ThresholdFacts
from tests.bundles import rejecter_of

FRONT_END = FrontEnd(sample_rate=8000, window_s=0.5, n_fft=256, hop_length=100, n_mels=16)
LABELS = ("chirp", "trill")
ROOT = Path(__file__).resolve().parents[2]
CALIBRATOR = Calibrator("platt", LABELS, (0.1, None), (0.5, 1.0), (-1.0, 0.0))
KNOWN = LabelFacts(True, 0.9, (0.7, 1.0), 0.5, 0.01, (0.0, 0.1), 0.1, 10, 100)
FACTS = ThresholdFacts("holdout", Goal("precision", 0.9), dict.fromkeys(LABELS, KNOWN))


def network(seed: int, n_labels: int = 2, compiled: bool = False) -> Any:
    import keras

    keras.utils.set_random_seed(seed)
    small = Architecture(filters=(4, 4))
    model = build_network(small, FRONT_END, n_labels, "multilabel", mean=-30, variance=400)
    if compiled:
        model.compile("adam", lambda y, p: (y - p) ** 2)
    return model


def write(path: str, **changes: Any) -> Bundle:
    values: dict[str, Any] = {
        "task": "multilabel",
        "labels": LABELS,
        "front_end": FRONT_END,
        "thresholds": {"chirp": 0.5, "trill": 0.25},
        "networks": [network(1), network(2)],
        "provenance": {"seed": 1},
        "log": [{"epoch": 1, "loss": 0.5}],
    }
    return write_bundle(path, **{**values, **changes})


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write(str(tmp_path_factory.mktemp("bundle") / "b"))


@pytest.fixture
def folder(original: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original.path, tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "bundle.json").read_text())
    for key, value in changes.items():
        if value is None:
            del document[key]
        else:
            document[key] = value
    (folder / "bundle.json").write_text(json.dumps(document))


def test_what_was_written_is_what_is_loaded(original: Bundle) -> None:
    loaded = load_bundle(original.path)
    assert loaded == original
    assert loaded.labels == loaded.output_labels == LABELS
    assert loaded.thresholds == {"chirp": 0.5, "trill": 0.25}
    assert loaded.front_end == FRONT_END
    assert loaded.networks == ("network-0.keras", "network-1.keras")
    assert json.loads(loaded.read_file("log.json")) == [{"epoch": 1, "loss": 0.5}]


def test_equal_parts_give_equal_bytes_and_fingerprints(original: Bundle, tmp_path: Path) -> None:
    networks = [network(1, compiled=True), network(2)]
    again = write(str(tmp_path / "again"), networks=networks)
    assert again.files == original.files
    assert again.content_fingerprint == original.content_fingerprint
    assert again.score_fingerprint == original.score_fingerprint


def test_another_process_writes_the_same_network(original: Bundle) -> None:
    code = (
        "import hashlib; from model.bundle import keras_bytes;"
        "from tests.model.test_bundle import network;"
        "print(hashlib.sha256(keras_bytes(network(1))).hexdigest())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split()[-1] == original.files["network-0.keras"]


def test_thresholds_and_provenance_do_not_decide_scores(original: Bundle, tmp_path: Path) -> None:
    other = write(
        str(tmp_path / "b"), thresholds={"chirp": 0.1, "trill": 0.2}, provenance={"seed": 2}
    )
    assert other.score_fingerprint == original.score_fingerprint
    assert other.content_fingerprint != original.content_fingerprint


def test_a_calibrator_decides_scores_and_facts_do_not(original: Bundle, tmp_path: Path) -> None:
    told = write(str(tmp_path / "told"), threshold_facts=FACTS)
    assert told.threshold_facts == FACTS == load_bundle(told.path).threshold_facts
    assert told.score_fingerprint == original.score_fingerprint
    assert told.content_fingerprint != original.content_fingerprint
    through = write(str(tmp_path / "through"), calibrator=CALIBRATOR)
    assert through.calibrator == CALIBRATOR == load_bundle(through.path).calibrator
    assert through.score_fingerprint != original.score_fingerprint


def test_a_bundle_without_the_optional_keys_keeps_its_fingerprint(original: Bundle) -> None:
    document = json.loads((Path(original.path) / "bundle.json").read_text())
    assert not {"calibrator", "threshold_facts"} & set(document)
    parts = {key: document[key] for key in ("front_end", "labels", "task")}
    parts["networks"] = [document["files"][name] for name in document["networks"]]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    assert score_fingerprint(document) == hashlib.sha256(text.encode()).hexdigest()


def test_other_thresholds_make_another_bundle_with_the_same_scores(tmp_path: Path) -> None:
    old = write(str(tmp_path / "old"), calibrator=CALIBRATOR)
    thresholds = {"chirp": 0.7, "trill": 0.3}
    new = with_thresholds(old, thresholds, FACTS, str(tmp_path / "new"))
    assert (new.thresholds, new.threshold_facts) == (thresholds, FACTS)
    assert (new.files, new.provenance, new.calibrator) == (old.files, {"seed": 1}, CALIBRATOR)
    assert new.score_fingerprint == old.score_fingerprint
    assert load_bundle(old.path) == old
    with pytest.raises(UserError, match="not empty"):
        with_thresholds(old, thresholds, FACTS, new.path)
    with pytest.raises(UserError, match="one threshold for each"):
        with_thresholds(old, {"chirp": 0.7}, FACTS, str(tmp_path / "no"))
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"networks": [1, 3]},
        {"networks": [2, 1]},
        {"labels": ("chirp", "trill"[::-1]), "thresholds": {"chirp": 0.5, "llirt": 0.25}},
        {"task": "singlelabel"},
        {"front_end": FrontEnd(sample_rate=8000, window_s=0.5, n_fft=128, hop_length=100)},
    ],
)
def test_all_that_decides_scores_is_in_the_score_fingerprint(
    changes: dict[str, Any], original: Bundle, tmp_path: Path
) -> None:
    if "networks" in changes:
        changes = {"networks": [network(seed) for seed in changes["networks"]]}
    assert write(str(tmp_path / "b"), **changes).score_fingerprint != original.score_fingerprint


def test_a_network_file_holds_no_date_and_no_optimizer() -> None:
    import io

    with zipfile.ZipFile(io.BytesIO(keras_bytes(network(1, compiled=True)))) as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
        assert "date_saved" not in json.loads(archive.read("metadata.json"))
        assert not json.loads(archive.read("config.json"))["compile_config"]


def test_a_url_holds_the_same_bundle(original: Bundle) -> None:
    url = f"memory://{uuid.uuid4()}/b"
    copied = copy_bundle(original, url + "/")
    assert copied.content_fingerprint == original.content_fingerprint
    assert load_bundle(url) == copied
    assert copy_bundle(original, url) == copied
    waveforms = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)
    np.testing.assert_array_equal(Scorer(copied)(waveforms), Scorer(original)(waveforms))


def test_an_interrupted_copy_is_completed(original: Bundle, folder: Path) -> None:
    (folder / "bundle.json").unlink()
    (folder / "network-1.keras").write_bytes(b"half")
    copied = copy_bundle(original, str(folder))
    assert copied.content_fingerprint == original.content_fingerprint


def test_another_bundle_is_not_overwritten(original: Bundle, tmp_path: Path) -> None:
    other = write(str(tmp_path / "b"), provenance={"seed": 2})
    with pytest.raises(UserError, match="another bundle"):
        copy_bundle(original, other.path)
    with pytest.raises(UserError, match="not empty"):
        write(other.path)
    assert load_bundle(other.path) == other


@pytest.mark.parametrize("name", ["network-0.keras", "network-1.keras", "log.json"])
def test_a_changed_or_missing_file_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=f"changed: {name}"):
        load_bundle(str(folder))
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"incomplete: it has no {name}"):
        load_bundle(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"schema_version": True}, "schema version True"),
        ({"schema_version": None}, "schema version None"),
        ({"labels": None}, "no valid labels"),
        ({"labels": ["chirp", "chirp"]}, "label twice"),
        ({"labels": ["chirp", ""]}, "not a name"),
        ({"labels": ["chirp", "unknown"]}, "reserved"),
        ({"thresholds": {"chirp": 0.5}}, "one threshold for each"),
        ({"thresholds": {"chirp": 0.5, "trill": 1.5}}, "from 0 to 1"),
        ({"thresholds": {"chirp": 0.5, "trill": "1"}}, "from 0 to 1"),
        ({"thresholds": {"chirp": 0.5, "trill": 0.3}}, "was changed"),
        ({"provenance": {"seed": 9}}, "was changed"),
        ({"task": "both"}, "task"),
        ({"networks": []}, "no network"),
        ({"networks": ["network-9.keras"]}, "no SHA-256 of network-9"),
        ({"networks": ["log.json"]}, "no .keras file"),
        ({"files": {"../network-0.keras": "0" * 64}}, "outside"),
        ({"files": {"network-0.keras": "0"}}, "no SHA-256"),
        ({"front_end": {"sample_rate": 16000}}, "front end"),
        ({"extra": 1}, "unknown keys: extra"),
        ({"calibrator": []}, "no valid calibrator"),
        ({"calibrator": {}}, "calibrator is not whole"),
        ({"calibrator": CALIBRATOR.to_json()}, "was changed"),
        ({"calibrator": CALIBRATOR.to_json(), "task": "singlelabel"}, "does not fit"),
        ({"threshold_facts": 1}, "no valid threshold_facts"),
        ({"threshold_facts": {}}, "thresholds are not whole"),
        ({"threshold_facts": FACTS.to_json()}, "was changed"),
    ],
)
def test_a_wrong_description_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    edit(folder, **changes)
    with pytest.raises(UserError, match=message):
        load_bundle(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_text_that_is_no_description_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"bundle\.json"):
        load_bundle(str(folder))


@pytest.mark.parametrize("path", ["/nowhere/at/all", "memory://nowhere", "nosuch://b"])
def test_a_place_without_a_bundle_is_refused(path: str) -> None:
    with pytest.raises(UserError, match=r"nowhere|nosuch"):
        load_bundle(path)


def test_a_place_that_cannot_hold_a_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a writable folder"):
        check_vacant(str(tmp_path / "file" / "b"))
    with pytest.raises(UserError, match="not empty"):
        check_vacant(str(tmp_path / "file"))
    check_vacant(str(tmp_path / "new" / "b"))
    check_vacant(f"memory://{uuid.uuid4()}/b")


def test_parts_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one threshold for each"):
        write(str(tmp_path / "b"), labels=("a", "b", "c"))
    assert not (tmp_path / "b").exists()


def test_loading_a_bundle_imports_no_tensorflow(original: Bundle) -> None:
    code = (
        "import sys; from model.bundle import load_bundle; import model.scorer, model.network;"
        f"load_bundle({original.path!r});"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'librosa')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_a_rejecter_is_in_the_bundle_and_its_score_fingerprint(
    original: Bundle, tmp_path: Path
) -> None:
    rejecters = [rejecter_of(FRONT_END, 2, 4), rejecter_of(FRONT_END, 2, 4, method="max_score")]
    one, other = (write(str(tmp_path / r.method), rejecter=r) for r in rejecters)
    assert original.rejecter is None and original.load_rejecter() is None
    assert original.output_labels == LABELS and original.output_thresholds == original.thresholds
    assert one.output_labels == (*LABELS, "unknown") and one.labels == LABELS
    assert one.output_thresholds == {**one.thresholds, "unknown": 0.5}
    assert one.rejecter == {"method": "distance", "known_share": 0.05, "file": "rejecter.npz"}
    loaded = one.load_rejecter()
    assert loaded is not None and loaded.save() == rejecters[0].save()
    prints = [bundle.score_fingerprint for bundle in (original, one, other)]
    assert len(set(prints)) == 3 and load_bundle(one.path) == one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "nearest"}, "max_score, distance, openmax"),
        ({"method": "openmax"}, "rejecter has no valid arrays"),
        ({"known_share": 0}, "between 0 and 1"),
        ({"known_share": 0.1}, "not made for 0.1"),
        ({"known_share": "5 %"}, "share '5 %'"),
        ({"file": "../rejecter.npz"}, "SHA-256"),
        ({"file": "log.json"}, "cannot be read"),
        ({"more": 1}, "unknown or missing values"),
    ],
)
def test_a_rejecter_that_is_not_valid_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "b"
    write(str(path), rejecter=rejecter_of(FRONT_END, 2, 4))
    document = json.loads((path / "bundle.json").read_text())
    document["rejecter"] |= change
    # As whoever builds a bundle by hand would do it, so that it is not the fingerprints that fail.
    with suppress(KeyError):
        document["fingerprints"] = {
            "content": content_fingerprint(document),
            "score": score_fingerprint(document),
        }
    (path / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=message):
        load_bundle(str(path))
