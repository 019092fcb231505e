"""Ingest of many small files beside peers, in one run on one machine, as a written report with a chart.

    make bench ARGS="--meterpoints 20000 --days 3 --rounds 3"

Peers do what one would write first: read the files, cast, write Parquet by date. They reject nothing, validate
nothing, publish nothing and build no mart. DuckDB reads them by `read_json`; Polars cannot, for their rows mix text
and numbers, so orjson reads for it. The lakehouse appears twice: with its stages up to silver ("ingest": read, judge,
write) and whole. Each is a process of its own, on the same files; time is counted from the started session on, and
for the lakehouse from its tables on, which are made once in its life. All take their turn in each round, and the
median of their seconds counts: the same job differs by 15 % from run to run. Memory is the sum of the resident memory
of the process and all its children, sampled, at its highest: shared pages count once for each process, so it is an
upper bound.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from jobs import load, versions
from jobs.sample import write_sample
from jobs.settings import SQL, Settings
from jobs.spark import start_session

app = typer.Typer(add_completion=False)
Seconds = dict[str, float]  # by what was measured


def duckdb_job(settings: Settings) -> Seconds:
    import duckdb

    connection = duckdb.connect()
    began = time.monotonic()
    connection.execute(
        f"""COPY (
          SELECT row[list_position(columns, 'meterpoint_id')] AS meterpoint_id,
            CAST(row[list_position(columns, 'interval_start')] AS TIMESTAMP) AS interval_start,
            CAST(row[list_position(columns, 'consumption_delta')] AS DECIMAL(9,6)) AS consumption_kwh,
            CAST(interval_start AS DATE) AS date
          FROM (
            SELECT columns, unnest(data) AS row FROM read_json(
              ['{settings.landing}/readings/**/*.json', '{settings.landing}/readings/**/*.json.gz'],
              columns = {{columns: 'VARCHAR[]', data: 'VARCHAR[][]'}}, format = 'unstructured')
          )
        ) TO '{settings.warehouse}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (date))"""
    )
    return {"DuckDB": time.monotonic() - began}


def polars_job(settings: Settings) -> Seconds:
    import gzip

    import orjson
    import polars as pl

    began = time.monotonic()
    parts: dict[str, list[object]] = {"meterpoint_id": [], "interval_start": [], "consumption_delta": []}
    for path in sorted(Path(settings.landing, "readings").rglob("*.json*")):
        content = path.read_bytes()
        document = orjson.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        for name, values in zip(document["columns"], zip(*document["data"], strict=True), strict=True):
            if name in parts:
                parts[name] += values
    rows = pl.DataFrame(parts).with_columns(
        pl.col("interval_start").str.to_datetime("%Y-%m-%d %H:%M:%S"),
        pl.col("consumption_delta").cast(pl.Decimal(9, 6)),
    )
    dated = rows.with_columns(pl.col("interval_start").dt.date().alias("date"))
    for (day,), content_of_day in dated.partition_by("date", as_dict=True).items():
        folder = Path(settings.warehouse, f"date={day}")
        folder.mkdir(parents=True)
        content_of_day.write_parquet(folder / "part-0.parquet", compression="zstd")
    return {"Polars": time.monotonic() - began}


def plain_spark_job(settings: Settings) -> Seconds:
    from pyspark.sql import Column
    from pyspark.sql import functions as F

    spark = start_session(settings)
    began = time.monotonic()
    data = "columns ARRAY<STRING>, data ARRAY<ARRAY<STRING>>"
    files = spark.read.schema(data).option("recursiveFileLookup", True).json(f"{settings.landing}/readings")
    rows = files.select("columns", F.explode("data").alias("row"))

    def value(name: str) -> Column:
        return F.element_at("row", F.array_position("columns", name).cast("int"))

    rows = rows.select(
        value("meterpoint_id").alias("meterpoint_id"),
        value("interval_start").cast("timestamp").alias("interval_start"),
        value("consumption_delta").cast("decimal(9,6)").alias("consumption_kwh"),
    )
    dated = rows.withColumn("date", F.to_date("interval_start"))
    dated.write.partitionBy("date").parquet(f"{settings.warehouse}/plain")
    return {"plain Spark": time.monotonic() - began}


