"""Worker: a process that works for another one, and may die without harm.

A decoder is C code that may crash, hang or eat memory on a damaged file. So recordings are opened
in worker processes, never in the one that runs Beam. A worker takes functions with their arguments
from a pipe, says in shared memory which recording it is at, and ends when its parent does.
"""

import contextlib
import logging
import mmap
import os
import queue
import resource
import struct
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from pipeline.guard import Guard
from pipeline.memory import limit_memory

DEBUG = "DAWNCHORUS_DEBUG"
"""Set in the environment with `--debug`, for worker processes."""


class Mark:
    """What a worker is at, in memory that its parent can still read when the worker is dead."""

    SIZE = 1 << 16
    _HEAD = struct.Struct("<QQ")

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, self.SIZE)
        self._beat = 0
        self._name = ""

    def at(self, recording: str | None) -> None:
        """Notes the recording whose decoder is called next; None for anything else."""
        self._beat += 1
        size = 0
        if recording is not None:
            encoded = recording.encode("utf-8", "surrogateescape")[: self.SIZE - self._HEAD.size]
            size = len(encoded)
            if recording != self._name:
                self._memory[self._HEAD.size : self._HEAD.size + size] = encoded
                self._name = recording
        self._HEAD.pack_into(self._memory, 0, self._beat, size)

    def read(self) -> tuple[int, str | None]:
        """(a number that changes with every note, the recording)."""
        beat, size = self._HEAD.unpack_from(self._memory)
        name = self._memory[self._HEAD.size : self._HEAD.size + size]
        return beat, name.decode("utf-8", "surrogateescape") if size else None


def quiet() -> None:
    """Keeps what libraries log off the screen, unless --debug was given."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    level = logging.ERROR if os.environ.get(DEBUG) else logging.CRITICAL
    logging.getLogger().setLevel(level)


def work(pipe_descriptor: int, mark_descriptor: int, said_descriptor: int) -> NoReturn:
    """Works, in a new process, until the parent closes the pipe or dies."""
    try:
        if not os.environ.get(DEBUG):
            os.dup2(said_descriptor, 2)
        _expect_death()
        limit_memory()
        pipe, mark = Connection(pipe_descriptor), Mark(mark_descriptor)
        tasks: queue.SimpleQueue = queue.SimpleQueue()  # type: ignore[type-arg]
        threading.Thread(target=_receive, args=(pipe, tasks), daemon=True).start()
        while True:
            _do(tasks.get(), pipe, mark)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _do(task: Any, pipe: Connection, mark: Mark) -> None:
    try:
        if isinstance(task, Exception):
            raise task
        function, arguments, blamed, attempt = task
        answer = True, function(*arguments, Guard(mark.at, blamed, attempt))
    except Exception as error:
        answer = False, error
    mark.at(None)
    try:
        pipe.send(answer)
    except OSError:
        os._exit(1)
    except Exception:
        pipe.send((False, RuntimeError(f"{type(answer[1]).__name__}: {answer[1]}")))


def _receive(pipe: Connection, tasks: "queue.SimpleQueue[object]") -> None:
    """Hands on what the parent sends; ends the process, whatever it is at, with the parent."""
    while True:
        try:
            tasks.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(1)
        except Exception as error:  # What was sent cannot be read here; the parent waits.
            tasks.put(error)


def _expect_death() -> None:
    """No core files, and the first to go where the system runs out of memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    quiet()
    for descriptor in sys.argv[1:]:
        os.set_inheritable(int(descriptor), False)
    work(*map(int, sys.argv[1:]))
