"""The reference snapshot: agreements, products and meterpoints of the SQLite file of a midnight.

A file with a fault of form is rejected whole. A row with a fault is left out, with its reason: one row must not keep
two million others from readers. How many may be left out is for the suites to say.
"""

import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import date
from functools import lru_cache, partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.readings.rules import LONGEST_ID, fault_of_id


def _memory() -> int:
    """Bytes of memory that the machine has, or the container, where that has less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" is no limit
            found.append(int(Path("/sys/fs/cgroup", limit).read_text()))
    return min(found)


MAGIC = b"SQLite format 3\0"
WRITE_AHEAD = 2  # bytes 18 and 19 of the header say so
LONGEST_VALUE = 1_000_000  # bytes
# A view may never end, and needs no bytes for its rows. It is stopped after so many, a table after those of a country,
# and any statement after so many seconds.
MOST_ROWS, MOST_ROWS_OF_TABLE, MOST_SECONDS = 1_000_000, 30_000_000, 600
STEPS = 1_000  # of SQLite's machine between two looks at the clock; one step may take long
# Bytes of all values of a file. They are held in memory, for a while twice, beside Java: of a file that has more the
# system would end the load, and each load after it.
MOST_VALUES = _memory() // 8
LONGEST_DATE = 32  # characters of a date that is remembered
# Rows that are read together, bytes after which they are no more, and rows after which that is looked at.
BATCH, BATCH_BYTES, LOOK = 20_000, 16 * 1024 * 1024, 50
FOREVER = (date.max - date(1970, 1, 1)).days
SMALLEST_VALUE = 8  # bytes that a number or a null counts
MOST_REJECTED, MOST_OF_REJECTED = 100_000, 256 * 1024 * 1024  # rows of a file, and characters of them as JSON
# Bytes that SQLite itself takes, in the whole process. Once set, the limit can be lowered, not raised.
MOST_HEAP = min(1024**3, MOST_VALUES)
CACHE = 16 * 1024  # KiB; the file may ask for more

# Why a file is rejected; docs/rules.md says what each means and what to do.
Reason = Literal[
    "unreadable",  # this and the next five: landing.py, snapshots.py
    "outside_landing",
    "too_large",
    "in_use",
    "modified_in_future",
    "older_than_shown",
    "not_sqlite",
    "takes_too_long",
    "table_missing",
    "column_missing",
    "expectation_failed",  # the audit of what was written, in snapshots.py
]
RowReason = Literal[
    "null_value",
    "wrong_type",
    "bad_id",
    "duplicate_key",
    "unknown_product",
    "unknown_meterpoint",
]


class SnapshotRejected(Exception):
    """A reference file that cannot be taken: its reason (see docs/rules.md) and the rows at fault."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class RejectedRow(NamedTuple):
    """A row of a reference file that is left out: columns of quarantine.reference."""

    table_name: str
    row_number: int  # the rowid; the place of the row, from 1, in a view or a table without
    reason: RowReason
    detail: str
    row_json: str  # the row as the file has it


class Reference(NamedTuple):
    """What a reference file says."""

    tables: dict[str, pa.Table]  # agreement, product, meterpoint
    rejected: list[RejectedRow]
    rows: dict[str, int]  # rows of the file, by table
    warnings: list[str]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value


def _id(value: Any) -> str:
    """An id without the blanks that a column of fixed width pads it with."""
    name = _text(value).strip()
    if fault := fault_of_id(name):
        raise BadId(fault.removeprefix("meterpoint_id_").replace("_", " "))
    return name


class BadId(ValueError):
    """A text that cannot be an id."""


def _name(value: Any) -> str | None:
    """A name without the blanks around it. A blank one is as good as none."""
    return _text(value).strip() or None


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("not a whole number")
    return value


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError("not 0 or 1")
    return bool(value)


def _date(value: Any) -> date:
    text = value.strip() if isinstance(value, str) else ""
    read = _known_date_of(text) if len(text) <= LONGEST_DATE else _date_of(text)
    if read is None:
        raise ValueError("not a date of the form YYYY-MM-DD")
    return read


def _date_of(text: str) -> date | None:
    # fromisoformat alone would take 20210101 and 2021-W01-1 too. Many exports write a date as its midnight.
    form = re.fullmatch(r"(\d{4}-\d\d-\d\d)([ T]00:00(:00(\.0+)?)?)?", text, re.ASCII)
    try:
        return date.fromisoformat(form[1]) if form else None
    except ValueError:
        return None


