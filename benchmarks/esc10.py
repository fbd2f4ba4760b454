"""Cross-validation on ESC-10: each fold is told by networks that were trained on the others.

    python -m benchmarks esc10 DATA/esc10 WORK
    python -m benchmarks esc10 DATA/esc10 WORK --test-folds 4 --architecture pnwcnet5 ...

`--test-folds` names the folds to test on. All other options after WORK go to `dawnchorus train`, in
place of those of `RECIPE`, with which the paper's network is trained. Clips cut from one source
share a fold. WORK is a new folder for what is made.
"""

import argparse
import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.real_sound import _find, run

RECIPE = {
    "window": "5",
    "sample-rate": "32000",
    "n-fft": "2048",
    "hop-length": "1259",
    "head": "average",
    "dropout": "0.2",
    "validation": "0",
    "epochs": "200",
    "batch-size": "8",
    "learning-rate": "2e-3",
    "schedule": "cosine",
    "weight-decay": "1e-3",
}
"""The options with which the paper's network is trained: a window has as many frames as its pools
take in whole, and all clips are one window."""
DRAWS = 10_000


def write_table(path: Path, clips: Sequence[dict[str, str]]) -> None:
    """Writes the annotations of clips."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "freesound_id"])
        writer.writerows((clip["file"], clip["label"], clip["freesound_id"]) for clip in clips)


def test_fold(data: Path, work: Path, fold: str, options: Sequence[str]) -> list[dict[str, object]]:
    """Trains without a fold and scores it: each clip's label, source and whether it is right."""
    with (data / "clips.csv").open(newline="") as file:
        clips = list(csv.DictReader(file))
    folder = work / f"fold-{fold}"
    folder.mkdir(parents=True)
    for name, part in (("train", [c for c in clips if c["fold"] != fold]), ("test", clips)):
        kept = part if name == "train" else [c for c in clips if c["fold"] == fold]
        write_table(folder / f"{name}.csv", kept)
    audio = str(_find(data, clips[0]["file"]).parent)
    bundle = str(folder / "bundle")
    began = time.monotonic()
    train = ["--audio", audio, "--annotations", str(folder / "train.csv"), "--output", bundle]
    run("train", *train, "--group-by", "freesound_id", "--work", str(work / "work"), *options)
    seconds = time.monotonic() - began
    test = ["--audio", audio, "--annotations", str(folder / "test.csv"), "--model", bundle]
    test += ["--output", str(folder / "evaluation"), "--group-by", "freesound_id"]
    run("evaluate", *test)
    top = score_clips(folder / "evaluation")
    rows: list[dict[str, object]] = []
    for clip in clips:
        if clip["file"] in top:
            said = top[clip["file"]]
            row = {"fold": fold, "file": clip["file"], "label": clip["label"], "said": said}
            row |= {"source": clip["freesound_id"], "right": said == clip["label"]}
            rows.append(row | {"seconds": seconds})
    return rows


def score_clips(evaluation: Path) -> dict[str, str]:
    """The label of each clip with the highest mean score, by an evaluation's scores."""
    table = pq.read_table(evaluation / "scores.parquet").to_pandas()
    scores = table.groupby(["recording", "label"]).score.mean().unstack()
    return {str(clip): str(label) for clip, label in scores.idxmax(axis=1).items()}


def interval(right: Sequence[bool], sources: Sequence[str]) -> tuple[float, float]:
    """95 % bootstrap interval of the share that is right, drawn by source."""
    names, member = np.unique(sources, return_inverse=True)
    hits = np.bincount(member, np.asarray(right, float))
    sizes = np.bincount(member)
    drawn = np.random.default_rng(1).integers(len(names), size=(DRAWS, len(names)))
    low, high = np.quantile(hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Runs the folds and prints accuracy by clip, for each and for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--test-folds", default="1,2,3,4")
    args, options = parser.parse_known_args()
    rows: list[dict[str, object]] = []
    for fold in args.test_folds.split(","):
        found = test_fold(
            args.data,
            args.work,
            fold,
            options or [f"--{name}={value}" for name, value in RECIPE.items()],
        )
        right = sum(bool(row["right"]) for row in found)
        print(f"fold {fold}: {right} of {len(found)}, {right / len(found):.3f}", flush=True)
        rows += found
        (args.work / "clips.json").write_text(json.dumps(rows, indent=1))
    right = [bool(row["right"]) for row in rows]
    low, high = interval(right, [str(row["source"]) for row in rows])
    minutes = sum({str(r["fold"]): float(str(r["seconds"])) for r in rows}.values()) / 60
    print(
        f"all: {sum(right)} of {len(rows)}, {np.mean(right):.3f} ({low:.3f} to {high:.3f}); "
        f"{minutes:.1f} minutes of training"
    )
    for row in rows:
        if not row["right"]:
            print(f"  {row['file']} is {row['label']}, taken for {row['said']}")


if __name__ == "__main__":
    main()
