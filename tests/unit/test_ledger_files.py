"""Which delivered files are to be read, with tables that are kept in memory."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from jobs import tables
from jobs.landing import Delivered
from jobs.ledger import files, known
from jobs.tables import LOAD_FILES, LOADS, Locations

AT = datetime(2026, 1, 1, tzinfo=UTC)
SPARK: Any = SimpleNamespace(conf=SimpleNamespace(get=lambda *_: None))
FILE = pa.schema(
    [
        ("source_file", pa.string()),
        ("load_id", pa.string()),
        ("size_bytes", pa.int64()),
        ("modified_at", pa.timestamp("us", "UTC")),
        ("sha256", pa.string()),
        ("rows_rejected", pa.int64()),
        ("kind", pa.string()),
        ("status", pa.string()),
    ]
)
LOAD = pa.schema([("load_id", pa.string()), ("status", pa.string()), ("kind", pa.string())])


class Ledger:
    """ops.loads and ops.load_files, a folder a day, and which of the latter's folders were read."""

    def __init__(self) -> None:
        self.loads: list[dict[str, Any]] = []
        self.days: dict[str, list[dict[str, Any]]] = {}
        self.read: set[str] = set()

    def load(self, day: str, *rows: tuple[str, int, str | None], status: str = "published", **more: Any) -> None:
        """Each row is a name, minutes of its modification time, and the checksum."""
        load_id = f"{day.replace('-', '')}T080000-abc"
        self.loads.append({"load_id": load_id, "status": status, "kind": "load"})
        self.days[day] = [
            {"source_file": name, "load_id": load_id, "size_bytes": 1, "modified_at": at(minutes), "sha256": checksum}
            | {"kind": "readings", "status": "loaded"}
            | more
            for name, minutes, checksum in rows
        ]

    def all_locations(self, _: Any, table: str) -> Locations:
        return {"all": "/load=x"} if table == LOADS else {day: f"/load={day}" for day in self.days}

    def read_rows(
        self, _: Any, table: str, places: Locations, where: Any = None, only: Collection[str] = (), **__: Any
    ) -> pa.Table:
        if table == LOADS:
            return pa.Table.from_pylist(self.loads, LOAD)
        self.read |= places.keys()
        rows = pa.Table.from_pylist([row for day in places for row in self.days[day]], FILE)
        return (rows if where is None else rows.filter(where)).select([name for name in FILE.names if name in only])

    def in_batches(
        self, spark: Any, table: str, places: Locations, only: Collection[str], where: Any
    ) -> Iterator[pa.RecordBatch]:
        yield from self.read_rows(spark, table, places, where, only).to_batches(max_chunksize=2)


def at(minutes: int) -> datetime:
    return AT + timedelta(minutes=minutes)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    made = Ledger()
    for name in ("all_locations", "read_rows", "in_batches"):
        monkeypatch.setattr(tables, name, getattr(made, name))
    monkeypatch.setattr(tables, "root_and_column", lambda *_: (f"file:{tmp_path}/ops/load_files", "load_date"))
    assert LOAD_FILES == "ops.load_files"
    return made


def to_read(*delivered: tuple[str, int], again: Collection[str] = ()) -> dict[str, str | None]:
    """Checksums that are known of files that are to be read."""
    found = files.to_read(SPARK, [Delivered(name, 1, at(minutes)) for name, minutes in delivered], again)
    return dict(zip(found["source_file"].to_pylist(), found["known_sha256"].to_pylist(), strict=True))


def test_files__should_be_read_if_new_or_changed_and_name_the_bytes_of_the_newest_version(ledger: Ledger) -> None:
    ledger.load("2026-01-01", ("a", 1, "a1"), ("b", 1, "b1"), ("unreadable", 1, None))
    ledger.load("2026-02-02", ("a", 2, "a2"), ("b", 9, None))
    ledger.load("2026-03-03", ("a", 3, "a3"), ("c", 1, "c1"), status="failed")

    assert to_read(("a", 2), ("b", 1)) == {}
    assert to_read(("a", 1), ("a3", 3)) == {"a": "a2", "a3": None}
    assert to_read(("b", 9), ("c", 1), ("unreadable", 1)) == {"b": "b1", "c": None, "unreadable": None}
    assert to_read(("a", 2), ("b", 2), again=["a", "b"]) == {"a": None, "b": None}
    assert to_read() == {}


def test_known_files__should_be_told_without_a_look_at_days_that_do_not_concern_them(ledger: Ledger) -> None:
    ledger.load("2026-01-01", ("a", 1, "a1"))
    ledger.load("2026-02-02", ("b", 1, "b1"))
    to_read(("a", 1))
    ledger.read.clear()

    assert to_read(("a", 1), ("b", 1), ("new", 1)) == {"new": None}
    assert not ledger.read
    assert to_read(("b", 2)) == {"b": "b1"}
    assert ledger.read == {"2026-02-02"}


def test_days_that_were_folded_into_their_month__should_be_found_there_and_need_no_new_state(ledger: Ledger) -> None:
    ledger.load("2026-01-05", ("a", 1, "a1"))
    ledger.load("2026-02-02", ("b", 1, "b1"))
    to_read(("a", 1))
    ledger.days["2026-01-31"] = ledger.days.pop("2026-01-05")
    ledger.read.clear()

    assert to_read(("a", 1), ("b", 1)) == {}
    assert not ledger.read
    assert to_read(("a", 2)) == {"a": "a1"}
    assert ledger.read == {"2026-01-31"}


def test_names_with_one_key__should_be_looked_for_everywhere(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = known.hashes

    def alike(*arguments: Any) -> Any:
        return hashes(*arguments)[1] * 0, hashes(*arguments)[1]

    monkeypatch.setattr(known, "hashes", alike)
    ledger.load("2026-01-05", ("a", 1, "a1"))
    ledger.load("2026-02-02", ("b", 1, "b1"))

    assert to_read(("a", 1), ("b", 1)) == {}
    assert to_read(("a", 2), ("c", 1)) == {"a": "a1", "c": None}


def test_snapshots_taken__should_be_reference_files_that_were_loaded(ledger: Ledger) -> None:
    ledger.load("2026-01-05", ("a.db", 1, "a1"), kind="reference")
    ledger.load("2026-01-06", ("b.db", 1, "b1"), kind="reference", status="published")
    ledger.days["2026-01-06"][0]["status"] = "rejected"
    ledger.load("2026-01-07", ("c.db", 1, "c1"), kind="reference", status="failed")

    assert files.snapshots_taken(SPARK) == {"a.db"}


def test_forget_known__should_delete_the_state(ledger: Ledger, tmp_path: Path) -> None:
    ledger.load("2026-01-05", ("a", 1, "a1"))
    to_read(("a", 1))
    assert (tmp_path / "ops/known_files").exists()

    files.forget_known(SPARK)

    assert not (tmp_path / "ops/known_files").exists()
    assert to_read(("a", 1)) == {}
