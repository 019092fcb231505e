"""What gold must say, worked out from the raw input by other means: Python reads it, DuckDB computes.

Nothing of the project is imported. The oracle knows good input, and passes over rows that are no lists; of files that
give one reading the one that was modified last wins, then that of the greater path.
"""

import gzip
import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd

LONDON = ZoneInfo("Europe/London")
MICRO = Decimal("0.000001")

READINGS_ENRICHED = """
SELECT reading.meterpoint_id, interval_start, interval_start_utc, CAST(interval_start AS DATE) AS date, consumption_kwh,
  region, agreement_id, account_id, agreement.product_id, display_name AS product_display_name,
  is_variable = 1 AS is_variable, reading_quality
FROM reading
LEFT JOIN meterpoint ON meterpoint.meterpoint_id = reading.meterpoint_id
LEFT JOIN agreement ON agreement.meterpoint_id = reading.meterpoint_id
  AND interval_start >= agreement_valid_from
  AND (agreement_valid_to IS NULL OR interval_start < agreement_valid_to)
LEFT JOIN product ON product.product_id = agreement.product_id
QUALIFY row_number() OVER (
  PARTITION BY reading.meterpoint_id, interval_start_utc ORDER BY agreement_valid_from DESC, agreement_id DESC) = 1
"""

ACTIVE_AGREEMENTS = """
SELECT agreement_id, meterpoint_id, display_name AS product_display_name, is_variable = 1 AS is_variable
FROM agreement JOIN product USING (product_id)
WHERE agreement_valid_from < CAST(? AS DATE) AND (agreement_valid_to IS NULL OR agreement_valid_to > CAST(? AS DATE))
"""

# Each half hour that is expected of a meterpoint with an agreement or was received, on dates on which anybody was read.
SLOTS = """
WITH held AS (
  SELECT agreement.meterpoint_id, read_date.date, agreement_id, coalesce(display_name, agreement.product_id) AS name
  FROM (SELECT DISTINCT date FROM enriched) AS read_date
  JOIN agreement ON date >= agreement_valid_from AND (agreement_valid_to IS NULL OR date < agreement_valid_to)
  LEFT JOIN product ON product.product_id = agreement.product_id
  QUALIFY row_number() OVER (
    PARTITION BY agreement.meterpoint_id, date ORDER BY agreement_valid_from DESC, agreement_id DESC) = 1
),
days AS (SELECT meterpoint_id, date FROM held UNION SELECT DISTINCT meterpoint_id, date FROM enriched)
SELECT days.meterpoint_id, days.date, half_hour.local AS interval_start, half_hour.utc AS interval_start_utc,
  held.agreement_id, held.name AS product_display_name, meterpoint.region, enriched.consumption_kwh,
  enriched.reading_quality,
  held.agreement_id IS NOT NULL AS is_expected, enriched.consumption_kwh IS NOT NULL AS is_received
FROM days
JOIN half_hour ON half_hour.date = days.date
LEFT JOIN held ON held.meterpoint_id = days.meterpoint_id AND held.date = days.date
LEFT JOIN meterpoint ON meterpoint.meterpoint_id = days.meterpoint_id
LEFT JOIN enriched ON enriched.meterpoint_id = days.meterpoint_id AND enriched.interval_start_utc = half_hour.utc
"""

# Meterpoints with an agreement or a reading on a date on which anybody was read, and which half hours they miss.
COMPLETENESS = """
SELECT meterpoint_id, date, CAST(count(*) AS INTEGER) AS expected_readings,
  CAST(count(*) FILTER (WHERE is_received) AS INTEGER) AS received_readings,
  CAST(count(*) FILTER (WHERE NOT is_received) AS INTEGER) AS missing_readings,
  min_by(interval_start, interval_start_utc) FILTER (WHERE NOT is_received) AS first_missing,
  max_by(interval_start, interval_start_utc) FILTER (WHERE NOT is_received) AS last_missing,
  any_value(agreement_id) AS agreement_id, any_value(product_display_name) AS product_display_name
FROM slot GROUP BY meterpoint_id, date
"""

