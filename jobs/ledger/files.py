"""What is known of files: which versions were read, and what of them is in quarantine."""

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import tables
from jobs.errors import LakeError
from jobs.landing import Delivered
from jobs.ledger import known
from jobs.ledger.days import partitions_of
from jobs.ledger.loads import is_of, loads_that_published, recorded_loads
from jobs.ledger.writer import day_of, started_at
from jobs.names import with_hints
from jobs.readings.erased import Erased
from jobs.readings.rules import RowReason
from jobs.stores import open_folder
from jobs.tables import CLAIMS, LOAD_FILES, LOADS, REJECTED_FILES, REJECTED_READINGS, Locations

EXAMPLES = 10  # names in a message
LATER_THAN_FILE: RowReason = "interval_start_after_file"
VERSION = ("source_file", "load_id", "size_bytes", "modified_at", "sha256", "rows_rejected")
FILE = pa.schema(
    [
        ("source_file", pa.string()),
        ("size_bytes", pa.int64()),
        ("modified_at", pa.timestamp("us", "UTC")),
        ("path", pa.string()),
    ]
)


class UnknownFile(LakeError):
    """A file that a person named is not there, or not in the state that was meant."""


def to_read(
    spark: SparkSession, delivered: list[Delivered], again: Collection[str] = (), erased: Erased | None = None
) -> pa.Table:
    """Delivered files that are to be read: those that are not known, or have another size or time than the version that
    is, and those named in `again`.

    Columns: source_file, size_bytes, modified_at, path, and known_sha256, by which the bytes of the known version are
    recognised; null for a file of `again`, which is read though its bytes are known, and for one of which rows were
    rejected because they were later than it, and which has a later time now. A name with an erased id is known,
    and recorded, by its alias; `path` is where the file lies.
    """
    if not delivered:
        return FILE.append(pa.field("known_sha256", pa.string())).empty_table()
    files = _table(delivered)
    asked_for = pa.array(list(again), pa.string())
    seconds, is_same = _known(spark, files)
    if erased and erased.names:
        # A name that is known has no erased id in it.
        is_new = seconds == 0
        new, old = files.filter(pa.array(is_new)), files.filter(pa.array(~is_new))
        names = [erased.redacted(path) for path in new["path"].to_pylist()]
        new = new.set_column(0, FILE.field(0), pa.array(names, pa.string()))
        files = pa.concat_tables([old, new])
        of_old, of_new = (seconds[~is_new], is_same[~is_new]), _known(spark, new)
        seconds, is_same = (np.concatenate(columns) for columns in zip(of_old, of_new, strict=True))
    # A link that led nowhere when it was listed has neither size nor time.
    is_same &= np.asarray(pc.and_(files["size_bytes"].is_valid(), files["modified_at"].is_valid()))
    is_asked_for = np.asarray(pc.is_in(files["source_file"], asked_for))
    wanted = ~is_same | is_asked_for
    files, seconds = files.filter(pa.array(wanted)), np.where(is_asked_for, 0, seconds)[wanted]
    # Of those that are known and differ it is looked up which bytes they had.
    versions = _newest_versions(spark, files["source_file"].filter(pa.array(seconds > 0)), seconds[seconds > 0])
    files = files.join(versions, "source_file", join_type="left outer")
    same = pc.and_(
        pc.equal(files["known_modified_at"], files["modified_at"]),
        pc.equal(files["known_size_bytes"], files["size_bytes"]),
    )
    files = files.filter(pc.invert(pc.fill_null(same, False)))
    was_early = pc.is_in(files["source_file"], _with_rows_later_than(spark, files))
    known_bytes = pc.if_else(was_early, pa.scalar(None, pa.string()), files["known_sha256"])
    files = files.set_column(files.column_names.index("known_sha256"), "known_sha256", known_bytes)
    return files.select([*FILE.names, "known_sha256"]).combine_chunks().sort_by("source_file")


def refused_unread(spark: SparkSession, files: pa.Table) -> dict[str, str]:
    """Why those of the given readings files were rejected last that could not be read, by source_file. They are not
    known, so that a run tries them again. Not those that stopped a load: they are to stop the next one, too."""
    everywhere = tables.all_locations(spark, REJECTED_FILES) if files.num_rows else {}
    names = pc.field("source_file").isin(files["source_file"].combine_chunks())
    unread = names & (pc.field("kind") == "readings") & pc.field("sha256").is_null()
    rows = tables.read_rows(spark, REJECTED_FILES, everywhere, unread, ["source_file", "reason", "load_id"])
    if rows.num_rows:
        rows = rows.filter(is_of(loads_that_published(spark)))
    return {row["source_file"]: row["reason"] for row in rows.sort_by("load_id").to_pylist()}


