"""`dawnchorus sample`: detections to listen to, with their sound."""

import argparse
import io
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from model.errors import UserError
from pipeline.text import count

if TYPE_CHECKING:
    from pipeline.clips import Float32
    from pipeline.storage import Folder

    _Clip: TypeAlias = tuple[bytes, Float32, int, float]

TABLE = "sample.csv"
CLIP = re.compile(r"clips/[0-9]{5,}\.(flac|wav|png)")
READERS = 8
"""Clips that are read at a time: buckets answer late, and many at once."""


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
    add(
        *("--number", "--per-stratum"),
        type=int,
        default=20,
        metavar="N",
        help="of each label, and of each of its ranges or sites (default 20)",
    )
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
        _require_empty(out)
        lost = 0
        if args.clips != "none":
            root = Folder(args.root) if args.root else dataset.root()
            made = _write_clips(root, out, drawn.to_pylist(), args.context, args.clips)
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
        print(f"No clip      {count(lost, 'detection')}: the column problem tells why")
    if lost and lost == len(drawn):
        print("             Has the archive moved? Tell where it is with --root.")
    print(f"Table        {out.at(TABLE)}")
    return 0


def _require_empty(out: "Folder") -> None:
    """UserError where other files lie than clips of a sample that did not come to its end."""
    left = out.files() if out.exists() else []
    if not all(CLIP.fullmatch(name) for name in left):
        out.require_empty()
    for name in left:
        out.remove(name)


def _edges(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--strata is {text!r}; give scores, such as 0.3,0.6,0.9.") from error


def _write_clips(
    root: "Folder", out: "Folder", rows: list[dict[str, Any]], context_s: float, kind: str
) -> list[tuple[str | None, float | None, str | None]]:
    """Each detection's clip and picture: the clip's name and start in s, or why there is none."""
    from concurrent.futures import ThreadPoolExecutor

    from tqdm import tqdm

    from pipeline.clips import draw_spectrogram

    def read(row: dict[str, Any]) -> "_Clip | str":
        return _read_clip(root.at(row["recording"]), row["start"], row["end"], context_s, kind)

    made: list[tuple[str | None, float | None, str | None]] = []
    with (
        ThreadPoolExecutor(READERS) as pool,
        tqdm(total=len(rows), desc="clips", disable=None) as bar,
    ):
        for first in range(0, len(rows), READERS):  # No more than these are held.
            some = rows[first : first + READERS]
            for row, clip in zip(some, pool.map(read, some), strict=True):
                bar.update()
                if isinstance(clip, str):
                    made.append((None, None, clip))
                    continue
                content, samples, rate, at_s = clip
                name = f"clips/{len(made) + 1:05d}"
                out.write(f"{name}.{kind}", content)
                picture = draw_spectrogram(samples, rate, at_s, (row["start"], row["end"]))
                out.write(f"{name}.png", picture)
                made.append((f"{name}.{kind}", at_s, None))
    return made


def _read_clip(url: str, start: float, end: float, context_s: float, kind: str) -> "_Clip | str":
    """The file of a clip, its samples, rate and start in s; or why it cannot be read."""
    import soundfile

    from model.sound import AudioError
    from pipeline.clips import encode_clip, read_clip

    try:
        samples, rate, at_s = read_clip(url, start, end, context_s)
        if not len(samples):
            return "the recording ends before"
        return encode_clip(samples, rate, kind), samples, rate, at_s
    except AudioError as error:
        return error.message
    except (OSError, ValueError, soundfile.LibsndfileError) as error:
        return str(getattr(error, "strerror", None) or error)
