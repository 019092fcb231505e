"""Delete folders that no partition names any more.

A folder is kept for some time after another one took its place, since a query that began before may still read it.
Folders of runs that were killed or failed, which no partition ever named, go after the same time.
"""

import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType
from pyspark.sql import SparkSession

from jobs import tables
from jobs.landing import open_folder
from jobs.ledger import loads as ledger
from jobs.ledger.writer import started_at
from jobs.settings import Settings

LOAD_ID = r"\d{8}T\d{6}-\w+"


def collect(spark: SparkSession, settings: Settings, *, dry_run: bool = False) -> list[str]:
    """Delete what can be, and return it, as paths. To be called by the one writer only."""
    before = datetime.now(UTC) - timedelta(hours=settings.retention_hours)
    loads = tables.read_rows(spark, tables.LOADS, tables.all_locations(spark, tables.LOADS))
    finished = dict(zip(loads["load_id"].to_pylist(), loads["finished_at"].to_pylist(), strict=True))
    switched = ledger.switches(spark, finished)
    collected = []
    for table in (*tables.DATA, tables.LOADS, tables.PUBLISHING, *tables.OF_LOADS):
        root, live = tables.root_and_column(spark, table)[0], tables.all_locations(spark, table)
        file_system, root_folder = open_folder(root, settings.s3_endpoint)
        for partition, wrote in _folders(file_system, root_folder).items():
            value = partition.split("=", 1)[1]
            for position, load in enumerate(wrote):
                folder, location = (f"{place}/{partition}/load={load}" for place in (root_folder, root))
                later = wrote[position + 1 :]
                replaced = _replaced_at(load, location, live.get(value), switched.get((table, value)), later, finished)
                if replaced and replaced < before:
                    collected.append(folder)
                    if not dry_run:
                        file_system.delete_dir(folder)
    return collected + _staging(settings, before, dry_run=dry_run)


def _staging(settings: Settings, before: datetime, *, dry_run: bool) -> list[str]:
    """What tasks of runs that were killed have staged."""
    file_system, root = open_folder(f"{settings.warehouse}/staging", settings.s3_endpoint)
    loads = [(info.path, info.base_name.removeprefix("load=")) for info in _listed(file_system, root)]
    old = [path for path, load in loads if re.fullmatch(LOAD_ID, load) and started_at(load) < before]
    for path in old if not dry_run else ():
        file_system.delete_dir(path)
    return old


def _listed(file_system: FileSystem, root: str) -> list[FileInfo]:
    return list(file_system.get_file_info(FileSelector(root, allow_not_found=True)))


def _folders(file_system: FileSystem, root: str) -> dict[str, list[str]]:
    """The loads that have a folder of a table, in order, by partition (`date=2021-01-01`)."""
    found = set()
    for info in file_system.get_file_info(FileSelector(root, allow_not_found=True, recursive=True)):
        parts = info.path.removeprefix(f"{root}/").split("/")
        # Of a load, and not the folder of empty partitions.
        load = re.fullmatch(f"load=({LOAD_ID})", parts[1]) if len(parts) > 1 else None
        if load and (len(parts) > 2 or info.type == FileType.Directory):
            found.add((parts[0], load[1]))
    folders = defaultdict(list)
    for partition, load_id in sorted(found):
        folders[partition].append(load_id)
    return folders


def _replaced_at(
    load: str,
    location: str,
    live: str | None,
    switched: list[tuple[str, str]] | None,
    later: list[str],
    finished: dict[str, datetime],
) -> datetime | None:
    """When a folder ceased to be what its partition names; None if it has not, or nobody knows. `later` are the loads
    that wrote the partition after it."""
    if live and tables.is_same(live, location):
        return None
    named = [index for index, (_, folder) in enumerate(switched or []) if tables.is_same(folder, location)]
    if switched and named:
        after = switched[named[-1] + 1 :]
        # None after it, and not live: a run that was killed has switched the partition; the next one sees to it.
        return finished[after[0][0]] if after else None
    load = load.split("_")[0]
    if load in finished:
        # Of ops and quarantine switches are not recorded: the next one took its place. Or it never was published.
        return next((finished[each] for other in later if (each := other.split("_")[0]) in finished), finished[load])
    return started_at(load)
