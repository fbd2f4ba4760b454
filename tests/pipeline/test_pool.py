"""Worker processes that crash, hang, eat memory or are killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from pipeline import template
from pipeline.guard import ANY, Guard
from pipeline.pool import ClosedPoolError, DeadWorkerError, Pool
from pipeline.worker import DEBUG, Mark
from tests.pipeline.archive import tone, write
from tests.pipeline.test_detection import content, detect, rows

FAULTY = Path(__file__).parent / "faulty"


@pytest.fixture
def workers():
    pool = Pool()
    yield pool
    pool.close()


def die_at(place: str | None, guard: Guard) -> str:
    guard.at(place)
    if place not in guard.blamed and not (place == ANY and guard.attempt > 1):
        os.kill(os.getpid(), signal.SIGSEGV)
    return f"{guard.attempt}: {dict(guard.blamed)}"


def hang_at(place: str, guard: Guard) -> str:
    guard.at(place)
    while place not in guard.blamed:
        time.sleep(1)
    return f"{guard.attempt}: {guard.blamed[place]}"


def fail(text: str, guard: Guard) -> None:
    raise KeyError(text)


class Elsewhere:
    """What a worker cannot read."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return fail, ("there is no such module", "")


def own_process(guard: Guard) -> int:
    return os.getpid()


def process_and_parent(guard: Guard) -> tuple[int, int]:
    return os.getpid(), os.getppid()


def eat_memory(guard: Guard) -> str:
    try:
        return str(len(bytearray(64 << 30)))
    except MemoryError:
        return "refused"


