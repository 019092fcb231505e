"""What needs more than one row: the hour of October that occurs twice, and meterpoint-days that are held whole."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.readings.parse import ParsedFile, parse_file

LONDON = ZoneInfo("Europe/London")
CASES = Path(__file__).parents[2] / "cases"
FAR = 4_000_000_000_000_000
# UTC instants of the half hours of 31 October 2021.
OCTOBER = [datetime(2021, 10, 30, 23, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(50)]
Row = tuple[datetime, float, str]  # instant, kWh, meterpoint


def parsed(rows: list[Row]) -> ParsedFile:
    data = [[f"{instant.astimezone(LONDON):%Y-%m-%d %H:%M:%S}", kwh, name] for instant, kwh, name in rows]
    columns = ["interval_start", "consumption_delta", "meterpoint_id"]
    return parse_file("a.json", json.dumps({"columns": columns, "data": data}).encode(), FAR)


def instants(file: ParsedFile) -> set[Row]:
    """The good rows with the instants that they were given."""
    good = zip(file.good.interval_start_utc, file.good.consumption_kwh, file.good.meterpoint_id, strict=True)
    return {(datetime.fromtimestamp(utc / 1e6, UTC), float(kwh), name) for utc, kwh, name in good}


def october(name: str = "m") -> list[Row]:
    """A whole day; each half hour has a consumption of its own."""
    return [(instant, (n * 7 % 50) / 100, name) for n, instant in enumerate(OCTOBER)]


def by_clock(row: Row) -> datetime:
    return row[0].astimezone(LONDON).replace(tzinfo=None)


ORDERS: dict[str, Callable[[list[Row]], list[Row]]] = {
    "oldest first": list,
    "newest first": lambda rows: rows[::-1],
    "afternoon before morning": lambda rows: rows[24:] + rows[:24],
    "two pieces, each newest first": lambda rows: rows[30:][::-1] + rows[:30][::-1],
    "sorted by what the clock shows": lambda rows: sorted(rows, key=by_clock),
    "sorted so, newest first": lambda rows: sorted(rows, key=by_clock)[::-1],
    "interleaved with another meterpoint": lambda rows: [
        r for pair in zip(rows, october("n"), strict=True) for r in pair
    ],
    "interleaved, newest first": lambda rows: [r for pair in zip(rows, october("n"), strict=True) for r in pair][::-1],
}


@pytest.mark.parametrize("order", ORDERS)
def test_repeated_hour__should_be_told_by_the_order_of_the_file(order: str) -> None:
    rows = ORDERS[order](october())

    file = parsed(rows)

    assert instants(file) == set(rows)
    assert file.warnings == {}


@given(st.integers(0, 50), st.booleans())
def test_day_that_is_cut_between_two_files__should_load_whole_whatever_the_place(cut: int, newest_first: bool) -> None:
    rows = october()[::-1] if newest_first else october()

    first, second = parsed(rows[:cut]), parsed(rows[cut:])

    told = instants(first) | instants(second)
    if "repeated_hour_not_told" in first.warnings or "repeated_hour_not_told" in second.warnings:
        # A piece of one row or two in the middle of the hour says nothing of its place.
        assert min(cut, 50 - cut) <= 4
    else:
        assert told == set(rows)
    assert len(told) >= 48


@given(st.randoms())
def test_shuffled_day__should_be_told_rightly_or_counted(chance: Any) -> None:
    rows = october()
    chance.shuffle(rows)

    file = parsed(rows)

    assert len(instants(file)) == 50
    assert instants(file) == set(rows) or file.warnings.get("repeated_hour_not_told", 0) >= 2 or not _is_told(rows)


def _is_told(rows: list[Row]) -> bool:
    """Whether no row of the hour stands by chance beside one that seems to be its neighbour in time and is not."""
    pairs = pairwise(rows)
    gaps = [
        abs(by_clock(a) - by_clock(b)) == timedelta(minutes=30) and abs(a[0] - b[0]) != timedelta(minutes=30)
        for a, b in pairs
    ]
    return not any(gaps)


@pytest.mark.parametrize(
    ("case", "loaded", "reasons"),
    [
        ("01-october-newest-first.json", 50, {}),
        ("03-watt-hours.json", 0, {"day_in_watt_hours": 48}),
        ("05-quarter-hours.json", 0, {"day_of_quarter_hours": 96}),
        ("09-clock-2070.json", 48, {"interval_start_after_file": 4}),
        ("11a-good-meter.json", 48, {}),
        ("11b-backfill-of-another-meter-in-iso.json", 0, {"interval_start_not_a_timestamp": 1104}),
        ("12-one-meter-five-spellings.json", 4, {"meterpoint_id_padded_or_invisible": 6}),
    ],
)
def test_case_from_the_field__should_be_judged_as_said(case: str, loaded: int, reasons: dict[str, int]) -> None:
    file = parse_file(case, (CASES / case).read_bytes(), 1_764_000_000_000_000)  # 2025

    assert len(file.good.meterpoint_id) == loaded
    assert Counter(row.reason for row in file.rejected) == reasons


WINTER = [datetime(2021, 1, 5, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(48)]


def of(values: list[float], start: datetime = WINTER[0], minutes: int = 30) -> list[Row]:
    return [(start + timedelta(minutes=minutes * n), value, "m") for n, value in enumerate(values)]


DAYS: dict[str, tuple[list[Row], int, dict[str, int], dict[str, int]]] = {
    # name: rows, good ones, reasons, warnings
    "a plain day": (of([0.1, 0.2] * 24), 48, {}, {}),
    "watt-hours with a night under 100": (
        of([60.0] * 10 + [400.0] * 28 + [55.0] * 10),
        0,
        {"day_in_watt_hours": 48},
        {},
    ),
    "watt-hours that are all small whole numbers": (of([12.0, 20.0, 16.0] * 16), 0, {"day_in_watt_hours": 48}, {}),
    "a large house on three phases": (of([30.5, 34.2, 12.1, 8.8] * 12), 48, {}, {}),
    "one absurd value": (of([0.2] * 47 + [101.0]), 0, {"day_with_absurd_values": 47, "consumption_absurd": 1}, {}),
    "quarter hours": (of([0.1] * 96, minutes=15), 0, {"day_of_quarter_hours": 96}, {}),
    "five minutes": (
        of([0.1] * 288, minutes=5),
        0,
        {"day_off_the_grid": 48, "interval_start_not_a_half_hour": 240},
        {},
    ),
    "a register beyond the limit": (of([12_345.1 + n / 10 for n in range(48)]), 0, {"day_of_register_values": 48}, {}),
    "a register of a new meter": (of([20.5 + n / 10 for n in range(48)]), 0, {"day_of_register_values": 48}, {}),
    "a register of a meter that is newer still": (of([n / 10 for n in range(48)]), 48, {}, {"rising_values": 48}),
    "hours": (of([0.3, 0.4] * 12, minutes=60), 24, {}, {"hourly_values": 1}),
    "ends of half hours": (of([0.1, 0.2] * 24, start=WINTER[1]), 48, {}, {"stamps_at_interval_end": 48}),
    "a first day from half past midnight": (of([0.1, 0.2] * 40, start=WINTER[1]), 80, {}, {}),
    "a bad day beside a good one": (of([0.1] * 48 + [50.5] * 48), 48, {"day_in_watt_hours": 48}, {"rising_values": 0}),
}


@pytest.mark.parametrize("name", DAYS)
def test_day__should_be_held_whole_or_load_with_a_warning(name: str) -> None:
    rows, good, reasons, warnings = DAYS[name]

    file = parsed(rows)

    assert len(file.good.meterpoint_id) == good
    assert Counter(row.reason for row in file.rejected) == reasons
    assert file.warnings == {warning: count for warning, count in warnings.items() if count}
