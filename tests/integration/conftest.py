"""One Spark session with an embedded Hive metastore for all integration tests of a process."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs import collect, compact, tables, versions
from jobs.ledger import writer
from jobs.settings import SQL, Settings
from jobs.spark import start_session
from tests.integration.lake import FOR_FEW_ROWS, Lake

# PySpark ends a process whose main module has no file, as those of pytest-xdist: it takes them for tests of its own.
if not hasattr(sys.modules["__main__"], "__file__"):
    sys.modules["__main__"].__file__ = __file__

SCHEMAS = ("gold", "mart", "quarantine", "ops", "silver")
MARKS = ", ".join(f"'lake.{mark}'" for mark in (writer.WRITER, collect.COLLECTED, compact.FOLDED))
# What differs between two states of one table without a change of its form.
CHANGING = re.compile(r"Table Properties: .*\n|Last Access: .*|Statistics: .*")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one session of this process."""
    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        # Java lives for some hundred loads here: its optimising compiler need not wait, and its heap may grow as by
        # default. Of two options of a name the later counts.
        patch.setattr("jobs.spark.java_options", lambda patience: ["-XX:+UseParallelGC", "-XX:GCTimeRatio=99"])
        settings = Settings(warehouse=str(folder / "warehouse"), state=folder / "state", driver_memory="2g")
        session = start_session(settings)
    for name, value in FOR_FEW_ROWS.items():
        session.conf.set(name, value)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def bare_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Lake]:
    """Makes a lakehouse to which no SQL was applied, in the place of the one before it: tables have the same names."""

    def make() -> Lake:
        for schema in SCHEMAS:
            spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        tables.forms_changed()
        return Lake(spark, tmp_path_factory.mktemp("lake"))

    return make


@pytest.fixture(scope="session")
def new_lake(
    spark: SparkSession, bare_lake: Callable[[], Lake], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Lake]:
    """Makes an empty lakehouse in the place of the one before it.

    To apply the SQL takes seconds, and there are fifty of them: so the tables are emptied, if the tests left them as
    they were made.
    """
    made: list[tuple[Path, str]] = []  # warehouse, and the form of its tables

    def make() -> Lake:
        if made and _form(spark) == made[-1][1]:
            warehouse = made[-1][0]
            _empty(spark, warehouse)
            return Lake(spark, tmp_path_factory.mktemp("lake"), warehouse)
        lake = bare_lake()
        versions.apply_versions(spark, SQL, lake.settings.warehouse)
        made.append((Path(lake.settings.warehouse), _form(spark)))
        return lake

    return make


def _form(spark: SparkSession) -> str:
    """All that the metastore has of tables, views and functions, but for their partitions."""
    catalog: Any = tables._catalog(spark)
    found = []
    for schema in SCHEMAS:
        if catalog.databaseExists(schema):
            names = catalog.listTables(schema)
            found.append(str(catalog.getTablesByName(schema, names).mkString("\n")))
            found.append(str(catalog.listFunctions(schema, "*").mkString(" ")))
    return CHANGING.sub("", "\n".join(found))


def _empty(spark: SparkSession, warehouse: Path) -> None:
    """Take all rows away, but those that tell which SQL was applied."""
    for table in set(tables.ALL) - {tables.VERSIONS}:
        tables.drop(spark, table, tables.all_locations(spark, table))
    spark.sql(f"ALTER TABLE ops.loads UNSET TBLPROPERTIES IF EXISTS ({MARKS})")
    for folder in warehouse.glob("*/*"):
        if folder.relative_to(warehouse).as_posix() != "ops/schema_versions":
            shutil.rmtree(folder)
