"""silver.readings: one row per (meterpoint_id, interval_start_utc).

Files are parsed and judged by `parse_files` (bytes to good and rejected rows), and good rows are merged into the dates
that they touch by `merge`. Consumption is kWh as DECIMAL(9,6): sums of decimals are exact, so that they do not depend
on the order in which Spark happens to add rows, and equal totals can be tested for equality. Six decimals are a
thousandth of a watt-hour, far below what a meter resolves; further ones are rounded half up.
"""

import gzip
import hashlib
import json
import math
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.landing import read_ahead

TIME_ZONE = "Europe/London"
MAX_KWH = 100  # a household's supply cannot deliver it in half an hour; more is a fault of meter or file
FIRST_DATE, LAST_DATE = date(2000, 1, 1), date(2099, 12, 31)  # before smart meters or far ahead: a fault of the clock
FORM = "YYYY-MM-DD HH:MM:SS"
EPOCH = datetime(1970, 1, 1)
HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
# Bytes of a rejected file that are kept. Parquet's writer holds a hundred rows in memory, its reader thousands.
LARGEST_IN_QUARANTINE = 1024 * 1024
BYTES_A_BATCH = 64 * 1024 * 1024
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

# A row tells of a file (`file` is set), or is a row of one: a rejected one (`rejected` is set), or a good one. `again`
# says that the file's bytes were loaded before and count again, `counts` how many good rows it has for each date, and
# how many rows were rejected for each reason.
PARSED_SCHEMA = """
    source_file STRING, modified_at TIMESTAMP,
    meterpoint_id STRING, interval_start TIMESTAMP, interval_start_utc TIMESTAMP, consumption_kwh DECIMAL(9,6),
    rejected STRUCT<position: BIGINT, reason: STRING, row_json: STRING>,
    file STRUCT<status: STRING, reason: STRING, size_bytes: BIGINT, sha256: STRING, again: BOOLEAN,
                rows_read: BIGINT, rows_rejected: BIGINT,
                counts: ARRAY<STRUCT<date: DATE, reason: STRING, rows: BIGINT>>, detail: STRING, content: BINARY>
"""
_UTC = pa.timestamp("us", tz="UTC")
_KWH = pa.decimal128(9, 6)
_REJECTED = pa.struct([("position", pa.int64()), ("reason", pa.string()), ("row_json", pa.string())])
_COUNT = pa.struct([("date", pa.date32()), ("reason", pa.string()), ("rows", pa.int64())])
_FILE = pa.struct(
    [
        ("status", pa.string()),
        ("reason", pa.string()),
        ("size_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("again", pa.bool_()),
        ("rows_read", pa.int64()),
        ("rows_rejected", pa.int64()),
        ("counts", pa.list_(_COUNT)),
        ("detail", pa.string()),
        ("content", pa.binary()),
    ]
)
_ARROW_SCHEMA = pa.schema(
    [
        ("source_file", pa.string()),
        ("modified_at", _UTC),
        ("meterpoint_id", pa.string()),
        ("interval_start", _UTC),
        ("interval_start_utc", _UTC),
        ("consumption_kwh", _KWH),
        ("rejected", _REJECTED),
        ("file", _FILE),
    ]
)


class FileError(Exception):
    """A file that cannot be read at all: its reason (see docs/rules.md) and what exactly is wrong."""

    def __init__(self, reason: FileReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class LocalTime(NamedTuple):
    """The start of a half hour on the clocks of TIME_ZONE, in microseconds since 1970."""

    start: int  # what the clock shows, as if it were UTC
    utc: int  # the instant; where there are two, the first
    instants: int  # 2 in the hour of October that occurs twice, else 1


class Rows(NamedTuple):
    """The rows of one file as columns of equal length, in file order. Of a rejected row only `rejected` is set."""

    meterpoint_id: Sequence[str | None]
    interval_start: Sequence[int | None]  # this and the next as in LocalTime
    interval_start_utc: Sequence[int | None]
    consumption_kwh: Sequence[float | None]
    rejected: Sequence[dict[str, Any] | None]  # position, reason, and row_json, which is the row as delivered


class Row(NamedTuple):
    """What a row says, and the rule that it breaks."""

    meterpoint_id: str | None = None
    time: LocalTime | None = None
    consumption_kwh: float | None = None  # if plausible
    reason: RowReason | None = None


# --- bytes to good and rejected rows -----------------------------------------------------------------------------


def parse_file(source_file: str, content: bytes) -> tuple[Rows, str | None]:
    """The rows of a readings file, judged by the rules of docs/rules.md, and a note on what of the file was ignored.

    Raises FileError where there are no rows to be had.
    """
    try:
        columns, data = _columns_and_data(_json(_unzipped(source_file, content)))
        rows = _plain_rows(data, columns) or _judged_rows(data, columns)
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


def _plain_rows(data: list[Any], columns: list[str]) -> Rows | None:
    """The rows of a file of which all are good and none is repeated; None of another.

    Nearly every file is like this, so it goes column by column, not row by row.
    """
    if not data or set(map(type, data)) != {list} or set(map(len, data)) != {len(columns)}:
        return None
    values = dict(zip(columns, zip(*data, strict=True), strict=True))
    starts, consumption, meterpoints = (values[name] for name in COLUMNS)
    if {*map(type, starts), *map(type, meterpoints)} != {str} or set(map(len, starts)) != {len(FORM)}:
        return None
    if not all(_is_text(name) and _is_visible(name) for name in set(meterpoints)):
        return None
    if not set(map(type, consumption)) <= {float, int} or not all(map(_is_plausible, consumption)):
        return None
    times = [time for time in map(local_time, starts) if isinstance(time, LocalTime)]
    if len(times) < len(data) or len(set(zip(meterpoints, starts, strict=True))) < len(data):
        return None
    start, utc, _ = zip(*times, strict=True)
    return Rows(meterpoints, start, utc, list(map(float, consumption)), [None] * len(data))


def _judged_rows(data: list[Any], columns: list[str]) -> Rows:
    """The rows of any file, row by row."""
    order = [columns.index(name) for name in COLUMNS]
    rows = [_judged(values, len(columns), order) for values in data]
    _judge_repeats(rows)
    cells = [_cells(position, *each, columns) for position, each in enumerate(zip(rows, data, strict=True))]
    return Rows(*zip(*cells, strict=True)) if cells else Rows(*[[]] * len(Rows._fields))


def _judged(values: Any, width: int, order: list[int]) -> Row:
    """A row without regard to the others of its file."""
    if not isinstance(values, list) or len(values) != width:
        return Row(reason="wrong_length")
    start, consumption, meterpoint_id = (values[index] for index in order)
    if not _is_text(meterpoint_id):
        return Row(reason="meterpoint_id_not_text")
    if not _is_visible(meterpoint_id):
        return Row(reason="meterpoint_id_empty")
    if not isinstance(start, str) or len(start) != len(FORM):
        return Row(reason="interval_start_not_a_timestamp")
    time = local_time(start)
    if not isinstance(time, LocalTime):
        return Row(reason=time)
    reason = _fault_of_consumption(consumption)
    return Row(meterpoint_id, time, None if reason else float(consumption), reason)


def _fault_of_consumption(value: Any) -> RowReason | None:
    if value is None:
        return "consumption_null"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "consumption_not_a_number"
    try:
        number = float(value)
    except OverflowError:
        return "consumption_not_finite"
    if not math.isfinite(number):
        return "consumption_not_finite"
    if number < 0:
        return "consumption_negative"
    return None if number <= MAX_KWH else "consumption_absurd"


def _judge_repeats(rows: list[Row]) -> None:
    """Reject what a file says once too often, and move what is of the later one of two hours.

    Of a meterpoint's local time a file may have one row, two in the repeated hour of October: these are the two real
    half hours, in file order. Of more rows with one consumption the surplus is rejected; where they differ nobody can
    tell which is right, and all are rejected. Rows with implausible consumption contradict no other.
    """
    positions_of: dict[tuple[str | None, LocalTime], list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        if row.time:
            positions_of[row.meterpoint_id, row.time].append(position)
    for (_, time), positions in positions_of.items():
        good = [position for position in positions if rows[position].reason is None]
        differ = len({rows[position].consumption_kwh for position in good}) > 1
        # Of two rows in the repeated hour one without a value still holds its place.
        for turn, position in enumerate(positions if len(positions) == 2 else good):
            if len(good) > time.instants and differ:
                rows[position] = Row(reason="conflicting_readings")
            elif len(good) > time.instants and turn >= time.instants:
                rows[position] = Row(reason="duplicate_reading")
            elif turn == 1 and time.instants == 2:
                rows[position] = rows[position]._replace(time=time._replace(utc=time.utc + HOUR))


def _cells(position: int, row: Row, values: Any, columns: list[str]) -> tuple[Any, ...]:
    """A row as Rows has it."""
    if row.time and row.reason is None:
        return row.meterpoint_id, row.time.start, row.time.utc, row.consumption_kwh, None
    delivered = values if row.reason == "wrong_length" else dict(zip(columns, values, strict=True))
    row_json = json.dumps(delivered, separators=(",", ":"))
    return None, None, None, None, {"position": position, "reason": row.reason, "row_json": row_json}


@lru_cache(maxsize=100_000)  # files that come together are of the same days; these are the half hours of five years
def local_time(text: str) -> LocalTime | RowReason:
    """The time that a text as long as FORM tells, or the rule that it breaks."""
    form = re.fullmatch("([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})", text)
    if not form:
        return "interval_start_not_a_timestamp"
    year, month, day, hour, minute, second = map(int, form.groups())
    try:
        local = datetime(year or 4, month, day, hour, minute, second)  # Python has no year 0; 4 is out of range as well
    except ValueError:
        return "interval_start_not_a_timestamp"
    if not FIRST_DATE <= local.date() <= LAST_DATE:
        return "interval_start_out_of_range"
    if local.minute % 30 or local.second:
        return "interval_start_not_a_half_hour"
    utc = local.replace(tzinfo=ZoneInfo(TIME_ZONE)).astimezone(UTC)
    if _on_the_clock(utc) != local:
        return "interval_start_does_not_exist"
    start, instant = ((time - EPOCH) // timedelta(microseconds=1) for time in (local, utc.replace(tzinfo=None)))
    twice = _on_the_clock(utc + timedelta(hours=1)) == local
    return LocalTime(start, instant, 2 if twice else 1)


def _on_the_clock(instant: datetime) -> datetime:
    return instant.astimezone(ZoneInfo(TIME_ZONE)).replace(tzinfo=None)


def _is_plausible(consumption: float) -> bool:
    return 0 <= consumption <= MAX_KWH


def _is_text(value: Any) -> bool:
    """False too for half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _is_visible(text: str) -> bool:
    """Whether there is a character that is neither white space nor a control character."""
    return any(unicodedata.category(character)[0] not in "CZ" for character in text)


Read = Callable[[list[str]], Iterable[bytes | OSError]]


def parse_files(batches: Iterator[pa.RecordBatch], read: Read) -> Iterator[pa.RecordBatch]:
    """Batches of files (columns as of ops.new_files) to batches of PARSED_SCHEMA.

    A file gives one row with `file` set, and, unless it is rejected or the same bytes were loaded before, one row for
    each of its rows. Of bytes that count again (`again`) the time is that with which they were loaded. `read` gives the
    bytes of files, or the error, in the order in which it is asked for them.
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
            modified_at = file["counted_modified_at"] if result.get("again") else file["modified_at"]
            add([file["source_file"]], [modified_at], *[[None]] * (len(columns) - 3), [result])
            kept_bytes += len(result.get("content") or b"")
            if rows:
                count = len(rows.rejected)
                add([file["source_file"]] * count, [modified_at] * count, *rows, [None] * count)
            if len(columns[0]) >= ROWS_A_BATCH or kept_bytes >= BYTES_A_BATCH:
                yield from _arrow(columns)
                columns, kept_bytes = [[] for _ in _ARROW_SCHEMA], 0
    yield from _arrow(columns)


def _arrow(columns: list[list[Any]]) -> Iterator[pa.RecordBatch]:
    # In pieces, since one file may have more rows than an Arrow array of strings can hold.
    for start in range(0, len(columns[0]), ROWS_A_BATCH):
        arrays = [
            _array(values[start : start + ROWS_A_BATCH], field.type)
            for values, field in zip(columns, _ARROW_SCHEMA, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=_ARROW_SCHEMA)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind != _KWH:
        return pa.array(values, kind)
    numbers = pa.array(values, pa.float64())
    # A number that is spelled with a 5 as its last, seventh decimal lies a little above or below that as a binary
    # fraction, so what is near the middle of two is rounded as it is spelled.
    scaled = pc.multiply(numbers, 1e6)
    near_middle = pc.less(pc.abs(pc.subtract(pc.subtract(scaled, pc.floor(scaled)), 0.5)), 1e-4)
    exact = [
        Decimal(str(kwh)).quantize(Decimal("0.000001"), ROUND_HALF_UP)
        for kwh in numbers.filter(near_middle).to_pylist()
    ]
    return pc.replace_with_mask(numbers.cast(kind), near_middle, pa.array(exact, kind))


def _parsed(file: dict[str, Any], content: bytes | OSError) -> tuple[dict[str, Any], Rows | None]:
    """What became of a file, and its rows if it has any to load."""
    if isinstance(content, OSError):
        return {"status": "rejected", "reason": "unreadable", "detail": str(content)}, None
    sha256 = hashlib.sha256(content).hexdigest()
    again = sha256 == file.get("counted_sha256")
    result = {"size_bytes": len(content), "sha256": sha256, "again": again}
    if sha256 == file["known_sha256"] and not again:
        return result | {"status": "unchanged"}, None
    try:
        rows, note = parse_file(file["source_file"], content)
    except FileError as error:
        whole = content if len(content) <= LARGEST_IN_QUARANTINE else None
        return result | {"status": "rejected", "reason": error.reason, "detail": error.detail, "content": whole}, None
    good = Counter(start // DAY for start in rows.interval_start if start is not None)
    bad = Counter(row["reason"] for row in rows.rejected if row)
    result |= {
        "status": "loaded",
        "rows_read": len(rows.rejected),
        "rows_rejected": bad.total(),
        "counts": [{"date": day, "rows": count} for day, count in good.items()]
        + [{"reason": reason, "rows": count} for reason, count in bad.items()],
        "detail": note,
    }
    return result, rows if rows.rejected else None


# --- good rows to silver, rejected rows to quarantine ------------------------------------------------------------


def good(parsed: DataFrame, load_id: str) -> DataFrame:
    """Rows that broke no rule, as silver.readings has them, with the time at which their file was modified."""
    return parsed.where("file IS NULL AND rejected IS NULL").select(
        "meterpoint_id",
        "interval_start",
        "interval_start_utc",
        "consumption_kwh",
        "source_file",
        F.lit(load_id).alias("load_id"),
        F.to_date("interval_start").alias("date"),
        "modified_at",
    )


def rejected(parsed: DataFrame) -> DataFrame:
    """Rows that broke a rule, as quarantine.readings has them."""
    return parsed.where("rejected IS NOT NULL").select("source_file", "rejected.*")


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
    """Rows of the given files (columns as of ops.new_files), as PARSED_SCHEMA tells.

    Files are dealt out to some tasks for each core, and read and parsed there, a batch after the other.
    """
    read = partial(_read_files, file_system, folder)
    tasks = min(TASKS_A_CORE * spark.sparkContext.defaultParallelism, 1 + files.num_rows // FEW_FILES)
    dealt_out = spark.createDataFrame(files).repartition(tasks)
    return dealt_out.mapInArrow(lambda batches: parse_files(batches, read), PARSED_SCHEMA)


def _read_files(file_system: FileSystem, folder: str, source_files: list[str]) -> Iterator[bytes | OSError]:
    return read_ahead(file_system, [f"{folder}/{source_file}" for source_file in source_files])
