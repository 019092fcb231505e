"""The reference snapshot: agreements, products and meterpoints of the SQLite file of a midnight.

A snapshot is taken whole or not at all: a file with a fault keeps the snapshot before it in place, since half of one
and half of another would join to nonsense.
"""

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

MAX_FAULTS_NAMED = 5
MAGIC = b"SQLite format 3\0"

# Why a file is rejected; docs/rules.md says what each means and what to do.
Reason = Literal[
    "unreadable",  # this and the next: snapshots.py
    "in_use",
    "not_sqlite",
    "table_missing",
    "column_missing",
    "null_value",
    "wrong_type",
    "duplicate_key",
    "unknown_product",
    "unknown_meterpoint",
    "expectation_failed",  # the audit of what was written, in snapshots.py
]


class ReferenceError(Exception):
    """A reference file that cannot be taken: its reason (see docs/rules.md) and the rows at fault."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Fault(NamedTuple):
    """A row that broke a rule."""

    reason: Reason
    detail: str


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value


def _name(value: Any) -> str | None:
    """A blank one is as good as none."""
    return _text(value) if _text(value).strip() else None


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("not a whole number")
    return value


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError("not 0 or 1")
    return bool(value)


def _date(value: Any) -> date:
    try:
        # fromisoformat alone would take 20210101 and 2021-W01-1 too.
        if re.fullmatch(r"\d{4}-\d\d-\d\d", _text(value), re.ASCII):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError("not a date of the form YYYY-MM-DD")


class Column(NamedTuple):
    """A column of the source: its name, type here, reader, and whether it may be null."""

    name: str
    type: pa.DataType
    read: Callable[[Any], Any]
    nullable: bool = False


SOURCES = {
    "product": [
        Column("product_id", pa.string(), _text),
        Column("display_name", pa.string(), _name, nullable=True),
        Column("is_variable", pa.bool_(), _flag, nullable=True),
        Column("id", pa.int64(), _integer, nullable=True),
    ],
    "meterpoint": [
        Column("meterpoint_id", pa.string(), _text),
        Column("region", pa.string(), _text, nullable=True),
    ],
    "agreement": [
        Column("agreement_id", pa.int64(), _integer),
        Column("agreement_valid_from", pa.date32(), _date),
        Column("agreement_valid_to", pa.date32(), _date, nullable=True),
        Column("product_id", pa.string(), _text),
        Column("meterpoint_id", pa.string(), _text),
        Column("account_id", pa.string(), _text, nullable=True),
    ],
}
"""Tables and columns of the source file; a table's first column is its key."""


class Content(NamedTuple):
    """What a table of the source holds: the numbers of its rows, and its columns in the order of SOURCES."""

    numbers: list[int]
    columns: list[list[Any]]


