"""Metrics, log lines and lineage: what others see of the lakehouse at work."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from jobs import check, schedule_state
from jobs.check import Facts, Finding, Level
from jobs.cli import terminal
from jobs.quality import Verdict
from jobs.settings import Settings
from jobs.telemetry import lineage, logs, metrics

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


# --- lineage ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[dict[str, str], dict[str, Any]]]]:
    """A local receiver of OpenLineage events, and what it got: headers and events."""
    got: list[tuple[dict[str, str], dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((dict(self.headers), json.loads(content)))
            self.send_response(201)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "secret-key")
    yield got
    server.shutdown()
    server.server_close()


def test_a_load_tells_its_start_and_its_end_with_tables_rows_and_checks(
    receiver: list[tuple[dict[str, str], dict[str, Any]]],
) -> None:
    settings, load_id = Settings(landing="s3a://landing", warehouse="s3a://lake/warehouse"), "20210105T090000-abcdef"
    verdicts = [
        Verdict("silver.readings", load_id, True, (), (), 9, "page"),
        Verdict("mart.half_hourly", load_id, True, (), ("odd",), 9, "page"),
    ]
    told: list[str] = []

    lineage.tell("START", load_id, settings, warn=told.append)
    lineage.ended(settings, load_id, verdicts, 14400, [], told.append)
    lineage.ended(settings, load_id, [], 0, ["not published: why"], told.append)

    (headers, start), (_, end), (_, failed) = receiver
    assert headers["Authorization"] == "Bearer secret-key"
    assert [each["eventType"] for each in (start, end, failed)] == ["START", "COMPLETE", "FAIL"]
    assert {each["run"]["runId"] for each in (start, end, failed)} == {lineage.run_id(load_id)}
    assert [(each["namespace"], each["name"]) for each in start["inputs"]] == [
        ("s3a://landing", "readings"),
        ("s3a://landing", "reference"),
    ]
    outputs = {each["name"]: each for each in end["outputs"]}
    assert outputs["silver.readings"]["outputFacets"]["outputStatistics"]["rowCount"] == 14400
    checks = outputs["mart.half_hourly"]["facets"]["dataQualityAssertions"]["assertions"]
    assert [each["success"] for each in checks] == [True, False]
    assert failed["run"]["facets"]["errorMessage"]["message"] == "not published: why"
    assert told == []


def test_a_receiver_that_is_not_there_is_a_warning_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://user:canary@127.0.0.1:9")
    told: list[str] = []

    lineage.tell("START", "20210105T090000-abcdef", Settings(), warn=told.append)

    assert len(told) == 1 and "no lineage was taken of the event START" in told[0]
    assert "canary" not in told[0]


def test_without_a_receiver_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENLINEAGE_URL", raising=False)
    monkeypatch.setattr(lineage, "_client", lambda: pytest.fail("a client was made"))

    lineage.tell("START", "20210105T090000-abcdef", Settings(), warn=pytest.fail)
