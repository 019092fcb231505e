"""Which files have a text."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def holding(text: str, *roots: Path) -> list[str]:
    """All files that have a text in their names or bytes, Parquet and gzip unpacked."""
    found = []
    for path in (path for root in roots for path in sorted(root.rglob("*")) if path.is_file()):
        held = [path.read_bytes(), str(path).encode()]
        if path.suffix == ".parquet":
            rows = pq.read_table(path, partitioning=None).to_pylist()
            held.append(json.dumps(rows, default=str, ensure_ascii=False).encode())
            held += [value for row in rows for value in row.values() if isinstance(value, bytes)]
        held += [gzip.GzipFile(fileobj=pa.BufferReader(each)).read1() for each in held if each[:2] == b"\x1f\x8b"]
        if any(text.lower().encode() in each.lower() for each in held):
            found.append(str(path))
    return found
