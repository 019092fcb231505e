"""interim"""
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


from jobs.readings.rules import *
from jobs.readings.rules import LocalTime, Row, Rows, FileRejected
# --- bytes to good and rejected rows -----------------------------------------------------------------------------


def _parse(source_file, content):
    """The rows of a readings file, judged by the rules of docs/rules.md, and a note on what of the file was ignored.

    Raises FileRejected where there are no rows to be had.
    """
    try:
        columns, data = _columns_and_data(_json(_unzipped(source_file, content)))
        rows = _plain_rows(data, columns) or _judged_rows(data, columns)
    except RecursionError:
        raise FileRejected("not_json", "brackets are nested too deeply") from None
    extra = sorted(set(columns) - set(COLUMNS))
    return rows, f"ignored columns: {', '.join(extra)}" if extra else None


def _unzipped(source_file: str, content: bytes) -> bytes:
    if not source_file.endswith(".gz"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise FileRejected("not_gzip", str(error)) from None


def _json(content: bytes) -> Any:
    if not content.strip():
        raise FileRejected("empty_file", "the file is empty")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    try:
        # Slower, but it knows byte order marks and NaN, which many writers emit, halves of surrogate pairs and numbers
        # beyond every float: they are for the rules of rows, and no reason to lose the file.
        return json.loads(content, parse_int=_int)
    except ValueError as error:
        raise FileRejected("not_json", str(error)) from None


def _int(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Python reads no integer of more than 4300 digits
        return float(digits)


def _columns_and_data(document: Any) -> tuple[list[str], list[Any]]:
    if not isinstance(document, dict):
        raise FileRejected("not_an_object", f"expected an object with columns and data, found {type(document).__name__}")
    columns, data = document.get("columns"), document.get("data")
    if not isinstance(columns, list):
        raise FileRejected("columns_missing", "the key 'columns' is missing or not a list")
    if not isinstance(data, list):
        raise FileRejected("data_missing", "the key 'data' is missing or not a list")
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise FileRejected("column_missing", f"no column {', '.join(missing)}; found {json.dumps(columns)[:200]}")
    if not all(map(_is_text, columns)) or len(set(columns)) < len(columns):
        raise FileRejected("columns_not_distinct_names", f"found {json.dumps(columns)[:200]}")
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



class Good(NamedTuple):
    meterpoint_id: Sequence[str]
    interval_start: Sequence[int]
    interval_start_utc: Sequence[int]
    consumption_kwh: Sequence[float]
    reading_quality: Sequence[str | None]
class Rejected(NamedTuple):
    position: int
    reason: str
    row_json: str
    meterpoint_id: str | None
    date: int | None
class ParsedFile(NamedTuple):
    good: Good
    rejected: list[Rejected]
    warnings: dict[str, int]
    note: str | None
def parse_file(source_file, content, modified_at):
    rows, note = _parse(source_file, content)
    ok = [i for i, r in enumerate(rows.rejected) if r is None]
    good = Good(*[[c[i] for i in ok] for c in rows[:4]], [None]*len(ok))
    rej = []
    for r in rows.rejected:
        if r:
            d = json.loads(r["row_json"]) ; m = dte = None
            if isinstance(d, dict):
                m = d.get("meterpoint_id"); t = d.get("interval_start")
                try: dte = (datetime.fromisoformat(t) - EPOCH).days
                except Exception: dte = None
                m = m if isinstance(m, str) else None
            rej.append(Rejected(**r, meterpoint_id=m, date=dte))
    return ParsedFile(good, rej, {}, note)
