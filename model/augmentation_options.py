"""The command line's options of augmentation, without TensorFlow."""

import argparse
from typing import Any

from model.augmentation import Augmentation, Masks
from model.errors import UserError


def add_augmentation_options(group: Any) -> None:
    """Adds the options to a parser or a group of it."""
    default = Augmentation()
    add = group.add_argument
    add("--no-augmentation", action="store_true", help="train on the windows as they are")
    add(
        "--time-shift",
        type=float,
        metavar="F",
        help=f"largest shift to either side, as a share of the window, around whose end it goes "
        f"(default: {default.time_shift:g})",
    )
    add(
        "--mixup",
        type=float,
        metavar="P",
        help=f"probability that a window is mixed with another (default: {default.mixup:g})",
    )
    add(
        "--noise",
        type=float,
        metavar="P",
        help=f"probability that background is added (default: {default.noise:g})",
    )
    low, high = default.noise_snr
    add(
        "--noise-snr",
        type=_pair,
        metavar="LOW,HIGH",
        help=f"signal over background, in dB (default: {low:g},{high:g})",
    )
    add(
        "--background",
        metavar="DIR|harvest",
        help="what is added: recordings without labels, or the quiet parts of those that train "
        "(default: steady noise of any colour)",
    )
    for axis in ("time", "frequency"):
        masks = getattr(default, f"{axis}_masks")
        add(
            f"--{axis}-masks",
            type=_masks,
            metavar="N,F",
            help="how many stretches are hidden, and their largest width as a share "
            f"(default: {masks.count},{masks.width:g})",
        )
    add(
        "--gain",
        type=float,
        metavar="DB",
        help=f"largest change of a band's level (default: {default.gain:g})",
    )


def augmentation_of(args: argparse.Namespace) -> Augmentation:
    """The augmentation of a parsed command line; UserError for values out of range.

    What is given holds also beside `--no-augmentation`, so one kind can be had alone.
    """
    base = Augmentation.none() if args.no_augmentation else Augmentation()
    values = {name: getattr(args, name) for name in base.to_json()}
    if args.noise and args.noise_snr is None:
        values["noise_snr"] = Augmentation().noise_snr
    given = {name: value for name, value in values.items() if value is not None}
    augmentation = Augmentation(**{**vars(base), **given})
    if args.background and not augmentation.noise:
        raise UserError("A --background is given, but none is added; give a --noise above 0.")
    return augmentation


def _pair(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no two numbers split by a comma") from None
    return low, high


def _masks(text: str) -> Masks:
    try:
        count, width = text.split(",")
        return Masks(int(count), float(width))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number and width, as in 2,0.1") from None
