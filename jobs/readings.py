"""silver.readings: one row per (meterpoint_id, interval_start_utc).

Files are parsed by `parse_files` (bytes to rows), judged by `classify` (rows to good or rejected rows), and good rows
are merged into the dates that they touch by `merge`. Consumption is kWh as DECIMAL(9,6): sums of decimals are exact,
so that they do not depend on the order in which Spark happens to add rows, and equal totals can be tested for equality.
Six decimals are a thousandth of a watt-hour, far below what a meter resolves; further ones are rounded half up.
"""

import gzip
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from functools import partial
from typing import Any, Literal, NamedTuple

import orjson
import pyarrow as pa
from pyarrow.fs import FileSystem
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.landing import read_ahead

TIME_ZONE = "Europe/London"
MAX_KWH = 100  # a household's supply cannot deliver it in half an hour; more is a fault of meter or file
FIRST_DATE, LAST_DATE = date(2000, 1, 1), date(2099, 12, 31)  # before smart meters or far ahead: a fault of the clock
MAX_QUARANTINED_BYTES = 64 * 1024 * 1024
COLUMNS = ("interval_start", "consumption_delta", "meterpoint_id")
ROWS_A_BATCH = 50_000
TASKS_A_CORE, FEW_FILES = 4, 50

# Why a file or a row is rejected; docs/rules.md says what each means and what to do.
FileReason = Literal[
    "unreadable",
    "not_gzip",
    "empty_file",
    "not_json",
    "not_an_object",
    "columns_missing",
    "data_missing",
    "column_missing",
    "columns_not_distinct_names",
]
RowReason = Literal[
    "wrong_length",
    "meterpoint_id_not_text",
    "meterpoint_id_empty",
    "interval_start_not_a_timestamp",
    "interval_start_out_of_range",
    "interval_start_not_a_half_hour",
    "interval_start_does_not_exist",
    "consumption_null",
    "consumption_not_a_number",
    "consumption_not_finite",
    "consumption_negative",
    "consumption_absurd",
    "conflicting_readings",
    "duplicate_reading",
]

PARSED_SCHEMA = """
    source_file STRING, modified_at TIMESTAMP, position BIGINT, meterpoint_id STRING, interval_start STRING,
    consumption DOUBLE, row_json STRING, reason STRING, copies INT, copy INT, copies_agree BOOLEAN,
    file STRUCT<status: STRING, reason: STRING, size_bytes: BIGINT, sha256: STRING, rows_read: BIGINT, detail: STRING,
                content: BINARY>
"""
_UTC = pa.timestamp("us", tz="UTC")
_ARROW_SCHEMA = pa.schema(
    [
        ("source_file", pa.string()),
        ("modified_at", _UTC),
        ("position", pa.int64()),
        ("meterpoint_id", pa.string()),
        ("interval_start", pa.string()),
        ("consumption", pa.float64()),
        ("row_json", pa.string()),
        ("reason", pa.string()),
        ("copies", pa.int32()),
        ("copy", pa.int32()),
        ("copies_agree", pa.bool_()),
        (
            "file",
            pa.struct(
                [
                    ("status", pa.string()),
                    ("reason", pa.string()),
                    ("size_bytes", pa.int64()),
                    ("sha256", pa.string()),
                    ("rows_read", pa.int64()),
                    ("detail", pa.string()),
                    ("content", pa.binary()),
                ]
            ),
        ),
    ]
)


