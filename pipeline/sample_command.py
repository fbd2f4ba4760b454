"""`dawnchorus sample`: detections to listen to, with their sound."""

import argparse
import io
from typing import TYPE_CHECKING, Any

from model.errors import UserError
from pipeline.text import count

if TYPE_CHECKING:
    from pipeline.storage import Folder

TABLE = "sample.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.description = (
        "Draws detections to be verified: a table with an empty column `verdict`, which "
        "`calibrate --verified` takes once right or wrong is written there, and of each detection "
        "a clip of its sound and a spectrogram."
    )
    parser.epilog = "Example: dawnchorus sample out --label wren --number 20 --output wren/"
    add = parser.add_argument
    add("dataset", metavar="OUT", help="the output of dawnchorus detect")
    add("--output", metavar="DIR", required=True, help="folder or URL, new or empty")
    add("--label", action="append", metavar="LABEL", help="only this label; may be repeated")
    add(
        "--draw",
        choices=["strata", "top", "random"],
        default="strata",
        help="at random from each range of scores (default), the highest scores, or at random "
        "from each site",
    )
    add("--number", type=int, default=20, metavar="N", help="of each draw and label (default 20)")
    add(
        "--strata",
        metavar="S,S,...",
        help="scores at which ranges meet (default 0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9)",
    )
    add("--seed", type=int, default=0, metavar="N", help="another draws others (default 0)")
    add(
        "--context",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds of sound before and after (default 1)",
    )
    add("--clips", choices=["flac", "wav", "none"], default="flac", help="default flac")
    add("--root", metavar="PATH", help="where the recordings are now (default: as at the last run)")


def run(args: argparse.Namespace) -> int:
    """Draws and writes; exit status 0, UserError for bad options."""
    import pyarrow as pa
    import pyarrow.csv

    from pipeline.csv_file import guarded
    from pipeline.sample import SampleRule, draw_sample
    from pipeline.storage import Folder
    from pipeline.unfinished import open_warned

    if not 0 <= args.context < float("inf"):
        raise UserError(f"--context is {args.context:g}; give seconds, 0 or more.")
    labels = tuple(args.label) if args.label else None
    rule = SampleRule(args.draw, args.number, labels=labels, seed=args.seed)
    if args.strata is not None:
        if args.draw != "strata":
            raise UserError(f"--strata is for --draw strata, not for {args.draw}.")
        rule = SampleRule(args.draw, args.number, _edges(args.strata), labels, args.seed)
    dataset, out = open_warned(args.dataset), Folder(args.output)
    drawn = draw_sample(dataset, rule)
    try:
        out.require_empty()
        lost = 0
        if args.clips != "none":
            root = Folder(args.root) if args.root else dataset.root()
            made = [
                _write_clip(root, out, number, row, args.context, args.clips)
                for number, row in enumerate(drawn.to_pylist(), 1)
            ]
            added = {"clip": pa.string(), "clip_start": pa.float64(), "problem": pa.string()}
            for place, (name, kind) in enumerate(added.items()):
                values = pa.array([one[place] for one in made], kind)
                drawn = drawn.append_column(name, values)
            lost = sum(problem is not None for *_, problem in made)
        content = io.BytesIO()
        pyarrow.csv.write_csv(guarded(drawn), content)
        out.write(TABLE, content.getvalue())
    except OSError as error:
        raise UserError(f"{out.url} cannot be written: {error.strerror or error}.") from error
    print(f"Drawn        {count(len(drawn), 'detection')}")
    if lost:
        print(f"No clip      {count(lost, 'recording')} could not be read: see the column problem")
    print(f"Table        {out.at(TABLE)}")
    return 0


def _edges(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--strata is {text!r}; give scores, such as 0.3,0.6,0.9.") from error


def _write_clip(
    root: "Folder", out: "Folder", number: int, row: dict[str, Any], context_s: float, kind: str
) -> tuple[str | None, float | None, str | None]:
    """A detection's clip and picture: its name and its start in s, or why there is none."""
    import soundfile

    from model.sound import AudioError
    from pipeline.clips import draw_spectrogram, encode_clip, read_clip

    bounds = row["start"], row["end"]
    try:
        samples, rate, at_s = read_clip(root.at(row["recording"]), *bounds, context_s)
        if not len(samples):
            return None, None, "the recording ends before"
        content = encode_clip(samples, rate, kind)
    except AudioError as error:
        return None, None, error.message
    except (OSError, ValueError, soundfile.LibsndfileError) as error:
        return None, None, str(getattr(error, "strerror", None) or error)
    name = f"clips/{number:05d}"
    out.write(f"{name}.{kind}", content)
    out.write(f"{name}.png", draw_spectrogram(samples, rate, at_s, bounds))
    return f"{name}.{kind}", at_s, None
