"""Which is which of the two hours from 01:00 on the Sunday in October on which clocks go back.

The file gives local times without an offset, so 01:00 and 01:30 stand in it twice. The rows beside them tell: a
reading has mostly the one half an hour before or after it as its neighbour, oldest first or newest first.
"""

from collections.abc import Sequence
from itertools import pairwise, product

from jobs.readings.rules import HALF_HOUR, HOUR, LocalTime


def told(times: Sequence[LocalTime]) -> tuple[list[int], bool]:
    """The instants of a meterpoint's readings, in file order, and whether the file tells them.

    `times` has each local time once, and those of one October's repeated hour once or twice. Where the file does not
    tell, a single one is the first, and two are first and second in file order.
    """
    places: dict[int, list[int]] = {}
    for place, time in enumerate(times):
        if time.instants == 2:
            places.setdefault(time.start, []).append(place)
    instants = [time.utc for time in times]
    if max(map(len, places.values())) == 1:
        return _by_the_hours_around(times, instants)

    scored = sorted((_score(instants, places, turns), turns) for turns in product((0, 1), repeat=len(places)))
    (second_best, _), (best, turns) = scored[-2:]
    chosen = _turned(instants, places, turns)
    # Equal times side by side mean that somebody sorted by the text: which one came first is the likely thing, no more.
    sorted_by_text = any(left.instants == 2 and left.start == right.start for left, right in pairwise(times))
    alone = any(not _close(chosen, place) for same in places.values() for place in same)
    if best == second_best or (alone and not sorted_by_text):
        return _turned(instants, places, (0,) * len(places)), False
    return chosen, not sorted_by_text


def around(time: LocalTime | None) -> tuple[int, ...]:
    """The instants of the last half hour before the repeated hour of a time, and of the first one after it."""
    return (time.utc - time.utc % HOUR - HALF_HOUR, time.utc - time.utc % HOUR + 2 * HOUR) if time else ()


def _by_the_hours_around(times: Sequence[LocalTime], instants: list[int]) -> tuple[list[int], bool]:
    """A file cut within the hour: with what is before, or with what is after, wherever in the file that stands."""
    [first] = {time.utc - time.utc % HOUR for time in times if time.instants == 2}
    before, after = first - HALF_HOUR in instants, first + 2 * HOUR in instants
    late = HOUR if after and not before else 0
    return [time.utc + (late if time.instants == 2 else 0) for time in times], before != after


def _turned(instants: list[int], places: dict[int, list[int]], turns: Sequence[int]) -> list[int]:
    """`instants` where for each local time the first in the file is the second hour (1) or the first (0)."""
    result = instants.copy()
    for same, turn in zip(places.values(), turns, strict=True):
        for number, place in enumerate(same):
            result[place] += HOUR * (number ^ turn)
    return result


def _score(instants: list[int], places: dict[int, list[int]], turns: Sequence[int]) -> int:
    result = _turned(instants, places, turns)
    return sum(abs(left - right) == HALF_HOUR for left, right in pairwise(result))


def _close(instants: list[int], place: int) -> bool:
    beside = instants[max(0, place - 1) : place] + instants[place + 1 : place + 2]
    return any(abs(instants[place] - other) == HALF_HOUR for other in beside)
