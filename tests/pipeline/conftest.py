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
