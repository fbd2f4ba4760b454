"""Tuning: the search for the options of training that do best on what is not trained on."""

import argparse
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from model.annotations import read_annotations
from model.errors import UserError
from model.search_space import SearchSpace
from model.train_arguments import add_train_arguments, train_options_of
from model.trials import Trial, Trials, check_same, is_hopeless, ranked

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.train_options import TrainOptions

FIXED = {
    "audio",
    "annotations",
    "work",
    "label-column",
    "label-map",
    "unannotated",
    "task",
    "window",
    "hop",
    "group-by",
    "validation",
    "folds",
    "networks",
    "holdout",
    "background",
    "no-augmentation",
    "seed",
    "threshold-goal",
    "calibrate",
    "reject",
    "reject-share",
    "help",
}
"""Options that decide what trials are judged by, are no part of it, or have no value to vary."""
LEAST = 0.3
"""Share of the epochs before which no trial is stopped."""
REFUSALS = 200
"""Configurations in a row that do not fit together, before the space is taken to be at fault."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(allow_abbrev=False)
    add_train_arguments(parser)
    return parser


def variable_options() -> Collection[str]:
    """The options of training that a search may vary."""
    names = {text[2:] for action in _parser()._actions for text in action.option_strings}
    return names - FIXED - {""}


def options_with(
    args: argparse.Namespace, values: Mapping[str, str], output: Path
) -> "TrainOptions":
    """The command's options of training with some of them changed; UserError if they don't fit."""
    places = ["--audio", str(args.audio), "--annotations", str(args.annotations)]
    changes = [f"--{option}={text}" for option, text in values.items()]
    changed = argparse.Namespace(**vars(args))
    _parser().parse_args([*places, *changes], changed)
    return train_options_of(changed, str(output))


def effective(options: "TrainOptions") -> dict[str, Any]:
    """The value of every option that a search may vary, also where the command left it out."""
    recipe = options.recipe
    architecture = asdict(recipe.architecture.resolved())
    values = {
        **asdict(options.front_end),
        **architecture,
        "architecture": recipe.architecture.name,
        **vars(recipe.fit),
        **vars(recipe.augmentation),
        "fine_tune": recipe.fine_tune,
        "fine_tune_rate": recipe.fine_tune_rate,
        "training_precision": recipe.precision,
    }
    return {name.replace("_", "-"): value for name, value in values.items()}


@dataclass(frozen=True)
class Search:
    """A search: the command's options of training, what is varied, and where trials are kept."""

    args: argparse.Namespace
    space: SearchSpace
    output: Path
    seed: int

    @property
    def trials(self) -> Trials:
        """The trials on the disk."""
        return Trials(self.output / "trials")

    @property
    def work(self) -> Path:
        """Spectrograms, which trials of the same front end share."""
        return Path(self.args.work or self.output / "work")

    def options(self, values: Mapping[str, str], output: Path) -> "TrainOptions":
        """The options of a trial."""
        return replace(options_with(self.args, values, output), work=self.work)


def search(
    search: Search,
    report: Callable[[str], None],
    *,
    most: int | None = None,
    minutes: float | None = None,
) -> list[Trial]:
    """Works at a search until `most` trials are begun or the minutes are over; all its trials.

    Trials of an earlier or another process count. One that a killed process left goes on from its
    last epoch. Raises UserError if the folder holds another search, if the default does not fit
    together, or if nothing in the space does.
    """
    began = time.monotonic()
    default = search.options({}, search.output)
    if not default.validation and not default.folds:
        raise UserError("A search needs something to judge by; give --validation or --folds.")
    annotations = read_annotations(
        default.audio,
        default.annotations,
        default.label_column,
        default.label_map,
        default.unannotated,
    )
    try:
        search.output.mkdir(parents=True, exist_ok=True)
        search.work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The search cannot be written to {search.output}: {error.strerror}; give another "
            "--output."
        ) from error
    check_same(
        search.output / "search.json",
        {
            "options": json.loads(json.dumps(default.to_json())),
            "front end": asdict(default.front_end),
            "data": [str(default.audio.resolve()), str(default.annotations.resolve())],
            "annotations": annotations.sha256(),
            "space": json.loads(json.dumps([asdict(p) for p in search.space.parameters])),
            "seed": search.seed,
        },
    )
    start = search.space.point_of(effective(default))
    trials, refused = search.trials, 0
    while minutes is None or time.monotonic() - began < 60 * minutes:
        with trials.claim(search.space, start, search.seed, most) as trial:
            if trial is None:
                break
            done = _run(search, trial)
            trials.write(done)
        refused = refused + 1 if done.status == "refused" else 0
        if refused >= REFUSALS or (done.number == 0 and done.status in ("refused", "failed")):
            raise UserError(f"Trial {done.number} cannot be trained: {done.message}")
        if done.status != "refused":
            report(_line(done, ranked(trials.read())))
    return trials.read()


