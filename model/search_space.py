"""The space of a search: which options of training are tried, and over what values."""

import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import UserError

DEFAULT = "default"
"""A choice that leaves an option as the command has it."""

STANDARD = """\
# What `dawnchorus tune` tries. Each name is an option of `dawnchorus train`, without the dashes
# before it. A list holds the values to choose from; "default" leaves the option as the command has
# it. A range has low and high, and may be "log" (as likely from 1 to 10 as from 10 to 100) or have
# a step. Remove what shall not be tried, add any other option of training.

# network
filters = ["default", "32,32,64,64", "64,64,128,256", "64,128,256"]
kernel = ["default", 3, 5]
pools = ["default", "2,2,4,4", "4,4,2,2"]
dense = ["default", 128]
dropout = { low = 0.0, high = 0.5 }

# front end
n-mels = ["default", 64, 96, 128]
hop-length = ["default", 256, 512]
fmin = [0, 150, 500]
fmax = ["default", 8000]

# training
learning-rate = { low = 1e-4, high = 1e-2, scale = "log" }
batch-size = [16, 32]

# augmentation
mixup = { low = 0.0, high = 1.0 }
noise = { low = 0.0, high = 0.6 }
time-masks = ["0,0", "1,0.1", "2,0.1", "2,0.2"]
frequency-masks = ["0,0", "1,0.1", "2,0.1", "2,0.2"]
gain = { low = 0.0, high = 12.0 }
"""


@dataclass(frozen=True)
class Choice:
    """An option with a list of values, as text; `DEFAULT` is one of them or not."""

    option: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """An option with a range of numbers, uniform in itself or in its logarithm."""

    option: str
    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class SearchSpace:
    """What a search varies. Values of a trial are text by option, as on the command line."""

    parameters: tuple[Choice | Range, ...]

    def to_hyperopt(self) -> dict[str, Any]:
        """The space for hyperopt; choices are numbers of their values."""
        import numpy as np
        from hyperopt import hp

        space = {}
        for p in self.parameters:
            if isinstance(p, Choice):
                space[p.option] = hp.randint(p.option, len(p.values))
            elif p.step is not None:
                space[p.option] = hp.quniform(p.option, p.low, p.high, p.step)
            elif p.log:
                space[p.option] = hp.loguniform(p.option, np.log(p.low), np.log(p.high))
            else:
                space[p.option] = hp.uniform(p.option, p.low, p.high)
        return space

    def values(self, point: Mapping[str, float]) -> dict[str, str]:
        """Hyperopt's point as text by option; without what stays as the command has it."""
        found = {}
        for p in self.parameters:
            value = point[p.option]
            text = p.values[int(value)] if isinstance(p, Choice) else f"{float(value):.6g}"
            if text != DEFAULT:
                found[p.option] = text
        return found

    def point_of(self, given: Mapping[str, Any]) -> dict[str, float] | None:
        """Where in the space the command's own values are; None if they are not in it.

        `given` holds each option's value as the command line has parsed it.
        """
        point: dict[str, float] = {}
        for p in self.parameters:
            value = given[p.option]
            if isinstance(p, Choice):
                shown = _shown(value)
                texts = [DEFAULT, shown] if DEFAULT in p.values else [shown]
                places = [p.values.index(text) for text in texts if text in p.values]
                if not places:
                    return None
                point[p.option] = places[0]
            elif isinstance(value, (int, float)) and p.low <= value <= p.high:
                point[p.option] = float(value)
            else:
                return None
        return point


def read_space(path: Path | None, options: Collection[str]) -> SearchSpace:
    """The space in a TOML file (None: the standard one).

    `options` are those that may be varied. UserError for a file that cannot be read, an unknown
    option, or values that are neither a list nor a range.
    """
    where = str(path) if path else "the standard space"
    try:
        text = path.read_text(encoding="utf-8") if path else STANDARD
        entries = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is no TOML: {error}.") from error
    if not entries:
        raise UserError(f"{where} varies nothing; name at least one option of training in it.")
    parameters = []
    for option, value in entries.items():
        if option not in options:
            raise UserError(
                f"{where} varies {option!r}, which is no option of training that can be varied; "
                f"use {', '.join(sorted(options))}."
            )
        parameters.append(_parameter(where, option, value))
    return SearchSpace(tuple(parameters))


def _parameter(where: str, option: str, value: Any) -> Choice | Range:
    if isinstance(value, list) and value:
        texts = tuple(_shown(one) for one in value)
        if len(set(texts)) == len(texts):
            return Choice(option, texts)
    if isinstance(value, dict) and {"low", "high"} <= set(value) <= {
        "low",
        "high",
        "scale",
        "step",
    }:
        numbers = [value["low"], value["high"], value.get("step", 1)]
        scale = value.get("scale", "linear")
        if (
            all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers)
            and all(map(math.isfinite, numbers))
            and numbers[0] < numbers[1]
            and numbers[2] > 0
            and (scale == "linear" or (scale == "log" and numbers[0] > 0 and "step" not in value))
        ):
            low, high, _ = numbers
            return Range(option, float(low), float(high), scale == "log", value.get("step"))
    raise UserError(
        f"{where} gives {option} as {value!r}; give a list of different values, or a range such as "
        '{ low = 0.001, high = 0.1, scale = "log" }.'
    )


def _shown(value: Any) -> str:
    """A parsed value as on the command line."""
    if isinstance(value, (list, tuple)):
        return ",".join(_shown(one) for one in value)
    if hasattr(value, "count") and hasattr(value, "width"):
        return f"{value.count},{value.width:g}"
    return f"{value:g}" if isinstance(value, float) else str(value)
