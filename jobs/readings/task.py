"""A Spark task that reads files. A module by itself, for each of Spark's Python processes imports it anew, and all that
it imports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import Accumulator, TaskContext

from jobs.landing import Content, read_ahead
from jobs.progress import counted
from jobs.readings.ingest import Place, Receipt, ingest


def packed(files: pa.Table) -> bytes:
    """Files of a task (columns as of ledger.files.to_read), as they are sent to it."""
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, files.schema) as writer:
        writer.write_table(files)
    return bytes(stream.getvalue().to_pybytes())


def run(
    place: Place, read: "tuple[Accumulator[int], ...]", told: Path | None, dealt_out: Iterator[bytes]
) -> Iterator[bytes]:
    """`read` counts files and bytes of tasks that ended; in the folder `told` a task says how far it is."""
    context = TaskContext.get()
    task, attempt = (context.partitionId(), context.attemptNumber()) if context else (0, 0)
    files = [file for each in dealt_out for file in pa.ipc.open_stream(each).read_all().to_pylist()]
    receipt = ingest_files(place, files, task, attempt, told and told / f"task-{task}.txt")
    for counter, number in zip(read, (len(files), sum(file["size_bytes"] for file in files)), strict=True):
        counter.add(number)
    # A process that waits for more work keeps what it held.
    pa.default_memory_pool().release_unused()
    yield receipt.to_json()


def ingest_files(
    place: Place, files: list[dict[str, Any]], task: int = 0, attempt: int = 0, told: Path | None = None
) -> Receipt:
    """Read, judge and write files (columns as of ledger.files.to_read)."""

    def read(names: list[str]) -> Iterator[Content | OSError]:
        contents = read_ahead(place.landing, place.landing_folder, names)
        return counted(contents, (file["size_bytes"] for file in files), told) if told else contents

    return ingest(files, read, place, task, attempt)
