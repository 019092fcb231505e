"""What must hold of a readings file, whatever its bytes."""

from collections import Counter
from typing import get_args

from jobs.readings.parse import parse_file
from jobs.readings.rules import FileReason, FileRejected, RowReason

FAR = 4_000_000_000_000_000  # microseconds: later than every reading


def parsed(name: str, content: bytes) -> Counter[str]:
    """Counts of rows and files. Raises AssertionError where a row is good and rejected, twice there, or hollow."""
    try:
        file = parse_file(name, content, FAR)
    except FileRejected as error:
        assert error.reason in get_args(FileReason), error.reason
        return Counter({"readings files rejected": 1})
    assert all(0 <= kwh <= 100 for kwh in file.good["consumption_kwh"].to_pylist())
    keys = list(zip(*(file.good[name].to_pylist() for name in ("meterpoint_id", "interval_start_utc")), strict=True))
    assert len(set(keys)) == len(keys)
    positions = [row.position for row in file.rejected]
    assert len(set(positions)) == len(positions)
    assert {row.reason for row in file.rejected} <= set(get_args(RowReason))
    return Counter({"readings files loaded": 1, "rows good": len(keys), "rows rejected": len(positions)})
