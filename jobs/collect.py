"""Delete folders that no partition names any more.

A folder is kept for some time after another one took its place, since a query that began before may still read it.
Folders of runs that were killed or failed, which no partition ever named, go after the same time.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType
from pyspark.sql import SparkSession

from jobs import tables
from jobs.ledger import loads as ledger
from jobs.ledger.writer import day_of, started_at
from jobs.settings import Settings
from jobs.stores import open_folder
from jobs.tables import LOADS, PUBLICATIONS, PUBLISHING, Locations

LOAD_ID = r"\d{8}T\d{6}-\w+"
# Each load writes its day of these tables anew. Their switches are not recorded, but for those of jobs/compact.py.
OF_DAYS = (LOADS, PUBLISHING, *tables.OF_LOADS)
COLLECTED = "collected"  # mark on ops.loads: what loads up to this one replaced is deleted
NONE_YET = "0"  # before all ids of loads

Switches = Mapping[tuple[str, str], list[tuple[str, str]]]
Folded = Mapping[tuple[str, str, str], str]  # loads that folded folders of days, by table, partition and folder's id


def sweep(spark: SparkSession, settings: Settings) -> list[str]:
    """`collect` at once, whatever is to be kept for how long: old folders hold what was erased."""
    return collect(spark, settings, before=datetime.now(UTC) + timedelta(days=1))


def collect(
    spark: SparkSession, settings: Settings, *, dry_run: bool = False, before: datetime | None = None
) -> list[str]:
    """Delete what can be, and return it, as paths. All of the warehouse is listed. To be called by the writer only."""
    before = before or _kept_since(settings)
    finished = _finished(spark, NONE_YET)
    switched = ledger.switches(spark, finished)
    folded = _folded(spark, tables.all_locations(spark, PUBLICATIONS))
    collected = [path for path, load in _old_stagings(settings, before) if _is_put_right(load, finished, before)]
    for table in (*tables.DATA, *OF_DAYS, tables.PERIODS):
        collected += _left_behind(spark, settings, table, None, switched, folded, finished, before)
    if not dry_run:
        _delete(settings, collected)
        _keep_mark(spark, finished, before)
    return collected


def collect_replaced(spark: SparkSession, settings: Settings) -> list[str]:
    """Delete what loads replaced since the last collection, by their records: that costs what they switched.

    Where a load failed or was killed there may be folders that nobody named: then all of the warehouse is listed.
    """
    before = _kept_since(settings)
    mark = tables.marked(spark, LOADS, COLLECTED)
    if not mark or _old_stagings(settings, before):
        return collect(spark, settings)
    finished = _finished(spark, mark)
    done = {load for load, at in finished.items() if load > mark and at < before}
    if not done:
        return []
    collected = _replaced(spark, settings, mark, done)
    folded = _folded(spark, _days_since(spark, PUBLICATIONS, mark))
    # Days on which loads wrote, also those that were folded since.
    written = {str(day_of(load)) for load in finished if load[:8] >= mark[:8]}
    for table in OF_DAYS:
        days = written | _days_since(spark, table, mark).keys()
        collected += _left_behind(spark, settings, table, days, {}, folded, finished, before)
    collected = list(dict.fromkeys(collected))
    _delete(settings, collected)
    _keep_mark(spark, finished, before)
    return collected


def _kept_since(settings: Settings) -> datetime:
    return datetime.now(UTC) - timedelta(hours=settings.retention_hours)


def _keep_mark(spark: SparkSession, finished: dict[str, datetime], before: datetime) -> None:
    old = [load for load, at in finished.items() if at < before]
    tables.mark(spark, LOADS, COLLECTED, max([tables.marked(spark, LOADS, COLLECTED) or NONE_YET, *old]))


def _finished(spark: SparkSession, mark: str) -> dict[str, datetime]:
    """When loads ended, those of the mark's day and later."""
    loads = tables.read_rows(spark, LOADS, _days_since(spark, LOADS, mark))
    return dict(zip(loads["load_id"].to_pylist(), loads["finished_at"].to_pylist(), strict=True))


def _days_since(spark: SparkSession, table: str, mark: str) -> Locations:
    """Where the days of a table are from the mark's on, and what is not of a day."""
    first = "" if mark == NONE_YET else str(day_of(mark))
    return {day: folder for day, folder in tables.all_locations(spark, table).items() if day >= first}


def _folded(spark: SparkSession, days: Locations) -> Folded:
    """Which loads folded which folders, as the records of some days have it; of several the last one, for a load that
    was killed before it switched them named them, too."""
    of_days = pc.field("table_name").isin(OF_DAYS) & pc.field("replaced_folder").is_valid()
    return {
        (row["table_name"], row["partition_value"], tables.folder_id(row["replaced_folder"])): row["load_id"]
        for row in tables.read_rows(spark, PUBLICATIONS, days, of_days).sort_by("load_id").to_pylist()
        if not row["folder"] or not tables.is_empty(row["folder"])  # or else it is of a day that is kept no longer
    }


