"""Marts against a calculation in plain Python, which goes reading by reading and day by day."""

import random
from collections import defaultdict
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from jobs import corrected, marts, reference, sums
from jobs import regions as regions_of
from jobs.relations import Rows, as_table, query
from tests.unit.examples import examples

DAY = date(2021, 1, 10)
WEEK = [DAY + timedelta(days=number) for number in range(-2, 8)]


class Agreement(NamedTuple):
    agreement_id: int
    meterpoint_id: str
    valid_from: date
    valid_to: date | None
    product_id: str = "p1"
    account_id: str | None = "a1"


class Product(NamedTuple):
    product_id: str
    display_name: str | None
    is_variable: bool | None = False


class Reading(NamedTuple):
    meterpoint_id: str
    interval_start: datetime
    kwh: Decimal
    quality: str | None = None


class Snapshot(NamedTuple):
    agreements: list[Agreement]
    products: list[Product]


# p1 and p3 share a name, p4 has none.
PRODUCTS = [Product("p1", "Green"), Product("p2", "Blue", True), Product("p3", "Green"), Product("p4", None, None)]


FrameOf = Callable[[pa.Table], Rows]


@pytest.fixture(scope="module", params=["in Spark", "in memory"])
def frame_of(request: pytest.FixtureRequest, spark: SparkSession) -> FrameOf:
    """Makes rows of which Spark works out the marts, or this process does."""
    return spark.createDataFrame if request.param == "in Spark" else in_memory


def in_memory(table: pa.Table) -> Rows:
    return table


def cached(frame: Rows) -> Rows:
    return frame if isinstance(frame, pa.Table) else frame.cache()


def local_frame(frame_of: FrameOf, rows: list[tuple[Any, ...]], **types: pa.DataType) -> Rows:
    """A frame that Spark has in its plan: small joins are then quick."""
    columns = zip(*rows, strict=True) if rows else [[]] * len(types)
    arrays = [pa.array(values, each) for values, each in zip(columns, types.values(), strict=True)]
    return frame_of(pa.table(arrays, names=list(types)))


def agreement_frame(frame_of: FrameOf, agreements: list[Agreement]) -> Rows:
    return local_frame(
        frame_of,
        [(*agreement, DAY) for agreement in agreements],
        agreement_id=pa.int64(),
        meterpoint_id=pa.string(),
        agreement_valid_from=pa.date32(),
        agreement_valid_to=pa.date32(),
        product_id=pa.string(),
        account_id=pa.string(),
        snapshot_date=pa.date32(),
    )


def product_frame(frame_of: FrameOf, products: list[Product]) -> Rows:
    return local_frame(
        frame_of,
        [(*product, number, DAY) for number, product in enumerate(products)],
        product_id=pa.string(),
        display_name=pa.string(),
        is_variable=pa.bool_(),
        id=pa.int64(),
        snapshot_date=pa.date32(),
    )


def date_frame(frame_of: FrameOf, dates: list[date]) -> Rows:
    return local_frame(frame_of, [(each,) for each in dates], date=pa.date32())


def reading_frame(frame_of: FrameOf, readings: list[Reading]) -> Rows:
    moment = pa.timestamp("us", "UTC")
    return local_frame(
        frame_of,
        [
            (r.meterpoint_id, r.interval_start, r.interval_start, r.kwh, r.quality, r.interval_start.date())
            for r in readings
        ],
        meterpoint_id=pa.string(),
        interval_start=moment,
        interval_start_utc=moment,
        consumption_kwh=pa.decimal128(9, 6),
        reading_quality=pa.string(),
        date=pa.date32(),
    )


def region_frame(frame_of: FrameOf, regions: dict[str, str]) -> Rows:
    """silver.meterpoint_regions of meterpoints that never changed their region."""
    table = pa.table({"meterpoint_id": list(regions), "region": list(regions.values())})
    return frame_of(regions_of.after_snapshot(regions_of.SPANS.empty_table(), table, DAY))


def rows(frame: Rows, *names: str) -> list[tuple[Any, ...]]:
    """Rows as tuples; through Arrow, in which times keep their zone."""
    return [tuple(row[name] for name in names) for row in as_table(frame).to_pylist()]


