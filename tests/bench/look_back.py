"""What looking back costs: bytes of replaced values, and queries as of a moment beside the same of now.

    python -m tests.bench.look_back --meterpoints 2000

Loads a date, then the same date with one meterpoint in a hundred corrected, then with all corrected. Queries are asked
in turn, and their medians compared.
"""

import os
import statistics
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.sample import write_sample
from jobs.settings import Settings
from jobs.spark import start_session
from jobs.tables import SUPERSEDED
from tests.bench.scale import CORRECTED, PLACES, correct, loaded, tables

DAY = date(2021, 1, 1)
ROUNDS = 9
QUERIES = {
    "readings": "SELECT count(*), sum(consumption_kwh) FROM silver.readings{} WHERE date = DATE '2021-01-01'",
    "gold by half hour": "SELECT * FROM gold.half_hourly_consumption{} WHERE date = DATE '2021-01-01'",
    "gold by product": "SELECT * FROM gold.daily_product_consumption{} WHERE date = DATE '2021-01-01'",
}


def main(meterpoints: Annotated[int, typer.Option(min=100)] = 2_000) -> None:
    with tempfile.TemporaryDirectory(prefix="look-back-") as temporary:
        folder = Path(temporary)
        write_sample(folder / "landing", meterpoints=meterpoints, days=1, start=DAY)
        files = sorted((folder / "landing" / "readings").rglob("*.json"))
        loaded(folder)
        first = datetime.now(UTC)
        for what, some in (("one in a hundred", files[::CORRECTED]), ("all", files)):
            before = tables(folder)
            correct(some)
            loaded(folder)
            kept = tables(folder)[SUPERSEDED]["bytes"]
            kept -= before[SUPERSEDED]["bytes"] if SUPERSEDED in before else 0
            a_value = kept / (48 * len(some))
            print(f"{what} corrected: {kept:,} bytes of replaced values, {a_value:.1f} each", flush=True)
        readings = before["silver.readings"]
        print(f"silver.readings: {readings['bytes'] / (48 * meterpoints * readings['partitions']):.1f} bytes a reading")
        ask(folder, first)


def ask(folder: Path, moment: datetime) -> None:
    os.environ.update({name: str(folder / value) for name, value in PLACES.items()})
    spark = start_session(Settings())
    then = f"_as_of(TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S}')"
    for name, sql in QUERIES.items():
        seconds: dict[str, list[float]] = {"": [], then: []}
        for _ in range(ROUNDS):
            for of, measured in seconds.items():
                began = time.monotonic()
                spark.sql(sql.format(of)).collect()
                measured.append(time.monotonic() - began)
        now, past = (statistics.median(measured[2:]) for measured in seconds.values())
        print(
            f"{name}: now {1000 * now:.0f} ms, as of a moment {1000 * past:.0f} ms, ratio {past / now:.1f}", flush=True
        )
    spark.stop()


if __name__ == "__main__":
    typer.run(main)
