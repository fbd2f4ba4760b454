"""A trained model as one folder, checked whenever it is loaded, without TensorFlow."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import fsspec
import numpy as np
import numpy.typing as npt

from model.bundle_document import (
    DOCUMENT,
    LOG,
    REJECTER,
    RESERVED_LABEL,
    SCHEMA_VERSION,
    UNKNOWN_THRESHOLD,
    Task,
    check,
    check_fingerprints,
    content_fingerprint,
    parse_document,
    score_fingerprint,
)
from model.calibration import Calibrator
from model.errors import UserError
from model.files import file_system, is_google, read_file
from model.frontend import FrontEnd
from model.network_file import keras_bytes, problem_of
from model.retries import ask
from model.threshold_facts import ThresholdFacts

Float32 = npt.NDArray[np.float32]

if TYPE_CHECKING:
    from model.rejection import Rejecter


@dataclass(frozen=True)
class Bundle:
    """What a trained model is, apart from its weights.

    `path` is a folder or URL, `networks` are file names in it and `files` the SHA-256 of each
    file. Equal `score_fingerprint`s give equal scores (networks, front end, labels, task and
    calibrator and rejecter count; thresholds and provenance do not); `content_fingerprint` covers
    everything. `calibrator` maps the mean over the networks to the scores, where there is one;
    `rejecter` is what bundle.json says of the rejecter of unknown sound; `threshold_facts` are None
    in bundles that do not tell how their thresholds were chosen.
    """

    path: str
    task: Task
    labels: tuple[str, ...]
    front_end: FrontEnd
    thresholds: dict[str, float]
    networks: tuple[str, ...]
    files: dict[str, str]
    provenance: dict[str, Any]
    content_fingerprint: str
    score_fingerprint: str
    calibrator: Calibrator | None = None
    threshold_facts: ThresholdFacts | None = None
    rejecter: dict[str, Any] | None = None

    @property
    def output_labels(self) -> tuple[str, ...]:
        """The labels that scores come with, in their order; `unknown` is the last."""
        return self.labels if self.rejecter is None else (*self.labels, RESERVED_LABEL)

    @property
    def output_thresholds(self) -> dict[str, float]:
        """The threshold of each output label."""
        known = self.rejecter is None
        return self.thresholds if known else {**self.thresholds, RESERVED_LABEL: UNKNOWN_THRESHOLD}

    def load_rejecter(self) -> "Rejecter | None":
        """The bundle's rejecter of unknown sound, checked; None if it has none."""
        if self.rejecter is None:
            return None
        from model.rejection import Rejecter

        content, method = self.read_file(self.rejecter["file"]), self.rejecter["method"]
        try:
            rejecter = Rejecter.load(content, method, self.task, len(self.labels))
        except UserError as error:
            raise UserError(f"{self.path}/{self.rejecter['file']}: {error}") from error
        share = self.rejecter["known_share"]
        check(rejecter.known_share == share, self.path, f"has a rejecter not made for {share!r}")
        return rejecter

    def calibrate(self, scores: Float32) -> Float32:
        """The scores (n, n_labels) that stand for the means (n, n_labels) over the networks."""
        return scores if self.calibrator is None else self.calibrator(scores)

    def read_file(self, name: str) -> bytes:
        """The bytes of one of the bundle's files; UserError if they are not the recorded ones."""
        data = _read(self.path, name)
        if hashlib.sha256(data).hexdigest() != self.files[name]:
            raise UserError(
                f"The bundle {self.path} was changed: {name} is not what {DOCUMENT} records; "
                "copy or train the bundle again."
            )
        return data


def load_bundle(path_or_url: str) -> Bundle:
    """Reads and checks the bundle in a folder or at an fsspec URL.

    Raises UserError if it cannot be read, if its schema is unknown or broken, if any file is
    missing or differs from its SHA-256, or if a network holds more than Keras's own layers.
    """
    path = _place(path_or_url)
    bundle = _parse(path, _read(path, DOCUMENT))
    for name in bundle.files:
        content = bundle.read_file(name)
        if name in bundle.networks:
            _check_network(path, name, content)
    bundle.load_rejecter()
    return bundle


def write_bundle(
    path: str,
    *,
    task: Task,
    labels: Sequence[str],
    front_end: FrontEnd,
    thresholds: Mapping[str, float],
    networks: Sequence[Any],
    provenance: Mapping[str, Any],
    log: Any,
    rejecter: "Rejecter | None" = None,
    calibrator: Calibrator | None = None,
    threshold_facts: ThresholdFacts | None = None,
) -> Bundle:
    """Writes Keras `networks` and all that belongs to them into a new folder or URL.

    Equal networks give equal bytes. `provenance` and `log` are JSON values; the log becomes
    log.json. bundle.json comes last, so an interrupted write is never taken for a bundle. Raises
    UserError if the folder holds anything already, or if the parts do not fit each other.
    """
    check_vacant(path)
    data = {f"network-{i}.keras": keras_bytes(network) for i, network in enumerate(networks)}
    names = list(data)
    for name in names:
        _check_network(path, name, data[name])
    data[LOG] = _json(log)
    if rejecter is not None:
        data[REJECTER] = rejecter.save()
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "task": task,
        "labels": list(labels),
        "front_end": front_end.to_json(),
        "thresholds": {label: float(value) for label, value in thresholds.items()},
        "networks": names,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in data.items()},
        "provenance": dict(provenance),
    }
    if rejecter is not None:
        document["rejecter"] = {
            "method": rejecter.method,
            "known_share": rejecter.known_share,
            "file": REJECTER,
        }
    if calibrator is not None:
        document["calibrator"] = calibrator.to_json()
    if threshold_facts is not None:
        document["threshold_facts"] = threshold_facts.to_json()
    return _write_bundle(path, data, document)


