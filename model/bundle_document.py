"""bundle.json: what it holds, what is valid, and the fingerprints over it."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from model.errors import UserError

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


def parse_document(path: str, text: bytes) -> dict[str, Any]:
    """bundle.json's content, checked but for the values that other modules parse.

    `path` is the bundle's, for messages. Raises UserError for unknown schema versions and keys, and
    for missing or broken values. Fingerprints are not compared yet.
    """
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
        check(isinstance(document.get(key), kind), path, f"has no valid {key}")
    for key, kind in _OPTIONAL_KEYS.items():
        check(isinstance(document.get(key, kind()), kind), path, f"has no valid {key}")
    unknown = ", ".join(sorted(set(document) - set(_KEYS) - set(_OPTIONAL_KEYS)))
    check(not unknown, path, f"has unknown keys: {unknown}")
    _check_scoring(path, document)
    _check_files(path, document)
    _check_rejecter(path, document)
    return document


def check_fingerprints(path: str, document: Mapping[str, Any]) -> None:
    """UserError unless the fingerprints are of what the document holds."""
    prints = {"content": content_fingerprint(document), "score": score_fingerprint(document)}
    same = document["fingerprints"] == prints
    check(same, path, "was changed after it was written (its fingerprints do not match)")


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


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def _check_scoring(path: str, document: dict[str, Any]) -> None:
    labels, thresholds = document["labels"], document["thresholds"]
    tasks = get_args(Task)
    check(document["task"] in tasks, path, f"has a task that is not {' or '.join(tasks)}")
    named = bool(labels) and all(isinstance(label, str) and label.strip() for label in labels)
    check(named, path, "has no labels, or a label that is not a name")
    check(len(set(labels)) == len(labels), path, "has a label twice")
    check(RESERVED_LABEL not in labels, path, f"has the reserved label {RESERVED_LABEL!r}")
    check(set(thresholds) == set(labels), path, "does not have one threshold for each label")
    for label, value in thresholds.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        within = number and 0 <= value <= 1
        check(within, path, f"has the threshold {value!r} for {label}; it must be from 0 to 1")


def _check_files(path: str, document: dict[str, Any]) -> None:
    networks, files = document["networks"], document["files"]
    for name, digest in files.items():
        check(bool(_FILE_NAME.fullmatch(name)), path, f"names a file outside it: {name!r}")
        valid = isinstance(digest, str) and bool(_SHA256.fullmatch(digest))
        check(valid, path, f"has no SHA-256 of {name}")
    check(bool(networks), path, "has no network")
    for name in networks:
        check(isinstance(name, str) and name in files, path, f"has no SHA-256 of {name}")
        check(name.endswith(".keras"), path, f"has the network {name}, which is no .keras file")
    check(len(set(networks)) == len(networks), path, "names a network twice")


def _check_rejecter(path: str, document: dict[str, Any]) -> None:
    rejecter = document.get("rejecter")
    if rejecter is None:
        return
    from model.rejection import check_method

    valid = set(rejecter) == {"method", "known_share", "file"}
    check(valid, path, "has a rejecter with unknown or missing values")
    share, file = rejecter["known_share"], rejecter["file"]
    check(isinstance(file, str) and file in document["files"], path, f"has no SHA-256 of {file!r}")
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    check(number, path, f"has a rejecter for the share {share!r} of known windows")
    try:
        check_method(rejecter["method"], share)
    except UserError as error:
        raise UserError(f"{path}/{DOCUMENT}: {error}") from error


def check(holds: bool, path: str, problem: str) -> None:
    """UserError that the document of the bundle at `path` has a problem, unless `holds`."""
    if not holds:
        raise UserError(f"{path}/{DOCUMENT} {problem}; copy or train the bundle again.")


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