_known_date_of = lru_cache(maxsize=10_000)(_date_of)  # millions of agreements begin on a few thousand dates


def _end(value: Any) -> date | None:
    """A blank end is an open one."""
    return _date(value) if not isinstance(value, str) or value.strip() else None


class Column(NamedTuple):
    """A column of the source: its name, type here, reader, and whether it may be null."""

    name: str
    type: pa.DataType
    read: Callable[[Any], Any]
    nullable: bool = False


SOURCES = {
    "product": [
        Column("product_id", pa.string(), _id),
        Column("display_name", pa.string(), _name, nullable=True),
        Column("is_variable", pa.bool_(), _flag, nullable=True),
        Column("id", pa.int64(), _integer, nullable=True),
    ],
    "meterpoint": [
        Column("meterpoint_id", pa.string(), _id),
        Column("region", pa.string(), _text, nullable=True),
    ],
    "agreement": [
        Column("agreement_id", pa.int64(), _integer),
        Column("agreement_valid_from", pa.date32(), _date),
        Column("agreement_valid_to", pa.date32(), _end, nullable=True),
        Column("product_id", pa.string(), _id),
        Column("meterpoint_id", pa.string(), _id),
        Column("account_id", pa.string(), _text, nullable=True),
    ],
}
"""Tables and columns of the source file; a table's first column is its key."""
NUMBER = "row_number"


class Rejections:
    """The rows of a file that are left out, up to a limit."""

    def __init__(self) -> None:
        self.rows: list[RejectedRow] = []
        self.characters = 0

    def add(self, row: RejectedRow) -> None:
        """Raises SnapshotRejected where there are too many."""
        self.rows.append(row)
        self.characters += len(row.row_json)
        if len(self.rows) > MOST_REJECTED or self.characters > MOST_OF_REJECTED:
            limits = f"{MOST_REJECTED:,} rows or {MOST_OF_REJECTED:,} characters"
            # Without the row: analysts, who see no ids, can read why a load took no snapshot.
            raise SnapshotRejected(
                "too_large", f"the rows at fault are more than {limits}; the last is of {row.table_name}"
            )


class Content(NamedTuple):
    """Rows of a table of the file."""

    rows: pa.Table  # NUMBER, then the columns of SOURCES
    original: Callable[[int], Sequence[Any]]  # the values of a row as they are in the file, by its number


def read_reference(path: Path, *, seconds: float = MOST_SECONDS) -> Reference:
    """The tables of a reference file, typed, and the rows that break a rule.

    Raises SnapshotRejected if the file is not SQLite, is damaged, lacks a table or column, or takes too long to read.
    """
    with path.open("rb") as file:
        header = file.read(20)
    if not header.startswith(MAGIC):
        raise SnapshotRejected("not_sqlite", "the file does not begin as a SQLite file does")
    warnings = []
    if WRITE_AHEAD in header[18:20]:
        warnings.append(
            "the file is in write-ahead mode: if it was copied out of a database in use without its -wal, the newest"
            " changes are missing. Copy with `sqlite3 … .backup` or `VACUUM INTO`"
        )
    rejected = Rejections()
    try:
        with closing(_connect(path, seconds)) as connection:
            _require_health(connection, path.stat().st_size)
            _require_form(connection)
            sizes: list[int] = []
            contents = {table: _read_table(connection, table, rejected, sizes) for table in SOURCES}
            rows = {
                table: content.rows.num_rows + sum(each.table_name == table for each in rejected.rows)
                for table, content in contents.items()
            }
            contents = {table: _without_repeats(table, content, rejected) for table, content in contents.items()}
            contents["agreement"] = _of_known(contents, rejected)
    except MemoryError:  # what SQLite says where it would take more than its limit
        detail = f"{path.name}: SQLite takes more than {MOST_HEAP:,} bytes to read it; is it a view?"
        raise SnapshotRejected("too_large", detail) from None
    except sqlite3.DataError as error:
        raise SnapshotRejected("too_large", f"a value is longer than {LONGEST_VALUE:,} bytes: {error}") from None
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # SQLite's messages quote what is damaged
        if "interrupted" in str(error):
            raise SnapshotRejected("takes_too_long", f"it was not read after {seconds:.0f} s; is it a view?") from None
        raise SnapshotRejected("not_sqlite", f"the file is damaged: {error}") from None
    tables = {table: content.rows.drop_columns(NUMBER) for table, content in contents.items()}
    rejected.rows.sort(key=lambda each: (each.table_name, each.row_number))
    return Reference(tables, rejected.rows, rows, warnings)