def _replaced(spark: SparkSession, settings: Settings, mark: str, done: set[str]) -> list[str]:
    """Folders that the loads replaced, if no later load switched to or from them, and no partition names them."""
    days = _days_since(spark, PUBLICATIONS, mark)
    replaced: dict[str, set[tuple[str, str]]] = defaultdict(set)  # partition value and id of the folder, by table
    later = set()
    for row in tables.read_rows(spark, PUBLICATIONS, days, pc.field("load_id") > mark).to_pylist():
        table, value, folders = row["table_name"], row["partition_value"], (row["replaced_folder"], row["folder"])
        if row["load_id"] not in done:
            later |= {(table, value, tables.folder_id(folder)) for folder in folders if folder}
        elif table in (*tables.DATA, *OF_DAYS):
            # A run that was killed while it folded days never switched to the folder that it named.
            ended = folders if table in OF_DAYS else folders[:1]
            replaced[table] |= {(value, tables.folder_id(each)) for each in ended if each and not tables.is_empty(each)}
    found = []
    for table, folders_of in replaced.items():
        root, column = tables.root_and_column(spark, table)
        live = tables.locations(spark, table, {value for value, _ in folders_of})
        for value, wrote in sorted(folders_of):
            # Where the folder is now: the warehouse may have been moved since.
            folder = tables.folder_of(root, column, value, wrote)
            if (table, value, wrote) not in later and not tables.is_same(folder, live.get(value, "")):
                found.append(open_folder(folder, settings.s3_endpoint)[1])
    return found


def _left_behind(
    spark: SparkSession,
    settings: Settings,
    table: str,
    values: Collection[str] | None,
    switched: Switches,
    folded: Folded,
    finished: dict[str, datetime],
    before: datetime,
) -> list[str]:
    """Folders of a table, of all partitions or of the given ones, which ceased to be live before a time."""
    root, column = tables.root_and_column(spark, table)
    live = tables.all_locations(spark, table)
    file_system, root_folder = open_folder(root, settings.s3_endpoint)
    found = []
    for value, wrote in _folders(file_system, root_folder, column, values).items():
        for position, load in enumerate(wrote):
            folder, location = (tables.folder_of(place, column, value, load) for place in (root_folder, root))
            later = wrote[position + 1 :]
            if (by := folded.get((table, value, load))) and not tables.is_same(live.get(value, ""), location):
                replaced = finished.get(by)
            else:
                replaced = _replaced_at(load, location, live.get(value), switched.get((table, value)), later, finished)
            if replaced and replaced < before:
                found.append(folder)
    return found


def _delete(settings: Settings, folders: list[str]) -> None:
    file_system, _ = open_folder(settings.warehouse, settings.s3_endpoint)
    for folder in folders:
        if file_system.get_file_info(folder).type == FileType.Directory:
            file_system.delete_dir(folder)


def _old_stagings(settings: Settings, before: datetime) -> list[tuple[str, str]]:
    """What runs that failed or were killed staged, at least the mark that they had begun: its folder, and the load."""
    file_system, root = open_folder(f"{settings.warehouse}/staging", settings.s3_endpoint)
    loads = [(info.path, info.base_name.removeprefix("load=")) for info in _listed(file_system, root)]
    return [(path, load) for path, load in loads if re.fullmatch(LOAD_ID, load) and started_at(load) < before]


def _is_put_right(load: str, finished: dict[str, datetime], before: datetime) -> bool:
    """Whether a run that failed or was killed left nothing that the next collection would not find by records.

    The load after a killed one makes anew what that had switched, and records the killed run's folders as replaced.
    What was there before them is found by the listing alone, once that load ended long enough ago.
    """
    return load in finished or any(load < other and at < before for other, at in finished.items())


def _listed(file_system: FileSystem, folder: str, *, recursive: bool = False) -> list[FileInfo]:
    return list(file_system.get_file_info(FileSelector(folder, allow_not_found=True, recursive=recursive)))


def _folders(file_system: FileSystem, root: str, column: str, values: Collection[str] | None) -> dict[str, list[str]]:
    """The loads that have a folder of a table, in order, by partition value; of all partitions if none are given."""
    places = [root] if values is None else [f"{root}/{column}={value}" for value in values]
    found = set()
    # Of a load, and not the folder of empty partitions.
    form = re.compile(f"{column}=([^/]+(?:{tables.LATE})?)/load=({LOAD_ID})(/|$)")
    for info in (info for place in places for info in _listed(file_system, place, recursive=values is None)):
        folder = form.match(info.path.removeprefix(f"{root}/"))
        if folder and (folder[3] or info.type == FileType.Directory):
            found.add((folder[1], folder[2]))
    folders = defaultdict(list)
    for value, load_id in sorted(found):
        folders[value].append(load_id)
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
        # No later switch is recorded, yet the partition names another folder: a killed run switched it. This folder is
        # kept, for the next load puts the partition right.
        return finished[after[0][0]] if after else None
    load = load.split("_")[0]
    if load in finished:
        # Of ops and quarantine switches are not recorded: the next one took its place. Or it never was published.
        return next((finished[each] for other in later if (each := other.split("_")[0]) in finished), finished[load])
    return started_at(load)