def _with_rows_later_than(spark: SparkSession, files: pa.Table) -> pa.Array:
    """Names of files whose known version was older than some of its rows, and which have its size and a later time now:
    somebody may have put the time right (`touch`), and so rows that were rejected for it."""
    touched = files.filter(
        pc.and_(
            pc.equal(files["known_size_bytes"], files["size_bytes"]),
            pc.and_(
                pc.greater(files["modified_at"], files["known_modified_at"]), pc.greater(files["known_rejected"], 0)
            ),
        )
    )
    names = touched["source_file"].combine_chunks()
    if not len(names):
        return names
    loads = pc.unique(touched["known_load_id"]).to_pylist()
    places = tables.locations(spark, REJECTED_READINGS, partitions_of(map(day_of, loads)))
    of_these = pc.field("source_file").isin(names) & (pc.field("reason") == LATER_THAN_FILE) & is_of(loads)
    rejected = tables.read_rows(spark, REJECTED_READINGS, places, of_these, ["source_file"])
    found = set(rejected["source_file"].to_pylist())
    # What a person took back comes back when it is asked for, and not because a copy got another time.
    if found:
        found -= withheld(spark) | of_which_something_was_retracted(spark, found)
    return pa.array(sorted(found), pa.string())


def withheld(spark: SparkSession) -> set[str]:
    """Names of files that a rollback keeps away."""
    return {row.source_file for row in spark.table("ops.withheld_files").select("source_file").collect()}


def _table(delivered: list[Delivered]) -> pa.Table:
    names = pa.array([file.source_file for file in delivered], pa.string())
    sizes = pa.array([file.size_bytes for file in delivered], pa.int64())
    times = pa.array([file.modified_at for file in delivered], FILE.field("modified_at").type)
    return pa.table([names, sizes, times, names], schema=FILE)


def _known(spark: SparkSession, files: pa.Table) -> tuple[known.Array, known.Array]:
    """Of each file, when the load began that took its newest version (seconds since 1970, 0 if it is not known), and
    whether the file has the same size and time as that."""
    names, sizes, times = files["source_file"].to_pylist(), _numbers(files["size_bytes"]), _micros(files["modified_at"])
    versions_of = partial(_versions_of, spark)
    return known.compare(*_place_of_known(spark), _loads(spark), versions_of, names, sizes, times)


def _loads(spark: SparkSession) -> list[known.Load]:
    rows = tables.read_rows(spark, LOADS, tables.all_locations(spark, LOADS), only=("load_id", "status", "kind"))
    columns = (rows[name].to_pylist() for name in ("load_id", "status", "kind"))
    return [known.Load(load, status == "failed", kind == "erase") for load, status, kind in zip(*columns, strict=True)]


def forget_known(spark: SparkSession) -> None:
    """Delete the state of known files, of which hashes of erased names are a part. The next load makes it anew."""
    known.forget(*_place_of_known(spark))


def _place_of_known(spark: SparkSession) -> tuple[FileSystem, str]:
    """Beside the table that it is made of."""
    folder = tables.root_and_column(spark, LOAD_FILES)[0].removesuffix("load_files")
    return open_folder(f"{folder}known_files", spark.conf.get("spark.hadoop.fs.s3a.endpoint", None))


def _versions_of(spark: SparkSession, loads: list[str]) -> Iterator[known.Versions]:
    """What loads took, some files at a time. A file that could not be read (no checksum) is as good as unknown: it is
    tried again."""
    first = min(loads)
    begin = str(day_of(first))
    places = {value: folder for value, folder in tables.all_locations(spark, LOAD_FILES).items() if value >= begin}
    wanted = (pc.field("load_id") >= first) & is_of(loads)
    for rows in tables.in_batches(spark, LOAD_FILES, places, (*VERSION, "kind", "status"), wanted):
        is_snapshot = pc.and_(pc.equal(rows["kind"], "reference"), pc.equal(rows["status"], "loaded"))
        snapshots = frozenset(rows["source_file"].filter(pc.fill_null(is_snapshot, False)).to_pylist())
        rows = rows.filter(rows["sha256"].is_valid())
        yield known.Versions(
            rows["source_file"].to_pylist(),
            _numbers(rows["size_bytes"]),
            _micros(rows["modified_at"]),
            _seconds(rows["load_id"]),
            snapshots,
        )


