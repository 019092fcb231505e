"""The rules on rows of a readings file, told once more in plain Python, without the product's code.

Left out: which of October's two hours a row is of. The tests know that, since they make the files.
"""

import math
import re
import statistics
import unicodedata
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")


def reasons(rows: list[Any], modified_at: datetime) -> list[str | None]:
    """The reason for each row of a file whose columns are time, kWh, meterpoint; None for a good one."""
    found = [_alone(row, modified_at) for row in rows]
    places = defaultdict(list)
    for position, row in enumerate(rows):
        if found[position] is None and _minutes(row) % 30 == 0 and row[1] <= 100:
            places[row[2], row[0]].append(position)
    for (_, start), positions in places.items():
        allowed = len(_instants(datetime.fromisoformat(start)))
        if len(positions) > allowed:
            if len({float(rows[position][1]) for position in positions}) > 1:
                found = [w if p not in positions else "conflicting_readings" for p, w in enumerate(found)]
            else:
                found = [w if p not in positions[allowed:] else "duplicate_reading" for p, w in enumerate(found)]
    days = defaultdict(list)
    for position, row in enumerate(rows):
        if found[position] is None:
            days[row[2], row[0][:10]].append(position)
    for positions in days.values():
        held = _held([rows[position] for position in positions])
        for position in positions:
            found[position] = held
    return found


def _alone(row: Any, modified_at: datetime) -> str | None:
    if not isinstance(row, list) or len(row) != 3:
        return "wrong_length"
    start, kwh, name = row
    if not _is_text(name):
        return "meterpoint_id_not_text"
    if all(unicodedata.category(character)[0] in "CZ" for character in name):
        return "meterpoint_id_empty"
    if not name.isprintable() or name != name.strip():
        return "meterpoint_id_padded_or_invisible"
    if re.fullmatch(r"[0-9]+[.,][0-9]+E\+[0-9]+", name):
        return "meterpoint_id_spreadsheet_number"
    try:
        if not _is_text(start) or not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", start):
            raise ValueError
        local = datetime.fromisoformat(start)
    except ValueError:
        return "interval_start_not_a_timestamp"
    if not 2000 <= local.year < 2100:
        return "interval_start_out_of_range"
    instants = _instants(local)
    off_grid = _minutes(row) % 30 != 0
    if not instants and not off_grid:
        return "interval_start_does_not_exist"
    if instants and min(instants) > modified_at:
        return "interval_start_after_file"
    if off_grid:
        return None
    if kwh is None:
        return "consumption_null"
    if type(kwh) not in (int, float):
        return "consumption_not_a_number"
    if abs(kwh) > 10**300 or not math.isfinite(kwh):
        return "consumption_not_finite"
    return "consumption_negative" if kwh < 0 else None


def _held(rows: list[Any]) -> str | None:
    minutes = [_minutes(row) for row in rows]
    off = sum(minute % 30 != 0 for minute in minutes)
    if off:
        often = len(rows) >= 4 and len(rows) / 3 <= off < len(rows)
        if often and all(minute % 15 == 0 for minute in minutes):
            return "day_held_quarter_hours"
        return "day_held_minutes" if often and all(minute % 1 == 0 for minute in minutes) else "day_held_off_grid"
    kwh = [float(row[1]) for row in sorted(rows, key=lambda row: row[0])]
    used = [each for each in kwh if each > 0]
    middle = statistics.median(used) if len(used) >= 4 else 0
    if max(kwh) <= 100 and middle <= 35:
        return None
    if len(kwh) >= 4 and kwh == sorted(kwh) and kwh[0] < kwh[-1]:
        return "day_held_register"
    return "day_held_watt_hours" if middle > 5 else "day_held_absurd"


def _instants(local: datetime) -> list[datetime]:
    both = {local.replace(tzinfo=LONDON, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(instant for instant in both if instant.astimezone(LONDON).replace(tzinfo=None) == local)


def _minutes(row: Any) -> float:
    local = datetime.fromisoformat(row[0])
    return (local - datetime(2000, 1, 1)) / timedelta(minutes=1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)
