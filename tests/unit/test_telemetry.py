"""Metrics, log lines and lineage: what others see of the lakehouse at work."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families
from pyspark.sql.types import DecimalType, StringType, StructField, StructType

from jobs import check, schedule_state
from jobs.check import Facts, Finding, Level
from jobs.cli import terminal
from jobs.quality import Check, Verdict
from jobs.schedule import Scheduler
from jobs.settings import PROJECT, Settings
from jobs.telemetry import lineage, logs, metrics
from tests.receiver import Receiver, receiver

REPOSITORY = Path(__file__).parents[2]
NOW = datetime(2021, 1, 5, 9, tzinfo=UTC)
FIGURES: dict[str, list[Any]] = {
    "loads": [("published", 3, 1609837200, 300, 2, 14400, 12), ("failed", 1, 1609750800, 0, 4, 0, 7)],
    "stages": [("read and check", 1.5), ("publish", 0.5)],
    "reasons": [("consumption_negative", 19)],
    "open": [(12, 2)],
    "newest": [(1609804800, "2021-01-04", date(2021, 1, 5), 0.97)],
}
FINDINGS = [Finding("lake", Level.ok, "it answers"), Finding("quarantine", Level.warning, "m1 and 'a.json'\n")]


def settings_of(folder: Path, **more: Any) -> Settings:
    return Settings(state=folder / "state", reports=folder / "reports", metrics_file=folder / "metrics.prom", **more)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Value by name and values of labels."""
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert all(family.documentation for family in families)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


@pytest.fixture
def written(tmp_path: Path) -> dict[tuple[str, ...], float]:
    """The page of a lakehouse with a scheduler, after a check."""
    settings = settings_of(tmp_path)
    ran = {"started": NOW.isoformat(), "seconds": 42.5, "exit_status": 1}
    schedule_state.write(settings.state, {"heartbeat": NOW.isoformat(), "jobs": {"readings": ran, "reference": {}}})
    facts = Facts(now=NOW, silent=2, free_percent={"/var": 12.5}, certificate_until=NOW, figures=FIGURES)
    metrics.write(tmp_path / "metrics.prom", facts, FINDINGS)
    metrics.publish(settings)
    return samples((settings.reports / "metrics").read_text())


def test_the_page_has_what_loads_checks_and_the_scheduler_tell(written: dict[tuple[str, ...], float]) -> None:
    assert written["lake_loads_total", "published"] == 3
    assert written["lake_load_end_timestamp_seconds", "failed"] == 1609750800
    assert (written["lake_files_total", "loaded"], written["lake_files_total", "rejected"]) == (300, 6)
    assert (written["lake_readings_total", "loaded"], written["lake_readings_total", "rejected"]) == (14400, 19)
    assert written["lake_load_stage_duration_seconds", "read and check"] == 1.5
    assert (written["lake_quarantine", "row"], written["lake_quarantine", "file"]) == (12, 2)
    assert written["lake_newest_reading_date_timestamp_seconds",] == datetime(2021, 1, 4, tzinfo=UTC).timestamp()
    assert written["lake_snapshot_timestamp_seconds",] == datetime(2021, 1, 5, tzinfo=UTC).timestamp()
    assert (written["lake_check_status", "lake"], written["lake_check_status", "quarantine"]) == (0, 1)
    assert written["lake_disk_free_ratio", "/var"] == 0.125
    assert written["lake_scheduler_run_exit_status", "readings"] == 1
    assert written["lake_scheduler_heartbeat_timestamp_seconds",] == NOW.timestamp()


def test_an_endpoint_that_does_not_answer_is_a_metric_and_no_error(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, endpoint_metrics="http://127.0.0.1:9/metrics")

    assert samples(metrics.page(settings).decode())["lake_endpoint_up",] == 0


def test_of_a_lake_that_could_not_be_asked_the_checks_are_told_and_no_figure(tmp_path: Path) -> None:
    facts = Facts(now=NOW, lake_error="no answer")
    metrics.write(tmp_path / "metrics.prom", facts, check.judge(facts, Settings()))

    found = samples((tmp_path / "metrics.prom").read_text())

    assert found["lake_check_status", "lake"] == 2
    assert not any(name.startswith("lake_loads") for name, *_ in found)


def test_a_figure_that_is_not_known_is_missing_and_not_zero(tmp_path: Path) -> None:
    metrics.write(tmp_path / "metrics.prom", Facts(now=NOW, busy=True), [])

    assert ("lake_silent_meterpoints",) not in samples((tmp_path / "metrics.prom").read_text())


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:9/", "http://[/", "ftp://127.0.0.1:9/"])
def test_any_address_of_the_endpoint_that_will_not_do_is_a_metric(tmp_path: Path, address: str) -> None:
    assert samples(metrics.page(settings_of(tmp_path, endpoint_metrics=address)).decode())["lake_endpoint_up",] == 0


