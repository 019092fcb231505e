"""What the driver merges by itself, without Spark."""

from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow.fs import LocalFileSystem

from jobs import silver
from jobs.readings.ingest import CLAIMS_SCHEMA, READINGS_SCHEMA, Place, write_file
from jobs.tables import CLAIMS, READINGS

DAY, NOON = "2021-01-01", datetime(2021, 1, 1, 12, tzinfo=UTC)
FIRST, SECOND = "20210102T000000-aaaaaa", "20210103T000000-aaaaaa"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A lakehouse with one date, of which three files each give one meterpoint's reading."""
    folders: dict[str, Any] = {name: str(tmp_path / name) for name in ("readings", "contested", "claims", "staging")}
    local = LocalFileSystem()
    place = Place(
        local, str(tmp_path), local, **folders, staging_uri=folders["staging"], load_id=SECOND, started_at=NOON
    )
    files = [("a.json", "a"), ("b.json", "b"), ("c.json", "c")]
    claim = {"load_id": FIRST, "modified_at": NOON, "readings": 1}
    reading = {"load_id": FIRST, "known_from": FIRST, "interval_start": NOON, "interval_start_utc": NOON}
    for root, schema, row in (
        (place.claims, CLAIMS_SCHEMA, claim),
        (place.readings, READINGS_SCHEMA, reading | {"consumption_kwh": Decimal(1)}),
    ):
        rows = [row | {"source_file": file, "meterpoint_id": meterpoint} for file, meterpoint in files]
        write_file(local, f"{root}/date={DAY}/load={FIRST}", "part-0.parquet", pa.Table.from_pylist(rows, schema))
    return place


def left(place: Place, reread: pa.Table) -> int:
    """How many readings count when versions of files are read once more, and say nothing."""
    held = {READINGS: {DAY: f"/date={DAY}/load={FIRST}"}, CLAIMS: {DAY: f"/date={DAY}/load={FIRST}"}}
    held["silver.contested_readings"] = {}
    taken_back = partial(silver._taken_back, None, reread, place.kept_from)
    [written] = silver._merge_here(place, held, {READINGS: {}, CLAIMS: {}}, [DAY], taken_back, False)
    return int(written["readings"])


def versions(*rows: tuple[str, str]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)], ["source_file", "load_id"])


def test_versions_that_are_read_once_more_make_room_however_many_there_are(place: Place) -> None:
    others = [(f"{number}.json", FIRST) for number in range(20_000)]

    assert left(place, versions(("a.json", FIRST), ("b.json", SECOND), ("c.json", FIRST), *others)) == 1


@pytest.mark.parametrize(("kept_from", "readings"), [(date(2021, 1, 1), 2), (date(2021, 1, 2), 3)])
def test_what_a_file_says_of_dates_that_are_kept_no_longer_stays_when_it_is_read_once_more(
    place: Place, kept_from: date, readings: int
) -> None:
    assert left(place._replace(kept_from=kept_from), versions(("a.json", FIRST))) == readings
