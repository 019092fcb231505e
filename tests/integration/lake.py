"""A lakehouse of a test, and what is delivered to it."""

import gzip
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pyspark.sql import SparkSession

from jobs import build, load, periods, rollback, silver, sums, tables
from jobs.readings import correct, ingest
from jobs.settings import Settings
from tests.integration.oracle import PERIODS

COLUMNS = ["interval_start", "consumption_delta", "meterpoint_id"]
# The optimising compiler costs a JVM of a minute or two a quarter more processor time than it saves. Without it the JVM
# reserves 48 MB for code, which Spark fills: then nothing is compiled any more.
SHORT_LIVED_JVM = {"SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"}
# For a few rows it costs more to compile a plan, and to change it on the way, than to carry it out as it is. Commands
# and the stack are tested as they are.
FOR_FEW_ROWS = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
DELIVERY = datetime(2021, 11, 2, 7, 30, tzinfo=UTC)
VIEWS = (
    "active_agreements",
    "half_hourly_consumption",
    "daily_product_consumption",
    "half_hourly_product_consumption",
    "readings_without_agreement",
    "readings_enriched",
    "meterpoint_day_completeness",
    "daily_completeness",
    "half_hourly_region_consumption",
    "daily_region_consumption",
    "weekly_consumption",
    "monthly_consumption",
    "meterpoint_daily",
    "period_consumption",
    "monthly_period_consumption",
)


class Agreement(NamedTuple):
    """A row of the reference file's agreement table."""

    agreement_id: int
    meterpoint_id: str
    valid_from: str = "2020-01-01"
    valid_to: str | None = None
    product_id: str = "P1"
    account_id: str | None = "account"


class Product(NamedTuple):
    """A row of the reference file's product table."""

    product_id: str
    display_name: str | None
    is_variable: int = 0


PRODUCTS = (
    Product("P1", "Fixed"),
    Product("P2", "Fixed"),
    Product("P3", "Variable", 1),
    Product("P4", "Sold to nobody"),
)


def day(meterpoint_id: str, local_date: str, kwh: float = 0.25) -> list[list[Any]]:
    """The rows of a whole local day: 48, or 46 and 50 on the days on which the clock changes."""
    changes = {"2021-03-28": [0, *range(2, 24)], "2021-10-31": [0, 1, 1, *range(2, 24)]}
    hours: Iterable[int] = changes.get(local_date, range(24))
    return [[f"{local_date} {hour:02}:{minute}:00", kwh, meterpoint_id] for hour in hours for minute in ("00", "30")]


class Landing:
    """The landing place. Files get the modification time DELIVERY, moved by `after`, so that tests do not wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "readings").mkdir(parents=True, exist_ok=True)

    def readings(
        self, name: str, rows: Sequence[Any], columns: list[str] = COLUMNS, after: timedelta = timedelta()
    ) -> None:
        """A readings file of rows [interval_start, kWh, meterpoint_id], or of rows as `columns` has them."""
        self.raw(f"readings/{name}", json.dumps({"columns": columns, "data": rows}).encode(), after)

    def raw(self, name: str, content: bytes, after: timedelta = timedelta()) -> None:
        """Any file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        self.touch(name, after)

    def touch(self, name: str, after: timedelta) -> None:
        """Change the modification time alone."""
        modified = (DELIVERY + after).timestamp()
        os.utime(self.folder / name, (modified, modified))

    def reference(
        self,
        agreements: Iterable[Agreement],
        meterpoints: Iterable[str] | Mapping[str, str | None],
        products: Iterable[Product] = PRODUCTS,
        after: timedelta = timedelta(),
    ) -> None:
        """The SQLite file. Meterpoints are in London, unless they come with their regions."""
        regions = meterpoints if isinstance(meterpoints, Mapping) else dict.fromkeys(meterpoints, "London")
        path = self.folder / "case_study.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "CREATE TABLE agreement (agreement_id INTEGER, agreement_valid_from DATE, agreement_valid_to DATE,"
                " product_id TEXT, meterpoint_id TEXT, account_id TEXT)"
            )
            connection.execute(
                "CREATE TABLE product (display_name TEXT, is_variable INTEGER, id INTEGER, product_id TEXT)"
            )
            connection.execute("CREATE TABLE meterpoint (region TEXT, meterpoint_id TEXT)")
            connection.executemany(
                "INSERT INTO agreement VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (a.agreement_id, a.valid_from, a.valid_to, a.product_id, a.meterpoint_id, a.account_id)
                    for a in agreements
                ],
            )
            connection.executemany(
                "INSERT INTO product VALUES (?, ?, ?, ?)",
                [(p.display_name, p.is_variable, number, p.product_id) for number, p in enumerate(products)],
            )
            connection.executemany("INSERT INTO meterpoint VALUES (?, ?)", [(of, each) for each, of in regions.items()])
        self.touch("case_study.db", after)


