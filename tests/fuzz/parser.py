"""The parser of readings files under atheris, which keeps what takes a new way through the code and mutates it further.

    python -m tests.fuzz.parser -max_total_time=SECONDS CORPUS

Part of `make fuzz`. Ends with an error, and the file that led to it, where a row is lost or the parser fails.
"""

import sys
from datetime import UTC, datetime

import atheris
import pyarrow as pa

with atheris.instrument_imports(include=["jobs.readings"]):
    from jobs import readings

# The first byte of an input chooses the file's name.
NAMES = ("readings/fuzz.json", "readings/fuzz.json.gz")
FILES = [
    pa.RecordBatch.from_pydict(
        {
            "source_file": [name],
            "modified_at": pa.array([datetime(2021, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            "known_sha256": pa.nulls(1, pa.string()),
        }
    )
    for name in NAMES
]


def parse(data: bytes) -> None:
    """Every row of the file is there, good or not, or the file is rejected as a whole."""
    batches = readings.parse_files(iter([FILES[data[:1] > b"\x7f"]]), lambda _: [data[1:]])
    rows = [row for batch in batches for row in batch.to_pylist()]
    [file] = [row["file"] for row in rows if row["file"]]
    assert file["status"] in ("loaded", "rejected"), file
    assert (file["rows_read"] or 0) == len(rows) - 1, file


if __name__ == "__main__":
    atheris.Setup(sys.argv, parse)
    atheris.Fuzz()
