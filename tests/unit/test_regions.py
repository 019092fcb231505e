"""The region of a meterpoint on each date, against a calculation in plain Python that looks at every snapshot."""

from datetime import date, timedelta

import pyarrow as pa
import pytest
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from jobs import marts, regions
from jobs.relations import as_table
from tests.model.regions import Snapshots, region_on
from tests.unit.examples import examples

DAY = date(2021, 1, 10)
DATES = [DAY + timedelta(days=number) for number in range(-2, 12)]


def spans(snapshots: Snapshots) -> pa.Table:
    """silver.meterpoint_regions after all of them."""
    rows = regions.SPANS.empty_table()
    for day, of in snapshots:
        of_snapshot = pa.table(
            [pa.array(list(of), pa.string()), pa.array(list(of.values()), pa.string())], ["meterpoint_id", "region"]
        )
        rows = regions.after_snapshot(rows, of_snapshot, day)
    return rows


def lasting(table: pa.Table) -> list[tuple[str, str, date | None, date | None]]:
    return [tuple(row.values()) for row in table.drop_columns("snapshot_date").to_pylist()]


SCHEMA = "meterpoint_id STRING, region STRING, snapshot_date DATE, valid_from DATE, valid_to DATE"
N, S = "North", "South"
# What the snapshots of the same days say of one meterpoint: a string, null, blank, or nothing at all.
days = sorted([0, 1, 1, 4, 4, 4, 9])
word = st.sampled_from([N, N, S, " North ", None, "", "gone"])
words = st.lists(word, min_size=len(days), max_size=len(days))


def made_snapshots(count: int) -> Snapshots:
    """Snapshots of many meterpoints: these have nothing to do with each other, so each is an example of its own."""
    made = examples(words, count)
    return [
        (
            DAY + timedelta(days=day),
            {f"m{number}": each[position] for number, each in enumerate(made) if each[position] != "gone"},
        )
        for position, day in enumerate(days)
    ]


def test_a_region__should_hold_from_its_snapshot_on_and_the_first_one_since_ever() -> None:
    day = [DAY + timedelta(days=number) for number in range(9)]

    moved = lasting(spans([(day[0], {"m": N}), (day[3], {"m": N}), (day[5], {"m": S})]))
    left = lasting(spans([(day[0], {"m": N}), (day[3], {})]))
    unnamed = lasting(spans([(day[0], {"m": None}), (day[3], {"m": N}), (day[5], {"m": " "})]))
    again = lasting(spans([(day[0], {"m": N}), (day[3], {"m": S}), (day[3], {"m": N})]))
    back = lasting(spans([(day[0], {"m": N}), (day[3], {"m": S}), (day[5], {"m": N})]))
    late = lasting(spans([(day[0], {"other": N}), (day[5], {"other": N, "m": S}), (day[5], {"other": N})]))

    assert moved == [("m", N, None, day[5]), ("m", S, day[5], None)]
    assert left == unnamed == again == [("m", N, None, None)]
    assert back == [("m", N, None, day[3]), ("m", S, day[3], day[5]), ("m", N, day[5], None)]
    assert late == [("other", N, None, None)]


def test_no_meterpoint__should_make_no_row() -> None:
    assert lasting(spans([(DAY, {}), (DAY, {})])) == []


def test_with_region__should_find_the_region_of_each_date(spark: SparkSession) -> None:
    snapshots = made_snapshots(200)
    ids = [f"m{number}" for number in range(201)]
    rows = [(each, day) for each in ids for day in DATES]
    held = pa.table(dict(zip(("meterpoint_id", "date"), zip(*rows, strict=True), strict=True)))
    of_regions = spans(snapshots)

    in_memory = marts.with_region(held, of_regions)
    in_spark = marts.with_region(spark.createDataFrame(held), spark.createDataFrame(of_regions)).toArrow()

    expected = {(each, day): region_on(snapshots, each, day) for each, day in rows}
    for found in (in_memory.to_pylist(), in_spark.to_pylist()):
        assert {(row["meterpoint_id"], row["date"]): row["region"] for row in found} == expected
        assert len(found) == len(rows)
    assert set(expected.values()) == {N, S, None}


@pytest.mark.parametrize("where", ["in Spark", "in memory"])
def test_changed_regions__should_be_the_dates_on_which_the_region_differs(spark: SparkSession, where: str) -> None:
    snapshots = made_snapshots(300)
    ids = [f"m{number}" for number in range(300)]
    reached = set()
    for number in range(len(snapshots)):
        before, after = snapshots[:number], snapshots[: number + 1]
        given = [spans(each) for each in (before, after)]
        if where == "in Spark":
            given = [spark.createDataFrame(each) for each in given]

        found = as_table(marts.changed_regions(*given)).to_pylist()

        changed = {
            (row["meterpoint_id"], day): row["was_known"]
            for row in found
            for day in DATES
            if row["valid_from"] <= day < row["valid_to"]
        }
        assert changed == {
            (each, day): known is not None
            for each in ids
            for day in DATES
            if (known := region_on(before, each, day)) != region_on(after, each, day)
        }
        reached |= {day < snapshots[number][0] for (_, day), known in changed.items() if known}
        assert all(row["valid_from"] in (date.min, snapshots[number][0]) for row in found)
    # Before the snapshot's date only where another snapshot of that date was the first to name a region.
    assert reached == {False, True}
