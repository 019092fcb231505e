"""Files delivered again, late or twice, and a new reference snapshot: the newest delivery wins, and no more is
rewritten than must be. After each load gold says what the whole landing place says, as if it had been loaded at once.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jobs.load import Summary
from jobs.tables import BY_YEAR
from tests.integration.lake import Agreement, Lake, Landing, Rows, day
from tests.integration.oracle import Answer, Oracle

HOUR = timedelta(hours=1)
LATER = timedelta(days=1)
DATES = [date(2020, 12, 31), *(date(2021, 1, n) for n in (1, 2, 3, 5, 10, 11, 20, 25))]
TABLES = ("silver.readings", "mart.daily_meterpoint_consumption")
AGREEMENTS = [
    Agreement(1, "values", product_id="P1"),
    Agreement(2, "values", "2021-01-02", "2021-01-03", "P3"),
    Agreement(3, "rows", product_id="P3"),
    Agreement(4, "dates", product_id="P2"),
]


@dataclass
class State:
    """The lakehouse after a load."""

    summary: Summary | None
    gold: dict[str, Rows]
    expected: dict[str, Answer]
    folders: dict[str, dict[str, str]]  # by table and partition

    def rewritten(self, before: "State", table: str) -> list[str]:
        """Dates, or years, whose content is in another folder than before."""
        earlier = before.folders[table]
        return sorted(value for value, folder in self.folders[table].items() if folder != earlier.get(value))


def state_of(lake: Lake, summary: Summary | None) -> State:
    folders = {table: lake.folders(table) for table in (*TABLES, *BY_YEAR)}
    said = lake.landing.folder.parent / "said"
    shutil.copytree(lake.landing.folder, said, dirs_exist_ok=True)
    return State(summary, lake.gold(), Oracle(said).gold(), folders)


@dataclass
class Story:
    """The lakehouse after each of its loads."""

    lake: Lake
    first: State
    corrected: State
    returned: State
    new_snapshot: State
    nothing_new: State


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake]) -> Story:
    lake = new_lake()
    landing = lake.landing
    three = ["2021-01-01", "2021-01-02", "2021-01-03"]
    values = [row for each in three for row in day("values", each, 0.25)]
    landing.reference(AGREEMENTS, ["values", "rows", "dates"])
    landing.readings("values.json", values)
    landing.readings("rows.json", day("rows", "2021-01-03", 0.3) + day("rows", "2021-01-10", 0.3))
    landing.readings("dates.json", day("dates", "2021-01-10", 0.1) + day("dates", "2021-01-11", 0.1))
    untouched = day("untouched", "2021-01-05", 0.5)
    landing.readings("untouched.json", untouched)
    landing.readings("old.json", day("rows", "2020-12-31"))
    # Pairs of files that have the same readings: the one modified first, and the one modified last, may arrive first.
    landing.readings("pair-1-early.json", day("pair-1", "2021-01-20", 1), after=HOUR)
    landing.readings("pair-2-late.json", day("pair-2", "2021-01-20", 2), after=2 * HOUR)
    first = state_of(lake, lake.load())

    landing.readings("values.json", [[start, kwh * 2, m] for start, kwh, m in values], after=LATER)
    landing.readings("rows.json", day("rows", "2021-01-03", 0.3)[:24] + day("rows", "2021-01-10", 0.3), after=LATER)
    # Of 11 January it says nothing any more, so that what it said before stays.
    landing.readings("dates.json", day("dates", "2021-01-10", 0.1), after=LATER)
    Landing(landing.folder.parent / "said").readings("dates-11.json", day("dates", "2021-01-11", 0.1))
    landing.touch("readings/untouched.json", LATER)
    landing.readings("late.json", day("late", "2020-12-31"), after=LATER)
    landing.readings("pair-1-late.json", day("pair-1", "2021-01-20", 2), after=2 * HOUR)
    landing.readings("pair-2-early.json", day("pair-2", "2021-01-20", 1), after=HOUR)
    landing.readings("new.json", day("rows", "2021-01-25"), after=LATER)
    corrected = state_of(lake, lake.load())

    # The later of the pair takes back half of what it said: the earlier one has it, and was loaded long ago.
    landing.readings("pair-1-late.json", day("pair-1", "2021-01-20", 2)[:24], after=LATER)
    returned = state_of(lake, lake.load())

    other = [AGREEMENTS[0], AGREEMENTS[1]._replace(product_id="P2"), *AGREEMENTS[2:]]
    landing.reference(other, ["values", "rows", "dates"], after=2 * LATER)
    new_snapshot = state_of(lake, lake.load())

    nothing_new = state_of(lake, lake.run())
    return Story(lake, first, corrected, returned, new_snapshot, nothing_new)


@pytest.mark.parametrize("load", ["first", "corrected", "returned", "new_snapshot", "nothing_new"])
def test_gold_says_after_each_load_what_the_landing_place_says(load: str, story: Story) -> None:
    state: State = getattr(story, load)

    for view, (columns, rows) in state.expected.items():
        assert state.gold[view].columns == columns, view
        assert state.gold[view].rows == rows, view


def test_a_correction_rewrites_the_dates_of_its_files_old_and_new_and_no_others(story: Story) -> None:
    touched = [day for day in DATES if day not in (date(2021, 1, 5), date(2021, 1, 11))]

    summary = story.corrected.summary

    assert summary is not None
    assert summary.dates == summary.mart_dates == touched
    for table in TABLES:
        assert story.corrected.rewritten(story.first, table) == [str(day) for day in touched], table
    for table in BY_YEAR:
        assert story.corrected.rewritten(story.first, table) == ["2020", "2021"], table


def test_a_day_that_a_correction_does_not_speak_of_stays_as_it_was(story: Story) -> None:
    day = date(2021, 1, 11)

    def readings(state: State) -> int:
        return sum(row[3] == day for row in state.gold["readings_enriched"].rows)

    assert (readings(story.first), readings(story.corrected)) == (48, 48)


def test_a_file_with_new_values_replaces_all_that_it_said_before(story: Story) -> None:
    kwh = {row[4] for row in story.corrected.gold["readings_enriched"].rows if row[0] == "values"}

    assert kwh == {Decimal("0.5")}


def test_the_same_bytes_again_are_no_new_data(story: Story) -> None:
    lake, summary = story.lake, story.corrected.summary
    assert summary is not None

    status = lake.rows(
        "SELECT status, count(*) FROM ops.load_files WHERE source_file = 'readings/untouched.json' GROUP BY ALL"
    )

    assert sorted(status) == [("loaded", 1), ("unchanged", 1)]
    assert summary.files == {"loaded": 7, "unchanged": 1}
    assert summary.readings_loaded == 144 + 72 + 48 + 48 + 48 + 48 + 48


@pytest.mark.parametrize("pair", ["pair-1", "pair-2"])
def test_of_two_files_with_one_reading_the_later_modified_wins_whichever_arrives_first(pair: str, story: Story) -> None:
    rows = [row for row in story.corrected.gold["readings_enriched"].rows if row[0] == pair]

    assert [row[4] for row in rows] == [Decimal(2)] * 48


def test_a_reading_that_the_later_file_takes_back_is_again_that_of_the_earlier_file(story: Story) -> None:
    rows = [row for row in story.returned.gold["readings_enriched"].rows if row[0] == "pair-1"]
    summary = story.returned.summary

    assert summary is not None
    assert summary.dates == [date(2021, 1, 20)]
    assert [kwh for *_, kwh in sorted((row[1], row[4]) for row in rows)] == [Decimal(2)] * 24 + [Decimal(1)] * 24


def test_a_changed_agreement_rewrites_the_mart_dates_that_it_reaches_and_no_others(story: Story) -> None:
    summary = story.new_snapshot.summary

    assert summary is not None
    assert (summary.dates, summary.mart_dates) == ([], [date(2021, 1, 2)])
    for table in TABLES:
        expected = [] if table == "silver.readings" else ["2021-01-02"]
        assert story.new_snapshot.rewritten(story.returned, table) == expected, table
    for table in BY_YEAR:
        assert story.new_snapshot.rewritten(story.returned, table) == ["2021"], table


def test_agreement_shows_the_newest_snapshot_and_the_history_keeps_both(story: Story) -> None:
    lake = story.lake

    now = lake.rows("SELECT snapshot_date, product_id FROM silver.agreement WHERE agreement_id = 2")
    history = lake.rows(
        "SELECT snapshot_date, product_id FROM silver.agreement_history WHERE agreement_id = 2 ORDER BY snapshot_date"
    )

    assert now == [(date(2021, 11, 4), "P2")]
    assert history == [(date(2021, 11, 2), "P3"), (date(2021, 11, 4), "P2")]
    assert lake.value("SELECT count(*) FROM silver.agreement") == len(AGREEMENTS)
    assert lake.rows("SELECT snapshot_date FROM gold.data_freshness") == [(date(2021, 11, 4),)]


def test_a_run_that_finds_nothing_new_does_nothing(story: Story) -> None:
    assert story.nothing_new.summary is None
    assert story.nothing_new.folders == story.new_snapshot.folders
    assert story.lake.value("SELECT count(*) FROM ops.loads") == 4


def test_every_reading_names_the_load_and_the_version_of_the_file_that_brought_it(story: Story) -> None:
    nameless: list[tuple[Any, ...]] = story.lake.rows(
        "SELECT * FROM silver.readings LEFT ANTI JOIN ops.load_files USING (load_id, source_file)"
    )

    assert nameless == []
    assert story.lake.value("SELECT min(started_at) FROM ops.loads") > datetime(2021, 1, 1)


# --- readings that two files give ------------------------------------------------------------------------------------


NOON = "2021-01-01 12:00:00"


def at_noon(lake: Lake) -> list[float]:
    return [
        float(kwh)
        for (kwh,) in lake.rows(f"SELECT consumption_kwh FROM silver.readings WHERE interval_start = '{NOON}'")
    ]


def test_a_file_that_is_touched_wins_no_reading_and_gives_what_another_gives_up(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    landing = lake.landing
    landing.readings("a.json", [[NOON, 1, "m"], [NOON, -1, "bad"]])
    landing.readings("b.json", [[NOON, 2, "m"]], after=HOUR)
    landing.readings("c.json", [["2021-01-01 13:00:00", 3, "m"]])
    lake.load()
    first = at_noon(lake)

    # The same bytes with another time are no new version, also when another file of the date is.
    landing.touch("readings/a.json", 5 * HOUR)
    landing.readings("c.json", [["2021-01-01 13:00:00", 4, "m"]], after=2 * HOUR)
    other = lake.load()
    then = at_noon(lake)

    # All files are copied again, and b.json lacks the reading.
    landing.touch("readings/a.json", 6 * HOUR)
    landing.readings("b.json", [["2021-01-01 14:00:00", 2, "m"]], after=6 * HOUR)
    given_up = lake.load()

    assert (first, then, at_noon(lake)) == ([2], [2], [1])
    # Its bad row was counted by the load that was given it, and is in quarantine still.
    assert [(load.readings_rejected, load.rejected_by_reason) for load in (other, given_up)] == [(0, {})] * 2
    assert lake.rows("SELECT source_file FROM quarantine.open_readings") == [("readings/a.json",)]
    lake.run()
    assert at_noon(lake) == [1]
    assert lake.run() is None


def test_a_reading_counts_again_also_after_a_rollback(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    landing = lake.landing
    landing.readings("a.json", [[NOON, 1, "m"]])
    landing.readings("b.json", [[NOON, 2, "m"]], after=HOUR)
    lake.load()
    landing.readings("b.json", [["2021-01-01 14:00:00", 2, "m"]], after=2 * HOUR)
    without = lake.load()
    given_up = at_noon(lake)
    lake.undo(without.load_id)
    rolled_back = at_noon(lake)

    landing.readings("b.json", [["2021-01-01 15:00:00", 2, "m"]], after=3 * HOUR)
    lake.load()

    assert (given_up, rolled_back, at_noon(lake)) == ([1], [2], [1])
