"""One file a date in place of one of each task.

Each task writes what it has read, so a date has some files of each, and who asks for one meterpoint's year would open
all of them to find it in one. They are sorted by meterpoint, so they are merged while they are read, and a row group of
each is in memory.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from operator import methodcaller

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem
from pyspark import TaskContext

from jobs.readings.ingest import (
    CLAIMS_SCHEMA,
    ORDER_OF_CLAIMS,
    ORDER_OF_READINGS,
    PARQUET,
    READINGS_SCHEMA,
    ROW_GROUP,
    Place,
)

MOST_PARTS = 16  # become one file
# Row groups of a large file are larger: a reader looks at what is told of each, and skips pages in the one it needs.
ROW_GROUPS, LARGEST_ROW_GROUP = 40, 500_000


def join_date(place: Place, day: str) -> list[str]:
    """Write what tasks wrote of a date once more, as few files. Returns paths of the files that are not needed then.

    These stay until all dates are done: a task that is tried again reads them again, and deletes what it had begun.
    """
    context = TaskContext.get()
    attempt = context.attemptNumber() if context else 0
    not_needed = []
    for root, schema, order in (
        (place.readings, READINGS_SCHEMA, ORDER_OF_READINGS),
        (place.claims, CLAIMS_SCHEMA, ORDER_OF_CLAIMS),
    ):
        folder = f"{root}/date={day}/load={place.load_id}"
        found = place.lake.get_file_info(FileSelector(folder, allow_not_found=True))
        for info in found:
            if info.base_name.startswith("joined-"):
                place.lake.delete_file(info.path)
        parts = sorted(info.path for info in found if info.base_name.startswith("part-"))
        for first in range(0, len(parts), MOST_PARTS):
            some = parts[first : first + MOST_PARTS]
            if len(some) > 1:
                _write_joined(place.lake, some, f"{folder}/joined-{first}-{attempt}.parquet", schema, order)
                not_needed += some
    return not_needed


def _write_joined(file_system: FileSystem, parts: list[str], path: str, schema: pa.Schema, order: list[str]) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(pq.ParquetFile(part, filesystem=file_system)) for part in parts]
        rows = sum(file.metadata.num_rows for file in files)
        size = min(max(ROW_GROUP, rows // ROW_GROUPS), LARGEST_ROW_GROUP)
        writer = stack.enter_context(pq.ParquetWriter(path, schema, filesystem=file_system, **PARQUET))
        for content in of_size(merged(map(_row_groups, files), order), size):
            writer.write_table(content, row_group_size=size)


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
