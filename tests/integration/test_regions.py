"""Regions as they were on each date: snapshots that move meterpoints, name them late, or lose them.

| meterpoint | first snapshot, 2 November | second, 4 November | third, 4 November |
|---|---|---|---|
| moves | North | South | West |
| stays | North | North | North |
| leaves | South | not there | not there |
| late | not there | East | East |
| unnamed | null | blank | null |
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import pytest

from jobs.load import Summary
from tests.integration.lake import Agreement, Lake, Rows, day
from tests.model.regions import Snapshots, region_on

DAY = timedelta(days=1)
DATES = [date(2021, 10, 31), *(date(2021, 11, number) for number in range(1, 6))]
SNAPSHOTS: Snapshots = [
    (date(2021, 11, 2), {"moves": "North", "stays": "North", "leaves": "South", "unnamed": None}),
    (date(2021, 11, 4), {"moves": "South", "stays": "North", "late": "East", "unnamed": "  "}),
    (date(2021, 11, 4), {"moves": "West", "stays": "North", "late": "East", "unnamed": None}),
]
KWH = {"moves": "0.001", "stays": "0.01", "leaves": "0.1", "late": "1", "unnamed": "10"}
READ = dict.fromkeys(KWH, DATES) | {"late": [date(2021, 11, 1)]}
VIEWS = ("daily_region_consumption", "half_hourly_region_consumption", "meterpoint_daily", "readings_enriched")
Totals = dict[tuple[str | None, date], Decimal]


@dataclass
class Story:
    """What was told and shown after each snapshot, and after what followed the last of them."""

    lake: Lake
    summaries: list[Summary]
    shown: list[dict[str, Rows]]
    rolled_back: dict[str, Rows]
    put_back: dict[str, Rows]
    rebuilt: dict[str, Rows]


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake]) -> Story:
    lake = new_lake()
    for name, dates in READ.items():
        rows = [row for each in dates for row in day(name, str(each), float(KWH[name]))]
        lake.landing.readings(f"{name}.json", rows, after=5 * DAY)
    agreements = [Agreement(1, "moves"), Agreement(2, "stays", product_id="P3"), Agreement(3, "leaves", "2021-11-03")]
    summaries, shown = [], []
    for number, (at, regions) in enumerate(SNAPSHOTS):
        known = [each for each in agreements if each.meterpoint_id in regions]
        lake.landing.reference(known, regions, after=(at - date(2021, 11, 2)) + timedelta(minutes=number))
        summaries.append(lake.load())
        shown.append(views(lake))
    lake.undo(summaries[-1].load_id)
    rolled_back = views(lake)
    lake.undo(lake.value("SELECT max(load_id) FROM ops.loads"))
    put_back = views(lake)
    lake.load(kind="rebuild", rebuild=(None, None))
    return Story(lake, summaries, shown, rolled_back, put_back, views(lake))


def views(lake: Lake) -> dict[str, Rows]:
    return {view: lake.view(f"gold.{view}") for view in VIEWS}


def totals(answer: Rows) -> Totals:
    """kWh by region and date."""
    region, on, kwh = (answer.columns.index(name) for name in ("region", "date", "consumption_kwh"))
    found: Totals = defaultdict(Decimal)
    for row in answer.rows:
        found[row[region], row[on]] += row[kwh] or 0
    return {key: value for key, value in found.items() if value}


@pytest.mark.parametrize("number", range(len(SNAPSHOTS)))
@pytest.mark.parametrize("view", VIEWS)
def test_each_view_has_the_region_of_the_date_after_each_snapshot(story: Story, view: str, number: int) -> None:
    expected: Totals = defaultdict(Decimal)
    for name, dates in READ.items():
        for on in dates:
            half_hours = 50 if on == DATES[0] else 48
            expected[region_on(SNAPSHOTS[: number + 1], name, on), on] += half_hours * Decimal(KWH[name])

    assert totals(story.shown[number][view]) == expected


def test_a_snapshot_rebuilds_the_dates_that_it_changes_and_no_others(story: Story) -> None:
    assert [summary.mart_dates for summary in story.summaries] == [
        DATES,
        # `late` was read on the first, the agreement of `leaves` began on the third, `moves` moved on the fourth.
        [date(2021, 11, 1), date(2021, 11, 3), date(2021, 11, 4), date(2021, 11, 5)],
        [date(2021, 11, 4), date(2021, 11, 5)],
    ]


def test_a_region_that_a_rollback_takes_away_is_the_one_before_and_comes_back(story: Story) -> None:
    assert story.rolled_back == story.shown[1]
    assert story.put_back == story.shown[2]


def test_all_dates_built_anew_say_the_same(story: Story) -> None:
    assert story.rebuilt == story.put_back


def test_regions_add_up_to_all_consumption(story: Story) -> None:
    broken = story.lake.rows(
        """
        WITH everything AS (SELECT interval_start_utc, sum(consumption_kwh) AS kwh, sum(meterpoint_count) AS readings
                            FROM gold.half_hourly_consumption GROUP BY ALL),
        regions AS (SELECT interval_start_utc, sum(consumption_kwh) AS kwh, sum(meterpoint_count) AS readings
                    FROM gold.half_hourly_region_consumption GROUP BY ALL)
        SELECT * FROM everything FULL JOIN regions USING (interval_start_utc)
        WHERE NOT (everything.kwh <=> regions.kwh AND everything.readings <=> regions.readings)
        """
    )

    assert broken == []
