import io
import json
import pickle
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.network_file import OPERATIONS, keras_bytes, problem_of
from tests.model.test_bundle import network


@pytest.fixture(scope="module")
def good() -> bytes:
    return keras_bytes(network(1))


def rewrite(content: bytes, **entries: bytes) -> bytes:
    """A .keras file with other entries; names have `_` for `.`."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        old = {name: archive.read(name) for name in archive.namelist()}
    new = io.BytesIO()
    with zipfile.ZipFile(new, "w") as archive:
        for name, data in (old | {k.replace("_", "."): v for k, v in entries.items()}).items():
            archive.writestr(name, data)
    return new.getvalue()


def with_layer(content: bytes, layer: dict[str, Any]) -> bytes:
    """A .keras file whose network has one more layer."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"].append(layer)
    return rewrite(content, config_json=json.dumps(config).encode())


def layer(module: str | None, name: str, registered: str | None = None) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": {}, "registered_name": registered}


def test_networks_that_keras_wrote_pass(good: bytes) -> None:
    assert problem_of(good) is None
    assert problem_of(with_layer(good, layer("keras.layers", "Dropout"))) is None
    for module, name in OPERATIONS:
        assert problem_of(with_layer(good, layer(module, name))) is None


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (layer("keras.layers", "Lambda"), "'Lambda'"),
        (layer("keras.layers", "TFSMLayer"), "'TFSMLayer'"),
        (layer("keras.layers", "TorchModuleWrapper"), "'TorchModuleWrapper'"),
        (layer("os", "system"), "'system' of os"),
        (layer("builtins", "function", "function"), "'function' of builtins"),
        (layer("keras.utils", "get_file"), "'get_file' of keras.utils"),
        (layer("keras.config", "enable_unsafe_deserialization"), "of keras.config"),
        (layer("keras.src.ops.numpy", "np"), "'np' of keras.src.ops.numpy"),
        (layer("keras.src.ops.numpy", "Subtract"), "'Subtract' of keras.src.ops.numpy"),
        (layer("keras.src.ops.image", "Add"), "'Add' of keras.src.ops.image"),
        (layer("keras.src.ops.numpy", "function", "Add"), "'function' of keras.src.ops.numpy"),
        (layer("mine", "Layer", "mine>Layer"), "'Layer' of mine"),
        (layer(None, "mine>Layer", "mine>Layer"), "'mine>Layer'"),
        ({"class_name": "__lambda__", "config": {"value": "gA=="}}, "'__lambda__'"),
        ({"class_name": ["Dense"], "module": ["keras.layers"]}, "Dense"),
    ],
)
def test_what_may_run_code_is_refused(good: bytes, extra: dict[str, Any], says: str) -> None:
    problem = problem_of(with_layer(good, extra))
    assert problem is not None and says in problem


def test_entries(good: bytes) -> None:
    outside = io.BytesIO(good)
    with zipfile.ZipFile(outside, "a") as archive:
        archive.writestr("../../x", b"y")
    assert problem_of(outside.getvalue()) == "has the entry '../../x'"
    twice = io.BytesIO(good)
    with pytest.warns(UserWarning), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("config.json", b"{}")
    assert problem_of(twice.getvalue()) == "does not have a network's entries"
    assert problem_of(rewrite(good, model_weights_npz=b"x")) == "has the entry 'model.weights.npz'"
    assert problem_of(rewrite(good, config_json=b"{")) == "has no readable description"
    deep = b"[" * 100_000 + b"]" * 100_000
    assert problem_of(rewrite(good, config_json=deep)) == "has no readable description"


@pytest.mark.parametrize("content", [b"", b"PK", pickle.dumps({"a": 1}), b"\x89HDF\r\n\x1a\n"])
def test_other_files(content: bytes) -> None:
    assert problem_of(content) == "is no .keras file"


@settings(deadline=None)
@given(st.data())
def test_a_damaged_file_is_a_sentence_or_passes(good: bytes, data: st.DataObject) -> None:
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    problem_of(bytes(content))
