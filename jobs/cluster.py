"""Executors on other machines: whether there are any, and what they need of this process.

They get the code of the jobs as an archive, and the keys of the object store with each task. Spark encrypts both where
its network is authenticated. Neither is a setting: those are shown in places, and are on the command line of Java.
"""

import os
import socket
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from pyarrow.fs import FileSystem, FileType, LocalFileSystem
from pyspark.sql import SparkSession

from jobs.errors import LakeError
from jobs.settings import Settings
from jobs.stores import open_folder

# Where Spark's own processes look for the secret that they share.
SECRET = "_SPARK_AUTH_SECRET"
KEYS = {"AWS_ACCESS_KEY_ID": "access.key", "AWS_SECRET_ACCESS_KEY": "secret.key", "AWS_SESSION_TOKEN": "session.token"}
MASTER_SECONDS = 5  # in which a master takes a connection
# In which a first executor is there: of a standalone cluster, whose workers wait for applications, and of another one,
# where machines may have to be started and images fetched.
EXECUTOR_SECONDS, POD_SECONDS = 60, 600
SETTLED_SECONDS = 1  # without another executor, and all are there
HOLD_SECONDS = 0.5  # a task of the look keeps its core so long, so that the others come to the other executors
SOME = 3  # entries of the landing place that an executor must see


class Unseen(NamedTuple):
    """A folder that an executor does not see as this process does."""

    host: str
    what: str  # the landing place or the warehouse
    folder: str
    problem: str


def is_cluster(settings: Settings) -> bool:
    """Whether tasks run on executors, and not in this process."""
    return not settings.spark_master.startswith("local")


def conf(settings: Settings) -> dict[str, str]:
    """Spark's configuration beside that of all, if tasks run on executors."""
    if not is_cluster(settings):
        return {}
    found = {
        # Containers have an address in each of their networks, and executors come by one of them.
        "spark.driver.bindAddress": "0.0.0.0",
        "spark.executor.memory": settings.executor_memory,
        # Executors have the keys that `prepare` hands to them, this process those of its environment.
        "spark.hadoop.fs.s3a.aws.credentials.provider": ",".join(
            [
                "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
                "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider",
            ]
        ),
    }
    if settings.spark_cores:
        found["spark.cores.max"] = str(settings.spark_cores)
    if not settings.spark_master.startswith("spark://"):
        found["spark.authenticate"] = "true"  # with a secret that Spark makes and hands on
    elif os.environ.get(SECRET):
        # Spark wants the setting to be there, but takes the environment's value before it.
        found |= {"spark.authenticate": "true", "spark.authenticate.secret": f"in the environment, as {SECRET}"}
    if "spark.authenticate" in found:
        found["spark.network.crypto.enabled"] = "true"
    return found


def require_master(settings: Settings) -> None:
    """Raises RuntimeError, in one line and in seconds, where no master of Spark's or Kubernetes' takes a connection."""
    addresses = [*_addresses(settings.spark_master)]
    problems = []
    for host, port in addresses:
        try:
            socket.create_connection((host, port), MASTER_SECONDS).close()
            return
        except OSError as error:
            problems.append(error.strerror or str(error))
    if addresses:
        raise RuntimeError(f"the master {settings.spark_master} (LAKE_SPARK_MASTER) does not answer: {problems[0]}")


def why_no_session(error: str) -> str:
    """What Spark means by an error at its start. When no master has taken it for a minute it stops, and whatever it is
    at says that something is stopped."""
    if "stopped" in error:
        return f"the master took no application of this process; has it another secret ({SECRET})?"
    return error


def _addresses(master: str) -> Iterator[tuple[str, int]]:
    """Hosts and ports of a master; spark://one:7077,other:7077 names two. None of YARN, which its own files name."""
    scheme, _, rest = master.partition("://")
    if scheme == "k8s":
        url = urlsplit(rest if "://" in rest else f"https://{rest}")
        if url.hostname:
            yield url.hostname, url.port or (80 if url.scheme == "http" else 443)
    elif scheme == "spark":
        for each in rest.split(","):
            url = urlsplit(f"//{each}")
            if url.hostname:
                yield url.hostname, url.port or 7077