def at_most_one_each(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a key occurs twice"
    return found


# --- the same in plain Python --------------------------------------------------------------------------------------


def holding(agreements: list[Agreement], meterpoint_id: str, day: date) -> Agreement | None:
    """The agreement that holds on a day: of several the one that began last, then that of the highest number."""
    best = None
    for agreement in agreements:
        if agreement.meterpoint_id != meterpoint_id or day < agreement.valid_from:
            continue
        if agreement.valid_to is not None and day >= agreement.valid_to:
            continue
        if best is None or (agreement.valid_from, agreement.agreement_id) > (best.valid_from, best.agreement_id):
            best = agreement
    return best


def name_of(agreement: Agreement | None, products: list[Product] = PRODUCTS) -> str | None:
    if agreement is None:
        return None
    names = {product.product_id: product.display_name for product in products}
    return names.get(agreement.product_id) or agreement.product_id


def details(agreement: Agreement | None, products: list[Product]) -> tuple[Any, ...] | None:
    """All that a mart shows of an agreement."""
    if agreement is None:
        return None
    variable = {product.product_id: product.is_variable for product in products}.get(agreement.product_id)
    shown = agreement.agreement_id, agreement.product_id, agreement.account_id
    return *shown, name_of(agreement, products), variable


# --- agreements ----------------------------------------------------------------------------------------------------

start = st.integers(0, 7).map(lambda number: DAY + timedelta(days=number - 1))
length = st.integers(-1, 5) | st.none()
product_id = st.sampled_from(["p1", "p2", "p3", "p4"])
# Overlapping, of no length, ended before they start, open-ended and of equal start are all likely.
agreements_of_one_meterpoint = st.lists(st.tuples(start, length, product_id), max_size=5)


def made_agreements(count: int) -> list[Agreement]:
    """Agreements of many meterpoints: these have nothing to do with each other, so each is an example of its own."""
    agreements = [
        (f"m{number}", valid_from, valid_from + timedelta(days=days) if days is not None else None, product)
        for number, example in enumerate(examples(agreements_of_one_meterpoint, count))
        for valid_from, days, product in example
    ]
    ids = random.Random(1).sample(range(len(agreements)), len(agreements))
    return [Agreement(number, *agreement) for number, agreement in zip(ids, agreements, strict=True)]


def test_agreements_on__should_find_the_one_that_holds_on_each_date(frame_of: FrameOf) -> None:
    agreements = made_agreements(300)
    frames = agreement_frame(frame_of, agreements), product_frame(frame_of, PRODUCTS)

    result = marts.agreements_on(date_frame(frame_of, WEEK), *frames)

    names = "agreement_id", "product_id", "account_id", "product_display_name", "is_variable"
    found = at_most_one_each(
        [((day, meterpoint), shown) for day, meterpoint, *shown in rows(result, "date", "meterpoint_id", *names)]
    )
    expected = {
        (day, meterpoint): list(shown)
        for day in WEEK
        for meterpoint in {agreement.meterpoint_id for agreement in agreements}
        if (shown := details(holding(agreements, meterpoint, day), PRODUCTS))
    }
    assert found == expected
    assert len(expected) > 500, "the examples must hold on many dates for the test to mean something"


CASES: dict[str, tuple[list[Agreement], list[int | None]]] = {
    # agreements of m1, and which of them holds on the day before DAY, on DAY, and on the day after it
    "begins on its first date": ([Agreement(1, "m1", DAY, None)], [None, 1, 1]),
    "holds no longer on its last date": ([Agreement(1, "m1", DAY - timedelta(9), DAY)], [1, None, None]),
    "one follows the other": ([Agreement(2, "m1", DAY - timedelta(9), DAY), Agreement(1, "m1", DAY, None)], [2, 1, 1]),
    "cancelled before it began": ([Agreement(1, "m1", DAY, DAY)], [None, None, None]),
    "ends before it starts": ([Agreement(1, "m1", DAY + timedelta(1), DAY - timedelta(1))], [None, None, None]),
    "cancelled over one that holds": ([Agreement(1, "m1", WEEK[0], None), Agreement(2, "m1", DAY, DAY)], [1, 1, 1]),
    "the later start wins": ([Agreement(9, "m1", WEEK[0], None), Agreement(1, "m1", DAY, None)], [9, 1, 1]),
    "the higher number wins": ([Agreement(9, "m1", DAY, None), Agreement(10, "m1", DAY, None)], [None, 10, 10]),
    "the earlier one holds again": (
        [Agreement(1, "m1", WEEK[0], None), Agreement(2, "m1", DAY, DAY + timedelta(1))],
        [1, 2, 1],
    ),
    "of another meterpoint": ([Agreement(1, "m2", WEEK[0], None)], [None, None, None]),
}


@pytest.mark.parametrize("name", CASES)
def test_agreement__should_hold_from_its_first_date_until_the_date_before_its_end(name: str) -> None:
    """Keeps the calculation in plain Python right, with which the others compare."""
    agreements, expected = CASES[name]

    found = [holding(agreements, "m1", DAY + timedelta(days=number)) for number in (-1, 0, 1)]

    assert [agreement and agreement.agreement_id for agreement in found] == expected


def test_cases_of_agreements__should_hold_in_the_product_too(frame_of: FrameOf) -> None:
    """All cases at once, each with meterpoints of its own."""
    days = [DAY + timedelta(days=number) for number in (-1, 0, 1)]
    agreements = [
        each._replace(meterpoint_id=f"{name}/{each.meterpoint_id}")
        for name, (case, _) in CASES.items()
        for each in case
    ]

    result = marts.agreements_on(
        date_frame(frame_of, days), agreement_frame(frame_of, agreements), product_frame(frame_of, PRODUCTS)
    )

    found = at_most_one_each(
        [((m, day), number) for m, day, number in rows(result, "meterpoint_id", "date", "agreement_id")]
    )
    assert {name: [found.get((f"{name}/m1", day)) for day in days] for name in CASES} == {
        name: expected for name, (_, expected) in CASES.items()
    }


def test_overlaps__should_be_counted_as_pair_by_pair() -> None:
    agreements = made_agreements(300)

    def overlaps(agreement: Agreement) -> bool:
        """Whether it begins while one that comes before it still holds."""
        return any(
            other.meterpoint_id == agreement.meterpoint_id
            and (other.valid_from, other.agreement_id) < (agreement.valid_from, agreement.agreement_id)
            and (other.valid_to is None or other.valid_to > agreement.valid_from)
            for other in lasting
        )

    lasting = [each for each in agreements if each.valid_to is None or each.valid_to > each.valid_from]
    expected = sum(map(overlaps, lasting))

    assert reference.overlapping_agreements(agreement_frame(in_memory, agreements)) == expected > 0


LONDON = ZoneInfo("Europe/London")
# A winter's day, the days on which the clock changes, and a summer's day.
LENGTHS = {date(2021, 1, 10): 48, date(2021, 3, 28): 46, date(2021, 10, 31): 50, date(2021, 7, 1): 48}


def half_hours_of(day: date) -> list[datetime]:
    """The starts of a local day's half hours, UTC."""
    begin = datetime(day.year, day.month, day.day, tzinfo=LONDON).astimezone(UTC)
    starts = [begin + timedelta(minutes=30 * number) for number in range(60)]
    return [start for start in starts if start.astimezone(LONDON).date() == day]


# --- consumption ---------------------------------------------------------------------------------------------------

DAYS = WEEK[2:5]
COUNTS = "expected_readings", "received_readings", "actual_readings", "rated_readings"
# Of some of the meterpoints; m47 has neither readings nor an agreement.
REGIONS = {f"m{number}": ("North", "South")[number % 2] for number in range(47) if number % 5}


class Built(NamedTuple):
    """The marts, and what they were built from."""

    readings: list[Reading]
    agreements: list[Agreement]
    half_hourly: pa.Table
    half_hourly_product: pa.Table
    half_hourly_region: pa.Table
    daily_meterpoint: Rows
    daily_product: pa.Table
    daily_region: pa.Table

    def agreed(self, day: date) -> list[str]:
        """Meterpoints with an agreement."""
        ids = sorted({each.meterpoint_id for each in self.agreements})
        return [each for each in ids if holding(self.agreements, each, day)]

    def agreed_by(self, key: Callable[[str, date], Any]) -> dict[tuple[date, Any], list[str]]:
        """Meterpoints with an agreement by date and a key."""
        found = defaultdict(list)
        for day in DAYS:
            for meterpoint in self.agreed(day):
                found[day, key(meterpoint, day)].append(meterpoint)
        return found

    def counts(self, readings: list[Reading], agreed: list[str], half_hours: int) -> tuple[int, int, int, int]:
        """Expected, received, actual and rated readings of a sum. `agreed` are its meterpoints with an agreement."""
        return (
            half_hours * len(agreed),
            sum(each.meterpoint_id in agreed for each in readings),
            sum(each.quality == "A" for each in readings),
            sum(each.quality is not None for each in readings),
        )

    def name(self, reading: Reading) -> str | None:
        return name_of(holding(self.agreements, reading.meterpoint_id, reading.interval_start.date()))


@pytest.fixture(scope="module")
def built(frame_of: FrameOf) -> Built:
    chance = random.Random(2)
    agreements = made_agreements(40)
    readings = [
        Reading(
            f"m{number}",
            midnight + timedelta(minutes=30 * step),
            Decimal(chance.randrange(2_000_000)) / 1_000_000,
            chance.choice(["A", "A", "E", "Substituted", None]),
        )
        for number in range(10, 45)  # the last ones have no agreement at all, the first ones are not read
        for midnight in (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in DAYS)
        for step in (0, 1, 47)
        if chance.random() < 0.9
    ]
    frame = reading_frame(frame_of, readings)
    frames = agreement_frame(frame_of, agreements), product_frame(frame_of, PRODUCTS)
    calendar, regions = marts.calendar(DAYS), region_frame(frame_of, REGIONS)
    known = cached(marts.known_on(calendar, *frames, regions))
    half_hours = sums.of_half_hours(marts.half_hourly_sums(marts.consumption_by_half_hour(frame, known, calendar)))
    daily = cached(marts.daily_meterpoint_consumption(frame, known, calendar))
    days = sums.of_days(marts.daily_sums(daily, regions))["days"]
    return Built(
        readings,
        agreements,
        sums.half_hourly_consumption(half_hours["half_hours"]),
        sums.half_hourly_product_consumption(half_hours["half_hours_by_product"]),
        sums.half_hourly_region_consumption(half_hours["half_hours_by_region"]),
        daily,
        sums.daily_product_consumption(days),
        sums.daily_region_consumption(days),
    )


def grouped(pairs: list[tuple[Any, Reading]]) -> dict[Any, list[Reading]]:
    groups = defaultdict(list)
    for key, reading in pairs:
        groups[key].append(reading)
    return groups


def total(readings: list[Reading]) -> Decimal:
    return sum((reading.kwh for reading in readings), Decimal(0))


def meterpoints(readings: list[Reading]) -> int:
    return len({reading.meterpoint_id for reading in readings})


def test_half_hourly_consumption__should_count_all_meterpoints(built: Built) -> None:
    groups = grouped([(reading.interval_start, reading) for reading in built.readings])

    names = "interval_start_utc", "interval_start", "date", "meterpoint_count", "consumption_kwh"
    found = rows(built.half_hourly, *names, *COUNTS)

    assert sorted(found) == sorted(
        (
            *(start, start, start.date(), meterpoints(group), total(group)),
            *built.counts(group, built.agreed(start.date()), 1),
        )
        for start, group in groups.items()
    )


def test_half_hourly_product_consumption__should_add_up_products_of_one_name(built: Built) -> None:
    groups = grouped(
        [((name, reading.interval_start), reading) for reading in built.readings if (name := built.name(reading))]
    )

    names = "product_display_name", "interval_start_utc", "date", "meterpoint_count", "consumption_kwh", "average_kwh"
    found = rows(built.half_hourly_product, *names, "expected_readings", "actual_readings", "rated_readings")

    millionth = Decimal("0.000001")
    agreed = built.agreed_by(lambda meterpoint, day: name_of(holding(built.agreements, meterpoint, day)))
    expected = []
    for day, name in agreed:
        for start in half_hours_of(day):
            group = groups.pop((name, start), [])
            average = (total(group) / len(group)).quantize(millionth, ROUND_HALF_UP) if group else None
            count, _, *rated = built.counts(group, agreed[day, name], 1)
            expected.append((name, start, day, len(group), total(group) if group else None, average, count, *rated))
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert {name for _, name in agreed} == {"Green", "Blue", "p4"}
    assert not groups


def test_half_hourly_region_consumption__should_have_all_half_hours_of_regions_with_an_agreement(built: Built) -> None:
    groups = grouped([((REGIONS.get(each.meterpoint_id), each.interval_start), each) for each in built.readings])

    names = "region", "interval_start_utc", "interval_start", "date", "meterpoint_count", "consumption_kwh"
    found = rows(built.half_hourly_region, *names, *COUNTS)

    agreed = built.agreed_by(lambda meterpoint, _: REGIONS.get(meterpoint))
    starts = {(region, start) for day, region in agreed for start in half_hours_of(day)} | set(groups)
    expected = [
        (
            *(region, start, start, start.date(), len(groups.get((region, start), []))),
            total(groups[region, start]) if (region, start) in groups else None,
            *built.counts(groups.get((region, start), []), agreed.get((start.date(), region), []), 1),
        )
        for region, start in starts
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert {region for region, _ in starts} == {"North", "South", None}


def test_daily_region_consumption__should_have_silent_groups_and_those_without_an_agreement(built: Built) -> None:
    def group_of(meterpoint: str, day: date) -> tuple[str | None, str | None]:
        return name_of(holding(built.agreements, meterpoint, day)), REGIONS.get(meterpoint)

    groups = grouped(
        [((day := each.interval_start.date(), group_of(each.meterpoint_id, day)), each) for each in built.readings]
    )

    names = "date", "product_display_name", "region", "meterpoint_count", "consumption_kwh"
    found = rows(built.daily_region, *names, *COUNTS)

    agreed = built.agreed_by(group_of)
    expected = [
        (
            *(day, *group, meterpoints(groups.get((day, group), []))),
            total(groups[day, group]) if (day, group) in groups else None,
            *built.counts(groups.get((day, group), []), agreed.get((day, group), []), 48),
        )
        for day, group in agreed.keys() | groups.keys()
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert any(count == 0 for _, _, _, count, *_ in found)


def test_daily_product_consumption__should_count_a_meterpoint_once_a_day(built: Built) -> None:
    groups = grouped(
        [
            ((name, reading.interval_start.date()), reading)
            for reading in built.readings
            if (name := built.name(reading))
        ]
    )

    found = rows(built.daily_product, "product_display_name", "date", "meterpoint_count", "consumption_kwh", *COUNTS)

    agreed = built.agreed_by(lambda meterpoint, day: name_of(holding(built.agreements, meterpoint, day)))
    assert sorted(found) == sorted(
        (name, day, meterpoints(group), total(group), *built.counts(group, agreed[day, name], 48))
        for (name, day), group in groups.items()
    )


def test_daily_meterpoint_consumption__should_have_each_meterpoint_that_was_read_or_has_an_agreement(
    built: Built,
) -> None:
    groups = grouped([((reading.meterpoint_id, reading.interval_start.date()), reading) for reading in built.readings])
    ids = {reading.meterpoint_id for reading in built.readings} | {each.meterpoint_id for each in built.agreements}
    held = {(meterpoint, day): holding(built.agreements, meterpoint, day) for meterpoint in ids for day in DAYS}

    names = "agreement_id", "product_id", "account_id", "product_display_name", "is_variable"
    measured = "reading_count", "consumption_kwh", "actual_readings", "rated_readings", "min_kwh", "max_kwh"
    found = at_most_one_each(
        [
            ((meterpoint, day), tuple(shown))
            for meterpoint, day, *shown in rows(built.daily_meterpoint, "meterpoint_id", "date", *measured, *names)
        ]
    )

    assert found == {
        key: (
            len(groups.get(key, [])),
            total(groups[key]) if key in groups else None,
            *built.counts(groups.get(key, []), [], 0)[2:],
            min((each.kwh for each in groups[key]), default=None) if key in groups else None,
            max((each.kwh for each in groups[key]), default=None) if key in groups else None,
            *(details(agreement, PRODUCTS) or [None] * len(names)),
        )
        for key, agreement in held.items()
        if agreement or key in groups
    }
    assert any(count == 0 for count, *_ in found.values())


def test_daily_meterpoint_consumption__should_tell_what_is_missing_on_days_of_every_length(frame_of: FrameOf) -> None:
    chance = random.Random(3)
    received: dict[tuple[str, date], set[datetime]] = {}
    for day in LENGTHS:
        every = half_hours_of(day)
        for kept in ([], every, every[:1], every[-1:], every[1:], every[:-1], every[2:4]):
            received[f"m{len(received)}", day] = set(kept)
        for _ in range(20):
            received[f"m{len(received)}", day] = {start for start in every if chance.random() < chance.random()}
    local = {start: start.astimezone(LONDON).replace(tzinfo=UTC) for day in LENGTHS for start in half_hours_of(day)}
    given = [
        (name, day, start, local[start], Decimal(1), None)
        for (name, day), starts in received.items()
        for start in starts
    ]
    readings = local_frame(
        frame_of,
        given,
        meterpoint_id=pa.string(),
        date=pa.date32(),
        interval_start_utc=pa.timestamp("us", "UTC"),
        interval_start=pa.timestamp("us", "UTC"),
        consumption_kwh=pa.decimal128(9, 6),
        reading_quality=pa.string(),
    )
    agreements = agreement_frame(frame_of, [Agreement(1, name, DAY, None) for name, _ in received])
    calendar = marts.calendar(LENGTHS)
    regions = region_frame(frame_of, {"none": "North"})
    known = marts.known_on(calendar, agreements, product_frame(frame_of, PRODUCTS), regions)

    daily = cached(marts.daily_meterpoint_consumption(readings, known, calendar))

    columns = "meterpoint_id", "date", "expected_readings", "reading_count", "first_missing", "last_missing"
    found = {(name, day): told for name, day, *told in rows(daily, *columns) if (name, day) in received}
    missing = {key: sorted(set(half_hours_of(key[1])) - starts) for key, starts in received.items()}
    assert found == {
        (name, day): [
            LENGTHS[day],
            len(received[name, day]),
            local[gaps[0]] if gaps else None,
            local[gaps[-1]] if gaps else None,
        ]
        for (name, day), gaps in missing.items()
    }
    # An agreement holds on all of these days from its first on, so meterpoints of other days are silent.
    since = {day: [key for key in received if day >= DAY] for day in LENGTHS}
    counts = "date", "meterpoint_count", "complete_meterpoints", "silent_meterpoints", "expected_readings"
    completeness = sums.daily_completeness(sums.of_days(marts.daily_sums(daily, regions))["completeness"])
    assert sorted(rows(completeness, *counts, "received_readings")) == sorted(
        (
            day,
            len(since[day]),
            sum(on == day and not gaps for (_, on), gaps in missing.items()),
            sum(on != day or not received[name, on] for name, on in received),
            len(since[day]) * length,
            sum(len(starts) for (_, on), starts in received.items() if on == day),
        )
        for day, length in LENGTHS.items()
    )


@pytest.mark.parametrize("day", DAYS)
def test_consumption_of_products_and_without_agreement__should_be_all_consumption(built: Built, day: date) -> None:
    def kwh(frame: Rows) -> Decimal:
        return sum((kwh or Decimal(0) for on, kwh in rows(frame, "date", "consumption_kwh") if on == day), Decimal(0))

    without = query("SELECT * FROM {daily} WHERE agreement_id IS NULL", daily=built.daily_meterpoint)

    assert kwh(built.half_hourly) == kwh(built.daily_product) + kwh(without)
    assert kwh(built.half_hourly) == kwh(built.half_hourly_product) + kwh(without)
    assert kwh(built.half_hourly) == kwh(built.half_hourly_region) == kwh(built.daily_region)
    assert kwh(without) > 0 < kwh(built.daily_product)


# --- by difference -------------------------------------------------------------------------------------------------

# Half hours that have readings: of a winter's day the last one has none before, of that in March none after.
READ_DAYS = {date(2021, 1, 10): ([0, 1, 20], [0, 1, 20, 47]), date(2021, 3, 28): ([0, 3, 45], [0, 3])}
NAMES = ("Green", "Blue", "Red", "Silent", None)
PLACES = ("North", "South", "Far", None)


class Known(NamedTuple):
    """What is known of a meterpoint on a date."""

    readings: dict[int, tuple[int, str | None]]  # kWh and quality by half hour
    product: str | None
    region: str | None


State = dict[tuple[str, date], Known]


def made_states(chance: random.Random) -> tuple[State, State]:
    """Meterpoints and dates before and after a load: about a third of them change, in one way or more."""

    def known(half_hours: list[int], name: str | None) -> Known:
        values = {step: (chance.randrange(3), chance.choice(["A", "E", None])) for step in half_hours}
        kept = {step: value for step, value in values.items() if chance.random() < 0.7}
        # Of one product nothing is read before.
        return Known({} if name == "Silent" else kept, name, chance.choice(PLACES))

    before, after = {}, {}
    for number in range(80):
        for day, (first, then) in READ_DAYS.items():
            was = known(first, chance.choice(NAMES))
            will = known(then, was.product)._replace(region=was.region)
            match chance.randrange(24):
                case 0:  # vanishes, or was not known
                    will = Known({}, None, None)
                case 1:
                    was = Known({}, None, None)
                case 2:
                    will = was._replace(product=chance.choice(NAMES))
                case 3:
                    will = was._replace(region=chance.choice(PLACES))
                case 4:  # becomes silent, or was
                    will = will._replace(readings={})
                case 5:
                    was = was._replace(readings={})
                case 6:
                    will = known(then, chance.choice(NAMES))
                case 7:  # is the first one of its product that is read
                    was = was._replace(product="Silent", readings={})
                    will = was._replace(readings=dict.fromkeys(then, (chance.randrange(3), "A")))
                case _:
                    will = was if day == DAY or 45 not in was.readings else was._replace(readings={})
            before[f"m{number}", day], after[f"m{number}", day] = was, will
    return before, after


def parts_of(frame_of: FrameOf, state: State, pairs: Collection[tuple[str, date]] | None = None) -> sums.Parts:
    """Parts of whole dates, or of some meterpoints as jobs/corrected.py makes them."""
    chosen = sorted(state.keys() if pairs is None else pairs)
    utc = local_frame(
        frame_of,
        [
            (name, day, start, Decimal(kwh) / 8, quality)
            for name, day in chosen
            for step, (kwh, quality) in state[name, day].readings.items()
            for start in [half_hours_of(day)[step]]
        ],
        meterpoint_id=pa.string(),
        date=pa.date32(),
        interval_start_utc=pa.timestamp("us", "UTC"),
        consumption_kwh=pa.decimal128(9, 6),
        reading_quality=pa.string(),
    )
    local = "from_utc_timestamp(interval_start_utc, 'Europe/London') AS interval_start"
    readings = query(f"SELECT *, {local} FROM {{utc}}", utc=utc)
    a_day = timedelta(days=1)
    agreements = agreement_frame(
        frame_of,
        [
            Agreement(number, name, day, day + a_day, product)
            for number, (name, day) in enumerate(chosen)
            if (product := state[name, day].product)
        ],
    )
    regions = local_frame(
        frame_of,
        [(name, state[name, day].region, day, day, day + a_day) for name, day in chosen if state[name, day].region],
        **{field.name: field.type for field in regions_of.SPANS},
    )
    dates, products = marts.calendar(READ_DAYS), product_frame(frame_of, [])
    if pairs is None:
        known = marts.known_on(dates, agreements, products, regions)
        by_half_hour = marts.consumption_by_half_hour(readings, known, dates)
        days = sums.of_days(marts.daily_sums(marts.daily_meterpoint_consumption(readings, known, dates), regions))
        return days | sums.of_half_hours(marts.half_hourly_sums(by_half_hour))
    daily = marts.daily_meterpoint_consumption(readings, marts.agreements_on(dates, agreements, products), dates)
    return corrected.parts_of(corrected.Side(readings, daily, regions), dates)


class Difference(NamedTuple):
    before: sums.Parts  # of the whole dates
    after: sums.Parts
    old: sums.Parts  # of the meterpoints that changed
    new: sums.Parts


@pytest.fixture(scope="module")
def difference(frame_of: FrameOf) -> Difference:
    before, after = made_states(random.Random(5))
    changed = [pair for pair in before if before[pair] != after[pair]]
    # Meterpoints that are taken for changed though they are not do no harm.
    pairs = {*changed, *random.Random(6).sample(sorted(before), 10)}
    assert len(pairs) < len(before) / 2
    wholes = parts_of(frame_of, before), parts_of(frame_of, after)
    return Difference(*wholes, parts_of(frame_of, before, pairs), parts_of(frame_of, after, pairs))


@pytest.mark.parametrize("mart", sums.MARTS)
def test_a_mart_by_difference__should_be_as_if_it_were_built_whole(difference: Difference, mart: str) -> None:
    how = sums.MARTS[mart]
    make_held = sums.MARTS[how.source].make
    held = make_held(difference.before[sums.MARTS[how.source].parts])

    changes = [parts[how.parts] for parts in (difference.new, sums.less(difference.old))]
    result = how.make(pa.concat_tables([*changes, held], promote_options="permissive"))

    before, after = (how.make(parts[how.parts]) for parts in (difference.before, difference.after))
    names = after.column_names
    found, expected, earlier = (sorted(rows(each, *names), key=str) for each in (result, after, before))
    assert result.column_names == names
    assert found == expected != earlier


# --- changed agreements --------------------------------------------------------------------------------------------

PERIOD = 20  # days that belong to one change, so that many changes are judged at once


def changed_agreements(frame_of: FrameOf, dates: list[date], before: Snapshot, after: Snapshot) -> Rows:
    frames = [
        (agreement_frame(frame_of, each.agreements), product_frame(frame_of, each.products)) for each in (before, after)
    ]
    return marts.changed_agreements(date_frame(frame_of, dates), marts.changed_details(*frames), *frames)


def differing(dates: list[date], before: Snapshot, after: Snapshot) -> list[tuple[date, str]]:
    """Meterpoints, with the dates, of which the agreement differs, in order."""
    meterpoint_ids = sorted({agreement.meterpoint_id for agreement in before.agreements + after.agreements})
    return [
        (day, name)
        for day in dates
        for name in meterpoint_ids
        if details(holding(before.agreements, name, day), before.products)
        != details(holding(after.agreements, name, day), after.products)
    ]


def dates_of(pairs: list[tuple[date, str]]) -> list[date]:
    return sorted({day for day, _ in pairs})


spans = st.lists(st.tuples(st.integers(0, 18), st.integers(-1, 12), product_id), min_size=1, max_size=4)
change = st.sampled_from(["none", "add", "remove", "end", "product", "account", "number"])


def test_changed_agreements__should_be_those_that_differ_on_a_date(frame_of: FrameOf) -> None:
    before: list[Agreement] = []
    after: list[Agreement] = []
    cases = examples(st.tuples(spans, change, st.integers(0, 3), st.integers(0, 18)), 60)
    for number, (case, kind, which, day) in enumerate(cases):
        first = DAY + timedelta(days=PERIOD * number)
        # Within its period, so that a change reaches no other one.
        made = [
            Agreement(
                100 * number + n,
                f"m{number % 7}",
                first + timedelta(days=begin),
                first + timedelta(days=min(begin + days, PERIOD - 1)),
                product,
            )
            for n, (begin, days, product) in enumerate(case)
        ]
        before += made
        after += altered(made, kind, made[which % len(made)], first + timedelta(days=day))
    dates = [DAY + timedelta(days=number) for number in range(-1, PERIOD * len(cases) + 1)]
    snapshots = Snapshot(before, PRODUCTS), Snapshot(after, PRODUCTS)

    found = sorted(rows(changed_agreements(frame_of, dates, *snapshots), "date", "meterpoint_id"))

    assert found == differing(dates, *snapshots)
    assert 50 < len(dates_of(found)) < len(dates) - 50, "some dates must differ and some not"


def altered(agreements: list[Agreement], kind: str, one: Agreement, day: date) -> list[Agreement]:
    """Agreements of the next snapshot, of which one was changed."""
    others = [each for each in agreements if each != one]
    changed = {
        "none": [one],
        "add": [one, one._replace(agreement_id=one.agreement_id + 50, valid_from=day)],
        "remove": [],
        "end": [one._replace(valid_to=day)],
        "product": [one._replace(product_id="p2" if one.product_id != "p2" else "p3")],
        "account": [one._replace(account_id=None)],
        "number": [one._replace(agreement_id=one.agreement_id + 50)],
    }
    return others + changed[kind]


OPEN = Agreement(1, "m1", DAY, None)
CANCELLED = Agreement(2, "m1", WEEK[4], WEEK[4])
LONG = Agreement(3, "m3", DAY, date(2022, 1, 1), product_id="p5")
SNAPSHOTS: dict[str, tuple[Snapshot, Snapshot, list[date]]] = {
    # before, after, which dates of WEEK change
    "the first snapshot": (Snapshot([], []), Snapshot([OPEN], PRODUCTS), WEEK[2:]),
    # Another order; a cancelled agreement more; one that ends later, but after all dates; another name of a product
    # that nobody has; a product that lost its name, and goes by its id, which was its name.
    "nothing that shows": (
        Snapshot([OPEN, LONG], [*PRODUCTS, Product("p5", "p5")]),
        Snapshot(
            [LONG._replace(valid_to=None), CANCELLED, OPEN], [Product("p5", None), Product("p2", "Gold"), PRODUCTS[0]]
        ),
        [],
    ),
    "open-ended, now ended": (
        Snapshot([OPEN], PRODUCTS),
        Snapshot([OPEN._replace(valid_to=WEEK[5])], PRODUCTS),
        WEEK[5:],
    ),
    "another name of its product": (
        Snapshot([OPEN], PRODUCTS),
        Snapshot([OPEN], [Product("p1", "Gold"), *PRODUCTS[1:]]),
        WEEK[2:],
    ),
    "a new agreement under one that wins": (
        Snapshot([OPEN], PRODUCTS),
        Snapshot([OPEN, OPEN._replace(agreement_id=0, valid_from=WEEK[0], product_id="p2")], PRODUCTS),
        WEEK[:2],
    ),
    "moved to another meterpoint": (
        Snapshot([OPEN], PRODUCTS),
        Snapshot([OPEN._replace(meterpoint_id="m2")], PRODUCTS),
        WEEK[2:],
    ),
}


@pytest.fixture(scope="module")
def changes(frame_of: FrameOf) -> dict[str, list[tuple[date, str]]]:
    """What changed in each of SNAPSHOTS, in one query."""
    changed = [
        query(f"SELECT *, '{name}' AS name FROM {{rows}}", rows=changed_agreements(frame_of, WEEK, before, after))
        for name, (before, after, _) in SNAPSHOTS.items()
    ]
    all_of_them = " UNION ALL ".join(f"SELECT * FROM {{of{number}}}" for number in range(len(changed)))
    union = query(all_of_them, **{f"of{number}": each for number, each in enumerate(changed)})
    found = rows(union, "name", "date", "meterpoint_id")
    return {name: sorted((day, each) for of, day, each in found if of == name) for name in SNAPSHOTS}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_changed_agreements__should_be_no_more_than_a_snapshot_changes(
    changes: dict[str, list[tuple[date, str]]], name: str
) -> None:
    before, after, expected = SNAPSHOTS[name]

    assert changes[name] == differing(WEEK, before, after)
    assert dates_of(changes[name]) == expected


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_changed_span__should_hold_the_dates_that_change_and_no_agreement_that_stays(
    frame_of: FrameOf, name: str
) -> None:
    before, after, expected = SNAPSHOTS[name]
    frames = [
        (agreement_frame(frame_of, each.agreements), product_frame(frame_of, each.products)) for each in (before, after)
    ]

    first, end = marts.changed_span(marts.changed_details(*frames))

    assert [day for day in expected if not first <= day < end] == []
    assert marts.changed_span(marts.changed_details(*frames[:1] * 2)) == (date.max, date.max)
    if name == "open-ended, now ended":
        assert first == OPEN.valid_from


def test_changed_span__should_be_that_of_the_changed_agreement_alone(frame_of: FrameOf) -> None:
    short = Agreement(9, "m9", WEEK[3], WEEK[5])
    before, after = (
        (agreement_frame(frame_of, agreements), product_frame(frame_of, PRODUCTS))
        for agreements in ([OPEN, LONG], [OPEN, LONG, short])
    )

    assert marts.changed_span(marts.changed_details(before, after)) == (short.valid_from, short.valid_to)
