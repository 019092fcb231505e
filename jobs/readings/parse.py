"""The bytes of one readings file to good and rejected rows, by the rules of docs/rules.md.

No Spark, no I/O, no settings.
"""

import json
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jobs.readings import october
from jobs.readings.days import judge_days
from jobs.readings.document import columns_and_data
from jobs.readings.rules import (
    COLUMNS,
    DAY,
    FORM,
    HALF_HOUR,
    MAX_KWH,
    QUALITY_COLUMNS,
    FileRejected,
    LocalTime,
    Row,
    RowReason,
    fault_of_id,
    is_text,
    judged,
    local_time,
    quality,
)

# Characters: names of columns that the rejected rows of a file repeat, and names of columns in its note.
MOST_REPEATED = 256 * 1024 * 1024
LONGEST_NOTE = 200


class Good(NamedTuple):
    """Rows that break no rule, as columns of equal length, in file order."""

    meterpoint_id: Sequence[str]
    interval_start: npt.NDArray[np.int64]  # microseconds since 1970 as the local clock shows it
    interval_start_utc: npt.NDArray[np.int64]  # microseconds, the instant
    consumption_kwh: npt.NDArray[np.float64]
    reading_quality: Sequence[str | None]


class Rejected(NamedTuple):
    """A row that breaks a rule."""

    position: int  # index in data, from 0
    reason: RowReason
    row_json: str  # the row as delivered
    meterpoint_id: str | None  # where it can be told
    date: int | None  # local date as days since 1970, where it can be told


class ParsedFile(NamedTuple):
    """Each row of a file is good or rejected."""

    good: Good
    rejected: list[Rejected]
    warnings: dict[str, int]  # name of the warning: how many rows or meterpoint-days it concerns
    note: str | None  # what of the file was ignored


def parse_file(source_file: str, content: bytes, modified_at: int) -> ParsedFile:
    """The rows of a file that was modified at `modified_at` (microseconds UTC). Raises FileRejected where there are
    no rows to be had."""
    try:
        columns, data = columns_and_data(source_file, content)
        good, rejected, warnings = _plain(data, columns, modified_at) or _judged(data, columns, modified_at)
    except RecursionError:
        raise FileRejected("not_json", "brackets are nested too deeply") from None
    extra = sorted(set(columns) - set(COLUMNS) - {_quality_column(columns)})
    return ParsedFile(good, rejected, {str(name): count for name, count in warnings.items()}, _note(extra))


def _note(extra: list[str]) -> str | None:
    """Names of ignored columns, as many as there is room for. None is cut: half an id is not known as an erased one."""
    ends = accumulate(len(name) + 2 for name in extra)
    shown = [name for name, end in zip(extra, ends, strict=True) if end <= LONGEST_NOTE]
    more = [f"… ({len(extra)} in all)"] if len(shown) < len(extra) else []
    return f"ignored columns: {', '.join([*shown, *more])}" if extra else None


Result = tuple[Good, list[Rejected], Counter[Any]]


def _plain(data: list[Any], columns: list[str], modified_at: int) -> Result | None:
    """The rows of a file of which all are good and none is repeated; None of another.

    Nearly every file is like this, so it goes column by column, not row by row.
    """
    if not data or set(map(type, data)) != {list} or set(map(len, data)) != {len(columns)}:
        return None
    values = dict(zip(columns, zip(*data, strict=True), strict=True))
    starts, consumption, meterpoints = (values[name] for name in COLUMNS)
    if {*map(type, starts), *map(type, meterpoints)} != {str} or set(map(len, starts)) != {len(FORM)}:
        return None
    names = set(meterpoints)
    if not all(is_text(name) and fault_of_id(name) is None for name in names):
        return None
    if not set(map(type, consumption)) <= {float, int}:
        return None
    times = list(map(local_time, starts))
    if set(map(type, times)) != {LocalTime} or len(set(zip(meterpoints, starts, strict=True))) < len(data):
        return None
    try:
        kwh = np.array(consumption, np.float64)
    except OverflowError:
        return None
    starts_local, instants, turns = zip(*times, strict=True)
    # Not `min() < 0 or max() > …`: that would let NaN pass.
    if not (kwh.min() >= 0 and kwh.max() <= MAX_KWH) or max(turns) > 1 or max(instants) > modified_at:
        return None
    start, utc = np.array(starts_local, np.int64), np.array(instants, np.int64)
    numbers = None if len(names) == 1 else _numbers(meterpoints)
    held, warnings = judge_days(numbers, start, utc, kwh)
    if held:
        return None
    return Good(meterpoints, start, utc, kwh, _qualities(values)), [], Counter(warnings)


