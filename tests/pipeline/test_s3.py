"""Storage that is not Google's: an S3 server process, through s3fs."""

import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from benchmarks.kills import content
from pipeline import pool
from pipeline.cli import main
from pipeline.storage import Folder
from tests.pipeline.archive import tone, write
from tests.pipeline.runners.flink import free_port
from tests.pipeline.test_buckets import objects, upload

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
START_S = 60


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The address of an S3 server, which this process and its children then talk to."""
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "moto.server", "-p", address.rpartition(":")[2]]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", address),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
        ):
            patch.setenv(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        pool.stop()
        try:
            last = time.monotonic() + START_S
            while True:
                try:
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None and time.monotonic() < last
                    time.sleep(0.1)
            yield address
        finally:
            server.kill()
            server.wait()
            pool.stop()


@pytest.fixture
def s3(s3_server: str) -> str:
    """The URL of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(name, region_name=os.environ["AWS_DEFAULT_REGION"])
    return f"s3://{name}"


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    root = tmp_path / "audio"
    for at, site in enumerate(["marsh", "old [ridge] #1", "Fluß 50%"]):
        write(root / site / f"20240601_{at:02d}0000.wav", tone(3.5, seed=at))
    (root / "marsh/20240601_090000.wav").write_bytes(b"RIFF nothing")
    return root


def test_the_same_dataset_as_on_a_disk(
    audio: Path, bundle: Path, s3: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    upload(audio, f"{s3}/audio")
    upload(bundle, f"{s3}/bundle")
    more = ["--min-score", "0", "--slot", "1"]
    here = ["--input", str(audio), "--model", str(bundle), "--output", str(tmp_path / "out")]
    there = ["--input", f"{s3}/audio", "--model", f"{s3}/bundle", "--output", f"{s3}/out"]
    assert main(["detect", *here, *more]) == 0
    assert main(["detect", *there, *more]) == 0
    assert objects(f"{s3}/out") == content(tmp_path / "out")
    capsys.readouterr()
    assert main(["detect", *there, *more]) == 0
    assert "nothing was left to do" in capsys.readouterr().out
    assert main(["status", f"{s3}/out"]) == 0
    assert "4 recordings, 1 of them unreadable" in capsys.readouterr().out


def test_of_two_that_create_one_does(s3: str) -> None:
    folder = Folder(s3)
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda i: folder.create("one", b"%d" % i), range(8)))
    assert created.count(True) == 1
    assert folder.read("one") == b"%d" % created.index(True)