def _seconds(loads: pa.ChunkedArray | pa.Array) -> known.Array:
    """When loads began, seconds since 1970."""
    found = loads.combine_chunks() if isinstance(loads, pa.ChunkedArray) else loads
    coded = found.dictionary_encode()
    of_each = np.array([int(started_at(load).timestamp()) for load in coded.dictionary.to_pylist()], np.int64)
    places: known.Array = np.asarray(coded.indices)
    return of_each[places]


def _numbers(column: pa.ChunkedArray | pa.Array) -> known.Array:
    """Of null, which hashes do not know, -1."""
    return np.asarray(pc.fill_null(column.cast(pa.int64()), -1))


def _micros(column: pa.ChunkedArray | pa.Array) -> known.Array:
    return _numbers(column.cast(pa.timestamp("us", "UTC")))


def _newest_versions(spark: SparkSession, names: pa.ChunkedArray, seconds: known.Array) -> pa.Table:
    """One row per source_file that is known: load, size, modification time, checksum and rejected rows of its newest
    version, of the load that began at `seconds`."""
    everywhere = tables.all_locations(spark, LOAD_FILES)
    days = {datetime.fromtimestamp(second, UTC).date() for second in np.unique(seconds).tolist()}
    named = partitions_of(days)
    places = {value: folder for value, folder in everywhere.items() if value in named}
    newest = _newest_in(spark, places, names)
    found = dict(zip(newest["source_file"].to_pylist(), _seconds(newest["known_load_id"]).tolist(), strict=True))
    if any(found.get(name) != second for name, second in zip(names.to_pylist(), seconds.tolist(), strict=True)):
        # Two names that have one hash: then all are looked through.
        newest = _newest_in(spark, everywhere, names)
    return newest


def _newest_in(spark: SparkSession, places: Locations, names: pa.ChunkedArray) -> pa.Table:
    named = pc.field("source_file").isin(names.combine_chunks())
    wanted = named & is_of(loads_that_published(spark)) if places else named
    versions = tables.read_rows(spark, LOAD_FILES, places, wanted, only=VERSION, seldom=named)
    read = versions.filter(versions["sha256"].is_valid()).sort_by(
        [("source_file", "ascending"), ("load_id", "ascending")]
    )
    newest = read.group_by("source_file", use_threads=False).aggregate(
        [(name, "last") for name in VERSION if name != "source_file"]
    )
    renamed = {
        "load_id_last": "known_load_id",
        "size_bytes_last": "known_size_bytes",
        "modified_at_last": "known_modified_at",
        "sha256_last": "known_sha256",
        "rows_rejected_last": "known_rejected",
    }
    return newest.rename_columns({"source_file": "source_file"} | renamed)


def versions_with(spark: SparkSession, files: pa.Table) -> pa.Table:
    """Earlier loads that read the same bytes of files (columns source_file, sha256). Columns: source_file, load_id."""
    named = pc.field("source_file").isin(files["source_file"].combine_chunks())
    wanted = named & is_of(loads_that_published(spark))
    everywhere = tables.all_locations(spark, LOAD_FILES)
    versions = tables.read_rows(spark, LOAD_FILES, everywhere, wanted, only=VERSION, seldom=named)
    same = versions.select(["source_file", "sha256", "load_id"]).join(
        files.select(["source_file", "sha256"]), ["source_file", "sha256"], join_type="left semi"
    )
    return same.select(["source_file", "load_id"])


def snapshots_taken(spark: SparkSession) -> frozenset[str]:
    """Reference files of which a version became a snapshot."""
    return known.up_to_date(*_place_of_known(spark), _loads(spark), partial(_versions_of, spark)).snapshots


def of_load(spark: SparkSession, load_id: str) -> list[str]:
    """Readings files that a load took. Raises UnknownFile if there are none."""
    rows = tables.read_rows(spark, LOAD_FILES, tables.all_locations(spark, LOAD_FILES), is_of([load_id]))
    taken = rows.filter(pc.and_(pc.equal(rows["kind"], "readings"), pc.is_in(rows["status"], pa.array(["loaded"]))))
    if not taken.num_rows:
        raise UnknownFile(f"{load_id}: no load that took readings files; `lake status` lists loads")
    return sorted(taken["source_file"].to_pylist())


