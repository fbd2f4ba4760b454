"""Pool: the worker processes of this one, started when needed, watched, and replaced."""

import atexit
import contextlib
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import Pipe
from typing import Any

from model.frontend import MODULES as FRONT_END_MODULES
from model.runtime import Engine, engine_environment, engine_modules
from pipeline.guard import ANY, Blame
from pipeline.template import Template, TemplateError, last_line
from pipeline.worker import Mark

TICK_S = 1.0
DEATHS = 2
"""Times that workers must die at a recording before it is blamed: one may have been killed."""


class DeadWorkerError(Exception):
    """A worker process died or was ended; `recording` is the one it was at, if any."""

    def __init__(self, recording: str | None, reason: str, message: str) -> None:
        super().__init__(message)
        self.recording = recording
        self.blame = Blame(reason, message)


class ClosedPoolError(Exception):
    """The work was given up: the pool takes no more."""


class _Worker:
    """One worker process, with the pipe to it and its mark. Raises TemplateError."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._lock = threading.Lock()
        self._stopped = False
        self._pipe, theirs = Pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        with theirs, tempfile.TemporaryFile() as memory:
            memory.truncate(Mark.SIZE)
            self._mark = Mark(memory.fileno())
            self._process = template.start(theirs.fileno(), memory.fileno(), self._said.fileno())
        self._handle = _handle(self._process)

    @property
    def is_alive(self) -> bool:
        """Whether it lives: one that has nothing to do says nothing, so what comes is the end."""
        return not self._pipe.poll()

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
        status = self._reap()
        recording = self._mark.read()[1]
        if status is None:
            return DeadWorkerError(recording, "crash", "the process died")
        if status < 0:
            how = f"the process died of {signal.Signals(-status).name}"
            if -status == signal.SIGKILL:
                how += ", as when the system runs out of memory"
            return DeadWorkerError(recording, "crash", how)
        how = f"the process ended with status {status}{last_line(self._said)}"
        return DeadWorkerError(recording, "crash", how)

    def _reap(self) -> int | None:
        """Ends the process if it lives; its status, None if it is unknown."""
        self.end()
        return self._template.status(self._process)

    def end(self) -> None:
        """Ends the process at once; whoever waits for it is told."""
        with contextlib.suppress(ProcessLookupError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            elif not self._stopped:
                os.kill(self._process, signal.SIGKILL)

    def stop(self) -> None:
        """Ends the process and frees what belongs to it."""
        self._reap()
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._pipe.close()
                self._said.close()
                if self._handle is not None:
                    os.close(self._handle)
                    self._handle = None


def _handle(process: int) -> int | None:
    """A descriptor that means this process for ever, where the system has such: numbers recur."""
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return None


class Pool:
    """Worker processes, as many as there are calls at the same time; idle ones are kept."""

    def __init__(
        self, modules: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self._template = Template(modules, environment or {})
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

    def warm(self) -> None:
        """Begins to import what workers need, and does not wait for it."""
        self._template.warm()

    def rest(self) -> None:
        """Ends idle workers and frees their memory; new ones are forked when they are needed."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.stop()

    def _take(self) -> _Worker:
        with self._lock:
            dead = [worker for worker in self._idle if not worker.is_alive]
            self._idle = [worker for worker in self._idle if worker not in dead]
            worker = self._idle.pop() if self._idle else None
            if worker is not None:
                self._busy.add(worker)
        for one in dead:
            one.stop()
        if worker is not None:
            return worker
        try:
            worker = _Worker(self._template)
        except TemplateError as error:
            if not self._closed:
                raise DeadWorkerError(None, "crash", str(error)) from error
        else:
            with self._lock:
                if not self._closed:
                    self._busy.add(worker)
                    return worker
            worker.stop()
        raise ClosedPoolError("the work was given up")

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
            worker.end()
        self._template.stop()
        for worker in idle:
            worker.stop()


_pools: dict[Engine | None, Pool] = {}
_lock = threading.Lock()


def pool(engine: Engine | None = None) -> Pool:
    """This process's pool of workers that score with an engine, or that open recordings only."""
    with _lock:
        if engine not in _pools:
            modules: tuple[str, ...] = ("pipeline.tasks",)
            environment: dict[str, str] = {}
            if engine is not None:
                modules = (*engine_modules(engine), *FRONT_END_MODULES, *modules)
                environment = engine_environment(engine)
            _pools[engine] = Pool(modules, environment)
        return _pools[engine]


def retire() -> None:
    """Ends the workers that open recordings only, once all have been."""
    with _lock:
        old = _pools.pop(None, None)
    if old is not None:
        old.close()


def stop() -> None:
    """Ends all workers of this process; new pools take what comes after."""
    with _lock:
        old = list(_pools.values())
        _pools.clear()
    for each in old:
        each.close()


atexit.register(stop)
