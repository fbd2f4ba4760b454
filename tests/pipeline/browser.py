"""The browser of this machine, without a window, for tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ON_MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless Chromium or Chrome; skips where there is none, but fails where `CI` is set."""
    path = next(filter(None, (shutil.which(name) for name in (*NAMES, ON_MACOS))), None)
    if path is None:
        missing = "there is no chromium, chromium-browser or google-chrome here to show pages in"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    # As long as for clicks: a busy machine is not a wrong page.
    expect.set_options(timeout=30_000)
    options = ["--autoplay-policy=no-user-gesture-required"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()
