"""Files of tasks that become one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem
from pyspark.sql import SparkSession

from jobs import silver
from jobs.readings import join
from jobs.readings.ingest import CLAIMS_SCHEMA, ORDER_OF_READINGS, READINGS_SCHEMA, Place, write_file

DAY, LOAD, NOON = "2021-01-01", "20210102T000000-aaaaaa", datetime(2021, 1, 1, 12, tzinfo=UTC)


def reading(meterpoint: str, half_hour: int = 0, kwh: int = 1, file: str = "a.json") -> dict[str, Any]:
    start = NOON + half_hour * timedelta(minutes=30)
    times = {"interval_start": start, "interval_start_utc": start}
    of_load = {"load_id": LOAD, "known_from": LOAD, "reading_quality": None}
    return {"meterpoint_id": meterpoint, "consumption_kwh": Decimal(kwh), "source_file": file} | times | of_load


def claim(meterpoint: str) -> dict[str, Any]:
    return {
        "source_file": "a.json",
        "meterpoint_id": meterpoint,
        "load_id": LOAD,
        "modified_at": NOON,
        "readings": 1,
    }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folders: dict[str, Any] = {name: str(tmp_path / name) for name in ("readings", "contested", "claims", "staging")}
    local = LocalFileSystem()
    return Place(local, str(tmp_path), local, **folders, staging_uri=folders["staging"], load_id=LOAD, started_at=NOON)


def written(place: Place, parts: list[list[dict[str, Any]]]) -> Path:
    """Write parts of the date's readings, and of their claims. Returns the readings' folder."""
    for number, rows in enumerate(parts):
        claims = [claim(meterpoint) for meterpoint in sorted({row["meterpoint_id"] for row in rows})]
        for root, schema, content in (
            (place.readings, READINGS_SCHEMA, rows),
            (place.claims, CLAIMS_SCHEMA, claims),
        ):
            table = pa.Table.from_pylist(content, schema)
            write_file(place.lake, f"{root}/date={DAY}/load={LOAD}", f"part-{number}-0-0.parquet", table)
    return Path(place.readings, f"date={DAY}", f"load={LOAD}")


def join_date(place: Place) -> list[str]:
    """Returns paths of the files that are not needed then."""
    parts = join.parts_of(place, DAY)
    for each in parts:
        join.join(place, each)
    return [path for each in parts for path in each.paths]


def by_meterpoint(parts: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows = chain.from_iterable(parts)
    return sorted(rows, key=lambda row: (row["meterpoint_id"].encode(), row["interval_start_utc"]))


# Each meterpoint's readings of a date are of one file, so they are in one part.
parts_of_meterpoints = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=3), st.tuples(st.integers(0, 3), st.integers(1, 4))
)


@given(meterpoints=parts_of_meterpoints, size=st.integers(1, 5))
def test_parts__should_become_one_order_of_all_rows(meterpoints: dict[str, tuple[int, int]], size: int) -> None:
    parts: list[list[dict[str, Any]]] = [[], [], [], []]
    for name, (part, half_hours) in meterpoints.items():
        parts[part] += [reading(name, half_hour, file=f"{part}.json") for half_hour in range(half_hours)]

    def tables_of(rows: list[dict[str, Any]]) -> Iterator[pa.Table]:
        table = pa.Table.from_pylist(by_meterpoint([rows]), READINGS_SCHEMA)
        yield from (table.slice(first, size) for first in range(0, len(rows), size))

    content = list(join.of_size(join.merged(map(tables_of, parts), ORDER_OF_READINGS), size))

    assert [row for table in content for row in table.to_pylist()] == by_meterpoint(parts)
    assert all(table.num_rows == size for table in content[:-1])


def test_files_of_tasks__should_become_one_whose_row_groups_tell_meterpoints_apart(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "ROW_GROUP", 1)
    monkeypatch.setattr(join, "ROW_GROUPS", 6)
    parts = [[reading(f"m{number:02}", file=f"{part}.json") for number in range(part, 12, 3)] for part in range(3)]
    folder = written(place, parts)

    not_needed = join_date(place)

    assert sorted(Path(path) for path in not_needed if "/readings/" in path) == sorted(folder.glob("part-*"))
    assert len(not_needed) == 6
    [joined] = folder.glob("joined-*")
    file = pq.ParquetFile(joined)
    assert file.schema_arrow.equals(READINGS_SCHEMA)
    assert file.read().to_pylist() == by_meterpoint(parts)
    column = file.schema.names.index("meterpoint_id")
    groups = [file.metadata.row_group(number).column(column).statistics for number in range(file.num_row_groups)]
    assert len(groups) == 6
    assert file.metadata.row_group(0).column(column).has_column_index
    assert all(one.max < next_one.min for one, next_one in pairwise(groups))


def test_claims__should_be_joined_too(place: Place) -> None:
    written(place, [[reading("b")], [reading("a")]])

    join_date(place)

    [joined] = Path(place.claims).rglob("joined-*")
    assert pq.read_table(joined, partitioning=None).to_pylist() == [claim("a"), claim("b")]


def test_many_parts__should_become_some_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each open part takes memory."""
    monkeypatch.setattr(join, "MOST_PARTS", 2)
    folder = written(place, [[reading(name)] for name in "abcde"])

    for path in join_date(place):
        place.lake.delete_file(path)

    assert sorted(pq.read_metadata(path).num_rows for path in folder.iterdir()) == [1, 2, 2]


def test_single_part__should_stay_as_it_is(place: Place) -> None:
    folder = written(place, [[reading("a"), reading("b")]])

    assert join_date(place) == []
    assert [path.name for path in folder.iterdir()] == ["part-0-0-0.parquet"]


def test_dates_of_one_task_each__should_stay_as_they_are_in_a_large_load(
    spark: SparkSession, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silver, "LITTLE_ROWS", -1)
    folder = written(place, [[reading("a"), reading("b")]])

    silver._join(spark, place, {DAY: 2})

    assert [path.name for path in folder.iterdir()] == ["part-0-0-0.parquet"]


def test_rows_that_are_in_no_order__should_all_be_there_at_the_end() -> None:
    names = [["b", "c", "a"], ["a", "b"]]
    parts = ([pa.Table.from_pylist([reading(name) for name in part], READINGS_SCHEMA)] for part in names)

    content = list(join.merged(map(iter, parts), ORDER_OF_READINGS))

    assert sorted(name for table in content for name in table["meterpoint_id"].to_pylist()) == ["a", "a", "b", "b", "c"]


def test_task_that_is_tried_again__should_leave_nothing_of_the_attempt_that_died(place: Place) -> None:
    folder = written(place, [[reading("b")], [reading("a")]])
    begun = folder / "joined-0-7.parquet"
    begun.write_bytes(b"half a file")

    join_date(place)

    [joined] = folder.glob("joined-*")
    assert joined.name == "joined-0-0.parquet"
    assert pq.read_table(joined, partitioning=None).to_pylist() == [reading("a"), reading("b")]
