"""Metrics in Prometheus' text format: a file that each check writes anew, and the page `metrics` beside the reports.

Names and units follow Prometheus' rules. No label holds what a person or a sender wrote: their values come from the
code, but for the names of folders.
"""

import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry, generate_latest, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from jobs import check, schedule_state
from jobs.check import Facts, Finding
from jobs.settings import Settings

if TYPE_CHECKING:
    from jobs.overview import Query

ENDPOINT_SECONDS = 5  # the endpoint has to answer in, or its metrics are left out
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))

_LOADS = """
    SELECT
      status, count(*) AS loads, max(unix_timestamp(finished_at)) AS finished_at,
      sum(files_loaded) AS files_loaded, sum(files_rejected) AS files_rejected,
      sum(readings_loaded) AS readings_loaded, sum(readings_rejected) AS readings_rejected
    FROM ops.loads GROUP BY status
"""
_STAGES = """
    SELECT explode(seconds)
    FROM (SELECT max_by(stage_seconds, load_id) AS seconds FROM ops.loads WHERE status = 'published')
"""
_REASONS = """
    SELECT reason, sum(`rows`)
    FROM (SELECT explode(rejected_by_reason) AS (reason, `rows`) FROM ops.loads) GROUP BY reason
"""
_OPEN = "SELECT (SELECT count(*) FROM quarantine.open_readings), (SELECT count(*) FROM quarantine.open_files)"
_NEWEST = """
    SELECT unix_timestamp(last_reading_utc), last_reading_date, snapshot_date,
      (SELECT max_by(received_share, date) FROM gold.daily_completeness WHERE date <= last_reading_date)
    FROM gold.data_freshness
"""


def figures(query: "Query") -> dict[str, list[Sequence[Any]]]:
    """What the tables tell, by name of the question; of a lakehouse that was loaded. Raises QueryError."""
    asked = {"loads": _LOADS, "stages": _STAGES, "reasons": _REASONS, "open": _OPEN, "newest": _NEWEST}
    return {name: [tuple(row) for row in query(statement).rows] for name, statement in asked.items()}


def of_lake(found: Mapping[str, list[Sequence[Any]]]) -> Iterable[Metric]:
    """Metrics of what `figures` found."""
    loads = CounterMetricFamily("lake_loads", "Loads that ended, by status", labels=["status"])
    ended = GaugeMetricFamily(
        "lake_load_end_timestamp_seconds", "When the last load of a status ended", labels=["status"]
    )
    files = CounterMetricFamily("lake_files", "Files that loads read, by what became of them", labels=["status"])
    rows = CounterMetricFamily("lake_readings", "Rows that loads read, by what became of them", labels=["status"])
    for status, count, finished_at, *_ in found["loads"]:
        loads.add_metric([status], count)
        ended.add_metric([status], finished_at)
    for family, first in ((files, 3), (rows, 5)):
        for number, status in enumerate(("loaded", "rejected")):
            family.add_metric([status], sum(row[first + number] or 0 for row in found["loads"]))
    reasons = CounterMetricFamily("lake_rejected", "Rejected rows and files, by reason", labels=["reason"])
    for reason, count in found["reasons"]:
        reasons.add_metric([reason], count)
    stages = GaugeMetricFamily(
        "lake_load_stage_duration_seconds", "How long the last published load took", labels=["stage"]
    )
    for stage, seconds in found["stages"]:
        stages.add_metric([stage], seconds)
    yield from (loads, ended, files, rows, reasons, stages)
    ((open_rows, open_files),) = found["open"]
    opened = GaugeMetricFamily("lake_quarantine", "Rows and whole files in quarantine that are open", labels=["kind"])
    opened.add_metric(["row"], open_rows)
    opened.add_metric(["file"], open_files)
    yield opened
    ((reading, reading_date, snapshot, share),) = found["newest"]
    for name, text, value in (
        ("lake_newest_reading_timestamp_seconds", "Start of the newest half hour with readings", reading),
        (
            "lake_newest_reading_date_timestamp_seconds",
            "Newest local date with readings, as its 00:00 UTC",
            reading_date,
        ),
        ("lake_snapshot_timestamp_seconds", "Date of the reference snapshot, as its 00:00 UTC", snapshot),
        ("lake_newest_date_received_ratio", "Half hours received on the newest date, of those expected", share),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, text, value=_number(value))


