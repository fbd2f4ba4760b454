"""A trained model as one folder, checked whenever it is loaded, without TensorFlow."""

import hashlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import fsspec
import fsspec.core
import numpy as np
import numpy.typing as npt

from model.calibration import Calibrator
from model.errors import UserError
from model.frontend import FrontEnd
from model.network_file import problem_of
from model.threshold_facts import ThresholdFacts

Float32 = npt.NDArray[np.float32]

if TYPE_CHECKING:
    from model.rejection import Rejecter

SCHEMA_VERSION = 1
DOCUMENT = "bundle.json"
LOG = "log.json"
REJECTER = "rejecter.npz"
RESERVED_LABEL = "unknown"
UNKNOWN_THRESHOLD = 0.5
"""Where rejecters begin to call a window unknown."""

Task = Literal["multilabel", "singlelabel"]

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = {
    "schema_version": int,
    "task": str,
    "labels": list,
    "front_end": dict,
    "thresholds": dict,
    "networks": list,
    "files": dict,
    "provenance": dict,
    "fingerprints": dict,
}
_OPTIONAL_KEYS = {"calibrator": dict, "rejecter": dict, "threshold_facts": dict}


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
        _check(rejecter.known_share == share, self.path, f"has a rejecter not made for {share!r}")
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
        fs, folder = fsspec.core.url_to_fs(path)
        taken = fs.exists(folder) and (not fs.isdir(folder) or bool(fs.ls(folder)))
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


def content_fingerprint(document: Mapping[str, Any]) -> str:
    """SHA-256 over all of bundle.json but its fingerprints, and so over every file's digest."""
    return _digest({key: value for key, value in document.items() if key != "fingerprints"})


def score_fingerprint(document: Mapping[str, Any]) -> str:
    """SHA-256 over what decides scores.

    Networks, front end, labels and task, and calibrator and rejecter where there are any.
    """
    networks = [document["files"][name] for name in document["networks"]]
    optional = ["calibrator"] if "calibrator" in document else []
    parts = {key: document[key] for key in ("front_end", "labels", "task", *optional)}
    if "rejecter" in document:
        rejecter = document["rejecter"]
        parts["rejecter"] = [rejecter["method"], document["files"][rejecter["file"]]]
    return _digest({**parts, "networks": networks})


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


def _parse(path: str, text: bytes) -> Bundle:
    try:
        document = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}/{DOCUMENT} is not readable JSON: {error}.") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}/{DOCUMENT} is not a bundle's description.")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise UserError(
            f"{path}/{DOCUMENT} has schema version {version}; this program reads version "
            f"{SCHEMA_VERSION}."
        )
    for key, kind in _KEYS.items():
        _check(isinstance(document.get(key), kind), path, f"has no valid {key}")
    for key, kind in _OPTIONAL_KEYS.items():
        _check(isinstance(document.get(key, kind()), kind), path, f"has no valid {key}")
    unknown = ", ".join(sorted(set(document) - set(_KEYS) - set(_OPTIONAL_KEYS)))
    _check(not unknown, path, f"has unknown keys: {unknown}")
    _check_scoring(path, document)
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
    _check_files(path, document)
    _check_rejecter(path, document)
    prints = document["fingerprints"]
    _check(
        prints == {"content": content_fingerprint(document), "score": score_fingerprint(document)},
        path,
        "was changed after it was written (its fingerprints do not match)",
    )
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


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def _check_scoring(path: str, document: dict[str, Any]) -> None:
    labels, thresholds = document["labels"], document["thresholds"]
    tasks = get_args(Task)
    _check(document["task"] in tasks, path, f"has a task that is not {' or '.join(tasks)}")
    named = bool(labels) and all(isinstance(label, str) and label.strip() for label in labels)
    _check(named, path, "has no labels, or a label that is not a name")
    _check(len(set(labels)) == len(labels), path, "has a label twice")
    _check(RESERVED_LABEL not in labels, path, f"has the reserved label {RESERVED_LABEL!r}")
    _check(set(thresholds) == set(labels), path, "does not have one threshold for each label")
    for label, value in thresholds.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        within = number and 0 <= value <= 1
        _check(within, path, f"has the threshold {value!r} for {label}; it must be from 0 to 1")


def _check_files(path: str, document: dict[str, Any]) -> None:
    networks, files = document["networks"], document["files"]
    for name, digest in files.items():
        _check(bool(_FILE_NAME.fullmatch(name)), path, f"names a file outside it: {name!r}")
        valid = isinstance(digest, str) and bool(_SHA256.fullmatch(digest))
        _check(valid, path, f"has no SHA-256 of {name}")
    _check(bool(networks), path, "has no network")
    for name in networks:
        _check(isinstance(name, str) and name in files, path, f"has no SHA-256 of {name}")
        _check(name.endswith(".keras"), path, f"has the network {name}, which is no .keras file")
    _check(len(set(networks)) == len(networks), path, "names a network twice")


def _check_rejecter(path: str, document: dict[str, Any]) -> None:
    rejecter = document.get("rejecter")
    if rejecter is None:
        return
    from model.rejection import check_method

    valid = set(rejecter) == {"method", "known_share", "file"}
    _check(valid, path, "has a rejecter with unknown or missing values")
    share, file = rejecter["known_share"], rejecter["file"]
    _check(isinstance(file, str) and file in document["files"], path, f"has no SHA-256 of {file!r}")
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    _check(number, path, f"has a rejecter for the share {share!r} of known windows")
    try:
        check_method(rejecter["method"], share)
    except UserError as error:
        raise UserError(f"{path}/{DOCUMENT}: {error}") from error


def _check_network(path: str, name: str, content: bytes) -> None:
    problem = problem_of(content)
    if problem:
        raise UserError(f"{path}/{name} {problem}; use a network of Keras's own layers.")


def _check(holds: bool, path: str, problem: str) -> None:
    if not holds:
        raise UserError(f"{path}/{DOCUMENT} {problem}; copy or train the bundle again.")


def _place(path_or_url: str) -> str:
    """The path without a trailing slash; a local one made absolute."""
    try:
        fs, folder = fsspec.core.url_to_fs(path_or_url)
    except Exception as error:
        raise UserError(f"Cannot read the bundle {path_or_url}: {_why(error)}.") from error
    return str(folder) if "file" in fs.protocol else path_or_url.rstrip("/")


def _read(path: str, name: str) -> bytes:
    try:
        # In a chain such as zip://bundle::file.zip the name belongs to the first link.
        first, chain, rest = path.partition("::")
        with fsspec.open(f"{first.rstrip('/')}/{name}{chain}{rest}", "rb") as file:
            return cast(bytes, file.read())
    except FileNotFoundError as error:
        what = "is no bundle" if name == DOCUMENT else "is incomplete"
        raise UserError(f"{path} {what}: it has no {name}.") from error
    except Exception as error:
        raise UserError(f"Cannot read {path}/{name}: {_why(error)}.") from error


def _write(path: str, files: Mapping[str, bytes]) -> None:
    try:
        fs, folder = fsspec.core.url_to_fs(path)
        fs.makedirs(folder, exist_ok=True)
        for name, content in files.items():
            fs.pipe_file(f"{folder}/{name}", content)
    except Exception as error:
        raise UserError(f"Cannot write the bundle {path}: {_why(error)}.") from error


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (reason or type(error).__name__).rstrip(".")


def _json(value: Any) -> bytes:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # Names of files need not be text: their stray bytes become JSON's escapes.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
