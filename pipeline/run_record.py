"""The record of a run, in `_runs/`: what was asked, by whom, and how it ended."""

import contextlib
import os
import socket
import uuid
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from model.retries import take_retries
from pipeline.storage import Folder

FAILED = 1
"""Exit status of a run that did not do all."""
RETRIES = "retries_"
"""Begins the names of the job's sums that count requests to storage made again."""
LONGEST = timedelta(days=30)
"""A run of other machines that wrote no end within this time is over."""


@dataclass
class RunRecord:
    """A run: its name, and what is written of it."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def new(cls, **values: Any) -> "RunRecord":
        """A record of a run that begins now."""
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%S-%f}-{uuid.uuid4().hex[:6]}"
        who = {"host": socket.gethostname(), "pid": os.getpid()}
        begun = {"started": now.isoformat(timespec="seconds"), "version": version("dawnchorus")}
        return cls(name, begun | who | values)

    def add_retries(self, sums: Mapping[str, int] | None = None) -> None:
        """Adds requests to storage that were made again, by what had happened to them.

        They are those of this process, and of workers among the `sums` that a job gave.
        """
        counts: dict[str, int] = self.values.setdefault("storage_retries", {})
        found = (sums or {}).items()
        told = {n.removeprefix(RETRIES): times for n, times in found if n.startswith(RETRIES)}
        for kind, times in (*told.items(), *take_retries().items()):
            counts[kind] = counts.get(kind, 0) + times

    def write(self, out: Folder, **more: Any) -> None:
        """Writes the record, with further values."""
        self.values |= more
        out.write_json(f"_runs/{self.name}.json", self.values)

    def finish(self, out: Folder, **more: Any) -> None:
        """Writes how the run ended."""
        self.write(out, finished=datetime.now(UTC).isoformat(timespec="seconds"), **more)

    @property
    def did_all(self) -> bool:
        """Whether it ended with every shard of its plan done."""
        ended = "finished" in self.values and "error" not in self.values
        return ended and self.values.get("status") != FAILED

    @property
    def is_alive(self) -> bool:
        """Whether the run may still be writing.

        Of a run on other machines only its record tells: without an end it is believed to, for
        `LONGEST`.
        """
        if "finished" in self.values:
            return False
        if self.values.get("host") != socket.gethostname() or not self.values.get("local", True):
            return datetime.now(UTC) - datetime.fromisoformat(self.values["started"]) < LONGEST
        process = int(self.values.get("pid", 0))
        if process == os.getpid():
            return False  # In a container the numbers of processes begin anew.
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def read_runs(out: Folder) -> list[RunRecord]:
    """All records, the oldest first."""
    names = out.files("_runs") if out.exists("_runs") else []
    records = []
    for name in names:
        base = name.rpartition("/")[2]
        if base.endswith(".json") and not base.startswith("_"):
            records.append(read_run(out, base.removesuffix(".json")))
    return [record for record in records if record is not None]


def latest_run(out: Folder) -> RunRecord | None:
    """The living run that began last, else the last of all; None without any."""
    runs = read_runs(out)
    living = [run for run in runs if run.is_alive]
    return next(reversed(living or runs), None)


def read_run(out: Folder, name: str) -> RunRecord | None:
    """A run's record; None if there is none, or somebody broke it."""
    values = None
    with contextlib.suppress(ValueError):
        values = out.read_json(f"_runs/{name}.json")
    return RunRecord(name, values) if isinstance(values, dict) else None


def was_stopped(out: Folder, name: str) -> bool:
    """Whether a user has stopped a run: some clusters go on with a job that was cancelled."""
    with contextlib.suppress(OSError):
        record = read_run(out, name)
        return record is not None and bool(record.values.get("stopped"))
    return False


def living_runs(out: Folder, but: str) -> list[RunRecord]:
    """The records of runs that may still be writing, but for the one named."""
    return [run for run in read_runs(out) if run.name != but and run.is_alive]


def last_value(out: Folder, name: str) -> Any:
    """The value that the latest run wrote under a name; None if no run did."""
    return next((r.values[name] for r in reversed(read_runs(out)) if name in r.values), None)


def first_value(out: Folder, name: str) -> Any:
    """The value that the earliest run wrote under a name; None if no run did."""
    return next((r.values[name] for r in read_runs(out) if name in r.values), None)


def dead_plans(out: Folder, alive: Container[str]) -> list[Folder]:
    """The plans of runs that are not alive."""
    names = out.files("_plan") if out.exists("_plan") else []
    runs = sorted({name.split("/")[1] for name in names})
    return [out.child(f"_plan/{name}") for name in runs if name not in alive]