def with_thresholds(
    bundle: Bundle, thresholds: Mapping[str, float], facts: ThresholdFacts, output: str
) -> Bundle:
    """Writes a copy of a bundle with other thresholds into a new folder or URL.

    Its scores, and so its score fingerprint, are those of the bundle. Raises UserError if the
    folder holds anything already, or if the thresholds or facts are not of the bundle's labels.
    """
    check_vacant(output)
    document = json.loads(_read(bundle.path, DOCUMENT))
    document["thresholds"] = {label: float(value) for label, value in thresholds.items()}
    document["threshold_facts"] = facts.to_json()
    data = {name: bundle.read_file(name) for name in bundle.files}
    return _write_bundle(output, data, document)


def _write_bundle(path: str, files: Mapping[str, bytes], document: dict[str, Any]) -> Bundle:
    """Writes the files and, last, the document with its fingerprints."""
    document["fingerprints"] = {
        "content": content_fingerprint(document),
        "score": score_fingerprint(document),
    }
    text = _json(document)
    _parse(path, text)
    _write(path, {**files, DOCUMENT: text})
    return load_bundle(path)


def copy_bundle(bundle: Bundle, target: str) -> Bundle:
    """Copies a bundle to another folder or URL and returns the copy, checked.

    A target that holds the same bundle is left alone and a half-written copy is completed;
    UserError if the target holds another bundle.
    """
    try:
        present: Bundle | None = load_bundle(target)
    except UserError:
        present = None
    if present and present.content_fingerprint != bundle.content_fingerprint:
        raise UserError(f"{target} holds another bundle; choose a new folder.")
    if present:
        return present
    data = {name: bundle.read_file(name) for name in bundle.files}
    _write(target, {**data, DOCUMENT: _read(bundle.path, DOCUMENT)})
    return load_bundle(target)


def check_vacant(path: str) -> None:
    """UserError unless a bundle can be written at `path`: nothing there, or an empty folder."""
    try:
        fs = file_system(path)
        folder = fs._strip_protocol(path)
        taken = ask(fs, "exists", folder) and (not fs.isdir(folder) or bool(fs.ls(folder)))
        local = Path(folder) if "file" in fs.protocol else None
    except Exception as error:
        raise UserError(f"Cannot write a bundle at {path}: {_why(error)}.") from error
    if taken:
        raise UserError(f"{path} is not empty; give a new folder for the bundle.")
    if local:
        above = next(place for place in (local, *local.parents) if place.exists())
        # Asked before hours of training, not after them.
        if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            raise UserError(f"Cannot write a bundle at {path}: {above} is not a writable folder.")


def _parse(path: str, text: bytes) -> Bundle:
    document = parse_document(path, text)
    labels, task = tuple(document["labels"]), cast(Task, document["task"])
    calibrator = facts = None
    try:
        front_end = FrontEnd.from_json(document["front_end"])
        if "calibrator" in document:
            calibrator = Calibrator.from_json(document["calibrator"], labels, task)
        if "threshold_facts" in document:
            facts = ThresholdFacts.from_json(document["threshold_facts"], labels)
    except UserError as error:
        raise UserError(f"{path}/{DOCUMENT}: {error}") from error
    check_fingerprints(path, document)
    prints = document["fingerprints"]
    return Bundle(
        path=path,
        task=task,
        labels=labels,
        front_end=front_end,
        thresholds={label: float(document["thresholds"][label]) for label in labels},
        networks=tuple(document["networks"]),
        files=document["files"],
        provenance=document["provenance"],
        content_fingerprint=prints["content"],
        score_fingerprint=prints["score"],
        rejecter=document.get("rejecter"),
        calibrator=calibrator,
        threshold_facts=facts,
    )


def _check_network(path: str, name: str, content: bytes) -> None:
    problem = problem_of(content)
    if problem:
        raise UserError(f"{path}/{name} {problem}; use a network of Keras's own layers.")


def _place(path_or_url: str) -> str:
    """The path without a trailing slash; a local one made absolute."""
    try:
        fs = file_system(path_or_url)
    except Exception as error:
        raise UserError(f"Cannot read the bundle {path_or_url}: {_why(error)}.") from error
    return (
        str(fs._strip_protocol(path_or_url)) if "file" in fs.protocol else path_or_url.rstrip("/")
    )


def _read(path: str, name: str) -> bytes:
    try:
        # In a chain such as zip://bundle::file.zip the name belongs to the first link.
        first, chain, rest = path.partition("::")
        if not chain:
            return read_file(f"{first.rstrip('/')}/{name}")
        with fsspec.open(f"{first.rstrip('/')}/{name}{chain}{rest}", "rb") as file:
            return cast(bytes, file.read())
    except FileNotFoundError as error:
        what = "is no bundle" if name == DOCUMENT else "is incomplete"
        raise UserError(f"{path} {what}: it has no {name}.") from error
    except Exception as error:
        raise UserError(f"Cannot read {path}/{name}: {_why(error)}.") from error


def _write(path: str, files: Mapping[str, bytes]) -> None:
    try:
        fs = file_system(path)
        folder = fs._strip_protocol(path)
        if not is_google(fs):
            fs.makedirs(folder, exist_ok=True)
        for name, content in files.items():
            ask(fs, "pipe_file", f"{folder}/{name}", content)
    except Exception as error:
        raise UserError(f"Cannot write the bundle {path}: {_why(error)}.") from error


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (reason or type(error).__name__).rstrip(".")


def _json(value: Any) -> bytes:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # Names of files need not be text: their stray bytes become JSON's escapes.
    return text.encode("utf-8", "backslashreplace") + b"\n"
