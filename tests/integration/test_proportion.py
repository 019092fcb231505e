"""A correction of a large date writes what it changes: a late layer, over a base that stays where it is.

Dates of these tests are small, and are taken for large ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import tables
from jobs.erasure import find
from jobs.erasure import run as erase
from jobs.load import Summary
from jobs.readings import correct
from jobs.silver import Retraction
from jobs.tables import CLAIMS, CONTESTED, DAILY_METERPOINT, READINGS
from tests.integration.lake import Agreement, Lake, Rows, as_if_large, day
from tests.integration.oracle import Answer, Oracle

DATES = ("2021-01-01", "2021-01-02", "2021-10-31")
METERPOINTS = ("a", "b", "c", "d", "late", "silent")
AGREEMENTS = [Agreement(number, name, "2020-01-01") for number, name in enumerate(METERPOINTS)]
HOUR = timedelta(hours=1)


@dataclass
class State:
    """The lakehouse after a load."""

    summary: Summary
    gold: dict[str, Rows]
    expected: dict[str, Answer]
    folders: dict[str, dict[str, str]]  # by table and partition

    def written(self, before: "State", table: str) -> list[str]:
        """Partitions that are elsewhere than before."""
        earlier = before.folders[table]
        return sorted(value for value, folder in self.folders[table].items() if folder != earlier.get(value))


def state_of(lake: Lake, summary: Summary) -> State:
    folders = {table: lake.folders(table) for table in tables.LAYERED}
    return State(summary, lake.gold(), Oracle(lake.landing.folder).gold(), folders)


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        as_if_large(patch)
        yield patch


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake], patch: pytest.MonkeyPatch) -> SimpleNamespace:
    lake, state = new_lake(), SimpleNamespace()
    landing, state.lake = lake.landing, lake
    regions: dict[str, str | None] = dict.fromkeys(METERPOINTS, "London")
    landing.reference(AGREEMENTS, regions | {"b": None})
    every = [row for each in DATES for name in "abcd" for row in day(name, each)]
    landing.readings("all.json", every)
    landing.readings("of-a.json", [row for each in DATES for row in day("a", each, 0.5)], after=HOUR)
    state.first = state_of(lake, lake.load())
    landing.readings("late.json", [row for each in DATES for row in day("late", each, 1)], after=2 * HOUR)
    state.late = state_of(lake, lake.load())
    once_more = [row for each in DATES for row in day("a", each, 0.75 if each == DATES[1] else 0.5)]
    landing.readings("of-a.json", once_more, after=3 * HOUR)
    state.cumulative = state_of(lake, lake.load())
    other = [*AGREEMENTS[:3], Agreement(3, "d", "2020-01-01", product_id="P3"), *AGREEMENTS[4:]]
    landing.reference(other, regions | {"b": None}, after=timedelta(days=1))
    state.backdated = state_of(lake, lake.load())
    landing.reference(other, regions | {"b": "Wales"}, after=timedelta(days=2))
    state.told = state_of(lake, lake.load())
    return state


STATES = ("first", "late", "cumulative", "backdated", "told")


@pytest.mark.parametrize("state", STATES)
def test_gold_says_what_the_landing_place_says(state: str, story: SimpleNamespace) -> None:
    found: State = getattr(story, state)

    assert not found.summary.errors
    for view, (columns, expected) in found.expected.items():
        assert found.gold[view].columns == columns, view
        assert found.gold[view].rows == expected, view


def late(*days: str) -> list[str]:
    return [f"{each}/late" for each in days]


def test_a_late_meterpoint_writes_no_base(story: SimpleNamespace) -> None:
    written = {table: story.late.written(story.first, table) for table in tables.LAYERED}

    assert written == {
        READINGS: late(*DATES),
        CLAIMS: late(*DATES),
        CONTESTED: [],
        DAILY_METERPOINT: late(*DATES),
    }


def test_a_late_layer_has_what_came_and_no_more(story: SimpleNamespace) -> None:
    rows = tables.read_layer(story.lake.spark, READINGS, of_folders(story.late, READINGS))

    assert {row.meterpoint_id for row in rows.collect()} == {"late"}


def of_folders(state: State, table: str) -> dict[str, str]:
    """The late partitions of a table as they were then."""
    folders = state.folders[table].items()
    return {value.replace("/late", tables.LATE): folder for value, folder in folders if value.endswith("/late")}


def test_what_a_cumulative_file_repeats_writes_claims_alone(story: SimpleNamespace) -> None:
    written = {table: story.cumulative.written(story.late, table) for table in tables.LAYERED}

    assert written == {
        READINGS: late(DATES[1]),
        CLAIMS: late(*DATES),
        CONTESTED: [],
        DAILY_METERPOINT: late(DATES[1]),
    }
    assert {each: change.changed for each, change in story.cumulative.summary.changes.items() if change.changed} == {
        story.cumulative.summary.dates[0]: 48
    }


@pytest.mark.parametrize("states", [("cumulative", "backdated"), ("backdated", "told")])
def test_a_change_of_one_meterpoint_s_agreement_or_region_writes_no_readings(
    states: tuple[str, str], story: SimpleNamespace
) -> None:
    before, after = (getattr(story, state) for state in states)

    assert {table: after.written(before, table) for table in (READINGS, CLAIMS, CONTESTED)} == {
        READINGS: [],
        CLAIMS: [],
        CONTESTED: [],
    }
    assert set(after.written(before, DAILY_METERPOINT)) <= set(late(*DATES))


def test_restatements_tell_the_energy_of_the_whole_date(story: SimpleNamespace) -> None:
    columns = "readings_added, readings_changed, readings_removed, meterpoint_count, kwh_before, kwh_after"
    load = story.cumulative.summary.load_id

    rows = story.lake.rows(f"SELECT date, {columns} FROM gold.restatements WHERE load_id = '{load}'")

    assert [(str(each), *map(float, values)) for each, *values in rows] == [
        (DATES[1], 0, 48, 0, 1, 48 * (0.5 + 3 * 0.25 + 1), 48 * (0.75 + 3 * 0.25 + 1))
    ]


# What follows changes the lakehouse of the story, one after the other.


def totals(lake: Lake) -> list[tuple[Any, ...]]:
    return lake.rows(
        "SELECT readings.date, readings.n, CAST(readings.kwh AS DOUBLE), mart.n, CAST(mart.kwh AS DOUBLE)"
        " FROM (SELECT date, count(*) AS n, sum(consumption_kwh) AS kwh FROM silver.readings GROUP BY date) AS readings"
        " JOIN (SELECT date, sum(meterpoint_count) AS n, sum(consumption_kwh) AS kwh FROM gold.half_hourly_consumption"
        " GROUP BY date) AS mart USING (date) ORDER BY date"
    )


def test_what_is_retracted_is_hidden_and_comes_back_with_a_rollback(story: SimpleNamespace) -> None:
    lake, before = story.lake, totals(story.lake)

    retraction = Retraction(files=("readings/all.json",), meterpoint_id="c", last=story.late.summary.dates[1])
    summary = lake.load(kind="retract", retraction=retraction)

    without = totals(lake)
    assert lake.rows("SELECT DISTINCT date FROM silver.readings WHERE meterpoint_id = 'c'") == [(before[2][0],)]
    assert [row[1] - then[1] for row, then in zip(without, before, strict=True)] == [-48, -48, 0]
    assert [row[1:3] == row[3:] for row in without] == [True] * 3
    state = state_of(lake, summary)
    assert state.written(story.told, READINGS) == late(*DATES[:2])
    lake.undo(summary.load_id)
    assert totals(lake) == before
    assert {table: lake.folders(table) for table in tables.LAYERED} == story.told.folders


def test_what_is_contested_stays_when_a_later_load_is_rolled_back(story: SimpleNamespace) -> None:
    lake, before = story.lake, totals(story.lake)
    lake.landing.readings("early.json", day("c", DATES[0], 4), after=-HOUR)
    contested = lake.load()
    lake.landing.readings("last.json", day("c", DATES[1], 5), after=4 * HOUR)
    last = lake.load()

    lake.undo(last.load_id)

    assert contested.dates == []
    assert totals(lake) == before
    assert lake.rows("SELECT DISTINCT consumption_kwh FROM silver.contested_readings WHERE meterpoint_id = 'c'") == [
        (4,)
    ]
    assert lake.value("SELECT count(*) FROM ops.claims WHERE source_file = 'readings/early.json'") == 1


def test_who_is_erased_is_in_no_layer(story: SimpleNamespace) -> None:
    lake = story.lake
    # So that there is a row of the id alone.
    lake.load(kind="retract", retraction=Retraction(meterpoint_id="a", last=story.late.summary.dates[0]))
    before = totals(lake)[1:]
    request = find.Request(meterpoints=("a",), reason="asked", by="test", restate=True)

    what, found = find.find(lake.spark, lake.settings, request)
    erase.begin(lake.settings, what)
    erase.finish(lake.spark, lake.settings, lambda _: None, found)

    for table in tables.LAYERED:
        assert lake.rows(f"SELECT * FROM {tables.stored(table)} WHERE meterpoint_id = 'a'") == []
    rows = lake.rows("SELECT readings_removed, CAST(kwh_before AS DOUBLE) FROM gold.restatements WHERE kind = 'erase'")
    assert sorted(rows) == sorted((length, row[2]) for length, row in zip((48, 50), before, strict=True))


def test_a_date_of_which_much_was_corrected_is_written_anew(story: SimpleNamespace, patch: pytest.MonkeyPatch) -> None:
    lake = story.lake
    lake.run()  # marts that the erasure left
    patch.setattr(correct, "PART", 1_000)
    lake.landing.readings("late.json", day("late", DATES[0], 2), after=5 * HOUR)

    lake.load()

    folders = lake.folders(READINGS)
    assert tables.is_empty(folders[f"{DATES[0]}/late"])
    assert not tables.is_empty(folders[f"{DATES[1]}/late"])
    assert tables.is_empty(lake.folders(DAILY_METERPOINT)[f"{DATES[0]}/late"])
    assert [row[1:3] == row[3:] for row in totals(lake)] == [True] * 3
    assert lake.value(f"SELECT max(consumption_kwh) FROM silver.readings WHERE date = '{DATES[0]}'") == 2


def test_a_date_by_meterpoint_is_one_file_in_order(new_lake: Callable[[], Lake]) -> None:
    """So that a query for one meterpoint over a year opens few files, and skips most of each."""
    lake = new_lake()
    lake.landing.readings("all.json", [row for each in DATES for name in "dbca" for row in day(name, each)])
    lake.spark.conf.set("spark.sql.adaptive.enabled", "true")  # as in all loads but those of tests
    lake.load()
    lake.spark.conf.set("spark.sql.adaptive.enabled", "false")

    for folder in lake.folders(DAILY_METERPOINT).values():
        [file] = Path(folder.removeprefix("file:")).glob("*.parquet")
        names = pq.read_table(file, columns=["meterpoint_id"], partitioning=None)["meterpoint_id"].to_pylist()
        assert names == ["a", "b", "c", "d"]
