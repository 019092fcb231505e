from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.spark import CLASS_ARCHIVE


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what a process has mapped")
def test_java_takes_its_classes_from_the_archive(spark: SparkSession) -> None:
    """It would do without, and say nothing, if the archive were of other jars."""
    gateway = spark.sparkContext._gateway
    assert gateway
    assert str(CLASS_ARCHIVE) in Path(f"/proc/{gateway.proc.pid}/maps").read_text()
