"""Tables of the lakehouse: written beside what is live, switched in the metastore.

A partition's content is a folder that is never changed once it is written: `<table>/<partition>/load=<load_id>/`.
`write` makes such folders and touches nothing live; `publish` moves partitions to them, all partitions of a table in
one call to the metastore. Readers see the old folder or the new one, whole. Since a folder never changes, file listings
that the SQL endpoint has cached are never stale.

Tables with a row, or many, for each meterpoint and date are stored in two layers, so that a correction need not write a
date anew: `base` has the date, and `late` the meterpoints that were corrected since it was written, each whole. What
the base says of these does not count. The value of a partition is its date, that of a late one has LATE behind it.
"""

import json
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import cache, partial, reduce
from itertools import compress, pairwise
from operator import and_, or_
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as dataset
import pyarrow.parquet as pq
from py4j.java_gateway import JavaObject
from pyarrow.fs import FileInfo, FileSelector, FileSystem
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from jobs.readings.ingest import PARQUET, ROW_GROUP
from jobs.stores import open_folder

Locations = dict[str, str]  # partition value to folder

READINGS = "silver.readings"
CONTESTED = "silver.contested_readings"
CLAIMS = "ops.claims"
CURRENT_SNAPSHOT = "silver.current_snapshot"
DAILY_METERPOINT = "mart.daily_meterpoint_consumption"
HALF_HOURLY = "mart.half_hourly"
HALF_HOURLY_PRODUCT = "mart.half_hourly_by_product"
DAILY_PRODUCT = "mart.daily_by_product"
DAILY_COMPLETENESS = "mart.daily_completeness"
HALF_HOURLY_REGION = "mart.half_hourly_by_region"
DAILY_REGION = "mart.daily_by_product_and_region"
METERPOINT_HISTORY = "silver.meterpoint_history"
REGIONS = "silver.meterpoint_regions"
HISTORIES = ("silver.agreement_history", "silver.product_history", METERPOINT_HISTORY, REGIONS)
# Of these a year is a partition, of all other tables with readings a date.
BY_YEAR = (HALF_HOURLY, HALF_HOURLY_PRODUCT, DAILY_PRODUCT, DAILY_COMPLETENESS, HALF_HOURLY_REGION, DAILY_REGION)
MARTS = (DAILY_METERPOINT, *BY_YEAR)
# Tables in layers, and a column that is null in the one row of a late meterpoint that has no rows (any more).
LAYERED = {
    READINGS: "interval_start_utc",
    CONTESTED: "interval_start_utc",
    CLAIMS: "source_file",
    DAILY_METERPOINT: "reading_count",
}
LATE = "/layer=late"
# In the order in which a load switches them. The snapshot's pointer comes last, because which marts a new snapshot
# changes is found by comparing it with the one in place.
DATA = (READINGS, CONTESTED, CLAIMS, *MARTS, *HISTORIES, CURRENT_SNAPSHOT)

LOADS = "ops.loads"
LOAD_FILES = "ops.load_files"
VALIDATIONS = "ops.validations"
PUBLICATIONS = "ops.publications"
PUBLISHING = "ops.publishing"
ROLLBACKS = "ops.rollbacks"
ERASED = "ops.erased"
SUPERSEDED = "silver.superseded_readings"
REJECTED_READINGS = "quarantine.readings"
REJECTED_FILES = "quarantine.files"
REJECTED_REFERENCE = "quarantine.reference"
VERSIONS = "ops.schema_versions"
PERIODS = "silver.time_of_use_periods"
# Rows of these tables belong to a load, and are dropped with it if it did not happen.
OF_LOADS = (
    SUPERSEDED,
    REJECTED_READINGS,
    REJECTED_FILES,
    REJECTED_REFERENCE,
    LOAD_FILES,
    VALIDATIONS,
    PUBLICATIONS,
    ROLLBACKS,
    ERASED,
)
ALL = (*DATA, LOADS, PUBLISHING, *OF_LOADS, VERSIONS, PERIODS)

