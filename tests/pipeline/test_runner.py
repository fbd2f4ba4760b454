"""Every runner writes the same dataset; the parts that need Java or Go are fetched and built."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.kills import content
from pipeline.cli import main
from tests.pipeline.archive import tone, write
from tests.pipeline.runners import parts
from tests.pipeline.runners.flink import Cluster
from tests.pipeline.test_buckets import objects, upload

slow = pytest.mark.slow
PRISM = ["--runner=PrismRunner", "--experiments=disable_prism_server_singleton"]
"""Beam would use one that has been started before."""
LONG = 40
"""Shards of the archive in which a worker is killed."""


def command(audio: Path | str, bundle: Path, out: Path | str, *more: str) -> list[str]:
    given = ["--input", str(audio), "--model", str(bundle), "--output", str(out)]
    return ["detect", *given, "--min-score", "0", "--slot", "1", *more]


def detect(audio: Path | str, bundle: Path, out: Path | str, *more: str) -> int:
    return main(command(audio, bundle, out, *more))


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of two sites, one over a slot's edge, one without a time, one damaged."""
    root = tmp_path_factory.mktemp("archive") / "audio"
    for hour in range(3):
        write(root / f"marsh/20240601_{hour:02d}0000.wav", tone(6, 500 + 100 * hour, seed=hour))
    write(root / "old ridge #1/20240601_075955.wav", tone(12.5, seed=7))
    write(root / "lost/no time.wav", tone(4, seed=8))
    (root / "marsh/20240601_090000.wav").write_bytes(b"RIFF nothing")
    return root


@pytest.fixture(scope="module")
def expected(
    audio: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What Beam's own runner writes."""
    out = tmp_path_factory.mktemp("own") / "out"
    assert detect(audio, bundle, out) == 0
    return content(out)


@pytest.fixture(scope="module")
def cluster(gcs_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Flink, whose workers talk to the GCS server."""
    with Cluster(tmp_path_factory.mktemp("flink")) as running:
        yield running


@slow
@pytest.mark.parametrize("mode", ["in_memory", "multi_threading", "multi_processing"])
def test_beams_own_runner_in_each_mode(
    audio: Path, bundle: Path, expected: dict[str, bytes], tmp_path: Path, mode: str
) -> None:
    options = (f"--direct_running_mode={mode}", "--direct_num_workers=2")
    assert detect(audio, bundle, tmp_path / "out", *options) == 0
    assert content(tmp_path / "out") == expected


@slow
def test_prism(audio: Path, bundle: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    options = ("--runner=PrismRunner", f"--prism_location={parts.prism()}")
    assert detect(audio, bundle, tmp_path / "out", *options) == 0
    assert content(tmp_path / "out") == expected


@slow
def test_flink(
    audio: Path, bundle: Path, expected: dict[str, bytes], tmp_path: Path, cluster: Cluster
) -> None:
    assert detect(audio, bundle, tmp_path / "out", *cluster.options()) == 0
    assert content(tmp_path / "out") == expected


@slow
def test_flink_over_a_bucket(
    audio: Path, bundle: Path, expected: dict[str, bytes], bucket: str, cluster: Cluster
) -> None:
    """With a job server that the command starts itself."""
    upload(audio, f"{bucket}/audio")
    own = (
        "--runner=FlinkRunner",
        f"--flink_master=127.0.0.1:{cluster.rest}",
        f"--flink_job_server_jar={parts.job_server()}",
    )
    options = (*own, *cluster.environment())
    assert detect(f"{bucket}/audio", bundle, f"{bucket}/out", *options) == 0
    assert objects(f"{bucket}/out") == expected


@pytest.fixture(scope="module")
def long_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many shards as `LONG`, so long that workers can be killed in between."""
    root = tmp_path_factory.mktemp("long") / "audio"
    first = write(root / "A/20240601_000000.wav", tone(120, seed=1))
    for at in range(1, LONG):
        path = root / f"{'AB'[at % 2]}/202406{1 + at // 24:02d}_{at % 24:02d}0000.wav"
        path.parent.mkdir(exist_ok=True)
        os.link(first, path)
    return root


def commits(out: Path) -> dict[str, tuple[int, int]]:
    """The commit records in place, with what changes when one is written again."""
    found = out.glob("coverage/*/*/*.parquet")
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def launch(*command: str) -> "subprocess.Popen[str]":
    """The command in a process of its own."""
    program = [sys.executable, "-c", "import sys; from pipeline.cli import main; sys.exit(main())"]
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [*program, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def wait_for(process: "subprocess.Popen[str]", is_so: Callable[[], bool]) -> None:
    """Waits until something is so; fails if the process ends before."""
    while not is_so():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


@slow
def test_a_task_manager_that_dies(
    long_audio: Path, bundle: Path, tmp_path: Path, cluster: Cluster
) -> None:
    """The job ends with the same dataset, and nothing committed is done again."""
    assert detect(long_audio, bundle, tmp_path / "own") == 0
    out = tmp_path / "out"
    job = launch(*command(long_audio, bundle, out, *cluster.options()))
    wait_for(job, lambda: len(commits(out)) >= LONG // 5)
    cluster.kill_task_manager()
    before = commits(out)
    assert len(before) < LONG
    cluster.start_task_manager()
    said = job.communicate(timeout=300)[0]
    assert job.returncode == 0, said
    assert content(out) == content(tmp_path / "own")
    after = commits(out)
    assert {name: after[name] for name in before} == before
    assert f"{LONG} shards done" in said


@slow
def test_an_interrupt_ends_the_job_on_the_cluster(
    long_audio: Path, bundle: Path, tmp_path: Path, cluster: Cluster
) -> None:
    out = tmp_path / "out"
    job = launch(*command(long_audio, bundle, out, *cluster.options()))
    wait_for(job, lambda: len(commits(out)) > 1)
    job.send_signal(signal.SIGINT)
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 130 and "error: interrupted" in said, said
    while any(job["status"] == "RUNNING" for job in cluster.ask("jobs")["jobs"]):
        time.sleep(0.2)
    assert len(commits(out)) < LONG
    assert detect(long_audio, bundle, out) == 0
    assert len(commits(out)) == LONG


@slow
def test_workers_that_cannot_be_started(
    audio: Path, bundle: Path, tmp_path: Path, cluster: Cluster, capsys: pytest.CaptureFixture
) -> None:
    wrong = f"--environment_config={json.dumps({'command': str(tmp_path / 'none')})}"
    assert detect(audio, bundle, tmp_path / "out", *cluster.options(), wrong) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: PortableRunner ended the job as FAILED")
    assert "No such file" in said and said.endswith("the same command goes on from there.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--runner=PortableRunner", "--job_endpoint=localhost:1"], "No job server answers at"),
        (["--runner=PortableRunner", "--job_endpoint=localhost"], "(HOST:PORT)"),
        (["--runner=PortableRunner"], "PortableRunner did not take the job: You must specify"),
        ([*PRISM, "--prism_location=/no/prism"], "PrismRunner did not take the"),
        (["--runner=Nonsense"], "--runner Nonsense cannot be used"),
    ],
)
def test_a_runner_that_is_not_there(
    audio: Path,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    options: list[str],
    said: str,
) -> None:
    assert detect(audio, bundle, tmp_path / "out", *options) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and said in last