class TestPool:
    def test_a_worker_is_kept_for_the_next_call(self, workers: Pool) -> None:
        first = workers.run(own_process, timeout_s=60)
        assert first == workers.run(own_process, timeout_s=60) != os.getpid()

    def test_a_killed_idle_worker_is_replaced(self, workers: Pool) -> None:
        first = workers.run(own_process, timeout_s=60)
        os.kill(first, signal.SIGKILL)
        time.sleep(0.2)
        assert workers.run(own_process, timeout_s=60) != first

    def test_a_killed_template_is_replaced(self, workers: Pool) -> None:
        first, template = workers.run(process_and_parent, timeout_s=60)
        os.kill(template, signal.SIGKILL)
        os.kill(first, signal.SIGKILL)
        time.sleep(0.2)
        assert template != workers.run(process_and_parent, timeout_s=60)[1] != os.getpid()

    def test_a_worker_outlives_its_template(self, workers: Pool) -> None:
        first, template = workers.run(process_and_parent, timeout_s=60)
        os.kill(template, signal.SIGKILL)
        time.sleep(0.2)
        assert workers.run(own_process, timeout_s=60) == first

    def test_the_end_of_a_dead_templates_worker_leaves_the_next_alone(self, workers: Pool) -> None:
        _, template = workers.run(process_and_parent, timeout_s=60)
        os.kill(template, signal.SIGKILL)
        with ThreadPoolExecutor() as threads:
            blocked = threads.submit(workers.run, hang_at, "a.wav", timeout_s=1.5)
            time.sleep(0.5)
            _, second = workers.run(process_and_parent, timeout_s=60)
            assert "timeout" in blocked.result()
        assert workers.run(process_and_parent, timeout_s=60)[1] == second != template

    def test_what_cannot_be_imported_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(DEBUG, raising=False)
        pool = Pool(["no_such_module"])
        with pytest.raises(DeadWorkerError, match="No module named 'no_such_module'"):
            pool.run(own_process, timeout_s=60)
        pool.close()

    def test_closing_does_not_wait_for_imports(self) -> None:
        pool = Pool(["tensorflow"])
        with ThreadPoolExecutor() as threads:
            call = threads.submit(pool.run, own_process, timeout_s=60)
            time.sleep(0.5)
            pool.close()
            with pytest.raises(ClosedPoolError):
                call.result()

    def test_what_the_function_raises_is_raised(self, workers: Pool) -> None:
        process = workers.run(own_process, timeout_s=60)
        with pytest.raises(KeyError, match="x y"):
            workers.run(fail, "x y", timeout_s=60)
        assert workers.run(own_process, timeout_s=60) == process

    def test_what_a_worker_cannot_read_is_raised(self, workers: Pool) -> None:
        with pytest.raises(KeyError, match="no such module"):
            workers.run(own_process, Elsewhere(), timeout_s=60)
        assert workers.run(own_process, timeout_s=60) > 0

    def test_a_recording_is_blamed_for_the_second_death(self, workers: Pool) -> None:
        said = workers.run(die_at, "a/é\n\udce9.wav", timeout_s=60)
        assert said.startswith("3: ") and "crash" in said and "SIGSEGV" in said

    def test_nothing_is_blamed_where_several_are_open(self, workers: Pool) -> None:
        assert workers.run(die_at, ANY, timeout_s=60) == "2: {}"

    def test_a_death_elsewhere_is_told(self, workers: Pool) -> None:
        with pytest.raises(DeadWorkerError, match="SIGSEGV") as caught:
            workers.run(die_at, None, timeout_s=60)
        assert caught.value.recording is None

    def test_a_hanging_decoder_is_ended_and_blamed_at_once(self, workers: Pool) -> None:
        said = workers.run(hang_at, "a.wav", timeout_s=1.5)
        assert said.startswith("2: ") and "timeout" in said

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
    def test_memory_is_limited(self, workers: Pool) -> None:
        assert workers.run(eat_memory, timeout_s=60) == "refused"

    def test_a_closed_pool_gives_up(self, workers: Pool) -> None:
        workers.run(own_process, timeout_s=60)
        workers.close()
        with pytest.raises(ClosedPoolError):
            workers.run(own_process, timeout_s=60)

    def test_workers_end_with_their_parent(self) -> None:
        code = """
from pipeline.pool import Pool
from tests.pipeline.test_pool import own_process, hang_at
import os, signal, threading, time
pool = Pool()
print(pool.run(own_process, timeout_s=60), flush=True)
threading.Thread(target=pool.run, args=(hang_at, "a"), kwargs={"timeout_s": 60}).start()
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        worker = int(ended.stdout)
        for _ in range(100):
            if not _is_running(worker):
                return
            time.sleep(0.1)
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker outlived its parent")


def test_a_worker_can_be_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "FORKS", False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # As a template has it.
    ours, theirs = Pipe()
    with TemporaryFile() as memory, TemporaryFile() as said, socket.socket() as parent:
        memory.truncate(Mark.SIZE)
        descriptors = [os.dup(file.fileno()) for file in (theirs, memory, said)]
        theirs.close()
        worker = template._start(parent, descriptors)
        ours.send((own_process, (), {}, 1))
        assert ours.poll(60) and ours.recv() == (True, worker)
        ours.close()
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 1


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def detect_faulty(audio: Path, bundle: Path, out: Path, *more: str) -> None:
    """Detection with decoders that break on recordings of certain sample rates."""
    command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", bundle]
    command += ["--output", out, "--min-score", "0", *more]
    path = os.pathsep.join([str(FAULTY), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "FAULTY_ONCE": str(out) + ".once"}
    done = subprocess.run([str(part) for part in command], env=environment, timeout=300)
    assert done.returncode == 0


@pytest.mark.slow
def test_decoders_that_crash_hang_and_eat_memory(bundle: Path, tmp_path: Path) -> None:
    audio, out = tmp_path / "audio", tmp_path / "out"
    for hour in range(3):
        for minute in (1, 5):
            name = f"A_20240601_{hour:02d}{minute:02d}00.wav"
            write(audio / name, tone(3, seed=hour + minute))
    for minute, rate in ((2, 8001), (3, 8002), (4, 8003), (6, 8004), (7, 8005), (8, 8006)):
        name = f"A_20240601_00{minute:02d}00.wav"
        write(audio / name, tone(2, rate=rate), rate)
    detect_faulty(audio, bundle, out, "--decode-timeout", "4")
    lost = "SELECT recording, reason, stage, curable, windows_lost FROM errors ORDER BY 1"
    assert rows(out, lost) == [
        ("A_20240601_000200.wav", "crash", "open", True, 2),
        ("A_20240601_000300.wav", "timeout", "open", True, 2),
        ("A_20240601_000400.wav", "memory", "decode", True, 2),
        ("A_20240601_000600.wav", "crash", "probe", True, 0),
        ("A_20240601_000700.wav", "timeout", "probe", True, 0),
    ]
    whole = "SELECT count(*) FROM coverage WHERE windows_skipped = 0 AND windows_scored > 0"
    assert rows(out, whole) == [(7,)]
    # With a decoder that works the next run mends all of it.
    assert detect(audio, bundle, out) == 0
    assert detect(audio, bundle, tmp_path / "reference") == 0
    assert content(out) == content(tmp_path / "reference")
    assert rows(out, "SELECT count(*) FROM errors") == [(0,)]
