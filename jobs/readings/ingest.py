"""What one task of a load does: read its files, judge their rows, and write them where nobody reads yet.

Good readings go straight to the folder that the load will publish for their date, sorted by meterpoint and time, and
beside them the claims: what each file says of each meterpoint-day. Rejected rows and what became of each file go to
the load's staging folder. The task hands back one Receipt, so the driver holds no rows.

Consumption is kWh as DECIMAL(9,6): sums of decimals are exact, do not depend on the order in which rows are added, and
can be compared for equality. Six decimals are a thousandth of a watt-hour; further ones are rounded half up.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from jobs.landing import Content, reason_of, time_of
from jobs.readings.erased import Erased
from jobs.readings.parse import parse_files
from jobs.readings.parsed import File, Parsed, Told
from jobs.readings.rules import FileRejected
from jobs.wording import counted

EPOCH = date(1970, 1, 1)
EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
DAY, MICROSECOND = 86_400_000_000, timedelta(microseconds=1)
# Bytes of a rejected file that are kept. Parquet's writer holds a hundred rows in memory, its reader thousands.
LARGEST_IN_QUARANTINE = 1024 * 1024
# A task writes what it has read whenever it holds so many rows, or so many bytes of rejected files and rows.
MOST_ROWS, MOST_BYTES = 1_000_000, 64 * 1024 * 1024
LONGEST_EXAMPLE = 1_000  # characters of what a person is told of a row or file
EXAMPLES = 10
WRITERS = 8
# Rows that a reader has to read, or can leave out, together: a thousand meterpoints of a date.
ROW_GROUP = 50_000
# A decimal of nine digits is a whole number then, which Spark reads fastest. By their index pages are skipped. How the
# columns were in memory is not kept with them.
PARQUET = {
    "compression": "zstd",
    "store_decimal_as_integer": True,
    "write_page_index": True,
    "store_schema": False,
}
# A file is at fault if more than this share of its rows was rejected.
FAULTY_SHARE = 0.05

_UTC = pa.timestamp("us", tz="UTC")
KWH = pa.decimal128(9, 6)
READINGS_SCHEMA = pa.schema(
    [
        ("meterpoint_id", pa.string()),
        ("interval_start", _UTC),
        ("interval_start_utc", _UTC),
        ("consumption_kwh", KWH),
        ("source_file", pa.string()),
        ("load_id", pa.string()),
        ("reading_quality", pa.string()),
        ("known_from", pa.string()),
    ]
)
# Texts that all rows share are numbers and a dictionary in memory, as they are in files: so they are written faster. A
# longer dictionary would be written once more for each group of rows.
CODED = ("load_id", "known_from")
CODED_READINGS = pa.schema(
    [
        field.with_type(pa.dictionary(pa.int32(), pa.string())) if field.name in CODED else field
        for field in READINGS_SCHEMA
    ]
)
# What another file outweighs is not known at all, as long as it does not count.
CONTESTED_SCHEMA = pa.schema([field for field in READINGS_SCHEMA if field.name != "known_from"])
CLAIMS_SCHEMA = pa.schema(
    [
        ("source_file", pa.string()),
        ("meterpoint_id", pa.string()),
        ("load_id", pa.string()),
        ("modified_at", _UTC),
        ("readings", pa.int32()),
    ]
)
# How rows of a date are sorted in a file.
ORDER_OF_READINGS, ORDER_OF_CLAIMS = ["meterpoint_id", "interval_start_utc"], ["meterpoint_id", "source_file"]
REJECTED_SCHEMA = pa.schema(
    [
        ("source_file", pa.string()),
        ("position", pa.int64()),
        ("reason", pa.string()),
        ("row_json", pa.string()),
        ("meterpoint_id", pa.string()),
        ("date", pa.date32()),
    ]
)
FILES_SCHEMA = pa.schema(
    [
        ("source_file", pa.string()),
        ("kind", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("size_bytes", pa.int64()),
        ("modified_at", _UTC),
        ("sha256", pa.string()),
        ("content", pa.binary()),
        ("rows_read", pa.int64()),
        ("rows_rejected", pa.int64()),
        ("first_date", pa.date32()),
        ("last_date", pa.date32()),
        ("warnings", pa.map_(pa.string(), pa.int64())),
        # Meterpoint-days of which every row was rejected.
        ("lost_days", pa.list_(pa.struct([("meterpoint_id", pa.string()), ("date", pa.date32())]))),
    ]
)


class Place(NamedTuple):
    """Where a task reads and writes. `readings`, `contested` and `claims` are folders of tables."""

    landing: FileSystem
    landing_folder: str
    lake: FileSystem
    readings: str
    contested: str
    claims: str
    staging: str
    staging_uri: str  # the same as Spark names it
    load_id: str
    started_at: datetime  # UTC
    kept_from: date | None = None  # readings of earlier local dates are left out
    erased: Erased = Erased()


@dataclass
class Receipt:
    """What a task, or all of them, read and wrote. Counts are of files and rows of input."""

    files: Counter[str] = field(default_factory=Counter)  # by status: loaded, unchanged, rejected
    files_at_fault: int = 0  # rejected whole, or more than FAULTY_SHARE of their rows
    reasons: Counter[str] = field(default_factory=Counter)  # rejected rows and files, by reason
    warnings: Counter[str] = field(default_factory=Counter)
    readings: Counter[str] = field(default_factory=Counter)  # good rows by date
    rows_rejected: int = 0
    rows_erased: int = 0  # of erased ids: neither loaded nor in quarantine
    lost_days: int = 0
    claims: int = 0
    bytes_read: int = 0
    bytes_kept: int = 0  # of rejected files
    rejections: list[tuple[bool, str, int, str]] = field(default_factory=list)  # is a row, file, position, sentence
    attempts: dict[str, int] = field(default_factory=dict)  # which attempt of a task came to its end

    def __add__(self, other: "Receipt") -> "Receipt":
        return Receipt(
            self.files + other.files,
            self.files_at_fault + other.files_at_fault,
            self.reasons + other.reasons,
            self.warnings + other.warnings,
            self.readings + other.readings,
            self.rows_rejected + other.rows_rejected,
            self.rows_erased + other.rows_erased,
            self.lost_days + other.lost_days,
            self.claims + other.claims,
            self.bytes_read + other.bytes_read,
            self.bytes_kept + other.bytes_kept,
            sorted(self.rejections + other.rejections)[: 2 * EXAMPLES],
            self.attempts | other.attempts,
        )

    def to_json(self) -> bytes:
        return orjson.dumps(self)

    @staticmethod
    def from_json(text: bytes) -> "Receipt":
        fields = orjson.loads(text)
        counters = {name: Counter(fields[name]) for name in ("files", "reasons", "warnings", "readings")}
        rejections = [tuple(each) for each in fields["rejections"]]
        return Receipt(**fields | counters | {"rejections": rejections})


def total(receipts: Iterable[Receipt]) -> Receipt:
    """The receipts of all tasks as one."""
    return reduce(Receipt.__add__, receipts, Receipt())


Read = Callable[[list[str]], Iterable[Content | OSError]]


def ingest(files: Iterable[dict[str, Any]], read: Read, place: Place, task: int = 0, attempt: int = 0) -> Receipt:
    """Read, judge and write the given files (columns as of ledger.files.to_read).

    A file counts as modified when the load began at the latest: a clock that is ahead must not win for ever. `read`
    gives the content of files, or the error, in the order in which it is asked for them.
    """
    batch = _Batch(place, Receipt(attempts={str(task): attempt}))
    number = 0
    for parsed in parse_files(batch.to_parse(files, read)):
        batch.add(parsed)
        if batch.rows >= MOST_ROWS or batch.kept_bytes >= MOST_BYTES:
            batch.write(f"part-{task}-{attempt}-{number}.parquet")
            number += 1
    batch.write(f"part-{task}-{attempt}-{number}.parquet")
    return batch.receipt


class _Batch:
    """What a task collects, until it writes it, and its receipt."""

    def __init__(self, place: Place, receipt: Receipt) -> None:
        self.place = place
        self.receipt = receipt
        self.waiting: dict[str, dict[str, Any]] = {}  # records of files that are being parsed, by name
        self.begin()

    def begin(self) -> None:
        """Collect from nothing on."""
        self.rows = self.kept_bytes = 0
        self.readings: list[pa.Table] = []
        self.claims: list[pa.Table] = []
        self.rejected: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []

    def to_parse(self, files: Iterable[dict[str, Any]], read: Read) -> Iterator[File]:
        """The files that have something new to say; the others are counted here."""
        named = list(files)
        for file, found in zip(named, read([file["path"] for file in named]), strict=True):
            name = file["source_file"]
            record: dict[str, Any] = {"source_file": name, "kind": "readings", "modified_at": file["modified_at"]}
            if isinstance(found, OSError):
                detail = self.place.erased.redacted(str(found))
                self._reject(record | {"reason": reason_of(found), "detail": detail, "size_bytes": file["size_bytes"]})
                continue
            content = found.content
            record["modified_at"] = time_of(file["modified_at"] or found.modified_at, found.modified_at)
            self.receipt.bytes_read += len(content)
            record |= {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            if record["sha256"] == file["known_sha256"]:
                self._record(record | {"status": "unchanged"})
                continue
            if record["modified_at"] != file["modified_at"]:
                # It was replaced since it was listed. Without a checksum it is not known: the next run reads it, too,
                # for this one may be one that is to read known files alone.
                record["sha256"] = None
            self.waiting[name] = record
            modified_at = min(record["modified_at"], self.place.started_at)
            yield File(name, content, (modified_at - EPOCH_UTC) // MICROSECOND)

    def add(self, parsed: Parsed) -> None:
        """Collect what files say, and count it."""
        files, erased = parsed.files, self.place.erased
        good, of_erased = _without(parsed.good, erased.gone(parsed.good), len(files))
        dates = good["interval_start"].to_numpy() // DAY
        good = good.append_column("date", pa.array(dates.astype(np.int32), pa.date32()))
        first = self.place.kept_from or date.min
        good, not_kept = _without(good, dates < (first - EPOCH).days, len(files))
        readings = self._collect(good, files)
        for number, told in parsed.told.items():
            record = self.waiting.pop(files[number].name)
            if isinstance(told, FileRejected):
                self._reject_content(record, files[number].content, told)
            else:
                self._add_file(record, told, readings[number], of_erased[number], not_kept[number])

    def _collect(self, good: pa.Table, files: list[File]) -> list[dict[tuple[str, date], int]]:
        """Collect good rows and the claims of their files, and return each file's readings by meterpoint-day."""
        found: list[dict[tuple[str, date], int]] = [{} for _ in files]
        if not good.num_rows:
            return found
        names = pa.array([file.name for file in files], pa.string())
        modified_at = pa.array([file.modified_at for file in files], _UTC)
        exact = decimals(good["consumption_kwh"].combine_chunks())
        rows = good.drop_columns(["consumption_kwh"]).append_column("consumption_kwh", exact)
        source_file = pa.DictionaryArray.from_arrays(rows["file"].combine_chunks(), names)
        self.readings.append(rows.append_column("source_file", source_file))
        by = ["file", "meterpoint_id", "date"]
        days = good.group_by(by).aggregate([([], "count_all")]).rename_columns({"count_all": "readings"})
        claims = days.append_column("source_file", pc.take(names, days["file"]))
        self.claims.append(claims.append_column("modified_at", pc.take(modified_at, days["file"])))
        self.rows += good.num_rows
        self.receipt.claims += days.num_rows
        columns = (days[name].to_pylist() for name in (*by, "readings"))
        for file, meterpoint_id, day, readings in zip(*columns, strict=True):
            found[file][meterpoint_id, day] = readings
            self.receipt.readings[day.isoformat()] += readings
        return found

    def _record(self, record: dict[str, Any]) -> None:
        self.receipt.files[record["status"]] += 1
        self.files.append(record)
        self.rows += 1

    def _reject(self, record: dict[str, Any]) -> None:
        self.receipt.files_at_fault += 1
        self.receipt.reasons[record["reason"]] += 1
        text = f"{record['source_file']}: {record['reason']}: {record['detail']}"
        _example(self.receipt, False, record["source_file"], 0, text)
        self._record(record | {"status": "rejected"})

    def _reject_content(self, record: dict[str, Any], content: bytes, error: FileRejected) -> None:
        erased = self.place.erased
        kept = content if len(content) <= LARGEST_IN_QUARANTINE and not erased.holds(content) else None
        self.kept_bytes += len(kept or b"")
        self.receipt.bytes_kept += len(kept or b"")
        detail = erased.redacted(error.detail)
        self._reject(record | {"reason": error.reason, "detail": detail, "content": kept})

    def _add_file(
        self,
        record: dict[str, Any],
        told: Told,
        readings: dict[tuple[str, date], int],
        erased: int,
        not_kept: int,
    ) -> None:
        """Count a file that has rows: good ones by meterpoint-day, and how many were left out."""
        name, redacted, receipt = record["source_file"], self.place.erased.redacted, self.receipt
        rejected = self.place.erased.without(told.rejected)
        erased += len(told.rejected) - len(rejected)
        warnings = told.warnings | ({"date_not_kept": not_kept} if not_kept else {})
        count, bad = sum(readings.values()), len(rejected)
        lost = {(row.meterpoint_id, _date(row.date)) for row in rejected if row.meterpoint_id and row.date is not None}
        lost -= readings.keys()
        for row in rejected:
            receipt.reasons[row.reason] += 1
            if len(receipt.rejections) < 2 * EXAMPLES:
                text = f"{name} row {row.position}: {row.reason}: {row.row_json}"
                _example(receipt, True, name, row.position, text)
        self.rejected += [{"source_file": name, **row._asdict()} for row in rejected]
        self.kept_bytes += sum(len(row.row_json) for row in rejected)
        self.rows += bad
        if erased:
            receipt.reasons["erased"] += erased
            receipt.rows_erased += erased
        receipt.rows_rejected += bad
        receipt.files_at_fault += bad > FAULTY_SHARE * (count + bad)
        receipt.warnings.update(warnings)
        receipt.lost_days += len(lost)
        notes = [redacted(told.note)] if told.note else []
        notes += [f"{counted(erased, 'row')} of erased ids not kept"] if erased else []
        dates = [day for _, day in readings]
        self._record(
            record
            | {
                "status": "loaded",
                "detail": "; ".join(notes) or None,
                "rows_read": count + bad + erased,
                "rows_rejected": bad + erased,
                "first_date": min(dates, default=None),
                "last_date": max(dates, default=None),
                "warnings": list(warnings.items()),
                "lost_days": [{"meterpoint_id": m, "date": day} for m, day in sorted(lost)],
            },
        )

    def write(self, name: str) -> None:
        """Write what was collected: readings and claims by date, the rest to the staging folder."""
        place = self.place
        for root, tables, order, schema in (
            (place.readings, self.readings, ORDER_OF_READINGS, CODED_READINGS),
            (place.claims, self.claims, ORDER_OF_CLAIMS, CLAIMS_SCHEMA),
        ):
            if tables:
                _write_by_date(place, root, pa.concat_tables(tables), order, schema, name)
        for folder, rows, schema in (("rejected", self.rejected, REJECTED_SCHEMA), ("files", self.files, FILES_SCHEMA)):
            if rows:
                write_file(place.lake, f"{place.staging}/{folder}", name, pa.Table.from_pylist(rows, schema))
        self.begin()