def in_quarantine(spark: SparkSession, names: Collection[str]) -> set[str]:
    """Files of which something is in quarantine and no later version came: those of `names`, or all of them but those
    of which the newest version was rolled back, which is to stay away.

    Raises UnknownFile.
    """
    files, rows = spark.table("quarantine.open_files"), spark.table("quarantine.open_readings")
    found = files.select("source_file", "load_id").union(rows.select("source_file", "load_id"))
    withheld = spark.table("ops.withheld_files").select("source_file", "load_id")
    # One that is named may be one of which only the version that was rolled back is at fault.
    found = found.union(withheld) if names else found.join(withheld, on="source_file", how="left_anti")
    known = {row.source_file for row in found.select(F.col("source_file")).distinct().collect()}
    if unknown := set(names) - known:
        shown = {row.source_file for row in spark.table("quarantine.open_reference").select("source_file").collect()}
        if unknown & shown:
            raise UnknownFile(
                f"{', '.join(sorted(unknown & shown))}: rows of a reference file stay on the list until a snapshot"
                " without them takes its place"
            )
        raise UnknownFile(f"{with_hints(unknown, known)}: not in quarantine; `lake quarantine list` tells what is")
    return set(names) or known


def to_retry(
    spark: SparkSession, names: Collection[str], there: Collection[str], tell: Callable[[str], None]
) -> set[str]:
    """Files in quarantine to read again: those of `names`, or all of them that are in the landing place and of which
    nothing was retracted. What is left out is told.

    Raises UnknownFile.
    """
    found = in_quarantine(spark, names)
    if names:
        return found
    if gone := found - set(there):
        tell(
            f"Left out, because they are no longer in the landing place: {some(gone)}."
            " `lake quarantine dismiss --gone` takes them off the list."
        )
    found -= gone
    if retracted := of_which_something_was_retracted(spark, found):
        tell(
            f"Left out, because some of what they said was retracted, and would come back: {some(retracted)}."
            " `lake quarantine retry FILE` reads one all the same."
        )
    return found - retracted


def of_which_something_was_retracted(spark: SparkSession, names: Collection[str]) -> set[str]:
    """Those of the given files whose newest loaded version has fewer claims than it gave, and which a retraction can
    have taken away: one came after that version. Rollbacks take away all claims of a load alike, and are no retraction.
    """
    loads = tables.read_rows(spark, LOADS, tables.all_locations(spark, LOADS), is_of(loads_that_published(spark)))
    retractions = loads.filter(pc.equal(loads["kind"], "retract"))["load_id"].to_pylist()
    if not names or not retractions:
        return set()
    wanted = pc.field("source_file").isin(pa.array(list(names), pa.string()))
    wanted &= (pc.field("status") == "loaded") & (pc.field("kind") == "readings") & is_of(loads["load_id"].to_pylist())
    versions = tables.read_rows(spark, LOAD_FILES, tables.all_locations(spark, LOAD_FILES), wanted).sort_by("load_id")
    newest = {row["source_file"]: row for row in versions.to_pylist()}
    claims = spark.table(CLAIMS).where(F.col("source_file").isin(list(names))).groupBy("source_file", "load_id")
    held = {(row.source_file, row.load_id): row.held for row in claims.agg(F.sum("readings").alias("held")).collect()}
    return {
        name
        for name, row in newest.items()
        if held.get((name, row["load_id"]), 0) < row["rows_read"] - row["rows_rejected"]
        and row["load_id"] < max(retractions)
    }


def not_known(spark: SparkSession, names: Collection[str], load_id: str | None) -> str:
    """What is odd about names of files and of a load, to be put after a message; empty if all are known."""
    texts = []
    if names:
        known = {row.source_file for row in spark.table(LOAD_FILES).select("source_file").distinct().collect()}
        if unknown := set(names) - known:
            texts.append(f"{with_hints(unknown, known)}: no load took such a file")
    if load_id and load_id not in recorded_loads(spark):
        texts.append(f"{load_id}: there is no such load; `lake status` lists loads")
    return "".join(f". {text}" for text in texts)


def some(names: Collection[str]) -> str:
    """The first ones, in their order."""
    more = f" and {len(names) - EXAMPLES:,} more" if len(names) > EXAMPLES else ""
    return f"{', '.join(sorted(names)[:EXAMPLES])}{more}"
