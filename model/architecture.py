"""Which network, and the options that shape it, without TensorFlow."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from model.errors import UserError, require
from model.frontend import FrontEnd

IMAGENET_WIDTHS = {"mobilenet": (0.25, 0.5, 0.75, 1.0), "mobilenetv3": (0.75, 1.0)}
"""The backbones that have a width, with those for which Keras has ImageNet weights."""

# Each architecture's own values; what it does not name, it does not have.
_BACKBONE: dict[str, Any] = {"dense": 0, "dropout": 0.2}
OWN: dict[str, dict[str, Any]] = {
    "morgan2021": {
        "filters": (64, 64, 128, 128),
        "kernel": 3,
        "pools": (2, 4, 4, 4),
        "dense": 0,
        "dropout": 0.0,
        "head": "flatten",
    },
    "sprengel2016": {"dense": 1024, "dropout": 0.4, "head": "flatten"},
    "pnwcnet5": {"dense": 512, "dropout": 0.3, "head": "flatten"},
    "resnet50": _BACKBONE,
    "inceptionv3": _BACKBONE,
    "mobilenet": _BACKBONE | {"width": 1.0},
    "mobilenetv3": _BACKBONE | {"width": 1.0},
    "efficientnet": _BACKBONE,
}
BACKBONES = ("resnet50", "inceptionv3", "mobilenet", "mobilenetv3", "efficientnet")

# Frames that the first convolution steps over, and the poolings, of the networks of fixed depth.
_FIXED = {"sprengel2016": (2, (2,) * 5), "pnwcnet5": (1, (2,) * 6)}


@dataclass(frozen=True)
class Architecture:
    """A network's name and what shapes it; None is the architecture's own value.

    `filters` has one number for each convolution of morgan2021 (so its length is the depth),
    `pools` one pooling for each (mels and frames alike). `dense` is the number of units of a layer
    before the logits (0: none), `dropout` the fraction dropped before that layer and the logits,
    `head` how maps become a vector: "flatten", or "average" over mels and frames. `width` is
    MobileNet's alpha. `weights` of a backbone: "none", "imagenet", or the path of an .h5 file.
    Raises UserError for values out of range and for options that the architecture does not have.
    """

    name: str = "morgan2021"
    filters: tuple[int, ...] | None = None
    kernel: int | None = None
    pools: tuple[int, ...] | None = None
    dense: int | None = None
    dropout: float | None = None
    head: str | None = None
    width: float | None = None
    weights: str = "none"

    def __post_init__(self) -> None:
        if self.name not in OWN:
            raise UserError(f"No architecture is named {self.name!r}; use {_words(OWN)}.")
        own = OWN[self.name]
        for option, value in asdict(self).items():
            if option not in ("name", "weights", *own) and value is not None:
                having = [name for name, values in OWN.items() if option in values]
                raise UserError(
                    f"{self.name} has no {option}; leave it out, or use {_words(having)}."
                )
        if self.weights != "none" and not self.is_backbone:
            raise UserError(
                f"There are no weights {self.weights} for {self.name}; leave them out, or use "
                f"{_words(BACKBONES)}."
            )
        self._check_convolutions()
        require(self.dense is None or self.dense >= 0, "dense", self.dense, "0 (none) or more")
        require(
            self.dropout is None or 0 <= self.dropout < 1,
            "dropout",
            self.dropout,
            "from 0 to below 1",
        )
        require(self.head in (None, "flatten", "average"), "head", self.head, "flatten or average")
        self._check_weights()

    def _check_convolutions(self) -> None:
        require(self.kernel is None or self.kernel >= 1, "kernel", self.kernel, "1 or more")
        if self.filters is None and self.pools is None:
            return
        own = OWN[self.name]
        filters = own["filters"] if self.filters is None else self.filters
        most = len(own["pools"])
        if not filters or min(filters) < 1 or (self.pools is None and len(filters) > most):
            raise UserError(
                f"The filters are {_commas(filters)}; give one to {most} numbers of 1 or more, "
                "separated by commas, or as many pools beside them."
            )
        if self.pools is not None and (len(self.pools) != len(filters) or min(self.pools) < 1):
            raise UserError(
                f"The pools are {_commas(self.pools)}; give {len(filters)} numbers of 1 or more, "
                f"one for each of the filters ({_commas(filters)})."
            )

    def _check_weights(self) -> None:
        width = self.width
        # A tenth leaves the first convolution of either MobileNet at least 3 filters.
        require(width is None or 0.1 <= width <= 4, "width", width, "from 0.1 to 4")
        known = IMAGENET_WIDTHS.get(self.name, ())
        if self.weights == "imagenet" and known and width not in (None, *known):
            raise UserError(
                f"There are no ImageNet weights for {self.name} of width {width}; use "
                f"{_words(map(str, known))}."
            )
        if self.weights not in ("none", "imagenet") and not self.weights.endswith(".h5"):
            raise UserError(
                f"The weights are {self.weights}; give imagenet, none, or a file whose name ends "
                "in .h5."
            )

    @property
    def is_backbone(self) -> bool:
        """Whether it is a network for images, with a layer `features` before its head."""
        return self.name in BACKBONES

    def resolved(self) -> "Architecture":
        """The same with the architecture's own values where there was None."""
        own = dict(OWN[self.name])
        if self.filters is not None:
            own["pools"] = own["pools"][: len(self.filters)]
        return replace(self, **{k: v for k, v in own.items() if getattr(self, k) is None})

    def to_json(self) -> dict[str, Any]:
        """What applies, as JSON values; of a file of weights its name and not its place."""
        all_of_it = self.resolved()
        values = {"name": self.name, **{key: getattr(all_of_it, key) for key in OWN[self.name]}}
        if self.is_backbone:
            values["weights"] = self.weights.replace("\\", "/").rpartition("/")[2]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def check_fit(self, front_end: FrontEnd) -> None:
        """UserError, naming what would fit, if the network does not fit its input.

        n convolutions need as many mels as the product of their pools, and as many frames, times
        the stride of the first: 128 of both for the paper's four. Backbones resize what they get.
        """
        if self.is_backbone:
            return
        pools = self.resolved().pools
        stride, pools = _FIXED[self.name] if pools is None else (1, pools)
        need_mels = math.prod(pools)
        # Pools pad the window's end, but each must be filled once: what is less is mostly padding.
        # The strided convolution rounds up.
        need_frames = stride * (need_mels - 1) + 1
        mels, frames = front_end.input_shape
        fitting = [
            n for n in range(1, len(pools)) if math.prod(pools[:n]) <= min(front_end.input_shape)
        ]
        can_shrink = "filters" in OWN[self.name] and fitting
        fewer = f", or at most {fitting[-1]} filters" if can_shrink else ""
        if mels < need_mels:
            raise UserError(
                f"{len(pools)} convolutions need at least {need_mels} mels, but the front end has "
                f"{mels}: use {need_mels} or more{fewer}."
            )
        if frames < need_frames:
            hop = front_end.window_samples // (need_frames - 1)
            window = (need_frames - 1) * front_end.hop_length / front_end.sample_rate
            shorter = f"a hop length of at most {hop}, " if hop else ""
            raise UserError(
                f"{len(pools)} convolutions need at least {need_frames} frames, but a window of "
                f"{front_end.window_s:g} s at hop length {front_end.hop_length} has {frames}: use "
                f"{shorter}a window of at least {math.ceil(window * 1000) / 1000:g} s{fewer}."
            )


def _commas(numbers: Any) -> str:
    return ",".join(map(str, numbers))


def _words(names: Any) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
