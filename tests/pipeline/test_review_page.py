"""The page of a review in a real browser, over a server in a process of its own."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.pipeline.reviewable import Server, reviewing, row_of, write_sample

HOSTILE = '<img src=x onerror="window.harmed=1">\'"&'
ROWS = [
    row_of(0),
    row_of(1, recording=f"A/{HOSTILE}.wav"),
    row_of(2, HOSTILE, site=HOSTILE),
    row_of(3, "robin", clip="", clip_start="", problem=f"gone {HOSTILE}"),
    row_of(4, "robin"),
    row_of(5, "robin"),
    row_of(6, "robin"),
]
DAMAGED, MISSING = 4, 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_sample(tmp_path_factory.mktemp("made") / "sample", ROWS)
    (folder / "clips/00005.flac").write_bytes(b"fLaC nothing")
    (folder / "clips/00006.flac").unlink()
    (folder / "clips/00006.png").unlink()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "sample"))


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with reviewing(folder) as server:
        yield server


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A window of its own; nothing in it may fail, be blocked, or ask another machine."""
    context = browser.new_context()
    asked: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield context
    for page in context.pages:
        assert page.evaluate("window.harmed") is None
    context.close()
    assert asked and not [
        url for url in asked if not url.startswith(("http://127.0.0.1:", "blob:"))
    ]
    # What the server refused or did not answer is told on the page, and also by the browser.
    assert not [error for error in errors if not error.startswith("Failed to load resource")]


def opened(context: BrowserContext, server: Server, place: str = "1 of 7") -> Page:
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#place")).to_have_text(place)
    return page


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def at(page: Page, number: int) -> None:
    """Waits until a row is shown, counted from 1."""
    expect(page.locator("#place")).to_have_text(f"{number} of {len(ROWS)}")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "marks.jsonl").read_text().splitlines()]


def said(folder: Path) -> list[tuple[Any, ...]]:
    """What each line of the log says: reviewer, start, verdict (or undo), other label, comment."""
    return [
        (
            line["reviewer"],
            line["detection"]["start"],
            "undo" if "undo" in line else line["verdict"],
            *(line.get(name, "") for name in ("other_label", "comment")),
        )
        for line in lines(folder)
    ]


def test_keys_mark_and_each_mark_is_on_the_disk(
    context: BrowserContext, server: Server, folder: Path
) -> None:
    page = opened(context, server)
    expect(page.locator("#name")).to_have_text("anna")
    expect(page.locator("h2").first).to_have_text("Is this wren?")
    press(page, "r")
    at(page, 2)
    expected: list[tuple[Any, ...]] = [("anna", 0, "right", "", "")]
    assert said(folder) == expected
    press(page, "w")
    at(page, 3)
    expected.append(("anna", 2, "wrong", "", ""))
    assert said(folder) == expected
    expect(page.locator("#asked")).to_have_text(HOSTILE)
    expect(page.locator("#where")).to_contain_text(HOSTILE)
    # Keys that are typed into an input are text.
    press(page, "c")
    page.keyboard.type(f"rwuoz {HOSTILE}")
    assert said(folder) == expected
    press(page, "Enter")
    expect(page.locator("#own-comment")).to_have_text(f"rwuoz {HOSTILE}")
    at(page, 3)
    expected.append(("anna", 4, None, "", f"rwuoz {HOSTILE}"))
    assert said(folder) == expected
    press(page, "o")
    page.keyboard.type("nobody")
    press(page, "Escape")
    expect(page.locator("#other-form")).to_be_hidden()
    press(page, "o")
    assert page.locator("#labels option").count() == 3
    page.keyboard.type("<b>jay</b>")
    press(page, "Enter")
    at(page, 4)
    expected.append(("anna", 4, "wrong", "<b>jay</b>", f"rwuoz {HOSTILE}"))
    assert said(folder) == expected
    expect(page.locator("#said")).to_have_text("3: wrong, it is <b>jay</b>")
    # Back, and over it.
    press(page, "k")
    at(page, 3)
    other = page.locator("#other")
    expect(other).to_have_attribute("aria-pressed", "true")
    expect(other).to_contain_text("<b>jay</b>")
    press(page, "z")
    expect(other).to_have_attribute("aria-pressed", "false")
    expected.append(("anna", 4, "undo", "", ""))
    press(page, "z")
    expect(page.locator("#own-comment")).to_be_hidden()
    expected.append(("anna", 4, "undo", "", ""))
    press(page, "z")
    at(page, 2)
    expected.append(("anna", 2, "undo", "", ""))
    assert said(folder) == expected
    press(page, "u")
    at(page, 3)
    assert said(folder)[-1] == ("anna", 2, "unsure", "", "")
    expect(page.locator("#count")).to_have_text("2 of 7 judged")
    # Loaded again, it goes on where it was.
    page.reload()
    at(page, 3)
    expect(page.locator("#count")).to_have_text("2 of 7 judged")
    told = server.end()
    assert re.search(r"anna +2 +1 +0 +1\n", told)
    with (folder / "verified.csv").open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["right", *[""] * 6]