class Lake:
    """An embedded lakehouse on the session of the tests."""

    def __init__(self, spark: SparkSession, folder: Path, warehouse: Path | None = None) -> None:
        self.spark = spark
        self.landing = Landing(folder / "landing")
        self.settings = Settings(
            landing=str(folder / "landing"),
            warehouse=str(warehouse or folder / "warehouse"),
            state=folder / "state",
            reports=folder / "reports",
        )

    def run(self, **wish: Any) -> load.Summary | None:
        """A run, which may find nothing new. What a person asks for is told as load.Wish has it."""
        self.told: list[str] = []
        return load.run(
            self.spark, self.settings, lambda _: nullcontext(), load.Wish(**wish), self.told.append, self.told.append
        )

    def undo(self, load_id: str) -> load.Summary:
        """Roll a load back."""
        return rollback.run(self.spark, self.settings, load_id, lambda _: nullcontext())

    def load(self, **wish: Any) -> load.Summary:
        """A run that finds something new."""
        summary = self.run(**wish)
        assert summary is not None
        return summary

    def set_periods(self) -> None:
        """The time-of-use periods of the oracle."""
        if not self.value("SELECT count(*) FROM silver.time_of_use_periods"):
            periods.store(self.spark, periods.read(PERIODS.encode(), "periods.csv"))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.spark.sql(sql).collect()]

    def value(self, sql: str) -> Any:
        ((value,),) = self.rows(sql)
        return value

    def gold(self) -> dict[str, "Rows"]:
        """All rows of the views which are compared with the oracle."""
        self.set_periods()
        return {view: self.view(f"gold.{view}") for view in VIEWS}

    def view(self, source: str) -> "Rows":
        frame = self.spark.sql(f"SELECT * FROM {source}")
        return Rows(frame.columns, sorted((tuple(row) for row in frame.collect()), key=repr))

    def folders(self, table: str) -> dict[str, str]:
        """Where the content of each partition is now, as the metastore has it."""
        schema, name = tables.stored(table).split(".")
        jvm: Any = self.spark._jvm
        session: Any = self.spark._jsparkSession
        listed = session.sharedState().externalCatalog().listPartitions(schema, name, jvm.scala.Option.empty())
        partitions = [listed.apply(index) for index in range(listed.size())]
        names = [each.spec().values().mkString("/").removesuffix("/base") for each in partitions]
        return {name: each.location().toString() for name, each in zip(names, partitions, strict=True)}


def as_if_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have some of Spark's tasks read, merge and add up what is so little that the driver would do it alone."""
    monkeypatch.setattr(build, "is_for_here", lambda *_: False)
    monkeypatch.setattr(silver, "LITTLE_FILES", 0)
    monkeypatch.setattr(silver, "LITTLE_ROWS", -1)
    monkeypatch.setattr(silver, "FEW_FILES", 1)


def as_if_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have meterpoints corrected in the late layer of dates that are so small that they would be written anew, marts
    worked out by month, and dates asked for that a change of agreements can reach."""
    monkeypatch.setattr(build, "FEW_DATES", -1)
    monkeypatch.setattr(correct, "LARGE", 1)
    monkeypatch.setattr(correct, "PART", 0)
    monkeypatch.setattr(sums, "SMALL_FILE", -1)


def in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have marts worked out for some meterpoints of a date at a time."""
    monkeypatch.setattr(ingest, "ROW_GROUP", 24)
    monkeypatch.setattr(build, "PORTION", 100)


class Rows(NamedTuple):
    """The columns and the rows, in an order of their own, of a view."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
