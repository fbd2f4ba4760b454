"""How far a dataset is, from the dataset alone: on any runner, while it grows or after."""

import io
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq

from pipeline.commit_index import refresh, rows_of
from pipeline.identity import require_identity
from pipeline.run_record import RunRecord, latest_run
from pipeline.shard_key import ShardKey
from pipeline.storage import Folder
from pipeline.summary import LABELS_SHOWN, duration
from pipeline.tally import MICRO, Tally

RATE_S = 300.0
"""The rate is that of the last minutes."""


@dataclass(frozen=True)
class Status:
    """What a dataset holds, and how far its last run is. Times are Unix seconds, lengths seconds.

    `planned` and `planned_s` are None where no plan lies there (any more): then `done` and `done_s`
    are all that is committed. `rate` is seconds of audio for a second; None while nothing is known.
    """

    output: str
    run: str | None
    run_state: str
    planned: int | None
    planned_s: float | None
    done: int
    done_s: float
    failed: int
    failure: str | None
    rate: float | None
    left_s: float | None
    last_commit: float | None
    committed: int
    torn: int
    recordings: int
    unreadable: int
    tally: Tally
    is_alive: bool

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"tally": self.tally.to_json()}


@dataclass(frozen=True)
class Planned:
    """A shard of a plan: its seconds, and the coverage that stood before."""

    seconds: float
    seen: str | None


def read_status(out: Folder, now: float | None = None) -> Status:
    """The status of a dataset. Raises UserError where there is none."""
    now = time.time() if now is None else now
    run = latest_run(out)
    if run is None:
        require_identity(out)
    plan = read_plan(out, run) if run else None
    rows = list(rows_of(refresh(out, every_part=False)))
    tally = Tally()
    for row in rows:
        tally.add_json(row.tally)
    commits = [row for row in rows if row.coverage_id is not None]
    seconds = {row.path: row.tally["micros"][0] * MICRO for row in commits}
    if plan is not None:
        found = {row.path: row.coverage_id for row in commits}
        left = undone(run, plan, found)
        seconds = {path: one.seconds for path, one in plan.items() if path not in left}
    done_s = sum(seconds.values())
    last = max((row.modified for row in commits if row.path in seconds), default=None)
    rate = left_s = None
    if last is not None and run is not None:
        began = datetime.fromisoformat(run.values["started"]).timestamp()
        until = now if run.is_alive else last
        since = max(began, until - RATE_S)
        recent = sum(
            seconds[row.path] for row in commits if row.path in seconds and row.modified > since
        )
        rate = recent / max(1.0, until - since)
    planned_s = sum(one.seconds for one in plan.values()) if plan is not None else None
    if rate and planned_s is not None and run is not None and run.is_alive:
        left_s = max(0.0, planned_s - done_s) / rate
    failures = out.files(f"_plan/{run.name}/failed") if run else []
    return Status(
        output=out.url,
        run=run.name if run else None,
        run_state=_state(run),
        planned=len(plan) if plan is not None else None,
        planned_s=planned_s,
        done=len(seconds),
        done_s=done_s,
        failed=len(failures),
        failure=(out.read_json(failures[-1]) or {}).get("message") if failures else None,
        rate=rate,
        left_s=left_s,
        last_commit=max((row.modified for row in commits), default=None),
        committed=len(commits),
        torn=len(rows) - len(commits),
        recordings=sum(row.recordings for row in rows),
        unreadable=sum(row.unreadable for row in rows),
        tally=tally,
        is_alive=bool(run and run.is_alive),
    )


def undone(
    run: RunRecord | None, plan: Mapping[str, Planned], found: Mapping[str, str | None]
) -> set[str]:
    """The shards of a run's plan that are not done; `found` are the coverages that stand.

    A shard is done when another coverage stands than before, and all are when the run says so, for
    what was tried again with the same outcome leaves the same coverage; but for those of which
    somebody has taken the coverage away.
    """
    if run is not None and run.did_all:
        return {path for path, one in plan.items() if one.seconds and path not in found}
    return {path for path, one in plan.items() if found.get(path) in (None, one.seen)}


