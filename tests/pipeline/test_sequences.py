"""Any sequence of runs, kills and changes of the archive ends as one run over what is left."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.kills import workers_of
from tests.pipeline.archive import cut, tone, write
from tests.pipeline.test_detection import content, detect

NAMES = (
    "A_20240601_120000.wav",
    "A_20240601_235958.wav",  # Two shards hold a part of it.
    "A_20240602_000005.wav",
    "deep/er/B_20240601_060000.wav",
    "no time.wav",
)
STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), st.integers(0, 5)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.sampled_from(["run", "move", "prune"]), st.just(""), st.just(0)),
    st.tuples(st.sampled_from(["kill worker", "kill launcher"]), st.just(""), st.integers(0, 9)),
)


class Archive:
    """An archive that changes, its dataset, and what that must hold."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle, self.out = folder, bundle, folder / "out"
        self.audio = folder / "audio-0"
        self.audio.mkdir()
        self.present: dict[str, int] = {}
        self.standing: dict[str, int] = {}
        self.first_root: str | None = None

    def put(self, name: str, seed: int) -> None:
        make(self.audio / name, seed)
        self.present[name] = seed

    def remove(self, name: str) -> None:
        (self.audio / name).unlink(missing_ok=True)
        self.present.pop(name, None)

    def move(self) -> None:
        """To another root, with other modification times."""
        moved = self.folder / f"audio-{int(self.audio.name[6:]) + 1}"
        shutil.copytree(self.audio, moved, copy_function=shutil.copyfile)
        shutil.rmtree(self.audio)
        self.audio = moved

    def options(self) -> tuple[Path, Path, Path, str, str, str, str]:
        return self.audio, self.bundle, self.out, "--slot", "6", "--root", str(self.audio)

    def run(self, *more: str) -> None:
        if self.present:
            self.first_root = self.first_root or self.audio.name
            assert detect(*self.options(), *more) == 0
            kept = {} if more else self.standing
            self.standing = kept | self.present

    def kill_worker(self, tenths: int) -> None:
        killer = threading.Timer(tenths / 10, kill_workers)
        killer.start()
        self.run()
        killer.cancel()
        killer.join()

    def kill_launcher(self, tenths: int) -> None:
        audio, bundle, out, *more = self.options()
        command = [sys.executable, "-m", "pipeline", "--input", audio, "--model", bundle]
        command += ["--output", out, "--min-score", "0", *more]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        job = subprocess.Popen([str(part) for part in command], **quiet)
        try:
            job.wait(timeout=2 + tenths / 2)
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGKILL)
            job.wait()
        self.run()


def make(path: Path, seed: int) -> None:
    """A recording of three or four seconds; every third ends before its samples."""
    write(path, tone(3 + seed % 2, seed=seed))
    if seed % 3 == 2:
        cut(path, lambda size: size * 2 // 3)


def kill_workers() -> None:
    found = workers_of(os.getpid())
    if found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(found), signal.SIGKILL)


@pytest.mark.slow
@settings(
    max_examples=4,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # Shrinking would take many minutes.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(STEPS, min_size=3, max_size=6))
def test_any_sequence_ends_as_one_run(bundle: Path, steps: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder), bundle)
        archive.put(NAMES[0], 0)
        for what, name, number in [*steps, ("run", "", 0)]:
            if what == "put":
                archive.put(name, number)
            elif what == "remove":
                archive.remove(name)
            elif what == "move":
                archive.move()
            elif what == "kill worker":
                archive.kill_worker(number)
            elif what == "kill launcher" and archive.present:
                archive.kill_launcher(number)
            elif what in ("run", "prune"):
                archive.run(*(["--prune"] if what == "prune" else []))
        if not archive.standing:
            return
        # The first root's name is the site of recordings without another.
        left = Path(folder) / "left" / str(archive.first_root)
        for name, seed in archive.standing.items():
            make(left / name, seed)
        reference = Path(folder) / "reference"
        assert detect(left, bundle, reference, "--slot", "6") == 0
        assert content(archive.out) == content(reference)
        time.sleep(0.1)
        assert not any((archive.out / "_tmp").rglob("*"))
