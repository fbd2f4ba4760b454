"""The embedding: what a bundle's first network knows of a window before it names labels."""

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

from model.bundle import Bundle
from model.errors import UserError

LOGITS = "logits"


@dataclass(frozen=True)
class Embedding:
    """The penultimate layer: the `size` numbers that the Dense layer named `layer` takes."""

    layer: str
    size: int


def embedding_of(bundle: Bundle) -> Embedding:
    """The embedding of a bundle's first network, from its description, without TensorFlow.

    The Dense layer is the one named `logits`, or the last in a network of other make. Raises
    UserError if there is none, or if what it takes is not one row of numbers for each window.
    """
    name = bundle.networks[0]
    with zipfile.ZipFile(io.BytesIO(bundle.read_file(name))) as archive:
        config = json.loads(archive.read("config.json"))
    dense = [layer for layer in _layers(config) if layer.get("class_name") == "Dense"]
    named = [layer for layer in dense if layer["config"]["name"] == LOGITS]
    if not dense:
        raise UserError(
            f"{bundle.path}/{name} has no Dense layer of its own, whose input would be the "
            "embedding; use a bundle of another network, or go without embeddings."
        )
    layer = (named or dense)[-1]
    shape = layer.get("build_config", {}).get("input_shape", [])
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise UserError(
            f"{bundle.path}/{name} has no embedding: its Dense layer {layer['config']['name']!r} "
            f"takes {tuple(shape)}, not one row of numbers for each window; go without embeddings."
        )
    return Embedding(layer["config"]["name"], shape[1])


def _layers(config: Any) -> list[dict[str, Any]]:
    """The layers of a network's description, from input to output; not those of models inside."""
    found = config.get("config", {}).get("layers", []) if isinstance(config, dict) else []
    return [layer for layer in found if isinstance(layer, dict)]
