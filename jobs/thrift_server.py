"""The SQL endpoint: Spark's Thrift server with the guard (docker/endpoint-guard), and how it is set."""

import fcntl
import os
import secrets
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from jobs import cluster
from jobs.settings import MIB, Settings
from jobs.spark import ASSETS, java_home, java_options, spark_conf, spark_home

SHORTEST_PSEUDONYM_KEY = 32


def serve(settings: Settings) -> None:
    """Become the SQL endpoint: Spark's Thrift server, guarded, and open to known users alone. Does not return.

    Raises RuntimeError where the guard is missing: there is no endpoint without it. And where a master does not answer.
    """
    if not settings.endpoint_guard.is_file():
        raise RuntimeError(
            f"the endpoint's guard {settings.endpoint_guard} is missing: docker/endpoint-guard/build makes it"
        )
    cluster.require_master(settings)
    home = java_home(settings.state)
    # On disk: /tmp is memory in the stack, where the root file system is read-only.
    own = own_folder(settings.state)
    conf = spark_conf(settings) | endpoint_conf(settings) | {"spark.local.dir": str(own)}
    submit = [str(Path(spark_home()) / "bin" / "spark-submit"), "--name", "sql-endpoint"]
    for key, value in conf.items():
        submit += ["--conf", f"{key}={value}"]
    log = (ASSETS / f"log4j2-{'json' if settings.log_format == 'json' else 'console'}.properties").as_uri()
    options = [*java_options(patience=5), *MEMORY_SHORT, f"-Dlog4j2.configurationFile={log}"]
    submit += ["--conf", f"spark.driver.extraJavaOptions={' '.join(options)}"]
    submit += ["--class", "lake.guard.Endpoint", "spark-internal"]
    tls, of_keystore = _tls(settings, own)
    for key, value in (HIVE_CONF | _transport_conf(settings) | tls).items():
        submit += ["--hiveconf", f"{key}={value}"]
    environment = {
        "JAVA_HOME": str(home),
        "PYSPARK_PYTHON": sys.executable,
        "LAKE_USERS": str(settings.users),
        "LAKE_PSEUDONYMS": str(settings.pseudonyms).lower(),
        "LAKE_PSEUDONYM_KEY": pseudonym_key(settings),
        "LAKE_MIN_GROUP": str(settings.min_group),
    }
    # The endpoint knows a hash of it. Where one runs it by hand, the password itself may be there.
    kept = {name: value for name, value in os.environ.items() if name != "LAKE_SQL_PASSWORD"}
    os.execve(submit[0], submit, kept | environment | of_keystore)


def pseudonym_key(settings: Settings) -> str:
    """What pseudonyms are made with: LAKE_PSEUDONYM_KEY, else a file beside the users', made at the first start.

    Raises RuntimeError for a key that could be guessed.
    """
    key = os.environ.get("LAKE_PSEUDONYM_KEY", "")
    file = settings.users.parent / "pseudonym.key"
    if not key and settings.pseudonyms:
        from jobs.users import write_private

        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_private(file, secrets.token_hex(24))
        key = file.read_text().strip()
    if settings.pseudonyms and len(key) < SHORTEST_PSEUDONYM_KEY:
        raise RuntimeError(f"LAKE_PSEUDONYM_KEY must have {SHORTEST_PSEUDONYM_KEY} characters or more")
    return key


# Java says that no memory is left when it spends most of its time on collecting garbage and finds a tenth of the heap;
# by default it would go on for hours. Before that the watchdog stops a query: such an error may hit any thread.
MEMORY_SHORT = ("-XX:GCTimeLimit=80", "-XX:GCHeapFreeLimit=10")


def own_folder(state: Path) -> Path:
    """A new folder for one process, which others tell by its lock; those of processes that have ended are removed."""
    state.mkdir(parents=True, exist_ok=True)
    for other in state.glob("endpoint-*"):
        with suppress(OSError), (other / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other)
    folder = Path(tempfile.mkdtemp(prefix="endpoint-", dir=state))
    # Open for as long as the process is, whatever program it becomes.
    held = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.set_inheritable(held, True)
    return folder


def health_file(port: int) -> Path:
    """Where the endpoint writes the password of its user lake-health, anew at each start."""
    return Path(tempfile.gettempdir()) / f"lake-health-{port}"


