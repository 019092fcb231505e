"""The rules that need more than one row of a file: repeats, the repeated hour, and whole meterpoint-days.

A file is a list of Row here. Each rule looks at the rows of one meterpoint, and replaces those that it judges.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from jobs.readings.rules import DAY, HALF_HOUR, HOUR, MAX_KWH, LocalTime, RowReason

MINUTE = 60_000_000
# Three phases of 100 A deliver 34.5 kWh in half an hour, one phase 11.5.
THREE_PHASES, ONE_PHASE = 34.5, 11.5
FEW_ROWS = 12  # say nothing of the unit of a day
MANY_ROWS = 24


class Row(NamedTuple):
    """What a row says, and the rule that it breaks."""

    meterpoint_id: str | None = None
    time: LocalTime | None = None
    consumption_kwh: float | None = None  # if it is a number that is not negative
    quality: str | None = None
    reason: RowReason | None = None


def rows_of_meterpoints(rows: list[Row]) -> dict[str, list[int]]:
    """Positions of rows with a time, by meterpoint, in file order."""
    positions: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        if row.time and row.meterpoint_id is not None:
            positions[row.meterpoint_id].append(position)
    return positions


# --- the hour of October that occurs twice --------------------------------------------------------------------------


def tell_repeated_hour(rows: list[Row], positions: list[int]) -> int:
    """Move what is of the later one of two hours, for the rows of one meterpoint. How many rows cannot be told.

    Rows that stand beside each other in a file are mostly half an hour apart: so a row at 01:00 beside one at 00:30 is
    of the first hour, one at 01:30 beside one at 02:00 of the second, and of two rows at one time each is of another
    hour. Where neighbours do not tell, the earlier row of the file is of the first hour.
    """
    twice = [position for position in positions if _time(rows, position).instants == 2]
    if not twice:
        return 0
    of_time: dict[int, list[int]] = defaultdict(list)
    for position in twice:
        of_time[_time(rows, position).start].append(position)
    pairs = {position for same in of_time.values() for position in same if len(same) == 2}
    later = _by_neighbours(rows, positions, of_time) if pairs else {}
    untold = 0
    for same in of_time.values():
        if len(same) == 2:
            first, second = same
            is_told = first in later and second in later
            untold += 0 if is_told else 2
            is_later = {first: later[first], second: later[second]} if is_told else {first: False, second: True}
        elif len(same) == 1 and same[0] in later:
            is_later = {same[0]: later[same[0]]}
        elif len(same) == 1:
            side = _side(rows, positions, same[0])
            untold += side is None
            is_later = {same[0]: bool(side)}
        else:
            continue  # a repeat too many, see judge_repeats
        for position, moves in is_later.items():
            if moves:
                time = _time(rows, position)
                rows[position] = rows[position]._replace(time=time._replace(utc=time.utc + HOUR))
    return untold


def _time(rows: list[Row], position: int) -> LocalTime:
    time = rows[position].time
    assert time is not None
    return time


def _by_neighbours(rows: list[Row], positions: list[int], of_time: dict[int, list[int]]) -> dict[int, bool]:
    """Rows of which the neighbours in the file tell whether they are of the later hour."""
    later: dict[int, bool] = {}
    beside: dict[int, list[int]] = defaultdict(list)
    for one, other in pairwise(positions):
        beside[one].append(other)
        beside[other].append(one)
    twin = {same[turn]: same[1 - turn] for same in of_time.values() if len(same) == 2 for turn in (0, 1)}
    waiting = [position for same in of_time.values() for position in same]
    while waiting:
        found: dict[int, bool] = {}
        for position in waiting:
            said = {
                is_later
                for is_later in (False, True)
                for other in beside[position]
                if (other in later or _time(rows, other).instants == 1)
                and abs(_instant(rows, position, is_later) - _instant(rows, other, later.get(other, False)))
                == HALF_HOUR
                and later.get(twin.get(position, -1)) is not is_later
            }
            if position in twin and twin[position] in later:
                said = {not later[twin[position]]}
            if len(said) == 1:
                found[position] = said.pop()
        # Of two rows that claim one hour neither is told.
        found = {each: said for each, said in found.items() if found.get(twin.get(each, -1)) is not said}
        if not found:
            break
        later |= found
        waiting = [position for position in waiting if position not in later]
    return later


def _instant(rows: list[Row], position: int, is_later: bool) -> int:
    return _time(rows, position).utc + (HOUR if is_later else 0)


def _side(rows: list[Row], positions: list[int], position: int) -> bool | None:
    """Whether a row in the repeated hour, the only one of its time, is of the later hour: so if the file goes on after
    the hour and does not come before it. None if nobody can tell."""
    day = _time(rows, position).start // DAY * DAY
    starts = {_time(rows, each).start for each in positions}
    before, after = day + HALF_HOUR in starts, day + 2 * HOUR in starts
    return after if before is not after else None


def judge_repeats(rows: list[Row], positions: list[int]) -> None:
    """Reject what a file says once too often of one meterpoint.

    A local time may have one row, two in the repeated hour. Of more rows with one consumption the surplus is rejected;
    where they differ nobody can tell which is right, and all are rejected. Rows without a plausible consumption
    contradict no other.
    """
    of_time: dict[int, list[int]] = defaultdict(list)
    for position in positions:
        of_time[_time(rows, position).start].append(position)
    for same in of_time.values():
        good = [position for position in same if rows[position].reason is None]
        instants = _time(rows, same[0]).instants
        if len(good) <= instants:
            if len(same) > 2 and len(good) == 2:
                time = _time(rows, good[1])
                rows[good[1]] = rows[good[1]]._replace(time=time._replace(utc=time.utc + HOUR))
            continue
        if len({rows[position].consumption_kwh for position in good}) > 1:
            for position in good:
                rows[position] = rows[position]._replace(reason="conflicting_readings")
            continue
        for turn, position in enumerate(good):
            if turn >= instants:
                rows[position] = rows[position]._replace(reason="duplicate_reading")
            elif turn == 1 and len(good) > 2:
                time = _time(rows, position)
                rows[position] = rows[position]._replace(time=time._replace(utc=time.utc + HOUR))


# --- whole meterpoint-days ------------------------------------------------------------------------------------------


def hold_days(rows: list[Row], positions: list[int]) -> None:
    """Reject whole days of one meterpoint on which rows are off the grid of half hours, or no household can use what
    they say: the day's other rows are then in the wrong unit, too, or only seem to make it complete."""
    days: dict[int, list[int]] = defaultdict(list)
    for position in positions:
        days[_time(rows, position).start // DAY].append(position)
    for of_day in days.values():
        good = [position for position in of_day if rows[position].reason is None]
        off_grid = [position for position in good if not _time(rows, position).on_grid]
        kwh = [rows[position].consumption_kwh or 0.0 for position in good]
        absurd = [position for position in good if (rows[position].consumption_kwh or 0.0) > MAX_KWH]
        if off_grid:
            minutes = {_time(rows, position).start // MINUTE % 60 for position in off_grid}
            whole = all(_time(rows, position).start % MINUTE == 0 for position in off_grid)
            quarters = len(off_grid) > 1 and whole and minutes <= {15, 45}
            guess: RowReason = "day_of_quarter_hours" if quarters else "day_off_the_grid"
            _hold(rows, good, guess, {} if quarters else dict.fromkeys(off_grid, "interval_start_not_a_half_hour"))
        elif unit := _unit(rows, good, kwh):
            _hold(rows, good, unit, {})
        elif absurd:
            _hold(rows, good, "day_with_absurd_values", dict.fromkeys(absurd, "consumption_absurd"))


def _unit(rows: list[Row], good: list[int], kwh: list[float]) -> RowReason | None:
    """What a day's values are in place of kWh a half hour, if that can be guessed."""
    few = len(kwh) < FEW_ROWS
    if len(kwh) < 3 or max(kwh) <= (MAX_KWH if few else ONE_PHASE):
        return None
    middle = median(kwh)
    if middle <= ONE_PHASE:
        return None
    if is_rising([(_time(rows, position).utc, each) for position, each in zip(good, kwh, strict=True)]):
        return "day_of_register_values"
    if middle > THREE_PHASES or (not few and all(each == int(each) for each in kwh)):
        return "day_in_watt_hours"
    return None


def is_rising(values: Iterable[tuple[int, float]]) -> bool:
    """Whether values by time never fall, and are not all the same: a register, and not its difference."""
    in_order = [value for _, value in sorted(values)]
    return all(a <= b for a, b in pairwise(in_order)) and in_order[0] < in_order[-1]


def _hold(rows: list[Row], positions: list[int], reason: RowReason, own: "dict[int, RowReason]") -> None:
    for position in positions:
        rows[position] = rows[position]._replace(reason=own.get(position, reason))
