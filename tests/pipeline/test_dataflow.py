"""Dataflow, up to the last step that needs an account: a double of its service takes the job, and
the staged package and pipeline are what does it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from benchmarks.kills import content
from pipeline.cli import main
from tests.pipeline.archive import tone, write
from tests.pipeline.runners.dataflow import Dataflow, Job, until_cancelled
from tests.pipeline.test_buckets import objects, upload
from tests.pipeline.test_runner import launch, wait_for

pytest.importorskip("google.cloud.dataflow")
ROOT = Path(__file__).parents[2]
STAGED = Path(__file__).parent / "runners/staged.py"
INSTALL_S = 600


def nothing(job: Job) -> None:
    """Work that is none."""


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of two sites, one over a slot's edge, one without a time, one damaged."""
    root = tmp_path_factory.mktemp("archive") / "audio"
    write(root / "marsh/20240601_000000.wav", tone(6, seed=1))
    write(root / "old ridge #1/20240601_075955.wav", tone(12.5, seed=7))
    write(root / "lost/no time.wav", tone(4, seed=8))
    (root / "marsh/20240601_090000.wav").write_bytes(b"RIFF nothing")
    return root


@pytest.fixture
def double() -> Iterator[Dataflow]:
    with Dataflow(nothing) as running:
        yield running


def options(double: Dataflow, bucket: str) -> list[str]:
    """What a user adds for Dataflow, and what leads to the double."""
    return [
        *("--runner=DataflowRunner", "--project=my-project", "--region=europe-west1"),
        f"--temp_location={bucket}/temp",
        f"--setup_file={ROOT / 'setup.py'}",
        *(f"--dataflow_endpoint={double.endpoint}", "--no_auth", "--sdk_location=container"),
    ]


def command(bucket: str, bundle: Path, *more: str) -> list[str]:
    given = ["--input", f"{bucket}/audio", "--model", str(bundle), "--output", f"{bucket}/out"]
    return ["detect", *given, "--min-score", "0", "--slot", "1", *more]


def last_line(capsys: pytest.CaptureFixture) -> str:
    return str(capsys.readouterr().err.splitlines()[-1])


class Machine:
    """A machine of the service's: a fresh virtual environment, and what a job has staged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv/bin/python"

    def work(self, job: Job) -> str | None:
        """Installs the staged package, once, and runs the staged pipeline from it."""
        packages = {
            one["name"]: one["location"].replace("storage.googleapis.com/", "gs://")
            for one in job["environment"]["workerPools"][0]["packages"]
        }
        if not self.python.exists():
            self._fetch(packages["workflow.tar.gz"], "dawnchorus-0.tar.gz")
            self._run(sys.executable, "-m", "venv", self.folder / "venv")
            install = ("-m", "pip", "install", "--quiet", self.folder / "dawnchorus-0.tar.gz")
            self._run(self.python, *install)
        pipeline_url = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        self._fetch(pipeline_url, "pipeline.pb")
        self._run(self.python, "-P", STAGED, self.folder / "pipeline.pb")
        return None

    def _fetch(self, url: str, name: str) -> None:
        fsspec.filesystem("gs").get_file(url, str(self.folder / name))

    def _run(self, *command: str | Path) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
        if done.returncode:
            raise RuntimeError(f"{command[:4]}: {done.stderr[-1500:]}")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def expected(
    audio: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What Beam's own runner writes from a disk."""
    out = tmp_path_factory.mktemp("own") / "out"
    assert main(["detect", "--input", str(audio), "--model", str(bundle), "--output", str(out),
                 "--min-score", "0", "--slot", "1"]) == 0  # fmt: skip
    return content(out)


