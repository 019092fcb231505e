"""What it takes to tell which delivered files are known, of very many.

    python -m tests.bench.known_files look --known 100000000 --delivered 500000
    python -m tests.bench.known_files add --known 100000000 --loads 8 --files 50000
    python -m tests.bench.known_files discover --delivered 500000

`look` makes a state of known files of made-up names: half of them a meterpoint and a date, half without any order. A
process of its own then looks up files of which most are known as they are, some are new, and some were touched. `add`
adds loads to it. `discover` makes small files in a folder, and lists and compares them with a lakehouse that took them;
its seconds and memory are those of Python's process after Spark has started.
"""

import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from pyarrow.fs import LocalFileSystem

from jobs.ledger import known
from jobs.ledger.known import Load, Versions

app = typer.Typer(add_completion=False)
FIRST = date(2021, 1, 1)
A_LOAD = 250_000
NEW, TOUCHED = 20_000, 1_000
METERPOINTS = 50_000
Folder = Annotated[Path | None, typer.Option(help="Where the state is kept; made if it is not there")]


def name_of(number: int) -> str:
    if number % 2:
        return f"readings/{number * 2654435761 % 2**48:012x}{number:x}.json"
    day, meterpoint = divmod(number // 2, METERPOINTS)
    return f"readings/{FIRST + timedelta(days=day)}/meterpoint-{meterpoint:06}.json"


def versions_of(begin: int, end: int) -> Versions:
    names = list(map(name_of, range(begin, end)))
    numbers = np.arange(begin, end)
    return Versions(names, 2_100 + numbers % 90, numbers * 1_000_003, load_second(numbers // A_LOAD))


def load_second(load: Any) -> Any:
    return 1_600_000_000 + load * 86_400


def load_id(load: int) -> str:
    return f"{datetime.fromtimestamp(load_second(load), UTC):%Y%m%dT%H%M%S}-{load:06x}"


def batches(begin: int, end: int) -> Iterator[Versions]:
    step = known.BLOCK
    for first in range(begin, end, step):
        yield versions_of(first, min(first + step, end))


def alone(work: Callable[..., None], *arguments: Any) -> None:
    """Run in a new process, whose memory is its own."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def peak() -> str:
    return f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB"


def timed(name: str, work: Callable[[], Any]) -> Any:
    began, used = time.monotonic(), sum(os.times()[:2])
    result = work()
    seconds, processors = time.monotonic() - began, sum(os.times()[:2]) - used
    print(f"{name}: {seconds:.2f} s, of processors {processors:.2f} s, {peak()}", flush=True)
    return result


def make(folder: str, count: int) -> None:
    store = LocalFileSystem()
    state = known.read(store, folder)
    if state and sum(run.size for run in state.runs) >= count:
        return
    last = load_id((count - 1) // A_LOAD)
    timed(f"make {count:,}", lambda: known.add(store, folder, known.empty(), batches(0, count), last))


def look_up(folder: str, count: int, delivered: int) -> None:
    new, touched = min(NEW, delivered // 25), min(TOUCHED, delivered // 500)
    numbers = np.random.default_rng(1).integers(0, count, delivered - new)
    names = [*map(name_of, numbers.tolist()), *(f"readings/new/{number}.json" for number in range(new))]
    sizes = np.append(2_100 + numbers % 90, np.zeros(new, np.int64))
    times = np.append(numbers * 1_000_003, np.zeros(new, np.int64))
    times[:touched] += 1
    loads = [Load(load_id((count - 1) // A_LOAD), False, False)]
    print(f"before: {peak()}")
    store = LocalFileSystem()
    seconds, is_same = timed(
        f"look {delivered:,} up in {count:,}",
        lambda: known.compare(store, folder, loads, lambda _: (), names, sizes, times),
    )
    assert (seconds == 0).sum() == new and is_same.sum() == delivered - new - touched
    state = known.read(store, folder)
    assert state
    print(f"{len(state.runs)} runs, {sum(run.size for run in state.runs) * 20 / 1e9:.2f} GB")


def add_loads(folder: str, count: int, loads: int, files: int) -> None:
    store = LocalFileSystem()
    for number in range(loads):
        begin = count + number * files
        state = known.read(store, folder)
        assert state
        more = batches(begin, begin + files)
        timed(f"add {files:,}", partial(known.add, store, folder, state, more, state.up_to))


@app.command()
def look(
    count: Annotated[int, typer.Option("--known", min=1000)] = 100_000_000,
    delivered: Annotated[int, typer.Option(min=1000)] = 500_000,
    folder: Folder = None,
) -> None:
    """Look delivered files up in a state of known ones."""
    with tempfile.TemporaryDirectory(prefix="known-") as temporary:
        place = str(folder or Path(temporary) / "known_files")
        alone(make, place, count)
        for _ in range(3):
            alone(look_up, place, count, delivered)


@app.command()
def add(
    folder: Annotated[Path, typer.Option(help="A state that `look` left; it is copied")],
    count: Annotated[int, typer.Option("--known", min=1000)] = 100_000_000,
    loads: Annotated[int, typer.Option(min=1)] = 8,
    files: Annotated[int, typer.Option(min=1)] = 50_000,
) -> None:
    """Add loads to a state, one after the other."""
    with tempfile.TemporaryDirectory(prefix="known-") as temporary:
        place = f"{temporary}/known_files"
        shutil.copytree(folder, place, copy_function=os.link)  # its files never change
        alone(add_loads, place, count, loads, files)


@app.command()
def discover(delivered: Annotated[int, typer.Option(min=1000)] = 500_000) -> None:
    """List files of a folder, and tell which of them are to be read, when nearly all are known."""
    from jobs import landing, tables, versions
    from jobs.ledger import files
    from jobs.settings import SQL, Settings
    from jobs.spark import start_session

    with tempfile.TemporaryDirectory(prefix="discover-") as temporary:
        place = Path(temporary)
        settings = Settings(
            landing=str(place / "landing"), warehouse=str(place / "warehouse"), state=place, reports=place
        )
        for number in range(delivered):
            file = place / "landing" / name_of(number)
            if number < 2 or number % (2 * METERPOINTS) == 0:
                file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        spark = start_session(settings)
        versions.apply_versions(spark, SQL, settings.warehouse)
        store = LocalFileSystem()
        known_ones = landing.look(store, settings.landing).readings[NEW:]
        began = datetime(2021, 1, 1, tzinfo=UTC)
        rows: dict[str, list[Any]] = {
            "source_file": [file.source_file for file in known_ones],
            "size_bytes": [file.size_bytes for file in known_ones],
            "modified_at": [
                file.modified_at - timedelta(days=place < TOUCHED) for place, file in enumerate(known_ones)
            ],
            "sha256": ["0" * 64] * len(known_ones),
        }
        of_each = {"kind": "readings", "status": "loaded", "rows_read": 48, "rows_rejected": 0}
        rows |= {name: [value] * len(known_ones) for name, value in of_each.items()}
        loaded = {"status": "published", "kind": "load", "started_at": began, "finished_at": began}
        of_load: dict[str, list[Any]] = {name: [value] for name, value in loaded.items()}
        load = "20210101T000000-000000"
        for table, values in ((tables.LOAD_FILES, rows), (tables.LOADS, of_load)):
            written = of_table(tables.schema(spark, table), values, load)
            tables.publish(spark, table, tables.write_rows(spark, written, table, load, began.date()))
        timed("make the state", partial(files.to_read, spark, known_ones[:1]))
        del rows, known_ones, values, written
        # Nothing of the making is in the memory of a child, but for what Java has.
        reset_peak()
        print(f"before: {peak_now()}")
        for _ in range(2):
            found = timed("list", lambda: landing.look(store, settings.landing))
            to_read = timed("compare", partial(files.to_read, spark, found.readings))
            assert to_read.num_rows == NEW + TOUCHED, to_read.num_rows
            print(f"then: {peak_now()}")
            del found, to_read


def of_table(schema: pa.Schema, values: dict[str, list[Any]], load_id: str) -> pa.Table:
    rows = len(next(iter(values.values())))
    values = values | {"load_id": [load_id] * rows}
    return pa.table({field.name: pa.array(values.get(field.name, [None] * rows), field.type) for field in schema})


def reset_peak() -> None:
    """Have the kernel count the highest memory from here on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_now() -> str:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return (
        f"resident {int(lines['VmRSS'].split()[0]) // 1024:,} MiB, peak {int(lines['VmHWM'].split()[0]) // 1024:,} MiB"
    )


if __name__ == "__main__":
    app()
