"""What unit tests share: one Spark session, made when a test first asks for it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.settings import Settings
from jobs.spark import ASSETS, java_home, spark_conf
from tests.integration.lake import FOR_FEW_ROWS, SHORT_LIVED_JVM


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session with the settings of the jobs, but small, and with a catalog in memory instead of Hive's."""
    state = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JAVA_HOME", str(java_home(state)))
        environment.setenv("PYSPARK_PYTHON", sys.executable)
        environment.setenv("SPARK_LOCAL_IP", os.environ.get("SPARK_LOCAL_IP", "127.0.0.1"))
        conf = spark_conf(_settings(state)) | {
            "spark.sql.catalogImplementation": "in-memory",
            **FOR_FEW_ROWS,
            "spark.driver.extraJavaOptions": " ".join(
                [
                    SHORT_LIVED_JVM["SPARK_SUBMIT_OPTS"],
                    f"-Dlog4j2.configurationFile={(ASSETS / 'log4j2.properties').as_uri()}",
                    f"-Dlake.log={state}/spark.log",
                ]
            ),
        }
        builder = SparkSession.builder.appName("unit tests")
        for key, value in conf.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        yield session
        session.stop()


def _settings(state: Path) -> Settings:
    return Settings(
        landing=str(state / "landing"),
        warehouse=str(state / "warehouse"),
        metastore=None,
        state=state,
        reports=state / "reports",
        s3_endpoint=None,
        spark_master="local[2]",
        driver_memory="1g",
    )
