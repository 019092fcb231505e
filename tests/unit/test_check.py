"""What `lake check` makes of facts."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import overview, schedule_state
from jobs.check import LONDON, Facts, Level, as_json, expected_date, gather, holds, judge, lake_facts, telling, worst
from jobs.settings import Settings

SETTINGS = Settings()
NOW = datetime(2026, 6, 10, 9, 0, tzinfo=LONDON)
GOOD = Facts(
    now=NOW,
    last_reading_date=date(2026, 6, 9),
    days_read=frozenset({date(2026, 6, 9), date(2026, 6, 8)}),
    snapshot_date=date(2026, 6, 10),
    last_load_id="L1",
    last_load_status="published",
    certificate_until=NOW + timedelta(days=200),
    free_percent={"/var": 50.0},
    scheduler_heartbeat=NOW - timedelta(seconds=20),
)


def levels(facts: Facts, settings: Settings = SETTINGS) -> dict[str, Level]:
    return {finding.name: finding.level for finding in judge(facts, settings)}


def test_all_is_well_when_every_fact_is_good() -> None:
    assert set(levels(GOOD).values()) == {Level.ok}
    assert set(levels(GOOD)) == {
        "lake", "delivery", "load", "snapshot", "silent", "quarantine", "certificate", "disk", "scheduler",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("check", "level", "changed"),
    [
        ("lake", Level.critical, {"lake_error": "refused"}),
        ("delivery", Level.critical, {"last_reading_date": date(2026, 6, 8)}),
        ("delivery", Level.critical, {"last_reading_date": None}),
        ("delivery", Level.ok, {"last_reading_date": date(2026, 6, 10)}),
        ("delivery", Level.critical, {"last_reading_date": date(2026, 6, 10), "days_read": {date(2026, 6, 10)}}),
        ("delivery", Level.warning, {"loaded": False}),
        ("load", Level.critical, {"last_load_status": "failed", "last_load_error": "too many rejected"}),
        ("load", Level.critical, {"last_load_status": "failed"}),
        ("load", Level.warning, {"last_load_error": "case_study.db: no table agreement"}),
        ("load", Level.ok, {"last_load_status": "rollback"}),
        ("load", Level.warning, {"publishing": "L2"}),
        ("load", Level.critical, {"publishing": "L2", "last_load_status": "failed"}),
        ("snapshot", Level.warning, {"snapshot_date": date(2026, 6, 8)}),
        ("snapshot", Level.ok, {"snapshot_date": date(2026, 6, 9)}),
        ("snapshot", Level.warning, {"snapshot_date": None}),
        ("silent", Level.warning, {"silent": 1, "silent_examples": ["m1"]}),
        ("quarantine", Level.warning, {"newly_rejected_rows": 1}),
        ("quarantine", Level.warning, {"newly_rejected_files": 1}),
        ("certificate", Level.warning, {"certificate_until": NOW + timedelta(days=29)}),
        ("certificate", Level.ok, {"certificate_until": NOW + timedelta(days=30)}),
        ("certificate", Level.critical, {"certificate_until": NOW}),
        ("certificate", Level.critical, {"certificate_error": "no PEM"}),
        ("disk", Level.warning, {"free_percent": {"/a": 60.0, "/b": 9.9}}),
        ("disk", Level.critical, {"free_percent": {"/a": 4.9}}),
        ("scheduler", Level.critical, {"scheduler_heartbeat": NOW - timedelta(minutes=4)}),
    ],
)
def test_one_bad_fact_is_one_finding(check: str, level: Level, changed: dict[str, Any]) -> None:
    found = levels(replace(GOOD, **changed))
    assert found.pop(check) is level
    assert set(found.values()) <= {Level.ok}


def test_what_is_not_known_is_not_judged() -> None:
    assert set(levels(Facts(now=NOW, lake_error="refused"))) == {"lake"}
    assert levels(Facts(now=NOW, busy=True)) == {"lake": Level.ok}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 6, 10, 8, 29, tzinfo=LONDON), date(2026, 6, 8)),
        (datetime(2026, 6, 10, 8, 30, tzinfo=LONDON), date(2026, 6, 9)),
        (datetime(2026, 6, 10, 7, 30, tzinfo=UTC), date(2026, 6, 9)),  # 08:30 in London
        (datetime(2026, 6, 9, 23, 30, tzinfo=UTC), date(2026, 6, 8)),  # half past midnight there
        (datetime(2026, 1, 1, 8, 30, tzinfo=UTC), date(2025, 12, 31)),
        (datetime(2028, 3, 1, 9, 0, tzinfo=LONDON), date(2028, 2, 29)),
        (datetime(2026, 3, 29, 7, 30, tzinfo=UTC), date(2026, 3, 28)),
        (datetime(2026, 3, 29, 7, 29, tzinfo=UTC), date(2026, 3, 27)),
        (datetime(2026, 10, 25, 8, 29, tzinfo=UTC), date(2026, 10, 23)),
        (datetime(2026, 10, 25, 8, 30, tzinfo=UTC), date(2026, 10, 24)),
    ],
)
def test_yesterday_is_expected_from_the_deadline_on(now: datetime, expected: date) -> None:
    assert expected_date(SETTINGS, now) == expected


def test_a_message_is_one_line_and_names_some_of_many() -> None:
    facts = replace(GOOD, last_load_status="failed", last_load_error="a\nb", silent=6, silent_examples=list("abcdef"))
    texts = {finding.name: finding.text for finding in judge(facts, SETTINGS)}
    assert texts["load"] == "load L1: a b"
    assert texts["silent"] == "6 meterpoints fell silent: a, b, c, d, e, …"


def test_json_and_exit_status_tell_the_worst() -> None:
    findings = judge(replace(GOOD, newly_rejected_rows=1), SETTINGS)
    assert '"status": "warning"' in as_json(findings)
    assert worst(findings) == 1
    assert worst([]) is Level.unknown


def test_a_lake_that_does_not_answer_is_a_fact(tmp_path: Path) -> None:
    schedule_state.write(tmp_path, {"heartbeat": NOW.isoformat()})
    settings = Settings(endpoint="127.0.0.1:1", state=tmp_path, reports=tmp_path, warehouse=str(tmp_path))
    facts = gather(settings, NOW)
    assert facts.lake_error
    assert facts.scheduler_heartbeat == NOW
    assert 0 <= facts.free_percent[str(tmp_path)] <= 100


@pytest.mark.parametrize(
    ("loads", "place"),
    [
        ([("load", "published"), ("load", "failed")], 0),
        ([("load", "failed"), ("load", "published")], 0),
        ([("dismiss", "published"), ("rebuild", "published"), ("load", "failed")], 2),
        ([("rebuild", "failed"), ("load", "published")], 0),
        # Its files are known, and a person has dealt with them.
        ([("dismiss", "published"), ("load", "rejected")], 0),
        ([("rollback", "rollback"), ("load", "rolled back")], 0),
        ([("upgrade", "published"), (None, "failed")], 1),
        ([("rebuild", "published")], 0),
    ],
)
def test_files_that_wait_are_told_whatever_a_person_did_since(loads: list[tuple[str | None, str]], place: int) -> None:
    assert telling(loads) == place


TOLD: dict[str, Any] = {
    "days_read": ["2026-06-09"],
    "publishing": None,
    "asked_on": "2026-06-10",
    "last_load": ["L1", "published", None],
    "last_reading_date": "2026-06-09",
    "snapshot_date": "2026-06-10",
    "rejected": [["2026-06-09", 3, 1], ["2026-06-10", 20, 0]],
    "silent_on": "2026-06-09",
    "silent": 7,
    "silent_examples": ["m1", "m2"],
}


@pytest.mark.parametrize(
    ("now", "rows", "files"),
    [
        (datetime(2026, 6, 10, 23, 59, tzinfo=UTC), 23, 1),
        (datetime(2026, 6, 11, 0, 0, tzinfo=UTC), 20, 0),
        (datetime(2026, 6, 12, 0, 0, tzinfo=UTC), 0, 0),
    ],
)
def test_what_was_asked_tells_on_later_days_what_is_rejected_since_yesterday(
    now: datetime, rows: int, files: int
) -> None:
    facts = lake_facts(TOLD, now)

    assert holds(TOLD, now)
    assert (facts["newly_rejected_rows"], facts["newly_rejected_files"]) == (rows, files)
    assert facts["last_reading_date"] == date(2026, 6, 9)


@pytest.mark.parametrize(
    ("newest", "silent_on", "now", "expected"),
    [
        ("2026-06-09", "2026-06-09", datetime(2030, 1, 1, tzinfo=UTC), True),
        ("2026-06-10", "2026-06-09", datetime(2026, 6, 10, 22, 59, tzinfo=UTC), True),
        ("2026-06-10", "2026-06-09", datetime(2026, 6, 10, 23, 0, tzinfo=UTC), False),  # the next day in London
        ("2026-06-10", "2026-06-10", datetime(2026, 6, 11, tzinfo=UTC), True),
        ("2026-06-09", "2026-06-09", datetime(2026, 6, 9, 23, 59, tzinfo=UTC), False),  # the clock was set back
        (None, None, datetime(2030, 1, 1, tzinfo=UTC), True),
    ],
)
def test_who_is_silent_is_asked_again_once_a_day_with_readings_is_over(
    newest: str | None, silent_on: str | None, now: datetime, expected: bool
) -> None:
    assert holds(TOLD | {"last_reading_date": newest, "silent_on": silent_on}, now) is expected


def test_a_check_starts_no_spark_while_what_is_kept_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(state=tmp_path, reports=tmp_path, warehouse=str(tmp_path))
    assert not gather(settings, NOW).loaded, "nothing was ever loaded"
    (tmp_path / "metastore").mkdir()
    of_load = {"load_id": "L1", "status": "published", "error": None}
    freshness = {name: TOLD[name] for name in ("last_reading_date", "snapshot_date")}
    known = {"loaded": True, "loads": [of_load], "freshness": freshness}
    overview.keep(settings, known | {overview.CHECK: TOLD}, "")

    def no_spark(_: Settings) -> None:
        raise RuntimeError("Spark is started")

    monkeypatch.setattr("jobs.spark.start_session", no_spark)
    found = gather(settings, NOW)
    by_tables = gather(settings, NOW - timedelta(days=2)).lake_error
    (tmp_path / "metastore" / "db.lck").touch()

    assert (found.silent, found.newly_rejected_rows, found.last_load_id) == (7, 23, "L1")
    assert by_tables == gather(settings, NOW).lake_error == "Spark is started"
    with_metrics = settings.model_copy(update={"metrics_file": tmp_path / "metrics.prom"})
    assert gather(with_metrics, NOW).lake_error == "Spark is started", "of the figures nothing is kept"


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule_readings": "25:00"},
        {"schedule_readings": "8"},
        {"schedule_reference": "08:05,"},
        {"deadline": "08:00, 09:00"},
        {"deadline": "none"},
        {"alarm_webhook": "http://example.org/hook-secret"},
        {"alarm_webhook": "file:///etc/hook-secret"},
        {"alarm_webhook": "https://[hook-secret"},
        {"alarm_smtp": "smtps://mail.example.org"},
        {"alarm_smtp": "smtp-plain://mail.example.org", "alarm_from": "a@b", "alarm_to": "c@d"},
        {"alarm_smtp": "smtps://user:hook-secret@mail.example.org", "alarm_from": "a@b", "alarm_to": "c@d"},
        {"alarm_smtp": "smtps://mail.example.org", "alarm_from": "a@b\nBcc: x@y", "alarm_to": "c@d"},
    ],
)
def test_a_setting_that_will_not_do_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Settings(**wrong)
