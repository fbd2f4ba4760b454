"""Bundles, names and labels that mean harm."""

import ast
import csv
import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from model.bundle import write_bundle
from model.bundle_document import content_fingerprint, score_fingerprint
from model.frontend import FrontEnd
from model.network_file import keras_bytes
from pipeline.cli import main
from pipeline.csv_file import no_formula
from tests.model.test_network_file import rewrite
from tests.pipeline.archive import RATE, tone, write
from tests.pipeline.test_detection import content, detect, rows

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    "a%2Fb",
    "..",
    "...",
    ".hidden",
    "_tmp",
    "a=b",
    "100%",
    "line\nbreak",
    "🦉 owl",
    "c:\\d",
    "a'b\"c$(touch x)`touch x`;touch x",
    "a/b",
    "../../up",
    "007",
]


def forge(folder: Path, network: bytes, **changes: object) -> None:
    """Puts other bytes in the place of a bundle's network, with all digests right."""
    (folder / "network-0.keras").write_bytes(network)
    document = json.loads((folder / "bundle.json").read_text())
    document["files"]["network-0.keras"] = hashlib.sha256(network).hexdigest()
    document |= changes
    document["fingerprints"] = {"content": content_fingerprint(document), "score": ""}
    if set(document["networks"]) <= set(document["files"]):
        document["fingerprints"]["score"] = score_fingerprint(document)
    (folder / "bundle.json").write_text(json.dumps(document))


def lambda_network(folder: Path) -> bytes:
    """A network whose layer would create the file `ran` in a folder, once Keras opens it."""
    import keras

    place = str(folder / "ran")
    inputs = keras.Input((128, 129))
    ran = keras.layers.Lambda(lambda x: (open(place, "w").close(), x[:, :3, 0])[1], (3,))(inputs)
    (folder / "ran").unlink(missing_ok=True)
    return keras_bytes(keras.Model(inputs, ran))


def with_entry_outside(network: bytes) -> bytes:
    """A .keras file with an entry that lies outside it."""
    file = io.BytesIO(network)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../../x", b"y")
    return file.getvalue()


def test_bundles_that_mean_harm_are_refused_before_work(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "audio/A_20240601_000000.wav", tone(1))
    good = (bundle / "network-0.keras").read_bytes()
    digests = json.loads((bundle / "bundle.json").read_text())["files"]
    custom = rewrite(good, config_json=b'{"module": "os", "class_name": "system", "config": "ls"}')
    secret = tmp_path / "secret"
    secret.write_text("not for the bundle")
    cases: dict[str, tuple[bytes, dict[str, object]]] = {
        "needs 'Lambda'": (lambda_network(tmp_path), {}),
        "'system' of os": (custom, {}),
        "is no .keras file": (b"\x80\x04\x95ctouch", {}),
        "has the entry '../../x'": (with_entry_outside(good), {}),
        "outside": (good, {"files": digests | {"../secret": "0" * 64}}),
        "no SHA-256 of /etc/passwd": (good, {"networks": ["/etc/passwd"]}),
        "no SHA-256 of ../a.keras": (good, {"networks": ["../a.keras"]}),
    }
    for says, (network, changes) in cases.items():
        forged = tmp_path / "forged"
        shutil.copytree(bundle, forged)
        forge(forged, network, **changes)
        assert detect(tmp_path / "audio", forged, tmp_path / "out") == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and says in error, error
        shutil.rmtree(forged)
    shutil.copytree(bundle, forged)
    (forged / "network-0.keras").unlink()
    (forged / "network-0.keras").symlink_to(secret)
    assert detect(tmp_path / "audio", forged, tmp_path / "out") == 1
    assert "was changed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "ran").exists()


def test_files_that_a_bundle_does_not_name_are_left_aside(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "audio/A_20240601_000000.wav", tone(1))
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (copy / "custom_objects.py").write_text("raise SystemExit('run')")
    (copy / "extra.pkl").write_bytes(b"\x80\x04.")
    assert detect(tmp_path / "audio", copy, tmp_path / "out") == 0
    copied = {path.name for path in (tmp_path / "out/_bundle").rglob("*") if path.is_file()}
    assert copied == {"bundle.json", "log.json", "network-0.keras"}


