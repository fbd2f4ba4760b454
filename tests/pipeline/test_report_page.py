"""The report's page in a real browser: from a disk, without a network, by mouse and by keys."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.cli import main
from tests.pipeline.deployed import deploy
from tests.pipeline.exported import make_hostile

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PLACED = "utc,America/New_York,42.75,-73.75,,\n"


def opened(browser: "Browser", folder: Path, **options: object) -> "Page":
    """The page, drawn; whatever it asks of a network or complains of is in `said`."""
    page = browser.new_page(**options)
    page.said = []
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda r: r.url.startswith(("file:", "blob:", "data:")) or page.said.append(r.url),
    )
    page.goto((folder / "report.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    return page


@pytest.fixture(scope="module")
def folder(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the dataset of `make_dataset`, on the recorders' clocks."""
    folder = tmp_path_factory.mktemp("page") / "report #1"
    assert main(["report", str(made), "--output", str(folder), "--threshold", "0.1"]) == 0
    return folder


@pytest.fixture
def page(browser: "Browser", folder: Path) -> Iterator["Page"]:
    page = opened(browser, folder)
    yield page
    assert page.said == []
    page.close()


def test_every_plot_is_drawn_and_has_its_data(page: "Page", folder: Path) -> None:
    figures = page.locator("figure")
    assert figures.count() == 13
    for number in range(figures.count()):
        figure = figures.nth(number)
        link = figure.locator("a[download]").get_attribute("href")
        assert (folder / link).exists()
        chart = figure.locator(".chart")
        if chart.is_visible():
            assert chart.get_attribute("role") == "img"
            assert len(chart.get_attribute("aria-label")) > 40
            # Something is painted.
            painted = (
                "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(x => x)"
            )
            assert any(canvas.evaluate(painted) for canvas in chart.locator("canvas").all())
        else:
            assert figure.locator("table, p.muted:visible").count()
    assert "recorders' clocks" in page.locator("#clock").inner_text()
    with page.expect_download() as download:
        page.locator("a[download]").first.click()
    assert Path(download.value.path()).read_bytes() == (folder / "data/days.csv").read_bytes()


def test_a_site_and_a_label_are_chosen_by_keys(page: "Page") -> None:
    page.keyboard.press("Tab")  # The link that leads past the header.
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "site"
    page.keyboard.press("ArrowDown")
    chosen = page.locator("#site option:checked").inner_text()
    assert chosen == "007" and "Shown: 007" in page.locator("#said").inner_text()
    assert page.locator("#tiles dd").nth(2).inner_text().startswith("49")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    label = page.locator("#label option:checked").inner_text()
    assert page.locator("#activity-title").inner_text() == f"Activity: {label}"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    page.keyboard.press("Enter")
    rows = page.locator("details[open] tbody tr")
    rows.first.wait_for()
    assert rows.first.locator("td").first.inner_text() == "007"


def test_tables_agree_with_the_csv(page: "Page", folder: Path) -> None:
    page.select_option("#site", "0")
    page.locator("section#activity summary").nth(1).click()
    rows_of_page = page.locator("section#activity details[open] tbody tr")
    rows_of_page.first.wait_for()  # The table is made when the browser tells of the opening.
    cells = rows_of_page.all_inner_texts()
    name = page.locator("#label option:checked").inner_text()
    rows = [line.split(",") for line in (folder / "data/diel.csv").read_text().splitlines()[1:]]
    own = [row for row in rows if row[0].strip('"') == name and row[1].strip('"') == "007"]
    assert [text.split("\t")[1:4] for text in cells] == [
        [f"{int(row[2]):02d}", row[3], row[4]] for row in own
    ]


def test_labels_are_those_of_the_site(page: "Page", folder: Path) -> None:
    with (folder / "data/label_sites.csv").open(newline="") as file:
        own = {row["label"]: row for row in csv.DictReader(file) if row["site"] == "007"}
    page.select_option("#site", label="007")
    table = page.locator("section#overview figure").nth(1).locator("tbody tr")
    found = dict(text.split("\t")[::2] for text in table.all_inner_texts())
    assert {label: row["windows_positive"] for label, row in own.items()} == {
        label: positive for label, positive in found.items() if positive != "0"
    }


def test_a_link_to_a_section(page: "Page", folder: Path) -> None:
    page.goto((folder / "report.html").as_uri() + "?again#scores")
    page.wait_for_selector("body[data-ready]")
    top = page.locator("#scores-title").bounding_box()["y"]
    assert 0 < top < page.viewport_size["height"]


def test_dark_and_on_a_phone(browser: "Browser", folder: Path) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page = opened(browser, folder, color_scheme=scheme, viewport={"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        shades[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        small = page.evaluate(
            """[...document.querySelectorAll('body *')].filter(e => e.offsetParent
            && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
            && parseFloat(getComputedStyle(e).fontSize) < 14).map(e => e.outerHTML)"""
        )
        assert not small and page.said == []
        page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != shades[scheme]
        page.close()
    assert shades["light"] != shades["dark"]


def test_the_sun_stands_where_a_position_is_known(
    browser: "Browser", out: Path, tmp_path: Path
) -> None:
    deploy(out, tmp_path / "d.csv", f"007,{PLACED}")
    folder = tmp_path / "report"
    assert main(["report", str(out), "--output", str(folder), "--threshold", "0"]) == 0
    page = opened(browser, folder)
    assert "each site's own" in page.locator("#clock").inner_text()
    lines = """() => {
        const drawn = document.querySelectorAll('section#activity .chart')[0];
        return echarts.getInstanceByDom(drawn).getOption().series.filter((s) => s.type === 'line')
            .map((s) => [s.name, s.data.filter((x) => x !== null).length]);
    }"""
    assert [name for name, _ in page.evaluate(lines)] == ["sunrise", "sunset"]
    page.select_option("#site", label="CREEK")
    drawn = page.locator("section#activity figure").first
    assert drawn.locator(".chart").is_hidden() and page.said == []
    assert "Nothing with a time was scored." in drawn.inner_text()
    assert "No recording shown has a time." in page.locator("section#coverage").inner_text()
    page.close()


def test_names_that_mean_harm(browser: "Browser", tmp_path: Path) -> None:
    out = make_hostile(tmp_path)
    folder = tmp_path / "report"
    assert main(["report", str(out), "--output", str(folder), "--threshold", "0"]) == 0
    page = opened(browser, folder)
    assert "<b>@wren</b>" in page.locator("#label").inner_text()
    for chart in page.locator(".chart:visible").all():
        box = chart.bounding_box()
        for x in (0.3, 0.5, 0.7):
            page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * 0.6)
            page.mouse.wheel(0, 0)
    assert page.locator("figure b, body > b").count() == 0 and page.said == []
    page.close()


def test_an_old_browser_and_one_without_scripts(browser: "Browser", folder: Path) -> None:
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto((folder / "report.html").as_uri())
    page.get_by_text("This browser cannot show the page").wait_for()
    page.close()
    page = browser.new_page(java_script_enabled=False)
    page.goto((folder / "report.html").as_uri())
    assert "The plots need JavaScript" in page.locator("header").inner_text()
    page.close()
