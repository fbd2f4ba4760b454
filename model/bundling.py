"""Fitted networks to a bundle: what they are worth, thresholds, calibrator and rejecter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle, write_bundle
from model.calibration import Calibrator, fit_calibrator
from model.fitting import predict
from model.material import Material
from model.member_fitting import Fitted, make_rules
from model.open_set import describe
from model.provenance import METHOD, by_label, describe_data, describe_scores, describe_weights
from model.provenance import versions as installed
from model.rejection import Rejecter, fit_rejecter
from model.threshold_facts import Data
from model.thresholds import choose_thresholds
from model.train_options import TrainOptions

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


def mean_scores(
    options: TrainOptions, material: Material, fitted: Sequence[Fitted], rows: Rows
) -> Float32:
    """The mean of the networks' scores (n, n_labels) of rows."""
    rules = make_rules(options.front_end, material.plan.task, options.recipe.augmentation, None)
    size = options.recipe.fit.batch_size
    scores = [predict(one.network, material.examples, rows, size, rules) for one in fitted]
    return np.asarray(np.mean(scores, axis=0), np.float32)


@dataclass(frozen=True)
class Judged:
    """Scores (n, n_labels) of rows, and what these rows are.

    "holdout" no network has anything of; "validation" has stopped the training; of "out_of_fold"
    each score is of the one network that did not learn from it, not of their mean.
    """

    data: Data
    rows: Rows
    scores: Float32


def judge(options: TrainOptions, material: Material, fitted: Sequence[Fitted]) -> list[Judged]:
    """Scores of what networks have not learnt from, the most trustworthy first."""
    members = material.members
    found = []
    if members.holdout.any():
        rows = material.rows(members.holdout)
        found.append(Judged("holdout", rows, mean_scores(options, material, fitted, rows)))
    if members.folds:
        parts = [material.rows(member.validation) for member in members.networks]
        scores = [
            mean_scores(options, material, [one], rows)
            for one, rows in zip(fitted, parts, strict=True)
        ]
        found.append(Judged("out_of_fold", np.concatenate(parts), np.concatenate(scores)))
    else:
        rows = material.rows(members.networks[0].validation)
        if len(rows):
            found.append(Judged("validation", rows, mean_scores(options, material, fitted, rows)))
    nothing = np.zeros((0, len(material.examples.labels)), np.float32)
    return found or [Judged("nothing", np.zeros(0, np.int64), nothing)]


def write_fitted(options: TrainOptions, material: Material, fitted: Sequence[Fitted]) -> Bundle:
    """Writes fitted networks, with all that is known of them, as a bundle."""
    examples, members, plan = material.examples, material.members, material.plan
    judged = judge(options, material, fitted)
    best = judged[0]
    training = material.rows(np.any([member.training for member in members.networks], axis=0))
    targets, mask = examples.targets[best.rows], examples.mask[best.rows]
    groups = np.array(material.groups, object)[examples.recordings[best.rows]]
    calibrator = None
    if options.calibrate != "none":
        known = targets, mask, best.scores, examples.labels
        calibrator = fit_calibrator(*known, plan.task, options.calibrate)
    scores = best.scores if calibrator is None else calibrator(best.scores)
    rejecter = None
    if options.reject is not None:
        rejecter = _rejecter(options, material, fitted, calibrator)
        if plan.task == "singlelabel":
            # Thresholds are compared with what detection writes: what `unknown` leaves to labels.
            networks = [one.network for one in fitted]
            outputs = describe(networks, examples, best.rows, options.front_end)
            scores = scores * (1 - rejecter.unknown(scores, outputs.embeddings)[:, None])
    thresholds, facts = choose_thresholds(
        targets, mask, scores, examples.labels, groups, options.threshold_goal, best.data
    )
    counts = {"training_windows": len(training)}
    counts |= {f"{one.data}_windows": len(one.rows) for one in judged if len(one.rows)}
    metrics = {
        "training_examples": by_label(examples.labels, examples.targets[training].sum(axis=0)),
        "data": best.data,
        **describe_scores(examples, best.rows, best.scores),
        "networks": [
            {"epochs": len(one.log), "best_epoch": one.kept_epoch, **one.log[one.kept_epoch - 1]}
            for one in fitted
        ],
    }
    for other in judged[1:]:
        metrics[other.data] = describe_scores(examples, other.rows, other.scores)

    def names(recordings: Bool) -> list[str]:
        return sorted(plan.windows[i].recording for i in np.flatnonzero(recordings))

    log = {
        "networks": [
            {"epochs": one.log, "validation_recordings": names(member.validation)}
            for one, member in zip(fitted, members.networks, strict=True)
        ],
        "training_recordings": names(~members.holdout),
        "holdout_recordings": names(members.holdout),
    }
    return write_bundle(
        options.output,
        task=plan.task,
        labels=examples.labels,
        front_end=options.front_end,
        thresholds=thresholds,
        threshold_facts=facts,
        calibrator=calibrator,
        rejecter=rejecter,
        networks=[one.network for one in fitted],
        provenance={
            "method": METHOD,
            "options": options.to_json(),
            "data": describe_data(material.annotations, plan, examples, counts),
            "imbalance": describe_weights(examples, training),
            "metrics": metrics,
            "versions": installed(),
        },
        log=log,
    )


def _rejecter(
    options: TrainOptions,
    material: Material,
    fitted: Sequence[Fitted],
    calibrator: Calibrator | None,
) -> Rejecter:
    """Fitted to what the networks learnt from and, for its edge, to what they did not."""
    members, first = material.members, material.members.networks[0]
    held_out = members.holdout if members.holdout.any() else first.validation
    networks = [one.network for one in fitted]
    training, known = (
        describe(networks, material.examples, material.rows(part), options.front_end)
        for part in (first.training, held_out)
    )
    if calibrator is not None:
        training = replace(training, scores=calibrator(training.scores))
        known = replace(known, scores=calibrator(known.scores))
    method, share = options.reject, options.reject_share
    assert method is not None
    return fit_rejecter(method, material.plan.task, options.front_end, training, known, share)