def test_a_page_that_cannot_be_written_does_not_stop_the_scheduler(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file in the place of the folder")

    Scheduler(settings_of(tmp_path)).beat()

    assert schedule_state.read(tmp_path / "state")["heartbeat"]


def kept_in(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is found; there may be more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(key in found and kept_in(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(kept_in, found, wanted))
    return bool(found == wanted)


def names_in(expression: str) -> set[str]:
    promql_parser.parse(expression)  # raises where it is none
    return set(re.findall(r"\blake_\w+", expression))


def test_the_examples_ask_for_metrics_that_there_are(written: dict[tuple[str, ...], float]) -> None:
    java = (REPOSITORY / "docker/endpoint-guard/src/lake/guard/Metrics.java").read_text()
    known = {name for name, *_ in written} | set(re.findall(r"\blake_\w+", java)) | {"lake_endpoint_up"}
    dashboard = json.loads((REPOSITORY / "examples/monitoring/grafana.json").read_text())
    rules = yaml.safe_load((REPOSITORY / "examples/monitoring/rules.yml").read_text())["groups"][0]["rules"]
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    for expression in [*asked, *(rule["expr"] for rule in rules)]:
        assert names_in(expression) <= known, expression
    register_default_plugins()
    # Grafana's own classes know each key of it.
    assert kept_in(json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard))), dashboard)
    for place in ("datasources/prometheus.yml", "dashboards/lakehouse.yml"):
        assert yaml.safe_load((REPOSITORY / "examples/monitoring/provisioning" / place).read_text())["apiVersion"] == 1
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


# --- log lines -------------------------------------------------------------------------------------------------------


def test_lines_are_json_where_that_is_asked_for_and_name_the_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKE_LOG_FORMAT", "json")
    monkeypatch.setenv("LAKE_COMMAND", "lake")
    token = logs.load_id.set("20210105T090000-abcdef")

    terminal.say("a [b] `lake status`")
    terminal.warn("two\nlines")
    terminal.fail("it failed")

    logs.load_id.reset(token)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("info", "a [b] `lake status`"),
        ("warning", "two\nlines"),
        ("error", "it failed"),
    ]
    assert {line["load_id"] for line in lines} == {"20210105T090000-abcdef"}


def test_auto_is_json_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for form in ("text", "json", "auto", ""):
        for watched in (True, False):
            monkeypatch.setenv("LAKE_LOG_FORMAT", form)
            monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda watched=watched: watched))
            found[form, watched] = logs.is_json()

    assert [key for key, is_json in found.items() if is_json] == [("json", True), ("json", False), ("auto", False)]


CANARIES = {
    "LAKE_ALARM_WEBHOOK": "ftp://chat.example.org/canary",
    "LAKE_SQL_PASSWORD": "canary",
    "LAKE_PSEUDONYM_KEY": "canary",
    "AWS_SECRET_ACCESS_KEY": "canary",
    "OPENLINEAGE_API_KEY": "canary",
}


@pytest.mark.parametrize(
    ("code", "levels"),
    [
        ("from jobs.cli import main; import sys; sys.argv = ['lake', 'schedule']; main()", ["warning", "error"]),
        (
            "from jobs.telemetry import logs; logs.set_up(); import warnings; warnings.warn('w'); 1 / 0",
            ["warning", "critical"],
        ),
    ],
)
def test_all_that_a_command_says_is_lines_of_json_without_a_secret(
    tmp_path: Path, code: str, levels: list[str]
) -> None:
    environment = {"PYTHONPATH": str(PROJECT), "LAKE_LOG_FORMAT": "json", "LAKE_NONSENSE": "canary", **CANARIES}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert [json.loads(line)["level"] for line in done.stderr.splitlines()] == levels
    assert "canary" not in done.stderr + done.stdout


# --- lineage ---------------------------------------------------------------------------------------------------------

LOAD = "20210105T090000-abcdef"
COLUMNS = [
    StructField("kwh", DecimalType(18, 6), metadata={"comment": "Energy, kWh"}),
    StructField("date", StringType()),
]
SPARK: Any = SimpleNamespace(table=lambda name: SimpleNamespace(schema=StructType(COLUMNS)))
VERDICTS = [
    Verdict(
        *("silver.readings", LOAD, True, (), ("a few are odd",), 2, "page"),
        checks=(Check("keys are unique", True, True), Check("few are odd", False, False)),
        rows=14400,
    ),
    Verdict("mart.half_hourly", LOAD, True, (), (), 0, "page"),
]


@pytest.fixture(autouse=True)
def no_load_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "_at_work", None)
    for name in ("URL", "DISABLED", "CONFIG", "API_KEY"):
        monkeypatch.delenv(f"OPENLINEAGE_{name}", raising=False)
    for key in [key for key in os.environ if key.startswith("OPENLINEAGE__")]:
        monkeypatch.delenv(key)


