"""What is known of files: which versions were read, and what of them is in quarantine."""

from collections.abc import Callable, Collection

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import tables
from jobs.errors import LakeError
from jobs.landing import Delivered
from jobs.ledger.loads import is_of, loads_that_published, recorded_loads
from jobs.names import with_hints
from jobs.readings.erased import Erased
from jobs.tables import CLAIMS, LOAD_FILES, LOADS

EXAMPLES = 10  # names in a message
VERSION = ("source_file", "load_id", "size_bytes", "modified_at", "sha256")
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
    recognised; null for a file of `again`, which is read though its bytes are known. A name with an erased id is known,
    and recorded, by its alias; `path` is where the file lies.
    """
    rows = [dict(zip(FILE.names, (*file, file.source_file), strict=True)) for file in delivered]
    files = _with_versions(spark, pa.Table.from_pylist(rows, schema=FILE))
    if erased and erased.names:
        # A name that is known has no erased id in it.
        is_new = files["known_size_bytes"].is_null()
        names = [erased.redacted(path) for path in files.filter(is_new)["path"].to_pylist()]
        aliased = files.filter(is_new).select(FILE.names).set_column(0, FILE.field(0), pa.array(names, pa.string()))
        files = pa.concat_tables([files.filter(pc.invert(is_new)), _with_versions(spark, aliased)])
    same = pc.and_(
        pc.equal(files["known_modified_at"], files["modified_at"]),
        pc.equal(files["known_size_bytes"], files["size_bytes"]),
    )
    asked_for = pc.is_in(files["source_file"], pa.array(list(again), pa.string()))
    files = files.filter(pc.or_(pc.invert(pc.fill_null(same, False)), asked_for))
    asked_for = pc.is_in(files["source_file"], pa.array(list(again), pa.string()))
    known = pc.if_else(asked_for, pa.scalar(None, pa.string()), files["known_sha256"])
    columns = files.select(FILE.names).append_column("known_sha256", known)
    return columns.combine_chunks().sort_by("source_file")


def _with_versions(spark: SparkSession, files: pa.Table) -> pa.Table:
    known = files.join(_newest_versions(spark, files["source_file"]), "source_file", join_type="left outer")
    return known.select([*FILE.names, "known_size_bytes", "known_modified_at", "known_sha256"])


def _newest_versions(spark: SparkSession, delivered: pa.ChunkedArray) -> pa.Table:
    """One row per delivered source_file that loads took: size, modification time and checksum of its newest version. A
    file that could not be read (no checksum) is as good as unknown: it is tried again."""
    # Only these are read into memory: the table has all files that ever were delivered.
    named = pc.field("source_file").isin(delivered.combine_chunks())
    wanted = named & is_of(loads_that_published(spark))
    everywhere = tables.all_locations(spark, LOAD_FILES)
    versions = tables.read_rows(spark, LOAD_FILES, everywhere, wanted, only=VERSION, seldom=named)
    read = versions.filter(versions["sha256"].is_valid()).sort_by(
        [("source_file", "ascending"), ("load_id", "ascending")]
    )
    newest = read.group_by("source_file", use_threads=False).aggregate(
        [("size_bytes", "last"), ("modified_at", "last"), ("sha256", "last")]
    )
    known = {
        "size_bytes_last": "known_size_bytes",
        "modified_at_last": "known_modified_at",
        "sha256_last": "known_sha256",
    }
    return newest.rename_columns({"source_file": "source_file"} | known)


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


def snapshots_taken(spark: SparkSession, names: Collection[str]) -> set[str]:
    """Those of the given reference files of which a version became a snapshot."""
    named = (pc.field("kind") == "reference") & pc.field("source_file").isin(pa.array(list(names), pa.string()))
    wanted = named & (pc.field("status") == "loaded") & is_of(loads_that_published(spark))
    everywhere = tables.all_locations(spark, LOAD_FILES)
    rows = tables.read_rows(spark, LOAD_FILES, everywhere, wanted, only=["source_file"], seldom=named)
    return set(rows["source_file"].to_pylist())


def of_load(spark: SparkSession, load_id: str) -> list[str]:
    """Readings files that a load took. Raises UnknownFile if there are none."""
    rows = tables.read_rows(spark, LOAD_FILES, tables.all_locations(spark, LOAD_FILES), is_of([load_id]))
    taken = rows.filter(pc.and_(pc.equal(rows["kind"], "readings"), pc.is_in(rows["status"], pa.array(["loaded"]))))
    if not taken.num_rows:
        raise UnknownFile(f"{load_id}: no load that took readings files; `lake status` lists loads")
    return sorted(taken["source_file"].to_pylist())


def in_quarantine(spark: SparkSession, names: Collection[str]) -> set[str]:
    """Files of which something is in quarantine and no later version came: those of `names`, or all of them but those
    of loads that were rolled back, which are to stay away.

    Raises UnknownFile.
    """
    files, rows = spark.table("quarantine.open_files"), spark.table("quarantine.open_readings")
    found = files.select("source_file", "load_id").union(rows.select("source_file", "load_id"))
    if not names:
        rolled_back = spark.table("ops.rolled_back_loads").select("load_id")
        found = found.join(rolled_back, on="load_id", how="left_anti")
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
            f"Left out, because they are no longer in the landing place: {_some(gone)}."
            " `lake quarantine dismiss --gone` takes them off the list."
        )
    found -= gone
    if retracted := of_which_something_was_retracted(spark, found):
        tell(
            f"Left out, because some of what they said was retracted, and would come back: {_some(retracted)}."
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


def _some(names: Collection[str]) -> str:
    """The first ones, in their order."""
    more = f" and {len(names) - EXAMPLES:,} more" if len(names) > EXAMPLES else ""
    return f"{', '.join(sorted(names)[:EXAMPLES])}{more}"
