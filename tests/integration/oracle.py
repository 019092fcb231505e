"""What gold must say, worked out from the raw input by other means: Python reads it, DuckDB computes.

Nothing of the project is imported. The oracle knows good input, and passes over rows that are no lists; of files that
give one reading the one that was modified last wins, then that of the greater path.
"""

import gzip
import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
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
  is_variable = 1 AS is_variable, CAST(NULL AS TEXT) AS reading_quality
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

# Meterpoints with an agreement or a reading on a date on which anybody was read, and which half hours they miss.
COMPLETENESS = """
WITH held AS (
  SELECT agreement.meterpoint_id, read_date.date, agreement_id, coalesce(display_name, agreement.product_id) AS name
  FROM (SELECT DISTINCT date FROM enriched) AS read_date
  JOIN agreement ON date >= agreement_valid_from AND (agreement_valid_to IS NULL OR date < agreement_valid_to)
  LEFT JOIN product ON product.product_id = agreement.product_id
  QUALIFY row_number() OVER (
    PARTITION BY agreement.meterpoint_id, date ORDER BY agreement_valid_from DESC, agreement_id DESC) = 1
),
days AS (SELECT meterpoint_id, date FROM held UNION SELECT DISTINCT meterpoint_id, date FROM enriched)
SELECT days.meterpoint_id, days.date, CAST(count(*) AS INTEGER) AS expected_readings,
  CAST(count(consumption_kwh) AS INTEGER) AS received_readings,
  CAST(count(*) FILTER (WHERE consumption_kwh IS NULL) AS INTEGER) AS missing_readings,
  min_by(half_hour.local, half_hour.utc) FILTER (WHERE consumption_kwh IS NULL) AS first_missing,
  max_by(half_hour.local, half_hour.utc) FILTER (WHERE consumption_kwh IS NULL) AS last_missing,
  any_value(held.agreement_id) AS agreement_id, any_value(held.name) AS product_display_name
FROM days
JOIN half_hour ON half_hour.date = days.date
LEFT JOIN held ON held.meterpoint_id = days.meterpoint_id AND held.date = days.date
LEFT JOIN enriched ON enriched.meterpoint_id = days.meterpoint_id AND enriched.interval_start_utc = half_hour.utc
GROUP BY days.meterpoint_id, days.date
"""

VIEWS = {
    "half_hourly_consumption": """
        SELECT interval_start, interval_start_utc, date, count(DISTINCT meterpoint_id) AS meterpoint_count,
          sum(consumption_kwh) AS consumption_kwh
        FROM enriched GROUP BY ALL""",
    "daily_product_consumption": """
        SELECT product_display_name, date, count(DISTINCT meterpoint_id) AS meterpoint_count,
          sum(consumption_kwh) AS consumption_kwh
        FROM enriched WHERE agreement_id IS NOT NULL GROUP BY ALL""",
    "half_hourly_product_consumption": """
        SELECT product_display_name, interval_start, interval_start_utc, date,
          count(DISTINCT meterpoint_id) AS meterpoint_count, sum(consumption_kwh) AS consumption_kwh
        FROM enriched WHERE agreement_id IS NOT NULL GROUP BY ALL""",
    "readings_without_agreement": """
        SELECT meterpoint_id, date, count(*) AS reading_count, sum(consumption_kwh) AS consumption_kwh
        FROM enriched WHERE agreement_id IS NULL GROUP BY ALL""",
    "readings_enriched": "SELECT * FROM enriched",
    "meterpoint_day_completeness": COMPLETENESS,
    "daily_completeness": f"""
        SELECT date, count(*) AS meterpoint_count, count(*) FILTER (WHERE missing_readings = 0) AS complete_meterpoints,
          count(*) FILTER (WHERE received_readings = 0) AS silent_meterpoints,
          CAST(sum(expected_readings) AS BIGINT) AS expected_readings,
          CAST(sum(received_readings) AS BIGINT) AS received_readings
        FROM ({COMPLETENESS}) GROUP BY date""",
}

Answer = tuple[list[str], list[tuple[Any, ...]]]  # columns, rows


class Oracle:
    """The raw input of a landing place as it is now."""

    def __init__(self, landing: Path) -> None:
        self.db = duckdb.connect()
        self._read_reference(landing)
        self._read_readings(landing)
        self.db.execute(f"CREATE TABLE enriched AS {READINGS_ENRICHED}")
        self._make_half_hours()

    def active_agreements(self, day: date = date(2021, 1, 1)) -> Answer:
        return self._answer(ACTIVE_AGREEMENTS, [day, day])

    def gold(self) -> dict[str, Answer]:
        """What each view must say, by name."""
        answers = {name: self._answer(sql) for name, sql in VIEWS.items()}
        columns, rows = answers["half_hourly_product_consumption"]
        with_average = [(*row, (row[-1] / row[-2]).quantize(MICRO, ROUND_HALF_UP)) for row in rows]
        answers["half_hourly_product_consumption"] = [*columns, "average_kwh"], sorted(with_average, key=repr)
        columns, rows = answers["daily_completeness"]
        with_share = [(*row, (Decimal(row[-1]) / row[-2]).quantize(MICRO, ROUND_HALF_UP)) for row in rows]
        answers["daily_completeness"] = [*columns, "received_share"], sorted(with_share, key=repr)
        return answers | {"active_agreements": self.active_agreements()}

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
            for meterpoint_id, start, utc, kwh in _readings_of(path):
                readings[meterpoint_id, utc] = start, kwh
        rows = [[*key, start, str(kwh)] for key, (start, kwh) in readings.items()]
        frame = pd.DataFrame(rows, columns=["meterpoint_id", "interval_start_utc", "interval_start", "kwh"])
        self.db.register("frame", frame)
        self.db.execute(
            "CREATE TABLE reading AS SELECT meterpoint_id, CAST(interval_start_utc AS TIMESTAMP) AS interval_start_utc,"
            " CAST(interval_start AS TIMESTAMP) AS interval_start, CAST(kwh AS DECIMAL(18,6)) AS consumption_kwh"
            " FROM frame"
        )

    def _make_half_hours(self) -> None:
        """The half hours of each local date with readings."""
        self.db.execute("CREATE TABLE half_hour (date DATE, local TIMESTAMP, utc TIMESTAMP)")
        for (day,) in self.db.execute("SELECT DISTINCT date FROM enriched").fetchall():
            start = datetime(day.year, day.month, day.day, tzinfo=LONDON).astimezone(UTC)
            while (local := start.astimezone(LONDON)).date() == day:
                row = [day, local.replace(tzinfo=None), start.replace(tzinfo=None)]
                self.db.execute("INSERT INTO half_hour VALUES (?, ?, ?)", row)
                start += timedelta(minutes=30)


def _readings_of(path: Path) -> list[tuple[str, datetime, datetime, Decimal]]:
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
        readings.append((meterpoint_id, start, local.astimezone(UTC).replace(tzinfo=None), kwh))
    return readings
