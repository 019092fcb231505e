"""A run dies while it publishes, and the landing place is another one when the next run comes: nothing stays of what
the dead run had published in part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import collect, rollback, tables
from jobs.load import Summary
from jobs.readings.merge import Changes
from jobs.silver import Retraction
from tests.integration.lake import Agreement, Lake, day
from tests.integration.oracle import Oracle

DAY = timedelta(days=1)


class Died(Exception):
    """Stands for the end of the process."""


def die_before_publishing(lake: Lake, table: str, run: Callable[[], Any] | None = None) -> None:
    """Run, or roll back, up to the moment at which a table's new content would be published."""
    publish = tables.publish

    def publish_or_die(spark: Any, name: str, new: tables.Locations) -> tables.Locations:
        if name == table:
            raise Died
        return publish(spark, name, new)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        patch.setattr(tables, "publish", publish_or_die)
        (run or lake.run)()


@dataclass
class Story:
    """The lakehouse after two runs that died and one that did not."""

    lake: Lake
    first: Summary
    last: Summary


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake]) -> Story:
    lake = new_lake()
    landing = lake.landing
    landing.readings("a.json", day("a", "2021-01-01") + day("a", "2021-01-05"))
    landing.readings("b.json", day("b", "2021-01-01"))
    landing.reference([Agreement(1, "a"), Agreement(2, "b")], ["a", "b"])
    first = lake.load()

    # Dies with silver and one mart published, and with a snapshot that would have changed the mart of 5 January.
    landing.readings("a.json", day("a", "2021-01-01", 5) + day("a", "2021-01-05"), after=DAY)
    landing.readings("c.json", day("a", "2021-01-02", 5), after=DAY)
    landing.reference([Agreement(1, "a", product_id="P3"), Agreement(2, "b")], ["a", "b"], after=DAY)
    die_before_publishing(lake, "mart.half_hourly")

    # c.json was a mistake, and is gone. This run dies when all is published, and recorded but for the load itself.
    (landing.folder / "readings/c.json").unlink()
    landing.readings("a.json", [*day("a", "2021-01-01", 1), *day("a", "2021-01-05"), "bad row"], after=2 * DAY)
    landing.readings("d.json", day("a", "2021-01-03", 5), after=2 * DAY)
    die_before_publishing(lake, "ops.loads")

    # Nor were d.json and the snapshot right.
    (landing.folder / "readings/d.json").unlink()
    landing.reference([Agreement(1, "a", product_id="P2"), Agreement(2, "b")], ["a", "b"], after=3 * DAY)
    return Story(lake, first, lake.load())


def test_gold_says_what_the_landing_place_says(story: Story) -> None:
    gold = story.lake.gold()

    for view, (columns, rows) in Oracle(story.lake.landing.folder).gold().items():
        assert (gold[view].columns, gold[view].rows) == (columns, rows), view


def test_only_dates_that_the_dead_runs_had_begun_are_made_anew_with_those_of_the_load(story: Story) -> None:
    # 2 January was new with the first of them, and the second had emptied it again.
    assert story.last.dates == [date(2021, 1, n) for n in (1, 3, 5)]


@pytest.mark.parametrize("table", ["ops.load_files", "ops.validations", "quarantine.readings", "silver.readings"])
def test_no_row_of_a_dead_run_is_left(table: str, story: Story) -> None:
    loads = {load_id for (load_id,) in story.lake.rows(f"SELECT load_id FROM {table}")}

    assert story.last.load_id in loads
    assert loads <= {story.first.load_id, story.last.load_id}


def test_a_next_run_finds_nothing_to_do(story: Story) -> None:
    assert story.lake.run() is None


# --- a run that died was a mistake ------------------------------------------------------------------------------------


