"""`python -m pipeline.template`: a process that has imported what workers need, and forks them.

TensorFlow takes seconds to import, and 270 MB that are its own. A worker that is forked from a
process that has imported it is there at once, and shares that memory with the others. The template
itself does no work, so that it has one thread and nothing that a fork would break.
"""

import contextlib
import gc
import importlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from pipeline.worker import DEBUG, quiet, work

SETTINGS = {
    # Processes side by side would only fight for the cores; and a template must have no threads.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # GNU's C library would give each second of sound fresh pages, which the system must clear.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
}
"""Environment of workers, whatever they do."""
_NUMBER = struct.Struct("<q")
START = 0
"""Asked in place of a process's number: start one with the descriptors that come along."""
RUNS, UNKNOWN = 1000, 1001
"""Answered in place of a status: the process has not ended, or is another template's."""
FORKS = sys.platform == "linux"
"""Elsewhere, libraries of the system do not work in a process that was only forked."""
END_S = 10.0
"""A killed process may take so long to end: one that waits for a dead disk does not end at all."""


class TemplateError(Exception):
    """No process can be started; the message says why."""


class Template:
    """Starts worker processes, from a process that is started when the first is needed.

    `modules` are imported there, with `environment` added to this process's. On systems where a
    fork after that is not safe (all but Linux) each worker is a new process that imports them.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._modules = modules if FORKS else ()
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def warm(self) -> None:
        """Starts the template, and does not wait for it. What hinders it is told by `start`."""
        with self._lock, contextlib.suppress(OSError):
            if self._process is None and not self._stopped:
                self._launch()

    def start(self, *descriptors: int) -> int:
        """Starts a worker with its pipe, its mark and what takes its standard error; its number.

        A template that was killed is replaced. Raises TemplateError.
        """
        with self._lock:
            said = ""
            for _ in range(2):
                if self._stopped:
                    break
                try:
                    if self._process is None:
                        self._launch()
                except OSError as error:
                    raise TemplateError(f"worker processes cannot be started: {error}") from error
                number = self._ask(START, descriptors)
                if number is not None:
                    return number
                said = self._end()
        raise TemplateError(f"worker processes cannot be started{said}")

    def status(self, process: int) -> int | None:
        """Waits for a worker to end; its status, negative for a signal, None if it is unknown."""
        last = time.monotonic() + END_S
        while time.monotonic() < last:
            with self._lock:
                answer = self._ask(process) if self._process else UNKNOWN
            if answer != RUNS:
                return None if answer == UNKNOWN else answer
            time.sleep(0.01)
        return None

    def stop(self) -> None:
        """Ends the template for good; a start that waits for it is given up."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            if self._process is not None:
                self._end()

    def _launch(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `_end`
        # What this process can import; an empty entry is the folder that it works in.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            # A session of its own: an interrupt from the keyboard is for this process alone.
            self._process = subprocess.Popen(
                # -P: a user's folder may hold a file with the name of a module.
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "pipeline.template",
                    str(theirs.fileno()),
                    *self._modules,
                ],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **SETTINGS, "PYTHONPATH": path, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get(DEBUG) else self._said,
                start_new_session=True,
            )

    def _ask(self, number: int, descriptors: Sequence[int] = ()) -> int | None:
        try:
            socket.send_fds(self._socket, [_NUMBER.pack(number)], descriptors)
            answer = self._socket.recv(_NUMBER.size, socket.MSG_WAITALL)
        except OSError:
            return None
        return int(_NUMBER.unpack(answer)[0]) if len(answer) == _NUMBER.size else None

    def _end(self) -> str:
        """Ends the process; what it said last, if it failed."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process = None
        self._socket.close()
        said = last_line(self._said) if status > 0 else ""
        self._said.close()
        return said


def last_line(said: IO[bytes]) -> str:
    """The last line of what a process wrote, after a colon; nothing without one."""
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def main(argv: list[str]) -> None:
    """Forks workers when asked, until the parent ends; its socket and the modules as arguments."""
    quiet()
    parent = socket.socket(fileno=int(argv[0]))
    # Imports leave hardly any garbage to look for, and objects that no collection touches stay in
    # memory that the workers share.
    gc.disable()
    for module in argv[1:]:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()
    while True:
        asked, descriptors, _, _ = socket.recv_fds(parent, _NUMBER.size, 3)
        if len(asked) < _NUMBER.size:
            os._exit(0)
        (number,) = _NUMBER.unpack(asked)
        answer = _start(parent, descriptors) if number == START else _status(number)
        parent.sendall(_NUMBER.pack(answer))


def _start(parent: socket.socket, descriptors: list[int]) -> int:
    if FORKS:
        process = os.fork()
        if not process:
            parent.close()
            work(*descriptors)
    else:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        command = [sys.executable, "-P", "-m", "pipeline.worker", *map(str, descriptors)]
        process = os.posix_spawn(sys.executable, command, os.environ)
    for descriptor in descriptors:
        os.close(descriptor)
    return process


def _status(process: int) -> int:
    try:
        found, status = os.waitpid(process, os.WNOHANG)
    except ChildProcessError:
        return UNKNOWN
    return os.waitstatus_to_exitcode(status) if found else RUNS


if __name__ == "__main__":
    main(sys.argv[1:])
