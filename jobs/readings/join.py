"""One file a date in place of one of each task.

Each task writes what it has read, so a date has some files of each, and who asks for one meterpoint's year would open
all of them to find it in one. They are sorted by meterpoint, so they are merged while they are read, and a row group of
each is in memory.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from math import ceil
from operator import methodcaller
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector
from pyspark import TaskContext

from jobs.readings.ingest import (
    CLAIMS_SCHEMA,
    CODED_READINGS,
    ORDER_OF_CLAIMS,
    ORDER_OF_READINGS,
    PARQUET,
    ROW_GROUP,
    Place,
)

MOST_PARTS = 16  # become one file
# Row groups of a large file are larger: a reader looks at what is told of each, and skips pages in the one it needs.
ROW_GROUPS, LARGEST_ROW_GROUP = 40, 500_000


class Parts(NamedTuple):
    """Files of a date that are to become one."""

    paths: list[str]
    folder: str
    joined: str  # what the name of that one begins with
    schema: pa.Schema
    order: list[str]


def parts_of(place: Place, day: str) -> list[Parts]:
    """What tasks wrote of a date, as files that are joined: some of many, and none of a single one."""
    found = []
    for root, schema, order in (
        (place.readings, CODED_READINGS, ORDER_OF_READINGS),
        (place.claims, CLAIMS_SCHEMA, ORDER_OF_CLAIMS),
    ):
        folder = f"{root}/date={day}/load={place.load_id}"
        files = place.lake.get_file_info(FileSelector(folder, allow_not_found=True))
        parts = sorted(info.path for info in files if info.base_name.startswith("part-"))
        number = ceil(len(parts) / MOST_PARTS)
        for each in range(number):
            some = parts[len(parts) * each // number : len(parts) * (each + 1) // number]
            if len(some) > 1:
                found.append(Parts(some, folder, f"joined-{each}-", schema, order))
    return found


def join(place: Place, parts: Parts) -> None:
    """Write files once more, as one. They stay until all are done: a task that is tried again reads them again, and
    deletes what it had begun."""
    context = TaskContext.get()
    attempt = context.attemptNumber() if context else 0
    for info in place.lake.get_file_info(FileSelector(parts.folder)):
        if info.base_name.startswith(parts.joined):
            place.lake.delete_file(info.path)
    with ExitStack() as stack:
        coded = [field.name for field in parts.schema if pa.types.is_dictionary(field.type)]
        files = [
            stack.enter_context(pq.ParquetFile(path, filesystem=place.lake, read_dictionary=coded))
            for path in parts.paths
        ]
        rows = sum(file.metadata.num_rows for file in files)
        size = min(max(ROW_GROUP, rows // ROW_GROUPS), LARGEST_ROW_GROUP)
        path = f"{parts.folder}/{parts.joined}{attempt}.parquet"
        writer = stack.enter_context(pq.ParquetWriter(path, parts.schema, filesystem=place.lake, **PARQUET))
        for content in of_size(merged(map(_row_groups, files), parts.order), size):
            writer.write_table(content.cast(parts.schema), row_group_size=size)
    # A process that waits for more work keeps what it held.
    pa.default_memory_pool().release_unused()


def _row_groups(file: pq.ParquetFile) -> Iterator[pa.Table]:
    return (file.read_row_group(number, use_threads=False) for number in range(file.num_row_groups))


def merged(parts: Iterable[Iterator[pa.Table]], order: list[str]) -> Iterator[pa.Table]:
    """The rows of all parts by meterpoint. Each part is tables that follow one another in that order.

    Rows of one meterpoint that are in one part are by `order`, which begins with `meterpoint_id`.
    """
    held = [(rows, rest) for rest in parts if (rows := next(rest, None)) is not None]
    while held:
        # What was not read yet is of this meterpoint, or of later ones.
        lasts = [rows["meterpoint_id"][-1].as_py() for rows, _ in held]
        last = min(lasts)
        ready, left = [], []
        for (rows, rest), own_last in zip(held, lasts, strict=True):
            # All of a part that ends here, whatever it holds: so there is an end, and no row is lost.
            end = (
                rows.num_rows
                if own_last == last
                else bisect_right(rows["meterpoint_id"], last, key=methodcaller("as_py"))
            )
            ready.append(rows.slice(0, end))
            following = rows.slice(end) if end < rows.num_rows else next(rest, None)
            if following is not None:
                left.append((following, rest))
        held = left
        yield pa.concat_tables(ready).sort_by([(name, "ascending") for name in order])


def of_size(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows as tables of `size` rows, and a last one of the rest."""
    rows = None
    for table in tables:
        rows = pa.concat_tables([rows, table]) if rows else table
        while rows.num_rows >= size:
            yield rows.slice(0, size)
            rows = rows.slice(size)
    if rows:
        yield rows
