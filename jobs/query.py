"""Queries for people: through the SQL endpoint where there is one, else on a session of this process."""

import base64
import csv
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs import overview
from jobs.errors import LakeError
from jobs.settings import Settings


class Result(NamedTuple):
    """Rows of a query."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    lines = "lines"
    csv = "csv"
    json = "json"


class QueryError(LakeError):
    """The query failed, in a line."""


class Runner:
    """Runs queries one after the other; the session behind it is started by the first one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.known: overview.Overview | None = None  # what is kept, and holds
        self.found: overview.Overview | None = None  # what is to be kept from now on, if that was asked
        self._spark: Any = None

    def __call__(self, sql: str) -> Result:
        """Raises QueryError."""
        return self._through_endpoint(sql) if self.settings.endpoint else self._on_own_session(sql)

    def close(self) -> None:
        """Stop the session, if one was started, and keep what is known for `lake status`."""
        if self._spark:
            overview.end_session(self._spark, self.settings, self.found or self.known)

    def _through_endpoint(self, sql: str) -> Result:
        import meterlake
        from jobs.certificate import CertificateError
        from jobs.endpoint import connect

        endpoint = urlsplit(f"//{self.settings.endpoint}")
        try:
            address = str(endpoint.hostname), endpoint.port or 10000
            with closing(connect(*address, self.settings.tls, self.settings.http)) as connection:
                cursor = connection.cursor()
                cursor.execute(sql)
                if not cursor.description:
                    return Result([], [])
                return Result([column[0] for column in cursor.description], cursor.fetchall())
        except (meterlake.Error, CertificateError) as error:
            hint = "; it may be starting: `make ps`" if "refused" in str(error) else ""
            raise QueryError(f"{error}{hint}") from None

    def _on_own_session(self, sql: str) -> Result:
        from pyspark.errors import PySparkException

        from jobs.move import require_place
        from jobs.spark import start_session
        from meterlake import first_line

        if not self._spark:
            self._spark = start_session(self.settings)
            require_place(self._spark, self.settings)
        # PySpark turns timestamps into the machine's local time, whatever the session's time zone is.
        os.environ["TZ"] = "UTC"
        time.tzset()
        try:
            if not reads_only(self._spark, sql):
                raise QueryError("only statements that read are taken here: versioned SQL files make tables and views")
            frame = self._spark.sql(sql)
            return Result(frame.columns, frame.collect())
        except PySparkException as error:
            raise QueryError(first_line(error)) from None


@contextmanager
def opened(settings: Settings) -> Iterator[Runner]:
    """A runner, which in the embedded lakehouse is alone: its metastore can be open in one process at a time.

    Raises lock.Busy.
    """
    from jobs import lock

    query = Runner(settings)
    if settings.endpoint:
        yield query
        return
    with lock.writer_lock(settings.state, settings.lock_wait_seconds):
        query.known = overview.kept(settings)
        try:
            yield query
        finally:
            query.close()


# Commands that change nothing. All else that is a command, and each statement that writes, is refused.
_READS = ("Show", "Describe", "Explain", "SetCatalogAndNamespace", "SetNamespaceCommand")


def reads_only(spark: Any, sql: str) -> bool:
    """Whether a statement, as Spark's own parser takes it, only reads. Raises PySparkException on a wrong one."""
    jvm = spark._jvm
    logical = "org.apache.spark.sql.catalyst.plans.logical"
    writing = [
        jvm.java.lang.Class.forName(f"{logical}.{name}") for name in ("Command", "ParsedStatement", "InsertIntoDir")
    ]
    waiting = [spark._jsparkSession.sessionState().sqlParser().parsePlan(sql)]
    while waiting:
        plan = waiting.pop()
        if any(kind.isInstance(plan) for kind in writing) and not plan.getClass().getSimpleName().startswith(_READS):
            return False
        children = plan.children()
        waiting += [children.apply(index) for index in range(children.size())]
    return True


_WIDEST = 1_000  # letters of a table's line, where nothing says how many there is room for
_FOLDED = 20  # letters of a word that is folded for want of room


def show(result: Result, form: Format) -> None:
    """Print rows on standard output, and nothing else. Raises QueryError."""
    if form is Format.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows([_text(value) for value in row] for row in result.rows)
    elif form is Format.json:
        if len(set(result.columns)) < len(result.columns):
            raise QueryError(f"columns of one name cannot be told apart in JSON: {', '.join(result.columns)}")
        rows = [dict(zip(result.columns, map(plain, row), strict=True)) for row in result.rows]
        print(json.dumps(rows, indent=1))
    elif form is Format.lines:
        _print_lines(result)
    else:
        _print_table(result)


def _print_table(result: Result) -> None:
    """A table; where it is too wide to be read, a line a value: a column with no room for a letter says nothing."""
    # As it is: in a plain str rich would take brackets for its own markup.
    rows = [[Text("" if value is None else str(_text(value))) for value in row] for row in result.rows]
    table, least = Table(), 1
    for number, column in enumerate(result.columns):
        words = [*column.split("_"), *(word for row in rows for word in row[number].plain.split())]
        room = min(max(map(len, words)), _FOLDED)
        # What is cut off, or an id that goes over two lines, cannot be copied.
        is_id = column.endswith("load_id")
        least += 3 + (max(len(row[number]) for row in rows) if is_id and rows else room)
        table.add_column(column, overflow="fold", no_wrap=is_id)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:  # a pipe or a file has no width
        wanted = table.__rich_measure__(console, console.options.update(max_width=_WIDEST)).maximum
        console = Console(width=max(wanted, console.width))
    if least <= console.width or not rows:
        console.print(table)
        return
    _print_lines(result)


def _print_lines(result: Result) -> None:
    for number, row in enumerate(result.rows):
        if number:
            print()  # between two rows
        for column, value in zip(result.columns, row, strict=True):
            print(f"{column}: {'' if value is None else _text(value)}")


def plain(value: Any) -> Any:
    """A value as JSON has it. What JSON does not know is text."""
    if isinstance(value, Mapping):
        return {str(_text(key)): plain(each) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "asDict"):  # a struct
        return plain(value.asDict())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(_text(value))


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | Decimal):
        return str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    return value
