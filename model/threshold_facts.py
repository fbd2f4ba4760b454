"""What a bundle says of its thresholds: how they were chosen, and what holds at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from model.errors import UserError

Interval = tuple[float, float]
Data = Literal["holdout", "validation", "out_of_fold", "nothing", "verified"]


@dataclass(frozen=True)
class Goal:
    """What a threshold is chosen for.

    `kind` "precision": the lowest threshold, and so the highest recall, at which the precision
    is at least `value`. "f": the highest F-beta with beta `value`; 1 weighs precision and recall
    alike, 0.5 precision more, 2 recall more.
    """

    kind: Literal["f", "precision"] = "f"
    value: float = 1.0

    @staticmethod
    def parse(text: str) -> "Goal":
        """The goal of a text such as f1, f0.5 or precision=0.9; UserError for another."""
        kind: Literal["f", "precision"] = "precision" if text.startswith("precision=") else "f"
        number = text.removeprefix("precision=" if kind == "precision" else "f")
        try:
            value = float(number) if number != text else -1.0
        except ValueError:
            value = -1.0
        if not 0 < value <= (1 if kind == "precision" else 10):
            raise UserError(
                f"The threshold goal {text} is neither f1 (or another F-beta, such as f0.5; beta "
                "at most 10) nor a precision above 0 and at most 1, such as precision=0.9."
            )
        return Goal(kind, value)

    def __str__(self) -> str:
        return f"precision={self.value:g}" if self.kind == "precision" else f"f{self.value:g}"


@dataclass(frozen=True)
class LabelFacts:
    """What holds at a label's threshold, on the windows that it was chosen on.

    `reached`: whether there was anything to choose by (windows with the label and without it)
    and the goal was met. `precision` is the share right of what is at or above the threshold,
    `recall` the share at or above it of what is right, `false_positive_rate` the share at or
    above it of what is wrong; the intervals are of 95 % (`model.share_interval`). They hold at
    `prevalence`, the share of windows with the label. `positives` of the `windows` have it.
    `lowest` is the score below which nothing was checked. None is unknown for want of windows.
    """

    reached: bool
    precision: float | None
    precision_interval: Interval | None
    recall: float | None
    false_positive_rate: float | None
    false_positive_rate_interval: Interval | None
    prevalence: float | None
    positives: int
    windows: int
    lowest: float = 0.0

    def precision_at(self, prevalence: float) -> tuple[float, float, float] | None:
        """The precision to expect at another prevalence, and its lowest and highest value.

        From recall and false positive rate (Bayes), if sounds with and without the label are
        otherwise like those that were checked. The bounds are those of the false positive rate's
        interval: where the label is rare it decides, and none wrong among 100 windows is no
        promise for a million. None if either rate is unknown, or nothing would be reported.
        """
        if self.recall is None or self.false_positive_rate_interval is None:
            return None
        right = self.recall * prevalence
        low, high = self.false_positive_rate_interval
        rates = (self.false_positive_rate or 0.0, high, low)
        called = [right + rate * (1 - prevalence) for rate in rates]
        if not called[0]:
            return None
        value, least, most = (right / total if total else 1.0 for total in called)
        return value, least, most

    def to_json(self) -> dict[str, Any]:
        """Fields by name; intervals as lists."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @staticmethod
    def from_json(document: Any) -> "LabelFacts":
        """The facts of a JSON value; UserError if they are not whole or impossible."""
        names = {field.name for field in fields(LabelFacts)}
        _require(isinstance(document, dict) and set(document) == names, "are not whole")
        _require(isinstance(document["reached"], bool), "do not say whether the goal was reached")
        for name in ("positives", "windows"):
            count = document[name]
            _require(isinstance(count, int) and not isinstance(count, bool), f"have no {name}")
        _require(0 <= document["positives"] <= document["windows"], "have wrong counts")
        _require(_is_share(document["lowest"]), "have no lowest score")
        for name in ("precision", "recall", "false_positive_rate", "prevalence"):
            value = document[name]
            _require(value is None or _is_share(value), f"have the {name} {value!r}")
        values = dict(document)
        for name in ("precision_interval", "false_positive_rate_interval"):
            value = document[name]
            if value is not None:
                pair = isinstance(value, list) and len(value) == 2 and all(map(_is_share, value))
                _require(pair and value[0] <= value[1], f"have the {name} {value!r}")
                values[name] = (float(value[0]), float(value[1]))
        return LabelFacts(**values)


@dataclass(frozen=True)
class ThresholdFacts:
    """How a bundle's thresholds were chosen and what holds at them, by label.

    `data`: "holdout" (windows that decided nothing else) or "verified" (detections of a dataset,
    verified by a person); or, a guide and no promise, "validation" (windows that also decided when
    training stopped), "out_of_fold" (scores of single networks where the bundle averages several)
    or "nothing" (no windows were held out).
    """

    data: Data
    goal: Goal
    labels: Mapping[str, LabelFacts]

    @property
    def calibrated(self) -> bool:
        """Whether the thresholds were chosen on data that decided nothing else."""
        return self.data in ("holdout", "verified")

    def to_json(self) -> dict[str, Any]:
        """What stands in bundle.json under `threshold_facts`."""
        labels = {label: facts.to_json() for label, facts in self.labels.items()}
        return {
            "calibrated": self.calibrated,
            "data": self.data,
            "goal": str(self.goal),
            "labels": labels,
        }

    @staticmethod
    def from_json(document: Any, labels: Sequence[str]) -> "ThresholdFacts":
        """The facts of a bundle with these labels; UserError if they are not whole."""
        keys = {"calibrated", "data", "goal", "labels"}
        _require(isinstance(document, dict) and set(document) == keys, "are not whole")
        _require(document["data"] in get_args(Data), "do not name their data")
        _require(isinstance(document["goal"], str), "do not name their goal")
        by_label = document["labels"]
        same = isinstance(by_label, dict) and set(by_label) == set(labels)
        _require(same, "are not of the bundle's labels")
        facts = ThresholdFacts(
            document["data"],
            Goal.parse(document["goal"]),
            {label: LabelFacts.from_json(by_label[label]) for label in labels},
        )
        _require(document["calibrated"] is facts.calibrated, "contradict themselves")
        return facts


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise UserError(f"the facts of its thresholds {problem}; copy or train the bundle again.")
