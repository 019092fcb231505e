"""Write, audit, publish: a load of which a critical expectation fails publishes nothing, and says so."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import audit
from jobs.load import Summary
from jobs.settings import EXPECTATIONS
from tests.integration.lake import Agreement, Lake, Rows, day
from tests.integration.oracle import Oracle

LATER = timedelta(days=1)
TOO_MANY = 50  # files at fault, from which on their share counts


@dataclass
class State:
    """What readers and operators see after a load."""

    summary: Summary
    gold: dict[str, Rows]
    silver: Rows
    partitions: list[tuple[Any, ...]]


def state_of(lake: Lake, summary: Summary) -> State:
    return State(
        summary,
        lake.gold(),
        lake.view("silver.readings"),
        sorted(
            lake.rows("SHOW PARTITIONS silver.readings_by_layer") + lake.rows("SHOW PARTITIONS mart.daily_by_product")
        ),
    )


@dataclass
class Story:
    """The lakehouse after each of its loads."""

    lake: Lake
    published: State
    all_bad: State
    stopped: State
    repaired: State
    stricter: State
    listed: list[tuple[Any, ...]]  # in quarantine after the load that was stopped


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake], tmp_path_factory: pytest.TempPathFactory) -> Story:
    lake = new_lake()
    landing = lake.landing
    landing.reference([Agreement(1, "home")], ["home"])
    landing.readings("home.json", day("home", "2021-01-01")[:40])  # incomplete: a warning
    published = state_of(lake, lake.load())

    bad = {f"bad-{n}.json": [[start, -1, m] for start, _, m in day(f"bad-{n}", "2021-01-01")] for n in range(TOO_MANY)}
    for name, rows in bad.items():
        landing.readings(name, rows)
    all_bad = state_of(lake, lake.load())

    landing.readings("home.json", day("home", "2021-01-01", 0.5), after=LATER)
    landing.readings("next.json", day("home", "2021-01-02"))
    landing.reference([Agreement(1, "home", product_id="P3")], ["home"], after=LATER)
    stopped = state_of(lake, lake.load())

    listed = lake.rows("SELECT DISTINCT source_file, load_id FROM quarantine.open_readings")
    for name, rows in bad.items():
        landing.readings(name, [[start, 0.1, m] for start, _, m in rows], after=LATER)
    repaired = state_of(lake, lake.load())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "EXPECTATIONS", with_lower_limit(tmp_path_factory.mktemp("suites")))
        landing.readings("much.json", day("home", "2021-01-03", 9.5))
        stricter = state_of(lake, lake.load())
    return Story(lake, published, all_bad, stopped, repaired, stricter, listed)


def with_lower_limit(folder: Path) -> Path:
    """The suites, with a stricter limit for the largest reading, and measures that Spark alone takes."""
    shutil.copytree(EXPECTATIONS, folder, dirs_exist_ok=True)
    for table, measure, sql in (
        ("silver.readings", "max_kwh", "max(round(consumption_kwh, 6))"),
        ("mart.daily_meterpoint_consumption", "rows", "count(upper(meterpoint_id))"),
    ):
        path = folder / f"{table}.json"
        suite = json.loads(path.read_text())
        suite["meta"]["measures"][measure] = sql
        path.write_text(json.dumps(suite))
    path = folder / "silver.readings.json"
    suite = json.loads(path.read_text())
    (expectation,) = [each for each in suite["expectations"] if each["kwargs"].get("column") == "max_kwh"]
    expectation["kwargs"]["max_value"] = 9
    path.write_text(json.dumps(suite))
    return folder


@pytest.mark.parametrize(
    ("load", "before"), [("all_bad", "published"), ("stopped", "all_bad"), ("stricter", "repaired")]
)
def test_a_load_with_a_failed_critical_expectation_changes_nothing_for_readers(
    load: str, before: str, story: Story
) -> None:
    state, earlier = getattr(story, load), getattr(story, before)

    assert not state.summary.published
    assert state.gold == earlier.gold
    assert state.silver == earlier.silver
    assert state.partitions == earlier.partitions


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ("all_bad", "of the load's files are at fault, expected at most 5 %"),
        ("stopped", "of the load's files are at fault, expected at most 5 %"),
        ("stricter", "No half hour exceeds 100 kWh: max_kwh is 9.5"),
    ],
)
def test_a_load_that_was_not_published_says_why(load: str, reason: str, story: Story) -> None:
    summary = getattr(story, load).summary

    assert summary.errors[-1].startswith("not published, readers keep what they had: ")
    assert reason in summary.errors[-1]
    error = "; ".join(summary.errors)
    row = story.lake.rows(f"SELECT status, error FROM gold.load_history WHERE load_id = '{summary.load_id}'")
    assert row == [("failed", error)]


def test_a_new_snapshot_is_not_published_with_a_load_that_fails(story: Story) -> None:
    assert [row[2] for row in story.stopped.gold["active_agreements"].rows] == ["Fixed"]
    assert [row[2] for row in story.repaired.gold["active_agreements"].rows] == ["Variable"]


def test_the_same_files_load_when_the_cause_is_removed(story: Story) -> None:
    summary = story.repaired.summary

    assert summary.published
    assert summary.errors == []
    assert summary.files == {"loaded": 2 + TOO_MANY}
    assert summary.snapshot_date == date(2021, 11, 3)


def test_gold_says_then_what_the_landing_place_says(story: Story) -> None:
    landing = story.lake.landing.folder
    (landing / "readings/much.json").unlink()  # it was never published

    for view, (columns, rows) in Oracle(landing).gold().items():
        assert (story.stricter.gold[view].columns, story.stricter.gold[view].rows) == (columns, rows), view


def test_a_failed_warning_is_published_and_reported(story: Story) -> None:
    summary = story.published.summary

    assert summary.published
    assert any("incomplete" in warning for warning in summary.warnings)
    row = story.lake.rows(f"SELECT status, warnings, error FROM ops.loads WHERE load_id = '{summary.load_id}'")
    assert row == [("published", len(summary.warnings), None)]


def test_what_a_load_that_failed_rejected_is_listed_until_it_is_put_right(story: Story) -> None:
    assert sorted(story.listed) == sorted(
        (f"readings/bad-{n}.json", story.stopped.summary.load_id) for n in range(TOO_MANY)
    )
    assert story.lake.value("SELECT count(*) FROM quarantine.open_readings") == 0


def test_every_validation_has_its_page_and_the_index_lists_every_load(story: Story) -> None:
    reports = story.lake.settings.reports
    index = (reports / "checks.html").read_text()

    pages = story.lake.rows("SELECT load_id, table_name, page FROM ops.validations")

    verdicts = [
        (state.summary.load_id, verdict.table, verdict.page)
        for state in (story.published, story.all_bad, story.stopped, story.repaired, story.stricter)
        for verdict in state.summary.verdicts
    ]
    assert sorted(pages) == sorted(verdicts)
    for load_id, table, page in pages:
        text = (reports / page).read_text()
        assert table in text
        assert load_id in text
        assert load_id in index
        assert f'href="{page}"' in index


def test_the_page_of_a_failed_validation_names_the_failed_expectation(story: Story) -> None:
    (page,) = [v.page for v in story.stopped.summary.verdicts if v.table == "ops.load_files"]

    text = (story.lake.settings.reports / page).read_text()

    assert "At most 5 % of the load" in text
    assert "failed" in text
