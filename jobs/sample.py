"""Sample input in the form of a real delivery: one JSON file of readings a meterpoint, and a SQLite file of agreements.

`interval_start` is local wall-clock time (Europe/London) without offset, `consumption_delta` is kWh in that half-hour,
and dates of agreements are local dates, `[valid_from, valid_to)`. Homes are invented, but use electricity as British
homes do: a base load at night, a morning and a larger evening peak, more in winter, other hours at weekends; some heat
with a heat pump or with Economy 7 storage heaters, or charge a car at night. Agreements have the irregularities of real
ones (`STORIES`).
"""

import gzip
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import orjson

LONDON = ZoneInfo("Europe/London")
COLUMNS = ["interval_start", "consumption_delta", "meterpoint_id"]
FLAT_LIMIT = 1_000  # meterpoints; above it, readings are spread over 256 sub-folders
BLOCK_READINGS = 100_000  # made at once: bounds the memory, whatever the number of meterpoints
OTHER_ORDER_SHARE = 0.2  # of files, with another order of columns
GZIP_SHARE = 0.05  # of files

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Product = tuple[str, int, int, str]  # display_name, is_variable, id, product_id
Agreement = tuple[int, str, str | None, str, str, str]  # in the order of the table's columns
Period = tuple[int, int | None]  # first day and the day after the last, counted from the sample's first day

SCHEMA = """
CREATE TABLE agreement (agreement_id INTEGER, agreement_valid_from DATE, agreement_valid_to DATE,
                        product_id TEXT, meterpoint_id TEXT, account_id TEXT);
CREATE TABLE product (display_name TEXT, is_variable INTEGER, id INTEGER, product_id TEXT);
CREATE TABLE meterpoint (region TEXT, meterpoint_id TEXT);
"""

REGIONS = {  # grid supply point groups of Great Britain, with roughly their share of meterpoints in per cent
    "Eastern England": 12, "East Midlands": 9, "London": 8, "Merseyside and Northern Wales": 5, "West Midlands": 8,
    "North Eastern England": 5, "North Western England": 8, "Northern Scotland": 3, "Southern Scotland": 7,
    "South Eastern England": 8, "Southern England": 10, "Southern Wales": 4, "South Western England": 5, "Yorkshire": 8,
}  # fmt: skip

HOMES = {"ordinary": 0.82, "heat pump": 0.05, "electric car": 0.07, "economy 7": 0.06}  # kind of home: share of homes
KINDS = list(HOMES)

CATALOGUE = [  # the kind of home that it is sold to, display name, is_variable, start of the product_id
    ("ordinary", "Standard Variable", 1, "VAR"),
    ("ordinary", "Flexible Saver", 1, "FLEX-VAR"),
    ("ordinary", "Green Variable", 1, "GREEN-VAR"),
    ("ordinary", "Prepay Variable", 1, "PREPAY-VAR"),
    ("ordinary", "Market Tracker", 1, "TRACKER-VAR"),
    ("ordinary", "Half-Hourly Dynamic", 1, "DYNAMIC-VAR"),
    ("ordinary", "12M Fixed", 0, "FIX-12M"),
    ("ordinary", "18M Fixed", 0, "FIX-18M"),
    ("ordinary", "24M Fixed", 0, "FIX-24M"),
    ("ordinary", "Green 12M Fixed", 0, "GREEN-FIX-12M"),
    ("ordinary", "Green 24M Fixed", 0, "GREEN-FIX-24M"),
    ("ordinary", "Loyal 12M Fixed", 0, "LOYAL-FIX-12M"),
    ("ordinary", "Online 12M Fixed", 0, "ONLINE-FIX-12M"),
    ("ordinary", "Winter 6M Fixed", 0, "WINTER-FIX-6M"),
    ("ordinary", "Community Wind 12M Fixed", 0, "WIND-FIX-12M"),
    ("ordinary", "Solar Partner 24M Fixed", 0, "SOLAR-FIX-24M"),
    ("ordinary", "Landlord 12M Fixed", 0, "LANDLORD-FIX-12M"),
    ("heat pump", "Heat Pump Variable", 1, "HP-VAR"),
    ("heat pump", "Heat Pump 12M Fixed", 0, "HP-FIX-12M"),
    ("heat pump", "Green Heat Pump 24M Fixed", 0, "GREEN-HP-FIX-24M"),
    ("electric car", "EV Night Variable", 1, "EV-VAR"),
    ("electric car", "EV Night 12M Fixed", 0, "EV-FIX-12M"),
    ("electric car", "EV Night 24M Fixed", 0, "EV-FIX-24M"),
    ("electric car", "Green EV Night 12M Fixed", 0, "GREEN-EV-FIX-12M"),
    ("economy 7", "Economy 7 Variable", 1, "E7-VAR"),
    ("economy 7", "Economy 7 12M Fixed", 0, "E7-FIX-12M"),
    ("economy 7", "Green Economy 7 12M Fixed", 0, "GREEN-E7-FIX-12M"),
]
PRODUCTS = 63  # product_ids; several share one display name, as a product is issued anew with new prices

