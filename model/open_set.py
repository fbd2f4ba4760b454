"""How well rejecters tell known sound from unknown: one label after the other is kept back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from model.batches import Rows, split_batches
from model.errors import UserError
from model.examples import Examples
from model.frontend import FrontEnd, LogMel
from model.rejection import KNOWN_SHARE, Known, Method, fit_rejecter
from model.sounding import excess_db

Fit = Callable[[Examples, Rows, Rows], Any]
"""(examples, training, validation) to a Keras network that ends in `logits` and `scores`."""

BATCH = 32


@dataclass(frozen=True)
class OpenSetResult:
    """How a method told one label, which its network had never heard, from the others.

    `auroc` is the area under the ROC curve of `unknown`, windows of this label against all known
    test windows, background among them. The shares are of windows that the rejecter calls unknown;
    that of the background is None where there is none.
    """

    label: str
    method: Method
    auroc: float
    known_rejected: float
    unknown_rejected: float
    background_rejected: float | None
    known_windows: int
    unknown_windows: int


def describe(networks: Sequence[Any], examples: Examples, rows: Rows, front_end: FrontEnd) -> Known:
    """What networks make of rows of examples, as `fit_rejecter` takes it.

    Scores are the mean of the networks', embeddings those of the first: so `rows` that train a
    rejecter should have trained it, and held-out ones none of the networks.
    """
    import keras

    first = networks[0]
    both = keras.Model(first.input, [first.output, first.get_layer("logits").input])
    log_mel = LogMel(front_end)
    scores, embeddings, excess = [], [], []
    for part in split_batches(rows, BATCH):
        spectrograms = log_mel.referenced(np.array(examples.inputs[part], np.float32))
        score, embedding = (np.asarray(x, np.float32) for x in both(spectrograms, training=False))
        others = [np.asarray(n(spectrograms, training=False), np.float32) for n in networks[1:]]
        scores.append(np.mean([score, *others], axis=0))
        embeddings.append(embedding)
        if examples.task == "multilabel":
            excess.append(excess_db(spectrograms, front_end))
    return Known(
        np.concatenate(scores),
        np.concatenate(embeddings),
        examples.targets[rows],
        examples.mask[rows],
        np.concatenate(excess) if excess else None,
    )


def leave_one_out(
    examples: Examples,
    training: Rows,
    validation: Rows,
    test: Rows,
    front_end: FrontEnd,
    fit: Fit,
    *,
    labels: Sequence[str] | None = None,
    known_share: float = KNOWN_SHARE,
    report: Callable[[str], None] = lambda line: None,
) -> list[OpenSetResult]:
    """Trains without one label at a time and tells its windows from those of the others.

    `training`, `validation` and `test` are rows of examples, apart by group. The rejecters are
    fitted to the first two; the known are the test's windows without the label, the unknown all
    windows that hold nothing but the label, of which no network has heard any. `labels` (default:
    all) are kept back in turn. UserError if fewer than two labels would be left.
    """
    least = 3 if examples.task == "singlelabel" else 2
    if len(examples.labels) < least:
        raise UserError(f"To keep one label back takes at least {least} labels.")
    results = []
    for label in labels or examples.labels:
        column = examples.labels.index(label)
        without = (examples.targets[:, column] <= 0.5) & (examples.mask[:, column] > 0.5)
        reduced = _drop(examples, column)
        alone = (examples.targets[:, column] > 0.5) & ~(reduced.targets > 0.5).any(axis=1)
        parts = [rows[without[rows]] for rows in (training, validation, test)]
        strange = np.sort(np.concatenate([training, validation, test]))
        strange = strange[alone[strange]]
        if not len(strange) or not all(len(rows) for rows in parts):
            raise UserError(f"There are no windows with {label} alone, or none without it.")
        network = fit(reduced, parts[0], parts[1])
        seen, held_out, known, unknown = (
            describe([network], reduced, rows, front_end) for rows in (*parts, strange)
        )
        for method in get_args(Method):
            rejecter = fit_rejecter(method, examples.task, front_end, seen, held_out, known_share)
            found = [
                rejecter.unknown(part.scores, part.embeddings, part.excess)
                for part in (known, unknown)
            ]
            result = _judge(label, method, found[0], found[1], known.background)
            report(
                f"{label}  {method}  AUROC {result.auroc:.3f}  known rejected "
                f"{result.known_rejected:.3f}  unknown rejected {result.unknown_rejected:.3f}"
            )
            results.append(result)
    return results


def _drop(examples: Examples, column: int) -> Examples:
    """The examples without one label."""
    return replace(
        examples,
        labels=examples.labels[:column] + examples.labels[column + 1 :],
        targets=np.delete(examples.targets, column, axis=1),
        mask=np.delete(examples.mask, column, axis=1),
    )


def _judge(
    label: str,
    method: Method,
    known: npt.NDArray[np.float32],
    unknown: npt.NDArray[np.float32],
    background: npt.NDArray[np.bool_],
) -> OpenSetResult:
    from sklearn.metrics import roc_auc_score

    truth = np.repeat([0, 1], [len(known), len(unknown)])
    return OpenSetResult(
        label=label,
        method=method,
        auroc=float(roc_auc_score(truth, np.concatenate([known, unknown]))),
        known_rejected=float(np.mean(known >= 0.5)),
        unknown_rejected=float(np.mean(unknown >= 0.5)),
        background_rejected=float(np.mean(known[background] >= 0.5)) if background.any() else None,
        known_windows=len(known),
        unknown_windows=len(unknown),
    )


def table(results: Sequence[OpenSetResult]) -> str:
    """The AUROC of each label and method, their means with standard errors, and what is rejected.

    In Markdown.
    """
    methods = [method for method in get_args(Method) if any(r.method == method for r in results)]
    labels = list(dict.fromkeys(result.label for result in results))
    found = {(result.label, result.method): result for result in results}
    lines = [f"| AUROC, kept back | {' | '.join(methods)} |", "|---|" + "---:|" * len(methods)]
    for label in labels:
        cells = [f"{found[label, method].auroc:.3f}" for method in methods]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    of = {method: [found[label, method] for label in labels] for method in methods}
    cells = [_mean([r.auroc for r in of[method]]) for method in methods]
    lines.append(f"| mean ± standard error | {' | '.join(cells)} |")
    for name in ("known", "background", "unknown"):
        values = {m: [getattr(r, f"{name}_rejected") for r in of[m]] for m in methods}
        if None not in values[methods[0]]:
            cells = [f"{100 * np.mean(values[method]):.1f} %" for method in methods]
            lines.append(f"| {name} rejected | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.3f} ± {error:.3f}"