@pytest.mark.filterwarnings("ignore")
def test_names_of_sites_stay_inside_and_are_read_back(bundle: Path, tmp_path: Path) -> None:
    lines = []
    for number, site in enumerate(NAMES):
        write(tmp_path / f"audio/{number:02d}.wav", tone(1, seed=number))
        lines.append({"path": f"audio/{number:02d}.wav", "site": site})
    with (tmp_path / "list.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["path", "site"])
        table.writeheader()
        table.writerows(lines)
    before = set(os.listdir(tmp_path))
    out = tmp_path / "out"
    assert detect(tmp_path / "list.csv", bundle, out) == 0
    assert set(os.listdir(tmp_path)) == before | {"out"}
    assert {path.name for path in (out / "coverage").iterdir()} == {
        path.name for path in (out / "predictions").iterdir()
    }
    assert len(list((out / "coverage").iterdir())) == len(NAMES)
    expected = {(f"{number:02d}.wav", site) for number, site in enumerate(NAMES)}
    sql = f"""SELECT DISTINCT recording, site FROM read_parquet('{out}/coverage/*/*/*.parquet',
        hive_types={{'site': VARCHAR, 'date': DATE}})"""
    assert set(duckdb.sql(sql).fetchall()) == expected
    hive = pa.schema([("site", pa.string()), ("date", pa.date32())])
    arrow = ds.dataset(out / "coverage", partitioning=ds.partitioning(hive, flavor="hive"))
    assert sorted(arrow.to_table(columns=["site"]).column("site").to_pylist()) == sorted(NAMES)
    frame = pl.read_parquet(
        out / "coverage/**/*.parquet",
        hive_partitioning=True,
        hive_schema={"site": pl.String, "date": pl.Date},
    )
    assert sorted(frame["site"]) == sorted(NAMES)
    assert {row[0] for row in rows(out, "SELECT site FROM coverage")} == set(NAMES)


@pytest.mark.parametrize("names", [["x" * 241], ["é" * 50], ["Ridge", "ridge"]])
def test_names_that_a_disk_cannot_hold_are_refused_before_work(
    bundle: Path, tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(len(names)):
        write(tmp_path / f"{number}.wav", tone(1))
    (tmp_path / "list.csv").write_text(
        "path,site\n" + "".join(f"{number}.wav,{site}\n" for number, site in enumerate(names))
    )
    assert detect(tmp_path / "list.csv", bundle, tmp_path / "out") == 1
    assert names[0] in capsys.readouterr().err.splitlines()[-1]
    assert content(tmp_path / "out") == {}
    assert not (tmp_path / "out/dataset.json").exists()


def test_labels_of_any_name(tmp_path: Path) -> None:
    import keras

    labels = ["a/b", "..", 'quo"te, comma', "line\nbreak", "=1+1", "🦉", "%", "'; DROP TABLE x; --"]
    front_end = FrontEnd(RATE, 1.0, 256, 62, 16)
    inputs = keras.Input(front_end.input_shape)
    scores = keras.layers.Dense(len(labels), "sigmoid")(keras.layers.Flatten()(inputs))
    write_bundle(
        str(tmp_path / "b"),
        task="multilabel",
        labels=labels,
        front_end=front_end,
        thresholds=dict.fromkeys(labels, 0.5),
        networks=[keras.Model(inputs, scores)],
        provenance={},
        log=[],
    )
    write(tmp_path / "audio/A_20240601_000000.wav", tone(2))
    out = tmp_path / "out"
    assert detect(tmp_path / "audio", tmp_path / "b", out) == 0
    told = ["activity", str(out), "--threshold", "0.1", "--by", "hour"]
    assert main([*told, "--output", str(tmp_path / "a.csv")]) == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {
            no_formula(label) for label in labels
        }
    found = {row[0] for row in rows(out, "SELECT label FROM predictions")}
    assert found <= set(labels)
    assert not np.isnan([row[0] for row in rows(out, "SELECT score FROM predictions")]).any()


def test_no_shell_and_no_pickle() -> None:
    wrong = {"os.system", "os.popen", "eval", "exec", "pickle.load", "pickle.loads"}
    for path in [*ROOT.glob("model/*.py"), *ROOT.glob("pipeline/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in wrong, f"{path}:{node.lineno}"
                assert not any(word.arg == "shell" for word in node.keywords), path
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "")]
                assert not {"pickle", "dill", "cloudpickle"} & set(names), path