def test_readings_that_a_dead_run_had_replaced_are_back(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.landing.readings("b.json", day("b", "2021-01-01", 1))
    lake.landing.reference([Agreement(1, "a"), Agreement(2, "b")], ["a", "b"])
    lake.load()
    before = lake.gold()

    # A new version, a file that takes its readings from another, a date and a snapshot: all were a mistake.
    lake.landing.readings("a.json", day("a", "2021-01-01", 2), after=DAY)
    lake.landing.readings("b2.json", day("b", "2021-01-01", 2), after=DAY)
    lake.landing.readings("c.json", day("a", "2021-01-02", 2), after=DAY)
    lake.landing.reference([Agreement(1, "a", product_id="P3"), Agreement(2, "b")], ["a", "b"], after=DAY)
    die_before_publishing(lake, "ops.loads")
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    for name in ("b2.json", "c.json"):
        (lake.landing.folder / "readings" / name).unlink()
    lake.landing.reference([Agreement(1, "a"), Agreement(2, "b")], ["a", "b"])
    summary = lake.load()

    assert lake.gold() == before
    assert summary.dates == [date(2021, 1, 1), date(2021, 1, 2)]
    assert summary.changes == {date(2021, 1, 1): Changes(96, 0, 0, 0, 0, Decimal(96), Decimal(96))}
    assert lake.value("SELECT publishing_load_id FROM gold.data_freshness") is None
    assert lake.run() is None
    # A collection when the dead run began long enough ago, but not the one that put it right, and those after that.
    ended = lake.value(f"SELECT finished_at FROM ops.loads WHERE load_id = '{summary.load_id}'").replace(tzinfo=UTC)
    for moment in (ended - timedelta(milliseconds=500), datetime.now(UTC)):
        hours = (datetime.now(UTC) - moment).total_seconds() / 3600
        collect.collect_replaced(lake.spark, lake.settings.model_copy(update={"retention_hours": hours}))
    left = {path.parent.name for path in Path(lake.settings.warehouse, "silver/readings").rglob("*.parquet")}
    assert left == {f"load={summary.load_id}"}
    assert not any(Path(lake.settings.warehouse, "staging").iterdir())


def test_the_very_first_load_dies_when_all_but_itself_is_recorded(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    die_before_publishing(lake, "ops.loads")

    summary = lake.load()

    assert summary.readings_loaded == 48
    gold = lake.gold()
    for view, (columns, rows) in Oracle(lake.landing.folder).gold().items():
        assert (gold[view].columns, gold[view].rows) == (columns, rows), view
    assert lake.run() is None


def test_a_rollback_that_died_did_not_happen(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    lake.load()
    lake.landing.readings("a.json", day("a", "2021-01-01", 2), after=DAY)
    lake.landing.readings("b.json", day("a", "2021-01-02", 2), after=DAY)
    undone = lake.load()
    before = lake.gold()

    die_before_publishing(lake, "mart.half_hourly", lambda: lake.undo(undone.load_id))
    with pytest.raises(rollback.RollbackError, match="a run was killed while it published"):
        lake.undo(undone.load_id)
    lake.load()

    assert lake.gold() == before
    assert lake.value("SELECT publishing_load_id FROM gold.data_freshness") is None
    assert lake.run() is None


def test_what_earlier_loads_of_the_day_recorded_is_there_once_after_a_dead_run(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", [*day("a", "2021-01-01"), "bad row"])
    lake.load()
    lake.landing.readings("b.json", [*day("b", "2021-01-01"), "bad row"])
    die_before_publishing(lake, "ops.loads")
    lake.load()

    for table in ("ops.load_files", "quarantine.readings", "quarantine.open_readings"):
        assert lake.rows(f"SELECT source_file, count(*) FROM {table} GROUP BY source_file ORDER BY source_file") == [
            ("readings/a.json", 1),
            ("readings/b.json", 1),
        ], table
    for table in ("ops.publications", "ops.validations"):
        assert lake.value(f"SELECT max(n) FROM (SELECT count(*) AS n FROM {table} GROUP BY load_id, table_name)") == 1
    assert lake.run() is None


def test_a_retraction_that_died_is_done_by_the_next_one(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01"))
    lake.landing.readings("b.json", day("b", "2021-01-01"))
    lake.load()
    wish: dict[str, Any] = {"kind": "retract", "retraction": Retraction(files=("readings/a.json",))}

    die_before_publishing(lake, "ops.loads", lambda: lake.run(**wish))
    lake.load(**wish)

    assert lake.rows("SELECT DISTINCT meterpoint_id FROM silver.readings") == [("b",)]
    assert lake.run() is None


def test_a_rebuild_from_files_revives_nothing_that_was_taken_back(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01") + day("b", "2021-01-01"))
    lake.landing.readings("c.json", day("c", "2021-01-01", 1))
    lake.load()
    lake.landing.readings("c.json", day("c", "2021-01-01", 9), after=DAY)
    lake.undo(lake.load().load_id)
    lake.load(kind="retract", retraction=Retraction(meterpoint_id="a"))
    before = lake.view("silver.readings").rows

    lake.load(kind="rebuild", rebuild=(None, None), from_files=True)

    assert [row[:4] for row in lake.view("silver.readings").rows] == [row[:4] for row in before]
    lake.load(kind="reload", again=["readings/a.json"])
    assert lake.value("SELECT count(DISTINCT meterpoint_id) FROM silver.readings") == 3


def test_readings_of_an_older_version_of_which_a_run_died_are_taken_over_whole(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01") + day("a", "2021-01-02"))
    lake.load()
    for day_of_claims in ("2021-01-01", "2021-01-02"):
        lake.spark.sql(f"ALTER TABLE ops.claims_by_layer DROP PARTITION (date = '{day_of_claims}')")
    lake.landing.readings("b.json", day("b", "2021-01-01"))
    dead = tables.folder_of(
        *tables.root_and_column(lake.spark, tables.READINGS), "2021-01-01", "20200101T000000-dead00"
    )
    tables.publish(lake.spark, tables.PUBLISHING, dead_run(lake))
    tables.publish(lake.spark, tables.READINGS, {"2021-01-01": dead})

    lake.load()

    assert lake.rows("SELECT meterpoint_id, date, count(*) FROM silver.readings GROUP BY ALL ORDER BY ALL") == [
        ("a", date(2021, 1, 1), 48),
        ("a", date(2021, 1, 2), 48),
        ("b", date(2021, 1, 1), 48),
    ]
    assert lake.value("SELECT count(*) FROM ops.claims") == 3


def dead_run(lake: Lake) -> tables.Locations:
    rows = pa.Table.from_pylist(
        [{"load_id": "20200101T000000-dead00", "began_at": None}], tables.schema(lake.spark, tables.PUBLISHING)
    )
    return tables.write_rows(lake.spark, rows, tables.PUBLISHING, "20200101T000000-dead00", "last")


@pytest.mark.parametrize("table", ["ops.claims", "mart.half_hourly_by_region", "silver.meterpoint_regions"])
def test_a_first_load_that_died_is_none_of_an_older_version(new_lake: Callable[[], Lake], table: str) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01"))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    die_before_publishing(lake, table)

    lake.load()

    assert lake.rows("SELECT kind FROM gold.load_history") == [("load",)]
