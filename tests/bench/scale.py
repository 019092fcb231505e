"""What a settlement date costs: measured for two sizes here, and worked out from that for a supplier's.

    python -m tests.bench.scale measure --meterpoints 20000 --out 20k.json
    python -m tests.bench.scale measure --meterpoints 200000 --out 200k.json
    python -m tests.bench.scale table tests/bench/measured/*.json

`measure` loads embedded, each load in a process of its own: the first date with the tables' making and the reference
snapshot; the second date, which is what every day costs; nothing new; and the second date again with one meterpoint in
a hundred corrected. It counts seconds of processors (user and system, of the process and all its children), which other
work on the machine changes less than it changes the time; the highest resident memory; bytes and files by table.

`table` takes the line through both measurements (fixed cost and cost a meterpoint), bytes from the smaller one, and
prints the table of docs/scale.md.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from jobs.sample import write_sample
from jobs.settings import Settings
from tests.bench.ingest import resident_memory

app = typer.Typer(add_completion=False)
FIRST, SECOND = date(2021, 1, 1), date(2021, 1, 2)
READINGS_A_DAY = 48
CORRECTED = 100  # of so many meterpoints one
PLACES = {"LAKE_LANDING": "landing", "LAKE_WAREHOUSE": "warehouse", "LAKE_STATE": "state", "LAKE_REPORTS": "reports"}
TICKS = os.sysconf("SC_CLK_TCK")
Measured = dict[str, Any]


@app.command()
def measure(
    meterpoints: Annotated[int, typer.Option(min=1000)] = 20_000,
    out: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Load two dates of so many meterpoints, and print what that took."""
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        folder = Path(temporary)
        landing = folder / "landing"
        (landing / "readings").mkdir(parents=True)
        found: Measured = {"meterpoints": meterpoints}
        for name, day in (("first", FIRST), ("daily", SECOND)):
            made = folder / f"made-{day}"
            write_sample(made, meterpoints=meterpoints, days=1, start=day)
            (made / "readings").rename(landing / "readings" / str(day))
            if day == FIRST:
                (made / "case_study.db").rename(landing / "case_study.db")
            before = tables(folder)
            found[name] = loaded(folder)
            found[name]["added"] = {table: added(tables(folder)[table], before.get(table)) for table in tables(folder)}
        files = sorted((landing / "readings" / str(SECOND)).rglob("*.json"))
        found["bytes_a_file"] = sum(file.stat().st_size for file in files) / len(files)
        found["nothing new"] = loaded(folder)
        correct(files[::CORRECTED])
        found["corrected"] = loaded(folder)
    print(text := json.dumps(found, indent=1))
    if out:
        out.write_text(text)


def correct(files: Iterable[Path]) -> None:
    """Have each reading of the files be another one."""
    for file in files:
        document = orjson.loads(file.read_bytes())
        place = document["columns"].index("consumption_delta")
        for row in document["data"]:
            row[place] = round(row[place] + 0.001, 3)
        file.write_bytes(orjson.dumps(document))


def added(now: Counter[str], before: Counter[str] | None) -> dict[str, int]:
    return {what: count - (before or Counter())[what] for what, count in now.items()}


def tables(folder: Path) -> dict[str, Counter[str]]:
    """Bytes, files and partitions of each table."""
    found: dict[str, Counter[str]] = {}
    warehouse = folder / "warehouse"
    for file in warehouse.glob("*/*/*/load=*/*.parquet"):
        schema, table, _, _, _ = file.relative_to(warehouse).parts
        counts = found.setdefault(f"{schema}.{table}", Counter())
        counts["files"] += 1
        counts["bytes"] += file.stat().st_size
    for table, counts in found.items():
        counts["partitions"] = len(list((warehouse / table.replace(".", "/")).glob("*=*")))
    return found


def loaded(folder: Path) -> Measured:
    """Run one load, and watch it."""
    environment = os.environ | {name: str(folder / value) for name, value in PLACES.items()}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.scale", "load"], env=environment, stdout=subprocess.PIPE, text=True
    )
    peak, processors = 0, dict[int, float]()

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, resident_memory(process.pid))
            processors.update(processor_seconds(process.pid))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate(timeout=7200)
    watcher.join()
    if process.returncode:
        raise SystemExit(f"the load ended with exit status {process.returncode}")
    said: Measured = json.loads(output.splitlines()[-1])
    return said | {
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(sum(processors.values()), 1),
        "peak_mib": round(peak / 2**20),
    }