@pytest.mark.slow
def test_the_staged_package_does_the_staged_job(
    audio: Path,
    bundle: Path,
    bucket: str,
    machine: Machine,
    expected: dict[str, bytes],
    capsys: pytest.CaptureFixture,
) -> None:
    """Two jobs: headers, then scores. Summary and exit status come from what they committed."""
    upload(audio, f"{bucket}/audio")
    with Dataflow(machine.work) as double:
        more = ("--num_workers=2", "--max_num_workers=50", "--disk_size_gb=30")
        status = main(command(bucket, bundle, *options(double, bucket), *more))
        captured = capsys.readouterr()
        assert status == 0, captured.err[-3000:]
        assert objects(f"{bucket}/out") == expected
        assert "5 shards done" in captured.out
        assert [job["name"].rsplit("-", 1)[0] for job in double.jobs] == [
            "dawnchorus-inventory",
            "dawnchorus-detection",
        ]
        assert main(command(bucket, bundle, *options(double, bucket))) == 0
        assert len(double.jobs) == 2, "a second run has nothing to send"


@pytest.mark.slow
def test_a_template_is_planned_now_and_done_later(
    audio: Path,
    bundle: Path,
    bucket: str,
    double: Dataflow,
    machine: Machine,
    expected: dict[str, bytes],
    capsys: pytest.CaptureFixture,
) -> None:
    """As a flex template's launcher does: the command ends before the job begins."""
    upload(audio, f"{bucket}/audio")
    template = f"{bucket}/templates/job_object"
    more = f"--template_location={template}"
    assert main(command(bucket, bundle, *options(double, bucket), more)) == 0
    assert "the job is handed over" in capsys.readouterr().err
    assert double.jobs == []
    assert main(["status", f"{bucket}/out"]) == 0
    assert "works, started" in capsys.readouterr().out
    machine.work(json.loads(fsspec.filesystem("gs").cat(template)))
    assert objects(f"{bucket}/out") == expected
    assert main(["status", f"{bucket}/out"]) == 0
    assert "with exit status 0" in capsys.readouterr().out
    # A job that has nothing to do is a job too: the launcher asks for one.
    fsspec.filesystem("gs").rm(template)
    assert main(command(bucket, bundle, *options(double, bucket), more)) == 0
    assert fsspec.filesystem("gs").exists(template)


def test_what_is_sent(audio: Path, bundle: Path, bucket: str, double: Dataflow) -> None:
    upload(audio, f"{bucket}/audio")
    more = [
        *("--job_name=owls-2023", "--staging_location=" + bucket + "/staging"),
        *("--machine_type=n2-highmem-4", "--disk_size_gb=30", "--disk_type=pd-ssd"),
        *("--num_workers=3", "--max_num_workers=200", "--autoscaling_algorithm=THROUGHPUT_BASED"),
        *("--flexrs_goal=COST_OPTIMIZED", "--no_use_public_ips", "--network=net"),
        "--subnetwork=regions/europe-west1/subnetworks/sub",
        "--service_account_email=worker@my-project.iam.gserviceaccount.com",
        "--sdk_container_image=europe-docker.pkg.dev/my-project/images/dawnchorus:1",
        "--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver",
        *("--experiments=no_use_multiple_sdk_containers", "--labels=project=owls"),
        "--number_of_worker_harness_threads=2",
    ]
    main(command(bucket, bundle, *options(double, bucket), *more))
    sent = double.jobs[0]
    assert double.asked[0] == "POST /v1b3/projects/my-project/locations/europe-west1/jobs"
    assert sent["name"] == "owls-2023" and sent["type"] in (1, "JOB_TYPE_BATCH")
    assert sent["labels"] == {"project": "owls"}
    environment = sent["environment"]
    staged = environment["sdkPipelineOptions"]["options"]["staging_location"]
    assert staged.startswith(f"{bucket}/staging/owls-2023.")
    assert environment["tempStoragePrefix"].startswith(
        f"storage.googleapis.com/{bucket.removeprefix('gs://')}/temp/owls-2023."
    )
    assert environment["serviceAccountEmail"] == "worker@my-project.iam.gserviceaccount.com"
    assert environment["flexResourceSchedulingGoal"] in (2, "FLEXRS_COST_OPTIMIZED")
    assert environment["serviceOptions"] == [
        "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"
    ]
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    assert "use_runner_v2" in environment["experiments"]
    (pool,) = environment["workerPools"]
    assert pool["numWorkers"] == 3 and pool["autoscalingSettings"]["maxNumWorkers"] == 200
    assert pool["autoscalingSettings"]["algorithm"] in (2, "AUTOSCALING_ALGORITHM_BASIC")
    assert pool["machineType"] == "n2-highmem-4"
    assert (pool["diskSizeGb"], pool["diskType"]) == (30, "pd-ssd")
    assert pool["ipConfiguration"] in (2, "WORKER_IP_PRIVATE")
    assert (pool["network"], pool["numThreadsPerWorker"]) == ("net", 2)
    assert pool["subnetwork"] == "regions/europe-west1/subnetworks/sub"
    (image,) = pool["sdkHarnessContainerImages"]
    assert image["containerImage"] == "europe-docker.pkg.dev/my-project/images/dawnchorus:1"
    names = {package["name"] for package in pool["packages"]}
    assert "workflow.tar.gz" in names
    found = {path.rpartition("/")[2] for path in fsspec.filesystem("gs").find(staged)}
    assert found == names | {"pipeline.pb"}


