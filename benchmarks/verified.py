"""What thresholds for a precision of 0.9 achieve, before and after 200 detections were verified.

    dawnchorus demo FOLDER
    python -m benchmarks verified FOLDER WORK [--draws 20]

A network is trained on the labelled part of the demo's archive, with thresholds for a precision of
0.9 on recordings held out. Of its detections in the other recordings 200 are drawn, verified by
the known truth, and taken by `calibrate`; the two sets of thresholds are tried on the detections
that were not drawn. Each draw has another seed.
"""

import argparse
import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np

from model.annotations import Annotation, read_annotations
from model.bundle import load_bundle
from model.examples import label_windows
from model.share_interval import share_interval
from pipeline.cli import main as dawnchorus
from pipeline.dataset import open_dataset
from pipeline.demo import TRAINING

STRATA = "0.2,0.3,0.4,0.6,0.7,0.8,0.9"
EACH = 5
"""Of each of 8 strata and 5 labels: 200 in all, where the strata have so many."""
GOAL = ["--threshold-goal", "precision=0.9"]

Key = tuple[str, float, str]


def run(*command: object) -> None:
    """Runs a command, and raises what it said if it failed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = dawnchorus([str(part) for part in command])
    if status:
        raise SystemExit(said.getvalue())


def truth_of(dataset: Path, audio: Path, truth: Path) -> dict[Key, tuple[float, bool | None]]:
    """Score of each detection, and whether it is right (None: it touches less than half a call)."""
    opened = open_dataset(str(dataset))
    labels = list(opened.identity["labels"])
    calls: dict[str, list[Annotation]] = read_annotations(audio, truth).by_recording()
    rows = opened.connection.sql(
        "SELECT recording, start_s, end_s, label, score FROM predictions ORDER BY ALL"
    ).fetchall()
    found: dict[Key, tuple[float, bool | None]] = {}
    for recording in {row[0] for row in rows}:
        own = [row for row in rows if row[0] == recording]
        bounds = np.array([row[1:3] for row in own])
        window_s = float(opened.identity["window_s"])
        held, known = label_windows(*bounds.T, window_s, calls.get(recording, []), labels)
        for i, (_, start_s, _, label, score) in enumerate(own):
            column = labels.index(label)
            right = bool(held[i, column]) if known[i, column] else None
            found[recording, round(start_s, 3), label] = (score, right)
    return found


def verify(sample: Path, truth: dict[Key, tuple[float, bool | None]]) -> set[Key]:
    """Writes verdicts into a sample's table; gives what was drawn."""
    with sample.open(newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = set()
    for row in rows:
        key = (row["recording"], round(float(row["start"]), 3), row["label"])
        drawn.add(key)
        row["verdict"] = {True: "right", False: "wrong", None: ""}[truth[key][1]]
    with sample.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return drawn


def achieved(
    truth: dict[Key, tuple[float, bool | None]], drawn: set[Key], bundle: Path
) -> dict[str, tuple[int, int, int]]:
    """Of each label: right ones at or above the threshold, all of them, and all right ones."""
    limits = load_bundle(str(bundle)).thresholds
    counts = {label: [0, 0, 0] for label in limits}
    for key, (score, right) in truth.items():
        if key in drawn or right is None:
            continue
        above = np.float32(score) >= np.float32(limits[key[2]])
        for place, one in enumerate((above and right, above, right)):
            counts[key[2]][place] += bool(one)
    return {label: (a, b, c) for label, (a, b, c) in counts.items()}


def shares(counts: dict[str, tuple[int, int, int]]) -> dict[str, object]:
    """Precision over all labels, with its interval, and recall of the detections."""
    right, above, all_right = (sum(column) for column in zip(*counts.values(), strict=True))
    truth = np.arange(above) < right
    interval = share_interval(truth, np.ones(above), np.arange(above), np.zeros(above, np.int64))
    rounded = [round(bound, 3) for bound in interval]
    figures = {"precision": round(right / above, 3), "interval": rounded, "of": above}
    return figures | {"recall": round(right / all_right, 3)}


def main() -> None:
    """Trains, draws, calibrates, and prints precision before and after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("demo", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    audio, labelled = args.demo / "audio", args.demo / "labelled.csv"
    bundle, dataset = args.work / "bundle", args.work / "dataset"
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    options = [text for pair in TRAINING for text in pair]
    given = ("--audio", audio, "--annotations", labelled, "--output", bundle)
    run("train", *given, *options, "--holdout", "0.25", *GOAL)
    with labelled.open(newline="") as file:
        known = {row["file"] for row in csv.DictReader(file)}
    files = sorted(path for path in audio.rglob("*") if path.is_file())
    others = [path for path in files if path.relative_to(audio).as_posix() not in known]
    (args.work / "others.txt").write_text("".join(f"{path.resolve()}\n" for path in others))
    archive = ("--input", args.work / "others.txt", "--root", audio.resolve())
    run("detect", *archive, "--model", bundle, "--output", dataset)
    truth = truth_of(dataset, audio, args.demo / "truth.csv")
    results = []
    for seed in range(args.draws):
        sample, field = args.work / f"sample-{seed}", args.work / f"field-{seed}"
        drawing = ("--strata", STRATA, "--number", EACH, "--seed", seed, "--clips", "none")
        run("sample", dataset, "--output", sample, *drawing)
        drawn = verify(sample / "sample.csv", truth)
        verified = ("--verified", sample / "sample.csv", "--model", bundle, "--output", field)
        run("calibrate", *verified, *GOAL)
        before, after = (shares(achieved(truth, drawn, one)) for one in (bundle, field))
        results.append({"seed": seed, "drawn": len(drawn), "before": before, "after": after})
        print(json.dumps(results[-1]), flush=True)
        if seed == 0:
            print(
                json.dumps(
                    {"thresholds": [load_bundle(str(x)).thresholds for x in (bundle, field)]}
                )
            )
            facts = load_bundle(str(bundle)).threshold_facts
            told = {k: (x.precision, x.precision_interval) for k, x in facts.labels.items()}
            print(json.dumps({"promised before": told}))
            facts = load_bundle(str(field)).threshold_facts
            told = {k: (x.precision, x.precision_interval) for k, x in facts.labels.items()}
            print(json.dumps({"promised after": told}))
    for when in ("before", "after"):
        for what in ("precision", "recall"):
            values = [result[when][what] for result in results]
            low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
            print(f"{what} {when}: mean {np.mean(values):.3f}, {low:.3f} {middle:.3f} {high:.3f}")


if __name__ == "__main__":
    main()