def _state(run: RunRecord | None) -> str:
    if run is None:
        return "no run is recorded"
    where, values = run.values.get("host", "an unknown machine"), run.values
    if run.is_alive:
        return f"works, started {values.get('started')} on {where}"
    if "finished" not in values:
        return f"ended without a word on {where}: the same command goes on from here"
    if "error" in values:
        why = "was stopped" if values.get("stopped") else f"failed: {values['error']}"
        return f"{why}, {values['finished']}: the same command goes on from here"
    return f"finished {values['finished']} with exit status {values.get('status')}"


def read_plan(out: Folder, run: RunRecord) -> dict[str, Planned] | None:
    """The shards of a run's plan, by their path; None where it does not lie there any more."""
    try:
        content = out.read(f"_plan/{run.name}/shards.parquet")
    except FileNotFoundError:
        return None
    columns = ["site", "date", "slot", "seconds", "seen"]
    try:
        table = pq.read_table(io.BytesIO(content), columns=columns)
    except (ValueError, OSError):
        return None  # Somebody broke it; the commits tell all the same.
    return {
        ShardKey(row["site"], row["date"], row["slot"]).path: Planned(row["seconds"], row["seen"])
        for row in table.to_pylist()
    }


def screen(status: Status, now: float | None = None) -> str:
    """A status for people."""
    s, t = status, status.tally
    now = time.time() if now is None else now
    of = "" if s.planned is None else f" of {s.planned:,}"
    done = "nothing was left to do" if s.planned == 0 else f"{s.done:,}{of} done"
    of_s = "" if s.planned_s is None else f" of {duration(s.planned_s)}"
    share = f" ({s.done_s / s.planned_s:.1%})" if s.planned_s else ""
    lines = [
        f"Dataset      {s.output}",
        f"Run          {s.run_state}",
        f"Shards       {done}"
        + (f", {s.failed:,} failed ({s.failure})" if s.failed else "")
        + (f", {s.torn:,} torn" if s.torn else ""),
        f"Audio        {duration(s.done_s)}{of_s} done{share}",
    ]
    if s.rate is not None:
        left = "" if s.left_s is None else f", {duration(s.left_s)} left"
        lines.append(f"Rate         {s.rate:,.0f} x realtime over the last minutes{left}")
    if s.last_commit:
        moment = datetime.fromtimestamp(s.last_commit, UTC)
        ago = duration(max(0.0, now - s.last_commit))
        lines.append(f"Last commit  {ago} ago, {moment:%Y-%m-%d %H:%M:%S} UTC")
    expected, scored = t.expected_us * MICRO, t.scored_us * MICRO
    lines += [
        "",
        f"Committed    {s.committed:,} shards, {s.recordings:,} recordings"
        + (f", {s.unreadable:,} of them unreadable" if s.unreadable else ""),
        f"             {duration(expected)} expected, {duration(scored)} scored"
        + (f" ({scored / expected:.2%})" if expected else ""),
    ]
    lines += _errors(t) + _labels(t.labels)
    return "\n".join(lines)


def _errors(tally: Tally) -> list[str]:
    if not tally.errors:
        return []
    lines = ["", f"{'Not scored':<12}  {'recordings':>10}  {'windows':>10}  {'audio':>10}"]
    for reason, (recordings, windows, micros) in sorted(
        tally.errors.items(), key=lambda item: (-item[1][1], -item[1][0], item[0])
    ):
        lost = duration(micros * MICRO) if windows else "unknown"
        lines.append(f"{reason:<12}  {recordings:>10,}  {windows:>10,}  {lost:>10}")
    return lines


def _labels(labels: Counter[str]) -> list[str]:
    if not labels:
        return []
    shown = labels.most_common(LABELS_SHOWN)
    wide = max(5, *(len(label) for label, _ in shown))
    lines = ["", f"{'Label':<{wide}}  {'written':>10}"]
    lines += [f"{label:<{wide}}  {count:>10,}" for label, count in shown]
    if len(labels) > len(shown):
        lines.append(f"and {len(labels) - len(shown):,} labels more")
    return lines
