"""In which partition of a table of loads the rows of a day are. `jobs/compact.py` folds days that are over.

A partition is named by the last day whose rows it may hold: its own, the last one of a month, or 31 December. So the
partitions from a day on hold all rows from that day on, and a partition whose day is too old holds nothing newer.
"""

from collections.abc import Iterable
from datetime import date, timedelta

GRACE = timedelta(days=2)  # a day that may still be looked at by itself, as what was rejected since yesterday


def last_of_month(day: date) -> date:
    """The last day of a day's month."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def last_of_year(day: date) -> date:
    """The last day of a day's year."""
    return date(day.year, 12, 31)


def partitions_of(days: Iterable[date]) -> set[str]:
    """The partitions in which rows of days may be; they may hold rows of others."""
    return {str(value) for day in days for value in (day, last_of_month(day), last_of_year(day))}


def last_that_is_over(today: date) -> date:
    """The last day of the newest month that is over, and has been for a while."""
    return (today - GRACE).replace(day=1) - timedelta(days=1)