def test_buttons_do_what_keys_do(context: BrowserContext, server: Server, folder: Path) -> None:
    page = opened(context, server)
    page.click("#right")
    at(page, 2)
    # The space after a click plays, and does not press the button again.
    press(page, "Space")
    expect(page.locator("#playing")).to_have_text("■ Stop")
    assert said(folder) == [("anna", 0, "right", "", "")]
    page.click("#wrong")
    at(page, 3)
    page.click("#undo")
    at(page, 2)
    page.click("#next")
    at(page, 3)
    page.click("#previous")
    page.click("#previous")
    page.click("#unjudged")
    at(page, 2)
    page.click("#comment")
    page.fill("#comment-text", "faint")
    page.click("#comment-form button[type=submit]")
    expect(page.locator("#own-comment")).to_have_text("faint")
    # A button that was reached by keys is pressed by them, once.
    page.focus("#unsure")
    press(page, "Space")
    at(page, 3)
    assert said(folder)[-1] == ("anna", 2, "unsure", "", "faint")
    page.click("#help")
    expect(page.locator("#help-dialog")).to_be_visible()
    press(page, "r", "w")  # Nothing is marked behind a dialog.
    press(page, "Escape")
    press(page, "?")
    expect(page.locator("#help-dialog")).to_be_visible()
    page.click("#help-dialog .close")
    assert len(lines(folder)) == 5
    page.select_option("#label", "robin")
    at(page, 4)
    page.select_option("#show", "unsure")
    expect(page.locator("#said")).to_have_text("There is no other one here.")
    page.select_option("#label", "")
    at(page, 2)
    press(page, "r")
    expect(page.locator("#right")).to_have_attribute("aria-pressed", "true")


def time_of(page: Page) -> float:
    return float(page.evaluate("document.getElementById('audio').currentTime"))


def playing(page: Page, beyond: float, lasts: float) -> None:
    """Waits until a sound of that length has been played beyond a time, in seconds as it plays."""
    for _ in range(1200):
        length = page.evaluate("document.getElementById('audio').duration")
        if time_of(page) > beyond and length == pytest.approx(lasts, abs=0.02):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"stands at {time_of(page)} s of {length} s")


