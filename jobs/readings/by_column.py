"""Files of which all rows are good and none is repeated, column by column. Nearly every file is like this, and many are
judged at once: row by row it takes ten times as long."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.readings.days import judge_days
from jobs.readings.parsed import GOOD, Document
from jobs.readings.rules import (
    COLUMNS,
    FORM,
    MAX_KWH,
    LocalTime,
    Warning,
    fault_of_id,
    is_text,
    local_time,
    quality,
    quality_column,
)


class Values(NamedTuple):
    """Columns of a file of which each value by itself is of the right kind. Times are not looked at."""

    starts: str  # one after another: all have the same length
    kwh: npt.NDArray[np.float64]
    meterpoints: list[str]
    qualities: list[str | None]
    modified_at: int  # microseconds UTC


class Judged(NamedTuple):
    """What was found of files, which are numbered from 0."""

    good: pa.Table  # rows of those that are plain, columns as of GOOD
    warnings: dict[int, Counter[Warning]]  # by file
    others: set[int]  # files that are to be judged row by row


def values(document: Document) -> Values | None:
    """The columns of a file, if it may be plain."""
    columns, data, modified_at = document
    width = len(columns)
    if set(map(type, data)) != {list} or set(map(len, data)) != {width}:  # or there is none
        return None
    cells = list(chain.from_iterable(data))
    starts, consumption, meterpoints = (cells[columns.index(name) :: width] for name in COLUMNS)
    if {*map(type, starts), *map(type, meterpoints)} != {str} or not set(map(type, consumption)) <= {float, int}:
        return None
    times = "".join(starts)
    if set(map(len, starts)) != {len(FORM)} or not times.isascii():
        return None
    if not all(is_text(name) and fault_of_id(name) is None for name in set(meterpoints)):
        return None
    qualities: list[str | None] = [None] * len(data)
    if column := quality_column(columns):
        qualities = [quality(value, column) for value in cells[columns.index(column) :: width]]
    try:
        return Values(times, np.array(consumption, np.float64), meterpoints, qualities, modified_at)
    except OverflowError:
        return None


def judge(files: Sequence[Values]) -> Judged:
    """The good rows of plain files, and which files are not plain."""
    others: set[int] = set()
    rows = [len(each.kwh) for each in files]
    modified_at = np.repeat(np.array([each.modified_at for each in files], np.int64), rows)
    kwh = np.concatenate([each.kwh for each in files])
    start, utc, is_plain = _times([each.starts for each in files])
    is_plain &= (kwh >= 0) & (kwh <= MAX_KWH) & (utc <= modified_at)  # NaN is neither
    good = pa.table(
        {
            "file": np.repeat(np.arange(len(files), dtype=np.int32), rows),
            "meterpoint_id": pa.array(chain.from_iterable(each.meterpoints for each in files), pa.string()),
            "interval_start": start,
            "interval_start_utc": utc,
            "consumption_kwh": kwh,
            "reading_quality": pa.array(chain.from_iterable(each.qualities for each in files), pa.string()),
        },
        schema=GOOD,
    )
    good, others = _without(good, others, ~is_plain)
    good, meterpoint = _by_meterpoint(good)
    is_repeated = np.zeros(good.num_rows, bool)
    is_repeated[1:] = (np.diff(meterpoint) == 0) & (np.diff(good["interval_start_utc"].to_numpy()) == 0)
    if is_repeated.any():
        good, others = _without(good, others, is_repeated)
        good, meterpoint = _by_meterpoint(good)
    held, noticed = judge_days(meterpoint, *(good[name].to_numpy() for name in GOOD.names[2:5]))
    warnings: dict[int, Counter[Warning]] = {}
    for each in noticed:
        warnings.setdefault(good["file"][each.row].as_py(), Counter())[each.warning] += each.days
    is_held = np.zeros(good.num_rows, bool)
    is_held[list(held)] = True
    good, others = _without(good, others, is_held)
    return Judged(good, {file: found for file, found in warnings.items() if file not in others}, others)


def _times(of_files: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Local times and instants (microseconds), and whether each is a time that occurs once. Files that come together
    have the same times, in the same order, so these are worked out once."""
    width, distinct = len(FORM), list(dict.fromkeys(of_files))
    each_time = (each[at : at + width] for each in distinct for at in range(0, len(each), width))
    told = pa.array(each_time, pa.string()).dictionary_encode()
    found = map(local_time, told.dictionary.to_pylist())
    times = np.array([each if isinstance(each, LocalTime) else (0, 0, 0) for each in found], np.int64)
    worked_out = times[told.indices.to_numpy()]
    ends = np.cumsum([len(each) // width for each in distinct])
    by_times = dict(zip(distinct, np.split(worked_out, ends[:-1]), strict=True))
    start, utc, instants = np.concatenate([by_times[each] for each in of_files]).T
    return start, utc, instants == 1


def _by_meterpoint(good: pa.Table) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The rows by file, meterpoint and time, and a number for each meterpoint of each file."""
    names = good["meterpoint_id"].combine_chunks().dictionary_encode()
    meterpoint = good["file"].to_numpy().astype(np.int64) * len(names.dictionary) + names.indices.to_numpy()
    order = np.lexsort((good["interval_start_utc"].to_numpy(), meterpoint))
    return good.take(order), meterpoint[order]


def _without(good: pa.Table, others: set[int], at_fault: npt.NDArray[np.bool_]) -> tuple[pa.Table, set[int]]:
    """The rows without files that have a row at fault, which are among the others then."""
    if not at_fault.any():
        return good, others
    files = good["file"].to_numpy()
    found = np.unique(files[at_fault])
    return good.filter(pa.array(~np.isin(files, found))), others | set(found.tolist())