def read_reference(path: Path) -> dict[str, pa.Table]:
    """The tables of a reference file, typed.

    Raises ReferenceError if it is not SQLite, lacks a table or column, or a row has a wrong type, a null or repeated
    key, or an agreement names an unknown product or meterpoint.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ReferenceError("not_sqlite", "the file does not begin as a SQLite file does")
    try:
        # Immutable: nothing is written beside the file, not even for one that was left in write-ahead mode.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            # Text that is not UTF-8 must be a fault of its row, not of the reader.
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            _require_health(connection, path.stat().st_size)
            _require_form(connection)
            contents = {table: _read_table(connection, table) for table in SOURCES}
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # SQLite's messages quote what is damaged
        raise ReferenceError("not_sqlite", f"the file is damaged: {error}") from None
    repeated = [fault for table, content in contents.items() for fault in _repeated_keys(table, content)]
    unknown = [fault for table in ("product", "meterpoint") for fault in _unknown(table, contents)]
    _raise_for(repeated + unknown)
    return {table: _typed(table, content) for table, content in contents.items()}


def checksum(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_health(connection: sqlite3.Connection, size_bytes: int) -> None:
    pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if size_bytes < pages * page_bytes:  # of the last page SQLite would take what is missing for zeros
        raise ReferenceError("not_sqlite", f"the file is cut off: {size_bytes} of {pages * page_bytes} bytes")
    (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok" and " value in " not in result:  # "NULL value in …" is a fault of a row, found later
        raise ReferenceError("not_sqlite", f"the file is damaged: {' '.join(str(result).split())}")


def _require_form(connection: sqlite3.Connection) -> None:
    for table, columns in SOURCES.items():
        found = {row[1].lower() for row in connection.execute(f"PRAGMA table_info({table})")}
        if not found:
            raise ReferenceError("table_missing", f"there is no table {table}")
        missing = [column.name for column in columns if column.name not in found]
        if missing:
            raise ReferenceError("column_missing", f"table {table} has no column {', '.join(missing)}")


def _read_table(connection: sqlite3.Connection, table: str) -> Content:
    """Raises ReferenceError where a value is null or of a wrong type."""
    columns = SOURCES[table]
    content = Content([], [[] for _ in columns])
    faults = []
    names = ", ".join(column.name for column in columns)
    for number, *row in connection.execute(f"SELECT {_row_number(connection, table)}, {names} FROM {table} ORDER BY 1"):
        content.numbers.append(number)
        for column, value, into in zip(columns, row, content.columns, strict=True):
            read, fault = _value(column, value)
            into.append(read)
            if fault:
                faults.append(Fault(fault[0], f"{table} row {number}: {column.name} {fault[1]}"))
    _raise_for(faults)
    return content


def _row_number(connection: sqlite3.Connection, table: str) -> str:
    """The rowid; a view, and a table WITHOUT ROWID, has none: there it is the place of the row, from 1."""
    try:
        has_rowid = connection.execute(f"SELECT rowid FROM {table} LIMIT 1").fetchone() != (None,)
    except sqlite3.OperationalError:
        has_rowid = False
    return "rowid" if has_rowid else "row_number() OVER ()"


def _typed(table: str, content: Content) -> pa.Table:
    schema = pa.schema([(column.name, column.type) for column in SOURCES[table]])
    arrays = [pa.array(values, field.type) for values, field in zip(content.columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def _value(column: Column, value: Any) -> tuple[Any, tuple[Reason, str] | None]:
    if value is None:
        return None, None if column.nullable else ("null_value", "is null")
    try:
        read = column.read(value)
        if isinstance(read, str):
            read.encode()
        return read, None
    except UnicodeEncodeError:
        return None, ("wrong_type", "is not UTF-8 text")
    except ValueError as error:
        return None, ("wrong_type", f"is {error}: {value!r:.80}")


def _repeated_keys(table: str, content: Content) -> Iterator[Fault]:
    name, keys = SOURCES[table][0].name, content.columns[0]
    count = Counter(keys)
    last = dict(zip(keys, content.numbers, strict=True))
    for key, copies in count.items():
        if copies > 1:
            yield Fault("duplicate_key", f"{table} row {last[key]}: {name} {key!r} occurs {copies} times")


def _unknown(table: Literal["product", "meterpoint"], contents: dict[str, Content]) -> Iterator[Fault]:
    known = set(contents[table].columns[0])
    agreement = contents["agreement"]
    index = [column.name for column in SOURCES["agreement"]].index(SOURCES[table][0].name)
    reason: Reason = "unknown_product" if table == "product" else "unknown_meterpoint"
    for number, agreement_id, key in zip(
        agreement.numbers, agreement.columns[0], agreement.columns[index], strict=True
    ):
        if key not in known:
            detail = f"agreement row {number}: agreement {agreement_id} names the unknown {table} {key!r}"
            yield Fault(reason, detail)


def _raise_for(faults: list[Fault]) -> None:
    if not faults:
        return
    named = "; ".join(fault.detail for fault in faults[:MAX_FAULTS_NAMED])
    more = len(faults) - MAX_FAULTS_NAMED
    raise ReferenceError(faults[0].reason, named + (f"; and {more} more" if more > 0 else ""))


def overlapping_agreements(agreement: DataFrame) -> DataFrame:
    """The agreements that begin while another one of their meterpoint, that began before, still holds."""
    in_order = Window.partitionBy("meterpoint_id").orderBy("agreement_valid_from", "agreement_id")
    end = F.coalesce("agreement_valid_to", F.lit("9999-12-31").cast("date"))
    earlier = in_order.rowsBetween(Window.unboundedPreceding, -1)
    return (
        agreement.where("agreement_valid_to IS NULL OR agreement_valid_to > agreement_valid_from")
        .withColumn("held_until", F.max(end).over(earlier))
        .where("held_until > agreement_valid_from")
    )