def _number(value: Any) -> float:
    """A number; of a date its midnight, which the endpoint's client may give as text."""
    day = date.fromisoformat(value) if isinstance(value, str) and value.count("-") == 2 else value
    return datetime.combine(day, time(), UTC).timestamp() if isinstance(day, date) else float(day)


def of_check(facts: Facts, findings: Sequence[Finding]) -> Iterable[Metric]:
    """Metrics of a check."""
    yield GaugeMetricFamily("lake_check_timestamp_seconds", "When was checked", value=facts.now.timestamp())
    levels = GaugeMetricFamily("lake_check_status", "0 ok, 1 warning, 2 critical, 3 unknown", labels=["check"])
    for name, level, _ in findings:
        levels.add_metric([name], int(level))
    yield levels
    if facts.last_reading_date is not None:
        yield GaugeMetricFamily("lake_silent_meterpoints", "Meterpoints that fell silent", value=facts.silent)
    free = GaugeMetricFamily("lake_disk_free_ratio", "Free share of the disk of a folder", labels=["folder"])
    for folder, percent in facts.free_percent.items():
        free.add_metric([folder], percent / 100)
    yield free
    if facts.certificate_until:
        until = facts.certificate_until.timestamp()
        yield GaugeMetricFamily("lake_certificate_end_timestamp_seconds", "End of the certificate", value=until)


def of_scheduler(settings: Settings) -> Iterable[Metric]:
    """Metrics of the scheduler's state file."""
    state = schedule_state.read(settings.state)
    if beat := state.get("heartbeat"):
        yield GaugeMetricFamily(
            "lake_scheduler_heartbeat_timestamp_seconds", "Last sign of the scheduler", value=_seconds(beat)
        )
    ran = GaugeMetricFamily("lake_scheduler_run_timestamp_seconds", "When a job last began", labels=["job"])
    took = GaugeMetricFamily("lake_scheduler_run_duration_seconds", "How long it took", labels=["job"])
    status = GaugeMetricFamily("lake_scheduler_run_exit_status", "Its exit status", labels=["job"])
    for job, last in state.get("jobs", {}).items():
        if "started" in last:
            ran.add_metric([job], _seconds(last["started"]))
            took.add_metric([job], last["seconds"])
            status.add_metric([job], last["exit_status"])
    yield from (ran, took, status)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class _Once:
    """Metrics as Prometheus' client collects them."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self.metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self.metrics


def registry_of(*parts: Iterable[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry()
    for part in parts:
        registry.register(_Once(part))
    return registry


def write(path: Path, facts: Facts, findings: Sequence[Finding]) -> None:
    """Replace the file in one step. Where the lake could not be asked, its figures are missing. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lake = of_lake(facts.figures) if facts.figures else ()
    write_to_textfile(str(path), registry_of(of_check(facts, findings), lake))


def after_run(settings: Settings, told: Mapping[str, Any], now: datetime) -> None:
    """Write the file with what a run left, as `check.ask` told it. Raises OSError."""
    facts = Facts(now=now, **check.machine_facts(settings), **check.lake_facts(told, now))
    write(cast("Path", settings.metrics_file), facts, check.judge(facts, settings))


def page(settings: Settings) -> bytes:
    """All that is known now: of the scheduler, of the last check, and of the SQL endpoint, if it answers."""
    parts = [generate_latest(registry_of(of_scheduler(settings)))]
    if settings.metrics_file and settings.metrics_file.exists():
        parts.append(settings.metrics_file.read_bytes())
    answers = 0
    if settings.endpoint_metrics:
        try:
            # Without a proxy that the environment names: it is a service beside this one.
            with _NO_PROXY.open(settings.endpoint_metrics, timeout=ENDPOINT_SECONDS) as answer:
                parts.append(answer.read())
            answers = 1
        except (OSError, HTTPException, ValueError):
            pass
        up = GaugeMetricFamily("lake_endpoint_up", "Whether the SQL endpoint gave its metrics", value=answers)
        parts.append(generate_latest(registry_of([up])))
    return b"".join(parts)


def publish(settings: Settings) -> None:
    """Put the page beside the reports, as `metrics`, in one step. Raises OSError."""
    settings.reports.mkdir(parents=True, exist_ok=True)
    draft = settings.reports / ".metrics"
    draft.write_bytes(page(settings))
    draft.replace(settings.reports / "metrics")
