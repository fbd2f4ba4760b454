"""The trials of a search, each a folder on the disk, shared by the processes that search."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from model.errors import UserError
from model.locks import held_by_us, locked
from model.search_space import SearchSpace

Status = Literal["running", "finished", "stopped", "refused", "failed"]

RANDOM = 8
"""Trials that are drawn at random before TPE has enough to learn from."""


@dataclass(frozen=True)
class Trial:
    """One configuration and what came of it.

    `point` is hyperopt's, None for a default outside the space; `values` are options as text.
    "stopped" trials were ended early, "refused" ones do not fit together and cost nothing.
    `loss` is what the search makes small; `course` holds it after each epoch of each network.
    """

    number: int
    point: dict[str, float] | None
    values: dict[str, str]
    status: Status = "running"
    loss: float | None = None
    seconds: float = 0.0
    message: str = ""
    course: tuple[tuple[float, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Trial":
        """The trial that `to_json` wrote."""
        course = tuple(tuple(one) for one in values.pop("course"))
        return cls(**values, course=course)


class Trials:
    """The trials of a search in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def place(self, number: int) -> Path:
        """A trial's own folder."""
        return self.folder / f"{number:04}"

    def read(self) -> list[Trial]:
        """All trials that were begun, by number."""
        found = []
        for path in sorted(self.folder.glob("*/trial.json")):
            found.append(Trial.from_json(json.loads(path.read_text(encoding="utf-8"))))
        return found

    def write(self, trial: Trial) -> None:
        """Keeps a trial, whole or as it was before."""
        path = self.place(trial.number) / "trial.json"
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(trial.to_json(), indent=1), encoding="utf-8")
        partial.replace(path)

    @contextlib.contextmanager
    def claim(
        self, space: SearchSpace, default: dict[str, float] | None, seed: int, most: int | None
    ) -> Iterator[Trial | None]:
        """A trial that no living process works at: one that was left, or the next.

        Trial 0 is the default; the others are TPE's suggestions from what is known. None if
        `most` trials are begun and none is left. Others keep off it within the block, which a
        lock sees to that goes with the process that holds it.
        """
        with contextlib.ExitStack() as held:
            with locked(self.folder / "lock"):
                trials = self.read()
                trial = None
                for one in trials:
                    if one.status == "running" and held_by_us(held, self._lock(one.number)):
                        trial = one
                        break
                counted = [one for one in trials if one.status != "refused"]
                if trial is None and (most is None or len(counted) < most):
                    number = len(trials)
                    self.place(number).mkdir(exist_ok=True)
                    assert held_by_us(held, self._lock(number))
                    trial = self._next(space, default, seed, trials)
                    self.write(trial)
            yield trial

    def _lock(self, number: int) -> Path:
        return self.place(number) / "lock"

    def _next(
        self,
        space: SearchSpace,
        default: dict[str, float] | None,
        seed: int,
        trials: Sequence[Trial],
    ) -> Trial:
        number = len(trials)
        if number == 0:
            return Trial(0, default, {})
        point = suggest(space, trials, seed + number)
        return Trial(number, point, space.values(point))


def suggest(space: SearchSpace, trials: Sequence[Trial], seed: int) -> dict[str, float]:
    """The point that TPE (Bergstra et al. 2013) tries next, given the trials that have ended."""
    import logging

    from hyperopt import base, tpe

    logging.getLogger("hyperopt").setLevel(logging.WARNING)
    known = []
    for trial in trials:
        if trial.point is None or trial.status == "running":
            continue
        ok = trial.loss is not None
        result = {"status": "ok", "loss": trial.loss} if ok else {"status": "fail"}
        misc = {
            "tid": trial.number,
            "cmd": None,
            "workdir": None,
            "idxs": {name: [trial.number] for name in trial.point},
            "vals": {name: [value] for name, value in trial.point.items()},
        }
        known.append(
            {
                "state": base.JOB_STATE_DONE,
                "tid": trial.number,
                "spec": None,
                "result": result,
                "misc": misc,
                "exp_key": None,
                "owner": None,
                "version": 0,
                "book_time": None,
                "refresh_time": None,
            }
        )
    domain = base.Domain(lambda point: 0.0, space.to_hyperopt())
    found = tpe.suggest(
        [len(trials)], domain, base.trials_from_docs(known), seed, n_startup_jobs=RANDOM
    )
    values = found[0]["misc"]["vals"]
    return {name: float(value[0]) for name, value in values.items()}


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Trials by their loss, those that ran to their end before those that were stopped."""
    order = {"finished": 0, "stopped": 1}
    with_loss = [t for t in trials if t.loss is not None]
    return sorted(with_loss, key=lambda t: (order.get(t.status, 2), t.loss, t.number))


def is_hopeless(course: Sequence[float], others: Sequence[Sequence[float]], least: int) -> bool:
    """Whether a training is worse than most others were at the same epoch.

    The median stopping rule (Golovin et al. 2017, Google Vizier): its lowest loss so far is above
    the median of the others' lowest up to that epoch. One that ended before counts with what it
    had: among those that were not stopped half would be worse than the median again and again.
    Never before `least` epochs, nor against fewer than 3 others.
    """
    epoch = len(course)
    if epoch < least or len(others) < 3:
        return False
    lowest = sorted(min(other[:epoch]) for other in others)
    return min(course) > lowest[len(lowest) // 2]


def check_same(path: Path, search: dict[str, Any]) -> None:
    """Keeps what a search is of, or raises UserError if the folder is that of another one."""
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            path.write_text(json.dumps(search, indent=1), encoding="utf-8")
            return
        standing = json.loads(path.read_text(encoding="utf-8"))
    different = [key for key, value in search.items() if standing.get(key) != value]
    if different:
        raise UserError(
            f"The search in {path.parent} is of another {' and '.join(different)}; give the same "
            "options, or another --output."
        )