def test_the_graph_does_not_grow_with_the_archive(
    bundle: Path, bucket: str, double: Dataflow, tmp_path: Path
) -> None:
    """Dataflow refuses one above 10 MB."""
    sizes = []
    for count in (1, 40):
        for at in range(count):
            write(tmp_path / f"audio/20240601_00{at:02d}00.wav", tone(1, seed=at))
        upload(tmp_path / "audio", f"{bucket}/audio")
        main(command(bucket, bundle, *options(double, bucket)))
        url = double.jobs[-1]["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        sizes.append(fsspec.filesystem("gs").size(url))
    assert abs(sizes[1] - sizes[0]) < 100 and max(sizes) < 100_000


def test_a_job_that_fails(
    audio: Path, bundle: Path, bucket: str, capsys: pytest.CaptureFixture
) -> None:
    def failed(job: Job) -> str:
        time.sleep(1)
        return "The zone has no machines."

    upload(audio, f"{bucket}/audio")
    with Dataflow(failed) as double:
        assert main(command(bucket, bundle, *options(double, bucket))) == 1
    assert last_line(capsys) == (
        "error: DataflowRunner ended the job as FAILED (The zone has no machines); what is "
        "committed stays, and the same command goes on from there."
    )


def test_a_job_that_somebody_cancels(
    audio: Path, bundle: Path, bucket: str, capsys: pytest.CaptureFixture
) -> None:
    def cancelled(job: Job) -> None:
        time.sleep(1)
        job["currentState"] = "JOB_STATE_CANCELLED"

    upload(audio, f"{bucket}/audio")
    with Dataflow(cancelled) as double:
        assert main(command(bucket, bundle, *options(double, bucket))) == 1
    assert last_line(capsys).startswith("error: DataflowRunner ended the job as CANCELLED")


def test_an_interrupt_cancels_the_job(audio: Path, bundle: Path, bucket: str) -> None:
    upload(audio, f"{bucket}/audio")
    with Dataflow(until_cancelled) as double:
        job = launch(*command(bucket, bundle, *options(double, bucket)))
        wait_for(job, lambda: any("GET" in asked for asked in double.asked))
        job.send_signal(signal.SIGINT)
        said = job.communicate(timeout=60)[0]
    assert job.returncode == 130 and "error: interrupted" in said, said
    assert double.jobs[0]["requestedState"] in (5, "JOB_STATE_CANCELLED")
    assert "Traceback" not in said


@pytest.mark.parametrize("refusal", [403, 404, 409])
def test_a_job_that_is_refused(
    audio: Path, bundle: Path, bucket: str, capsys: pytest.CaptureFixture, refusal: int
) -> None:
    upload(audio, f"{bucket}/audio")
    with Dataflow(nothing, refusal=refusal) as double:
        assert main(command(bucket, bundle, *options(double, bucket))) == 1
    said = last_line(capsys)
    assert said.startswith(f"error: DataflowRunner did not take the job: {refusal} POST")
    assert said.endswith("the double was told to refuse.")


def test_a_job_of_which_nothing_is_told_any_more(
    audio: Path, bundle: Path, bucket: str, capfd: pytest.CaptureFixture
) -> None:
    def silenced(job: Job) -> None:
        time.sleep(1)
        double.refusal = 403
        time.sleep(60)

    upload(audio, f"{bucket}/audio")
    with Dataflow(silenced) as double:
        assert main(command(bucket, bundle, *options(double, bucket))) == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("error: DataflowRunner tells no more of the job (403 GET")
    assert "may go on by itself" in last


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("--project", "--project PROJECT"),
        ("--region", "--region REGION"),
        ("--temp_location", "--temp_location gs://BUCKET/FOLDER"),
        ("--setup_file", "--sdk_container_image IMAGE"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_done(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    without: str,
    said: str,
) -> None:
    monkeypatch.delenv("CLOUDSDK_COMPUTE_REGION", raising=False)
    given = [
        one
        for one in (
            *("--project=my-project", "--region=europe-west1", "--temp_location=gs://b/temp"),
            f"--setup_file={ROOT / 'setup.py'}",
        )
        if not one.startswith(without)
    ]
    out = tmp_path / "out"
    more = ["--runner=DataflowRunner", *given]
    where = ["--input", str(tmp_path), "--model", str(bundle), "--output", str(out)]
    assert main(["detect", *where, *more]) == 1
    line = last_line(capsys)
    assert line.startswith("error: Dataflow also needs") and said in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--temp_location=/tmp/here", "--temp_location /tmp/here is no place in a bucket"),
        ("--setup_file=/no/setup.py", "--setup_file /no/setup.py does not exist"),
        ("--no_auth", "is on this machine's disk, which Dataflow's workers cannot see"),
    ],
)
def test_what_workers_could_not_reach(
    audio: Path,
    bundle: Path,
    tmp_path: Path,
    double: Dataflow,
    capsys: pytest.CaptureFixture,
    option: str,
    said: str,
) -> None:
    where = ["--input", str(audio), "--model", str(bundle), "--output", str(tmp_path / "out")]
    assert main(["detect", *where, *options(double, "gs://bucket"), option]) == 1
    assert said in last_line(capsys)


