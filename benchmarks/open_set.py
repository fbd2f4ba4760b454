"""Unknown sound: each class of ESC-10 kept back in turn, the three rejecters compared.

    python -m benchmarks open_set DATA/esc10 WORK
    python -m benchmarks open_set DATA/esc10 WORK --background DATA/s4a

A small form of the paper's network (filters 32, 32, 64, 64) is trained ten times on 16-kHz sound
in 5-s windows, a quarter of the clips held out for the test and a fifth of the rest for the
rejecter's own threshold, grouped by `freesound_id`. With `--background` the task is multi-label,
and recordings without labels are in all three parts: background is among the known. WORK is a
folder for spectrograms, which are kept; each form of the task has its own.
"""

import argparse
import csv
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from model.architecture import Architecture
from model.examples import Examples
from model.fitting import FitOptions
from model.frontend import FrontEnd
from model.material import Material, Rows, prepare
from model.member_fitting import Recipe, fit_network
from model.open_set import OpenSetResult, leave_one_out, table
from model.runtime import make_deterministic
from model.train_options import TrainOptions
from model.training import print_to_stderr

GROUP = r"(?:^\d-|_\d{8}_)(\d+)"
"""The freesound_id in ESC-10's names, the time of day in those of a recorder."""


def material(
    data: Path, work: Path, background: Path | None, epochs: int
) -> tuple[TrainOptions, Material]:
    """The examples of the clips, and of the recordings without labels, computed once."""
    audio = work / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    with (data / "clips.csv").open() as file:
        clips = [(row["file"], row["label"]) for row in csv.DictReader(file)]
    sounds = [data / "audio" / name for name, _ in clips]
    sounds += sorted(background.glob("*.flac")) if background else []
    for sound in sounds:
        link = audio / sound.name
        if not link.exists():
            link.symlink_to(sound.resolve())
    annotations = work / "clips.csv"
    annotations.write_text("file,label\n" + "".join(f"{a},{b}\n" for a, b in clips))
    options = TrainOptions(
        audio=audio,
        annotations=annotations,
        output=str(work / "no bundle"),
        unannotated="negative" if background else "skip",
        task="multilabel" if background else "singlelabel",
        front_end=FrontEnd(sample_rate=16_000, window_s=5.0),
        group_by=GROUP,
        holdout=0.25,
        recipe=Recipe(
            architecture=Architecture(filters=(32, 32, 64, 64)),
            fit=FitOptions(epochs=epochs, patience=None, learning_rate=1e-3, schedule="cosine"),
        ),
    )
    return options, prepare(options, work, print_to_stderr)


def compare(
    options: TrainOptions, given: Material, labels: list[str] | None
) -> list[OpenSetResult]:
    """The results of all methods for each label kept back."""
    make_deterministic(options.recipe.fit.seed)
    member = given.members.networks[0]

    def fit(examples: Examples, training: Rows, validation: Rows) -> object:
        recipe, seed = options.recipe, member.seed
        rows = training, validation
        return fit_network(recipe, options.front_end, examples, *rows, seed, lambda _: None).network

    parts = (member.training, member.validation, given.members.holdout)
    training, validation, test = (given.rows(part) for part in parts)
    return leave_one_out(
        given.examples,
        training,
        validation,
        test,
        options.front_end,
        fit,
        labels=labels,
        report=print_to_stderr,
    )


def main() -> None:
    """Runs the comparison and prints its table in Markdown."""
    parser = argparse.ArgumentParser("python -m benchmarks open_set", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data", type=Path, help="the folder of ESC-10")
    parser.add_argument("work", type=Path, help="a folder of its own for each form of the task")
    parser.add_argument("--background", type=Path, help="folder of recordings without labels")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--labels", nargs="+", help="keep back these only")
    args = parser.parse_args()
    began = time.monotonic()
    options, given = material(args.data, args.work, args.background, args.epochs)
    results = compare(options, given, args.labels)
    (args.work / "open_set.json").write_text(json.dumps([asdict(r) for r in results], indent=2))
    print(table(results))
    known, unknown = (
        np.mean([getattr(r, f"{name}_windows") for r in results]) for name in ("known", "unknown")
    )
    print(
        f"\n{known:.0f} known and {unknown:.0f} unknown windows each; "
        f"{(time.monotonic() - began) / 60:.0f} min"
    )