def lakehouse_load(settings: Settings) -> Seconds:
    spark = start_session(settings)
    if not Path(settings.warehouse).exists():
        versions.apply_versions(spark, SQL, settings.warehouse)
    began = time.monotonic()
    stages: Seconds = {}

    def stage(name: str) -> nullcontext[None]:
        stages[name] = time.monotonic() - began
        return nullcontext()

    summary = load.run(spark, settings, stage)
    print("stages begin at", {name: round(at, 1) for name, at in stages.items()}, file=sys.stderr)
    whole = time.monotonic() - began
    if summary is None:
        return {"lakehouse, nothing new": whole}
    return {"lakehouse, ingest": stages["build marts"], "lakehouse, whole load": whole}


JOBS: dict[str, Callable[[Settings], Seconds]] = {
    "duckdb": duckdb_job,
    "polars": polars_job,
    "spark": plain_spark_job,
    "lakehouse": lakehouse_load,
    "lakehouse again": lakehouse_load,
}


@app.command()
def main(
    meterpoints: Annotated[int, typer.Option(min=1)] = 20_000,
    days: Annotated[int, typer.Option(min=1)] = 3,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    report: Annotated[Path, typer.Option(help="Folder for the table and its chart")] = Path("var/bench"),
    job: Annotated[str | None, typer.Option(hidden=True)] = None,
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    if job and folder:
        own = folder / job.split()[0]
        own.mkdir(exist_ok=True)
        settings = Settings(
            landing=str(folder / "landing"), warehouse=str(own / "warehouse"), state=own, reports=own / "reports"
        )
        print(json.dumps(JOBS[job](settings)))
        return
    runs: dict[str, list[tuple[float, int]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        made = write_sample(Path(temporary) / "landing", meterpoints=meterpoints, days=days)
        for _ in range(rounds):
            for name in JOBS:
                seconds, memory = measured(name, Path(temporary))
                for what, taken in seconds.items():
                    runs.setdefault(what, []).append((taken, memory))
            for name in JOBS:
                shutil.rmtree(Path(temporary) / name, ignore_errors=True)
    title = f"{made.readings:,} readings in {made.files:,} files"
    medians = {name: median(seconds for seconds, _ in each) for name, each in runs.items()}
    lines = [f"# {title}", "", "| | seconds | median | : DuckDB | peak memory, GiB |", "|---|---|---|---|---|"]
    for name, each in runs.items():
        shown = ", ".join(f"{seconds:.1f}" for seconds, _ in each)
        ratio, peak = medians[name] / medians["DuckDB"], max(memory for _, memory in each) / 2**30
        lines.append(f"| {name} | {shown} | {medians[name]:.1f} | {ratio:.2f} | {peak:.2f} |")
    report.mkdir(parents=True, exist_ok=True)
    (report / "ingest.md").write_text("\n".join([*lines, "", "![Medians](ingest.svg)", ""]))
    (report / "ingest.svg").write_bytes(chart(title, medians))
    print("\n".join(lines))


def chart(title: str, medians: Seconds) -> bytes:
    """Medians as bars, an SVG file."""
    import pygal

    bars = pygal.HorizontalBar(
        title=f"{title}: median seconds", show_legend=False, print_values=True, js=(), height=320
    )
    bars.value_formatter = lambda seconds: f"{seconds:.1f} s"
    bars.x_labels = list(medians)
    bars.add("seconds", list(medians.values()))
    return bytes(bars.render())


def measured(job: str, folder: Path) -> tuple[Seconds, int]:
    """Seconds and peak memory (bytes) of a job in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.ingest", "--job", job, "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, resident_memory(process.pid))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate(timeout=1800)
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{job}: exit status {process.returncode}")
    return json.loads(output.splitlines()[-1]), peak


def resident_memory(root: int) -> int:
    """Bytes of resident memory of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    resident: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:  # it has ended
            continue
        pid = int(status.parent.name)
        children.setdefault(int(fields["PPid"]), []).append(pid)
        resident[pid] = int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        total += resident.get(pid, 0)
        waiting += children.get(pid, [])
    return total


if __name__ == "__main__":
    app()
