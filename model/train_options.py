"""What training is asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from model.annotations import Unannotated
from model.backgrounds import HARVEST
from model.bundle_document import Task
from model.calibration import Method
from model.errors import UserError, require
from model.frontend import FrontEnd
from model.member_fitting import Recipe
from model.rejection import KNOWN_SHARE
from model.rejection import Method as RejectMethod
from model.rejection import check_method as check_rejecter
from model.threshold_facts import Goal
from model.windows import WindowRule


@dataclass(frozen=True)
class TrainOptions:
    """What `train` needs, as the command line's options of the same names.

    `hop_s` None is the front end's window; `task` None follows from the annotations; `group_by`
    None keeps each recording's windows together. `background` is a folder of recordings or
    `HARVEST`; None is steady noise. `holdout` and `validation` are shares of the
    groups' windows, 0 none; `folds` 0 is one split, of which `networks` are trained. `work` is a
    folder for what may be used again; None is one beside the output, removed at the end. Raises
    UserError for values out of range and for a network that does not fit the front end.
    """

    audio: Path
    annotations: Path
    output: str
    label_column: str | None = None
    label_map: Path | None = None
    unannotated: Unannotated = "skip"
    task: Task | None = None
    front_end: FrontEnd = field(default_factory=FrontEnd)
    hop_s: float | None = None
    group_by: str | None = None
    holdout: float = 0.0
    validation: float = 0.2
    folds: int = 0
    networks: int = 1
    recipe: Recipe = field(default_factory=Recipe)
    reject: RejectMethod | None = None
    reject_share: float = KNOWN_SHARE
    threshold_goal: Goal = field(default_factory=Goal)
    calibrate: Method | Literal["none"] = "none"
    background: str | None = None
    work: Path | None = None

    def __post_init__(self) -> None:
        require(0 <= self.validation < 1, "validation", self.validation, "from 0 to below 1")
        require(0 <= self.holdout < 1, "holdout", self.holdout, "from 0 to below 1")
        require(self.folds == 0 or self.folds >= 2, "folds", self.folds, "0 (none), 2 or more")
        require(self.networks >= 1, "networks", self.networks, "1 or more")
        require(self.folds == 0 or self.networks == 1, "networks", self.networks, "1 with --folds")
        names = (None, *get_args(Task))
        require(self.task in names, "task", self.task, "multilabel or singlelabel")
        names = get_args(Unannotated)
        require(self.unannotated in names, "unannotated", self.unannotated, "skip or negative")
        names = ("none", *get_args(Method))
        require(self.calibrate in names, "calibrator", self.calibrate, " or ".join(names))
        if self.calibrate != "none" and not self.holdout:
            raise UserError(
                f"--calibrate {self.calibrate} needs sound that no network has anything of; give "
                "--holdout 0.2 too."
            )
        if self.reject is not None:
            check_rejecter(self.reject, self.reject_share)
            if not self.holdout and (self.folds or not self.validation):
                raise UserError(
                    f"--reject {self.reject} needs known sound that no network has learnt from; "
                    "give --holdout 0.2 too."
                )
        self.recipe.architecture.check_fit(self.front_end)
        self.window_rule()

    def window_rule(self) -> WindowRule:
        """How the annotated recordings are cut."""
        window_s = self.front_end.window_s
        return WindowRule(window_s, self.hop_s if self.hop_s is not None else window_s)

    @property
    def harvests(self) -> bool:
        """Whether the training recordings' own quiet parts are added to them."""
        return self.background == HARVEST

    def to_json(self) -> dict[str, Any]:
        """The options that shape training; no places, so that a copy elsewhere is the same."""
        return {
            "unannotated": self.unannotated,
            "hop_s": self.window_rule().hop_s,
            "group_by": self.group_by,
            "holdout": self.holdout,
            "validation": 0.0 if self.folds else self.validation,
            "folds": self.folds,
            "networks": self.networks,
            "background": self.background and (HARVEST if self.harvests else "recordings"),
            **self.recipe.to_json(),
            "threshold_goal": str(self.threshold_goal),
            "calibrate": self.calibrate,
            "reject": self.reject,
            "reject_share": self.reject_share,
        }
