"""Superset with the example dashboard: what its charts show, and what it lets through to the endpoint."""

import shutil
import time
from collections.abc import Iterator
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import requests
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.stack.conftest import Stack, cannot_run, free_port

CHARTS = 11


class Superset:
    """Its HTTP interface, as the user admin."""

    def __init__(self, url: str, password: str) -> None:
        self.url = url
        self.password = password
        self.session = requests.Session()
        login = {"username": "admin", "password": password, "provider": "db"}
        token = self.post("/api/v1/security/login", login)["access_token"]
        self.session.headers["Authorization"] = f"Bearer {token}"
        self.session.headers["X-CSRFToken"] = self.get("/api/v1/security/csrf_token/")["result"]

    def get(self, path: str) -> Any:
        return self._answer(self.session.get(self.url + path, timeout=60))

    def post(self, path: str, content: dict[str, Any]) -> Any:
        return self._answer(self.session.post(self.url + path, json=content, timeout=120))

    @staticmethod
    def _answer(response: requests.Response) -> Any:
        assert response.ok, f"{response.url}: {response.status_code} {response.text}"
        return response.json()

    def id_of(self, kind: str, key: str, value: str) -> int:
        return int(next(entry["id"] for entry in self.get(f"/api/v1/{kind}/")["result"] if entry[key] == value))

    def rows(self, view: str, **query: Any) -> list[dict[str, Any]]:
        """What a chart over a gold view gets."""
        source = {"id": self.id_of("dataset", "table_name", view), "type": "table"}
        content = {"datasource": source, "queries": [query], "result_format": "json", "result_type": "full"}
        return list(self.post("/api/v1/chart/data", content)["result"][0]["data"])

    def run(self, sql: str) -> list[dict[str, Any]]:
        """What SQL Lab shows."""
        database = self.id_of("database", "database_name", "Meter lakehouse")
        return list(self.post("/api/v1/sqllab/execute/", {"database_id": database, "sql": sql})["data"])


@pytest.fixture(scope="module")
def dashboard(stack: Stack) -> Iterator[Superset]:
    """Made by `make dashboard`, and gone in the end."""
    port = free_port()
    stack.env["LAKE_DASHBOARD_PORT"] = str(port)
    try:
        made = stack.make("dashboard", timeout=1200)
        assert f"http://127.0.0.1:{port}/superset/dashboard/meters/" in made.stdout
        yield Superset(f"http://127.0.0.1:{port}", stack.secret("LAKE_DASHBOARD_PASSWORD"))
    finally:
        stack.compose("rm", "--force", "--stop", "dashboard", "dashboard-init", check=False)


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    driver = shutil.which("chromedriver")
    if not driver:
        cannot_run("no Chromium with its driver, so the dashboard was not looked at")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1500,2050", "--hide-scrollbars"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def test_every_chart_is_drawn(stack: Stack, dashboard: Superset, browser: webdriver.Chrome, tmp_path: Path) -> None:
    """The picture is kept with the test's files; docs/dashboard.png is one of them."""
    browser.get(f"{dashboard.url}/superset/dashboard/meters/")
    wait = WebDriverWait(browser, 60)
    wait.until(lambda _: "/login" in browser.current_url)  # nobody sees it without a password
    wait.until(lambda _: browser.find_elements(By.ID, "username"))
    browser.find_element(By.ID, "username").send_keys("admin")
    browser.find_element(By.ID, "password").send_keys(dashboard.password + "\n")
    wait.until(lambda _: "/login" not in browser.current_url)

    browser.get(f"{dashboard.url}/superset/dashboard/meters/")
    wait.until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, ".slice_container")) == CHARTS)
    wait.until(lambda _: not browser.find_elements(By.CSS_SELECTOR, ".loading"))
    time.sleep(2)  # curves are drawn from left to right
    browser.save_screenshot(str(tmp_path / "dashboard.png"))

    shown = [number.text for number in browser.find_elements(By.CSS_SELECTOR, ".header-line")]
    [(newest,)] = stack.query("SELECT date_format(last_reading_utc, 'yyyy-MM-dd HH:mm') FROM gold.data_freshness")
    [(kwh,)] = stack.query("SELECT format_number(sum(consumption_kwh), 0) FROM gold.half_hourly_consumption")
    [(agreements,)] = stack.query("SELECT format_number(count(*), 0) FROM gold.active_agreements")
    [(rejected,)] = stack.query("SELECT format_number(sum(readings_rejected), 0) FROM gold.load_history")
    assert shown == [newest, kwh, agreements, rejected]
    # A curve or bars, and not "No results" or an error.
    assert len(browser.find_elements(By.CSS_SELECTOR, ".slice_container canvas")) == 5
    assert len(browser.find_elements(By.CSS_SELECTOR, ".slice_container tbody tr")) >= 1

    tried = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    elsewhere = {name for name in tried if not name.startswith((dashboard.url, "data:", "blob:"))}
    log = browser.get_log("browser")  # type: ignore[no-untyped-call]
    stopped = [entry["message"] for entry in log if "Content Security Policy" in entry["message"]]
    assert all(any(name in message for message in stopped) for name in elsewhere)


