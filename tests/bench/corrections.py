"""What a correction costs: rows and bytes that a load writes, beside the readings that it changes.

    python -m tests.bench.corrections --meterpoints 2000 --days 90

Loads so many meterpoints and dates, then one change after the other, each by a load in one and the same process: a
late meterpoint on each date; one meterpoint in a hundred corrected on one date; a file that repeats all dates of a
meterpoint and changes one of them; an agreement that gets another product on all dates. Beside them a load of one new
meterpoint on one new date: what any load costs. Rows and bytes are those of the Parquet files that a load wrote; bytes
read are what all processes asked of the system (rchar in /proc), classes and the metastore included.
"""

import json
import os
import sqlite3
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import pyarrow.parquet as pq
import typer
from pyspark.sql import SparkSession

from jobs import load
from jobs.sample import write_sample
from jobs.settings import Settings
from jobs.spark import start_session
from tests.bench.scale import CORRECTED, PLACES

FIRST = date(2021, 1, 1)
MIB = 2**20
COLUMNS = (
    "",
    "seconds",
    "readings changed",
    "rows written",
    "of readings",
    "bytes written",
    "of readings",
    "of marts",
    "MiB read",
)


def main(
    meterpoints: Annotated[int, typer.Option(min=CORRECTED)] = 2_000, days: Annotated[int, typer.Option(min=2)] = 90
) -> None:
    with tempfile.TemporaryDirectory(prefix="corrections-") as temporary:
        folder = Path(temporary)
        landing = folder / "landing"
        write_sample(landing, meterpoints=meterpoints, days=days, start=FIRST)
        os.environ.update({name: str(folder / value) for name, value in PLACES.items()})
        settings = Settings()
        spark = start_session(settings)
        measured(spark, settings)
        print(f"# {meterpoints:,} meterpoints, {days} dates\n")
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for what, change in CHANGES.items():
            readings = change(landing, days)
            seconds, read, written = measured(spark, settings)
            rows, size = (Counter({name: number[place] for name, number in written.items()}) for place in (0, 1))
            print(
                f"| {what} | {seconds:.1f} | {readings:,} | {sum(rows.values()):,} | {rows['silver.readings']:,}"
                f" | {sum(size.values()):,} | {size['silver.readings']:,}"
                f" | {sum(each for name, each in size.items() if name.startswith('mart.')):,} | {read / MIB:.0f} |",
                flush=True,
            )
        spark.stop()


def measured(spark: SparkSession, settings: Settings) -> tuple[float, int, dict[str, list[int]]]:
    """Load what is new: seconds, bytes read, and rows and bytes written by table."""
    began, before = time.monotonic(), bytes_read()
    summary = load.run(spark, settings, lambda _: nullcontext())
    seconds, read = time.monotonic() - began, bytes_read() - before
    assert summary is not None and summary.published, "the load was not published"
    written: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    warehouse = Path(settings.warehouse)
    for file in warehouse.rglob(f"load={summary.load_id}*/*.parquet"):
        counts = written[".".join(file.relative_to(warehouse).parts[:2]).removesuffix("_by_layer")]
        counts[0] += pq.read_metadata(file).num_rows
        counts[1] += file.stat().st_size
    return seconds, read, written


def bytes_read() -> int:
    """What this process and its children have asked the system for."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    found = 0
    for pid in [str(os.getpid()), *children]:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        found += int(dict(line.split(": ") for line in lines)["rchar"])
    return found


# --- changes; each returns how many readings it changes -------------------------------------------------------------


def new_day(landing: Path, days: int) -> int:
    return deliver(landing, "new-day.json", rows_of("new", [FIRST + timedelta(days=days)]))


def late(landing: Path, days: int) -> int:
    return deliver(landing, "late.json", rows_of("late", dates(days)))


def one_in_a_hundred(landing: Path, days: int) -> int:
    day, changed = FIRST + timedelta(days=days // 2), 0
    for number, file in enumerate(files(landing)[::CORRECTED]):
        rows = [[start, round(kwh + 0.001, 3), of] for start, kwh, of in rows_in(file) if start.startswith(str(day))]
        changed += deliver(landing, f"corrected-{number}.json", rows)
    return changed


def repeats(landing: Path, days: int) -> int:
    day, rows = str(FIRST + timedelta(days=days // 3)), rows_in(files(landing)[1])
    changed = [[start, round(kwh + 0.001, 3) if start.startswith(day) else kwh, of] for start, kwh, of in rows]
    deliver(landing, "repeats.json", changed)
    return sum(row != earlier for row, earlier in zip(changed, rows, strict=True))


def agreement(landing: Path, days: int) -> int:
    """Of the readings nothing changes; the marts of one meterpoint do on all dates."""
    with closing(sqlite3.connect(landing / "case_study.db")) as connection, connection:
        held = "agreement_valid_from <= ? AND (agreement_valid_to IS NULL OR agreement_valid_to > ?)"
        span = str(FIRST), str(FIRST + timedelta(days=days))
        [(number, product)] = connection.execute(
            f"SELECT agreement_id, product_id FROM agreement WHERE {held} LIMIT 1", span
        ).fetchall()
        [(other,)] = connection.execute(
            "SELECT product_id FROM product WHERE product_id <> ? LIMIT 1", [product]
        ).fetchall()
        connection.execute("UPDATE agreement SET product_id = ? WHERE agreement_id = ?", [other, number])
    return 0


CHANGES: dict[str, Callable[[Path, int], int]] = {
    "one new meterpoint on a new date": new_day,
    "one late meterpoint on each date": late,
    "one in a hundred corrected on one date": one_in_a_hundred,
    "a file that repeats all dates and changes one": repeats,
    "one agreement on all dates": agreement,
}


def dates(days: int) -> list[date]:
    return [FIRST + timedelta(days=number) for number in range(days)]


def rows_of(meterpoint: str, days: list[date]) -> list[list[Any]]:
    """Half hours of winter or summer alike: the gap and the hour that comes twice are left out."""
    return [[f"{day} {step // 2:02}:{step % 2 * 30:02}:00", 0.2, meterpoint] for day in days for step in range(4, 48)]


def files(landing: Path) -> list[Path]:
    """Those of the sample."""
    return sorted(file for file in (landing / "readings").rglob("*.json") if file.parent.name != "delivered")


def rows_in(file: Path) -> list[list[Any]]:
    document = orjson.loads(file.read_bytes())
    places = [document["columns"].index(name) for name in ("interval_start", "consumption_delta", "meterpoint_id")]
    return [[row[place] for place in places] for row in document["data"]]


def deliver(landing: Path, name: str, rows: list[list[Any]]) -> int:
    """A file that is newer than the others, and how many readings it has."""
    file = landing / "readings" / "delivered" / name
    file.parent.mkdir(exist_ok=True)
    columns = ["interval_start", "consumption_delta", "meterpoint_id"]
    file.write_text(json.dumps({"columns": columns, "data": rows}))
    return len(rows)


if __name__ == "__main__":
    typer.run(main)