# What a meterpoint's agreements are like: how many meterpoints of a hundred. They have 210 agreements, see `_periods`.
STORIES = {
    "never": 1,  # readings, but no agreement at all
    "lapsed": 2,  # the last agreement ended before the sample's first day
    "future": 2,  # the first agreement begins after its last day
    "moved out": 2,  # the last agreement ends in the middle of the sample
    "cancelled": 6,  # one of zero length, cancelled before it began
    "overlapping": 3,  # two hold, one began later
    "twins": 1,  # two hold, both began on the same day
    "switched": 6,  # another agreement from a midnight in the middle of the sample
    "renewed": 12,  # the next agreement is already signed
    "first": 21,
    "second": 24,
    "third": 20,
}


@dataclass(frozen=True)
class SampleSummary:
    """How many files of readings, and how many rows of each kind, a sample has."""

    files: int
    readings: int
    agreements: int
    products: int
    meterpoints: int


def write_sample(
    out: Path,
    *,
    meterpoints: int = 100,
    days: int = 3,
    start: date = date(2021, 1, 1),
    seed: int = 1,
    progress: Callable[[int], None] | None = None,
) -> SampleSummary:
    """Write `out/case_study.db` and, under `out/readings`, one file a meterpoint with its readings of all half-hours.

    Readings cover the local dates `[start, start + days)`. The same arguments give the same bytes of readings and the
    same rows of the database (with the same numpy and zlib); the same seed and number of meterpoints give the same
    meterpoints and homes for any dates. Each file appears whole or not at all, so a load may run meanwhile. `progress`
    is called now and then with the number of meterpoints done.

    Raises FileExistsError, before anything is written, if `out` has readings or a database, and ValueError for numbers
    that make no sample.
    """
    if meterpoints < 1 or days < 1 or seed < 0:
        raise ValueError(f"a sample needs meterpoints >= 1, days >= 1 and seed >= 0, not {meterpoints}, {days}, {seed}")
    readings, database = out / "readings", out / "case_study.db"
    existing = database if database.exists() else next((file for file in readings.rglob("*") if file.is_file()), None)
    if existing is not None:
        raise FileExistsError(f"{existing} already exists; a sample is only written where there is no other input")

    ids = _meterpoint_ids(meterpoints, seed)
    homes = _homes(meterpoints, seed)
    readings.mkdir(parents=True, exist_ok=True)
    # The database goes first, so that a load which runs meanwhile finds the agreements of the readings it finds.
    agreements, products = _write_database(database, ids, homes, days, start, seed)
    half_hours = _half_hours(start, days)
    _write_readings(readings, ids, homes, half_hours, seed, progress)
    return SampleSummary(meterpoints, meterpoints * len(half_hours), agreements, products, meterpoints)


def _meterpoint_ids(count: int, seed: int) -> list[str]:
    """Unique ids of 10 hex digits. Each step maps 40-bit numbers one to one, so ids need not be checked for doubles."""
    mask = np.uint64(2**40 - 1)
    numbers = np.arange(count, dtype=np.uint64) + np.uint64(Random(seed).getrandbits(40)) & mask
    for _ in range(2):
        numbers = numbers * np.uint64(0x9E3779B97F4A7C15) & mask
        numbers ^= numbers >> np.uint64(20)
    return [f"{number:010x}" for number in numbers.tolist()]


