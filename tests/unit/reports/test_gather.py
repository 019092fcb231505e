"""What is read of tables that a lakehouse of years has, with the tables as Arrow has them and without Spark."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs import tables
from jobs.reports import gather
from jobs.reports.overview import DayCompleteness, WorstMeterpoint

NEWEST = date(2026, 1, 2)
SPARK: Any = None  # nothing here asks it

Partitions = dict[str, pa.Table]


class Lake:
    """Partitions by table, as jobs.tables reads them."""

    def __init__(self, content: dict[str, Partitions], column: str) -> None:
        self.content = content
        self.column = column

    def partitions(self, _: Any, table: str) -> set[str]:
        return set(self.content[table])

    def root_and_column(self, _: Any, table: str) -> tuple[str, str]:
        return f"/{table}", self.column

    def all_locations(self, _: Any, table: str) -> dict[str, str]:
        return {value: f"/{table}/{value}/load=L" for value in self.content[table]}

    def locations(self, _: Any, table: str, values: Iterable[date | str]) -> dict[str, str]:
        wanted = set(map(str, values))
        return {value: place for value, place in self.all_locations(None, table).items() if value in wanted}

    def read_rows(
        self,
        _: Any,
        table: str,
        locations: dict[str, str],
        where: pc.Expression | None = None,
        only: Collection[str] | None = None,
    ) -> pa.Table:
        rows = pa.concat_tables([self.content[table][value] for value in locations])
        rows = rows if where is None else rows.filter(where)
        return rows if only is None else rows.select(list(only))


def use(monkeypatch: pytest.MonkeyPatch, column: str, content: dict[str, Partitions]) -> None:
    lake = Lake(content, column)
    for name in ("partitions", "root_and_column", "all_locations", "locations", "read_rows"):
        monkeypatch.setattr(tables, name, getattr(lake, name))


def test_completeness__should_be_of_all_years_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def year(day: date, received: int) -> pa.Table:
        return pa.table(
            {
                "date": [day],
                "meterpoint_count": [10],
                "complete_meterpoints": [8],
                "silent_meterpoints": [1],
                "expected_readings": [480],
                "received_readings": [received],
            }
        )

    use(
        monkeypatch,
        "year",
        {tables.DAILY_COMPLETENESS: {"2026": year(NEWEST, 479), "2025": year(date(2025, 12, 31), 400)}},
    )

    assert gather.completeness(SPARK) == [
        DayCompleteness(date(2025, 12, 31), expected=480, received=400, complete=8, silent=1, meterpoints=10),
        DayCompleteness(NEWEST, expected=480, received=479, complete=8, silent=1, meterpoints=10),
    ]


def test_worst_meterpoints__should_sum_the_last_days_and_leave_out_those_that_are_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of(received: dict[str, int]) -> pa.Table:
        return pa.table(
            {
                "meterpoint_id": pa.array(received, pa.string()),
                "agreement_id": pa.array([None if name == "b" else 1 for name in received], pa.int64()),
                "reading_count": pa.array(received.values(), pa.int32()),
                "expected_readings": pa.array([48] * len(received), pa.int32()),
            }
        )

    days = {str(NEWEST - timedelta(days=number)): of({}) for number in range(8)}
    days[str(NEWEST)] = of({"a": 47, "b": 0, "c": 48})
    days[str(NEWEST - timedelta(days=6))] = of({"a": 0, "b": 0, "c": 48})
    days[str(NEWEST - timedelta(days=7))] = of({"c": 0})
    use(monkeypatch, "date", {tables.DAILY_METERPOINT: days})

    assert gather.worst_meterpoints(SPARK, NEWEST) == [
        WorstMeterpoint("b", missing=96, days=2, silent_days=2, has_agreement=False),
        WorstMeterpoint("a", missing=49, days=2, silent_days=1, has_agreement=True),
    ]


def test_silent_meterpoints__should_be_those_of_the_week_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(*ids: str) -> pa.Table:
        # One that has an agreement has a row, read or not.
        counts = pa.array([48] * len(ids) + [0], pa.int32())
        return pa.table({"meterpoint_id": pa.array([*ids, "silent"], pa.string()), "reading_count": counts})

    days = {str(NEWEST - timedelta(days=number)): of() for number in range(9)}
    days |= {
        str(NEWEST): of("a"),
        str(NEWEST - timedelta(days=7)): of("a", "b"),
        str(NEWEST - timedelta(days=8)): of("gone long ago"),
    }
    use(monkeypatch, "date", {tables.DAILY_METERPOINT: days})

    assert gather.silent_meterpoints(SPARK, NEWEST) == ["b"]


def test_newest_date__should_be_found_in_a_table_by_date_or_by_year(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "date", {"t": {str(NEWEST + timedelta(days=number)): pa.table({}) for number in range(-9, 9)}})
    assert gather.newest_date(SPARK, "t", NEWEST) == NEWEST

    later = pa.table({"date": [NEWEST, NEWEST + timedelta(days=1)]})
    use(monkeypatch, "year", {"t": {"2025": pa.table({"date": [date(2025, 12, 31)]}), "2026": later}})
    assert gather.newest_date(SPARK, "t", NEWEST) == NEWEST
    assert gather.newest_date(SPARK, "t", date(2026, 1, 1)) == date(2025, 12, 31)
    assert gather.newest_date(SPARK, "t", date(2020, 1, 1)) is None
