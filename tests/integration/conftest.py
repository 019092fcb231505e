"""One Spark session with an embedded Hive metastore for all integration tests of a process."""

from collections.abc import Callable, Iterator

import pytest
from pyspark.sql import SparkSession

from jobs.settings import Settings
from jobs.spark import start_session
from tests.integration.lake import Lake

SCHEMAS = ("gold", "mart", "quarantine", "ops", "silver")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one session of this process."""
    folder = tmp_path_factory.mktemp("spark")
    session = start_session(Settings(warehouse=str(folder / "warehouse"), state=folder / "state", driver_memory="1g"))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def new_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Lake]:
    """Makes an empty lakehouse in the place of the one before it: the names of the tables are the same."""

    def make() -> Lake:
        for schema in SCHEMAS:
            spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        return Lake(spark, tmp_path_factory.mktemp("lake"))

    return make
