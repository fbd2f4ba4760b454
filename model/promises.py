"""What a bundle says of its thresholds, against what holds on other sound."""

from collections.abc import Mapping
from dataclasses import dataclass

from model.evaluation import Sample
from model.threshold_facts import LabelFacts, ThresholdFacts
from model.thresholds import Checked, measure


@dataclass(frozen=True)
class Promise:
    """One label: what held at its threshold where it was chosen, and what holds here.

    `expected` is the precision that the first lets expect at the prevalence of the second.
    """

    label: str
    threshold: float
    promised: LabelFacts
    found: LabelFacts

    @property
    def expected(self) -> float | None:
        """From the promise's recall and false positive rate; None where these are unknown."""
        share = self.found.prevalence
        precision = None if share is None else self.promised.precision_at(share)
        return None if precision is None else precision[0]


@dataclass(frozen=True)
class Promises:
    """How a bundle's thresholds were chosen, and each label's promise."""

    facts: ThresholdFacts
    labels: tuple[Promise, ...]


def compare_promises(
    facts: ThresholdFacts, thresholds: Mapping[str, float], sample: Sample
) -> Promises:
    """Promises of the labels of a sample; windows in which a label is unclear do not count."""
    promises = []
    for i, label in enumerate(sample.labels):
        known = sample.known[:, i]
        checked = Checked(sample.truth[known, i], sample.scores[known, i], sample.groups[known])
        promised, threshold = facts.labels[label], thresholds[label]
        found = measure(checked, threshold, reached=promised.reached)
        promises.append(Promise(label, threshold, promised, found))
    return Promises(facts, tuple(promises))