def test_sound_plays_also_slowly_and_loud(context: BrowserContext, server: Server) -> None:
    page = opened(context, server)
    press(page, "j", "k")
    at(page, 1)
    picture = page.locator("#picture")
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("naturalWidth", 1200)
    expect(page.locator("#kilohertz span").nth(1)).to_have_text("5")
    assert page.locator("#kilohertz span").all_text_contents()[:2] == ["kHz", "5"]
    press(page, "Space")
    # 1 s, and half a second after it; the recording begins there.
    playing(page, 0.2, 1.5)
    press(page, "Space")
    expect(page.locator("#playing")).to_have_text("▶ Play")
    expect(page.locator("#audio")).to_have_js_property("paused", True)
    # Four times slower by two keys, while it plays; louder by two.
    press(page, "Space", "s", "s", "+", "+")
    expect(page.locator("#slowness [aria-pressed=true]")).to_have_text("4×")
    expect(page.locator("#gain [aria-pressed=true]")).to_have_text("12")
    playing(page, 0.3, 6)
    press(page, "Shift+S", "-")
    expect(page.locator("#slowness [aria-pressed=true]")).to_have_text("2×")
    expect(page.locator("#gain [aria-pressed=true]")).to_have_text("6")
    playing(page, 0.3, 3)
    # A click into the picture plays from there, and the cursor is where the sound is.
    box = page.locator("#plot").bounding_box()
    assert box
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 20)
    playing(page, 1.5, 3)
    press(page, "Space")
    cursor = page.locator("#cursor").bounding_box()
    assert cursor
    assert (cursor["x"] + 1 - box["x"]) / box["width"] == pytest.approx(0.5, abs=0.01)
    expect(page.locator("#time")).to_have_text("0:00.75")
    # It stays so for the next clip, which plays by itself.
    press(page, "a", "r")
    at(page, 2)
    playing(page, 0.1, 4)
    expect(page.locator("#time")).to_have_text(re.compile(r"0:0[12]\.\d\d"))
    page.reload()
    at(page, 2)
    expect(page.locator("#auto")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#slowness [aria-pressed=true]")).to_have_text("2×")


def test_who_goes_on_before_the_answer_misses_none(
    context: BrowserContext, server: Server, folder: Path
) -> None:
    page = opened(context, server)
    waiting: list[Route] = []
    page.route("**/mark", lambda route: waiting.append(route))
    press(page, "r", "j")
    at(page, 2)
    page.wait_for_function("() => true")
    assert len(waiting) == 1
    waiting[0].continue_()
    expect(page.locator("#said")).to_have_text("1: right")
    at(page, 2)
    assert said(folder) == [("anna", 0, "right", "", "")]
    expect(page.locator("#count")).to_have_text("1 of 7 judged")


def test_what_cannot_be_heard_is_said_and_can_be_marked(
    context: BrowserContext, server: Server, folder: Path
) -> None:
    (folder / "clips/00007.png").write_bytes(b"")
    page = opened(context, server)
    trouble = page.locator("#trouble")
    press(page, "j", "j")
    at(page, 3)
    expect(trouble).to_be_hidden()
    press(page, "j")
    expect(trouble).to_have_text(f"There is no clip: gone {HOSTILE}.")
    expect(page.locator("#play")).to_be_disabled()
    press(page, "Space", "s", "u")
    at(page, DAMAGED + 1)
    expect(trouble).to_contain_text("The clip cannot be played: ")
    press(page, "j")
    expect(trouble).to_have_text("The file 00006.flac is not there.")
    press(page, "w")
    at(page, 7)
    expect(trouble).to_have_text("The picture of this clip cannot be shown.")
    press(page, "Space")
    playing(page, 0.1, 4)  # Still twice as slow.
    assert [one[1:3] for one in said(folder)] == [(6, "unsure"), (10, "wrong")]


def test_a_killed_server_loses_no_mark_and_the_page_goes_on(
    context: BrowserContext, server: Server, folder: Path
) -> None:
    page = opened(context, server)
    press(page, "r")
    at(page, 2)
    server.process.kill()
    server.process.wait()
    press(page, "w")
    alarm = page.locator("#alarm")
    expect(alarm).to_contain_text("The server does not answer")
    at(page, 2)
    expect(page.locator("#wrong")).to_have_attribute("aria-pressed", "false")
    assert said(folder) == [("anna", 0, "right", "", "")]
    with reviewing(folder, "--port", str(server.port)) as again:
        press(page, "w")
        at(page, 3)
        expect(alarm).to_be_hidden()
        assert [one[2] for one in said(folder)] == ["right", "wrong"]
        # And so does a new page, after the browser was killed too.
        page.close()
        page = opened(context, again, "3 of 7")
        expect(page.locator("#count")).to_have_text("2 of 7 judged")
        again.end()


def test_two_reviewers_are_blind_to_each_other(
    context: BrowserContext, server: Server, folder: Path
) -> None:
    page = opened(context, server)
    for number, key in enumerate("rrw", 1):
        at(page, number)
        press(page, key)
    at(page, 4)
    page.click("#reviewer")
    page.fill("#reviewer-name", "table")
    press(page, "Enter")
    expect(page.locator("#reviewer-wrong")).to_contain_text("kept for verdicts of the table")
    page.fill("#reviewer-name", HOSTILE)
    press(page, "Enter")
    at(page, 1)
    expect(page.locator("#name")).to_have_text(HOSTILE)
    expect(page.locator("#count")).to_have_text("0 of 7 judged")
    for number in (1, 2, 3):
        at(page, number)
        for verdict in ("right", "wrong", "unsure", "other"):
            expect(page.locator(f"#{verdict}")).to_have_attribute("aria-pressed", "false")
        press(page, "r")
    at(page, 4)
    page.click("#agreement")
    expect(page.locator("#pairs-table")).to_contain_text(f"{HOSTILE} and anna")
    cells = page.locator("#pairs-table td").all_text_contents()
    assert cells == ["3", "67 %", "0.00"]
    assert page.locator("#progress-table td").all_text_contents()[:4] == ["3 of 7", "3", "0", "0"]
    press(page, "Escape")
    # It stays so when the page is loaded again, and only in this window.
    page.reload()
    at(page, 4)
    expect(page.locator("#name")).to_have_text(HOSTILE)
    other = opened(context, server, "4 of 7")
    expect(other.locator("#name")).to_have_text("anna")
    assert f"{HOSTILE} and anna: 67% of 3 detections, kappa 0.00" in server.end()


def test_nothing_is_small_or_beside_the_screen(
    context: BrowserContext, browser: Browser, server: Server
) -> None:
    wide = opened(context, server)
    phone = browser.new_context(viewport={"width": 360, "height": 740})
    narrow = opened(phone, server)  # type: ignore[arg-type]
    for page in (wide, narrow):
        page.locator("#seconds span").first.wait_for()
        press(page, "o")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        sizes = page.evaluate(
            """[...document.querySelectorAll("body *")].filter((one) => one.innerText)
            .map((one) => parseFloat(getComputedStyle(one).fontSize))"""
        )
        assert min(sizes) >= 14
        # Every button and input has a name for those who do not see it.
        for control in page.get_by_role("button").all() + page.get_by_role("combobox").all():
            expect(control).to_have_accessible_name(re.compile(r"\w"))
    plot, verdicts = narrow.locator("#plot").bounding_box(), narrow.locator("#right").bounding_box()
    assert plot and verdicts and plot["width"] > 250
    phone.close()