# So many partitions are asked for one by one; beyond that, a table's are listed, which may be thousands.
FEW = 40
# Bytes of a table's files up to which one task reads them: then they are joined and grouped where they are, while tasks
# would have to exchange their rows first.
SMALL = 1024 * 1024
PORTION = 16 * 1024 * 1024  # bytes of rows in memory that are written together
THREADS = 16  # which wait for the store
PAGE_ROWS = 2_000  # of a file that Spark writes: a reader decodes the pages that may have what it looks for
BATCH = 1 << 17  # rows that are held of a table that is read by and by
FORM, CODED = dataset.ParquetFileFormat(), pa.dictionary(pa.int32(), pa.string())
# How Spark writes a partition as text: its value, its layer if it has one, and where it is.
PARTITION = re.compile(r"Partition Values: \[\w+=(.*?)(?:, layer=(\w+))?\]\n\s*Location: (.*)")
# In place of a load, in a folder that never exists: what a partition names that holds nothing (yet).
NO_LOAD = "none"


def stored(table: str) -> str:
    """Name of the metastore's table with the content. The own name of a table in layers is a view of what counts."""
    return f"{table}_by_layer" if table in LAYERED else table


def date_of(value: str) -> str:
    """The date of a partition (YYYY-MM-DD), whatever its layer."""
    return value.removesuffix(LATE)


def of_dates(places: Locations, dates: Collection[str]) -> Locations:
    """The partitions of dates, of any layer."""
    return {value: folder for value, folder in places.items() if date_of(value) in dates}


def full_dates(places: Locations) -> set[str]:
    """The dates of those partitions that hold something."""
    return {date_of(value) for value, folder in places.items() if not is_empty(folder)}


def dates_of(values: Iterable[str]) -> set[str]:
    """The dates of partitions of any layer."""
    return set(map(date_of, values))


def is_late(value: str) -> bool:
    """Whether a partition has the meterpoints of a date that were corrected since its base was written."""
    return value.endswith(LATE)


def exists(spark: SparkSession, table: str) -> bool:
    """Whether the metastore has the table."""
    schema, name = stored(table).split(".")
    return bool(_catalog(spark).tableExists(schema, name))


def names(spark: SparkSession, schemas: Iterable[str]) -> set[str]:
    """Tables, views and functions of schemas, each as schema.name."""
    found = set()
    for schema in schemas:
        for listed in (_catalog(spark).listTables(schema), _catalog(spark).listFunctions(schema, "*")):
            found |= {f"{schema}.{name}" for name in str(listed.mkString(" ")).split()}
    return found


class Form(NamedTuple):
    """What a table is, whatever its rows."""

    root: str  # location of its files
    column: str  # the one by which it is partitioned, layers aside
    columns: StructType  # those of its partitions last
    metadata: JavaObject


@cache
def form(spark: SparkSession, table: str) -> Form:
    """A table's form. It is asked for once, which takes the metastore some 20 ms, and some hundred times of a load."""
    metadata = _table_metadata(spark, table)
    return Form(
        str(metadata.location().toString()).rstrip("/"),
        str(metadata.partitionColumnNames().head()),
        StructType.fromJson(json.loads(metadata.schema().json())),
        metadata,
    )


def forms_changed() -> None:
    """Have the forms of tables asked for anew: somebody made, altered or dropped one."""
    form.cache_clear()
    ask_anew()


_answers: dict[str, dict[Any, Any]] | None = None  # by table of the metastore and question; None: none are kept


@contextmanager
def remembered() -> Iterator[None]:
    """Keep what the metastore says of partitions until this process changes them: each question takes it 10 to 40 ms,
    and a load has a hundred, half of them more than once.

    For who is the writer or becomes it: then nobody else changes partitions (jobs/ledger/writer.py).
    """
    global _answers
    _answers = {}
    try:
        yield
    finally:
        _answers = None


def ask_anew() -> None:
    """Forget what the metastore said so far."""
    if _answers is not None:
        _answers.clear()


def _answer(table: str, question: Any, ask: Callable[[], Any]) -> Any:
    # An answer that was on its way while the table changed goes into a dictionary that _changed took away.
    kept = {} if _answers is None else _answers.setdefault(table, {})
    if question not in kept:
        kept[question] = ask()
    return kept[question]


def root_and_column(spark: SparkSession, table: str) -> tuple[str, str]:
    """Location of a table's files, and the name of the one column by which it is partitioned."""
    return form(spark, table)[:2]


