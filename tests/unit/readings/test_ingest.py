"""What a task writes of its files, and the receipt that it hands back."""

import hashlib
import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from jobs.landing import Content, NotRead
from jobs.readings import ingest, parse

NOON, FAR = datetime(2021, 1, 5, 12, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
COLUMNS = ["interval_start", "consumption_delta", "meterpoint_id"]


def row(start: str = '"2021-01-01 00:30:00"', kwh: str = "0.186", meterpoint: str = '"m1"') -> str:
    """A row as JSON text."""
    return f"[{start}, {kwh}, {meterpoint}]"


def document(*rows: str) -> bytes:
    return f'{{"columns": {json.dumps(COLUMNS)}, "data": [{", ".join(rows)}]}}'.encode()


WHOLE = document(row())


class Parsed(NamedTuple):
    """What a task writes."""

    files: pa.Table
    readings: pa.Table
    rejected: pa.Table
    claims: pa.Table
    receipt: ingest.Receipt


def parsed(
    files: dict[str, bytes | OSError],
    known: dict[str, str] | None = None,
    modified: datetime = FAR,
    kept: date | None = None,
    opened: datetime | None = None,
) -> Parsed:
    """What a task writes of files by path; they were `modified` when they were listed, and `opened` when read."""
    delivered = [
        {
            "source_file": path,
            "modified_at": modified,
            "size_bytes": 1,
            "path": path,
            "known_sha256": (known or {}).get(path),
        }
        for path in files
    ]
    with TemporaryDirectory() as folder:
        local = LocalFileSystem()
        readings, contested, claims, staging = (
            f"{folder}/{name}" for name in ("readings", "contested", "claims", "staging")
        )
        place = ingest.Place(local, "", local, readings, contested, claims, staging, "", "load", FAR, kept)

        def read(paths: list[str]) -> Iterator[Content | OSError]:
            for path in paths:
                found = files[path]
                yield found if isinstance(found, OSError) else Content(found, opened or modified)

        receipt = ingest.ingest(delivered, read, place)

        def written(pattern: str) -> pa.Table:
            paths = sorted(Path(folder).glob(pattern))
            parts = [
                pq.read_table(path, partitioning=None).append_column(
                    "date_of_folder", pa.array([path.parts[-3]] * pq.read_metadata(path).num_rows)
                )
                for path in paths
            ]
            return pa.concat_tables(parts) if parts else None

        tables = [written(f"{each}/*.parquet") for each in ("staging/files", "staging/rejected")]
        by_date = [written(f"{each}/date=*/load=load/*.parquet") for each in ("readings", "claims")]
        return Parsed(tables[0], by_date[0], tables[1], by_date[1], receipt)


def rows_of(table: pa.Table | None) -> list[dict[str, Any]]:
    return table.to_pylist() if table is not None else []


def test_rejected_file_that_is_too_large__should_be_named_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "LARGEST_IN_QUARANTINE", 10)

    large, small = rows_of(parsed({"large.json": b"x" * 11, "small.json": b"x" * 10}).files)

    assert (large["status"], large["content"], large["size_bytes"]) == ("rejected", None, 11)
    assert small["content"] == b"x" * 10


def test_rows_at_fault__should_be_written_as_soon_as_they_fill_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "MOST_BYTES", 100)
    batches: list[str] = []
    write = ingest._Batch.write

    def counted(batch: ingest._Batch, name: str) -> None:
        batches.append(name)
        write(batch, name)

    monkeypatch.setattr(ingest._Batch, "write", counted)
    bad = b'{"columns": ["interval_start", "consumption_delta", "meterpoint_id"], "data": [[null, null, null]]}'

    result = parsed({f"{number}.json": bad for number in range(4)})

    assert len(rows_of(result.rejected)) == 4
    assert len(batches) == 3  # the last one is empty


def test_file_that_was_loaded_before__should_not_be_read_again() -> None:
    known = {"same.json": hashlib.sha256(WHOLE).hexdigest(), "changed.json": "0" * 64}

    result = parsed({"same.json": WHOLE, "changed.json": WHOLE}, known)

    assert {row["source_file"]: row["status"] for row in rows_of(result.files)} == {
        "same.json": "unchanged",
        "changed.json": "loaded",
    }
    assert [row["source_file"] for row in rows_of(result.readings)] == ["changed.json"]


def test_batches__should_be_cut_to_size_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "MOST_ROWS", 10)
    monkeypatch.setattr(parse, "ROWS_TOGETHER", 10)
    whole = document(*(row(meterpoint=f'"{number}"') for number in range(25)))

    result = parsed({"a": whole, "b": b"bad", "c": whole})

    assert sorted(row["meterpoint_id"] for row in rows_of(result.readings)) == sorted(map(str, [*range(25)] * 2))
    assert {row["source_file"]: row["status"] for row in rows_of(result.files)} == {
        "a": "loaded",
        "b": "rejected",
        "c": "loaded",
    }


