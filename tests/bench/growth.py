"""Whether a load takes longer the more there is: one new day and a new snapshot onto lakehouses of some and many days.

    python -m tests.bench.growth --days 10 --days 1000 --days 3650

How the lakehouses are made: one real load brings a day of readings and a snapshot. All that this load left is then
written again for each day before it, by the functions that a load writes with: its partitions, its rows of ops with ids
of loads at six in the morning, its pages and results of checks. So each day has the readings of the first one, the sums
by year are those of all of these days, and days on which the clock changes have 48 half hours as all others. What was
replaced by later loads of a day is not there, and of files only the newest are in the landing place, as if the sender
took the older ones away. Then all is folded that loads would have folded month by month.

Then real loads, each in a process of its own, bring one new day and a snapshot with one more meterpoint.
The first of them is told apart: it may have to tidy up. Of the others medians are told.
"""

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from shutil import copyfile
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import typer
from pyspark.sql import SparkSession

from jobs import compact, tables
from jobs.sample import write_sample
from jobs.settings import Settings
from jobs.spark import start_session
from jobs.tables import Locations
from tests.bench import scale
from tests.bench.scale import PLACES

METERPOINTS = 20
AT_ONCE = 500  # partitions that one call of the metastore switches
BY_DATE = (
    "silver.readings",
    "ops.claims",
    "mart.daily_meterpoint_consumption",
    "silver.agreement_history",
    "silver.product_history",
    "silver.meterpoint_history",
)
OF_LOADS = ("ops.loads", "ops.load_files", "ops.validations", "ops.publications")


def main(
    days: Annotated[list[int], typer.Option(min=2, help="Days that a lakehouse has; more than once")],
    rounds: Annotated[int, typer.Option(min=2, help="Loads, the first one included")] = 4,
    folder: Annotated[
        Path | None, typer.Option(help="Where the lakehouses are made and stay; one that is there is taken")
    ] = None,
) -> None:
    found: dict[int, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="growth-") as temporary:
        for count in days:
            lake = (folder or Path(temporary)) / str(count)
            first = datetime.now(UTC).date() - timedelta(days=rounds + 1)
            if not lake.exists():
                subprocess.run([sys.executable, "-m", "tests.bench.growth", "make", str(count), str(first)],
                               env=environment(lake), check=True, timeout=7200)  # fmt: skip
            found[count] = []
            for number in range(1, rounds + 1):
                deliver(lake, first + timedelta(days=number), number)
                found[count].append(loaded(lake))
                print(f"{count} days, load {number}: {found[count][-1]}", flush=True)
    table(found)


def environment(lake: Path) -> dict[str, str]:
    return os.environ | {name: str(lake / place) for name, place in PLACES.items()}


def deliver(lake: Path, day: date, number: int) -> None:
    """The files of a day, in place of those before, and a snapshot in which one more meterpoint is supplied."""
    landing, made = lake / "landing", lake / f"made-{day}"
    write_sample(made, meterpoints=METERPOINTS, days=1, start=day)
    landing.mkdir(parents=True, exist_ok=True)
    if (landing / "readings").exists():
        (landing / "readings").rename(lake / f"taken-{day}")
    (made / "readings").rename(landing / "readings")
    if not number:
        (made / "case_study.db").rename(landing / "case_study.db")
    else:
        with closing(sqlite3.connect(landing / "case_study.db")) as connection, connection:
            connection.execute("INSERT INTO meterpoint VALUES ('London', ?)", (f"joined-{number}",))
            connection.execute(
                "INSERT INTO agreement SELECT max(agreement_id) + 1, ?, NULL, max(product_id), ?, 'account'"
                " FROM agreement",
                (str(day), f"joined-{number}"),
            )
    for path in (landing / "readings").rglob("*.json*"):
        path.rename(path.with_name(f"{day}-{path.name}"))


def loaded(lake: Path) -> dict[str, float]:
    """Seconds by stage of one load in a fresh process, then all of them, and those of processors."""
    said = scale.loaded(lake)
    if said["readings"] != 48 * METERPOINTS:
        raise SystemExit(f"the load took {said['readings']} readings")
    stages: dict[str, float] = said["stages"]
    return stages | {"all, with Python's start": said["seconds"], "of processors": said["processor_seconds"]}


def table(found: dict[int, list[dict[str, float]]]) -> None:
    """Seconds by stage: of the first load, and medians of the others."""
    print("\n| seconds | " + " | ".join(f"{count:,} days: first, later" for count in found) + " |")
    print("|---|" + "---|" * len(found))
    for stage in next(iter(found.values()))[0]:
        cells = []
        for loads in found.values():
            later = statistics.median(load.get(stage, 0) for load in loads[1:])
            cells.append(f"{loads[0].get(stage, 0):.1f}, {later:.1f}")
        print(f"| {stage} | " + " | ".join(cells) + " |")


# --- making a lakehouse -----------------------------------------------------------------------------------------------


