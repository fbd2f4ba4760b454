"""What every shard of a detection run needs to know: the job's options, as plain values."""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from model.errors import UserError
from model.runtime import Engine, Precision
from model.windows import WindowRule
from pipeline.schema import tables_of

Channel = int | Literal["mean", "each"]


def parse_channel(text: str) -> Channel:
    """`mean`, `each` or a channel's number from 0."""
    if text in ("mean", "each"):
        return text  # type: ignore[return-value]
    if text.isdecimal() and int(text) < 128:
        return int(text)
    raise UserError(f"--channel is {text!r}; it must be mean, each or a number from 0 to 127.")


def check_timeout(seconds: float) -> None:
    """Raises UserError for what is no time that a decoder may take."""
    if not seconds > 0:
        raise UserError(f"--decode-timeout is {seconds:g}; it must be above 0 s.")


@dataclass(frozen=True)
class Job:
    """One run of detection, as its workers see it.

    `facts` go into every part's metadata; `owner` is the run's name, for its temporaries.
    A decoder that gives nothing for `timeout_s` is ended, and its recording left out. The dataset
    has embeddings of `embedding_size` numbers, or none.
    """

    output: str
    bundle: str
    rule: WindowRule
    channel: Channel
    min_score: float
    facts: dict[str, str]
    owner: str
    timeout_s: float = 300.0
    engine: Engine = "tensorflow"
    precision: Precision = "float32"
    embedding_size: int | None = None

    @property
    def tables(self) -> dict[str, pa.Schema]:
        """The tables of the dataset, in the order of a commit."""
        return tables_of(self.embedding_size)

    def channels(self, available: int) -> list[int | None]:
        """The channels of a recording that are scored; None is the mean of all."""
        if self.channel == "each":
            return list(range(available))
        return [None if self.channel == "mean" else int(self.channel)]