@app.command(hidden=True)
def load() -> None:
    from jobs import load as job
    from jobs.cli.work import Job
    from jobs.spark import start_session

    settings = Settings()
    this = Job(settings)
    with this.stage("start Spark"):
        spark = start_session(settings)
    summary = job.run(spark, settings, this.stage)
    this.end()
    readings = summary.readings_loaded if summary else 0
    print(json.dumps({"stages": {name: round(each, 1) for name, each in this.stages.items()}, "readings": readings}))


@app.command()
def table(
    measured: Annotated[list[Path], typer.Argument(help="Two files that `measure` wrote")],
    core_hour: Annotated[float, typer.Option(help="US$")] = 0.05,
    thousand_gets: Annotated[float, typer.Option(help="US$")] = 0.0004,
    gigabyte_month: Annotated[float, typer.Option(help="US$")] = 0.023,
    busy: Annotated[float, typer.Option(help="Share of the paid cores that works")] = 0.5,
    a_file: Annotated[int, typer.Option(help="Meterpoints in a file, of the last row")] = 1_000,
) -> None:
    """Print what a settlement date costs, of so many meterpoints."""
    small, large = sorted((json.loads(file.read_text()) for file in measured), key=lambda each: each["meterpoints"])

    def line(value: Callable[[Measured], float]) -> Callable[[int], float]:
        """The straight line through both measurements, as a function of the number of meterpoints."""
        slope = (value(large) - value(small)) / (large["meterpoints"] - small["meterpoints"])
        return lambda meterpoints: value(small) + slope * (meterpoints - small["meterpoints"])

    processors = line(lambda each: each["daily"]["processor_seconds"])
    rewritten = line(lambda each: each["corrected"]["processor_seconds"])
    listed = line(lambda each: each["nothing new"]["peak_mib"])  # two files a meterpoint are in the landing place
    per = {
        name: small["daily"]["added"][name]["bytes"] / small["meterpoints"]
        for name in ("silver.readings", "ops.claims", "ops.load_files", "mart.daily_meterpoint_consumption")
    }
    kept = sum(per.values())
    print("| | " + " | ".join(f"{count / 1e6:g} M meterpoints" for count in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    hours = [processors(count) / 3600 for count in SIZES]
    rows = {
        "processor time of the daily load, core-hours": [f"{each:.2f}" for each in hours],
        "minutes, with 8 cores kept busy": [f"{60 * each / 8:.0f}" for each in hours],
        "cores for 30 minutes": [f"{2 * each:.1f}" for each in hours],
        "core-hours of a load that corrects 1 % of a date": [f"{rewritten(count) / 3600:.2f}" for count in SIZES],
        "input, GB": [f"{count * small['bytes_a_file'] / 1e9:.1f}" for count in SIZES],
        "tables, GB a date": [f"{count * kept / 1e9:.2f}" for count in SIZES],
        "of it silver.readings": [f"{count * per['silver.readings'] / 1e9:.2f}" for count in SIZES],
        "of it ops.load_files": [f"{count * per['ops.load_files'] / 1e9:.2f}" for count in SIZES],
        "driver's memory for the list of a date's files, GB": [
            f"{(listed(count) - listed(0)) / 2 * 2**20 / 1e9:.1f}" for count in SIZES
        ],
        "network, GB: input, tables written and read twice": [
            f"{count * (small['bytes_a_file'] + 3 * kept) / 1e9:.1f}" for count in SIZES
        ],
        "processors, US$": [f"{each * core_hour / busy:.3f}" for each in hours],
        "a year's storage of the date, US$": [f"{12 * count * kept / 1e9 * gigabyte_month:.3f}" for count in SIZES],
        "requests to read a file a meterpoint, US$": [f"{count / 1000 * thousand_gets:.2f}" for count in SIZES],
        f"requests with {a_file:,} meterpoints a file, US$": [
            f"{count / a_file / 1000 * thousand_gets:.4f}" for count in SIZES
        ],
    }
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(values)} |")
    a_meterpoint = 1e6 * (processors(1) - processors(0))
    print(f"\nProcessor time of the daily load: {processors(0):.0f} s, and {a_meterpoint:.0f} µs a meterpoint")
    print("Bytes a meterpoint: " + ", ".join(f"{name} {each:.0f}" for name, each in per.items()))


SIZES = (1_000_000, 8_000_000, 30_000_000)


def processor_seconds(root: int) -> dict[int, float]:
    """Seconds of processors that a process and each of its descendants have used."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(") ")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(status.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        used[pid] = (int(fields[11]) + int(fields[12])) / TICKS
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        if pid in used:
            found[pid] = used[pid]
        waiting += children.get(pid, [])
    return found


if __name__ == "__main__":
    app()
