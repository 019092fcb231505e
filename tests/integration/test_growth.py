"""Days of loads that are over are folded, and nobody can tell."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import collect, compact, tables
from jobs.ledger import writer as ledger_writer
from jobs.load import Summary
from tests.integration.lake import Agreement, Lake, Rows, day

DAY = timedelta(days=1)
TABLES = (tables.LOADS, *tables.OF_LOADS)
SHOWN = ("quarantine.open_files", "quarantine.open_readings", "gold.load_history", "gold.restatements")


class Died(Exception):
    """Stands for the end of the process."""


def loaded(lake: Lake, load_id: str) -> Summary:
    """A load that has the given id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_writer, "new_load_id", lambda *_, **__: load_id)
        return lake.load()


def said(lake: Lake, until: str) -> dict[str, Rows]:
    """What the tables, without the column that they are folded by, and views say of loads up to one."""
    columns = {
        table: [name for name in lake.spark.table(table).columns if name != "load_date"] for table in (*TABLES, *SHOWN)
    }
    columns |= {view: lake.spark.table(view).columns for view in SHOWN}
    names = {table: ", ".join(f"CAST({each} AS STRING)" for each in found) for table, found in columns.items()}
    of_load = f"load_id <= '{until}'"
    # What a fold records of itself is of days, not of data.
    of_data = f"{of_load} AND table_name IN {tables.DATA}"
    return {
        table: lake.view(
            f"(SELECT {names[table]} FROM {table} WHERE {of_data if table == tables.PUBLICATIONS else of_load})"
        )
        for table in columns
    }


@dataclass
class Story:
    """Two loads of the autumn, one of February that died while it folded them, and one that folded them."""

    lake: Lake
    loads: list[Summary]
    said: list[dict[str, Rows]] = field(default_factory=list)  # after the loads of the autumn, and since then
    gold: list[dict[str, Rows]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)  # folders of the autumn's days
    partitions: list[dict[str, set[str]]] = field(default_factory=list)


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake]) -> Story:
    lake = new_lake()
    landing = lake.landing
    landing.readings("a.json", [*day("a", "2021-01-01", 1), "bad row"])
    landing.raw("readings/broken.json", b"no JSON")
    landing.reference([Agreement(1, "a")], ["a"])
    first = loaded(lake, "20251005T060000-aaaaaa")
    landing.readings("a.json", [*day("a", "2021-01-01", 2), "bad row"], after=DAY)
    second = loaded(lake, "20251120T060000-bbbbbb")
    story = Story(lake, [first, second])

    def note() -> None:
        story.said.append(said(lake, second.load_id))
        story.gold.append(lake.gold())
        story.partitions.append({table: tables.partitions(lake.spark, table) for table in TABLES})

    note()
    story.replaced = [
        tables.plain(folder) for table in TABLES for folder in tables.all_locations(lake.spark, table).values()
    ]

    # It dies when one table is folded and keeps the empty days, and others are not.
    landing.readings("b.json", day("a", "2021-01-02", 1), after=2 * DAY)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        drop_empty = tables.drop_empty

        def drop_or_die(spark: Any, table: str, values: Any) -> None:
            if table == tables.REJECTED_READINGS:
                raise Died
            drop_empty(spark, table, values)

        patch.setattr(tables, "drop_empty", drop_or_die)
        loaded(lake, "20260205T060000-cccccc")
    note()
    landing.readings("c.json", day("a", "2021-01-03", 1), after=2 * DAY)
    story.loads.append(loaded(lake, "20260206T060000-dddddd"))
    note()
    return story


def test_a_fold_loses_and_doubles_no_row_be_it_killed_or_whole(story: Story) -> None:
    for later in story.said[1:]:
        for table, rows in story.said[0].items():
            assert later[table] == rows, table
    assert [table for table in SHOWN if not story.said[0][table].rows] == []


def test_days_of_a_year_that_is_over_are_one_partition(story: Story) -> None:
    before, killed, after = story.partitions

    assert before[tables.LOADS] == {"2025-10-05", "2025-11-20"}
    assert killed[tables.LOADS] == {*before[tables.LOADS], "2026-02-05"}
    assert after[tables.LOADS] == {"2025-12-31", "2026-02-05", "2026-02-06"}
    for table, values in after.items():
        # One partition alone stays what it is.
        assert len([value for value in values if value < "2026"]) == min(1, len(before[table])), table


def test_people_are_shown_the_day_of_a_load(story: Story) -> None:
    found = story.lake.rows("SELECT DISTINCT load_id, CAST(load_date AS STRING) FROM quarantine.open_files")

    assert found == [(story.loads[0].load_id, "2025-10-05")]


def test_a_load_is_found_by_its_day(story: Story) -> None:
    from jobs.ledger import loads

    found = loads.recorded_loads(story.lake.spark, datetime(2025, 11, 20).date())

    assert story.loads[1].load_id in found


def test_a_load_can_be_rolled_back_after_a_fold(story: Story) -> None:
    story.lake.undo(story.loads[-1].load_id)

    assert story.lake.gold() == story.gold[1]


def test_replaced_folders_are_deleted_by_records_when_their_time_has_come(story: Story) -> None:
    lake = story.lake
    replaced = [folder for folder in story.replaced if not_live(lake, folder)]
    assert replaced
    assert all(Path(folder).exists() for folder in replaced)
    # Loads of the autumn ended before the fold, yet a query may still read their folders.
    ended = lake.value(f"SELECT finished_at FROM ops.loads WHERE load_id = '{story.loads[1].load_id}'")
    at = ended.astimezone() + timedelta(milliseconds=1)
    assert not {*collect.collect(lake.spark, lake.settings, dry_run=True, before=at)} & {*replaced}

    collect.collect_replaced(lake.spark, lake.settings.model_copy(update={"retention_hours": 0}))

    assert not any(Path(folder).exists() for folder in replaced)
    assert said(lake, story.loads[1].load_id) == story.said[0]
    left = {str(path) for path in Path(lake.settings.warehouse).glob("ops/loads/*/load=2*")}
    assert left == {tables.plain(folder) for folder in tables.all_locations(lake.spark, tables.LOADS).values()}


def not_live(lake: Lake, folder: str) -> bool:
    return folder not in {
        tables.plain(live) for table in TABLES for live in tables.all_locations(lake.spark, table).values()
    }


def test_nothing_is_folded_twice(story: Story) -> None:
    before = {table: story.lake.folders(table) for table in TABLES}

    compact.compact(story.lake.spark, story.lake.settings, story.loads[-1].load_id)

    assert {table: story.lake.folders(table) for table in TABLES} == before
