"""Whole meterpoint-days: what their readings say about unit and grid together, though each alone may be plausible."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobs.readings.rules import DAY, HALF_HOUR, HOUR, MAX_KWH, RowReason, Warning

FUSE_KWH = 35  # in half an hour through 100 A on three phases of 230 V: 34.5
LARGE_KWH = 5  # 10 kW: now and then in any house, in none all day long
FEW, MANY = 4, 12  # readings of a day from which on they say something about it
WHOLE_DAY = 46  # half hours, of the shortest

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Noticed(NamedTuple):
    """Odd meterpoint-days of one meterpoint."""

    row: int  # position of one of its rows
    warning: Warning
    days: int


def judge_days(
    meterpoint: Integers, start: Integers, utc: Integers, kwh: Floats
) -> tuple[dict[int, RowReason], list[Noticed]]:
    """Why rows are held that are of a meterpoint-day at fault, by their position, and which meterpoint-days are odd.

    A row of the columns is a reading: the number of its meterpoint, the local time and the instant in microseconds,
    and kWh, NaN where a row off the half hours has none. The same meterpoint of another file has another number.
    """
    held: dict[int, RowReason] = {}
    found: list[Noticed] = []
    if not len(start):
        return held, found
    order = np.lexsort((utc, meterpoint))
    meterpoint, start, kwh = meterpoint[order], start[order], kwh[order]
    another = np.zeros(len(start), bool)  # the first row of a meterpoint
    another[0] = True
    another[1:] = meterpoint[1:] != meterpoint[:-1]
    days = start // DAY
    new = another.copy()
    new[1:] |= days[1:] != days[:-1]
    firsts = new.nonzero()[0]
    sizes = np.empty_like(firsts)
    sizes[:-1], sizes[-1] = firsts[1:] - firsts[:-1], len(start) - firsts[-1]
    falls = np.zeros(len(start), bool)
    falls[1:] = kwh[1:] < kwh[:-1]
    falls[new] = False
    never_fall = ~np.logical_or.reduceat(falls, firsts)
    hourly = ~np.logical_or.reduceat(start % HOUR != 0, firsts)
    off_grid = np.logical_or.reduceat(start % HALF_HOUR != 0, firsts)
    large = np.maximum.reduceat(kwh, firsts) > LARGE_KWH
    odd = off_grid | large | ((never_fall | hourly) & (sizes >= MANY))
    for day in odd.nonzero()[0]:
        rows = slice(firsts[day], firsts[day] + sizes[day])
        reason = _reason_to_hold(start[rows], kwh[rows], bool(never_fall[day]))
        if reason:
            held |= dict.fromkeys(order[rows].tolist(), reason)
        else:
            oddities = _oddities(start[rows], kwh[rows], bool(never_fall[day]))
            found += [Noticed(int(order[firsts[day]]), warning, 1) for warning in oddities]
    begins = another.nonzero()[0]
    ends = np.empty_like(begins)
    ends[:-1], ends[-1] = begins[1:] - 1, len(start) - 1
    shifted = (start[begins] % DAY == HALF_HOUR) & (start[ends] % DAY == 0) & (ends - begins >= WHOLE_DAY - 1)
    for first, last in zip(begins[shifted], ends[shifted], strict=True):
        days_of_it = int((start[last] - start[first]) // DAY + 1)
        found.append(Noticed(int(order[first]), "stamps_at_interval_end", days_of_it))
    return held, found


def _reason_to_hold(start: Integers, kwh: Floats, never_falls: bool) -> RowReason | None:
    off_grid = start % HALF_HOUR != 0
    if off_grid.any():
        often = len(start) >= FEW and off_grid.mean() >= 1 / 3 and not off_grid.all()
        if often and not (start % (HALF_HOUR // 2)).any():
            return "day_held_quarter_hours"
        return "day_held_minutes" if often and not (start % (HALF_HOUR // 30)).any() else "day_held_off_grid"
    # Not of zeros: a house that is empty, or heated by day, has many in any unit.
    used = np.minimum(kwh[kwh > 0], 1e300)  # so that the middle of two is no infinity
    middle = np.median(used) if len(used) >= FEW else 0
    if kwh.max() <= MAX_KWH and middle <= FUSE_KWH:
        return None
    if len(kwh) >= FEW and never_falls and kwh[-1] > kwh[0]:
        return "day_held_register"
    return "day_held_watt_hours" if middle > LARGE_KWH else "day_held_absurd"


def _oddities(start: Integers, kwh: Floats, never_falls: bool) -> list[Warning]:
    if len(start) < MANY:
        return []
    found: list[Warning] = []
    if not (start % HOUR).any():
        found.append("hourly_values")
    if never_falls and kwh[-1] > kwh[0]:
        found.append("rising_values")
    if not (kwh % 1).any() and np.median(kwh) > LARGE_KWH:
        found.append("whole_numbers")
    return found
