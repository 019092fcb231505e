"""tests/scenarios: business cases as files (when/) and what is to become of them (then/), at the level of the parser.

The files of a case were modified at the time that when/modified_at tells, else on 1 January 2024.
"""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.readings.parse import parse_file
from jobs.readings.rules import FileRejected

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def then(folder: Path, name: str) -> list[tuple[str, ...]]:
    lines = [line for line in (folder / "then" / name).read_text().splitlines() if not line.startswith("#")]
    return [tuple(row) for row in csv.reader(lines)][1:]


def text(micros: int) -> str:
    return f"{datetime(1970, 1, 1) + timedelta(microseconds=int(micros)):%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize("name", sorted(folder.name for folder in SCENARIOS.iterdir()))
def test_scenario__should_end_as_it_says(name: str) -> None:
    folder = SCENARIOS / name
    told = folder / "when" / "modified_at"
    modified = datetime.fromisoformat(told.read_text().strip()) if told.exists() else datetime(2024, 1, 1, tzinfo=UTC)
    readings, rejected, warnings, files = [], [], [], []

    for path in sorted(set((folder / "when").iterdir()) - {told}):
        try:
            result = parse_file(path.name, path.read_bytes(), int(modified.timestamp()) * 1_000_000)
        except FileRejected as error:
            files.append((path.name, error.reason))
            continue
        readings += [
            (meterpoint, text(start), text(utc), f"{kwh:.6f}", quality or "")
            for _, meterpoint, start, utc, kwh, quality in zip(*result.good.to_pydict().values(), strict=True)
        ]
        rejected += [(path.name, str(each.position), each.reason) for each in result.rejected]
        warnings += [(path.name, warning, str(count)) for warning, count in result.warnings.items()]

    assert sorted(readings) == then(folder, "readings.csv")
    assert sorted(rejected) == sorted(then(folder, "rejected.csv"))
    assert sorted(warnings) == then(folder, "warnings.csv")
    assert files == then(folder, "files.csv")
