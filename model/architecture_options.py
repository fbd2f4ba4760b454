"""The command line's options of a network, without TensorFlow."""

import argparse
from typing import Any

from model.architecture import OWN, Architecture


def add_architecture_options(group: Any) -> None:
    """Adds the options to a parser or a group of it."""
    add = group.add_argument
    add(
        "--architecture",
        choices=tuple(OWN),
        default="morgan2021",
        metavar="NAME",
        help=f"{', '.join(OWN)} (default: morgan2021, the paper's)",
    )
    add(
        "--filters",
        type=_numbers,
        metavar="N,...",
        help="of each convolution of morgan2021, as many as it shall have (default: 64,64,128,128)",
    )
    add("--kernel", type=int, metavar="N", help="size of its convolutions (default: 3)")
    add("--pools", type=_numbers, metavar="N,...", help="pooling after each (default: 2,4,4,4)")
    add(
        "--dense",
        type=int,
        metavar="N",
        help="units of a layer before the last, 0 for none (default: the architecture's own)",
    )
    add(
        "--dropout",
        type=float,
        metavar="F",
        help="fraction dropped in training (default: the architecture's own)",
    )
    add(
        "--head",
        choices=("flatten", "average"),
        help="of networks that are no backbones: all values before the last layers, or their mean "
        "over mels and frames (default: flatten)",
    )
    add("--width", type=float, metavar="X", help="MobileNets' alpha (default: 1)")
    add(
        "--weights",
        default="none",
        metavar="imagenet|none|FILE",
        help="that a backbone starts from: Keras's of ImageNet, none, or an .h5 file "
        "(default: none)",
    )


def architecture_of(args: argparse.Namespace) -> Architecture:
    """The architecture of a parsed command line; UserError for values out of range."""
    return Architecture(
        name=args.architecture,
        filters=args.filters,
        kernel=args.kernel,
        pools=args.pools,
        dense=args.dense,
        dropout=args.dropout,
        head=args.head,
        width=args.width,
        weights=args.weights,
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers split by commas") from None
