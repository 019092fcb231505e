"""The pages in Chromium: on a phone and on a desk, in the light and in the dark, by keyboard, and as axe judges them.

The pictures are kept with the test's files. axe.min.js is axe-core 4.14.1 as npm has it (Mozilla Public License 2.0).
"""

import base64
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from jobs.quality import build_docs, judge, load_suite
from jobs.reports import front
from jobs.settings import EXPECTATIONS, PROJECT
from tests.stack.conftest import cannot_run
from tests.unit.reports import samples
from tests.unit.test_quality import some_measures

AXE = Path(__file__).with_name("axe.min.js").read_text(encoding="utf-8")
RUN_AXE = "const done = arguments[0]; axe.run(document).then(found => done(found.violations))"
# Parts that reach beyond their box are cut off, or have to be scrolled sideways.
TOO_WIDE = """
  const boxes = [...document.querySelectorAll("body, main, section, table, figure, ul, p")]
  const wide = boxes.filter(each => each.clientWidth && each.scrollWidth > each.clientWidth + 1)
  return wide.map(each => each.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of pages by name."""
    reports = tmp_path_factory.mktemp("reports")
    value = samples.rich()
    front.keep(reports, value.loads)
    newest = value.loads[0]
    suite = load_suite(EXPECTATIONS, "silver.product")
    measures = some_measures(suite) | {"rejected_share": 0.5}
    verdict = judge(suite, measures, load_id=newest.load_id, loaded_at=newest.started_at, reports=reports)
    found = {
        "front": front.write_front(reports, value),
        "load": reports / "loads" / f"{newest.load_id}.html",
        "failed": reports / "loads" / f"{value.loads[3].load_id}.html",
        "year": reports / "loads" / "2026.html",
        "checks": build_docs(reports),
        "table": reports / verdict.page,
        "first": front.write_front(reports / "small", samples.small()),
        "empty": PROJECT / "docker" / "reports" / "empty.html",
    }
    return {name: path.as_uri() for name, path in found.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    driver = shutil.which("chromedriver")
    if not driver:
        cannot_run("no Chromium with its driver, so the reports were not looked at")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def look(browser: webdriver.Chrome, address: str, width: int = 1280, scheme: str = "light") -> None:
    metrics: dict[str, Any] = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(address)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("page", ["front", "load", "failed", "year", "checks", "table", "first", "empty"])
def test_page__should_fit_and_be_without_violations(
    browser: webdriver.Chrome, site: dict[str, str], tmp_path: Path, page: str, width: int, scheme: str
) -> None:
    look(browser, site[page], width, scheme)

    browser.execute_script(AXE)
    violations = browser.execute_async_script(RUN_AXE)
    too_wide = browser.execute_script(TOO_WIDE)

    size = {"width": width, "height": browser.execute_script("return document.documentElement.scrollHeight")}
    clip = {"clip": {"x": 0, "y": 0, "scale": 1, **size}, "captureBeyondViewport": True}
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", clip)["data"]
    (tmp_path / f"{page}-{width}-{scheme}.png").write_bytes(base64.b64decode(picture))
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
    # Great Expectations' tables are wide, and scroll within their card.
    assert page in ("checks", "table") or too_wide == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_charts__should_be_one_a_screen_and_real_text(browser: webdriver.Chrome, site: dict[str, str]) -> None:
    for width, shown in ((1280, ".for-wide"), (360, ".for-narrow")):
        look(browser, site["front"], width)

        drawn = [each for each in browser.find_elements(By.CSS_SELECTOR, "figure svg") if each.is_displayed()]

        assert drawn == browser.find_elements(By.CSS_SELECTOR, f"{shown} svg")
        assert len(drawn) == 4
        assert "1 Nov" in [text.text for text in drawn[0].find_elements(By.TAG_NAME, "text")]
        sizes = browser.execute_script(
            "return [...arguments[0].querySelectorAll('text')].map(each => each.getBoundingClientRect().height)",
            drawn[0],
        )
        assert min(sizes) > 11, "too small to read"


def test_keyboard__should_reach_every_link_and_open_the_tables(browser: webdriver.Chrome, site: dict[str, str]) -> None:
    look(browser, site["front"])
    wanted = len(browser.find_elements(By.CSS_SELECTOR, "a, summary"))
    reached = []

    for _ in range(wanted):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        element = browser.switch_to.active_element
        reached.append(element)
        assert element.value_of_css_property("outline-style") == "solid", element.text

    assert len(set(reached)) == wanted
    assert reached[0].get_attribute("href").endswith("#state")  # type: ignore[union-attr]
    summary = next(element for element in reached if element.tag_name == "summary")
    summary.send_keys(Keys.ENTER)
    assert browser.find_element(By.CSS_SELECTOR, "details[open] table").is_displayed()


def test_page_that_is_old__should_say_so(browser: webdriver.Chrome, tmp_path: Path) -> None:
    from dataclasses import replace
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    for due, text in ((now + timedelta(hours=1), "are due by"), (now - timedelta(hours=1), "out of date: newer")):
        look(browser, front.write_front(tmp_path, replace(samples.small(), due=due)).as_uri())

        assert text in browser.find_element(By.ID, "due").text