def _connect(path: Path, seconds: float) -> sqlite3.Connection:
    """A connection that trusts nothing in the file: it takes neither all time, nor all memory, nor any disk."""
    end = time.monotonic() + seconds
    # Immutable: nothing is written beside the file, not even for one that was left in write-ahead mode.
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    # Text that is not UTF-8 must be a fault of its row, not of the reader.
    connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.set_progress_handler(lambda: time.monotonic() > end, STEPS)
    try:
        # What a view sorts would fill the disk, so it is held in memory, which has a limit.
        for setting in (
            "temp_store = MEMORY",
            f"hard_heap_limit = {MOST_HEAP}",
            "trusted_schema = OFF",
            f"cache_size = -{CACHE}",
        ):
            connection.execute(f"PRAGMA {setting}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def checksum(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_health(connection: sqlite3.Connection, size_bytes: int) -> None:
    pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if size_bytes < pages * page_bytes:  # of the last page SQLite would take what is missing for zeros
        raise SnapshotRejected("not_sqlite", f"the file is cut off: {size_bytes} of {pages * page_bytes} bytes")
    (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok" and " value in " not in result:  # "NULL value in …" is a fault of a row, found later
        raise SnapshotRejected("not_sqlite", f"the file is damaged: {' '.join(str(result).split())}")


def _require_form(connection: sqlite3.Connection) -> None:
    for table, columns in SOURCES.items():
        found = {row[1].lower() for row in connection.execute(f"PRAGMA table_xinfo({table})")}
        if not found:
            raise SnapshotRejected("table_missing", f"there is no table {table}")
        missing = [column.name for column in columns if column.name not in found]
        if missing:
            raise SnapshotRejected("column_missing", f"table {table} has no column {', '.join(missing)}")


def _read_table(connection: sqlite3.Connection, table: str, rejected: Rejections, sizes: list[int]) -> Content:
    """The rows of a table without a fault of their own; the others are added to `rejected`, and the bytes of values to
    `sizes`, which has those of other tables."""
    columns = SOURCES[table]
    names = ", ".join(column.name for column in columns)
    rowid = _rowid(connection, table)
    # What has no rowid is numbered here, and not sorted: SQLite would hold all of it.
    number_of, order = (rowid, "ORDER BY 1") if rowid else ("NULL", "")
    most = MOST_ROWS_OF_TABLE if rowid else MOST_ROWS
    found = connection.execute(f"SELECT {number_of}, {names} FROM {table} {order} LIMIT {most + 1}")
    originals: list[Sequence[Any]] = []  # of what has no rowid, by which they could be asked for
    parts, place = [], 0
    for rows, bytes_of_rows in _batches(found):
        numbers, *delivered = zip(*rows, strict=True)
        if not rowid:
            numbers = tuple(range(place + 1, place + len(rows) + 1))
            originals += (row[1:] for row in rows)
        place += len(rows)
        sizes.append(bytes_of_rows)
        if place > most:
            raise SnapshotRejected("too_large", f"{table} has more than {most:,} rows")
        if sum(sizes) > MOST_VALUES:
            detail = f"its values have more than {MOST_VALUES:,} bytes, an eighth of the memory here"
            raise SnapshotRejected("too_large", detail)
        parts.append(_by_column(table, numbers, delivered) or _by_row(table, numbers, delivered, rejected))

    def original(number: int) -> Sequence[Any]:
        if not rowid:
            return originals[number - 1]
        row: Sequence[Any] | None
        row = connection.execute(f"SELECT {names} FROM {table} WHERE {rowid} = ?", [number]).fetchone()
        if row is None:
            raise SnapshotRejected("not_sqlite", f"the file is damaged: {table} row {number} is not found again")
        return row

    return Content(pa.concat_tables(parts) if parts else _schema(table).empty_table(), original)


def _batches(found: sqlite3.Cursor) -> Iterator[tuple[list[Sequence[Any]], int]]:
    """Rows that are read together, and the bytes of their values."""
    rows: list[Sequence[Any]] = []
    size = 0
    while some := found.fetchmany(LOOK):
        rows += some
        size += sum(len(value) if type(value) in (str, bytes) else SMALLEST_VALUE for row in some for value in row[1:])
        if len(rows) >= BATCH or size >= BATCH_BYTES:
            yield rows, size
            rows, size = [], 0
    if rows:
        yield rows, size


def _schema(table: str) -> pa.Schema:
    return pa.schema([(NUMBER, pa.int64()), *((column.name, column.type) for column in SOURCES[table])])


def _by_column(table: str, numbers: Sequence[int], delivered: Sequence[Sequence[Any]]) -> pa.Table | None:
    """Rows of which none is at fault. Nearly all are, and row by row they would take four times as long."""
    read = [pa.array(numbers, pa.int64())]
    for column, values in zip(SOURCES[table], delivered, strict=True):
        if (array := _array(column, values)) is None:
            return None
        read.append(array)
    return pa.table(read, schema=_schema(table))


def _array(column: Column, values: Sequence[Any]) -> pa.Array | None:
    """The values of a column as they are here, None if one is at fault. Alike ones are looked at once."""
    kinds = set(map(type, values))
    try:
        if column.read is _integer:  # 1.0, which is none, is equal to 1
            return pa.array(values, column.type) if kinds == {int} else None
        if kinds == {str} and (column.read is _text or (column.read is _id and _are_plain(values))):
            return pa.array(values, column.type)
    except UnicodeEncodeError:
        return None
    read = {value: _value(column, value) for value in set(values)}
    if any(fault for _, fault in read.values()):
        return None
    return pa.array([read[value][0] for value in values], column.type)


def _are_plain(ids: Sequence[str]) -> bool:
    """Whether all are letters and digits, of which nothing is at fault."""
    text = "".join(ids)
    lengths = set(map(len, ids))
    return text.isascii() and text.isalnum() and min(lengths) > 0 and max(lengths) <= LONGEST_ID


def _by_row(table: str, numbers: Sequence[int], delivered: Sequence[Sequence[Any]], rejected: Rejections) -> pa.Table:
    """The good rows of some; the others are added to `rejected`."""
    columns = SOURCES[table]
    good = []
    for number, *row in zip(numbers, *delivered, strict=True):
        values, fault = [], None
        for column, value in zip(columns, row, strict=True):
            read, wrong = _value(column, value)
            values.append(read)
            fault = fault or (wrong and (wrong[0], f"{column.name} {wrong[1]}"))
        if fault:
            rejected.add(_rejected(table, number, row, *fault))
        else:
            good.append((number, *values))
    schema = _schema(table)
    return pa.table([*zip(*good, strict=True)], schema=schema) if good else schema.empty_table()


def _rejected(table: str, number: int, original: Sequence[Any], reason: RowReason, detail: str) -> RejectedRow:
    names = [column.name for column in SOURCES[table]]
    printable = [value if isinstance(value, str | int | float | None) else repr(value) for value in original]
    text = json.dumps(dict(zip(names, printable, strict=True)), ensure_ascii=True, separators=(",", ":"))
    return RejectedRow(table, number, reason, f"{table} row {number}: {detail}", text)


def _rowid(connection: sqlite3.Connection, table: str) -> str | None:
    """The name of a table's rowid. A view, or a table WITHOUT ROWID, has none, and that of a virtual table is whatever
    it says: that has no page of the file."""
    pages = "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND lower(name) = ? AND rootpage > 0"
    if not connection.execute(pages, [table]).fetchone():
        return None
    taken = {row[1].lower() for row in connection.execute(f"PRAGMA table_xinfo({table})")}
    for name in ("rowid", "_rowid_", "oid"):  # a column of that name hides the number
        if name not in taken:
            try:
                connection.execute(f"SELECT {name} FROM {table} LIMIT 1").fetchone()
            except sqlite3.OperationalError:
                break
            return name
    return None


def _value(column: Column, value: Any) -> tuple[Any, tuple[RowReason, str] | None]:
    if value is None:
        return None, None if column.nullable else ("null_value", "is null")
    try:
        read = column.read(value)
        if isinstance(read, str):
            read.encode()
        return read, None
    except UnicodeEncodeError:
        return None, ("wrong_type", "is not UTF-8 text")
    except BadId as error:
        return None, ("bad_id", f"is no id ({error}): {value!r:.80}")
    except ValueError as error:
        return None, ("wrong_type", f"is {error}: {value!r:.80}")


def _without_repeats(table: str, content: Content, rejected: Rejections) -> Content:
    """Each key once. Of equal rows one is kept. Where rows of one key differ nobody can tell which is right: a product
    or meterpoint is kept by its key alone, so that its agreements hold, and of agreements none is kept."""
    rows, key = content.rows, SOURCES[table][0].name
    counted = rows[key].value_counts()
    if len(counted) == rows.num_rows:
        return content
    repeated = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    is_repeated = pc.is_in(rows[key], value_set=repeated)
    kept, blank = [], []
    # Keys alone: a row may have megabytes.
    copies = rows.select([key, NUMBER]).filter(is_repeated).sort_by([(key, "ascending"), (NUMBER, "ascending")])
    for value, same in groupby(_each(copies), itemgetter(key)):
        numbers = [each[NUMBER] for each in same]
        first = _values(table, content.original(numbers[0]))
        differ = any(_values(table, content.original(number)) != first for number in numbers[1:])
        if not differ or table != "agreement":
            kept.append(numbers[0])
        if differ:
            blank.append(numbers[0])
        detail = f"{key} {value!r} occurs {len(numbers)} times" + (", and the rows differ" if differ else "")
        for number in numbers[0 if differ else 1 :]:
            rejected.add(_rejected(table, number, content.original(number), "duplicate_key", detail))
    is_kept = pc.or_(pc.invert(is_repeated), pc.is_in(rows[NUMBER], value_set=pa.array(kept, pa.int64())))
    rows = rows.filter(is_kept)
    is_blank = pc.is_in(rows[NUMBER], value_set=pa.array(blank, pa.int64()))
    for place, field in enumerate(rows.schema):
        if blank and field.name not in (NUMBER, key):
            rows = rows.set_column(place, field, pc.if_else(is_blank, pa.scalar(None, field.type), rows[field.name]))
    return content._replace(rows=rows)


def _values(table: str, original: Sequence[Any]) -> list[Any]:
    return [_value(column, value)[0] for column, value in zip(SOURCES[table], original, strict=True)]


def _of_known(contents: dict[str, Content], rejected: Rejections) -> Content:
    """Agreements of products and meterpoints that the file has."""
    agreement = contents["agreement"]
    of_product, of_meterpoint = (
        pc.is_in(agreement.rows[key], value_set=contents[table].rows[key])
        for table, key in (("product", "product_id"), ("meterpoint", "meterpoint_id"))
    )
    is_known = pc.and_(of_product, of_meterpoint)
    if pc.all(is_known).as_py():
        return agreement
    named = agreement.rows.select([NUMBER, "agreement_id", "product_id", "meterpoint_id"])
    for row in _each(named.append_column("of_product", of_product).filter(pc.invert(is_known))):
        unknown: Literal["product", "meterpoint"] = "meterpoint" if row["of_product"] else "product"
        reason: RowReason = "unknown_meterpoint" if row["of_product"] else "unknown_product"
        detail = f"agreement {row['agreement_id']} names the unknown {unknown} {row[f'{unknown}_id']!r}"
        number = row[NUMBER]
        rejected.add(_rejected("agreement", number, agreement.original(number), reason, detail))
    return agreement._replace(rows=agreement.rows.filter(is_known))


def _each(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows, some in memory at a time: where too many are rejected the others are not looked at."""
    for batch in rows.to_batches(max_chunksize=BATCH):
        yield from batch.to_pylist()


def is_other_database(path: Path) -> bool:
    """Whether a file is a sound SQLite database without any of the three tables: it was put here by mistake. Of one
    that is cut off or damaged nobody can say that."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
    try:
        with closing(_connect(path, MOST_SECONDS)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master")
            return not any(str(row[0]).lower() in SOURCES for row in names)
    except (sqlite3.DatabaseError, MemoryError):
        return False


def overlapping_agreements(agreement: pa.Table) -> int:
    """How many agreements begin while another one of their meterpoint, that began before, still holds."""
    order = [(name, "ascending") for name in ("meterpoint_id", "agreement_valid_from", "agreement_id")]
    rows = agreement.sort_by(order).combine_chunks()
    begins, ends = (
        rows[name].cast(pa.int32()).cast(pa.int64()).fill_null(FOREVER).to_numpy()
        for name in ("agreement_valid_from", "agreement_valid_to")
    )
    ends = np.where(ends > begins, ends, -FOREVER)  # one that ends when it begins holds at no time
    meterpoint = rows["meterpoint_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    # Of a later meterpoint all days are greater, so that the greatest end until here is one of the same meterpoint.
    days_apart = meterpoint * 3 * FOREVER
    held_until = np.maximum.accumulate(days_apart + ends)[:-1]
    return int(((days_apart + begins)[1:] < held_until)[(ends > begins)[1:]].sum())
