"""How long one meterpoint's year takes to read among many meterpoints, and how much is skipped for it.

    python -m tests.bench.one_meterpoint --meterpoints 200000

A real load brings one date. All other dates of the year are then given the folders of that one, so that there are as
many partitions, files and row groups to look into as if each had been loaded; times within the rows stay those of the
first date, and the system has the files in memory. Each query asks for another meterpoint, embedded, and goes through
the date's partitions of a whole year.
"""

import os
import statistics
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from pyspark.sql import functions as F

from jobs import tables
from jobs.sample import write_sample
from jobs.settings import Settings
from jobs.spark import start_session
from jobs.tables import DAILY_METERPOINT, READINGS
from tests.bench.scale import PLACES, loaded

FIRST, DAYS = date(2021, 1, 1), 365
ROUNDS = 7
OF_ONE = "WHERE meterpoint_id = '{}' AND date BETWEEN DATE '2021-01-01' AND DATE '2021-12-31'"
QUERIES = {
    "readings": f"SELECT date, count(*), sum(consumption_kwh) FROM silver.readings {OF_ONE} GROUP BY date",
    "half hours with agreement and product": f"SELECT * FROM gold.readings_enriched {OF_ONE}",
    "daily sums": f"SELECT * FROM mart.daily_meterpoint_consumption {OF_ONE}",
}


def main(meterpoints: Annotated[int, typer.Option(min=ROUNDS)] = 200_000) -> None:
    with tempfile.TemporaryDirectory(prefix="one-meterpoint-") as temporary:
        folder = Path(temporary)
        write_sample(folder / "landing", meterpoints=meterpoints, days=1, start=FIRST)
        loaded(folder)
        os.environ.update({name: str(folder / value) for name, value in PLACES.items()})
        spark = start_session(Settings())
        places = {table: tables.all_locations(spark, table)[str(FIRST)] for table in (READINGS, DAILY_METERPOINT)}
        for table, place in places.items():
            tables.publish(spark, table, {str(FIRST + timedelta(days=day)): place for day in range(1, DAYS)})
        known = spark.table(READINGS).where(f"date = DATE '{FIRST}'").select("meterpoint_id").distinct()
        ids = [row.meterpoint_id for row in known.orderBy(F.rand(1)).limit(ROUNDS).collect()]
        groups, may_hold = row_groups(Path(tables.plain(places[READINGS])), ids)
        held = statistics.mean(may_hold)
        print(f"of {groups} row groups of a date {held:.1f} may hold a meterpoint, by their least and greatest id")
        for name, sql in QUERIES.items():
            seconds, rows = [], 0
            for each in ids:
                began = time.monotonic()
                rows = len(spark.sql(sql.format(each)).collect())
                seconds.append(time.monotonic() - began)
            first, later = (1000 * each for each in (seconds[0], statistics.median(seconds[1:])))
            print(f"{name}: {rows:,} rows, {first:,.0f} ms at first, then {later:,.0f} ms", flush=True)
        spark.stop()


def row_groups(folder: Path, ids: list[str]) -> tuple[int, list[int]]:
    """How many row groups a folder's files have, and for each meterpoint how many of them may hold it."""
    spans = []
    for file in folder.glob("*.parquet"):
        metadata = pq.ParquetFile(file).metadata
        column = metadata.schema.names.index("meterpoint_id")
        spans += [metadata.row_group(number).column(column).statistics for number in range(metadata.num_row_groups)]
    return len(spans), [sum(span.min <= each <= span.max for span in spans) for each in ids]


if __name__ == "__main__":
    typer.run(main)
