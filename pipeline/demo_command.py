"""`dawnchorus demo`: from sound to tables in a few minutes, on an archive with known truth."""

import argparse
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.bundle import Bundle
    from pipeline.demo import Loss, Precision
    from pipeline.synth import Archive

WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Synthesises a day of sound at two sites (280 MB) with known truth, trains a small "
        "network on a third of it, detects over all of it and compares with the truth. Takes a "
        "few minutes and no network; the bundle and the dataset stay in DIR."
    )
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        default=Path("dawnchorus-demo"),
        type=Path,
        help="a new folder, or that of an earlier demo (default: ./dawnchorus-demo)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; the exit status of its detection. UserError for a folder in use."""
    from pipeline.cli import main
    from pipeline.dataset import open_dataset
    from pipeline.demo import BUNDLE, DATASET, TRAINING, compare, losses, prepare_folder
    from pipeline.demo import train_apart as train
    from pipeline.synth import synthesise

    folder: Path = args.folder
    prepare_folder(folder)
    began = time.monotonic()
    bundle, output = str(folder / BUNDLE), str(folder / DATASET)
    _say(f"A day of sound at two sites, from audio to tables, in {folder}", indent="")
    with _step("1. Synthesise an archive whose truth is known"):
        archive = synthesise(folder)
        _say(*_archive_lines(archive))
    with _step("2. Train a small network on the labelled part"):
        options = ["--audio", str(archive.audio), "--annotations", str(archive.labelled_csv)]
        options += ["--output", bundle, *(text for pair in TRAINING for text in pair)]
        _say(*_shell("train", options))
        _say(*_bundle_lines(train(options)))
    with _step("3. Detect over all of it, keeping every score"):
        options = ["--input", str(archive.audio), "--model", bundle, "--output", output]
        options += ["--min-score", "0"]
        _say(*_shell("detect", options), "")
        status = main(["detect", *options])
    if status:
        return status
    dataset = open_dataset(output)
    with _step("4. Compare with the truth"):
        unseen = set(archive.recordings) - set(archive.labelled)
        _say(*_precision_lines(compare(dataset, archive.truth, unseen), len(unseen)))
    with _step("5. Activity: the share of windows with each label, by hour of the day"):
        from pipeline.activity import activity
        from pipeline.activity_command import chart

        table = activity(dataset, "diel", dataset.bundle().output_thresholds)
        _say(*_shell("activity", [output, "--by", "diel"]), "")
        # Each hour has one recording, so one chart holds both sites.
        _say(*chart(table.to_pylist(), WIDTH - 2), "")
        _say("Even hours are MARSH's, odd hours Ridge's, on the recorders' clocks.")
    with _step("6. What the damaged file cost"):
        _say(*_loss_lines(losses(dataset)))
    _say(
        "", f"All of it took {time.monotonic() - began:.0f} s. What is left in {folder}:", indent=""
    )
    _say(*_place_lines(archive, folder))
    _say("", "Ask the tables yourself:", "", *_query(folder / DATASET), indent="")
    return 0


def _say(*lines: str, indent: str = "  ") -> None:
    for line in lines:
        print((indent + line).rstrip(), flush=True)


@contextmanager
def _step(title: str) -> Iterator[None]:
    """Prints a step's title before it and its time after it."""
    _say("", title, "-" * len(title), indent="")
    began = time.monotonic()
    yield
    _say("", f"({time.monotonic() - began:.1f} s)")


def _shell(command: str, options: Sequence[str]) -> list[str]:
    """A command as a user types it, in lines that can be copied together."""
    units: list[str] = []
    for option in options:
        if option.startswith("--") or not units:
            units.append(shlex.quote(option))
        else:
            units[-1] += " " + shlex.quote(option)
    lines = ["$ dawnchorus " + command]
    for unit in units:
        if len(lines[-1]) + len(unit) > WIDTH - 6:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += " " + unit
    return lines


def _archive_lines(archive: "Archive") -> list[str]:
    calls = len(archive.truth)
    labels = sorted({call.label for call in archive.truth})
    known = sum(call.file in archive.labelled for call in archive.truth)
    return [
        f"{len(archive.recordings)} recordings of 5 minutes, one each hour, at two sites; "
        f"{calls} calls of {len(labels)} types:",
        f"{', '.join(labels)}. Noise, wind, insects, distance, overlap, a dawn peak.",
        f"Of one file ({archive.damaged}) the second half is missing.",
        f"The labelled part: {len(archive.labelled)} recordings with {known} calls.",
    ]


def _bundle_lines(bundle: "Bundle") -> list[str]:
    metrics = bundle.provenance["metrics"]
    (network,) = metrics["networks"]
    data = bundle.provenance["data"]
    return [
        "",
        f"{data['training_windows']:,} windows to learn from, {data['validation_windows']:,} of "
        "other recordings to validate;",
        f"epoch {network['best_epoch']} of {network['epochs']} kept; macro average precision on "
        f"validation {_number(metrics['macro_average_precision'])}.",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _precision_lines(found: Sequence["Precision"], recordings: int) -> list[str]:
    width = max(18, *(len(one.label) for one in found))
    lines = [
        f"Average precision over the windows of the {recordings} recordings that training did "
        "not see:",
        "",
        f"{'label':<{width}}  windows with it  average precision  chance",
    ]
    for one in found:
        lines.append(
            f"{one.label:<{width}}  {one.positive:>7,} of {one.windows:<5,}"
            f"{_number(one.average_precision):>17}{_number(one.chance):>10}"
        )
    scored = [x for x in found if x.average_precision is not None and x.chance is not None]
    if scored:
        mean = sum(x.average_precision or 0 for x in scored) / len(scored)
        chance = sum(x.chance or 0 for x in scored) / len(scored)
        lines.append(f"{'mean of the labels':<{width}}  {_number(mean):>33}{_number(chance):>10}")
    return lines


def _loss_lines(found: Sequence["Loss"]) -> list[str]:
    if not found:
        return ["Nothing was lost."]
    lines = []
    for loss in found:
        lines.append(
            f"{loss.recording}: {loss.seconds_lost:.1f} s of {loss.seconds_expected:.1f} s lost, "
            f"{loss.windows_lost:,} windows"
        )
        lines += [f"  reason: {reason}" for reason in loss.reasons]
    return [*lines, "Every other window of the archive was scored."]


def _place_lines(archive: "Archive", folder: Path) -> list[str]:
    from pipeline.demo import BUNDLE, DATASET

    places = {
        "audio": archive.audio,
        "truth": archive.truth_csv,
        "labelled part": archive.labelled_csv,
        "bundle": folder / BUNDLE,
        "dataset": folder / DATASET,
    }
    return [f"{name:<15}{path}" for name, path in places.items()]


def _query(dataset: Path) -> list[str]:
    """Lines for a shell: the hours with the most windows, from the Parquet with DuckDB.

    Through Python, because DuckDB's own shell does not come with its package.
    """
    from pipeline.dataset import HIVE_TYPES, duck_path, quoted

    pattern = quoted(f"{duck_path(str(dataset))}/predictions/*/*/*.parquet")
    return [
        "python -c \"import duckdb; duckdb.sql('''",
        "  SELECT site, label, hour(start_clock) AS hour, count(*) AS windows",
        f"  FROM read_parquet({pattern},",
        f"    {HIVE_TYPES})",
        "  WHERE score >= 0.5 GROUP BY ALL ORDER BY windows DESC LIMIT 10 ''').show()\"",
    ]
