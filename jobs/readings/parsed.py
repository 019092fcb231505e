"""What becomes of readings files: good rows, rejected rows, and what was noticed."""

from typing import Any, NamedTuple

import pyarrow as pa

from jobs.readings.rules import FileRejected, RowReason

# Rows that break no rule, in no order.
GOOD = pa.schema(
    [
        ("file", pa.int32()),  # of those that were judged together, from 0
        ("meterpoint_id", pa.string()),
        ("interval_start", pa.int64()),  # microseconds since 1970 as the local clock shows it
        ("interval_start_utc", pa.int64()),  # microseconds, the instant
        ("consumption_kwh", pa.float64()),
        ("reading_quality", pa.string()),  # null where nothing was delivered
    ]
)


class File(NamedTuple):
    """A readings file as it came."""

    name: str
    content: bytes
    modified_at: int  # microseconds UTC


class Document(NamedTuple):
    """What a readings file holds, as it was delivered."""

    columns: list[str]
    data: list[Any]
    modified_at: int


class Rejected(NamedTuple):
    """A row that breaks a rule."""

    position: int  # index in data, from 0
    reason: RowReason
    row_json: str  # the row as delivered
    meterpoint_id: str | None  # where it can be told
    date: int | None  # local date as days since 1970, where it can be told


class Told(NamedTuple):
    """What a file says beside its good rows."""

    rejected: list[Rejected]
    warnings: dict[str, int]  # name of the warning: how many rows or meterpoint-days it concerns
    note: str | None  # what of the file was ignored


class Parsed(NamedTuple):
    """What some files say."""

    files: list[File]
    good: pa.Table  # columns as of GOOD; `file` is a position in files
    told: dict[int, Told | FileRejected]  # by position in files; of one that is not here others tell


class ParsedFile(NamedTuple):
    """Each row of a file is good or rejected."""

    good: pa.Table  # columns as of GOOD
    rejected: list[Rejected]
    warnings: dict[str, int]
    note: str | None
