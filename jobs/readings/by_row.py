"""Files with a row at fault, row by row, by the rules of docs/rules.md."""

import json
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.readings import october
from jobs.readings.days import judge_days
from jobs.readings.parsed import GOOD, Document, Rejected
from jobs.readings.rules import (
    COLUMNS,
    DAY,
    HALF_HOUR,
    MAX_KWH,
    FileRejected,
    LocalTime,
    Row,
    RowReason,
    Warning,
    judged,
    quality,
    quality_column,
)

# Characters: names of columns that the rejected rows of a file repeat.
MOST_REPEATED = 256 * 1024 * 1024
LONGEST_ROW = 1024 * 1024  # characters of a row that is kept because it is at fault


def judge(document: Document) -> tuple[pa.Table, list[Rejected], Counter[Warning]]:
    """The good rows of any file (columns as of GOOD), those that are rejected, and warnings."""
    columns, data, modified_at = document
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

    for position, row in enumerate(rows):
        if row.reason and (length := _length(data[position])) > LONGEST_ROW:
            raise FileRejected("too_large", f"row {position} is at fault, and has {length:,} characters")

    good = [(row, data[position]) for position, row in kept if rows[position].reason is None]
    column = quality_column(columns)
    at = columns.index(column) if column else None
    qualities = [None if at is None or column is None else quality(values[at], column) for _, values in good]
    table = pa.table(
        {
            "file": np.zeros(len(good), np.int32),
            "meterpoint_id": [row.meterpoint_id for row, _ in good],
            "interval_start": [row.time and row.time.start for row, _ in good],
            "interval_start_utc": [row.time and row.time.utc for row, _ in good],
            "consumption_kwh": [row.consumption_kwh for row, _ in good],
            "reading_quality": qualities,
        },
        schema=GOOD,
    )
    rejected = [
        Rejected(position, row.reason, _as_delivered(values, row, columns), row.meterpoint_id, row.date)
        for position, (row, values) in enumerate(zip(rows, data, strict=True))
        if row.reason
    ]
    return table, rejected, +warnings


def _length(value: Any) -> int:
    """Characters that a value has as JSON, about."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(name) + _length(each) for name, each in value.items())
    return sum(map(_length, value)) if isinstance(value, list) else 1


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


def _judge_days(rows: list[Row]) -> tuple[dict[int, RowReason], Counter[Warning]]:
    times = [row.time for row in rows if row.time]
    held, noticed = judge_days(
        _numbers(row.meterpoint_id for row in rows),
        np.array([time.start for time in times], np.int64),
        np.array([time.utc for time in times], np.int64),
        np.array([np.nan if row.consumption_kwh is None else row.consumption_kwh for row in rows], np.float64),
    )
    warnings: Counter[Warning] = Counter()
    for each in noticed:
        warnings[each.warning] += each.days
    return held, warnings


def _numbers(names: Iterable[str | None]) -> Any:
    """A number for each name, the same for equal ones."""
    numbers: dict[str | None, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _as_delivered(values: Any, row: Row, columns: list[str]) -> str:
    delivered = values if row.reason == "wrong_length" else dict(zip(columns, values, strict=True))
    return json.dumps(delivered, separators=(",", ":"))