def partitions(spark: SparkSession, table: str) -> set[str]:
    """Values of the partition column that a table has, as text; dates of one in layers."""
    schema, name = stored(table).split(".")

    def ask() -> str:
        return str(_catalog(spark).listPartitionNames(schema, name, _option(spark, None)).mkString("\n"))

    return {each.split("/", 1)[0].split("=", 1)[1] for each in _answer(stored(table), "names", ask).splitlines()}


def holding(table: str, dates: Iterable[str]) -> set[str]:
    """The partitions of a mart that hold dates (YYYY-MM-DD)."""
    return {day[:4] for day in dates} if table in BY_YEAR else set(dates)


def write(df: DataFrame, table: str, load_id: str, values: Iterable[date | str]) -> Locations:
    """Write a table's new partitions into fresh folders, and say where each of them is. Nothing live is touched.

    `values` are the partitions that are to be replaced, of one layer; one without rows in `df` becomes empty: the
    folder that it is given says so, and cannot be taken for one that is gone.
    """
    root, column = root_and_column(df.sparkSession, table)
    columns = _columns(df.sparkSession, table).names
    written = {str(value): folder_of(root, column, value, load_id) for value in values}
    layer = {"layer": F.lit("late")} if any(map(is_late, written)) else {}
    rows = df.select(*columns).withColumns(layer | {"load": F.lit(load_id)})
    writer = rows.write.mode("append").option("parquet.page.row.count.limit", PAGE_ROWS)
    writer.partitionBy(column, *layer, "load").parquet(root)
    return written | {value: folder_of(root, column, value) for value in without_files(df.sparkSession, written)}


def write_years(df: DataFrame, mart: str, load_id: str, years: Iterable[str], *order: str) -> Locations:
    """`write` for a mart by year, of which `df` lacks the year: a file each, its rows by date, then by `order`."""
    by_year = df.withColumn("year", F.year("date")).repartition("year")
    return write(by_year.sortWithinPartitions("year", "date", *order), mart, load_id, years)


def folder_of(root: str, column: str, value: date | str, load_id: str = NO_LOAD) -> str:
    """Where a load writes a partition; that of no load never exists, and stands for an empty one."""
    return f"{root}/{column}={value}/load={load_id}"


def without_files(spark: SparkSession, locations: Locations) -> list[str]:
    """Those of the given partitions of which the folder does not exist, or has no files."""
    return [value for value, files in zip(locations, _files_in_all(spark, locations), strict=True) if not files]


def is_empty(location: str) -> bool:
    """Whether this is the placeholder folder of an empty partition. Nothing is ever written there."""
    return load_of(location) == NO_LOAD


def read(spark: SparkSession, table: str, locations: Locations) -> DataFrame:
    """The content of given partitions in given folders, published or not, with the table's columns: of a table in
    layers what counts."""
    late = {value: folder for value, folder in locations.items() if is_late(value) and not is_empty(folder)}
    base = read_layer(spark, table, {value: folder for value, folder in locations.items() if not is_late(value)})
    if not late:
        return base
    corrected, key = read_layer(spark, table, late), ["date", "meterpoint_id"]
    stays = base.join(corrected.select(*key).distinct(), on=key, how="left_anti").select(*base.columns)
    return stays.unionByName(corrected.where(F.col(LAYERED[table]).isNotNull()))


def read_layer(spark: SparkSession, table: str, locations: Locations) -> DataFrame:
    """The rows of given partitions of one layer as they are stored."""
    schema = _columns(spark, table)
    files = _files_in_all(spark, locations)
    existing = [location for location, found in zip(locations.values(), files, strict=True) if found]
    if not existing:
        return spark.createDataFrame([], schema)
    frame = spark.read.schema(schema).option("basePath", root_and_column(spark, table)[0]).parquet(*existing)
    if sum(file.size for found in files for file in found) <= SMALL:
        frame = frame.coalesce(1)
    return frame.select(*schema.names)