@pytest.fixture
def got(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as this:
        monkeypatch.setenv("OPENLINEAGE_URL", this.url)
        monkeypatch.setenv("OPENLINEAGE_API_KEY", "secret-key")
        yield this


def settings_in_a_stack() -> Settings:
    return Settings(
        landing="s3a://landing/in",
        warehouse="s3a://lake/warehouse",
        metastore="thrift://metastore:9083",
        metastore_jars=Path("jars"),
    )


def test_a_load_tells_its_start_and_its_end_with_schemas_rows_and_checks(got: Receiver) -> None:
    told: list[str] = []

    lineage.begin("load", LOAD, settings_in_a_stack(), ["readings", "reference"], told.append)
    lineage.ended(SPARK, VERDICTS, published=True, errors=["the reference file was rejected"], warn=told.append)
    lineage.failed("what comes after the end is no second one", told.append)

    start, end = got.events
    assert told == []
    assert got.headers[0]["Authorization"] == "Bearer secret-key"
    assert [(each["eventType"], each["job"]["name"]) for each in got.events] == [
        ("START", "load"),
        ("COMPLETE", "load"),
    ]
    assert {each["run"]["runId"] for each in got.events} == {lineage.run_id(LOAD)}
    assert [(each["namespace"], each["name"]) for each in start["inputs"]] == [
        ("s3://landing", "in/readings"),
        ("s3://landing", "in/reference"),
    ]
    assert end["run"]["facets"]["errorMessage"]["message"] == "the reference file was rejected"
    readings, mart = end["outputs"]
    assert (readings["namespace"], readings["name"]) == ("hive://metastore:9083", "silver.readings")
    assert readings["outputFacets"]["outputStatistics"]["rowCount"] == 14400
    assert "outputFacets" not in mart or not mart["outputFacets"]
    column, _ = readings["facets"]["schema"]["fields"]
    assert (column["name"], column["type"], column["description"]) == ("kwh", "decimal(18,6)", "Energy, kWh")
    checks = readings["facets"]["dataQualityAssertions"]["assertions"]
    assert [(each["assertion"], each["success"], each["severity"]) for each in checks] == [
        ("keys are unique", True, "error"),
        ("few are odd", False, "warn"),
    ]


def test_a_load_that_was_not_published_or_did_not_end_has_failed(got: Receiver) -> None:
    settings = Settings(landing="/data/landing", warehouse="/data/warehouse")
    lineage.begin("rebuild", LOAD, settings, ["silver.readings"], pytest.fail)
    lineage.ended(SPARK, VERDICTS, published=False, errors=["why"], warn=pytest.fail)
    lineage.begin("rebuild", LOAD, settings, ["silver.readings"], pytest.fail)
    lineage.failed("why", pytest.fail)

    assert [each["eventType"] for each in got.events] == ["START", "FAIL"] * 2
    assert {each["run"]["facets"]["errorMessage"]["message"] for each in got.events[1::2]} == {"why"}
    assert got.events[0]["inputs"][0]["namespace"] == "file:///data/warehouse"
    assert lineage._dataset(settings, "readings") == ("file", "/data/landing/readings")


def test_the_address_of_the_repository_is_not_sent(
    got: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    remote = "https://user:canary@example.org/lake.git"
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
    monkeypatch.chdir(tmp_path)

    lineage.begin("load", LOAD, Settings(), ["readings"], pytest.fail)

    assert len(got.events) == 1
    assert "canary" not in json.dumps(got.events)


def test_a_receiver_that_does_not_take_an_event_costs_seconds_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lineage, "SECONDS", 1.0)
    with receiver(silent=True) as silent, receiver(500) as broken:
        for address, why in (
            ("http://user:canary@127.0.0.1:9", "ConnectionError"),
            (broken.url, "RetryError"),
            (silent.url, "no answer in 1 s"),
            ("no address", "ValueError"),
        ):
            monkeypatch.setenv("OPENLINEAGE_URL", address)
            told: list[str] = []
            began = time.monotonic()

            lineage.begin("load", LOAD, Settings(), ["readings"], told.append)

            assert told == [f"the OpenLineage event START was not taken: {why}"]
            assert time.monotonic() - began < 20  # the machine may be busy
    assert capsys.readouterr() == ("", "")


def test_a_table_that_is_not_there_is_a_warning(got: Receiver) -> None:
    told: list[str] = []
    lineage.begin("load", LOAD, Settings(), ["readings"], told.append)

    lineage.ended(None, VERDICTS, published=True, errors=[], warn=told.append)  # type: ignore[arg-type]

    assert told == ["the OpenLineage event COMPLETE was not taken: AttributeError"]


def test_other_settings_of_the_client_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(tmp_path / "events"))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")

    lineage.begin("load", LOAD, Settings(), ["readings"], pytest.fail)
    lineage.failed("why", pytest.fail)

    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [each["eventType"] for each in events] == ["START", "FAIL"]


@pytest.mark.parametrize("settings", [{}, {"OPENLINEAGE_URL": "http://127.0.0.1:9", "OPENLINEAGE_DISABLED": "true"}])
def test_without_a_receiver_nothing_is_told(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(lineage, "_client", lambda: pytest.fail("a client was made"))

    lineage.begin("load", LOAD, Settings(), ["readings"], pytest.fail)
    lineage.ended(SPARK, VERDICTS, published=True, errors=[], warn=pytest.fail)