COUNT = "count(DISTINCT meterpoint_id) FILTER (WHERE is_received) AS meterpoint_count"
EXPECTED = "count(*) FILTER (WHERE is_expected) AS expected_readings"
RECEIVED = "count(*) FILTER (WHERE is_expected AND is_received) AS received_readings"
RATED = "count(*) FILTER (WHERE reading_quality = 'A') AS actual, count(reading_quality) AS rated"
SUM = f"{COUNT}, sum(consumption_kwh) AS consumption_kwh, {EXPECTED}, {RECEIVED}, {RATED}"
# Days of the calendar: meterpoints are added up over them.
DAYS = f"""count(DISTINCT date) FILTER (WHERE is_received) AS day_count,
  count(DISTINCT (meterpoint_id, date)) FILTER (WHERE is_received) AS meterpoint_days,
  sum(consumption_kwh) AS consumption_kwh, {EXPECTED}, {RECEIVED}, {RATED}"""
PERIOD = f"""count(DISTINCT interval_start_utc) AS half_hours, sum(consumption_kwh) AS consumption_kwh,
  {EXPECTED}, {RECEIVED}, {RATED}"""

VIEWS = {
    "half_hourly_consumption": f"""
        SELECT interval_start, interval_start_utc, date, {SUM} FROM slot GROUP BY ALL HAVING meterpoint_count > 0""",
    "daily_product_consumption": f"""
        SELECT product_display_name, date, {SUM}
        FROM slot WHERE is_expected GROUP BY ALL HAVING meterpoint_count > 0""",
    "half_hourly_product_consumption": f"""
        SELECT product_display_name, interval_start, interval_start_utc, date, {SUM}
        FROM slot WHERE is_expected GROUP BY ALL HAVING meterpoint_count > 0""",
    "readings_without_agreement": f"""
        SELECT meterpoint_id, date, count(*) FILTER (WHERE is_received) AS reading_count,
          sum(consumption_kwh) AS consumption_kwh, count(*) AS expected_readings,
          count(*) FILTER (WHERE is_received) AS received_readings, {RATED}
        FROM slot WHERE NOT is_expected GROUP BY ALL""",
    "half_hourly_region_consumption": f"""
        SELECT region, interval_start, interval_start_utc, date, {SUM}
        FROM slot WHERE is_expected OR is_received GROUP BY ALL""",
    "daily_region_consumption": f"""
        SELECT region, product_display_name, date, {SUM} FROM slot GROUP BY ALL""",
    "weekly_consumption": f"""
        SELECT CAST(date_trunc('week', date) AS DATE) AS week_start, CAST(isoyear(date) AS INTEGER) AS iso_year,
          CAST(week(date) AS INTEGER) AS iso_week, product_display_name, region, {DAYS} FROM slot GROUP BY ALL""",
    "monthly_consumption": f"""
        SELECT CAST(date_trunc('month', date) AS DATE) AS month, product_display_name, region, {DAYS}
        FROM slot GROUP BY ALL""",
    "meterpoint_daily": f"""
        SELECT meterpoint_id, date, region, product_display_name, sum(consumption_kwh) AS consumption_kwh,
          CAST(count(*) AS INTEGER) AS expected_readings,
          CAST(count(*) FILTER (WHERE is_received) AS INTEGER) AS received_readings, {RATED},
          min(consumption_kwh) AS min_kwh, max(consumption_kwh) AS max_kwh
        FROM slot GROUP BY ALL""",
    "period_consumption": f"""
        SELECT scheme, period, date, product_display_name, {PERIOD}
        FROM slot JOIN in_period USING (interval_start) WHERE is_expected GROUP BY ALL""",
    "monthly_period_consumption": f"""
        SELECT scheme, period, CAST(date_trunc('month', date) AS DATE) AS month, product_display_name, {PERIOD}
        FROM slot JOIN in_period USING (interval_start) WHERE is_expected GROUP BY ALL""",
    "readings_enriched": "SELECT * FROM enriched",
    "meterpoint_day_completeness": COMPLETENESS,
    "daily_completeness": f"""
        SELECT date, count(*) AS meterpoint_count, count(*) FILTER (WHERE missing_readings = 0) AS complete_meterpoints,
          count(*) FILTER (WHERE received_readings = 0) AS silent_meterpoints,
          CAST(sum(expected_readings) AS BIGINT) AS expected_readings,
          CAST(sum(received_readings) AS BIGINT) AS received_readings
        FROM ({COMPLETENESS}) GROUP BY date
        UNION ALL
        SELECT date, count(DISTINCT meterpoint_id), 0, count(DISTINCT meterpoint_id),
          count(DISTINCT meterpoint_id) * half_hours, 0
        FROM unread LEFT JOIN agreement
          ON date >= agreement_valid_from AND (agreement_valid_to IS NULL OR date < agreement_valid_to)
        GROUP BY date, half_hours""",
}