def rewrite(
    spark: SparkSession, table: str, value: str, location: str, folder: str, clean: Callable[[pa.Table], pa.Table]
) -> str:
    """Write a partition into another folder, its rows as `clean` leaves them, and return where it is then. Files in
    which nothing changes are copied as they are. Nothing live is touched."""
    root, column = root_and_column(spark, table)
    columns, target = schema(spark, table), folder_of(root, column, value, folder)
    file_system, files = _files_in(spark, location)
    place = _folder(spark, target)[1]
    if files and file_system.type_name == "local":
        file_system.create_dir(place, recursive=True)
    left = [_rewrite_file(file_system, file.path, f"{place}/{file.base_name}", columns, clean) for file in files]
    return target if any(left) else folder_of(root, column, value)


def _rewrite_file(
    file_system: FileSystem, path: str, target: str, columns: pa.Schema, clean: Callable[[pa.Table], pa.Table]
) -> int:
    """Returns how many rows are left. A group of rows is in memory at a time."""
    file = dataset.ParquetFileFormat().make_fragment(path, filesystem=file_system)
    groups = file.split_by_row_group(schema=columns)
    left, changed = 0, False
    with ExitStack() as stack:
        for number, group in enumerate(groups):
            rows = group.to_table(schema=columns)
            cleaned = clean(rows)
            left += cleaned.num_rows
            if cleaned is not rows and not changed:
                changed = True
                writer = stack.enter_context(pq.ParquetWriter(target, columns, filesystem=file_system, **PARQUET))
                for earlier in groups[:number]:
                    writer.write_table(earlier.to_table(schema=columns))
            if changed and cleaned.num_rows:
                writer.write_table(cleaned)
    if not changed:
        file_system.copy_file(path, target)
    elif not left:
        file_system.delete_file(target)
    return left


def each_file(
    spark: SparkSession,
    table: str,
    locations: Locations,
    only: Collection[str],
    where: pc.Expression | None,
    see: Callable[[str, pa.Table], None],
) -> None:
    """Show `see` the rows of all files, with their partitions, some rows at a time, by some threads."""
    columns = schema(spark, table)
    read = [name for name in columns.names if name in only]

    def of_folder(value: str, location: str) -> None:
        file_system, files = _files_in(spark, location)
        for file in files:
            content = dataset.dataset(file.path, columns, format="parquet", filesystem=file_system, partitioning=None)
            for batch in content.to_batches(columns=read, filter=where, batch_size=BATCH, batch_readahead=2):
                see(value, pa.Table.from_batches([batch]))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(of_folder, locations.keys(), locations.values()))


def sizes(spark: SparkSession, locations: Locations) -> list[int]:
    """Bytes of the files of each partition."""
    return [sum(file.size for file in found) for found in _files_in_all(spark, locations)]


def rows_of(spark: SparkSession, table: str, locations: Locations) -> dict[str, int]:
    """How many rows the files of each partition have."""
    with ThreadPoolExecutor(THREADS) as pool:
        numbers = pool.map(lambda each: scan_layer(spark, table, dict([each])).count_rows(), locations.items())
        return dict(zip(locations, numbers, strict=True))


def schema(spark: SparkSession, table: str) -> pa.Schema:
    """A table's columns as Arrow has them, the partition column, which is in no file, left out."""
    column = root_and_column(spark, table)[1]
    fields = [field for field in _columns(spark, table) if field.name != column]
    return to_arrow_schema(StructType(fields), timezone="UTC")


def _columns(spark: SparkSession, table: str) -> StructType:
    """A table's columns, those of its partitions last; not the layer, which tells nothing of a row."""
    return StructType([field for field in form(spark, table).columns if field.name != "layer" or table not in LAYERED])


def write_rows(spark: SparkSession, rows: pa.Table, table: str, load_id: str, value: date | str) -> Locations:
    """Write a small partition into a fresh folder, as `write` does, without a Spark job: that takes a second."""
    root, column = root_and_column(spark, table)
    location = folder_of(root, column, value, load_id)
    file_system, folder = _folder(spark, location)
    file_system.create_dir(folder, recursive=True)
    pq.write_table(rows, f"{folder}/part-0.parquet", filesystem=file_system, compression="zstd")
    return {str(value): location}