def make(lake: Path, count: int, newest: date) -> None:
    """One real load of a day, and the same for the days before it."""
    deliver(lake, newest, 0)
    earlier = datetime.now(UTC) - timedelta(days=2)
    os.utime(lake / "landing" / "case_study.db", (earlier.timestamp(), earlier.timestamp()))
    loaded(lake)
    settings = Settings()
    spark = start_session(settings)
    (load_id,) = (row.load_id for row in spark.table("ops.loads").collect())
    days = [newest - timedelta(days=number) for number in range(1, count)]
    for name in BY_DATE:
        clone(spark, name, load_id, [(str(day), day) for day in days], newest)
    for name in OF_LOADS:
        clone(spark, name, load_id, [(str(began(day).date()), day) for day in days], newest)
    for name in tables.BY_YEAR:
        clone_years(spark, name, load_id, days, newest)
    # That load saw no days to fold.
    spark.sql(f"ALTER TABLE {tables.LOADS} UNSET TBLPROPERTIES IF EXISTS ('lake.{compact.FOLDED}')")
    while not tables.marked(spark, tables.LOADS, compact.FOLDED):
        compact.compact(spark, settings, load_id)
    spark.stop()
    for day in days:
        copy_reports(settings.reports, load_id, load_of(day))


def began(day: date) -> datetime:
    """When a day's load began."""
    return datetime.combine(day + timedelta(days=1), time(6), UTC)


def load_of(day: date) -> str:
    return f"{began(day):%Y%m%dT%H%M%S}-abcdef"


def clone(spark: SparkSession, table: str, load_id: str, parts: list[tuple[str, date]], newest: date) -> None:
    """The only partition of a table once more for each of the given ones, with the day it is of."""
    ((_, location),) = tables.all_locations(spark, table).items()
    rows = tables.read_rows(spark, table, {"the first": location})
    new: Locations = {}
    for value, day in parts:
        moved = as_if(rows, load_id, day, newest)
        new |= tables.write_rows(spark, moved, table, load_of(day), value)
    metadata, (schema, name) = tables._table_metadata(spark, table), tables.stored(table).split(".")
    for some in in_parts(new):
        # As tables.publish does, but in one step: nobody reads meanwhile.
        tables._catalog(spark).createPartitions(schema, name, tables._partitions(spark, table, metadata, some), False)
    print(f"{table}: {len(new)} partitions", flush=True)


def clone_years(spark: SparkSession, table: str, load_id: str, days: list[date], newest: date) -> None:
    rows = tables.read_rows(spark, table, tables.all_locations(spark, table))
    for year in sorted({day.year for day in [newest, *days]}):
        of_year = [as_if(rows, load_id, day, newest) for day in [*reversed(days), newest] if day.year == year]
        places = tables.write_rows(spark, pa.concat_tables(of_year), table, f"{load_id}_1", str(year))
        tables.publish(spark, table, places)


def in_parts(locations: Locations) -> Iterator[Locations]:
    items = list(locations.items())
    for start in range(0, len(items), AT_ONCE):
        yield dict(items[start : start + AT_ONCE])


def as_if(rows: pa.Table, load_id: str, day: date, newest: date) -> pa.Table:
    """Rows of the load of the newest day as those of another day's: dates, times and names moved."""
    shift, texts = day - newest, {str(newest): str(day), load_id: load_of(day)}
    of_load = {"started_at": began(day), "finished_at": began(day) + timedelta(minutes=1)}
    columns: list[Any] = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if field.name in of_load:
            moved: Any = pa.repeat(pa.scalar(of_load[field.name], field.type), rows.num_rows)
        elif field.name == "snapshot_date":
            moved = column
        elif pa.types.is_timestamp(field.type):
            moved = pc.add(column, pa.scalar(shift, pa.duration(field.type.unit)))
        elif pa.types.is_date(field.type):
            moved = pc.add(column.cast(pa.timestamp("s")), pa.scalar(shift, pa.duration("s"))).cast(field.type)
        elif pa.types.is_string(field.type):
            moved = column
            for old, new in texts.items():
                moved = pc.replace_substring(moved, old, new)
        else:
            moved = column
        columns.append(moved)
    return pa.table(columns, schema=rows.schema)


def copy_reports(reports: Path, load_id: str, other: str) -> None:
    """Pages, facts and results of a load under another's name."""
    copied: list[tuple[str, Callable[[Path, Path], Any]]] = [
        (f"loads/{load_id}*", named(load_id, other)),
        (f"*/*/*/{load_id}/**/*", copyfile),
    ]
    for pattern, copy in copied:
        for file in filter(Path.is_file, reports.glob(pattern)):
            target = reports / str(file.relative_to(reports)).replace(load_id, other)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy(file, target)


def named(load_id: str, other: str) -> Callable[[Path, Path], Any]:
    return lambda file, target: target.write_text(file.read_text().replace(load_id, other))


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(Settings().warehouse).parent, int(sys.argv[2]), date.fromisoformat(sys.argv[3]))
    else:
        typer.run(main)
