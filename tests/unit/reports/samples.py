"""Made-up facts for the pages: a lakehouse of ten years with gaps, rejects and corrections."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from jobs.check import Finding, Level
from jobs.reports.facts import Check, DateChange, LoadFacts, RejectedFile
from jobs.reports.overview import DayCompleteness, DayTotal, Freshness, Overview, WorstMeterpoint

NOW = datetime(2026, 11, 27, 8, 9, 12, tzinfo=UTC)
NEWEST = date(2026, 11, 26)
GAPS = {date(2026, 10, 3), date(2026, 10, 4), date(2026, 11, 9)}
METERPOINTS = 20_000


def load(started_at: datetime, **changed: object) -> LoadFacts:
    """A load without fault of 48 readings, other than as told."""
    usual = LoadFacts(
        load_id=f"{started_at:%Y%m%dT%H%M%S}-abc123",
        kind="load",
        status="published",
        started_at=started_at,
        finished_at=started_at + timedelta(seconds=41.2),
        files={"loaded": 1},
        rows_read=48,
        rows_loaded=48,
        first_date=started_at.date() - timedelta(days=1),
        last_date=started_at.date() - timedelta(days=1),
        dates=1,
        mart_dates=1,
        stages={"discover": 1.1, "read and check": 4.5, "write silver": 9.25, "build marts": 3.0, "validate": 2.5},
        checks=(
            Check(
                "silver.readings",
                True,
                14,
                (),
                ("No meterpoint-day is incomplete: incomplete_days is 12, expected 0",),
                f"validations/silver.readings/{started_at:%Y%m%dT%H%M%S}-abc123/silver.readings.html",
            ),
            Check("mart.daily_by_product", True, 9, (), (), "validations/p.html"),
        ),
    )
    return replace(usual, **changed)  # type: ignore[arg-type]


def rich_loads() -> list[LoadFacts]:
    """The newest first: a day's load with rejects and new warnings, a correction, one that failed, one rolled back."""
    day = timedelta(days=1)
    first = datetime.combine(NOW.date(), time(8, 5, 3), UTC)
    rejected = {"consumption_negative": 131, "interval_start_after_file": 48, "not_json": 2, "duplicate_reading": 7}
    newest = load(
        first,
        files={"loaded": 19_912, "unchanged": 3, "rejected": 2},
        rows_read=955_776,
        rows_loaded=955_590,
        rows_rejected=186,
        rejected=rejected,
        rejected_files=(
            RejectedFile("readings/2026-11-27/0432df65f7.json", "not_json: unexpected end of data: line 1 column 8192"),
            RejectedFile("readings/2026-11-27/" + "a-very-long-name-" * 6 + ".json", "not_json: it is not UTF-8"),
        ),
        noticed={"hourly_values": 4},
        notes=(
            "not read, because their names are not those of readings or reference files: notes.txt, readings/readme.md",
        ),
        changes=(DateChange(NEWEST - day, 48, 3, 0), DateChange(NEWEST - 9 * day, 912, 17, 2)),
    )
    more = [
        load(first - day, rows_read=950_112, rows_loaded=950_112, files={"loaded": 19_794}),
        load(
            first - day - timedelta(hours=7),
            files={"loaded": 1},
            snapshot_date=NEWEST,
            dates=0,
            first_date=None,
            last_date=None,
            rows_read=0,
            rows_loaded=0,
            reference_rows_read=60_214,
            reference_rows_rejected=3,
            rejected={"unknown_product": 3},
        ),
        load(
            first - 2 * day,
            status="failed",
            rows_read=960_000,
            rows_loaded=700_000,
            rows_rejected=260_000,
            files={"loaded": 20_000},
            rejected={"day_held_watt_hours": 260_000},
            dates=0,
            error="not published, readers keep what they had: ops.load_files: Few rows are rejected: rejected_share is "
            "0.270833, expected 0 to 0.05 (a person may let it pass: lake run --accept faults)",
            checks=(
                Check(
                    "ops.load_files",
                    False,
                    6,
                    ("Few rows are rejected: rejected_share is 0.270833, expected 0 to 0.05",),
                    (),
                    "validations/f.html",
                ),
            ),
        ),
        load(
            first - 3 * day, kind="reload", rows_read=4_800, rows_loaded=4_800, rolled_back_by="20261124T101500-abc123"
        ),
    ]
    more += [
        load(first - number * day, rows_read=948_000 + 997 * number, rows_loaded=948_000 + 997 * number)
        for number in range(4, 30)
    ]
    return [newest, *more]


