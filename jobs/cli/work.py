"""What commands that work on the lakehouse have in common: settings, the lock, Spark, and errors in a line each."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jobs import overview
from jobs.cli.terminal import console, fail, say, warn
from jobs.progress import Show
from jobs.schedule_state import TRY_AGAIN
from jobs.settings import Settings
from jobs.telemetry import lineage, logs

if TYPE_CHECKING:  # Spark takes a second to import, which --help must not pay for
    from pyspark.sql import SparkSession

    from jobs.query import Runner

# Seconds after which is told again how far a stage is: on a terminal, and where each text is one more line.
EACH, EACH_LINE = 1.0, 30.0


class Job:
    """A job that writes: its settings, and how long each of its stages took."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stages: dict[str, float] = {}
        self.at_work = "no stage"  # or the name of the stage that was entered last
        self.changed = True  # whether the lakehouse may be another one afterwards
        self._kept = overview.kept(settings)

    @contextmanager
    def stage(self, name: str) -> Iterator[Show | None]:
        """Show that a stage is at work, and then its seconds. It may say how far it is, but for lines of JSON."""
        began, self.at_work = time.monotonic(), name
        if logs.is_json():
            yield None
        else:
            with console.status(f"{name} …") as line:
                if console.is_terminal:
                    yield Show(lambda text: line.update(f"{name}: {text}"), EACH)
                else:
                    yield Show(lambda text: say(f"{name}: {text}"), EACH_LINE)
        self.stages[name] = seconds = time.monotonic() - began
        if logs.is_json():
            print(logs.line("info", f"{name} done", seconds=round(seconds, 1)), file=sys.stderr, flush=True)
        else:
            console.print(f"[green]✓[/] {name} [dim]{seconds:.1f} s[/]")

    def start_spark(self) -> "SparkSession":
        """Raises LakeError where Java does not start with these settings, or an executor does not see the folders;
        RuntimeError where Spark does not start."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkRuntimeError

        from jobs import cluster
        from jobs.errors import LakeError
        from jobs.spark import start_session

        with self.stage("start Spark"):
            try:
                spark = start_session(self.settings)
                cluster.require_places(spark, self.settings)
                return spark
            except PySparkRuntimeError as error:
                if error.getCondition() != "JAVA_GATEWAY_EXITED":
                    raise
                raise LakeError(
                    f"Java did not start, with a heap of {self.settings.driver_memory} (LAKE_DRIVER_MEMORY, in the"
                    f" stack LAKE_JOBS_HEAP): more than this machine has?"
                ) from None
            except Py4JError as error:
                raise RuntimeError(
                    f"Spark did not start with the master {self.settings.spark_master} (LAKE_SPARK_MASTER):"
                    f" {cluster.why_no_session(_cause(error))}; more in {self.settings.state}/spark.log"
                ) from None

    def end(self) -> None:
        """Stop Spark, and keep what `lake status` and `lake check` show from now on."""
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession

        from jobs import check
        from jobs.reports import gather

        if not (spark := SparkSession.getActiveSession()):
            return
        found, now, query = self._kept, datetime.now(UTC), overview.of_session(spark)
        changed = self.changed or not found or not overview.is_of_newest_load(spark, self.settings)
        if changed and overview.can_be_kept(self.settings):
            found = None  # and the next `lake status` asks the tables, where they cannot be asked now
            with suppress(PySparkException), self.stage("note the status"):
                empty = overview.empty_tables(spark)
                found = overview.ask(query, empty)
                # Not by a query: for its dates the embedded metastore would be asked for all dates that there are.
                silent_on = partial(gather.silent_meterpoints, spark)
                read_since = partial(gather.read_since, spark)
                told = check.ask(self.settings, query, now, empty, found, silent_on, read_since)
                found |= {overview.CHECK: told}
        # With an endpoint the scheduler's checks do it, and a run need not wait.
        if self.settings.metrics_file and not self.settings.endpoint:
            from jobs.telemetry import metrics

            with suppress(PySparkException, OSError), self.stage("note the metrics"):
                told = (found or {}).get(overview.CHECK) or check.ask(self.settings, query, now)
                metrics.after_run(self.settings, told, now)
        overview.end_session(spark, self.settings, found)


@contextmanager
def job() -> Iterator[Job]:
    """A job that holds the writer's lock. Its errors end the command, in one line each."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    from jobs import lock
    from jobs.errors import LakeError

    settings = Settings()
    this: Job | None = None
    try:
        with lock.writer_lock(settings.state, settings.lock_wait_seconds):
            this = Job(settings)
            yield this
            this.end()
    except typer.Exit:  # which is a RuntimeError, too
        raise
    except (LakeError, RuntimeError, OSError) as error:
        lineage.failed(str(error), warn)
        passing = isinstance(error, lock.Busy | OSError | RuntimeError)
        raise fail(str(error), TRY_AGAIN if passing else 1) from None
    except (PySparkException, Py4JError) as error:
        log = "" if settings.metastore else f"; more in {settings.state}/spark.log"
        stage = this.at_work if this else "no stage"
        lineage.failed(f"Spark failed in {stage!r}", warn)
        raise fail(f"Spark failed in {stage!r}: {_cause(error)}{log}", TRY_AGAIN) from None
    except BaseException as error:  # a person stops it, or a fault of the code
        lineage.failed(type(error).__name__, warn)
        raise


