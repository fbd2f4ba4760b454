"""The identity of a dataset: what must be equal for two runs to write into one."""

import contextlib
from typing import Any

from model.bundle import Bundle
from model.errors import UserError
from model.runtime import Engine, Precision
from model.windows import WindowRule
from pipeline.job import Channel
from pipeline.schema import RESULTS_VERSION, SCHEMA_VERSION
from pipeline.storage import Folder, to_json

NAME = "dataset.json"


def identity_of(
    bundle: Bundle,
    rule: WindowRule,
    channel: Channel,
    min_score: float,
    time_pattern: str | None,
    engine: Engine,
    precision: Precision,
    embedding_size: int | None = None,
) -> dict[str, Any]:
    """The identity that a run asks for, all but the slot.

    `embedding_size` is that of the bundle where embeddings are asked for.
    """
    identity = {
        "dataset": "dawnchorus",
        "schema_version": SCHEMA_VERSION,
        "results_version": RESULTS_VERSION,
        "score_fingerprint": bundle.score_fingerprint,
        "task": bundle.task,
        "labels": list(bundle.output_labels),
        "window_s": rule.window_s,
        "hop_s": rule.hop_s,
        "tail": rule.tail,
        "channel": channel,
        "min_score": min_score,
        "time_pattern": time_pattern,
        "embeddings": embedding_size is not None,
        "engine": engine,
        "precision": precision,
    }
    return identity if embedding_size is None else identity | {"embedding_size": embedding_size}


def read_identity(out: Folder) -> dict[str, Any] | None:
    """The dataset's identity; None where there is no dataset yet."""
    try:
        found = out.read_json(NAME)
    except ValueError as error:
        raise UserError(
            f"{out.at(NAME)} is damaged ({error}); put it back from a copy, or use another output."
        ) from error
    if found is not None and (not isinstance(found, dict) or found.get("dataset") != "dawnchorus"):
        raise UserError(f"{out.at(NAME)} is not that of a dawnchorus dataset; use another output.")
    return found


def require_identity(out: Folder) -> dict[str, Any]:
    """The identity of the dataset in a folder or URL; UserError where there is none."""
    identity = None
    with contextlib.suppress(NotADirectoryError):
        identity = read_identity(out)
    if identity is None:
        raise UserError(f"There is no dataset in {out.url}; give the output of a detection run.")
    return identity


def check_identity(out: Folder, wanted: dict[str, Any], slot_hours: int | None) -> None:
    """Raises UserError, naming every difference, if a run contradicts the dataset in `out`."""
    standing = read_identity(out)
    if standing is None:
        if not out.is_local:
            next(iter(out.walk()), None)  # Raises for a bucket that is not there, before any work.
        return
    if slot_hours is not None:
        wanted = wanted | {"slot_hours": slot_hours}
    different = [
        f"{name} is {_short(standing.get(name))} there and {_short(value)} here"
        for name, value in wanted.items()
        if standing.get(name) != value
    ]
    if different:
        raise UserError(
            f"The dataset in {out.url} was made otherwise: {'; '.join(different)}. "
            "Give the same options, or another output."
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def settle_identity(out: Folder, wanted: dict[str, Any], slot_hours: int) -> dict[str, Any]:
    """Writes the identity, exclusively, at the first run; gives the one that stands."""
    identity = wanted | {"slot_hours": slot_hours}
    if not out.create(NAME, to_json(identity)):
        check_identity(out, wanted, None)
        standing = read_identity(out)
        assert standing is not None
        return standing
    return identity
