"""Where the real recordings are that some tests read."""

import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"


def data_folder(name: str) -> Path:
    """The folder `name` of the real test data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("DAWNCHORUS_TEST_DATA") or DEFAULT) / name
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}: set DAWNCHORUS_TEST_DATA to their folder")
    return folder