def rich() -> Overview:
    """The front page of a lakehouse that has a little of everything."""
    dates = [date(2016, 12, 1) + timedelta(days=number) for number in range((NEWEST - date(2016, 12, 1)).days + 1)]
    totals, completeness = [], []
    for number, day in enumerate(dates):
        if day in GAPS:
            completeness.append(DayCompleteness(day, 48 * METERPOINTS, 0, 0, METERPOINTS, METERPOINTS))
            continue
        if date(2019, 5, 1) <= day < date(2019, 6, 1):  # a month that never came
            continue
        meterpoints = 8_000 + 12_000 * number // len(dates)
        expected = 48 * meterpoints
        missing = expected * (number * 7919 % 997) // (997 * 60) if number % 3 else 0
        missing = expected // 3 if day == date(2026, 9, 17) else missing
        received = expected - missing
        season = 1 + Decimal(abs(day.timetuple().tm_yday - 182)) / 182
        totals.append(DayTotal(day, received, (received * season * Decimal("0.142")).quantize(Decimal("0.000001"))))
        completeness.append(
            DayCompleteness(day, expected, received, meterpoints - missing // 48, missing // 96, meterpoints)
        )
    findings = [
        Finding("lake", Level.ok, "the lakehouse answers"),
        Finding("delivery", Level.ok, f"newest readings are of {NEWEST}"),
        Finding("load", Level.ok, "load 20261127T080503-abc123: published"),
        Finding("snapshot", Level.warning, "reference snapshot is of 2026-11-24"),
        Finding("silent", Level.warning, "41 meterpoints fell silent: 0432df65f7, 08c1aa02e1, 1f0034d99b, 27ab, 31, …"),
        Finding("quarantine", Level.warning, "since yesterday 186 rows and 2 whole files were rejected"),
        Finding("certificate", Level.ok, "certificate is valid until 2027-08-30"),
        Finding("disk", Level.ok, "46 % free where /var/lib/lake/state is"),
    ]
    names = (
        "0432df65f7",
        "08c1aa02e1",
        "1200000000123",
        "27ab19e0d4",
        "31c0ffee01",
        "a-name-of-a-meterpoint-that-is-long",
    )
    worst = [
        WorstMeterpoint(name, 336 - 41 * number, 7 - number, max(0, 6 - number * 2), number != 2)
        for number, name in enumerate(names)
    ]
    return Overview(
        now=NOW,
        due=datetime(2026, 11, 28, 8, 30, tzinfo=UTC),
        findings=findings,
        freshness=[
            Freshness("Readings", "silver.readings", NEWEST, NEWEST - timedelta(days=1)),
            Freshness("Consumption by half hour", "mart.half_hourly", NEWEST, NEWEST - timedelta(days=1)),
            Freshness(
                "Agreements, products, meterpoints",
                "silver.agreement, product, meterpoint",
                date(2026, 11, 24),
                date(2026, 11, 26),
            ),
        ],
        loads=rich_loads(),
        years=range(2026, 2015, -1),
        totals=totals,
        completeness=completeness,
        worst=worst,
        worst_days=7,
    )


def small() -> Overview:
    """Two days of readings, no completeness, one load."""
    first = datetime(2021, 1, 3, 8, 5, tzinfo=UTC)
    return Overview(
        now=first + timedelta(minutes=1),
        due=datetime(2021, 1, 4, 8, 30, tzinfo=UTC),
        findings=[Finding("delivery", Level.ok, "newest readings are of 2021-01-02")],
        freshness=[Freshness("Readings", "silver.readings", date(2021, 1, 2), date(2021, 1, 2))],
        loads=[load(first)],
        years=[2021],
        totals=[DayTotal(date(2021, 1, day), 48 * day, Decimal("12.5")) for day in (1, 2)],
    )
