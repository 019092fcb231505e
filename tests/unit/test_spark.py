import subprocess
import threading
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.spark import CLASS_ARCHIVE, at_once, java_home


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what a process has mapped")
def test_java_takes_its_classes_from_the_archive(spark: SparkSession) -> None:
    """It would do without, and say nothing, if the archive were of other jars."""
    gateway = spark.sparkContext._gateway
    assert gateway
    assert str(CLASS_ARCHIVE) in Path(f"/proc/{gateway.proc.pid}/maps").read_text()


def test_a_second_session_finds_the_machines_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one has left JAVA_HOME at a java that hands on to the machine's."""
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path)))
    java = java_home(tmp_path) / "bin" / "java"
    subprocess.run([java, "-version"], timeout=60, check=True, capture_output=True)


def test_actions_run_at_once_and_their_results_keep_their_order() -> None:
    both = threading.Barrier(2, timeout=60)
    assert at_once(lambda: (both.wait(), "first")[1], lambda: (both.wait(), "second")[1]) == ["first", "second"]


def test_an_action_that_fails_fails_all() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        at_once(lambda: 1, fail)