def test_an_archive_on_the_disk_is_refused(
    audio: Path, bundle: Path, bucket: str, double: Dataflow, capsys: pytest.CaptureFixture
) -> None:
    where = ["--input", str(audio), "--model", str(bundle), "--output", f"{bucket}/out"]
    assert main(["detect", *where, *options(double, bucket)]) == 1
    assert f"{audio} is on this machine's disk" in last_line(capsys)
    given = ["inventory", str(audio), "--output", f"{bucket}/inventory.parquet"]
    assert main([*given, *options(double, bucket)]) == 1
    assert f"{audio} is on this machine's disk" in last_line(capsys)
    assert main([*given, *options(double, bucket), "--template_location=gs://b/t"]) == 1
    assert "--template_location is for detect alone" in last_line(capsys)


def test_googles_libraries_are_not_there(
    audio: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    for name in list(sys.modules):
        if name.startswith("apache_beam.runners.dataflow.internal"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("google.cloud.dataflow", raising=False)
    monkeypatch.setitem(sys.modules, "google.cloud.dataflow", None)
    where = ["--input", str(audio), "--model", str(bundle), "--output", str(tmp_path / "out")]
    assert main(["detect", *where, "--runner=DataflowRunner"]) == 1
    assert 'pip install "dawnchorus[dataflow]"' in last_line(capsys)