def test_figures_are_those_of_the_views(stack: Stack, dashboard: Superset) -> None:
    rows = dashboard.rows(
        "daily_product_consumption",
        metrics=["kwh"],
        columns=["product_display_name"],
        filters=[{"col": "date", "op": "TEMPORAL_RANGE", "val": "2021-01-02 : 2021-01-03"}],
        row_limit=1000,
    )
    expected = stack.query(
        "SELECT product_display_name, consumption_kwh FROM gold.daily_product_consumption "
        "WHERE date = DATE '2021-01-02'"
    )
    assert len(expected) > 10
    shown = {row["product_display_name"]: round(Decimal(str(row["kwh"])), 6) for row in rows}
    assert shown == {name: round(Decimal(kwh), 6) for name, kwh in expected}


def test_a_filter_holds_any_character(dashboard: Superset) -> None:
    """Quotes and backslashes: Superset writes values into its statements."""
    column = {
        "label": "odd",
        "sqlExpression": r"concat('O', chr(39), 'Hara ', chr(92), ' 5 %')",
        "expressionType": "SQL",
    }
    rows = dashboard.rows("data_freshness", columns=[column], metrics=[], row_limit=10)
    assert [row["odd"] for row in rows] == [r"O'Hara \ 5 %"]
    for value, found in ((r"O'Hara \ 5 %", 1), ("OHara", 0), (r"\' OR 1 = 1 --", 0)):
        filters = [{"col": column, "op": "==", "val": value}]
        assert len(dashboard.rows("data_freshness", columns=["last_load_id"], filters=filters, row_limit=10)) == found


def test_sql_lab_knows_the_views_and_only_reads(dashboard: Superset) -> None:
    database = dashboard.id_of("database", "database_name", "Meter lakehouse")
    tables = dashboard.get(f"/api/v1/database/{database}/tables/?q=(schema_name:gold)")["result"]
    assert {(table["value"], table["type"]) for table in tables} > {
        ("active_agreements", "view"),
        ("load_history", "view"),
    }
    dataset = dashboard.id_of("dataset", "table_name", "half_hourly_consumption")
    columns = {
        column["column_name"]: column for column in dashboard.get(f"/api/v1/dataset/{dataset}")["result"]["columns"]
    }
    assert columns["interval_start_utc"]["is_dttm"]
    assert columns["consumption_kwh"]["description"] == "Energy used by all of them, kWh"

    assert dashboard.run("SELECT DATE '2021-10-31' AS d, CAST(1.5 AS DECIMAL(10, 2)) AS n") == [
        {"d": "2021-10-31", "n": 1.5}
    ]
    with pytest.raises(AssertionError, match=r"not allowed|mutat"):
        dashboard.run("DROP TABLE silver.readings")
    with pytest.raises(AssertionError, match="PERMISSION"):  # it has an analyst's rights
        dashboard.run("SELECT * FROM ops.loads")


def test_what_superset_exports_can_take_the_place_of_the_assets(
    stack: Stack, dashboard: Superset, tmp_path: Path
) -> None:
    number = dashboard.id_of("dashboard", "slug", "meters")
    archive = dashboard.session.get(f"{dashboard.url}/api/v1/dashboard/export/?q=!({number})", timeout=60)
    with ZipFile(BytesIO(archive.content)) as files:
        files.extractall(tmp_path)
    [assets] = tmp_path.iterdir()
    for folder in (assets, *list(assets.parents)[:3]):
        folder.chmod(0o755)

    volume = f"{assets}:/srv/dashboard/assets:ro"
    stack.compose("run", "--rm", "--no-deps", "--volume", volume, "dashboard-init")

    assert dashboard.get("/api/v1/dashboard/")["count"] == 1
    assert dashboard.get("/api/v1/chart/")["count"] == CHARTS
    assert dashboard.rows("load_history", metrics=["loaded"])[0]["loaded"] >= 14_400


def test_again_with_tls_and_with_what_people_made(stack: Stack, dashboard: Superset) -> None:
    chart = {
        "slice_name": "Made by hand",
        "viz_type": "table",
        "datasource_id": dashboard.id_of("dataset", "table_name", "load_history"),
        "datasource_type": "table",
    }
    dashboard.post("/api/v1/chart/", chart)
    charts = dashboard.get("/api/v1/chart/")["count"]
    # People reach the endpoint under a name that it does not have in here; its health check and Superset take it, too.
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout - -subj /CN=lake.example.org"
    names = ["-addext", "subjectAltName=DNS:lake.example.org"]
    pem = stack.call([*request.split(), *names], timeout=60, check=True)
    stack.lake("certificate", "import", stdin=pem.stdout)
    try:
        stack.compose("restart", "sql-endpoint")
        stack.make("dashboard", timeout=600)
        assert dashboard.run("SELECT 1 AS one") == [{"one": 1}]
        assert dashboard.id_of("chart", "slice_name", "Made by hand")
        assert dashboard.get("/api/v1/chart/")["count"] == charts
        assert dashboard.get("/api/v1/dashboard/")["count"] == 1
    finally:
        stack.lake("certificate", "remove")
        stack.compose("restart", "sql-endpoint")
        stack.compose("up", "--detach", "--wait", "--no-deps", "sql-endpoint")
