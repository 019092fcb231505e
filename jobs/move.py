"""A lakehouse whose folder was copied or moved: the metastore still names the old place."""

from pyspark.sql import SparkSession

from jobs import tables
from jobs.errors import LakeError
from jobs.settings import Settings
from jobs.tables import LOADS


def require_place(spark: SparkSession, settings: Settings) -> None:
    """Raises LakeError if the tables are not in LAKE_WAREHOUSE, where a run would write, or if their files are gone: a
    run would take the lakehouse for a new one."""
    place = place_of_tables(spark)
    if place and not tables.is_same(place, settings.warehouse):
        raise LakeError(
            f"the tables are in {place}, and LAKE_WAREHOUSE is {settings.warehouse}: set it to where they are, or, if"
            " that folder was moved here, run `lake move`"
        )
    recorded = tables.all_locations(spark, LOADS) if place else {}
    newest = {day: recorded[day] for day in sorted(recorded)[-1:] if not tables.is_empty(recorded[day])}
    if tables.without_files(spark, newest):
        raise LakeError(
            f"the metastore names tables in {settings.warehouse}, and their files are not there: mount it, or, if it"
            " was moved, set LAKE_WAREHOUSE and run `lake move`"
        )


def place_of_tables(spark: SparkSession) -> str | None:
    """Warehouse in which the tables are, None if there are none."""
    if not tables.exists(spark, LOADS):
        return None
    return tables.root_and_column(spark, LOADS)[0].removesuffix("/ops/loads")


def run(spark: SparkSession, settings: Settings) -> str:
    """Have the metastore name the warehouse of the settings in place of the old one, which is returned.

    No file is copied or deleted. Raises LakeError where the new place does not have them, or none are elsewhere.
    """
    old, new = place_of_tables(spark), settings.warehouse
    if not old or tables.is_same(old, new):
        raise LakeError(f"the tables are in {new} already")
    live = {table: tables.all_locations(spark, table) for table in tables.ALL}
    moved = {
        table: {value: _moved(folder, old, new) for value, folder in found.items()} for table, found in live.items()
    }
    if not any(not tables.is_empty(folder) for folder in moved[LOADS].values()) or tables.without_files(
        spark, moved[LOADS]
    ):
        raise LakeError(f"{new} does not have the files of {old}: move or copy the folder first")
    # Schemas keep their old place, which an embedded metastore cannot change: each table names its own.
    for table, folders in moved.items():
        spark.sql(f"ALTER TABLE {tables.stored(table)} SET LOCATION '{new}/{table.replace('.', '/')}'")
        tables.forms_changed()
        tables.publish(spark, table, folders)
    return old


def _moved(folder: str, old: str, new: str) -> str:
    inside = tables.plain(folder).removeprefix(f"{tables.plain(old)}/")
    return f"{new}/{inside}" if inside != tables.plain(folder) else folder
