"""A small sample as `dawnchorus sample` writes it, of sound made here, and its server."""

import csv
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clips import draw_spectrogram, encode_clip

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["site", "recording", "channel", "start", "end", "start_clock", "label", "score"]
COLUMNS += ["stratum", "weight", "verdict", "clip", "clip_start", "problem"]
RATE = 24000
CONTEXT_S = 0.5
PROGRAM = "import sys; from pipeline.cli import main; sys.exit(main())"


def row_of(number: int, label: str = "wren", **changed: Any) -> dict[str, Any]:
    """A row of a sample's table: a detection of 1 s, with a clip unless it is changed."""
    start = 2.0 * number
    told = dict.fromkeys(COLUMNS, "") | {
        "site": "A",
        "recording": "A/20240601_050000.wav",
        "start": start,
        "end": start + 1,
        "start_clock": f"2024-06-01 05:00:{2 * number:02}",
        "label": label,
        "score": 0.5,
        "stratum": "0.5-0.6",
        "weight": 3.5,
        "clip": f"clips/{number + 1:05}.flac",
        "clip_start": max(0.0, start - CONTEXT_S),
    }
    return told | changed


def write_table(folder: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> None:
    """The table alone."""
    with (folder / "sample.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_sample(
    folder: Path, rows: Sequence[Mapping[str, Any]], rate: int = RATE, channels: int = 1
) -> Path:
    """The table of some rows, and of each that names a clip a rising tone and its picture."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    write_table(folder, rows)
    for row in rows:
        if row["clip"]:
            began, end = float(row["clip_start"] or 0), float(row["end"]) + CONTEXT_S
            seconds = np.arange(round((end - began) * rate)) / rate
            tone = 0.2 * np.sin(2 * np.pi * (1000 + 300 * seconds) * seconds)
            noise = np.random.default_rng(0).normal(0, 0.01, (len(tone), channels))
            samples = (tone[:, None] + noise).astype(np.float32)
            path = folder / row["clip"]
            path.write_bytes(encode_clip(samples, rate, path.suffix[1:]))
            bounds = float(row["start"]), float(row["end"])
            path.with_suffix(".png").write_bytes(draw_spectrogram(samples, rate, began, bounds))
    return folder


@dataclass
class Server:
    """A running `dawnchorus review`, in a process of its own."""

    process: "subprocess.Popen[str]"
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self,
        path: str,
        body: Any = None,
        headers: Mapping[str, str | None] | None = None,
        method: str | None = None,
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, content (JSON is parsed) and headers of an answer; as the page would ask.

        A header of None is left out.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        method = method or ("GET" if body is None else "POST")
        told: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}"}
        if method == "POST":
            told |= {"Origin": self.url.rstrip("/"), "Content-Type": "application/json"}
        told |= headers or {}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if content is not None:
            told["Content-Length"] = str(len(content))
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in told.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(content)
        answer = connection.getresponse()
        found = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        connection.close()
        return answer.status, json.loads(found) if is_json else found, answer.headers

    def mark(self, row: int, verdict: str | None, reviewer: str = "anna", **more: str) -> int:
        """Marks a row; the status of the answer."""
        sample = self.ask("/sample")[1]["id"]
        told = {"sample": sample, "row": row, "verdict": verdict, "reviewer": reviewer}
        return self.ask("/mark", told | more)[0]

    def undo(self, reviewer: str = "anna") -> Any:
        """Takes a reviewer's last mark back; what the server says of it."""
        return self.ask("/undo", {"sample": self.ask("/sample")[1]["id"], "reviewer": reviewer})[1]

    def end(self) -> str:
        """Interrupts it, as Ctrl-C does; all that it said."""
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, said
        return said


@contextmanager
def reviewing(folder: Path, *options: str) -> Iterator[Server]:
    """A server over a folder; killed at the end, if it still runs."""
    command = [sys.executable, "-c", PROGRAM, "review", str(folder), "--no-browser", *options]
    if "--reviewer" not in options:
        command += ["--reviewer", "anna"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    said = ""
    try:
        assert process.stdout
        for line in process.stdout:
            said += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                yield Server(process, int(found[1]))
                return
        raise AssertionError(f"no server: {said}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=60)
        assert process.stdout
        process.stdout.close()
