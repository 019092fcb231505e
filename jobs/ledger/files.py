"""What is known of files: which versions were read, and what of them is in quarantine."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import tables
from jobs.errors import LakeError
from jobs.landing import Delivered
from jobs.ledger.loads import is_of, loads_that_published
from jobs.tables import LOAD_FILES

FILE = pa.schema([("source_file", pa.string()), ("size_bytes", pa.int64()), ("modified_at", pa.timestamp("us", "UTC"))])


class UnknownFile(LakeError):
    """A file that a person named is not there, or not in the state that was meant."""


def to_read(spark: SparkSession, delivered: list[Delivered], again: Collection[str] = ()) -> pa.Table:
    """Delivered files that are to be read: those that are not known, or have another size or time than the version that
    is, and those named in `again`.

    Columns: source_file, size_bytes, modified_at, and known_sha256, by which the bytes of the known version are
    recognised; null for a file of `again`, which is read though its bytes are known.
    """
    rows = [dict(zip(FILE.names, file, strict=True)) for file in delivered]
    files = pa.Table.from_pylist(rows, schema=FILE)
    files = files.join(_newest_versions(spark, files["source_file"]), "source_file", join_type="left outer")
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


def _newest_versions(spark: SparkSession, delivered: pa.ChunkedArray) -> pa.Table:
    """One row per delivered source_file that loads took: size, modification time and checksum of its newest version. A
    file that could not be read (no checksum) is as good as unknown: it is tried again."""
    # Only these are read into memory: the table has all files that ever were delivered.
    wanted = pc.field("source_file").isin(delivered.combine_chunks()) & is_of(loads_that_published(spark))
    versions = tables.read_rows(spark, LOAD_FILES, tables.all_locations(spark, LOAD_FILES), wanted)
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
    wanted = pc.field("source_file").isin(files["source_file"].combine_chunks()) & is_of(loads_that_published(spark))
    versions = tables.read_rows(spark, LOAD_FILES, tables.all_locations(spark, LOAD_FILES), wanted)
    same = versions.select(["source_file", "sha256", "load_id"]).join(
        files.select(["source_file", "sha256"]), ["source_file", "sha256"], join_type="left semi"
    )
    return same.select(["source_file", "load_id"])


def snapshots_taken(spark: SparkSession) -> set[str]:
    """Reference files of which a version became a snapshot."""
    wanted = (pc.field("kind") == "reference") & (pc.field("status") == "loaded") & is_of(loads_that_published(spark))
    rows = tables.read_rows(spark, LOAD_FILES, tables.all_locations(spark, LOAD_FILES), wanted)
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
    if unknown := sorted(set(names) - known):
        raise UnknownFile(f"{', '.join(unknown)}: not in quarantine; `lake quarantine list` tells what is")
    return set(names) or known
