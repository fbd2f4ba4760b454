"""Verified detections in their dataset: their scores, and how many there are like them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model.errors import UserError
from model.verified import Verified
from pipeline.dataset import Dataset, registered
from pipeline.text import count

NEAR_S = 0.05
"""Times in a table may be rounded; never by as much as a quarter of the hop."""


def scores_of(dataset: Dataset, verified: Sequence[Verified]) -> npt.NDArray[np.float32]:
    """The score (n,) that the dataset has for each of the verified detections.

    Raises UserError for those that it does not have, or has in several channels.
    """
    identity = dataset.identity
    given = pa.table(
        {
            "i": pa.array(range(len(verified)), pa.int64()),
            "recording": pa.array([one.recording for one in verified], pa.string()),
            "channel": pa.array([one.channel for one in verified], pa.int8()),
            "start_s": pa.array([one.start_s for one in verified], pa.float64()),
            "end_s": pa.array([one.end_s for one in verified], pa.float64()),
            "label": pa.array([one.label for one in verified], pa.string()),
        }
    )
    near = min(NEAR_S, float(identity["hop_s"]) / 4)
    with registered(dataset.connection, verified=given, label_numbers=_numbers(dataset)):
        rows = dataset.connection.sql(
            f"""SELECT i, count(d.score), any_value(d.score)
            FROM verified v LEFT JOIN {_detections(dataset)} d
            ON v.recording = d.recording AND v.label = d.label
            AND abs(v.start_s - d.start_s) <= {near} AND abs(v.end_s - d.end_s) <= {near}
            AND (v.channel IS NULL OR v.channel = d.channel)
            GROUP BY i ORDER BY i"""
        ).fetchall()
    missing = [verified[i] for i, found, _ in rows if found == 0]
    several = [verified[i] for i, found, _ in rows if found > 1]
    if missing:
        one = missing[0]
        raise UserError(
            f"{one.where}: {dataset.folder.url} has no detection of {one.label!r} in "
            f"{one.recording} from {one.start_s:g} to {one.end_s:g} s"
            + (f", nor of {count(len(missing) - 1, 'other row')}" if len(missing) > 1 else "")
            + "; give the dataset that the table was made from."
        )
    if several:
        raise UserError(
            f"{several[0].where}: {dataset.folder.url} has this detection in several channels; "
            "add a column channel."
        )
    return np.array([score for _, _, score in rows], np.float32)


def count_by_bin(dataset: Dataset, edges: Sequence[float]) -> dict[str, npt.NDArray[np.int64]]:
    """The detections of each label between the edges, (n_edges + 1,); bins as `bin_of` has them."""
    with detections(dataset) as source:
        rows = dataset.connection.sql(
            f"SELECT label, {bin_sql(edges)} AS bin, count(*) FROM {source} GROUP BY ALL"
        ).fetchall()
    counts = {x: np.zeros(len(edges) + 1, np.int64) for x in dataset.identity["labels"]}
    for label, index, number in rows:
        counts[label][index] = number
    return counts


def bin_sql(edges: Sequence[float]) -> str:
    """SQL of the bin of a score, as `bin_of` has it."""
    # A score is a float32, and so is what it is compared with.
    steps = [f"CAST(score >= CAST({edge!r} AS FLOAT) AS INTEGER)" for edge in edges]
    return " + ".join(steps) or "0"


@contextmanager
def detections(dataset: Dataset) -> Iterator[str]:
    """SQL of what `activity` may count, within the block: a table or a query in brackets."""
    with registered(dataset.connection, label_numbers=_numbers(dataset)):
        yield _detections(dataset)


def _numbers(dataset: Dataset) -> pa.Table:
    labels = list(dataset.identity["labels"])
    return pa.table({"label": labels, "number": pa.array(range(len(labels)), pa.int64())})


def _detections(dataset: Dataset) -> str:
    """SQL of what `activity` may count: all predictions, or the top label of each window."""
    if dataset.identity["task"] != "singlelabel":
        return "predictions"
    window = "site, recording, channel, start_s"
    return f"""(SELECT p.* FROM predictions p JOIN label_numbers USING (label)
        QUALIFY row_number() OVER (PARTITION BY {window} ORDER BY score DESC, number) = 1)"""
