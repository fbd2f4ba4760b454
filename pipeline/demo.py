"""The demo's parts: prepare a folder, train in a process of its own, compare with the truth."""

import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import UserError

if TYPE_CHECKING:
    from model.bundle import Bundle
    from pipeline.dataset import Dataset
    from pipeline.synth import Annotation

BUNDLE, DATASET = "bundle", "dataset"

_MARKER = "demo.json"
_MARK = {"dawnchorus_demo": 1}
_OWN = ("audio", "truth.csv", "labelled.csv", BUNDLE, DATASET)

TRAINING = (
    ("--window", "3"),
    ("--hop", "1.5"),
    ("--filters", "16,16,32,32"),
    ("--learning-rate", "0.001"),
    ("--epochs", "30"),
    ("--patience", "10"),
    ("--validation", "0.25"),
)
"""Options of `dawnchorus train` that make a small network in about a minute."""


@dataclass(frozen=True)
class Precision:
    """How well one label was found, over the windows compared.

    `average_precision` and `chance` (what random scores tend to) are None where no window has
    the label; `windows` counts those compared, `positive` those with the label, and `unclear`
    those left out because a call only touches them.
    """

    label: str
    average_precision: float | None
    chance: float | None
    windows: int
    positive: int
    unclear: int


@dataclass(frozen=True)
class Loss:
    """What could not be scored of one recording, and why."""

    recording: str
    seconds_lost: float
    seconds_expected: float
    windows_lost: int
    reasons: tuple[str, ...]


def prepare_folder(folder: Path) -> None:
    """Make an empty folder for a demo, or empty that of an earlier one.

    Only what a demo writes is removed. Raises UserError for a folder that holds something else,
    and for one that cannot be made.
    """
    marker = folder / _MARKER
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            if not _is_marker(marker):
                raise UserError(f"{folder} is not empty and no demo's folder; name another.")
            for name in _OWN:
                path = folder / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(json.dumps(_MARK) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be used: {error.strerror}; name another.") from error


def _is_marker(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == _MARK)
    except (OSError, ValueError):
        return False


def train_apart(arguments: Sequence[str]) -> "Bundle":
    """Train with the arguments of `dawnchorus train`, in a process of its own.

    TensorFlow's deterministic mode and its threads would stay in this one.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_train, list(arguments)).result()


def _train(arguments: list[str]) -> "Bundle":
    # The weights depend on the number of threads; the demo's should not on the machine's cores,
    # nor on what an earlier detection in the parent process has set.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "2", "TF_NUM_INTEROP_THREADS": "2"}
    import argparse

    from model.train_arguments import train_options_of
    from model.train_command import add_arguments
    from model.training import train

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(arguments)
    on_screen = sys.stderr.isatty()

    def report(line: str) -> None:
        # Each epoch takes the last one's place on a screen, and stays out of logs.
        if on_screen:
            print(f"\r\x1b[K  {line[:90]}", end="", file=sys.stderr, flush=True)

    bundle = train(train_options_of(args, args.output), report)
    if on_screen:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return bundle


def compare(
    dataset: "Dataset", truth: Sequence["Annotation"], recordings: Collection[str]
) -> list[Precision]:
    """Average precision of each of the dataset's labels over the windows of `recordings`.

    Calls of other labels count for nothing.

    The dataset must hold all scores (min_score 0). A window has a label if it overlaps at least
    half of a call or half of the window, whichever is shorter; windows that overlap one less
    are left out for that label.
    """
    from model.annotations import Annotation as Labelled
    from model.examples import label_windows
    from model.metrics import average_precision, chance_precision

    labels = list(dataset.identity["labels"])
    if float(dataset.identity["min_score"]) > 0:
        raise UserError("The comparison needs all scores; detect with --min-score 0.")
    rows = dataset.connection.sql(
        """SELECT recording, start_s, end_s, map_from_entries(list((label, score))) AS scores
        FROM predictions GROUP BY ALL ORDER BY recording, start_s"""
    ).fetchall()
    parts = []
    for recording in sorted(set(recordings)):
        windows = [row[1:] for row in rows if row[0] == recording]
        if not windows:
            continue
        calls = [
            Labelled(recording, call.start_s, call.end_s, call.label)
            for call in truth
            if call.file == recording and call.label in labels
        ]
        bounds = np.array([window[:2] for window in windows], np.float64)
        targets, mask = label_windows(
            bounds[:, 0], bounds[:, 1], float(dataset.identity["window_s"]), calls, labels
        )
        scores = np.array([[window[2][x] for x in labels] for window in windows], np.float32)
        parts.append((targets, mask, scores))
    if not parts:
        return [Precision(label, None, None, 0, 0, 0) for label in labels]
    targets, mask, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    precision = average_precision(targets, mask, scores, labels)
    chance = chance_precision(targets, mask, labels)
    return [
        Precision(
            label,
            precision[label],
            chance[label],
            int(mask[:, i].sum()),
            int(targets[:, i].sum()),
            int((1 - mask[:, i]).sum()),
        )
        for i, label in enumerate(labels)
    ]


def losses(dataset: "Dataset") -> list[Loss]:
    """The recordings of which something could not be scored, by name."""
    rows: list[tuple[Any, ...]] = dataset.connection.sql(
        """SELECT recording, lost, expected, windows, coalesce(reasons, []) FROM (
            SELECT recording, sum(seconds_skipped) AS lost, sum(seconds_expected) AS expected,
                sum(windows_skipped) AS windows
            FROM coverage GROUP BY recording
        ) LEFT JOIN (
            SELECT recording, list_sort(list(DISTINCT reason || ' (' || message || ')')) AS reasons
            FROM errors GROUP BY recording
        ) USING (recording)
        WHERE windows > 0 OR reasons IS NOT NULL ORDER BY recording"""
    ).fetchall()
    return [
        Loss(name, float(lost), float(expected), int(windows), tuple(reasons))
        for name, lost, expected, windows, reasons in rows
    ]