def _without(good: pa.Table, gone: "np.ndarray[Any, np.dtype[np.bool_]]", files: int) -> tuple[pa.Table, "list[int]"]:
    """Rows without those that are gone, and of each file how many these are."""
    if not gone.any():
        return good, [0] * files
    return good.filter(pa.array(~gone)), np.bincount(good["file"].to_numpy()[gone], minlength=files).tolist()


def _example(receipt: Receipt, is_row: bool, name: str, position: int, text: str) -> None:
    if sum(each[0] == is_row for each in receipt.rejections) < EXAMPLES:
        receipt.rejections.append((is_row, name, position, text[:LONGEST_EXAMPLE]))


def _date(day: int) -> date:
    return EPOCH + timedelta(days=day)


def _write_by_date(place: Place, root: str, rows: pa.Table, order: list[str], schema: pa.Schema, name: str) -> None:
    """Write rows by date and then in order, a file for each date, into the folder that the load is to publish."""
    rows = rows.sort_by([(column, "ascending") for column in ["date", *order]])
    of_load = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows.num_rows), [place.load_id])
    rows = rows.append_column("load_id", of_load).append_column("known_from", of_load).combine_chunks()
    dates = rows["date"].cast(pa.int32()).to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(dates)) + 1).tolist(), len(dates)]
    columns = rows.select(schema.names).cast(schema)

    def write(start: int, end: int) -> None:
        folder = f"{root}/date={_date(int(dates[start]))}/load={place.load_id}"
        write_file(place.lake, folder, name, columns.slice(start, end - start))

    # To an object store some at once: of a small file nearly all the time is spent waiting.
    with ThreadPoolExecutor(1 if place.lake.type_name == "local" else WRITERS) as pool:
        list(pool.map(write, starts, starts[1:]))