def write_dates(spark: SparkSession, rows: pa.Table, table: str, load_id: str, values: Collection[str]) -> Locations:
    """`write` for rows in memory, which have the column `date`, and are written in their order."""
    columns = schema(spark, table)

    def of(value: str) -> Locations:
        of_date = rows.filter(pc.field("date") == date.fromisoformat(date_of(value)))
        return write_portions(spark, [of_date.select(columns.names).cast(columns)], table, load_id, value)

    with ThreadPoolExecutor(THREADS) as pool:
        return {value: folder for found in pool.map(of, values) for value, folder in found.items()}


def write_portions(
    spark: SparkSession, portions: Iterable[pa.Table], table: str, load_id: str, value: date | str
) -> Locations:
    """`write_rows` for rows of which a portion is in memory at a time. Without rows the partition becomes empty."""
    root, column = root_and_column(spark, table)
    columns, folder = schema(spark, table), folder_of(root, column, value, load_id)
    file_system, place = _folder(spark, folder)
    target: pq.ParquetWriter | None = None
    for rows in portions:
        if rows.num_rows and not target:
            file_system.create_dir(place, recursive=True)
            target = pq.ParquetWriter(
                f"{place}/part-0.parquet",
                columns,
                filesystem=file_system,
                compression="zstd",
                store_decimal_as_integer=True,
            )
        if target:
            target.write_table(rows, row_group_size=ROW_GROUP)
    if target:
        target.close()
    return {str(value): folder if target else folder_of(root, column, value)}


def join(
    spark: SparkSession, table: str, parts: Locations, value: str, load_id: str, where: pc.Expression | None
) -> Locations:
    """Write the rows of partitions, in their order, into one fresh folder for the partition `value`, and return where
    that is to be then. A part of the rows is in memory at a time. Nothing live is touched."""
    rows = in_batches(spark, table, dict(sorted(parts.items())), schema(spark, table).names, where)
    return write_portions(spark, _in_portions(rows), table, load_id, value)


def _in_portions(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches, which are a file's at most, as tables of some size: each becomes a group of rows of its own."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.nbytes for each in held) >= PORTION:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def read_rows(
    spark: SparkSession,
    table: str,
    locations: Locations,
    where: pc.Expression | None = None,
    only: Collection[str] | None = None,
    seldom: pc.Expression | None = None,
) -> pa.Table:
    """The content of given partitions without a Spark job. For tables that are small, or become it by `where` and by
    the columns in `only`; without `only` all columns, but for that of the partition.

    `seldom` is a condition that `where` holds, too, for a table without layers. A file in which no row meets it costs
    the columns that it names.
    """
    names = [name for name in schema(spark, table).names if only is None or name in only]
    if seldom is None:
        content = scan(spark, table, locations, where)
    else:
        layer = scan_layer(spark, table, locations)
        files = list(layer.get_fragments())
        with ThreadPoolExecutor(THREADS) as pool:
            files = list(compress(files, pool.map(lambda each: each.count_rows(filter=seldom), files)))
        content = dataset.FileSystemDataset(files, layer.schema, FORM, layer.filesystem).filter(where)
    return content.to_table(columns=names, fragment_readahead=THREADS)


def scan(
    spark: SparkSession,
    table: str,
    locations: Locations,
    where: pc.Expression | None = None,
    *,
    coded: bool = False,
) -> dataset.Dataset:
    """The content of given partitions as `read` has it, which is read when it is wanted, some rows at a time, and as
    often as that. Of a table by date it has the date, too.

    To have texts `coded`, by dictionaries as they are in files, takes half the time and memory where all rows are read.
    Where a condition on texts chooses some, parts of files are not left out for it then.
    """
    content = scan_layer(spark, table, locations, coded=coded)
    conditions = [] if where is None else [where]
    if any(is_late(value) and not is_empty(folder) for value, folder in locations.items()):
        conditions.append(_that_counts(spark, table, locations))
    return content.filter(reduce(and_, conditions)) if conditions else content


