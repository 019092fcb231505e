"""Ingest of many small files: the whole load beside a plain Spark job, in one run on one machine.

    make bench ARGS="--meterpoints 20000 --days 3 --rounds 3"

The peer is what one would write first: `spark.read.json`, explode, cast, write Parquet partitioned by date. It rejects
nothing, validates nothing, publishes nothing and builds no mart. Both get the same Spark settings and the same files,
each in a process of its own; the time is counted from the started session on, and for the lakehouse from its tables on,
which are made once in its life. All take their turn in each round, and the median of their seconds counts: the same job
differs by 15 % from run to run. Memory is the sum of the resident memory of the process and all its children, sampled,
at its highest: shared pages count once for each process, so it is an upper bound.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
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
PEERS = ("plain Spark job", "lakehouse load", "lakehouse load, nothing new")


def plain_spark_job(settings: Settings) -> float:
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
    return time.monotonic() - began


def lakehouse_load(settings: Settings) -> float:
    spark = start_session(settings)
    if not Path(settings.warehouse).exists():
        versions.apply_versions(spark, SQL, settings.warehouse)
    began = time.monotonic()
    stages: dict[str, float] = {}

    def stage(name: str) -> nullcontext[None]:
        stages[name] = time.monotonic() - began
        return nullcontext()

    load.run(spark, settings, stage)
    print("stages begin at", {name: round(at, 1) for name, at in stages.items()}, file=sys.stderr)
    return time.monotonic() - began


@app.command()
def main(
    meterpoints: Annotated[int, typer.Option(min=1)] = 20_000,
    days: Annotated[int, typer.Option(min=1)] = 3,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    peer: Annotated[str | None, typer.Option(hidden=True)] = None,
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    if peer and folder:
        own = folder / ("plain" if peer == PEERS[0] else "lakehouse")
        settings = Settings(
            landing=str(folder / "landing"), warehouse=str(own / "warehouse"), state=own, reports=own / "reports"
        )
        seconds = plain_spark_job(settings) if peer == PEERS[0] else lakehouse_load(settings)
        print(json.dumps({"seconds": seconds}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        made = write_sample(Path(temporary) / "landing", meterpoints=meterpoints, days=days)
        print(f"{made.readings:,} readings in {made.files:,} files\n")
        runs: dict[str, list[tuple[float, int]]] = {name: [] for name in PEERS}
        for _ in range(rounds):
            for name in PEERS:
                runs[name].append(measured(name, Path(temporary)))
            for place in ("plain", "lakehouse"):
                shutil.rmtree(Path(temporary) / place)
        print("| | seconds | median | ratio | peak memory, GiB |\n|---|---|---|---|---|")
        reference = median(seconds for seconds, _ in runs[PEERS[0]])
        for name, each in runs.items():
            times, memory = [seconds for seconds, _ in each], max(memory for _, memory in each)
            ratio = median(times) / reference
            shown = ", ".join(f"{seconds:.1f}" for seconds in times)
            print(f"| {name} | {shown} | {median(times):.1f} | {ratio:.2f} | {memory / 2**30:.2f} |")


def measured(peer: str, folder: Path) -> tuple[float, int]:
    """Seconds and peak memory (bytes) of a peer in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.ingest", "--peer", peer, "--folder", str(folder)]
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
        raise SystemExit(f"{peer}: exit status {process.returncode}")
    return json.loads(output.splitlines()[-1])["seconds"], peak


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