def write_file(file_system: FileSystem, folder: str, name: str, rows: pa.Table) -> None:
    """Write a Parquet file."""
    if file_system.type_name == "local":  # an object store has no folders
        file_system.create_dir(folder, recursive=True)
    pq.write_table(rows, f"{folder}/{name}", filesystem=file_system, row_group_size=ROW_GROUP, **PARQUET)


def decimals(numbers: pa.Array) -> pa.Array:
    """Floating-point kWh as decimals, rounded half up as the number is spelled."""
    # A number that is spelled with a 5 as its last, seventh decimal lies a little above or below that as a binary
    # fraction, so what is near the middle of two is rounded as it is spelled.
    scaled = pc.multiply(numbers, 1e6)
    near_middle = pc.less(pc.abs(pc.subtract(pc.subtract(scaled, pc.floor(scaled)), 0.5)), 1e-4)
    exact = [
        Decimal(str(kwh)).quantize(Decimal("0.000001"), ROUND_HALF_UP)
        for kwh in numbers.filter(near_middle).to_pylist()
    ]
    return pc.replace_with_mask(numbers.cast(KWH), near_middle, pa.array(exact, KWH))


def part_files_of_dead_attempts(names: Sequence[str], attempts: dict[str, int]) -> list[str]:
    """Names of part files that no task which came to its end has written: those of attempts that died."""
    ended = {f"part-{task}-{attempt}-" for task, attempt in attempts.items()}
    return [name for name in names if name.startswith("part-") and not name.startswith(tuple(ended))]
