"""Pool: the worker processes of this one, started when needed, watched, and replaced."""

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

from pipeline.guard import ANY, Blame
from pipeline.worker import DEBUG, Mark

TICK_S = 1.0
DEATHS = 2
"""Times that workers must die at a recording before it is blamed: one may have been killed."""
ONE_THREAD = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)


class DeadWorkerError(Exception):
    """A worker process died or was ended; `recording` is the one it was at, if any."""

    def __init__(self, recording: str | None, reason: str, message: str) -> None:
        super().__init__(message)
        self.recording = recording
        self.blame = Blame(reason, message)


class ClosedPoolError(Exception):
    """The work was given up: the pool takes no more."""


class _Worker:
    """One worker process, with the pipe to it and its mark."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        with tempfile.TemporaryFile() as memory:
            memory.truncate(Mark.SIZE)
            self._mark = Mark(memory.fileno())
            descriptors = theirs.fileno(), memory.fileno()
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            for name in ONE_THREAD:
                environment.setdefault(name, "1")
            # A session of its own: an interrupt from the keyboard is for the parent alone.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.worker", *map(str, descriptors)],
                pass_fds=descriptors,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get(DEBUG) else self._said,
                start_new_session=True,
            )
        theirs.close()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def call(self, task: tuple[Any, ...], timeout_s: float) -> Any:
        """What the task's function returns or raises; DeadWorkerError if it came to no end."""
        try:
            self._pipe.send(task)
            beat, since = -1, 0.0
            while not self._pipe.poll(TICK_S):
                now, recording = self._mark.read()
                if now != beat:
                    beat, since = now, time.monotonic()
                elif recording is not None and time.monotonic() - since > timeout_s:
                    message = f"the decoder gave nothing for {timeout_s:g} s"
                    raise DeadWorkerError(recording, "timeout", message)
            done, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if not done:
            raise answer
        return answer

    def _death(self) -> DeadWorkerError:
        try:
            status = self._process.wait(timeout=TICK_S)
        except subprocess.TimeoutExpired:
            self.end()
            status = self._process.wait()
        recording = self._mark.read()[1]
        if status < 0:
            how = f"the process died of {signal.Signals(-status).name}"
            if -status == signal.SIGKILL:
                how += ", as when the system runs out of memory"
            return DeadWorkerError(recording, "crash", how)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1]}" if lines else ""
        return DeadWorkerError(recording, "crash", f"the process ended with status {status}{last}")

    def end(self) -> None:
        """Ends the process at once; whoever waits for it is told."""
        self._process.kill()

    def stop(self) -> None:
        """Ends the process and frees what belongs to it."""
        self.end()
        self._process.wait()
        self._pipe.close()
        self._said.close()


class Pool:
    """Worker processes, as many as there are calls at the same time; idle ones are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False

    def run(self, function: Callable[..., Any], *arguments: Any, timeout_s: float) -> Any:
        """Calls a module's function in a worker, with a Guard as its last argument.

        Where a worker dies at a recording the function is called again; the second time that one
        dies at the same recording (the first, if the decoder gave nothing for `timeout_s`), that
        recording is blamed. Raises what the function raises, DeadWorkerError where a worker died
        at no recording, ClosedPoolError after `close`.
        """
        deaths: Counter[str] = Counter()
        blamed: dict[str, Blame] = {}
        attempt = 1
        while True:
            worker = self._take()
            try:
                answer = worker.call((function, arguments, blamed, attempt), timeout_s)
            except DeadWorkerError as death:
                self._drop(worker)
                if death.recording is None:
                    raise
                deaths[death.recording] += 1
                hung = death.blame.reason == "timeout"
                if death.recording != ANY and (hung or deaths[death.recording] >= DEATHS):
                    blamed[death.recording] = death.blame
                attempt += 1
            except Exception:
                self._give(worker)
                raise
            except BaseException:
                self._drop(worker)
                raise
            else:
                self._give(worker)
                return answer

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise ClosedPoolError("the work was given up")
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive:
                    break
                worker.stop()
            else:
                worker = _Worker()
            self._busy.add(worker)
            return worker

    def _give(self, worker: _Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
            if not self._closed:
                self._idle.append(worker)
                return
        worker.stop()

    def _drop(self, worker: _Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
        worker.stop()

    def close(self) -> None:
        """Ends all workers at once; calls under way raise ClosedPoolError."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.end()
        for worker in idle:
            worker.stop()


_pool = Pool()


def pool() -> Pool:
    """The pool of this process."""
    return _pool


def stop() -> None:
    """Ends all workers of this process; a new pool takes what comes after."""
    global _pool
    old, _pool = _pool, Pool()
    old.close()


atexit.register(stop)