def scan_layer(spark: SparkSession, table: str, locations: Locations, *, coded: bool = False) -> dataset.Dataset:
    """The rows of given partitions as they are stored, in the way of `scan`; of a table in layers with the layer."""
    root, column = root_and_column(spark, table)
    columns, file_system = schema(spark, table), _folder(spark, root)[0]
    texts = [field.name for field in columns if coded and pa.types.is_string(field.type)]
    form = dataset.ParquetFileFormat(dictionary_columns=texts) if texts else FORM
    columns = pa.schema([field.with_type(CODED) if field.name in texts else field for field in columns])
    if column == "date":
        columns = columns.append(pa.field("date", pa.date32())).append(pa.field("layer", pa.string()))
    fragments = []
    for value, files in zip(locations, _files_in_all(spark, locations), strict=True):
        of = _is_of(value) if column == "date" else pc.scalar(True)
        fragments += [form.make_fragment(each.path, file_system, partition_expression=of) for each in files]
    return dataset.FileSystemDataset(fragments, columns, form, file_system)


def _is_of(value: str) -> pc.Expression:
    """What is known of all rows of a partition of a table by date."""
    layer = "late" if is_late(value) else "base"
    return (pc.field("date") == date.fromisoformat(date_of(value))) & (pc.field("layer") == layer)


def _that_counts(spark: SparkSession, table: str, locations: Locations) -> pc.Expression:
    """Which rows of both layers count: of the base not those of meterpoints that the late layer of the date has."""

    def of_late(day: str) -> pc.Expression:
        late = scan_layer(spark, table, {f"{day}{LATE}": locations[f"{day}{LATE}"]}).to_table(["meterpoint_id"])
        of_these = pc.field("meterpoint_id").isin(pc.unique(late["meterpoint_id"]))
        return (pc.field("date") == date.fromisoformat(day)) & of_these

    has_rows = {value for value, folder in locations.items() if not is_empty(folder)}
    in_both = [value for value in has_rows if f"{value}{LATE}" in has_rows]
    is_base = pc.field("layer") == "base"
    counts = is_base | pc.field(LAYERED[table]).is_valid()
    with ThreadPoolExecutor(THREADS) as pool:
        hidden = list(pool.map(of_late, in_both))
    while len(hidden) > 1:  # by halves: Arrow would go as deep as there are dates
        hidden = [reduce(or_, hidden[at : at + 2]) for at in range(0, len(hidden), 2)]
    return counts & ~(is_base & hidden[0]) if hidden else counts


def spans(content: dataset.Dataset, rows: int) -> list[pc.Expression | None]:
    """Conditions on meterpoint_id, in its order, each of which about so many rows meet: files are in that order, and
    tell what parts of them begin with. [None] if there are no more rows."""
    groups = [group for file in content.get_fragments() for group in file.row_groups]
    least = [(group.statistics.get("meterpoint_id", {}).get("min", ""), group.num_rows) for group in groups]
    bounds: list[str] = []
    held = 0
    for name, number in sorted(least):
        if held >= rows and name > max(bounds, default=""):
            bounds.append(name)
            held = 0
        held += number
    meterpoint = pc.field("meterpoint_id")
    if not bounds:
        return [None]
    between = [(meterpoint >= first) & (meterpoint < end) for first, end in pairwise(bounds)]
    return [meterpoint < bounds[0], *between, meterpoint >= bounds[-1]]