class FileError(Exception):
    """A file that cannot be read at all: its reason (see docs/rules.md) and what exactly is wrong."""

    def __init__(self, reason: FileReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Rows(NamedTuple):
    """The rows of one file as columns of equal length, in file order."""

    meterpoint_id: Sequence[str | None]
    interval_start: Sequence[str | None]
    consumption: Sequence[float | None]
    row_json: Sequence[str | None]  # the row as delivered, where the columns before do not tell it all
    reason: Sequence[RowReason | None]  # why the form of the row is wrong, None if it is good


OddRow = tuple[str | None, str | None, float | None, str, RowReason | None]  # a row of Rows


# --- bytes to rows -----------------------------------------------------------------------------------------------


def parse_file(source_file: str, content: bytes) -> tuple[Rows, str | None]:
    """The rows of a readings file, and a note on what of it was ignored.

    Raises FileError where there are no rows to be had.
    """
    try:
        columns, data = _columns_and_data(_json(_unzipped(source_file, content)))
        order = [columns.index(name) for name in COLUMNS]
        # A surplus column makes every row odd: a row in quarantine is shown with it.
        plain = _plain_rows(data, order) if len(columns) == len(COLUMNS) else None
        rows = plain or _odd_rows(data, columns, order)
    except RecursionError:
        raise FileError("not_json", "brackets are nested too deeply") from None
    extra = sorted(set(columns) - set(COLUMNS))
    return rows, f"ignored columns: {', '.join(extra)}" if extra else None


def _unzipped(source_file: str, content: bytes) -> bytes:
    if not source_file.endswith(".gz"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError("not_gzip", str(error)) from None


def _json(content: bytes) -> Any:
    if not content.strip():
        raise FileError("empty_file", "the file is empty")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    try:
        # Slower, but it knows byte order marks and NaN, which many writers emit, halves of surrogate pairs and numbers
        # beyond every float: they are for the rules of rows, and no reason to lose the file.
        return json.loads(content, parse_int=_int)
    except ValueError as error:
        raise FileError("not_json", str(error)) from None


def _int(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Python reads no integer of more than 4300 digits
        return float(digits)


def _columns_and_data(document: Any) -> tuple[list[str], list[Any]]:
    if not isinstance(document, dict):
        raise FileError("not_an_object", f"expected an object with columns and data, found {type(document).__name__}")
    columns, data = document.get("columns"), document.get("data")
    if not isinstance(columns, list):
        raise FileError("columns_missing", "the key 'columns' is missing or not a list")
    if not isinstance(data, list):
        raise FileError("data_missing", "the key 'data' is missing or not a list")
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise FileError("column_missing", f"no column {', '.join(missing)}; found {json.dumps(columns)[:200]}")
    if not all(map(_is_text, columns)) or len(set(columns)) < len(columns):
        raise FileError("columns_not_distinct_names", f"found {json.dumps(columns)[:200]}")
    return columns, data


def _plain_rows(data: list[Any], order: list[int]) -> Rows | None:
    """The rows of a file in which every row has just the three columns, of the right types, with plausible consumption;
    None if one does not.

    Nearly every file is like this, so it goes column by column, not row by row.
    """
    if not data or set(map(type, data)) != {list} or set(map(len, data)) != {len(COLUMNS)}:
        return None
    columns = list(zip(*data, strict=True))
    starts, consumption, meterpoints = (columns[index] for index in order)
    if set(map(type, starts)) != {str} or set(map(type, meterpoints)) != {str}:
        return None
    if not all(map(str.isascii, starts)) or not all(map(str.isascii, meterpoints)):
        return None
    if not set(map(type, consumption)) <= {float, int} or not all(map(_is_plausible, consumption)):
        return None
    nothing = [None] * len(data)
    return Rows(meterpoints, starts, list(map(float, consumption)), nothing, nothing)


def _odd_rows(data: list[Any], columns: list[str], order: list[int]) -> Rows:
    rows = [_odd_row(values, columns, order) for values in data]
    return Rows(*zip(*rows, strict=True)) if rows else Rows([], [], [], [], [])


def _odd_row(values: Any, columns: list[str], order: list[int]) -> OddRow:
    if not isinstance(values, list) or len(values) != len(columns):
        return None, None, None, _dumps(values), "wrong_length"
    start, consumption, meterpoint_id = (values[index] for index in order)
    row_json = _dumps(dict(zip(columns, values, strict=True)))
    if not _is_text(meterpoint_id):
        return None, None, None, row_json, "meterpoint_id_not_text"
    if not _is_text(start):
        return None, None, None, row_json, "interval_start_not_a_timestamp"
    if consumption is None:
        return meterpoint_id, start, None, row_json, "consumption_null"
    if isinstance(consumption, bool) or not isinstance(consumption, int | float):
        return meterpoint_id, start, None, row_json, "consumption_not_a_number"
    return meterpoint_id, start, _float(consumption), row_json, None


def _float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def _is_plausible(consumption: float | None) -> bool:
    return consumption is not None and 0 <= consumption <= MAX_KWH


def _is_text(value: Any) -> bool:
    """False too for half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def repeats(rows: Rows) -> list[tuple[int, int, bool]] | None:
    """For each row: how many rows of the file give its meterpoint and local time a plausible consumption, which of them
    it is (from 0, in file order), and whether all of them give the same. None if no row is repeated."""
    keys = list(zip(rows.meterpoint_id, rows.interval_start, strict=True))
    if len(set(keys)) == len(keys):
        return None
    positions_of = defaultdict(list)
    for position, key in enumerate(keys):
        positions_of[key].append(position)
    result = [(1, 0, True)] * len(keys)
    for positions in positions_of.values():
        plausible = [position for position in positions if _is_plausible(rows.consumption[position])]
        agree = len({rows.consumption[position] for position in plausible}) <= 1
        # Two rows may be the two real half hours of October: of these, one without a value still holds its place.
        for copy, position in enumerate(positions if len(positions) == 2 else plausible):
            result[position] = len(plausible), copy, agree
    return result


Read = Callable[[list[str]], Iterable[bytes | OSError]]


def parse_files(batches: Iterator[pa.RecordBatch], read: Read) -> Iterator[pa.RecordBatch]:
    """Batches of files (source_file, modified_at, known_sha256) to batches of PARSED_SCHEMA.

    A file gives one row with `file` set, and, unless it is rejected or the same bytes were loaded before, one row for
    each of its rows. `read` gives the bytes of files, or the error, in the order in which it is asked for them.
    """
    columns: list[list[Any]] = [[] for _ in _ARROW_SCHEMA]
    kept_bytes = 0  # of rejected files, in these columns

    def add(*values: Sequence[Any]) -> None:
        for column, more in zip(columns, values, strict=True):
            column.extend(more)

    for batch in batches:
        files = batch.to_pylist()
        for file, content in zip(files, read([file["source_file"] for file in files]), strict=True):
            result, rows = _parsed(file, content)
            add([file["source_file"]], [file["modified_at"]], *[[None]] * (len(columns) - 3), [result])
            kept_bytes += len(result.get("content") or b"")
            if rows:
                count = len(rows.reason)
                repeated = zip(*(repeats(rows) or [(1, 0, True)] * count), strict=True)
                source, modified = [file["source_file"]] * count, [file["modified_at"]] * count
                add(source, modified, range(count), *rows, *map(list, repeated), [None] * count)
            if len(columns[0]) >= ROWS_A_BATCH or kept_bytes >= MAX_QUARANTINED_BYTES:
                yield from _arrow(columns)
                columns, kept_bytes = [[] for _ in _ARROW_SCHEMA], 0
    yield from _arrow(columns)


def _arrow(columns: list[list[Any]]) -> Iterator[pa.RecordBatch]:
    # In pieces, since one file may have more rows than an Arrow array of strings can hold.
    for start in range(0, len(columns[0]), ROWS_A_BATCH):
        arrays = [
            pa.array(values[start : start + ROWS_A_BATCH], field.type)
            for values, field in zip(columns, _ARROW_SCHEMA, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=_ARROW_SCHEMA)


def _parsed(file: dict[str, Any], content: bytes | OSError) -> tuple[dict[str, Any], Rows | None]:
    """What became of a file, and its rows if it has any to load."""
    if isinstance(content, OSError):
        return {"status": "rejected", "reason": "unreadable", "detail": str(content)}, None
    result = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if result["sha256"] == file["known_sha256"]:
        return result | {"status": "unchanged"}, None
    try:
        rows, note = parse_file(file["source_file"], content)
    except FileError as error:
        whole = content if len(content) <= MAX_QUARANTINED_BYTES else None
        return result | {"status": "rejected", "reason": error.reason, "detail": error.detail, "content": whole}, None
    return result | {"status": "loaded", "rows_read": len(rows.reason), "detail": note}, rows if rows.reason else None


# --- rows to good and rejected rows ------------------------------------------------------------------------------


def to_utc(local: Column) -> Column:
    """The instant of a local wall-clock time; of the two in the repeated hour of October, the first."""
    return F.to_utc_timestamp(local, TIME_ZONE)


def is_repeated_hour(local: Column, utc: Column) -> Column:
    """True in the hour of October that occurs twice: an hour after its instant the clock shows the same."""
    return F.from_utc_timestamp(utc + F.expr("INTERVAL 1 HOUR"), TIME_ZONE) == local


def is_skipped_hour(local: Column, utc: Column) -> Column:
    """True in the hour of March that does not exist: no instant shows it on the clock."""
    return F.from_utc_timestamp(utc, TIME_ZONE) != local


def classify(parsed: DataFrame) -> DataFrame:
    """Rows of files, judged: `reason` is null and the columns of silver.readings are set, or `reason` names the rule.

    Of a meterpoint's local time a file may have one row, two in the repeated hour of October: these are the two real
    half hours, in file order. Of more rows with one consumption the surplus is rejected; where they differ nobody can
    tell which is right, and all are rejected. Rows with implausible consumption contradict no other. Rows with `file`
    set go through as they are.
    """
    start, utc = F.col("start"), F.col("utc")
    # Step by step, since Spark computes anew what a later expression of the same step repeats.
    timed = parsed.withColumn("start", _timestamp("interval_start")).withColumn("utc", to_utc(start))
    timed = timed.withColumn("capacity", F.when(is_repeated_hour(start, utc), 2).otherwise(1))
    surplus = F.col("copies") > F.col("capacity")
    rules: dict[RowReason, Column] = {
        "meterpoint_id_empty": F.col("meterpoint_id").rlike(r"^[\s\p{Z}\p{C}]*\z"),  # nothing that can be seen
        "interval_start_not_a_timestamp": start.isNull(),
        "interval_start_out_of_range": ~F.to_date(start).between(F.lit(FIRST_DATE), F.lit(LAST_DATE)),
        "interval_start_not_a_half_hour": F.unix_timestamp(start) % 1800 != 0,
        "interval_start_does_not_exist": is_skipped_hour(start, utc),
        "consumption_not_finite": F.isnan("consumption") | (F.abs("consumption") == float("inf")),
        "consumption_negative": F.col("consumption") < 0,
        "consumption_absurd": F.col("consumption") > MAX_KWH,
        "conflicting_readings": surplus & ~F.col("copies_agree"),
        "duplicate_reading": surplus & (F.col("copy") >= F.col("capacity")),
    }  # in this order: a row has the first reason that holds
    broken = F.coalesce("reason", *(F.when(rule, reason) for reason, rule in rules.items()))
    judged = timed.withColumn("broken", F.when(F.col("file").isNull(), broken))
    hours_later = F.when(F.col("capacity") == 2, F.col("copy")).otherwise(0)
    as_delivered = F.to_json(
        F.struct("interval_start", F.col("consumption").alias("consumption_delta"), "meterpoint_id")
    )
    return judged.select(
        "source_file",
        "modified_at",
        "position",
        "meterpoint_id",
        start.alias("interval_start"),
        (utc + F.make_dt_interval(hours=hours_later)).alias("interval_start_utc"),
        F.expr("try_cast(consumption AS DECIMAL(9,6))").alias("consumption_kwh"),
        F.to_date(start).alias("date"),
        F.col("broken").alias("reason"),
        F.when(F.col("broken").isNotNull(), F.coalesce("row_json", as_delivered)).alias("row_json"),
        "file",
    )


def _timestamp(text: str) -> Column:
    form = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\z"  # $ would let a line break pass
    return F.when(F.col(text).rlike(form), F.expr(f"try_cast({text} AS TIMESTAMP)"))


def good(classified: DataFrame, load_id: str) -> DataFrame:
    """Rows that broke no rule, as silver.readings has them, with the time at which their file was modified."""
    return classified.where("file IS NULL AND reason IS NULL").select(
        "meterpoint_id",
        "interval_start",
        "interval_start_utc",
        "consumption_kwh",
        "source_file",
        F.lit(load_id).alias("load_id"),
        "date",
        "modified_at",
    )


def rejected(classified: DataFrame) -> DataFrame:
    """Rows that broke a rule, as quarantine.readings has them."""
    return classified.where("reason IS NOT NULL").select("source_file", "position", "reason", "row_json")


def merge(content: DataFrame, *, dates: int, buckets: int) -> DataFrame:
    """The whole new content of the dates that a load touches: silver.readings, clustered by date and sorted by
    meterpoint.

    `content` is what new files bring and what these dates hold now, with `modified_at` of the file, and without the
    rows of files that were delivered again: a new version of a file replaces all that the old one gave. Of several
    readings for one key, that of the file which was modified last wins, then that of the greater path: whatever the
    order in which files arrive, the end is the same. A date is split into `buckets` of meterpoints.
    """
    newest_first = Window.partitionBy("date", "bucket", "meterpoint_id", "interval_start_utc").orderBy(
        F.desc("modified_at"), F.desc("source_file")
    )
    return (
        content.withColumn("bucket", F.pmod(F.hash("meterpoint_id"), F.lit(buckets)))
        .repartition(dates * buckets, "date", "bucket")
        .withColumn("rank", F.row_number().over(newest_first))
        .where("rank = 1")
        .select(
            "meterpoint_id",
            "interval_start",
            "interval_start_utc",
            "consumption_kwh",
            "source_file",
            "load_id",
            "date",
        )
    )


def changes(before: DataFrame, after: DataFrame) -> DataFrame:
    """One row per date of which the readings differ: how many keys were added, changed (another consumption) and
    removed. Both have the columns of silver.readings."""
    key = ["date", "meterpoint_id", "interval_start_utc"]
    old = before.select(*key, F.col("consumption_kwh").alias("old"))
    new = after.select(*key, F.col("consumption_kwh").alias("new"))
    both = old.join(new, on=key, how="full_outer")
    return both.groupBy("date").agg(
        F.count_if(F.col("old").isNull()).alias("readings_added"),
        F.count_if(F.col("old") != F.col("new")).alias("readings_changed"),
        F.count_if(F.col("new").isNull()).alias("readings_removed"),
    )


def parse(spark: SparkSession, files: pa.Table, file_system: FileSystem, folder: str) -> DataFrame:
    """Rows of the given files (source_file, modified_at, known_sha256), as PARSED_SCHEMA tells.

    Files are dealt out to some tasks for each core, and read and parsed there, a batch after the other.
    """
    read = partial(_read_files, file_system, folder)
    tasks = min(TASKS_A_CORE * spark.sparkContext.defaultParallelism, 1 + files.num_rows // FEW_FILES)
    dealt_out = spark.createDataFrame(files).repartition(tasks)
    return dealt_out.mapInArrow(lambda batches: parse_files(batches, read), PARSED_SCHEMA)


def _read_files(file_system: FileSystem, folder: str, source_files: list[str]) -> Iterator[bytes | OSError]:
    return read_ahead(file_system, [f"{folder}/{source_file}" for source_file in source_files])
