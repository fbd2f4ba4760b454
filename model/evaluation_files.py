"""The tables of an evaluation: CSV for people, JSON for programs, Parquet for every score."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from model.evaluation import LabelResult, Level, Result, Sample
from model.event_evaluation import EventResult
from model.promises import Promises
from model.scored import ScoredWindows

ROWS = 1_000_000
"""Scores that are written to Parquet at once."""


def write_labels(path: Path, labels: Sequence[LabelResult]) -> None:
    """A row for each label; empty where a metric has no meaning."""
    write_csv(path, list(_label_row(labels[0])), (_label_row(e).values() for e in labels))


def write_confusion(path: Path, sample: Sample, confusion: Any) -> None:
    """A row for each true label, a column for each top label."""
    rows = ([label, *counts] for label, counts in zip(sample.labels, confusion, strict=True))
    write_csv(path, ["label", *sample.outputs], rows)


def write_events(path: Path, events: EventResult) -> None:
    """A row for each label: events and seconds, the model's and those of perfect windows."""
    rows = [event_row(each) for each in events.labels]
    write_csv(path, list(rows[0]), (row.values() for row in rows))


def event_row(each: Any) -> dict[str, Any]:
    """One label's events as a row of a table."""
    row = {
        "label": each.label,
        "annotated": each.events.annotated,
        "predicted": each.events.predicted,
        "matched": each.events.both,
    }
    for name in ("events", "ceiling_events", "frames", "ceiling_frames"):
        match, prefix = getattr(each, name), name.replace("events", "event").replace("ames", "ame")
        row |= {f"{prefix}_{what}": getattr(match, what) for what in ("precision", "recall", "f1")}
    return row


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table; None is an empty cell."""
    # Names of files need not be text.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_json(path: Path, document: Any) -> None:
    """Writes JSON for people to read, too."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_bytes(text.encode("utf-8", "backslashreplace") + b"\n")


def level_json(level: Level) -> dict[str, Any]:
    """The result of windows or clips as JSON values, labels by name."""
    result: Result = level.result
    document = asdict(result)
    document["labels"] = {each.label: _label_row(each) for each in result.labels}
    for row in document["labels"].values():
        del row["label"]
    if result.top is not None:
        document["top"]["confusion"] = result.top.confusion.tolist()
        document["top"]["columns"] = list(level.sample.outputs)
    return document


def promises_json(promises: Promises) -> dict[str, Any]:
    """How thresholds were chosen, and by label what was promised of them and what was found."""
    labels = {
        each.label: {
            "threshold": each.threshold,
            "promised": each.promised.to_json(),
            "expected_precision": each.expected,
            "found": each.found.to_json(),
        }
        for each in promises.labels
    }
    facts = promises.facts
    return {"goal": str(facts.goal), "data": facts.data, "labels": labels}


def events_json(events: EventResult) -> dict[str, Any]:
    """The result of events as JSON values, labels by name."""
    parts = ("events", "ceiling_events", "frames", "ceiling_frames")
    rows = {each.label: event_row(each) for each in events.labels}
    for row in rows.values():
        del row["label"]
    return {
        "rule": asdict(events.rule),
        "overlap": events.overlap,
        "mean_f1": {part: events.mean_f1(part) for part in parts},
        "labels": rows,
    }


def write_scores(path: Path, scored: ScoredWindows, outputs: Sequence[str]) -> None:
    """Every score: recording, start_s, end_s, label, score, and truth.

    `truth` is null where it is not known whether the window holds the label, or where no
    annotation can name it. Rows are sorted by recording, start and label.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    n, width = scored.scores.shape
    extra = np.zeros((n, width - scored.truth.shape[1]), bool)
    truth, known = np.hstack([scored.truth, extra]), np.hstack([scored.known, extra])
    names = pa.array([_text(name) for name in scored.recordings])
    labels = pa.array([_text(name) for name in outputs])
    step = max(1, ROWS // width)
    writer = None
    for first in range(0, n, step):
        rows = slice(first, first + step)
        count = len(scored.recording[rows])
        codes = np.repeat(scored.recording[rows].astype(np.int32), width)
        table = pa.table(
            {
                "recording": pa.DictionaryArray.from_arrays(pa.array(codes), names),
                "start_s": np.repeat(scored.start_s[rows], width),
                "end_s": np.repeat(scored.end_s[rows], width),
                "label": pa.DictionaryArray.from_arrays(
                    pa.array(np.tile(np.arange(width, dtype=np.int32), count)), labels
                ),
                "score": scored.scores[rows].ravel(),
                "truth": pa.array(truth[rows].ravel(), mask=~known[rows].ravel()),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()


def _label_row(each: LabelResult) -> dict[str, Any]:
    low, high = each.average_precision_interval or (None, None)
    return {
        "label": each.label,
        "windows": each.windows,
        "positives": each.positives,
        "average_precision": each.average_precision,
        "average_precision_low": low,
        "average_precision_high": high,
        "chance": each.chance,
        "roc_auc": each.roc_auc,
        "threshold": each.threshold,
        "reported": each.reported,
        "precision": each.precision,
        "recall": each.recall,
        "f1": each.f1,
    }


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