def test_files_of_an_attempt_that_died__should_be_told_from_those_of_the_one_that_ended() -> None:
    names = ["part-1-0-0.parquet", "part-1-1-0.parquet", "part-11-0-0.parquet", "merged-0.parquet"]

    assert ingest.part_files_of_dead_attempts(names, {"1": 1, "11": 0}) == ["part-1-0-0.parquet"]


def test_consumption__should_be_rounded_half_up_as_it_is_spelled() -> None:
    chance = random.Random(1)
    middles = [f"{chance.randrange(10**8) / 10**6:.6f}5" for _ in range(2000)]
    spelled = [*middles, *(str(chance.random() * 100) for _ in range(2000))]

    result = parsed({"a.json": document(*(row(kwh=kwh, meterpoint=f'"{n}"') for n, kwh in enumerate(spelled)))})

    expected = [Decimal(kwh).quantize(Decimal("0.000001"), ROUND_HALF_UP) for kwh in spelled]
    assert {int(row["meterpoint_id"]): row["consumption_kwh"] for row in rows_of(result.readings)} == dict(
        enumerate(expected)
    )


def test_receipts__should_add_up_and_tell_of_every_row_and_file() -> None:
    files: dict[str, bytes | OSError] = {
        "a.json": document(row(), row(start='"2021-01-02 00:00:00"'), row(kwh="-1", start='"2021-01-03 00:00:00"')),
        "b.json": document(row(meterpoint='"m2"')),
        "c.json": b"bad",
        "d.json": FileNotFoundError("gone"),
        "e.json": NotRead("outside_landing", "it leads elsewhere"),
    }

    result = parsed(files)
    parts = [parsed({name: content}).receipt for name, content in files.items()]

    assert ingest.total([result.receipt]) == ingest.total(parts)
    assert result.receipt == ingest.Receipt.from_json(result.receipt.to_json())
    assert result.receipt.files == {"loaded": 2, "rejected": 3}
    assert result.receipt.readings == {"2021-01-01": 2, "2021-01-02": 1}
    assert result.receipt.reasons == {
        "consumption_negative": 1, "not_json": 1, "unreadable": 1, "outside_landing": 1
    }  # fmt: skip
    assert (result.receipt.rows_rejected, result.receipt.files_at_fault, result.receipt.lost_days) == (1, 4, 1)
    assert [text for *_, text in result.receipt.rejections if "a.json row 2: consumption_negative" in text]
    claims = {(row["source_file"], row["meterpoint_id"], row["readings"]) for row in rows_of(result.claims)}
    assert claims == {("a.json", "m1", 1), ("b.json", "m2", 1)}


def test_file_of_the_future__should_count_as_modified_when_the_load_began() -> None:
    (claim,) = rows_of(parsed({"a.json": WHOLE}, modified=datetime(2150, 1, 1, tzinfo=UTC)).claims)

    assert claim["modified_at"] == FAR


def test_readings_of_dates_that_are_kept_no_longer_are_left_out_and_counted() -> None:
    file = document(row('"2020-12-31 23:30:00"'), row('"2021-01-01 00:00:00"'), row('"2021-01-01 00:30:00"'))

    found = parsed({"a.json": file, "old.json": document(row('"2020-01-01 00:00:00"'))}, kept=date(2021, 1, 1))

    assert found.readings["date_of_folder"].to_pylist() == ["date=2021-01-01"] * 2
    assert found.receipt.warnings == {"date_not_kept": 2}
    assert found.receipt.files == {"loaded": 2} and found.receipt.claims == 1
    assert found.receipt.rows_rejected == 0


def test_file_that_was_replaced_since_it_was_listed__should_be_judged_by_its_own_time_and_be_read_again() -> None:
    earlier, later = datetime(2020, 12, 31, tzinfo=UTC), datetime(2021, 1, 2, tzinfo=UTC)

    found = parsed({"a.json": WHOLE}, modified=earlier, opened=later)

    assert found.receipt.rows_rejected == 0
    [file] = found.files.to_pylist()
    assert (file["status"], file["sha256"], file["modified_at"]) == ("loaded", None, later)
    assert found.claims["modified_at"].to_pylist() == [later]
    # With the bytes that are known nothing is new.
    checksum = hashlib.sha256(WHOLE).hexdigest()
    [file] = parsed({"a.json": WHOLE}, {"a.json": checksum}, modified=earlier, opened=later).files.to_pylist()
    assert (file["status"], file["sha256"]) == ("unchanged", checksum)
