"""What fitting has reached, in a file, so that a killed training goes on from its last epoch."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Checkpoint:
    """The log so far, the best weights, and the state of Keras `variables`.

    If `path` names a file that `save` wrote, the variables are set to what it holds. Without a
    path nothing is kept.
    """

    def __init__(self, path: Path | None, variables: Sequence[Any], weights: list[Array]) -> None:
        self.log: list[dict[str, Any]] = []
        self.best = weights
        self.done = False
        self._path = path
        self._variables = variables
        try:
            if path is not None:
                self._load(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            pass  # None was written.

    def _load(self, path: Path) -> None:
        with np.load(path) as stored:
            about = json.loads(str(stored["about"]))
            state = [stored[f"variable_{i}"] for i in range(len(self._variables))]
            self.best = [stored[f"best_{i}"] for i in range(len(self.best))]
        for variable, value in zip(self._variables, state, strict=True):
            variable.assign(value)
        self.log, self.done = about["log"], about["done"]

    def save(self) -> None:
        """Writes all, whole or not at all."""
        if self._path is None:
            return
        about = json.dumps({"log": self.log, "done": self.done})
        arrays: dict[str, Any] = {"about": np.array(about)}
        arrays |= {f"variable_{i}": np.asarray(v) for i, v in enumerate(self._variables)}
        arrays |= {f"best_{i}": value for i, value in enumerate(self.best)}
        partial = self._path.with_name(f"partial-{self._path.name}")
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(self._path)
