"""A double of Google's Dataflow on this machine: it takes jobs as the service does, by REST."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAMES = {403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}
Job = dict[str, Any]


@dataclass
class Dataflow:
    """The double. `work` does a job, and gives what went wrong with it (None: nothing).

    `refusal`, if there is one, is the HTTP status with which all is refused. `metrics` are what a
    job that has ended tells.
    """

    work: Callable[[Job], str | None]
    refusal: int | None = None
    metrics: list[Job] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "Dataflow":
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                status, told = double.take(self.command, path, json.loads(body or b"{}"))
                content = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """What to give as `--dataflow_endpoint`."""
        return f"http://localhost:{self._server.server_address[1]}"

    def take(self, verb: str, path: str, body: Job) -> tuple[int, Job]:
        """The answer to one request."""
        self.asked.append(f"{verb} {path}")
        parts = path.strip("/").split("/")
        if parts[0] != "v1b3" or parts[1::2][:3] != ["projects", "locations", "jobs"]:
            return self._refuse(404, f"no such path: {path}")
        if self.refusal:
            return self._refuse(self.refusal, "the double was told to refuse")
        if len(parts) == 6:
            job = body | {
                "id": f"job-{len(self.jobs)}",
                "projectId": parts[2],
                "location": parts[4],
                "currentState": "JOB_STATE_RUNNING",
            }
            self.jobs.append(job)
            threading.Thread(target=self._do, args=(job,), daemon=True).start()
            return 200, job
        job = next(job for job in self.jobs if job["id"] == parts[6])
        if parts[7:] == ["messages"]:
            error = self.errors.get(job["id"])
            told = {"messageText": error, "messageImportance": "JOB_MESSAGE_ERROR"}
            return 200, {"jobMessages": [told | {"time": "2026-01-01T00:00:00Z"}] if error else []}
        if parts[7:] == ["metrics"]:
            return 200, {"metrics": self.metrics}
        if verb == "PUT":
            job["requestedState"] = job["currentState"] = body["requestedState"]
        return 200, job

    def _do(self, job: Job) -> None:
        try:
            error = self.work(job)
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        if error:
            self.errors[job["id"]] = error
        if job["currentState"] == "JOB_STATE_RUNNING":
            job["currentState"] = "JOB_STATE_FAILED" if error else "JOB_STATE_DONE"

    @staticmethod
    def _refuse(status: int, why: str) -> tuple[int, Job]:
        return status, {"error": {"code": status, "message": why, "status": NAMES[status]}}


def until_cancelled(job: Job) -> None:
    """Work that goes on until the job is cancelled."""
    while job["currentState"] == "JOB_STATE_RUNNING":
        time.sleep(0.05)