def _line(trial: Trial, order: list[Trial]) -> str:
    what = f"loss {trial.loss:.4f}" if trial.loss is not None else trial.message
    state = "" if trial.status == "finished" else f" ({trial.status})"
    best = f", the best is {order[0].loss:.4f} of trial {order[0].number}" if order else ""
    values = "  ".join(f"{k}={v}" for k, v in trial.values.items()) or "the default"
    return f"trial {trial.number}: {what}{state} in {trial.seconds:.0f} s{best}\n  {values}"


def _run(search: Search, trial: Trial) -> Trial:
    """Trains a trial's networks in a process of its own, which TensorFlow then leaves."""
    began = time.monotonic()
    try:
        search.options(trial.values, search.output)
    except UserError as error:
        return replace(trial, status="refused", message=str(error))
    pool = ProcessPoolExecutor(
        1, get_context("spawn"), initializer=_end_with_parent, initargs=(os.getpid(),)
    )
    try:
        done: Trial = pool.submit(_train, search, trial).result()
    except BrokenProcessPool:
        done = replace(trial, status="failed", message="its process was killed")
    except UserError as error:
        done = replace(trial, status="failed", message=str(error))
    finally:
        pool.shutdown(cancel_futures=True)
    return replace(done, seconds=round(trial.seconds + time.monotonic() - began, 1))


def _end_with_parent(parent: int) -> None:
    """A trial's lock goes with the parent, so the trial must not outlive it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _HopelessError(Exception):
    """Ends a trial early."""


def _train(search: Search, trial: Trial) -> Trial:
    from model.material import prepare
    from model.runtime import make_deterministic
    from model.training import fit_networks

    place = search.trials.place(trial.number)
    options = search.options(trial.values, place / "bundle")
    others = [t.course for t in search.trials.read() if t.status in ("finished", "stopped")]
    course: list[list[float]] = []
    least = max(3, round(LEAST * options.recipe.fit.epochs))

    def give_up(number: int, log: list[dict[str, Any]]) -> bool:
        del course[number:]
        course.append([_loss(entry) for entry in log])
        same = [one[number] for one in others if len(one) > number]
        if is_hopeless(course[number], same, least):
            raise _HopelessError
        return False

    material = prepare(options, search.work, _silent)
    make_deterministic(options.recipe.fit.seed)
    try:
        fitted = fit_networks(options, material, place, _silent, give_up)
        losses = [_loss(one.log[one.kept_epoch - 1]) for one in fitted]
        course = [[_loss(entry) for entry in one.log] for one in fitted]
        status = "finished"
    except _HopelessError:
        losses, status = [min(one) for one in course], "stopped"
    kept = tuple(tuple(round(x, 6) for x in one) for one in course)
    loss = sum(losses) / len(losses)
    return replace(trial, status=status, loss=loss, course=kept)  # type: ignore[arg-type]


def _silent(line: str) -> None:
    """Trials report nothing but their end."""


def _loss(entry: Mapping[str, Any]) -> float:
    """What a search makes small: what lacks of a macro average precision of 1 on validation."""
    precision = entry["val_macro_average_precision"]
    return 1.0 if precision is None else 1.0 - float(precision)


def write_best(search: Search, best: Trial) -> "Bundle":
    """Writes the best trial as a bundle, from its checkpoints."""
    target = search.output / "best.bundle"
    return _apart(_write_trial, search, best, target)


def refit(search: Search, best: Trial) -> "Bundle":
    """Trains the best configuration on all recordings, for as many epochs as it was kept at."""
    return _apart(_refit, search, best, search.output / "refit.bundle")


def _apart(
    function: Callable[..., "Bundle"], search: Search, best: Trial, target: Path
) -> "Bundle":
    if target.exists():
        shutil.rmtree(target)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, search, best, target).result()


def _write_trial(search: Search, trial: Trial, target: Path) -> "Bundle":
    from model.bundling import write_fitted
    from model.material import prepare
    from model.runtime import make_deterministic
    from model.training import fit_networks

    options = search.options(trial.values, target)
    material = prepare(options, search.work, _silent)
    make_deterministic(options.recipe.fit.seed)
    fitted = fit_networks(options, material, search.trials.place(trial.number), _silent)
    return write_fitted(options, material, fitted)


def _refit(search: Search, trial: Trial, target: Path) -> "Bundle":
    from model.bundle import load_bundle
    from model.training import train

    kept = load_bundle(str(search.output / "best.bundle")).provenance["metrics"]["networks"]
    options = search.options(trial.values, target)
    recipe, fit = options.recipe, options.recipe.fit
    if fit.patience is not None:
        best = round(sum(one["best_epoch"] for one in kept) / len(kept))
        fit = replace(fit, epochs=min(best, fit.epochs), patience=None)
        # Epochs beyond those of the head were of fine-tuning.
        recipe = replace(recipe, fit=fit, fine_tune=max(0, best - fit.epochs))
    # Nothing is left that a calibrator or a rejecter could be fitted on.
    alone = replace(options, validation=0, folds=0, holdout=0, calibrate="none", reject=None)
    return train(replace(alone, recipe=recipe), _silent)
