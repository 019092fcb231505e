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

class FileRejected(Exception):
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


