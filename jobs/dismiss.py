"""Take files off the list of what is in quarantine, on a person's word."""

from collections.abc import Collection
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from jobs import landing
from jobs.errors import LakeError
from jobs.ledger import files, loads, writer
from jobs.settings import Settings
from jobs.stores import open_folder
from jobs.tables import LOAD_FILES


def run(spark: SparkSession, settings: Settings, names: Collection[str], *, gone: bool = False) -> list[str]:
    """Record that files were dismissed, as a load of this kind, and return them. What was rejected stays recorded.

    With `gone` these are, beside those named, all that are no longer in the landing place.

    Raises UnknownFile where a file is not in quarantine, LakeError where no file is gone.
    """
    previous, started_at = writer.writer(spark), datetime.now(UTC)
    dismissed = files.in_quarantine(spark, names) if names else set()
    if gone:
        dismissed |= files.in_quarantine(spark, ()) - _there(settings)
    if not dismissed:
        raise LakeError("no file in quarantine is gone from the landing place")
    load_id = loads.begin(spark, previous)
    rows = [{"source_file": name, "kind": "readings", "status": "dismissed"} for name in sorted(dismissed)]
    loads.append_rows(spark, rows, LOAD_FILES, load_id)
    loads.append_change(spark, load_id, "dismiss", started_at, {})
    return sorted(dismissed)


def _there(settings: Settings) -> set[str]:
    """Names of the files in the landing place. Raises LakeError where there is none: it may only be not mounted."""
    found = landing.look(*open_folder(settings.landing, settings.s3_endpoint))
    if not (found.readings or found.reference):
        raise LakeError(f"{settings.landing} has no input at all: is it mounted? If so, name the files to dismiss")
    return {file.source_file for file in [*found.readings, *found.reference]}
