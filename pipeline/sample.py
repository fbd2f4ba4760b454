"""Detections drawn from a dataset, to be listened to and verified."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from model.bundle_document import RESERVED_LABEL
from model.errors import UserError
from pipeline.dataset import Dataset
from pipeline.text import listed
from pipeline.verification import bin_sql, detections

Draw = Literal["strata", "top", "random"]


@dataclass(frozen=True)
class SampleRule:
    """How detections are drawn, of each label by itself.

    `strata`: `number` at random from each range of scores between `edges`; `top`: the `number` of
    highest score; `random`: `number` at random from each site. `labels` None are all but what a
    rejecter calls unknown, which nobody can verify. The same `seed` draws the same of the same
    dataset.
    """

    draw: Draw = "strata"
    number: int = 20
    edges: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    labels: tuple[str, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.number < 1:
            raise UserError(f"--number is {self.number}; draw 1 at least.")
        if list(self.edges) != sorted(set(self.edges)) or not all(0 < e < 1 for e in self.edges):
            raise UserError(
                "--strata must be scores between 0 and 1 that rise, such as 0.3,0.6,0.9."
            )


def draw_sample(dataset: Dataset, rule: SampleRule) -> pa.Table:
    """The detections drawn, sorted by label, recording, channel and start.

    Columns: `site`, `recording`, `channel`, `start` and `end` (seconds in the recording),
    `start_clock`, `label`, `score`, `stratum` (text), `weight` (how many detections of its stratum
    each stands for; not of `top`, where each stands for itself alone) and `verdict`, empty. Of
    single-label bundles only the top label of a window is a detection. Raises UserError for a label
    that the dataset does not have.
    """
    known = list(dataset.identity["labels"])
    unknown = [label for label in rule.labels or () if label not in known]
    if unknown:
        raise UserError(f"The dataset has no label {listed(unknown)}; it has {listed(known)}.")
    labels = list(rule.labels or (label for label in known if label != RESERVED_LABEL))
    strata = {"strata": bin_sql(rule.edges), "top": "0", "random": "site"}[rule.draw]
    order = "score DESC, recording, channel, start_s"
    if rule.draw != "top":
        order = f"md5(concat_ws('|', recording, channel, start_s, {rule.seed:d})), {order}"
    with detections(dataset) as source:
        drawn: pa.Table = dataset.connection.sql(
            f"""WITH numbered AS (
                SELECT *, ({strata})::VARCHAR AS part,
                    row_number() OVER (PARTITION BY label, part ORDER BY {order}) AS place,
                    count(*) OVER (PARTITION BY label, part) AS of
                FROM {source} WHERE list_contains($labels, label)
            )
            SELECT site, recording, channel, start_s AS start, end_s AS "end", start_clock, label,
                score, part AS stratum, of / least(of, $number) AS weight, '' AS verdict
            FROM numbered WHERE place <= $number ORDER BY label, recording, channel, start""",
            params={"labels": labels, "number": rule.number},
        ).to_arrow_table()
    names = {str(at): _between(rule.edges, at) for at in range(len(rule.edges) + 1)}
    if rule.draw == "random":
        return drawn
    parts = drawn["stratum"].to_pylist()
    stratum = [names[part] if rule.draw == "strata" else "top" for part in parts]
    drawn = drawn.set_column(8, "stratum", pa.array(stratum, pa.string()))
    if rule.draw == "top":
        drawn = drawn.drop_columns(["weight"])
    return drawn


def _between(edges: Sequence[float], at: int) -> str:
    low = f"{edges[at - 1]:g}" if at else "0"
    return f"{low}-{edges[at]:g}" if at < len(edges) else f"{low}-1"
