"""What a load changed can be seen, undone and, after a time, deleted; what is in quarantine leaves it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import collect, load, rollback
from jobs.ledger import files as ledger_files
from jobs.ledger import writer as ledger_writer
from jobs.load import Summary
from tests.integration.lake import Agreement, Lake, Rows, day

DAY = timedelta(days=1)


def collected(lake: Lake, hours: float, *, dry_run: bool = False) -> list[str]:
    return collect.collect(lake.spark, lake.settings.model_copy(update={"retention_hours": hours}), dry_run=dry_run)


def snapshot_of(lake: Lake) -> list[tuple[Any, ...]]:
    return lake.rows("SELECT agreement_id, product_id, snapshot_date FROM silver.agreement ORDER BY ALL")


@dataclass
class Story:
    """Two loads, the second of which is rolled back, repaired and loaded again."""

    lake: Lake
    first: Summary
    second: Summary
    rolled_back: Summary
    repaired: Summary
    gold: list[dict[str, Rows]]  # after each of them
    agreement: list[list[tuple[Any, ...]]]
    changes: list[tuple[Any, ...]]  # that the second load made
    refused: str  # what was said of rolling back the first while the second was there
    nothing_new: Summary | None  # after the rollback
    old_values: set[float]  # in the first load's folder, read while the second was live
    moments: list[datetime]  # at which each of them had ended


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake]) -> Story:
    lake = new_lake()
    landing = lake.landing
    gold, agreement, moments = [], [], []

    def state() -> None:
        gold.append(lake.gold())
        agreement.append(snapshot_of(lake))
        moments.append(lake.value("SELECT max(finished_at) FROM ops.loads"))

    landing.readings("a.json", day("a", "2021-01-01", 1) + day("a", "2021-01-02", 1))
    landing.readings("b.json", day("b", "2021-01-01", 1))
    landing.reference([Agreement(1, "a"), Agreement(2, "b")], ["a", "b"])
    first = lake.load()
    state()

    # One date corrected with an hour left out, a new date, and other agreements on the date of the first snapshot.
    landing.readings("a.json", day("a", "2021-01-01", 2)[2:] + day("a", "2021-01-02", 1), after=DAY)
    landing.readings("c.json", day("b", "2021-01-03", 3), after=DAY)
    landing.reference([Agreement(1, "a", product_id="P3"), Agreement(2, "b")], ["a", "b"], after=timedelta(hours=1))
    second = lake.load()
    state()
    changes = lake.rows(
        "SELECT partition_value, readings_added, readings_changed, readings_removed FROM ops.publications"
        f" WHERE load_id = '{second.load_id}' AND table_name = 'silver.readings' ORDER BY partition_value"
    )
    ((folder,),) = lake.rows(
        "SELECT folder FROM ops.publications WHERE table_name = 'silver.readings' AND partition_value = '2021-01-01'"
        f" AND load_id = '{first.load_id}'"
    )
    old_values = {float(kwh) for kwh in pq.read_table(folder.removeprefix("file:"))["consumption_kwh"].to_pylist()}

    with pytest.raises(rollback.RollbackError) as refused:
        lake.undo(first.load_id)
    rolled_back = lake.undo(second.load_id)
    state()
    nothing_new = lake.run()

    landing.readings("a.json", day("a", "2021-01-01", 5) + day("a", "2021-01-02", 1), after=2 * DAY)
    repaired = lake.load()
    state()
    return Story(
        lake,
        first,
        second,
        rolled_back,
        repaired,
        gold,
        agreement,
        changes,
        str(refused.value),
        nothing_new,
        old_values,
        moments,
    )


def test_a_correction_tells_what_it_changed(story: Story) -> None:
    assert story.changes == [("2021-01-01", 0, 46, 2), ("2021-01-02", 0, 0, 0), ("2021-01-03", None, None, None)]


def test_old_values_can_be_read_after_a_correction(story: Story) -> None:
    assert story.old_values == {1.0}


def without_shares(answer: Rows) -> Rows:
    """How much was received and is actual is not asked for at a moment: the last columns of the views."""
    columns = [name for name in answer.columns if not name.endswith("_share")]
    return Rows(columns, sorted((row[: len(columns)] for row in answer.rows), key=repr))


AS_OF = (
    "half_hourly_consumption",
    "daily_product_consumption",
    "half_hourly_product_consumption",
    "readings_enriched",
)


def test_what_gold_said_after_each_load_can_be_asked_for_after_all_of_them(story: Story) -> None:
    """Another moment than the end of a load is that of the last load which had ended."""
    for moment, gold in zip(story.moments, story.gold, strict=True):
        # The snapshot of the second load was rolled back, and is not kept.
        for view in AS_OF[:1] if gold is story.gold[1] else AS_OF:
            then = story.lake.view(f"gold.{view}_as_of(TIMESTAMP '{moment}' + INTERVAL 10 MILLISECONDS)")
            assert then == without_shares(gold[view]), (view, moment)
    before = story.moments[0] - timedelta(days=1)
    assert story.lake.view(f"gold.half_hourly_consumption_as_of(TIMESTAMP '{before}')").rows == []


def test_restatements_tell_what_loads_changed_of_dates_that_had_readings(story: Story) -> None:
    restated = story.lake.rows(
        "SELECT load_id, kind, date, readings_added, readings_changed, readings_removed, meterpoint_count, kwh_before,"
        " kwh_after FROM gold.restatements ORDER BY load_id, date"
    )

    first, third = date(2021, 1, 1), date(2021, 1, 3)
    assert [(*row[:-2], *map(float, row[-2:])) for row in restated] == [
        (story.second.load_id, "load", first, 0, 46, 2, 1, 96, 140),
        (story.rolled_back.load_id, "rollback", first, 2, 46, 0, 1, 140, 96),
        (story.rolled_back.load_id, "rollback", third, 0, 0, 48, 1, 144, 0),
        (story.repaired.load_id, "load", first, 0, 48, 0, 1, 96, 288),
    ]


def test_rollback_brings_back_what_was_before(story: Story) -> None:
    first, second, rolled_back, _ = story.gold

    assert second != first
    assert rolled_back == first
    assert story.agreement[2] == story.agreement[0] != story.agreement[1]
    assert story.rolled_back.published and not story.rolled_back.errors


def test_only_the_newest_load_can_be_rolled_back(story: Story) -> None:
    assert story.refused == f"{story.second.load_id} came after {story.first.load_id}: roll that back first"
    with pytest.raises(rollback.RollbackError, match="was rolled back before"):
        story.lake.undo(story.second.load_id)
    with pytest.raises(rollback.RollbackError, match="nonsense: there is no such load"):
        story.lake.undo("nonsense")


def test_rollback_is_recorded_as_a_load(story: Story) -> None:
    recorded = story.lake.rows("SELECT load_id, status FROM ops.loads ORDER BY load_id")

    assert recorded == [
        (story.first.load_id, "published"),
        (story.second.load_id, "published"),
        (story.rolled_back.load_id, "rollback"),
        (story.repaired.load_id, "published"),
    ]
    assert story.lake.rows("SELECT load_id, rolled_back_load_id FROM ops.rollbacks") == [
        (story.rolled_back.load_id, story.second.load_id)
    ]


def test_files_of_a_load_that_was_rolled_back_stay_away(story: Story) -> None:
    assert story.nothing_new is None
    # Of the second load nothing came back with the correction of a.json: c.json is still out.
    assert story.repaired.files == {"loaded": 1}
    assert story.lake.value("SELECT max(date) FROM silver.readings") == date(2021, 1, 2)
    assert story.lake.value("SELECT max(consumption_kwh) FROM silver.readings WHERE meterpoint_id = 'a'") == 5


def test_folders_are_deleted_when_their_time_has_come(story: Story) -> None:
    lake = story.lake
    before = lake.gold()

    kept = collected(lake, hours=24)
    listed = collected(lake, hours=0, dry_run=True)
    gone = collect.collect_replaced(lake.spark, lake.settings.model_copy(update={"retention_hours": 0}))

    assert kept == []
    assert sorted(listed) == sorted(gone)  # records say what the listing of the warehouse says
    readings = [path for path in gone if "/silver/readings/" in path]
    loads = {Path(path).name for path in readings}
    assert loads == {f"load={story.first.load_id}", f"load={story.second.load_id}"}
    assert not any(Path(path).exists() for path in gone)
    assert lake.gold() == before
    assert collected(lake, hours=0) == []


def test_what_was_deleted_cannot_be_rolled_back_to(story: Story) -> None:
    lake = story.lake
    before = lake.gold()

    with pytest.raises(rollback.RollbackError, match=r"is deleted already, of silver.readings 2021-01-01"):
        lake.undo(story.repaired.load_id)

    assert lake.gold() == before
    assert lake.run() is None


def test_a_folder_that_no_load_recorded_is_an_orphan(story: Story) -> None:
    warehouse = Path(story.lake.settings.warehouse)
    (live,) = (warehouse / "silver/readings/date=2021-01-02").glob("load=2*")
    orphan = live.with_name("load=20210101T000000-abcdef")
    shutil.copytree(live, orphan)
    young = live.with_name(f"load={ledger_writer.new_load_id(story.repaired.started_at, [])}")
    shutil.copytree(live, young)

    gone = collected(story.lake, hours=24)

    assert gone == [str(orphan)]
    assert live.exists()
    assert young.exists()


# --- quarantine ------------------------------------------------------------------------------------------------------


def open_rows(lake: Lake) -> list[tuple[Any, ...]]:
    return lake.rows(
        "SELECT source_file, reason FROM quarantine.open_readings UNION ALL"
        " SELECT source_file, reason FROM quarantine.open_files ORDER BY ALL"
    )


def test_a_file_leaves_quarantine_when_it_was_put_right(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    landing = lake.landing
    bad_row = ["2021-01-01 00:00:00", -1, "a"]
    landing.readings("a.json", [bad_row, *day("a", "2021-01-01")[1:]])
    landing.raw("readings/b.json", b"not JSON")
    landing.readings("c.json", [["2021-01-01 00:00:00", -2, "c"], *day("c", "2021-01-01")[1:]])
    landing.reference([Agreement(1, "a")], ["a", "b", "c"])
    lake.load()
    at_first = open_rows(lake)

    landing.readings("a.json", day("a", "2021-01-01"), after=DAY)
    landing.touch("readings/c.json", DAY)  # the same bytes are no new version
    lake.load()
    then = open_rows(lake)
    with pytest.raises(ledger_files.UnknownFile, match=r"readings/a.json: not in quarantine"):
        ledger_files.in_quarantine(lake.spark, ["readings/a.json"])
    retried = lake.load(retry=["readings/c.json"])
    landing.readings("b.json", day("b", "2021-01-01"), after=2 * DAY)
    lake.load(retry=[])

    assert at_first == [
        ("readings/a.json", "consumption_negative"),
        ("readings/b.json", "not_json"),
        ("readings/c.json", "consumption_negative"),
    ]
    assert then == at_first[1:]
    assert retried.files == {"loaded": 1}
    assert retried.readings_rejected == 1
    assert open_rows(lake) == at_first[2:]
    assert lake.value("SELECT count(*) FROM quarantine.readings") == 4  # the record of what came stays
    assert lake.value("SELECT count(*) FROM silver.readings") == 3 * 48 - 1


def test_a_run_that_was_overtaken_publishes_nothing(
    new_lake: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01"))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    judge = load._audit
    other: list[Summary] = []

    def overtake(*arguments: Any) -> None:
        monkeypatch.setattr(load, "_audit", judge)
        other.append(lake.load())  # of another machine, which does not see this one's lock
        judge(*arguments)

    monkeypatch.setattr(load, "_audit", overtake)
    with pytest.raises(ledger_writer.Overtaken, match="this run publishes nothing more"):
        lake.run()

    assert lake.rows("SELECT load_id FROM ops.loads") == [(other[0].load_id,)]
    assert lake.rows("SELECT DISTINCT load_id FROM silver.readings") == [(other[0].load_id,)]
    assert lake.run() is None


def test_what_was_rolled_back_is_not_retried_unless_it_is_named(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    lake.load()
    lake.landing.readings("a.json", [*day("a", "2021-01-01", 7), "bad row"], after=DAY)
    lake.undo(lake.load().load_id)

    assert lake.run(retry=[]) is None
    assert lake.value("SELECT max(consumption_kwh) FROM silver.readings") == 1
    lake.load(retry=["readings/a.json"])
    assert lake.value("SELECT max(consumption_kwh) FROM silver.readings") == 7
    (lake.landing.folder / "readings/a.json").unlink()
    with pytest.raises(ledger_files.UnknownFile, match=r"readings/a.json: not in the landing place"):
        lake.run(retry=["readings/a.json"])
