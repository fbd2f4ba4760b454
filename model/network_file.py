"""The .keras file of a network: written, and looked through before Keras opens it."""

import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENTRIES = {"config.json", "metadata.json", "model.weights.h5"}
MODULES = {
    "keras",
    "keras.activations",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.initializers",
    "keras.layers",
    "keras.models",
    "keras.regularizers",
    "keras.src.models.functional",
    "keras.src.models.sequential",
}
"""Where Keras's own parts of a network are."""
OPERATIONS = {
    ("keras.src.ops.image", "Resize"),
    ("keras.src.ops.numpy", "Add"),
    ("keras.src.ops.numpy", "Multiply"),
}
"""Operations that backbones have outside layers: they compute tensors from tensors and no more. The
others of their modules stay refused."""
PLAIN = {"__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "slice"}
"""Values that have no module."""
REFUSED = {
    "Lambda",
    "TorchModuleWrapper",
    "TFSMLayer",
    "JaxLayer",
    "FlaxLayer",
    "IntegerLookup",
    "StringLookup",
    "TextVectorization",
}
"""Keras's layers that run code of the file, or open other files."""
LARGEST_CONFIG = 64 << 20


def problem_of(content: bytes) -> str | None:
    """Why a network's file is not to be opened, to stand after its name; None if it may be.

    It must be a zip of the three entries that Keras writes, and name none but Keras's own classes,
    without those that run code.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if sorted(names) != sorted(ENTRIES):
                odd = next((name for name in names if name not in ENTRIES), "")
                return f"has the entry {odd!r}" if odd else "does not have a network's entries"
            if archive.getinfo("config.json").file_size > LARGEST_CONFIG:
                return "has a description of impossible size"
            config = json.loads(archive.read("config.json"))
        classes = list(_classes(config))
    except (ValueError, RecursionError):
        return "has no readable description"
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError):
        return "is no .keras file"
    for module, name in classes:
        known = (
            module in MODULES or (module, name) in OPERATIONS or (module is None and name in PLAIN)
        )
        if name in REFUSED or not known:
            where = f" of {module}" if module is not None and module not in MODULES else ""
            return f"needs {name!r}{where}, which may run code that is not Keras's own"
    return None


def _classes(value: Any) -> Iterator[tuple[str | None, str]]:
    """(module, class) of each object that a network's description names."""
    if isinstance(value, dict):
        if "class_name" in value:
            module = value.get("module")
            yield module if module is None else str(module), str(value["class_name"])
        for child in value.values():
            yield from _classes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _classes(child)


def keras_bytes(network: Any) -> bytes:
    """A Keras network as .keras bytes that depend on its layers and weights only.

    Optimizer, loss and the time of writing are left out, so training twice to the same weights
    gives the same file.
    """
    import keras

    bare = keras.Model(network.inputs, network.outputs, name="network")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        bare.save(path)
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(entries["metadata.json"])
    metadata.pop("date_saved", None)
    entries["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
    config = json.loads(entries["config.json"])
    _renumber(config, {})
    entries["config.json"] = json.dumps(config).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            # A ZipInfo made by name alone is dated 1980-01-01: no time gets into the bytes.
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def _renumber(config: Any, seen: dict[int, int]) -> None:
    """Counts Keras's shared_object_ids from 1: it writes memory addresses, new in each run."""
    if isinstance(config, dict) and isinstance(config.get("shared_object_id"), int):
        number = config["shared_object_id"]
        config["shared_object_id"] = seen.setdefault(number, len(seen) + 1)
    if isinstance(config, (dict, list)):
        for value in config.values() if isinstance(config, dict) else config:
            _renumber(value, seen)
