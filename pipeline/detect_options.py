"""What a run of detection is asked for."""

import math
from dataclasses import dataclass

from model.errors import UserError
from model.runtime import Engine, Precision
from model.windows import Tail
from pipeline.job import Channel, check_timeout


@dataclass(frozen=True)
class DetectOptions:
    """What a run of detection is asked for; None where the dataset or the bundle decides."""

    inputs: tuple[str, ...]
    model: str
    output: str
    root: str | None = None
    site: str | None = None
    time_pattern: str | None = None
    hop_s: float | None = None
    tail: Tail = "pad"
    channel: Channel = "mean"
    min_score: float = 0.1
    embeddings: bool = False
    slot_hours: int | None = None
    max_skipped: float = 1.0
    engine: Engine = "tensorflow"
    precision: Precision = "float32"
    decode_timeout_s: float = 300.0
    redo_damaged: bool = False
    prune: bool = False
    dry_run: bool = False
    workers: int | None = None
    rate: float | None = None
    price: float | None = None
    json: str | None = None
    beam: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("--min-score", self.min_score), ("--max-skipped", self.max_skipped)):
            if not 0 <= value <= 1:
                raise UserError(f"{name} is {value:g}; it must be from 0 to 1.")
        if not self.dry_run:
            for name in ("workers", "rate", "price", "json"):
                if getattr(self, name) is not None:
                    raise UserError(f"--{name} is for --dry-run alone; give both or none.")
        for name in ("workers", "rate", "price"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"--{name} is {value:g}; it must be a number above 0.")
        check_timeout(self.decode_timeout_s)
