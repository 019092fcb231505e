"""What is kept no longer goes, and nothing else does."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs import expire
from jobs.erasure import find as erased
from jobs.erasure import run as erase
from jobs.errors import LakeError
from jobs.expire import Expired
from jobs.rollback import RollbackError
from jobs.settings import Settings
from tests.integration.lake import Agreement, Lake, Rows, day
from tests.integration.test_recovery import die_before_publishing

TODAY = date(2021, 3, 1)
TOTALS = (
    "half_hourly_consumption",
    "daily_product_consumption",
    "daily_completeness",
    "half_hourly_region_consumption",
)


@pytest.fixture(scope="module")
def lake(new_lake: Callable[[], Lake]) -> Lake:
    """Two dates, of which the first is too old; a correction of both, and a rejected row. Some have no agreement."""
    lake = new_lake()
    lake.landing.reference([Agreement(1, "a")], ["a", "b"])
    for number, kwh in enumerate((1, 2)):
        after = timedelta(hours=number)
        rows = [*day("a", "2021-01-31", kwh), *day("a", "2021-02-01", kwh), ["2021-02-01 00:00:00", -1, "b"]]
        lake.landing.readings("a.json", rows, after=after)
        lake.load()
    lake.landing.readings("others.json", [row for name in ("x", "y", "z") for row in day(name, "2021-01-31", 3)])
    lake.load()
    return lake


def keeping(lake: Lake, **months: int) -> Settings:
    return lake.settings.model_copy(update={f"keep_{name}_months": number for name, number in months.items()})


def find(lake: Lake, today: date = TODAY, **months: int) -> list[Expired]:
    return expire.find(lake.spark, keeping(lake, **months), today)


def totals(lake: Lake) -> dict[str, Rows]:
    return {view: lake.view(f"gold.{view}") for view in TOTALS}


def test_nothing_goes_that_is_young_enough_or_shown(lake: Lake) -> None:
    assert find(lake, readings=2, superseded=14, quarantine=0, snapshots=0) == []
    # The snapshot is of this year, and would be too old a hundred years later.
    assert find(lake, date(2126, 1, 1), superseded=0, snapshots=1) == []
    found = find(lake, date(2126, 1, 1), superseded=1, quarantine=1)
    assert [each.table for each in found] == ["quarantine.readings", "silver.superseded_readings"]


def test_readings_that_are_too_old_go_and_the_totals_of_their_date_stay(lake: Lake) -> None:
    before, told = totals(lake), []  # type: tuple[dict[str, Rows], list[str]]
    found = find(lake, readings=1)

    load_id = expire.run(lake.spark, keeping(lake, readings=1), found, told.append)

    assert {(each.table, *each.values) for each in found} == {
        (table, "2021-01-31") for table in ("silver.readings", "ops.claims", "mart.daily_meterpoint_consumption")
    }
    assert lake.rows("SELECT DISTINCT date FROM silver.readings") == [(date(2021, 2, 1),)]
    assert lake.rows("SELECT DISTINCT date FROM gold.meterpoint_daily") == [(date(2021, 2, 1),)]
    assert totals(lake) == before
    assert lake.rows(f"SELECT kind, status, accepted FROM gold.load_history WHERE load_id = '{load_id}'") == [
        ("expire", "published", ["LAKE_KEEP_READINGS_MONTHS"])
    ]
    assert find(lake, readings=1) == []

    # Another product in all of the past changes the totals of what is kept alone, and a rebuild nothing else.
    lake.landing.reference([Agreement(1, "a", product_id="P3")], ["a", "b"], after=timedelta(hours=1))
    lake.load()
    lake.load(kind="rebuild", rebuild=(None, None))
    by_product = dict(lake.rows("SELECT date, product_display_name FROM gold.daily_product_consumption"))
    assert by_product == {date(2021, 1, 31): "Fixed", date(2021, 2, 1): "Variable"}
    assert totals(lake)["half_hourly_consumption"] == before["half_hourly_consumption"]


def test_a_delivery_of_dates_that_are_kept_no_longer_changes_nothing(lake: Lake) -> None:
    before = totals(lake)
    kept = keeping(lake, readings=1)  # of today, so that nothing of 2021 is
    lake.landing.readings("late.json", day("a", "2021-01-31", 0.9), after=timedelta(hours=3))
    settings, lake.settings = lake.settings, kept

    summary = lake.load()

    lake.settings = settings
    assert (summary.readings_loaded, summary.dates) == (0, [])
    assert summary.receipt.warnings == {"date_not_kept": 48}
    assert totals(lake) == before


def test_what_is_read_again_of_such_dates_under_a_higher_setting_does_not_take_the_place_of_their_totals(
    lake: Lake,
) -> None:
    before = totals(lake)

    summary = lake.load(kind="reload", again=["readings/late.json"])

    [blocking] = summary.blocking
    assert blocking.startswith("ops.load_files: a date loses 75 % of its readings, expected at most 1 %")
    assert totals(lake) == before
    # Nor does a little take the place of what is little itself.
    lake.landing.readings("little.json", day("x", "2021-01-31", 0.9), after=timedelta(hours=4))
    assert lake.load().blocking
    assert totals(lake) == before
    (lake.landing.folder / "readings" / "little.json").unlink()


def test_what_was_known_of_dates_that_are_kept_no_longer_is_told_no_longer(lake: Lake) -> None:
    # When the first load had ended, and the second had not.
    moment = lake.value("SELECT min(finished_at) FROM ops.loads")

    assert lake.rows(
        f"SELECT date, sum(consumption_kwh) FROM silver.readings_as_of(TIMESTAMP '{moment}') GROUP BY date"
    ) == [(date(2021, 2, 1), 48)]


def test_files_go_when_their_time_has_come_and_the_rest_stays(lake: Lake) -> None:
    before = totals(lake)
    old = Path(lake.settings.warehouse) / "silver/readings/date=2021-01-31"
    assert any(old.rglob("*.parquet"))

    expire.run(lake.spark, keeping(lake).model_copy(update={"retention_hours": 0}), [], lambda _: None)

    assert not any(old.rglob("*.parquet"))
    assert totals(lake) == before
    assert lake.run() is None


# --- with what else is done to a lakehouse ----------------------------------------------------------------------------


def test_an_expiry_waits_until_a_run_that_was_killed_is_put_right(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-31", 1) + day("a", "2021-02-01", 1))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    lake.load()
    before = lake.gold()
    # Outweighs the readings of a.json, which are nowhere when it dies, and was a mistake.
    lake.landing.readings("mistake.json", day("a", "2021-02-01", 2), after=timedelta(hours=1))
    die_before_publishing(lake, "silver.contested_readings")
    (lake.landing.folder / "readings/mistake.json").unlink()

    with pytest.raises(LakeError, match="a run was killed while it published; `lake run` has to put that right first"):
        expire.run(lake.spark, keeping(lake, readings=1), find(lake, readings=1), lambda _: None)

    lake.load()
    assert lake.gold() == before
    # And a load puts right what an expiry that was killed has begun.
    die_before_publishing(
        lake, "ops.loads", lambda: expire.run(lake.spark, lake.settings, find(lake, readings=1), lambda _: None)
    )
    lake.load()
    assert lake.gold() == before


def test_what_comes_after_an_expiry_of_snapshots_alone_can_be_rolled_back(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-31", 1))
    for number, product in enumerate(("P1", "P3")):
        lake.landing.reference([Agreement(1, "a", product_id=product)], ["a"], after=timedelta(days=40 * number))
        second = lake.load()
    found = find(lake, date(2022, 1, 15), snapshots=1)
    assert {(each.table, *each.values) for each in found} == {(table, "2021-11-02") for table in expire.OF_SNAPSHOTS}
    expired = expire.run(lake.spark, lake.settings.model_copy(update={"retention_hours": 0}), found, lambda _: None)
    before = lake.gold()
    lake.landing.readings("a.json", day("a", "2021-01-31", 2), after=timedelta(days=41))

    lake.undo(lake.load().load_id)

    assert lake.gold() == before
    with pytest.raises(RollbackError, match=f"{expired} came after {second.load_id}: roll that back first"):
        lake.undo(second.load_id)
    with pytest.raises(RollbackError, match=r"deleted already, of silver.\w+_history 2021-11-02"):
        lake.undo(str(expired))


def test_totals_stay_where_a_rollback_of_the_expiry_is_killed(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-31", 1) + day("a", "2021-02-01", 1))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    lake.load()
    before = totals(lake)
    expired = expire.run(lake.spark, keeping(lake, readings=1), find(lake, readings=1), lambda _: None)

    die_before_publishing(lake, "ops.loads", lambda: lake.undo(str(expired)))
    # A delivery of the same year, so that its totals are written with those that stay.
    lake.landing.readings("b.json", day("a", "2021-02-02", 1), after=timedelta(hours=1))
    lake.load()

    after = totals(lake)
    assert {view: [row for row in rows.rows if date(2021, 2, 2) not in row] for view, rows in after.items()} == {
        view: rows.rows for view, rows in before.items()
    }
    assert lake.rows("SELECT DISTINCT date FROM silver.readings ORDER BY date") == [
        (date(2021, 2, 1),),
        (date(2021, 2, 2),),
    ]


@pytest.mark.parametrize(
    ("is_finished", "told"),
    [(False, "an erasure was killed"), (True, "an erasure left totals to be built anew")],
    ids=["before it was done", "before it restated"],
)
def test_an_expiry_waits_for_an_erasure_that_was_killed(
    new_lake: Callable[[], Lake], is_finished: bool, told: str
) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", [*day("abcdef1", "2021-01-31", 1), *day("b", "2021-01-31", 1)])
    lake.load()
    request = erased.Request(("abcdef1",), (), "asked for", "somebody", restate=True)
    what, found = erased.find(lake.spark, lake.settings, request)
    erase.begin(lake.settings, what)
    if is_finished:
        erase.finish(lake.spark, lake.settings, lambda _: None, found)

    with pytest.raises(LakeError, match=told):
        expire.run(lake.spark, keeping(lake, readings=1), find(lake, readings=1), lambda _: None)

    lake.run()
    assert lake.rows("SELECT DISTINCT meterpoint_id FROM silver.readings") == [("b",)]
    assert expire.run(lake.spark, keeping(lake, readings=1), find(lake, readings=1), lambda _: None)
    lake.run()
    assert lake.rows("SELECT DISTINCT meterpoint_count FROM gold.half_hourly_consumption") == [(1,)]