def _homes(count: int, seed: int) -> npt.NDArray[np.void]:
    """One record a meterpoint: kind of home (index in `KINDS`) and what sets it apart from the average home."""
    rng = np.random.default_rng([seed, 0])
    homes = np.zeros(count, [("kind", "i8"), ("size", "f8"), ("morning", "f8"), ("evening", "f8"), ("late", "f8")])
    homes["kind"] = rng.choice(len(KINDS), count, p=list(HOMES.values()))
    homes["size"] = _spread(rng, 0.5, (count,))
    homes["morning"] = _spread(rng, 0.4, (count,))
    homes["evening"] = _spread(rng, 0.3, (count,))
    homes["late"] = rng.normal(0, 0.75, count)  # hours behind the average home
    return homes


def _spread(rng: np.random.Generator, sigma: float, shape: tuple[int, ...]) -> Floats:
    """Lognormal factors with mean 1."""
    return rng.lognormal(-(sigma**2) / 2, sigma, shape)


# --- agreements, products and meterpoints


def _write_database(
    path: Path, ids: Sequence[str], homes: npt.NDArray[np.void], days: int, start: date, seed: int
) -> tuple[int, int]:
    """Write the SQLite file; the numbers of agreements and products."""
    products = _products(start)
    random = Random(seed)
    regions = random.choices(list(REGIONS), list(REGIONS.values()), k=len(ids))
    part = _part(path)
    part.unlink(missing_ok=True)  # left over from a run that was killed
    with closing(sqlite3.connect(part)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # nothing to roll back: the file is complete or never named
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO product VALUES (?, ?, ?, ?)", products)
        connection.executemany("INSERT INTO meterpoint VALUES (?, ?)", zip(regions, ids, strict=True))
        rows = _agreements(ids, homes["kind"].tolist(), products, days, start, random)
        agreements = connection.executemany("INSERT INTO agreement VALUES (?, ?, ?, ?, ?, ?)", rows).rowcount
        connection.commit()
    part.replace(path)
    return agreements, len(products)


def _products(start: date) -> list[Product]:
    """Products on sale in the years before the sample; the issue's date is the end of the product_id."""
    products: list[Product] = []
    for number in range(PRODUCTS):
        issue, entry = divmod(number, len(CATALOGUE))
        _, display_name, is_variable, code = CATALOGUE[entry]
        issued = date(start.year - 1 - issue, 1 + entry * 5 % 12, 1 + entry * 11 % 28)
        products.append((display_name, is_variable, number + 1, f"{code}-{issued:%y-%m-%d}"))
    return products


def _agreements(
    ids: Sequence[str], kinds: Sequence[int], products: Sequence[Product], days: int, start: date, random: Random
) -> Iterator[Agreement]:
    sold_to = [[p[3] for p in products if CATALOGUE[(p[2] - 1) % len(CATALOGUE)][0] == kind] for kind in KINDS]
    stories = [story for story, count in STORIES.items() for _ in range(count)]
    random.shuffle(stories)
    agreement_id = 0
    for position, (meterpoint_id, kind) in enumerate(zip(ids, kinds, strict=True)):
        account_id = _account_id(random)
        for first, end in _periods(stories[position % len(stories)], days, random):
            agreement_id += 1
            someone_else = end is not None and end < 0 and random.random() < 0.3  # lived there before
            yield (
                agreement_id,
                _day(start, first),
                None if end is None else _day(start, end),
                random.choice(sold_to[kind if random.random() < 0.8 else 0]),  # not all have the tariff that fits
                meterpoint_id,
                _account_id(random) if someone_else else account_id,
            )


def _periods(story: str, days: int, random: Random) -> list[Period]:
    """The agreements of one meterpoint, in the order in which they get their agreement_id."""
    began = -random.randint(200, 700)
    before = began - random.randint(200, 700)
    long_before = before - random.randint(200, 700)
    recently = -random.randint(5, 60)
    middle = days // 2  # of a single day: its first midnight
    later = days + random.randint(1, 180)
    periods: dict[str, list[Period]] = {
        "never": [],
        "lapsed": [(before, began), (began, recently)],
        "future": [(later, None)],
        "moved out": [(before, began), (began, middle)],
        "cancelled": [(before, began), (began, None), random.choice([(recently, recently), (middle, middle)])],
        # The one that began later has the lower id: which one holds is decided by valid_from first.
        "overlapping": [(before, began), (recently, None), (began, later)],
        "twins": [(began, later), (began, None)],
        "switched": [(before, began), (began, middle), (middle, None)],
        "renewed": [(began, later), (later, None)],
        "first": [(began, None)],
        "second": [(before, began), (began, None)],
        "third": [(long_before, before), (before, began), (began, None)],
    }
    return periods[story]


def _account_id(random: Random) -> str:
    return f"A-{random.getrandbits(32):08X}"


def _day(start: date, offset: int) -> str:
    return (start + timedelta(days=offset)).isoformat()


# --- readings


def _half_hours(start: date, days: int) -> list[datetime]:
    """Local starts of all half-hours, in true order: a day in March has 46 of them, a day in October 50."""
    first = datetime.combine(start, time(), LONDON).astimezone(UTC)
    end = datetime.combine(start + timedelta(days=days), time(), LONDON).astimezone(UTC)
    count = (end - first) // timedelta(minutes=30)
    return [(first + timedelta(minutes=30 * n)).astimezone(LONDON) for n in range(count)]


def _write_readings(
    folder: Path,
    ids: Sequence[str],
    homes: npt.NDArray[np.void],
    half_hours: Sequence[datetime],
    seed: int,
    progress: Callable[[int], None] | None,
) -> None:
    start = half_hours[0].date()
    # Some hundred thousand files in one folder are slow to list and to open in any tool; a small sample is easier to
    # look through without sub-folders.
    spread = len(ids) > FLAT_LIMIT
    if spread:
        for prefix in {meterpoint_id[:2] for meterpoint_id in ids}:
            (folder / prefix).mkdir(exist_ok=True)
    times = np.array([half_hour.strftime("%Y-%m-%d %H:%M:%S") for half_hour in half_hours], dtype=object)
    block = max(1, BLOCK_READINGS // len(half_hours))
    for done in range(0, len(ids), block):
        block_ids = ids[done : done + block]
        rng = np.random.default_rng([seed, start.toordinal(), done])
        kwh = _consumption(homes[done : done + block], half_hours, rng)
        orders = _row_orders(len(block_ids), times, rng)
        other_order = rng.random(len(block_ids)) < OTHER_ORDER_SHARE
        zipped = rng.random(len(block_ids)) < GZIP_SHARE
        for n, meterpoint_id in enumerate(block_ids):
            order = orders[n]
            columns = rng.permutation(COLUMNS).tolist() if other_order[n] else COLUMNS
            content = _document(columns, times[order].tolist(), kwh[n, order].tolist(), meterpoint_id)
            path = (folder / meterpoint_id[:2] if spread else folder) / f"{meterpoint_id}_{start}.json"
            if zipped[n]:
                path, content = path.with_name(f"{path.name}.gz"), gzip.compress(content, mtime=0)
            part = _part(path)
            part.write_bytes(content)
            part.replace(path)
        if progress is not None:
            progress(done + len(block_ids))


def _document(columns: Sequence[str], times: list[str], kwh: list[float], meterpoint_id: str) -> bytes:
    values = {"interval_start": times, "consumption_delta": kwh, "meterpoint_id": [meterpoint_id] * len(times)}
    rows = zip(*(values[column] for column in columns), strict=True)
    return orjson.dumps({"columns": columns, "data": list(rows)})


def _row_orders(files: int, times: npt.NDArray[np.object_], rng: np.random.Generator) -> Integers:
    """A random order of rows for each file, except that the two intervals of one local time keep their true order.

    Nothing but the order in the file tells them apart, so a shuffled pair would be other readings.
    """
    orders: Integers = rng.permuted(np.tile(np.arange(len(times)), (files, 1)), axis=1)
    seen: dict[str, int] = {}
    for second, local_time in enumerate(times.tolist()):
        first = seen.setdefault(local_time, second)
        if first != second:
            rows, places = np.nonzero((orders == first) | (orders == second))
            orders[rows.reshape(-1, 2), places.reshape(-1, 2)] = (first, second)
    return orders


def _consumption(homes: npt.NDArray[np.void], half_hours: Sequence[datetime], rng: np.random.Generator) -> Floats:
    """kWh of each home (row) in each half-hour (column), three decimals, never negative."""
    dates = [half_hour.date() for half_hour in half_hours]
    day = np.array([d.toordinal() for d in dates]) - dates[0].toordinal()
    hour = np.array([half_hour.hour + half_hour.minute / 60 for half_hour in half_hours])
    weekend = np.array([d.weekday() >= 5 for d in dates])
    day_of_year = np.array([d.timetuple().tm_yday for d in dates])
    winter = np.cos(2 * np.pi * (day_of_year - 20) / 365)  # 1 in January, -1 in July
    cold = np.maximum(0, 5 + 6.5 * winter)  # degrees below 15.5 °C, at which heating starts
    shape, home_days = (len(homes), len(hour)), (len(homes), int(day[-1]) + 1)

    # What people do, on the clock of each home, and on some days they are away.
    clock = hour - homes["late"][:, None]
    morning = _peak(clock, np.where(weekend, 9.25, 7.5), np.where(weekend, 1.6, 1.0)) * homes["morning"][:, None]
    daytime = _peak(clock, 13, 3) * np.where(weekend, 1.6, 1.0)
    evening = _peak(clock, 18.5, 2) * homes["evening"][:, None]
    busy = (_spread(rng, 0.25, home_days) * (rng.random(home_days) > 0.03))[:, day]
    activity = busy * (0.12 * morning + 0.045 * daytime + 0.25 * evening) * (1 + 0.25 * winter)
    in_use = rng.random(shape) < 0.6 * activity  # kettle, oven or shower: now and then
    appliances = rng.exponential(0.3, shape) * in_use
    kwh = (0.065 + activity) * _spread(rng, 0.3, shape) + appliances
    kwh *= homes["size"][:, None]

    # What the kinds of home have beyond it.
    of_kind = {kind: np.flatnonzero(homes["kind"] == index) for index, kind in enumerate(KINDS)}
    homes_of = of_kind["heat pump"]
    warm_hours = 0.7 + 0.5 * _peak(hour, 6.5, 1.5) + 0.5 * _peak(hour, 17.5, 3)
    kwh[homes_of] += 0.04 * (cold + 1) * warm_hours * _spread(rng, 0.3, (len(homes_of), len(hour)))
    homes_of = of_kind["economy 7"]
    cheap_hours = (hour >= 0.5) & (hour < 7.5)
    kwh[homes_of] += 0.1 * (cold + 1) * cheap_hours * _spread(rng, 0.3, (len(homes_of), len(hour)))
    homes_of = of_kind["electric car"]
    hours_charging = rng.integers(1, 5, home_days) * (rng.random(home_days) < 0.5)  # about every second night
    kwh[homes_of] += 3.5 * ((hour >= 0.5) & (hour < 0.5 + hours_charging[homes_of][:, day]))  # 7 kW
    rounded: Floats = np.round(kwh, 3)
    return rounded


def _peak(clock: Floats, centre: float | Floats, width: float | Floats) -> Floats:
    """A bell of height 1 at hour `centre`, around the clock."""
    distance = (clock - centre + 12) % 24 - 12
    bell: Floats = np.exp(-((distance / width) ** 2) / 2)
    return bell


def _part(path: Path) -> Path:
    """Name of an unfinished file: hidden, and no `*.json`, `*.json.gz` or `*.db`, so no load takes it."""
    return path.with_name(f".{path.name}.part")
