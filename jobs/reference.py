"""The reference snapshot: agreements, products and meterpoints of the SQLite file of a midnight.

A snapshot is taken whole or not at all: a file with a fault keeps the snapshot before it in place, since half of one and
half of another would join to nonsense.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

MAX_FAULTS_NAMED = 5


class ReferenceError(Exception):
    """A reference file that cannot be taken: its reason (see docs/rules.md) and the rows at fault."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Fault(NamedTuple):
    """A row that broke a rule."""

    reason: str
    detail: str


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value


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
        return date.fromisoformat(_text(value))
    except ValueError:
        raise ValueError("not a date of the form YYYY-MM-DD") from None


class Column(NamedTuple):
    """A column of the source: its name, type here, reader, and whether it may be null."""

    name: str
    type: pa.DataType
    read: Callable[[Any], Any]
    nullable: bool = False


SOURCES = {
    "product": [
        Column("product_id", pa.string(), _text),
        Column("display_name", pa.string(), _text, nullable=True),
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


def read_reference(path: Path) -> dict[str, pa.Table]:
    """The tables of a reference file, typed.

    Raises ReferenceError if it is not SQLite, lacks a table or column, or a row has a wrong type, a null or repeated key, or
    an agreement names an unknown product or meterpoint.
    """
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        _require_form(connection)
        tables = {name: _read_table(connection, name) for name in SOURCES}
        faults = [*_repeated_keys(connection), *_unknown("product", connection), *_unknown("meterpoint", connection)]
        _raise_for(faults)
        return tables
    except sqlite3.DatabaseError as error:
        raise ReferenceError("not_sqlite", str(error)) from None
    finally:
        connection.close()


def checksum(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_form(connection: sqlite3.Connection) -> None:
    for table, columns in SOURCES.items():
        found = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if not found:
            raise ReferenceError("table_missing", f"there is no table {table}")
        missing = [column.name for column in columns if column.name not in found]
        if missing:
            raise ReferenceError("column_missing", f"table {table} has no column {', '.join(missing)}")


def _read_table(connection: sqlite3.Connection, table: str) -> pa.Table:
    columns = SOURCES[table]
    names = ", ".join(column.name for column in columns)
    values: list[list[Any]] = [[] for _ in columns]
    faults = []
    # Text that is not UTF-8 must be a fault of its row, not of the reader.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    for rowid, *row in connection.execute(f"SELECT rowid, {names} FROM {table} ORDER BY rowid"):
        for column, value, into in zip(columns, row, values, strict=True):
            read, fault = _value(column, value)
            into.append(read)
            if fault:
                faults.append(Fault(fault[0], f"{table} row {rowid}: {column.name} {fault[1]}"))
    _raise_for(faults)
    schema = pa.schema([(column.name, column.type) for column in columns])
    return pa.table([pa.array(each, column.type) for each, column in zip(values, columns, strict=True)], schema=schema)


def _value(column: Column, value: Any) -> tuple[Any, tuple[str, str] | None]:
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


def _repeated_keys(connection: sqlite3.Connection) -> Iterator[Fault]:
    for table, columns in SOURCES.items():
        key = columns[0].name
        query = f"SELECT {key}, count(*), max(rowid) FROM {table} GROUP BY {key} HAVING count(*) > 1 ORDER BY {key}"
        for value, count, rowid in connection.execute(query):
            yield Fault("duplicate_key", f"{table} row {rowid}: {key} {value!r} occurs {count} times")


def _unknown(table: str, connection: sqlite3.Connection) -> Iterator[Fault]:
    key = SOURCES[table][0].name
    query = f"SELECT rowid, agreement_id, {key} FROM agreement WHERE {key} NOT IN (SELECT {key} FROM {table})"
    for rowid, agreement, value in connection.execute(query):
        detail = f"agreement row {rowid}: agreement {agreement} names the unknown {table} {value!r}"
        yield Fault(f"unknown_{table}", detail)


def _raise_for(faults: list[Fault]) -> None:
    if not faults:
        return
    named = "; ".join(fault.detail for fault in faults[:MAX_FAULTS_NAMED])
    more = len(faults) - MAX_FAULTS_NAMED
    raise ReferenceError(faults[0].reason, named + (f"; and {more} more" if more > 0 else ""))


def overlapping_agreements(agreement: DataFrame) -> int:
    """How many agreements begin while another one of their meterpoint, that began before, still holds."""
    in_order = Window.partitionBy("meterpoint_id").orderBy("agreement_valid_from", "agreement_id")
    end = F.coalesce("agreement_valid_to", F.lit("9999-12-31").cast("date"))
    earlier = in_order.rowsBetween(Window.unboundedPreceding, -1)
    return (
        agreement.where("agreement_valid_to IS NULL OR agreement_valid_to > agreement_valid_from")
        .withColumn("held_until", F.max(end).over(earlier))
        .where("held_until > agreement_valid_from")
        .count()
    )
