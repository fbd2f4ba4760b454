import shutil
from pathlib import Path

import pytest

from tests.pipeline.archive import tiny_bundle


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
def made(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `make_dataset`, without deployments; for reading."""
    from tests.pipeline.deployed import make_dataset

    return make_dataset(tmp_path_factory.mktemp("deployments"), bundle)


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of that dataset, for writing."""
    return Path(shutil.copytree(made, tmp_path / "out"))