def _cause(error: Exception) -> str:
    """What is wrong, in a line: of a failed task, which brings a stack trace of each layer, the innermost's words."""
    from meterlake import first_line

    _, is_python, trace = str(error).rpartition("Traceback (most recent call last):")
    raised = [line for line in trace.splitlines() if line and not line[0].isspace()]
    if is_python and raised:
        return raised[0]
    _, is_nested, cause = str(error).rpartition("Caused by: ")
    # Without one, the text is what was called, and the error is an object of Java's.
    java = None if is_nested else getattr(error, "java_exception", None)
    return first_line(str(java) if java else cause)


@contextmanager
def runner() -> Iterator["Runner"]:
    """What runs queries. Its errors end the command, in one line each."""
    from jobs.errors import LakeError
    from jobs.query import opened

    try:
        with opened(Settings()) as query:
            yield query
    except typer.Exit:  # which is a RuntimeError, too
        raise
    except (LakeError, RuntimeError) as error:
        raise fail(str(error)) from None


def never_loaded(settings: Settings) -> bool:
    """Whether no load was recorded, as the warehouse's files show. A metastore alone proves nothing: it is there as
    soon as somebody has looked."""
    return overview.can_be_kept(settings) and not any(Path(settings.warehouse).glob("ops/loads/load_date=*"))


def require_loads(settings: Settings) -> None:
    """End a command that needs a lakehouse, before Spark starts, if there is none."""
    if overview.is_new(settings):
        raise fail("nothing was loaded yet, so there is nothing to do it with: `lake run`")


def anything_loaded(query: "Runner", *, as_json: bool = False) -> bool:
    """Says so if not."""
    loaded = bool(query("SHOW SCHEMAS LIKE 'gold'").rows)
    if not loaded:
        say_nothing_loaded(as_json=as_json)
    return loaded


def say_nothing_loaded(*, as_json: bool) -> None:
    """For a person; for a program, which reads JSON, an empty list."""
    settings = Settings()
    # A slip in it looks like a new lakehouse.
    where = f" (LAKE_STATE is {settings.state})" if "LAKE_STATE" in os.environ and not settings.metastore else ""
    say(f"Nothing was loaded yet{where}: `lake run`")
    if as_json:
        print("[]")


def below_landing(file: str) -> str:
    """A file as the lakehouse names it, by its path below the landing place.

    A shell completes names to paths that begin with the landing place. In the stack that folder has another path, so
    that only its last part can be told.
    """
    landing = Settings().landing
    if Path(file).is_dir() or Path(landing, file).is_dir():
        raise fail(f"{file} is a folder: name its files, as in {file.rstrip('/')}/*.json")
    # A link is a file of its own, and not the one that it leads to.
    path = str(Path(Path(file).parent.resolve(), Path(file).name)) if Path(file).exists() else file
    path = path.removeprefix(f"{landing}/").removeprefix("./")
    for start in (f"{landing.rsplit('/', 1)[-1]}/", "landing/"):
        path = path.removeprefix(start)
    if not path.startswith("readings/") and "/readings/" in path:
        path = path[path.index("/readings/") + 1 :]
    return path


def all_below_landing(files: list[str] | None) -> tuple[str, ...]:
    """The same of several files."""
    return tuple(map(below_landing, files or ()))