def prepare(spark: SparkSession, settings: Settings) -> None:
    """Wait for executors, and hand code and keys to them. Nothing where there are none.

    Raises LakeError where the master gives no executor.
    """
    if not is_cluster(settings):
        return
    _wait_for_executors(spark, settings)
    context = spark.sparkContext
    context.addPyFile(str(_archive_of_code(settings.state)))
    hadoop = context._jsc.hadoopConfiguration()
    for name, key in KEYS.items():
        if value := os.environ.get(name):
            context.environment[name] = value  # of Python's workers
            hadoop.set(f"fs.s3a.{key}", value)  # of what Java reads and writes
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if value := os.environ.get(name):
            context.environment[name] = value
    spark.conf.set("spark.sql.shuffle.partitions", str(max(8, 2 * context.defaultParallelism)))


def _wait_for_executors(spark: SparkSession, settings: Settings) -> None:
    """Return when the number of executors has settled. Spark itself would begin with the first, or wait for ever."""
    status = spark.sparkContext._jsc.sc().statusTracker()
    patience = EXECUTOR_SECONDS if settings.spark_master.startswith("spark://") else POD_SECONDS
    began = changed = time.monotonic()
    known = 0
    while not known or time.monotonic() - changed < SETTLED_SECONDS:
        found = len(status.getExecutorInfos()) - 1  # the driver is one of them
        if found != known:
            known, changed = found, time.monotonic()
        if not known and time.monotonic() - began > patience:
            raise LakeError(
                f"the master {settings.spark_master} gave no executor in {patience} s: are its workers up, with"
                f" a free core and {settings.executor_memory} of memory (LAKE_EXECUTOR_MEMORY)?"
            )
        time.sleep(0.1)


def _archive_of_code(state: Path) -> Path:
    """The jobs' Python files as executors import them, so that theirs are never older than this process's."""
    archive, package = state / "jobs.zip", Path(__file__).parent
    part = state / f"jobs-{uuid4().hex}.part"
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as content:
        for file in sorted(package.rglob("*.py")):
            content.write(file, file.relative_to(package.parent))
    part.replace(archive)
    return archive


def require_places(spark: SparkSession, settings: Settings) -> None:
    """Have each executor look for a mark in the warehouse, and for some of the landing place's entries.

    Raises LakeError where one does not see them: what it wrote would be lost.
    """
    if not is_cluster(settings):
        return
    warehouse, folder = open_folder(f"{settings.warehouse}/staging", settings.s3_endpoint)
    warehouse.create_dir(folder, recursive=True)
    mark, content = f"{folder}/seen-by-executors", uuid4().bytes
    with warehouse.open_output_stream(mark) as stream:
        stream.write(content)
    try:
        look = partial(
            unseen,
            warehouse=(warehouse, settings.warehouse, {mark: content}),
            landing=_landing(settings),
        )
        tasks = spark.sparkContext.defaultParallelism
        found = spark.sparkContext.parallelize(range(tasks), tasks).mapPartitions(look).collect()
    finally:
        warehouse.delete_file(mark)
    if found:
        first = sorted(found)[0]
        raise LakeError(
            f"the executor on {first.host} does not see {first.what} {first.folder}: {first.problem}. Mount it there"
            " under the same path, or have it in an object store (s3a://)"
        )


def _landing(settings: Settings) -> tuple[FileSystem, str, dict[str, None]]:
    """Entries of the landing place: of a local one. One in a store is the same store wherever it is read."""
    file_system = open_folder(settings.landing, settings.s3_endpoint)[0]
    found: list[str] = []
    if isinstance(file_system, LocalFileSystem):
        for folder in (settings.landing, f"{settings.landing}/readings"):
            if os.path.isdir(folder):
                with os.scandir(folder) as entries:
                    found += [folder, *(entry.path for entry in islice(entries, SOME))]
    return file_system, settings.landing, dict.fromkeys(found)


Place = tuple[
    FileSystem, str, Mapping[str, bytes | None]
]  # a folder, and paths in it with what they hold, if it matters


def unseen(_: Iterable[int], landing: Place, warehouse: Place) -> Iterator[Unseen]:
    """What the machine on which this runs does not see, or may not write where it must."""
    time.sleep(HOLD_SECONDS)
    for what, (file_system, folder, paths) in (("the landing place", landing), ("the warehouse", warehouse)):
        try:
            for path, content in paths.items():
                if file_system.get_file_info(path).type == FileType.NotFound:
                    raise OSError(f"there is no {path}")
                if content is not None:
                    with file_system.open_input_stream(path) as stream:
                        if stream.read() != content:
                            raise OSError(f"it has another {path}")
                    mine = f"{path}-{uuid4().hex}"
                    file_system.open_output_stream(mine).close()
                    file_system.delete_file(mine)
        except OSError as error:
            yield Unseen(socket.gethostname(), what, folder, str(error).splitlines()[0])
