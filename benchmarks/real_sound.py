"""Train on real recordings, detect on others, and compare with what people annotated.

    python -m benchmarks real_sound finch DATA/finch/gy6or6 WORK
    python -m benchmarks real_sound esc10 DATA/esc10 WORK

`finch`: three of every four recordings of a bird train, the fourth is detected; average precision
of each label's windows beside that of chance, then syllables as events, from a finer hop. Windows
are 64 ms long, as the syllables are. `esc10`: folds 1 to 3 train, fold 4 is detected; accuracy by
the top label. WORK is a new folder for what is made; options after it replace those of training.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from model.annotations import read_annotations
from pipeline.cli import main as dawnchorus
from pipeline.dataset import open_dataset
from pipeline.demo import compare
from pipeline.synth import Annotation

ENOUGH = 50
"""Training examples from which a label counts."""
SYLLABLES = (
    *("--window", "0.064", "--hop", "0.032", "--sample-rate", "32000", "--n-fft", "512"),
    *("--hop-length", "32", "--n-mels", "64", "--filters", "32,64,64", "--pools", "2,4,4"),
    *("--epochs", "10"),
)
FINE = "0.008"
"""Seconds between windows when syllables are looked for as events."""


def run(*arguments: str) -> None:
    """Runs a command of ours, shown as one would type it."""
    print("$ dawnchorus", *arguments, flush=True)
    if dawnchorus(arguments) != 0:
        sys.exit("the command failed")


def link(files: Sequence[Path], folder: Path) -> None:
    """Makes a folder of links to files."""
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).symlink_to(file.resolve())


def finch(data: Path, work: Path, training: Sequence[str]) -> tuple[float, float]:
    """Macro average precision, and chance, on the held-out quarter of a bird's recordings."""
    recordings = sorted(data.glob("*.flac"))
    held = recordings[3::4]
    rest = [recording for recording in recordings if recording not in held]
    for name, part in (("train", rest), ("test", held)):
        tables = [recording.with_suffix(".Table.1.selections.txt") for recording in part]
        link([*part, *tables], work / name)
    train, test, bundle, out = (str(work / x) for x in ("train", "test", "bundle", "dataset"))
    options = list(training) or list(SYLLABLES)
    run("train", "--audio", train, "--annotations", train, "--output", bundle, *options)
    run("detect", "--input", test, "--model", bundle, "--output", out, "--min-score", "0")
    found = read_annotations(work / "train", work / "train", None, None, "skip").annotations
    examples = [annotation.label for annotation in found]
    calls = read_annotations(work / "test", work / "test", None, None, "skip").annotations
    truth = [
        Annotation(call.recording, call.start_s or 0.0, call.end_s or 0.0, call.label)
        for call in calls
    ]
    results = compare(open_dataset(out), truth, [recording.name for recording in held])
    print(f"{'label':<6}{'training':>9}{'windows':>9}{'positive':>9}{'AP':>8}{'chance':>8}")
    counted = []
    for result in results:
        n = examples.count(result.label)
        if n >= ENOUGH and result.average_precision is not None and result.chance is not None:
            counted.append((result.average_precision, result.chance))
        print(
            f"{result.label:<6}{n:>9}{result.windows:>9}{result.positive:>9}"
            f"{result.average_precision or 0:>8.3f}{result.chance or 0:>8.3f}"
        )
    labels = [result.label for result in results if examples.count(result.label) >= ENOUGH]
    places = ["--audio", test, "--annotations", test, "--output", str(work / "evaluation")]
    run("evaluate", "--model", bundle, *places, "--hop", FINE)
    document = json.loads((work / "evaluation" / "metrics.json").read_text())
    events = document["events"]["labels"]
    for name in ("frame", "event"):
        f1, best = (
            sum(events[label][f"{part}{name}_f1"] or 0 for label in labels) / len(labels)
            for part in ("", "ceiling_")
        )
        print(f"{name} F1 over {len(labels)} labels: {f1:.3f}, of perfect windows {best:.3f}")
    macro, chance = (sum(values) / len(counted) for values in zip(*counted, strict=True))
    print(f"macro average precision over {len(counted)} labels: {macro:.3f}, chance {chance:.3f}")
    return macro, chance


def esc10(data: Path, work: Path, training: Sequence[str]) -> float:
    """Accuracy by the top label on fold 4."""
    with (data / "clips.csv").open(newline="") as file:
        clips = list(csv.DictReader(file))
    work.mkdir(parents=True)
    table = work / "train.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "freesound_id"])
        writer.writerows(
            (clip["file"], clip["label"], clip["freesound_id"])
            for clip in clips
            if clip["fold"] != "4"
        )
    held = {clip["file"]: clip["label"] for clip in clips if clip["fold"] == "4"}
    link([_find(data, name) for name in held], work / "test")
    bundle, out, audio = (str(work / x) for x in ("bundle", "dataset", "test"))
    options = ["--window", "5", "--group-by", "freesound_id", "--validation", "0.15"]
    options += ["--epochs", "40", "--patience", "15", "--learning-rate", "3e-4"]
    options = list(training) or options
    source = str(_find(data, clips[0]["file"]).parent)
    run("train", "--audio", source, "--annotations", str(table), "--output", bundle, *options)
    # Some clips are some samples longer than 5 s: shifted, their second window is no padding.
    options = ["--tail", "shift", "--min-score", "0"]
    run("detect", "--input", audio, "--model", bundle, "--output", out, *options)
    top = open_dataset(out).connection.sql(
        """SELECT recording, arg_max(label, score) FROM
        (SELECT recording, label, avg(score) AS score FROM predictions GROUP BY ALL) GROUP BY ALL"""
    )
    right = [held[Path(recording).name] == label for recording, label in top.fetchall()]
    share = sum(right) / len(held)
    print(f"accuracy by the top label: {sum(right)} of {len(held)} clips, {share:.3f}")
    return share


def _find(data: Path, name: str) -> Path:
    return next(path for path in (data / name, data / "audio" / name) if path.exists())


def main() -> None:
    """Runs one comparison; options after WORK replace those of training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=["finch", "esc10"])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    args, training = parser.parse_known_args()
    {"finch": finch, "esc10": esc10}[args.which](args.data, args.work, training)


if __name__ == "__main__":
    main()