def endpoint_conf(settings: Settings) -> dict[str, str]:
    """What the SQL endpoint has beside the configuration of all: the guard, and no way around it."""
    on_executors = {
        # Plans of the guard's go to executors, which get its classes from here.
        "spark.jars": settings.endpoint_guard.as_uri(),
        "spark.executor.extraJavaOptions": " ".join([*java_options(patience=5), *MEMORY_SHORT]),
    }
    # Spark's own ports ask for no password, and what queries send to all tasks can be had there: they are for this
    # process alone.
    alone = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.authenticate": "true",  # by a secret that Spark makes
    }
    return (on_executors if cluster.is_cluster(settings) else alone) | {
        "spark.driver.extraClassPath": str(settings.endpoint_guard),
        "spark.sql.extensions": "lake.guard.Guard",
        # All users share the cores alike (the guard says how): without it the first query had them until it ends.
        "spark.scheduler.mode": "FAIR",
        # What one query may take. Past the last one, which is for what is sent to all tasks, too, Spark itself refuses.
        "spark.extraListeners": "lake.guard.RunLimits,lake.guard.QueryLog",
        "spark.lake.health": str(health_file(settings.endpoint_port)),
        "spark.lake.query.seconds": str(settings.query_seconds),
        "spark.lake.query.scanBytes": str(settings.query_scan_bytes),
        "spark.lake.query.resultBytes": str(settings.query_result_bytes),
        "spark.lake.query.diskBytes": str(settings.query_disk_bytes),
        "spark.lake.query.heldPercent": str(settings.query_held_percent),
        "spark.lake.query.heldSeconds": str(settings.query_held_seconds),
        # Beside the process's own folder, because the next process reads it.
        "spark.lake.metrics.port": str(settings.endpoint_metrics_port),
        "spark.lake.restarts": str(settings.state / "endpoint_restarts"),
        "spark.driver.maxResultSize": str(max(4 * settings.query_result_bytes, 32 * MIB)),
        # A task that runs out of stack or memory ends its query, and not the process, as it does by default.
        "spark.executor.killOnFatalError.depth": "0",
        "spark.sql.thriftServer.interruptOnCancel": "true",
        # Small tasks: a core is free for another query when one ends, and the rows of one must fit into that limit.
        "spark.sql.files.maxPartitionBytes": "2m",
        "spark.sql.files.openCostInBytes": "512k",
        "spark.sql.adaptive.advisoryPartitionSizeInBytes": "16m",
        # Each aggregation and each table that is sent to all tasks takes a page at once, however few rows it has. By
        # default that is some 16 MB of a heap of 2 GiB, so that fifty small queries at once would fill it.
        "spark.buffer.pageSize": "1m",
        # Spark writes each plan out, with its constants, and keeps what it wrote.
        "spark.sql.maxPlanStringLength": "1m",
        # And what it did, for pages that nobody looks at: of long statements until the memory is full.
        "spark.ui.retainedJobs": "20",
        "spark.ui.retainedStages": "20",
        "spark.ui.retainedTasks": "1000",
        "spark.sql.ui.retainedExecutions": "20",
        "spark.sql.thriftserver.ui.retainedSessions": "20",
        "spark.sql.thriftserver.ui.retainedStatements": "20",
        # What the parser has learnt of strange statements would stay in memory for good. A state takes some 30 KB.
        "spark.sql.parser.manageParserCaches": "true",
        "spark.sql.parser.parserDfaCacheFlushThreshold": "8000",
        # A path is no table, whatever the guard says.
        "spark.sql.runSQLOnFiles": "false",
        # Or set:system:… at connect time would set properties of this JVM: a proxy, a trust store.
        "spark.sql.legacy.hive.thriftServer.allowSettingSystemProperties": "false",
        "spark.hadoop.hive.server2.authentication": "CUSTOM",
    }


def _transport_conf(settings: Settings) -> dict[str, str]:
    port = str(settings.endpoint_port)
    if not settings.http:
        return {"hive.server2.thrift.port": port}
    return {
        "hive.server2.transport.mode": "http",
        "hive.server2.thrift.http.port": port,
        # A cookie would be good for a day, whatever became of the password.
        "hive.server2.thrift.http.cookie.auth.enabled": "false",
        # No connection says that a client is gone.
        "hive.server2.idle.session.timeout": "1h",
    }


def _tls(settings: Settings, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Hive's settings for TLS, and the environment that goes with them. Java reads a key from a store with a password,
    which is made anew at each start and only for this process: others see its command line, not its environment."""
    if not settings.tls.exists():
        return {}, {}
    from jobs.certificate import CertificateError, keystore

    password = secrets.token_urlsafe(32)
    try:
        content = keystore(settings.tls, password)
    except (CertificateError, OSError) as error:
        raise RuntimeError(f"{settings.tls}: {error}") from None
    store = folder / "endpoint.p12"
    store.touch(mode=0o600)
    store.write_bytes(content)
    return (
        {"hive.server2.use.SSL": "true", "hive.server2.keystore.path": str(store)},
        {"LAKE_KEYSTORE_PASSWORD": password},
    )


# Read by the Thrift server's own part, which takes these from its command line alone.
HIVE_CONF = {
    "hive.server2.authentication": "CUSTOM",
    "hive.server2.custom.authentication.class": "lake.guard.Login",
    # One user must not open a session as another.
    "hive.server2.enable.doAs": "false",
    "hive.server2.allow.user.substitution": "false",
    # ${env:…} in a setting would be the endpoint's secret.
    "hive.variable.substitute": "false",
    # Each connection has one: 300 that have not logged in, 150 logins, and those of some addresses (Binary.java).
    "hive.server2.thrift.max.worker.threads": "1000",
    # Statements that run at once, of all users: one user may have 64 (Door.java).
    "hive.server2.async.exec.threads": "500",
    # A client that is gone without a word, or keeps a result open that it has read, holds memory. These are Hive's own,
    # which has days in their place.
    "hive.server2.session.check.interval": "5m",
    "hive.server2.idle.session.timeout": "8h",
    "hive.server2.idle.operation.timeout": "30m",
}
