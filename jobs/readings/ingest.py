"""What one task of a load does: read its files, judge their rows, and write them where nobody reads yet.

Good readings go straight to the folder that the load will publish for their date, sorted by meterpoint and time, and
beside them the claims: what each file says of each meterpoint-day. Rejected rows and what became of each file go to
the load's staging folder. The task hands back one Receipt, so the driver holds no rows.

Consumption is kWh as DECIMAL(9,6): sums of decimals are exact, do not depend on the order in which rows are added, and
can be compared for equality. Six decimals are a thousandth of a watt-hour; further ones are rounded half up.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from jobs.readings.erased import Erased
from jobs.readings.parse import Good, ParsedFile, parse_file
from jobs.readings.rules import FileRejected
from jobs.wording import counted

EPOCH = date(1970, 1, 1)
EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000  # microseconds
# Bytes of a rejected file that are kept. Parquet's writer holds a hundred rows in memory, its reader thousands.
LARGEST_IN_QUARANTINE = 1024 * 1024
# A task writes what it has read whenever it holds so many rows, or so many bytes of rejected files and rows.
MOST_ROWS, MOST_BYTES = 1_000_000, 64 * 1024 * 1024
EXAMPLES = 10
# Rows that a reader has to read, or can leave out, together: a thousand meterpoints of a date.
ROW_GROUP = 50_000
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


Read = Callable[[list[str]], Iterable[bytes | OSError]]


def ingest(files: Iterable[dict[str, Any]], read: Read, place: Place, task: int = 0, attempt: int = 0) -> Receipt:
    """Read, judge and write the given files (columns as of ledger.files.to_read).

    A file counts as modified when the load began at the latest: a clock that is ahead must not win for ever. `read`
    gives the bytes of files, or the error, in the order in which it is asked for them.
    """
    receipt = Receipt(attempts={str(task): attempt})
    batch = _Batch(place.erased)
    named = list(files)
    for file, content in zip(named, read([file["path"] for file in named]), strict=True):
        modified_at = min(file["modified_at"], place.started_at)
        batch.add(receipt, file, content, modified_at, place.kept_from)
        if batch.rows >= MOST_ROWS or batch.kept_bytes >= MOST_BYTES:
            batch.write(place, f"part-{task}-{attempt}-{batch.number}.parquet")
            batch = _Batch(place.erased, batch.number + 1)
    batch.write(place, f"part-{task}-{attempt}-{batch.number}.parquet")
    return receipt


class _Batch:
    """Columns that a task collects, until it writes them."""

    def __init__(self, erased: Erased, number: int = 0) -> None:
        self.erased = erased
        self.number = number
        self.rows = self.kept_bytes = 0
        self.readings: list[tuple[str, Good]] = []
        self.claims: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []

    def add(
        self,
        receipt: Receipt,
        file: dict[str, Any],
        content: bytes | OSError,
        modified_at: datetime,
        kept_from: date | None,
    ) -> None:
        """Judge a file, and count it into the receipt."""
        name = file["source_file"]
        record: dict[str, Any] = {"source_file": name, "kind": "readings", "modified_at": file["modified_at"]}
        if isinstance(content, OSError):
            reason = getattr(content, "reason", "unreadable")
            detail = self.erased.redacted(str(content))
            self._reject(receipt, record | {"reason": reason, "detail": detail, "size_bytes": file["size_bytes"]})
            return
        receipt.bytes_read += len(content)
        record |= {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if record["sha256"] == file["known_sha256"]:
            self._record(receipt, record | {"status": "unchanged"})
            return
        try:
            parsed = parse_file(name, content, (modified_at - EPOCH_UTC) // timedelta(microseconds=1))
        except FileRejected as error:
            kept = content if len(content) <= LARGEST_IN_QUARANTINE and not self.erased.holds(content) else None
            self.kept_bytes += len(kept or b"")
            receipt.bytes_kept += len(kept or b"")
            detail = self.erased.redacted(error.detail)
            self._reject(receipt, record | {"reason": error.reason, "detail": detail, "content": kept})
            return
        parsed, erased = self.erased.without(parsed)
        self._add_rows(receipt, record, _kept(parsed, kept_from) if kept_from else parsed, erased, modified_at)

    def _record(self, receipt: Receipt, record: dict[str, Any]) -> None:
        receipt.files[record["status"]] += 1
        self.files.append(record)
        self.rows += 1

    def _reject(self, receipt: Receipt, record: dict[str, Any]) -> None:
        receipt.files_at_fault += 1
        receipt.reasons[record["reason"]] += 1
        _example(
            receipt, False, record["source_file"], 0, f"{record['source_file']}: {record['reason']}: {record['detail']}"
        )
        self._record(receipt, record | {"status": "rejected"})

    def _add_rows(
        self,
        receipt: Receipt,
        record: dict[str, Any],
        parsed: ParsedFile,
        erased: int,
        modified_at: datetime,
    ) -> None:
        name = record["source_file"]
        receipt.reasons += Counter(erased=erased)
        receipt.rows_erased += erased
        told = [f"{counted(erased, 'row')} of erased ids not kept"] if erased else []
        count, bad = len(parsed.good.meterpoint_id), len(parsed.rejected)
        good_days = _days(parsed)
        lost = {(row.meterpoint_id, row.date) for row in parsed.rejected if row.meterpoint_id and row.date is not None}
        lost -= good_days.keys()
        for row in parsed.rejected:
            receipt.reasons[row.reason] += 1
            if len(receipt.rejections) < 2 * EXAMPLES:
                text = f"{name} row {row.position}: {row.reason}: {row.row_json}"
                _example(receipt, True, name, row.position, text)
        self.rejected += [{"source_file": name, **row._asdict(), "date": row.date} for row in parsed.rejected]
        self.kept_bytes += sum(len(row.row_json) for row in parsed.rejected)
        receipt.rows_rejected += bad
        receipt.files_at_fault += bad > FAULTY_SHARE * (count + bad)
        receipt.warnings.update(parsed.warnings)
        receipt.lost_days += len(lost)
        receipt.claims += len(good_days)
        for (_, day), readings in good_days.items():
            receipt.readings[_date(day).isoformat()] += readings
        dates = [day for _, day in good_days]
        self.claims += [
            {"source_file": name, "meterpoint_id": m, "modified_at": modified_at, "readings": readings, "date": day}
            for (m, day), readings in good_days.items()
        ]
        if count:
            self.readings.append((name, parsed.good))
        self.rows += count + bad
        self._record(
            receipt,
            record
            | {
                "status": "loaded",
                "detail": "; ".join([*([self.erased.redacted(parsed.note)] if parsed.note else []), *told]) or None,
                "rows_read": count + bad + erased,
                "rows_rejected": bad + erased,
                "first_date": min(dates, default=None),
                "last_date": max(dates, default=None),
                "warnings": list(parsed.warnings.items()),
                "lost_days": [{"meterpoint_id": m, "date": day} for m, day in sorted(lost)],
            },
        )

    def write(self, place: Place, name: str) -> None:
        """Write what was collected: readings and claims by date, the rest to the staging folder."""
        if self.readings:
            _write_by_date(place, place.readings, _sorted(_columns(self.readings)), READINGS_SCHEMA, name)
            delivered = [field for field in CLAIMS_SCHEMA if field.name != "load_id"]
            claims = _table(self.claims, pa.schema([*delivered, pa.field("date", pa.date32())]))
            order = [("date", "ascending"), ("meterpoint_id", "ascending"), ("source_file", "ascending")]
            _write_by_date(place, place.claims, claims.sort_by(order), CLAIMS_SCHEMA, name)
        for folder, rows, schema in (("rejected", self.rejected, REJECTED_SCHEMA), ("files", self.files, FILES_SCHEMA)):
            if rows:
                write_file(place.lake, f"{place.staging}/{folder}", name, _table(rows, schema))


def _kept(parsed: ParsedFile, first: date) -> ParsedFile:
    """A file without its readings of local dates before `first`, which a warning counts."""
    good = parsed.good
    stays = good.interval_start // DAY >= (first - EPOCH).days
    left_out = int(len(stays) - stays.sum())
    if not left_out:
        return parsed
    kept = Good(
        [name for name, each in zip(good.meterpoint_id, stays, strict=True) if each],
        good.interval_start[stays],
        good.interval_start_utc[stays],
        good.consumption_kwh[stays],
        [quality for quality, each in zip(good.reading_quality, stays, strict=False) if each],
    )
    return parsed._replace(good=kept, warnings=parsed.warnings | {"date_not_kept": left_out})


def _example(receipt: Receipt, is_row: bool, name: str, position: int, text: str) -> None:
    if sum(each[0] == is_row for each in receipt.rejections) < EXAMPLES:
        receipt.rejections.append((is_row, name, position, text))


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema)


def _days(parsed: ParsedFile) -> dict[tuple[str, int], int]:
    """Good readings by meterpoint and local date (days since 1970)."""
    good = parsed.good
    if not len(good.meterpoint_id):
        return {}
    days = (np.asarray(good.interval_start, dtype=np.int64) // DAY).tolist()
    first = good.meterpoint_id[0]
    if good.meterpoint_id.count(first) == len(days):
        return {(first, day): count for day, count in Counter(days).items()}
    return dict(Counter(zip(good.meterpoint_id, days, strict=True)))


def _date(day: int) -> date:
    return EPOCH + timedelta(days=day)


def _columns(files: list[tuple[str, Good]]) -> pa.Table:
    """The good rows of files as columns. Names of files and meterpoints are few, and are repeated by number."""
    counts = [len(good.meterpoint_id) for _, good in files]
    names: dict[str, int] = {}
    numbers = []
    for count, (_, good) in zip(counts, files, strict=True):
        of_file = {name: names.setdefault(name, len(names)) for name in dict.fromkeys(good.meterpoint_id)}
        if len(of_file) == 1:
            numbers.append(np.full(count, of_file[good.meterpoint_id[0]], dtype=np.int32))
        else:
            numbers.append(np.fromiter((of_file[name] for name in good.meterpoint_id), np.int32, count))
    quality = [
        each for count, (_, good) in zip(counts, files, strict=True) for each in good.reading_quality or [None] * count
    ]

    def joined(column: str, kind: type) -> pa.Array:
        return pa.array(np.concatenate([np.asarray(getattr(good, column), dtype=kind) for _, good in files]))

    return pa.table(
        {
            "meterpoint_id": _repeated(np.concatenate(numbers), list(names)),
            "interval_start": joined("interval_start", np.int64),
            "interval_start_utc": joined("interval_start_utc", np.int64),
            "kwh": joined("consumption_kwh", np.float64),
            "source_file": _repeated(
                np.repeat(np.arange(len(files), dtype=np.int32), counts), [name for name, _ in files]
            ),
            "reading_quality": pa.array(quality, pa.string()) if any(quality) else pa.nulls(len(quality), pa.string()),
        }
    )


def _repeated(numbers: "np.ndarray[Any, np.dtype[np.int32]]", texts: list[str]) -> pa.Array:
    return pc.take(pa.array(texts, pa.string()), pa.array(numbers))


def _sorted(rows: pa.Table) -> pa.Table:
    """Rows by date, meterpoint and time, with the column `date` (days since 1970)."""
    # A whole number: the local time in microseconds, cut to its day.
    rows = rows.append_column("date", pc.divide(rows["interval_start"], DAY).cast(pa.int32()).cast(pa.date32()))
    order = [("date", "ascending"), ("meterpoint_id", "ascending"), ("interval_start_utc", "ascending")]
    return rows.sort_by(order)


def _write_by_date(place: Place, root: str, rows: pa.Table, schema: pa.Schema, name: str) -> None:
    """Write sorted rows, a file for each date, into the folder that the load is to publish."""
    if "kwh" in rows.column_names:
        rows = rows.append_column("consumption_kwh", decimals(rows["kwh"].combine_chunks()))
    of_load = pa.repeat(place.load_id, rows.num_rows)
    rows = rows.append_column("load_id", of_load).append_column("known_from", of_load).combine_chunks()
    dates = rows["date"].cast(pa.int32()).to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(dates)) + 1).tolist(), len(dates)]
    columns = rows.select(schema.names).cast(schema)
    for start, end in pairwise(starts):
        folder = f"{root}/date={_date(int(dates[start]))}/load={place.load_id}"
        write_file(place.lake, folder, name, columns.slice(start, end - start))


def write_file(file_system: FileSystem, folder: str, name: str, rows: pa.Table) -> None:
    """Write a Parquet file. A decimal of nine digits is a whole number then, which Spark reads fastest."""
    if file_system.type_name == "local":  # an object store has no folders
        file_system.create_dir(folder, recursive=True)
    options = {"compression": "zstd", "store_decimal_as_integer": True, "row_group_size": ROW_GROUP}
    pq.write_table(rows, f"{folder}/{name}", filesystem=file_system, **options)


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
