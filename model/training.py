"""From annotated recordings to a bundle."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from model.backgrounds import harvest
from model.bundle import Bundle, check_vacant
from model.bundling import write_fitted
from model.fitting import Log
from model.material import Material, prepare, work_folder
from model.member_fitting import Fitted, fit_network
from model.provenance import describe_data
from model.runtime import make_deterministic
from model.train_options import TrainOptions


def print_to_stderr(line: str) -> None:
    """Reports a line of progress."""
    print(line, file=sys.stderr, flush=True)


def train(options: TrainOptions, report: Callable[[str], None] = print_to_stderr) -> Bundle:
    """Trains the networks and writes them as a bundle to `options.output`.

    The same options and data give the same bundle on one machine, except after other TensorFlow
    work in the same process; TensorFlow stays in its deterministic mode. What a killed call had
    done is not done again. `report` takes lines of progress. Raises UserError for whatever the
    user can set right, before TensorFlow is loaded where that is possible.
    """
    check_vacant(options.output)
    with work_folder(options.output, options.work) as work:
        material = prepare(options, work, report)
        make_deterministic(options.recipe.fit.seed)
        return write_fitted(options, material, fit_networks(options, material, work, report))


def weights_print(weights: str) -> str:
    """What tells a file of weights from another of the same name; a word as it is."""
    if not Path(weights).is_file():
        return weights
    with Path(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fit_networks(
    options: TrainOptions,
    material: Material,
    work: Path,
    report: Callable[[str], None],
    give_up: Callable[[int, Log], bool] = lambda number, log: False,
) -> list[Fitted]:
    """Fits each network of the bundle, or takes it from `work` where that was done before.

    `give_up` may end the training of a network (by its number from 0 and its log) early.
    """
    backgrounds = material.backgrounds
    about: list[Any] = [options.to_json(), asdict(options.front_end)]
    about += [material.plan.task, material.groups]
    about += [(backgrounds.identity,)] if backgrounds else []
    # The annotations may be the same of other sound, and the name that of other weights.
    about += [Path(str(getattr(material.examples.inputs, "filename", ""))).name]
    about += [weights_print(options.recipe.architecture.weights)]
    data = describe_data(material.annotations, material.plan, material.examples, {})
    digest = hashlib.sha256(json.dumps([about, data], default=str).encode()).hexdigest()[:16]
    fitted = []
    for number, member in enumerate(material.members.networks, 1):
        count = len(material.members.networks)
        if count > 1:
            report(f"network {number} of {count}")
        training = material.rows(member.training)
        if options.harvests and options.recipe.augmentation.noise:
            backgrounds = harvest(material.examples, training, options.front_end, work)
            for warning in backgrounds.warnings:
                report(f"warning: {warning}")
        fitted.append(
            fit_network(
                options.recipe,
                options.front_end,
                material.examples,
                training,
                material.rows(member.validation),
                member.seed,
                report,
                backgrounds=backgrounds.levels if backgrounds else None,
                checkpoint=work / f"network-{digest}-{number}.npz",
                give_up=partial(give_up, number - 1),
            )
        )
    return fitted
