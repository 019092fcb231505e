"""The front page and the loads' pages of a lakehouse in which something happened."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest

from jobs import dismiss
from jobs.load import Summary
from jobs.reports import front, gather
from jobs.reports.facts import LoadFacts
from jobs.reports.overview import DayTotal
from jobs.settings import Settings
from tests.integration.lake import Agreement, Lake, day

NOW = datetime(2021, 11, 3, 9, 0, tzinfo=UTC)


class Story(NamedTuple):
    """A first load with a bad row and a bad file, a correction, and its rollback."""

    lake: Lake
    first: Summary
    correction: Summary
    rollback: Summary


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake]) -> Story:
    lake = new_lake()
    lake.landing.reference([Agreement(1, "m1"), Agreement(2, "m2")], ["m1", "m2"])
    lake.landing.readings("m1.json", [*day("m1", "2021-10-31"), *day("m1", "2021-11-01")])
    lake.landing.readings("m2.json", [*day("m2", "2021-10-31"), ["2021-10-30 12:00:00", -1.0, "m2"]])
    lake.landing.raw("readings/bad.json", b"[")
    lake.landing.raw("notes.txt", b"")
    first = lake.load()
    lake.landing.readings("m1.json", day("m1", "2021-11-01", kwh=0.5), after=timedelta(hours=1))
    correction = lake.load()
    return Story(lake, first, correction, lake.undo(correction.load_id))


def facts(story: Story, summary: Summary) -> LoadFacts:
    found = front.read(story.lake.settings.reports, summary.load_id)
    assert found
    return found


def test_a_load_is_kept_as_it_was(story: Story) -> None:
    first = facts(story, story.first)

    assert (first.rows_read, first.rows_loaded, first.rows_rejected) == (149, 148, 1)
    assert first.balanced
    assert first.rejected == {"consumption_negative": 1, "not_json": 1}
    assert [each.name for each in first.rejected_files] == ["readings/bad.json"]
    assert first.files == {"loaded": 3, "rejected": 1}
    assert (first.first_date, first.last_date, first.dates) == (date(2021, 10, 31), date(2021, 11, 1), 2)
    assert any("notes.txt" in note for note in first.notes)
    assert story.lake.run() is None
    assert any("notes.txt" in text for text in story.lake.told)
    assert {check.table for check in first.checks} >= {"silver.readings", "mart.half_hourly"}
    assert first.stages["build marts"] > 0


def test_a_correction_tells_what_it_changed(story: Story) -> None:
    [change] = facts(story, story.correction).changes

    assert (change.date, change.added, change.changed, change.removed) == (date(2021, 11, 1), 0, 48, 0)


def test_a_load_that_was_rolled_back_says_so_on_its_page(story: Story) -> None:
    reports = story.lake.settings.reports

    assert facts(story, story.correction).rolled_back_by == story.rollback.load_id
    page = (reports / "loads" / f"{story.correction.load_id}.html").read_text()
    assert f'href="{story.rollback.load_id}.html"' in page
    assert facts(story, story.rollback).undid == story.correction.load_id


def test_every_link_leads_to_a_page(story: Story) -> None:
    reports = story.lake.settings.reports
    pages = [reports / "index.html", *(reports / "loads").glob("*.html")]

    links = [(page, link) for page in pages for link in re.findall(r'href="([^"#]+)"', page.read_text())]

    assert len(pages) == 5  # the front page, three loads and a year
    assert len(links) > 20
    for page, link in links:
        assert link == "data:," or (page.parent / link).is_file(), f"{page.name}: {link}"


def test_the_front_page_is_of_what_the_tables_hold(story: Story) -> None:
    value = gather.overview(story.lake.spark, story.lake.settings, NOW, [facts(story, story.first)], [2021])

    assert list(value.totals) == [
        DayTotal(date(2021, 10, 31), 100, Decimal("25")),
        DayTotal(date(2021, 11, 1), 48, Decimal("12")),
    ]
    newest = {each.tables: each.newest for each in value.freshness}
    assert newest["silver.readings"] == newest["mart.daily_by_product"] == date(2021, 11, 1)
    assert {each.wanted for each in value.freshness if each.tables.startswith("mart.")} == {date(2021, 11, 2)}
    assert value.due == datetime(2021, 11, 4, 8, 30, tzinfo=UTC)
    assert [(each.date, each.expected, each.received) for each in value.completeness] == [
        (date(2021, 10, 31), 100, 100),
        (date(2021, 11, 1), 96, 48),
    ]
    assert [(each.meterpoint_id, each.missing, each.silent_days) for each in value.worst] == [("m2", 48, 1)]
    findings = {each.name: each.text for each in value.findings}
    assert "those of 2021-11-02 are missing" in findings["delivery"]
    assert findings["silent"] == "1 meterpoint fell silent: m2"


def test_a_load_without_a_page_gets_one_and_the_others_stay(story: Story) -> None:
    reports = story.lake.settings.reports
    lost, kept = (reports / "loads" / f"{summary.load_id}.html" for summary in (story.rollback, story.first))
    before = kept.stat().st_mtime_ns
    lost.unlink()
    lost.with_suffix(".json").unlink()

    front.publish(story.lake.spark, story.lake.settings)

    assert lost.is_file()
    assert kept.stat().st_mtime_ns == before
    assert not list(reports.rglob("*.tmp"))


def test_reports_that_were_deleted_are_made_anew(story: Story, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = Settings(**(story.lake.settings.model_dump() | {"reports": tmp_path_factory.mktemp("reports")}))

    front.publish(story.lake.spark, elsewhere)

    for summary in (story.first, story.correction, story.rollback):
        anew = front.read(elsewhere.reports, summary.load_id)
        assert anew
        assert (anew.state, anew.rows_read) == (facts(story, summary).state, facts(story, summary).rows_read)


def test_what_was_put_right_or_dismissed_is_no_warning_any_more(story: Story) -> None:
    def quarantine() -> str:
        value = gather.overview(story.lake.spark, story.lake.settings, NOW, [facts(story, story.first)], [2021])
        return next(each.text for each in value.findings if each.name == "quarantine")

    before = quarantine()
    dismiss.run(story.lake.spark, story.lake.settings, ["readings/bad.json", "readings/m2.json"])

    assert before == "since yesterday 1 row and 1 whole file were rejected"
    assert quarantine() == "nothing rejected since yesterday is open"
