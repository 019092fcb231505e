"""Fold days that are over into months, and months into years, in the tables of which each load writes a day.

Each load opens all partitions of some of these tables, and a load a day makes 3,650 of them in ten years. So the first
load after the end of a month folds its days into one partition, and in January the months of the year. Tables of which
a month is large stay by day: to open their files is little beside reading them. What a setting keeps for some months
only stays by day, too, so that each day goes when it is too old.

All partitions of a table are switched in one call: readers see the days or the month. What is replaced is recorded in
ops.publications first, so that `jobs/collect.py` deletes it when nobody can be reading it any more. A run that is
killed here has changed no row. The next load finds what is still by day, and folds it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from itertools import accumulate
from typing import NamedTuple

from pyspark.sql import SparkSession

from jobs import tables
from jobs.ledger import loads as ledger
from jobs.ledger.days import last_of_month, last_of_year, last_that_is_over
from jobs.ledger.writer import day_of, publish
from jobs.settings import Settings
from jobs.tables import (
    LOADS,
    OF_LOADS,
    PUBLICATIONS,
    REJECTED_FILES,
    REJECTED_READINGS,
    REJECTED_REFERENCE,
    SUPERSEDED,
    Locations,
)

# Bytes of Parquet up to which days are folded into a month, and months into a year.
OF_MONTH, OF_YEAR = 64 * 1024 * 1024, 256 * 1024 * 1024
MOST = 1_000  # partitions that a load folds: an embedded metastore takes some tens of milliseconds for each
FOLDED = "folded"  # mark on ops.loads: the last day up to which all was folded that is to be


class Fold(NamedTuple):
    """Partitions of a table that become one."""

    table: str
    value: str  # partition that is to hold all of them
    folder: str  # where it will be
    parts: Locations  # where they are now


def compact(spark: SparkSession, settings: Settings, load_id: str) -> None:
    """Fold what is over, once a month. To be called by the load that is the writer, when it is recorded."""
    until = last_that_is_over(day_of(load_id))
    done = tables.marked(spark, LOADS, FOLDED) or ""
    if str(until) <= done:
        return
    live = {
        table: {day: folder for day, folder in tables.all_locations(spark, table).items() if day <= str(until)}
        for table in (*OF_LOADS, LOADS)
    }
    by_day = kept_for_some_months(settings)
    wanted = [
        fold
        for table, parts in live.items()
        if table not in by_day
        for fold in _folds(spark, table, parts, until, done, load_id)
    ]
    folds = some_of(wanted)
    _record(spark, folds, load_id)
    for table, parts in live.items():
        _switch(spark, table, [fold for fold in folds if fold.table == table], load_id)
        tables.drop_empty(spark, table, parts)  # what was folded, and days that are kept no longer
    if len(folds) == len(wanted):
        tables.mark(spark, LOADS, FOLDED, str(until))


def some_of(folds: Collection[Fold]) -> list[Fold]:
    """As many as one load does, the oldest first. A lakehouse that has not folded for years takes some loads for it."""
    oldest_first = sorted(folds, key=lambda fold: fold.value)
    switched = accumulate(len(fold.parts) for fold in oldest_first)
    return [fold for fold, number in zip(oldest_first, switched, strict=True) if number <= MOST] or oldest_first[:1]


def kept_for_some_months(settings: Settings) -> set[str]:
    """Tables of which a setting says how long rows are kept."""
    limits = {
        (REJECTED_READINGS, REJECTED_FILES, REJECTED_REFERENCE): settings.keep_quarantine_months,
        (SUPERSEDED,): settings.keep_superseded_months,
    }
    return {table for names, months in limits.items() if months for table in names}


def groups(sizes: Mapping[str, int], until: date, done: str) -> dict[str, list[str]]:
    """Which partitions become which one, by their bytes. `done` is the day up to which this was asked before, as text.

    A year that is over is folded if it is small, else those of its months that are.
    """
    by_year: dict[date, list[str]] = defaultdict(list)
    for value in sorted(sizes):
        by_year[last_of_year(date.fromisoformat(value))].append(value)
    found: dict[str, list[str]] = {}
    for year, values in by_year.items():
        if year <= until and str(year) > done and sum(sizes[value] for value in values) <= OF_YEAR:
            found[str(year)] = values
            continue
        by_month: dict[date, list[str]] = defaultdict(list)
        for value in values:
            by_month[last_of_month(date.fromisoformat(value))].append(value)
        found |= {
            str(month): days
            for month, days in by_month.items()
            if str(month) > done and sum(sizes[day] for day in days) <= OF_MONTH
        }
    return {value: parts for value, parts in found.items() if len(parts) > 1}


def _folds(spark: SparkSession, table: str, parts: Locations, until: date, done: str, load_id: str) -> Iterator[Fold]:
    # Years that ended before were looked at when they did.
    open_since = f"{max(done, '0000')[:4]}-01-01"
    full = {day: folder for day, folder in parts.items() if not tables.is_empty(folder) and day >= open_since}
    sizes = dict(zip(full, tables.sizes(spark, full), strict=True))
    root, column = tables.root_and_column(spark, table)
    for value, days in groups(sizes, until, done).items():
        folder = ledger.free_folder(parts.get(value), load_id)
        yield Fold(table, value, tables.folder_of(root, column, value, folder), {day: full[day] for day in days})


def _record(spark: SparkSession, folds: Collection[Fold], load_id: str) -> None:
    """Say what will be replaced, before it is: folders that nobody recorded would never be deleted."""
    rows = [
        {"table_name": fold.table, "partition_value": day, "replaced_folder": folder}
        | {"folder": fold.folder if day == fold.value else None}
        for fold in folds
        for day, folder in ({fold.value: None} | fold.parts).items()
    ]
    ledger.append_rows(spark, rows, PUBLICATIONS, load_id)


def _switch(spark: SparkSession, table: str, folds: Collection[Fold], load_id: str) -> None:
    root, column = tables.root_and_column(spark, table)
    # Spark asks for names of partitions first, and then for these partitions. A reader who asked before must know the
    # name under which all will be afterwards.
    there = tables.locations(spark, table, [fold.value for fold in folds])
    missing = {fold.value for fold in folds} - there.keys()
    publish(spark, table, {value: tables.folder_of(root, column, value) for value in missing}, load_id)
    # Rows of runs that died go here: later they could not be told by their folder.
    happened = ledger.is_of(ledger.recorded_loads(spark)) if folds and table != LOADS else None
    new: Locations = {}
    for fold in folds:
        new |= {day: tables.folder_of(root, column, day) for day in fold.parts}
        new |= tables.join(spark, table, fold.parts, fold.value, tables.folder_id(fold.folder), happened)
    publish(spark, table, new, load_id)