def _judged(data: list[Any], columns: list[str], modified_at: int) -> Result:
    """The rows of any file, row by row."""
    order = [columns.index(name) for name in COLUMNS]
    rows = [judged(values, len(columns), order, modified_at) for values in data]
    not_told = _judge_repeats(rows)
    for position, row in enumerate(rows):
        if row.reason is None and row.time and row.time.utc > modified_at:  # the second of two hours
            rows[position] = row._replace(reason="interval_start_after_file")

    kept = [(position, row) for position, row in enumerate(rows) if row.reason is None]
    held, warnings = _judge_days([row for _, row in kept])
    for index, reason in held.items():
        position, row = kept[index]
        rows[position] = row._replace(reason=reason)
    warnings["repeated_hour_not_told"] = sum(rows[position].reason is None for position in not_told)

    named = sum(row.reason not in (None, "wrong_length") for row in rows)
    if named * len(json.dumps(columns)) > MOST_REPEATED:
        raise FileRejected("too_large", f"{named:,} rows are at fault, and the names of their columns are too long")

    good = [(row, data[position]) for position, row in kept if rows[position].reason is None]
    which = _quality_column(columns)
    at = columns.index(which) if which else None
    columns_of_good = Good(
        [row.meterpoint_id or "" for row, _ in good],
        np.array([row.time.start for row, _ in good if row.time], np.int64),
        np.array([row.time.utc for row, _ in good if row.time], np.int64),
        np.array([row.consumption_kwh for row, _ in good], np.float64),
        [None if at is None or which is None else quality(values[at], which) for _, values in good],
    )
    rejected = [
        Rejected(position, row.reason, _as_delivered(values, row, columns), row.meterpoint_id, row.date)
        for position, (row, values) in enumerate(zip(rows, data, strict=True))
        if row.reason
    ]
    return columns_of_good, rejected, +warnings


def _judge_repeats(rows: list[Row]) -> list[int]:
    """Reject what a file says once too often, and move what is of the later one of two hours. The positions of rows
    in the repeated hour of which the file does not tell which one they are.

    Of a meterpoint's local time a file may have one row, two in the repeated hour of October. Of more rows with one
    consumption the surplus is rejected; where they differ nobody can tell which is right, and all are rejected. Rows
    with implausible consumption contradict no other.
    """
    positions_of: dict[tuple[str | None, LocalTime], list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        if row.time and not row.time.start % HALF_HOUR:
            positions_of[row.meterpoint_id, row.time].append(position)
    in_october: dict[tuple[str | None, int], list[int]] = defaultdict(list)
    for (meterpoint_id, time), positions in positions_of.items():
        good = [position for position in positions if _is_plausible(rows[position])]
        if len(good) > time.instants:
            differ = len({rows[position].consumption_kwh for position in good}) > 1
            reason: RowReason = "conflicting_readings" if differ else "duplicate_reading"
            for position in good if differ else good[time.instants :]:
                rows[position] = rows[position]._replace(reason=reason)
        if time.instants == 2:
            # Of two rows one without a plausible consumption still holds its place.
            both = positions if len(positions) == 2 else [each for each in good if rows[each].reason is None]
            in_october[meterpoint_id, time.start // DAY] += both
    return _tell_hours(rows, in_october) if any(in_october.values()) else []


def _tell_hours(rows: list[Row], in_october: dict[tuple[str | None, int], list[int]]) -> list[int]:
    # What tells is beside the repeated hour in the file, or in time: the rest of a meterpoint's rows may be a year's.
    in_october = {key: sorted(positions) for key, positions in in_october.items() if positions}
    meterpoints = {meterpoint_id for meterpoint_id, _ in in_october}
    around = {key: october.around(rows[positions[0]].time) for key, positions in in_october.items()}
    wanted = {(meterpoint_id, instant) for (meterpoint_id, _), both in around.items() for instant in both}
    others: dict[str | None, list[int]] = defaultdict(list)
    at: dict[tuple[str | None, int], int] = {}
    for position, row in enumerate(rows):
        if row.meterpoint_id in meterpoints and row.time and row.time.instants == 1 and not row.time.start % HALF_HOUR:
            others[row.meterpoint_id].append(position)
            if (row.meterpoint_id, row.time.utc) in wanted:
                at[row.meterpoint_id, row.time.utc] = position
    not_told: list[int] = []
    for key, positions in in_october.items():
        telling = {at[key[0], instant] for instant in around[key] if (key[0], instant) in at}
        for position in positions:
            place = bisect(others[key[0]], position)
            telling.update(others[key[0]][max(0, place - 1) : place + 1])
        places = sorted({*positions, *telling})
        times = [time for time in (rows[place].time for place in places) if time]
        instants, is_told = october.told(times)
        for place, time, instant in zip(places, times, instants, strict=True):
            rows[place] = rows[place]._replace(time=time._replace(utc=instant))
        not_told += [] if is_told else positions
    return not_told


def _is_plausible(row: Row) -> bool:
    return row.reason is None and row.consumption_kwh is not None and row.consumption_kwh <= MAX_KWH


def _judge_days(rows: list[Row]) -> tuple[dict[int, RowReason], Counter[Any]]:
    times = [row.time for row in rows if row.time]
    held, warnings = judge_days(
        _numbers(row.meterpoint_id for row in rows),
        np.array([time.start for time in times], np.int64),
        np.array([time.utc for time in times], np.int64),
        np.array([np.nan if row.consumption_kwh is None else row.consumption_kwh for row in rows], np.float64),
    )
    return held, Counter(warnings)


def _numbers(names: Iterable[str | None]) -> Any:
    """A number for each name, the same for equal ones."""
    numbers: dict[str | None, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _quality_column(columns: Iterable[str]) -> str | None:
    by_name = {name.lower(): name for name in columns}
    return next((by_name[name] for name in QUALITY_COLUMNS if name in by_name), None)


def _qualities(values: dict[str, tuple[Any, ...]]) -> list[str | None]:
    column = _quality_column(values)
    if column is None:
        return [None] * len(values[COLUMNS[0]])
    return [quality(value, column) for value in values[column]]


def _as_delivered(values: Any, row: Row, columns: list[str]) -> str:
    delivered = values if row.reason == "wrong_length" else dict(zip(columns, values, strict=True))
    return json.dumps(delivered, separators=(",", ":"))