def in_batches(
    spark: SparkSession, table: str, locations: Locations, only: Collection[str], where: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    """Rows of given partitions of a table without layers, some at a time, for a table that may be large."""
    columns = schema(spark, table)
    files = [file for found in _files_in_all(spark, locations) for file in found]
    file_system = _folder(spark, root_and_column(spark, table)[0])[0]
    for file in files:
        content = dataset.dataset(file.path, columns, format="parquet", filesystem=file_system, partitioning=None)
        yield from content.to_batches(
            columns=[name for name in columns.names if name in only],
            filter=where,
            batch_size=BATCH,
            batch_readahead=2,
            fragment_readahead=1,
        )


def is_of_dates(dates: Iterable[date | str]) -> pc.Expression:
    """Whether a row, of a table that has dates in its files, is of one of the dates."""
    return pc.field("date").isin(pa.array([date.fromisoformat(str(day)) for day in dates], pa.date32()))


def locations(spark: SparkSession, table: str, values: Iterable[date | str]) -> Locations:
    """Where those of the given partitions which exist are now; of a table in layers both layers of a date."""
    wanted = {str(value) for value in values}
    column = root_and_column(spark, table)[1]
    if len(wanted) > FEW or table in LAYERED:
        # Of a table in layers one question for both layers of a date.
        questions = [None] if len(wanted) > FEW else [{column: day} for day in dates_of(wanted)]
        found = {value: folder for only in questions for value, folder in _listed(spark, stored(table), only).items()}
        return {value: folder for value, folder in found.items() if {value, date_of(value)} & wanted}
    places = {value: _place(spark, stored(table), column, value) for value in wanted}
    return {value: place for value, place in places.items() if place}


def all_locations(spark: SparkSession, table: str) -> Locations:
    """Where all partitions of a table are now."""
    return _listed(spark, stored(table))


def locations_without_layers(spark: SparkSession, table: str) -> Locations:
    """Where the partitions of a table are that an older version made without layers; none if it is a view by now."""
    schema, name = table.split(".")
    if not _catalog(spark).tableExists(schema, name):
        return {}
    is_view = str(_catalog(spark).getTable(schema, name).tableType().name()) == "VIEW"
    return {} if is_view else _listed(spark, table)


def _listed(spark: SparkSession, name_of_table: str, only: dict[str, str] | None = None) -> Locations:
    """Where the partitions of a table of the metastore are, or those with some values."""
    schema, name = name_of_table.split(".")

    def ask() -> Locations:
        listed = _catalog(spark).listPartitions(schema, name, _option(spark, _map(spark, only) if only else None))
        # As one text, because each question to Java takes as long as a thousand lines of it.
        found = PARTITION.findall(str(listed.mkString("\n")))
        return {f"{value}{LATE}" if layer == "late" else value: folder for value, layer, folder in found}

    return dict(_answer(name_of_table, str(only), ask))


def _place(spark: SparkSession, name_of_table: str, column: str, value: str) -> str | None:
    """Where one partition of a table without layers is."""
    schema, name = name_of_table.split(".")

    def ask() -> str | None:
        found = _catalog(spark).getPartitionOption(schema, name, _map(spark, {column: value}))
        return str(found.get().location().toString()) if found.isDefined() else None

    return cast("str | None", _answer(name_of_table, (column, value), ask))


def _spec(table: str, column: str, value: str) -> dict[str, str]:
    """A partition as the metastore names it."""
    layer = {"layer": "late" if is_late(value) else "base"} if table in LAYERED else {}
    return {column: date_of(value), **layer}


def is_same(one: str, other: str) -> bool:
    """Whether two locations are one."""
    return plain(one) == plain(other)


def plain(location: str) -> str:
    """A location in one spelling: Spark writes /folder, file:/folder and file:///folder for the same."""
    return location.removeprefix("file://").removeprefix("file:").rstrip("/")


def load_of(location: str) -> str:
    """Which load wrote a partition's folder."""
    return folder_id(location).split("_")[0]


def folder_id(location: str) -> str:
    """The end of a folder's name: the load that wrote it, and a number if it wrote the partition more than once."""
    return location.rstrip("/").rsplit("/load=", 1)[-1]


def mark(spark: SparkSession, table: str, key: str, value: str) -> None:
    """Keep a note with a table, in the metastore."""
    spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('lake.{key}' = '{value}')")


def marked(spark: SparkSession, table: str, key: str) -> str | None:
    """The note that `mark` kept."""
    value = _table_metadata(spark, table).properties().get(f"lake.{key}")
    return str(value.get()) if value.isDefined() else None


def publish(spark: SparkSession, table: str, new: Locations) -> Locations:
    """Switch partitions to new folders, all in one transaction of the metastore. Returns where they were before.

    New partitions beside changed ones are added as empty ones first, as which a reader cannot tell them from missing
    ones, so that the one call switches all of them together.
    """
    if not new:
        return {}
    schema, name = stored(table).split(".")
    catalog, (root, column, _, metadata) = _catalog(spark), form(spark, table)
    before = {value: folder for value, folder in locations(spark, table, new).items() if value in new}
    if added := new.keys() - before.keys():
        first = {value: folder_of(root, column, value) if before else new[value] for value in added}
        catalog.createPartitions(schema, name, _partitions(spark, table, metadata, first), True)  # if they do not exist
    if before:
        catalog.alterPartitions(schema, name, _partitions(spark, table, metadata, new))
    _changed(spark, table)
    return before


def drop_empty(spark: SparkSession, table: str, values: Collection[str]) -> None:
    """Have the metastore forget those of the given partitions that hold nothing."""
    live = locations(spark, table, values)
    drop(spark, table, [value for value, folder in live.items() if is_empty(folder)])


def drop(spark: SparkSession, table: str, values: Collection[str]) -> None:
    """Have the metastore forget partitions. No file is deleted."""
    if values:
        schema, name = stored(table).split(".")
        column = root_and_column(spark, table)[1]
        specs = [_map(spark, _spec(table, column, value)) for value in values]
        of_java = _to_scala(spark).toSeq(specs)
        if_exists, purge, keep_files = True, False, True
        _catalog(spark).dropPartitions(schema, name, of_java, if_exists, purge, keep_files)
        _changed(spark, table)


def _changed(spark: SparkSession, table: str) -> None:
    if _answers is not None:
        _answers.pop(stored(table), None)
    # The SQL endpoint remembers the metastore's answers until this mark changes (CachedCatalog.java).
    spark.sql(f"ALTER DATABASE ops SET DBPROPERTIES ('lake.published' = '{uuid.uuid4()}')")
    spark.catalog.refreshTable(stored(table))


def _partitions(spark: SparkSession, table: str, metadata: JavaObject, folders: Locations) -> JavaObject:
    """Partitions of a table as the metastore's client takes them.

    What does not differ is asked for once: each question to Java takes time, and there may be thousands of partitions.
    Scala's constructors and copy() have no default arguments from here, so all are given.
    """
    jvm = _jvm(spark)
    column, storage, no_parameters = metadata.partitionColumnNames().head(), metadata.storage(), _map(spark, {})
    created, never, nothing = jvm.System.currentTimeMillis(), -1, jvm.scala.Option.empty()
    some, path = jvm.scala.Some, jvm.org.apache.hadoop.fs.Path
    partition = jvm.org.apache.spark.sql.catalyst.catalog.CatalogTablePartition
    of_table = storage.inputFormat(), storage.outputFormat(), storage.serde(), storage.compressed()
    rest = storage.properties(), storage.serdeName()
    made = [
        partition(
            _map(spark, _spec(table, column, value)),
            storage.copy(some(path(folder).toUri()), *of_table, *rest),
            no_parameters,
            created,
            never,
            nothing,
        )
        for value, folder in folders.items()
    ]
    return _to_scala(spark).toSeq(made)


def _folder(spark: SparkSession, location: str) -> tuple[FileSystem, str]:
    return open_folder(location, spark.conf.get("spark.hadoop.fs.s3a.endpoint", None))


def _files_in(spark: SparkSession, location: str) -> tuple[FileSystem, list[FileInfo]]:
    """The Parquet files of a partition's folder, none if it does not exist, and the file system that has them."""
    file_system, folder = _folder(spark, location)
    found = file_system.get_file_info(FileSelector(folder, allow_not_found=True))
    return file_system, [file for file in found if file.base_name.endswith(".parquet")]


def _files_in_all(spark: SparkSession, locations: Locations) -> list[list[FileInfo]]:
    with ThreadPoolExecutor(THREADS) as pool:
        return [found for _, found in pool.map(partial(_files_in, spark), locations.values())]


def _jvm(spark: SparkSession) -> JavaObject:
    return spark._jvm


@cache
def _catalog(spark: SparkSession) -> JavaObject:
    return spark._jsparkSession.sharedState().externalCatalog()


def _table_metadata(spark: SparkSession, table: str) -> JavaObject:
    schema, name = stored(table).split(".")
    return _catalog(spark).getTable(schema, name)


@cache
def _to_scala(spark: SparkSession) -> JavaObject:
    # By its whole name: Java looks for each part of it in all jars otherwise.
    return getattr(_jvm(spark), "org.apache.spark.api.python.PythonUtils")


def _option(spark: SparkSession, value: JavaObject | None) -> JavaObject:
    return getattr(_jvm(spark), "scala.Option").apply(value)


def _map(spark: SparkSession, items: dict[str, str]) -> JavaObject:
    return _to_scala(spark).toScalaMap(items)