# Views that show shares alone.
COUNTS_HIDDEN = (
    "half_hourly_consumption",
    "daily_product_consumption",
    "half_hourly_product_consumption",
    "readings_without_agreement",
)

# A period that passes midnight belongs to the day on which it begins.
PERIODS = """scheme,period,from,to,weekdays
Economy 7,night,00:30,07:30,Mon-Sun
Economy 7,day,07:30,00:30,Mon-Sun
weekend,weekend,22:00,22:00,Fri Sat
weekend,weekend,22:00,24:00,Sun
weekend,week,00:00,00:00,Mon-Thu
weekend,week,00:00,22:00,Fri
"""


def in_periods(start: datetime) -> list[tuple[str, str]]:
    """Scheme and period, by PERIODS, of a local half hour."""
    night = time(0, 30) <= start.time() < time(7, 30)
    since_friday = (start.weekday() - 4) * 24 + start.hour
    weekend = 22 <= since_friday < 72
    return [("Economy 7", "night" if night else "day"), ("weekend", "weekend" if weekend else "week")]


Answer = tuple[list[str], list[tuple[Any, ...]]]  # columns, rows


class Oracle:
    """The raw input of a landing place as it is now."""

    def __init__(self, landing: Path) -> None:
        self.db = duckdb.connect()
        self._read_reference(landing)
        self._read_readings(landing)
        self.db.execute(f"CREATE TABLE enriched AS {READINGS_ENRICHED}")
        self._make_half_hours()
        self.db.execute(f"CREATE TABLE slot AS {SLOTS}")

    def active_agreements(self, day: date = date(2021, 1, 1)) -> Answer:
        return self._answer(ACTIVE_AGREEMENTS, [day, day])

    def gold(self) -> dict[str, Answer]:
        """What each view must say, by name."""
        answers = {name: self._with_shares(name, self._answer(sql)) for name, sql in VIEWS.items()}
        return answers | {"active_agreements": self.active_agreements()}

    def _with_shares(self, name: str, answer: Answer) -> Answer:
        """With what is divided here, where decimals are exact, in place of the counts that the view does not show."""
        columns, rows = answer
        shown = [_shown(name, dict(zip(columns, row, strict=True))) for row in rows]
        # Of no row the columns are those of any.
        columns = list(_shown(name, dict.fromkeys(columns, 1)))
        return columns, sorted((tuple(row.values()) for row in shown), key=repr)

    def _answer(self, sql: str, parameters: list[Any] | None = None) -> Answer:
        result = self.db.execute(sql, parameters or [])
        return [column[0] for column in result.description], sorted(result.fetchall(), key=repr)

    def _read_reference(self, landing: Path) -> None:
        self.db.execute(
            """CREATE TABLE agreement (agreement_id BIGINT, agreement_valid_from DATE, agreement_valid_to DATE,
                 product_id TEXT, meterpoint_id TEXT, account_id TEXT);
               CREATE TABLE product (display_name TEXT, is_variable INTEGER, id INTEGER, product_id TEXT);
               CREATE TABLE meterpoint (region TEXT, meterpoint_id TEXT)"""
        )
        with closing(sqlite3.connect(landing / "case_study.db")) as source:
            for table in ("agreement", "product", "meterpoint"):
                rows = source.execute(f"SELECT * FROM {table}").fetchall()
                if rows:
                    self.db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)

    def _read_readings(self, landing: Path) -> None:
        """The last of the files that have a reading gives it."""
        paths = sorted(landing.glob("readings/**/*.json*"), key=lambda path: (path.stat().st_mtime_ns, str(path)))
        readings = {}
        for path in paths:
            for meterpoint_id, start, utc, kwh, quality in _readings_of(path):
                readings[meterpoint_id, utc] = start, kwh, quality
        rows = [[*key, start, str(kwh), quality] for key, (start, kwh, quality) in readings.items()]
        frame = pd.DataFrame(rows, columns=["meterpoint_id", "interval_start_utc", "interval_start", "kwh", "quality"])
        self.db.register("frame", frame)
        self.db.execute(
            "CREATE TABLE reading AS SELECT meterpoint_id, CAST(interval_start_utc AS TIMESTAMP) AS interval_start_utc,"
            " CAST(interval_start AS TIMESTAMP) AS interval_start, CAST(kwh AS DECIMAL(18,6)) AS consumption_kwh,"
            " CAST(quality AS TEXT) AS reading_quality FROM frame"
        )

    def _make_half_hours(self) -> None:
        """The half hours of each local date with readings, and how many a date between two of these has."""
        self.db.execute("CREATE TABLE half_hour (date DATE, local TIMESTAMP, utc TIMESTAMP)")
        self.db.execute("CREATE TABLE in_period (interval_start TIMESTAMP, scheme TEXT, period TEXT)")
        for (day,) in self.db.execute("SELECT DISTINCT date FROM enriched").fetchall():
            start = datetime(day.year, day.month, day.day, tzinfo=LONDON).astimezone(UTC)
            seen = set()
            while (local := start.astimezone(LONDON)).date() == day:
                row = [day, local.replace(tzinfo=None), start.replace(tzinfo=None)]
                self.db.execute("INSERT INTO half_hour VALUES (?, ?, ?)", row)
                seen.add(local.replace(tzinfo=None))
                start += timedelta(minutes=30)
            periods = [[local, *each] for local in seen for each in in_periods(local)]
            self.db.executemany("INSERT INTO in_period VALUES (?, ?, ?)", periods)
        self.db.execute("CREATE TABLE unread (date DATE, half_hours BIGINT)")
        known = sorted(day for (day,) in self.db.execute("SELECT DISTINCT date FROM enriched").fetchall())
        for before, after in pairwise(known):
            for number in range(1, (after - before).days):
                begin, end = (
                    datetime.combine(before + timedelta(each), time(), LONDON).timestamp()
                    for each in (number, number + 1)
                )
                row = [before + timedelta(number), (end - begin) // 1800]
                self.db.execute("INSERT INTO unread VALUES (?, ?)", row)


def _shown(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of a view, of the row that was asked for it."""
    if name == "half_hourly_product_consumption":
        row["average_kwh"] = _share(row["consumption_kwh"], row["meterpoint_count"])
    if "received_readings" in row and name != "meterpoint_day_completeness":
        row["received_share"] = _share(row["received_readings"], row["expected_readings"])
    if "rated" in row:
        row["actual_share"] = _share(row.pop("actual"), row.pop("rated"))
    if name == "meterpoint_daily":
        row |= {each: row.pop(each) for each in ("min_kwh", "max_kwh")}
        row["average_kwh"] = _share(row["consumption_kwh"], row["received_readings"])
    if name in COUNTS_HIDDEN:
        row = {each: value for each, value in row.items() if each not in ("expected_readings", "received_readings")}
    return row


def _share(part: Decimal | int | None, whole: int) -> Decimal | None:
    return (Decimal(part) / whole).quantize(MICRO, ROUND_HALF_UP) if whole and part is not None else None


def _readings_of(path: Path) -> list[tuple[str, datetime, datetime, Decimal, str | None]]:
    content = path.read_bytes()
    document = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content, parse_float=Decimal)
    seen: Counter[tuple[str, str]] = Counter()
    readings = []
    for row in document["data"]:
        if not isinstance(row, list):
            continue
        named = dict(zip(document["columns"], row, strict=True))
        meterpoint_id, text = named["meterpoint_id"], named["interval_start"]
        start = datetime.fromisoformat(text)
        # The second time that the clock shows an hour is the later instant.
        local = start.replace(tzinfo=LONDON, fold=seen[meterpoint_id, text])
        seen[meterpoint_id, text] += 1
        kwh = Decimal(named["consumption_delta"]).quantize(MICRO, ROUND_HALF_UP)
        quality = named.get("reading_quality")
        readings.append((meterpoint_id, start, local.astimezone(UTC).replace(tzinfo=None), kwh, quality))
    return readings
