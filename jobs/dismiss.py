"""Take files off the list of what is in quarantine, on a person's word."""

from collections.abc import Collection
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from jobs.ledger import files, loads, writer
from jobs.tables import LOAD_FILES, LOADS


def run(spark: SparkSession, names: Collection[str]) -> None:
    """Record that files were dismissed, as a load of this kind. What was rejected stays recorded.

    Raises UnknownFile where a file is not in quarantine.
    """
    previous, started_at = writer.writer(spark), datetime.now(UTC)
    dismissed = sorted(files.in_quarantine(spark, names))
    load_id = writer.new_load_id(started_at, loads.recorded_loads(spark))
    writer.become_writer(spark, load_id, after=previous)
    rows = [{"source_file": name, "kind": "readings", "status": "dismissed"} for name in dismissed]
    loads.append_rows(spark, rows, LOAD_FILES, load_id)
    load = {"status": "published", "kind": "dismiss", "started_at": started_at, "finished_at": datetime.now(UTC)}
    loads.append_rows(spark, [load], LOADS, load_id)
