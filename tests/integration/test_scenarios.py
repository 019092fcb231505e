"""All business cases of tests/scenarios in one load: good ones beside bad ones, each ends as it says."""

import csv
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.lake import Lake

SCENARIOS = Path(__file__).parents[1] / "scenarios"
FOLDERS = sorted(SCENARIOS.iterdir())
Rows = list[tuple[str, ...]]


@pytest.fixture(scope="module")
def loaded(new_lake: Callable[[], Lake]) -> Lake:
    lake = new_lake()
    for folder in FOLDERS:
        told = folder / "when" / "modified_at"
        modified = (
            datetime.fromisoformat(told.read_text().strip()) if told.exists() else datetime(2024, 1, 1, tzinfo=UTC)
        )
        for path in set((folder / "when").iterdir()) - {told}:
            target = lake.landing.folder / "readings" / folder.name / path.name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
            os.utime(target, (modified.timestamp(), modified.timestamp()))
    assert lake.load().published
    return lake


def then(name: str) -> Rows:
    """What all cases say, each row with the name of its case."""
    rows: Rows = []
    for folder in FOLDERS:
        lines = [line for line in (folder / "then" / name).read_text().splitlines() if not line.startswith("#")]
        rows += [(folder.name, *row) for row in [*csv.reader(lines)][1:]]
    return sorted(rows)


def found(lake: Lake, sql: str) -> Rows:
    return sorted(tuple("" if value is None else str(value) for value in row) for row in lake.rows(sql))


CASE = "split(source_file, '/')[1]"
FILE = "split(source_file, '/')[2]"


def test_readings_that_count_are_those_of_the_cases(loaded: Lake) -> None:
    sql = f"SELECT {CASE}, meterpoint_id, interval_start, interval_start_utc, consumption_kwh, reading_quality FROM"

    assert found(loaded, f"{sql} silver.readings UNION ALL {sql} silver.contested_readings") == then("readings.csv")


def test_rejected_rows_and_files_are_those_of_the_cases(loaded: Lake) -> None:
    rows = found(loaded, f"SELECT {CASE}, {FILE}, position, reason FROM quarantine.readings")
    files = found(loaded, f"SELECT {CASE}, {FILE}, reason FROM quarantine.files")

    assert rows == then("rejected.csv")
    assert files == then("files.csv")


def test_warnings_are_those_of_the_cases_file_by_file(loaded: Lake) -> None:
    sql = f"SELECT {CASE}, {FILE}, name, count FROM ops.load_files LATERAL VIEW explode(warnings) AS name, count"

    assert found(loaded, sql) == then("warnings.csv")
