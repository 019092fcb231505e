"""Readings files, good and bad, from their bytes to silver rows and quarantined rows."""

import gzip
import hashlib
import json
import math
import random
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_args
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from jobs.landing import NotRead
from jobs.readings import ingest, parse
from jobs.readings.rules import FileReason, FileRejected, LocalTime, RowReason, local_time
from tests.unit.examples import examples

LONDON = ZoneInfo("Europe/London")
NOON, FAR = datetime(2021, 1, 5, 12, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
COLUMNS = ["interval_start", "consumption_delta", "meterpoint_id"]
GOOD_ROW = '["2021-01-01 12:00:00", 0.25, "m1"]'


# --- builders ----------------------------------------------------------------------------------------------------


def row(start: str = '"2021-01-01 00:30:00"', kwh: str = "0.186", meterpoint: str = '"m1"') -> str:
    """A row as JSON text, so that it can be spelled in every way in which a file can."""
    return f"[{start}, {kwh}, {meterpoint}]"


def document(*rows: str, columns: list[Any] | None = None) -> bytes:
    return f'{{"columns": {json.dumps(columns or COLUMNS)}, "data": [{", ".join(rows)}]}}'.encode()


def at(start: str, *kwh: float) -> list[str]:
    """Rows of one meterpoint at one local time."""
    return [row(start=f'"{start}"', kwh=str(value)) for value in kwh]


class Good(NamedTuple):
    """A row of silver.readings, as text."""

    meterpoint_id: str
    interval_start: str
    interval_start_utc: str
    consumption_kwh: str
    date: str


class Rejected(NamedTuple):
    position: int
    reason: str
    row_json: str


class Outcome(NamedTuple):
    """What became of a file."""

    file: dict[str, Any]
    good: list[Good]
    rejected: list[Rejected]

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.rejected]

    @property
    def utc(self) -> list[tuple[str, str]]:
        """UTC and kWh of the good rows, in order of time."""
        return sorted((each.interval_start_utc, each.consumption_kwh) for each in self.good)


class Parsed(NamedTuple):
    """What a task writes."""

    files: pa.Table
    readings: pa.Table
    rejected: pa.Table
    claims: pa.Table
    receipt: ingest.Receipt


def parsed(files: dict[str, bytes | OSError], known: dict[str, str] | None = None, modified: datetime = FAR) -> Parsed:
    """What a task writes of files by path."""
    delivered = [
        {"source_file": path, "modified_at": modified, "size_bytes": 1, "known_sha256": (known or {}).get(path)}
        for path in files
    ]
    with TemporaryDirectory() as folder:
        local = LocalFileSystem()
        roots = {name: f"{folder}/{name}" for name in ("readings", "contested", "claims", "staging")}
        place = ingest.Place(local, "", local, **roots, staging_uri="", load_id="load", started_at=FAR)
        receipt = ingest.ingest(delivered, lambda paths: [files[path] for path in paths], place)

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


def outcomes(files: dict[str, bytes | OSError]) -> dict[str, Outcome]:
    """Outcomes by path. No row of a file may be lost, or be good and rejected, and the receipt tells of all."""
    result = parsed(files)
    good, rejected, found = defaultdict(list), defaultdict(list), {}
    for row in rows_of(result.readings):
        start, utc = (f"{row[name]:%Y-%m-%d %H:%M:%S}" for name in ("interval_start", "interval_start_utc"))
        day = row["date_of_folder"].removeprefix("date=")
        assert start.startswith(day)
        good[row["source_file"]].append(Good(row["meterpoint_id"], start, utc, str(row["consumption_kwh"]), day))
    for row in sorted(rows_of(result.rejected), key=lambda row: (row["source_file"], row["position"])):
        rejected[row["source_file"]].append(Rejected(row["position"], row["reason"], row["row_json"]))
    for row in rows_of(result.files):
        assert row["source_file"] not in found, "a file must be told of once"
        found[row["source_file"]] = row
    assert set(good) | set(rejected) <= set(found)
    claimed: Counter[Any] = Counter()
    for row in rows_of(result.claims):
        claimed[row["source_file"]] += row["readings"]
    for path, file in found.items():
        assert len(good[path]) + len(rejected[path]) == (file["rows_read"] or 0), path
        assert len(rejected[path]) == (file["rows_rejected"] or 0), path
        assert claimed[path] == len(good[path]), path
        keys = [(each.meterpoint_id, each.interval_start_utc) for each in good[path]]
        assert len(set(keys)) == len(keys), f"{path} has two good rows for one key"
    rows = Counter(each.date for of_file in good.values() for each in of_file)
    reasons = Counter(each.reason for of_file in rejected.values() for each in of_file)
    assert result.receipt.readings == rows
    assert result.receipt.rows_rejected == reasons.total()
    whole = Counter(file["reason"] for file in found.values() if file["status"] == "rejected")
    assert result.receipt.reasons == reasons + whole
    return {path: Outcome(file, good[path], rejected[path]) for path, file in found.items()}


def outcome(content: bytes, path: str = "readings/a.json") -> Outcome:
    return outcomes({path: content})[path]


# --- bad files ---------------------------------------------------------------------------------------------------

WHOLE = document(GOOD_ROW)
BAD_FILES: dict[str, tuple[FileReason, bytes | OSError, str]] = {
    # file: reason, content, what the detail must name
    "text.json": ("not_json", b"interval_start,consumption_delta\n", "char 0"),
    "truncated.json": ("not_json", WHOLE[:-9], "line 1"),
    "two_documents.json": ("not_json", WHOLE + b"\n" + WHOLE, "Extra data"),
    "not_utf8.json": ("not_json", b'{"columns": ["\xff\xfe\xfa"]}', "utf-8"),
    "only_a_byte_order_mark.json": ("not_json", b"\xef\xbb\xbf", "char 0"),
    "deep.json": ("not_json", b"[" * 100_000, "deep"),
    "deep_row.json": ("not_json", document("[" * 1015 + "]" * 1015), "deep"),
    "empty.json": ("empty_file", b"", "empty"),
    "white.json": ("empty_file", b" \r\n\t ", "empty"),
    "empty.json.gz": ("empty_file", gzip.compress(b""), "empty"),
    "list.json": ("not_an_object", b"[1, 2]", "list"),
    "null.json": ("not_an_object", b"null", "NoneType"),
    "no_columns.json": ("columns_missing", b'{"data": []}', "'columns'"),
    "columns_null.json": ("columns_missing", b'{"columns": null, "data": []}', "'columns'"),
    "columns_object.json": ("columns_missing", b'{"columns": {"interval_start": 0}, "data": []}', "'columns'"),
    "no_data.json": ("data_missing", json.dumps({"columns": COLUMNS}).encode(), "'data'"),
    "data_object.json": ("data_missing", json.dumps({"columns": COLUMNS, "data": {}}).encode(), "'data'"),
    "column_missing.json": ("column_missing", document(columns=COLUMNS[:2]), "no column meterpoint_id"),
    "column_renamed.json": ("column_missing", document(columns=["start", *COLUMNS[1:]]), 'found ["start"'),
    "column_other_case.json": ("column_missing", document(columns=["Interval_Start", *COLUMNS[1:]]), "interval_start"),
    "column_twice.json": ("columns_not_distinct_names", document(columns=[*COLUMNS, "meterpoint_id"]), "meterpoint_id"),
    "column_number.json": ("columns_not_distinct_names", document(columns=[*COLUMNS, 7]), "7"),
    "column_surrogate.json": ("columns_not_distinct_names", document(columns=[*COLUMNS, "\ud800"]), "ud800"),
    "plain.json.gz": ("not_gzip", WHOLE, "Not a gzipped file"),
    "truncated.json.gz": ("not_gzip", gzip.compress(WHOLE)[:-12], "ended before"),
    "damaged.json.gz": ("not_gzip", gzip.compress(WHOLE)[:-8] + b"\0" * 8, "CRC"),
    "garbled.json.gz": ("not_gzip", gzip.compress(WHOLE)[:10] + b"\xff" * 40, "decompressing"),
    "data_twice.json": ("key_twice", WHOLE[:-1] + b', "data": []}', "'data' occurs 2 times"),
    "data_twice_escaped.json": ("key_twice", WHOLE[:-1] + rb', "d\u0061ta": []}', "'data' occurs 2 times"),
    "columns_twice.json": ("key_twice", b'{"columns": [], ' + WHOLE[1:], "'columns' occurs 2 times"),
    "gone.json": ("unreadable", FileNotFoundError("gone.json is gone"), "gone.json is gone"),
    "outside.json": ("outside_landing", NotRead("outside_landing", "it leads elsewhere"), "elsewhere"),
    "huge.json": ("too_large", NotRead("too_large", "2 TiB"), "2 TiB"),
}


@pytest.fixture(scope="module")
def bad_files() -> dict[str, Outcome]:
    return outcomes({name: content for name, (_, content, _) in BAD_FILES.items()})


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file__should_be_rejected_whole_with_its_reason(bad_files: dict[str, Outcome], name: str) -> None:
    reason, content, named = BAD_FILES[name]

    file = bad_files[name].file

    assert (file["status"], file["reason"]) == ("rejected", reason)
    assert named in file["detail"]
    if isinstance(content, bytes):
        assert bytes(file["content"]) == content
        assert (file["size_bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_cases__should_cover_every_reason_for_a_file_and_for_a_row() -> None:
    assert {reason for reason, _, _ in BAD_FILES.values()} == set(get_args(FileReason))
    covered = {reason for reason, _ in BAD_ROWS.values()} | REASONS_OF_REPEATS | REASONS_OF_DAYS
    assert covered | {"interval_start_after_file"} == set(get_args(RowReason))


def test_rejected_file_that_is_too_large__should_be_named_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "LARGEST_IN_QUARANTINE", 10)

    large, small = rows_of(parsed({"large.json": b"x" * 11, "small.json": b"x" * 10}).files)

    assert (large["status"], large["content"], large["size_bytes"]) == ("rejected", None, 11)
    assert small["content"] == b"x" * 10


# --- good files --------------------------------------------------------------------------------------------------


def in_order(columns: list[str], *rows: dict[str, Any]) -> bytes:
    return document(*(json.dumps([each[name] for name in columns]) for each in rows), columns=list(columns))


READING = {"interval_start": "2021-07-01 00:30:00", "consumption_delta": 0.186, "meterpoint_id": "m1", "unit": "kWh"}
GOOD_FILES: dict[str, tuple[bytes, str | None]] = {
    # file: content, note
    "plain.json": (in_order(COLUMNS, READING), None),
    "reordered.json": (in_order(["meterpoint_id", "interval_start", "consumption_delta"], READING), None),
    "reversed.json": (in_order(COLUMNS[::-1], READING), None),
    "added_last.json": (in_order([*COLUMNS, "unit"], READING), "ignored columns: unit"),
    "added_first.json": (in_order(["unit", *COLUMNS], READING), "ignored columns: unit"),
    "other_keys.json": (b'{"version": 2, ' + in_order(COLUMNS, READING)[1:], None),
    "byte_order_mark.json": (b"\xef\xbb\xbf" + in_order(COLUMNS, READING), None),
    "line_breaks.json": (b"\r\n" + in_order(COLUMNS, READING).replace(b" ", b"\r\n", 2) + b"\n", None),
    "zipped.json.gz": (gzip.compress(in_order(COLUMNS, READING)), None),
    "zipped_in_two_members.json.gz": (
        gzip.compress(in_order(COLUMNS, READING)[:20]) + gzip.compress(in_order(COLUMNS, READING)[20:]),
        None,
    ),
}


@pytest.fixture(scope="module")
def good_files() -> dict[str, Outcome]:
    return outcomes({name: content for name, (content, _) in GOOD_FILES.items()})


@pytest.mark.parametrize("name", GOOD_FILES)
def test_good_file__should_load_whatever_the_order_of_its_columns(good_files: dict[str, Outcome], name: str) -> None:
    content, note = GOOD_FILES[name]

    file, good, rejected = good_files[name]

    assert good == [Good("m1", "2021-07-01 00:30:00", "2021-06-30 23:30:00", "0.186000", "2021-07-01")]
    assert rejected == []
    assert (file["status"], file["reason"], file["detail"], file["content"]) == ("loaded", None, note, None)
    assert (file["rows_read"], file["sha256"]) == (1, hashlib.sha256(content).hexdigest())


def test_file_without_rows__should_be_loaded_with_none() -> None:
    file, good, rejected = outcome(document())

    assert (file["status"], file["rows_read"], good, rejected) == ("loaded", 0, [], [])


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
    whole = document(*(row(meterpoint=f'"{number}"') for number in range(25)))

    result = parsed({"a": whole, "b": b"bad", "c": whole})

    assert sorted(row["meterpoint_id"] for row in rows_of(result.readings)) == sorted(map(str, [*range(25)] * 2))
    assert [row["status"] for row in rows_of(result.files)] == ["loaded", "rejected", "loaded"]


def test_files_of_an_attempt_that_died__should_be_told_from_those_of_the_one_that_ended() -> None:
    names = ["part-1-0-0.parquet", "part-1-1-0.parquet", "part-11-0-0.parquet", "merged-0.parquet"]

    assert ingest.part_files_of_dead_attempts(names, {"1": 1, "11": 0}) == ["part-1-0-0.parquet"]


def test_reading_that_is_later_than_its_file__should_be_rejected() -> None:
    rows = [row(start=f'"2021-01-05 {hour}:00:00"') for hour in ("11", "12", "13")]

    result = parsed({"a.json": document(*rows)}, modified=NOON)

    assert [(row["position"], row["reason"]) for row in rows_of(result.rejected)] == [(2, "interval_start_after_file")]


def test_document_a_line__should_be_read_where_the_name_says_so() -> None:
    lines = document(row(meterpoint='"a"')) + b"\n\r\n" + document(row(meterpoint='"b"')) + b"\n"

    assert [each.meterpoint_id for each in outcome(lines, "readings/x.jsonl").good] == ["a", "b"]
    assert outcome(lines, "readings/x.json").file["reason"] == "not_json"
    assert outcome(lines[:-9], "readings/x.NDJSON").file["reason"] == "not_json"


def test_bomb__should_be_rejected_before_it_is_unpacked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "LARGEST_UNPACKED", 1_000)

    assert outcome(gzip.compress(b" " * 1_001), "readings/x.json.GZ").file["reason"] == "too_large"


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        (
            "reading_quality",
            ["A", "e", "actual", "Estimated ", None, "substituted", ""],
            ["A", "E", "A", "E", None, "substituted", None],
        ),
        ("estimated", [True, False, 1, "x"], ["E", "A", None, "X"]),
    ],
)
def test_quality__should_be_kept_where_a_file_tells_it(column: str, values: list[Any], expected: list[Any]) -> None:
    rows = [json.dumps([f"2021-01-01 {n:02}:00:00", 0.1, "m", value]) for n, value in enumerate(values)]

    result = parsed({"a.json": document(*rows, columns=[*COLUMNS, column])})

    assert [row["reading_quality"] for row in rows_of(result.readings)] == expected
    assert rows_of(result.files)[0]["detail"] is None


# --- bad rows ----------------------------------------------------------------------------------------------------

BAD_ROWS: dict[str, tuple[RowReason, str]] = {
    # name: reason, the row as JSON
    "too short": ("wrong_length", '["2021-01-01 00:30:00", 0.1]'),
    "too long": ("wrong_length", '["2021-01-01 00:30:00", 0.1, "m1", null]'),
    "without values": ("wrong_length", "[]"),
    "an object": ("wrong_length", '{"interval_start": "2021-01-01 00:30:00"}'),
    "null": ("wrong_length", "null"),
    "text of three letters": ("wrong_length", '"abc"'),
    "meterpoint null": ("meterpoint_id_not_text", row(meterpoint="null")),
    "meterpoint a number": ("meterpoint_id_not_text", row(meterpoint="42")),
    "meterpoint a list": ("meterpoint_id_not_text", row(meterpoint='["m1"]')),
    "meterpoint half a surrogate pair": ("meterpoint_id_not_text", row(meterpoint=r'"m\ud83d"')),
    "meterpoint empty": ("meterpoint_id_empty", row(meterpoint='""')),
    "meterpoint of spaces": ("meterpoint_id_empty", row(meterpoint='"  "')),
    "meterpoint of tabs and line breaks": ("meterpoint_id_empty", row(meterpoint=r'"\t\r\n"')),
    "meterpoint of other white space": ("meterpoint_id_empty", row(meterpoint=r'"\u00a0\u2003\u200b\ufeff"')),
    "meterpoint of control characters": ("meterpoint_id_empty", row(meterpoint=r'"\u0000\u007f"')),
    "meterpoint with a blank before": ("meterpoint_id_padded_or_invisible", row(meterpoint='" m1"')),
    "meterpoint with a no-break space": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"m1\u00a0"')),
    "meterpoint with a zero-width space": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"m\u200b1"')),
    "meterpoint with a soft hyphen": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"m\u00ad1"')),
    "meterpoint from a spreadsheet": ("meterpoint_id_spreadsheet_number", row(meterpoint='"7.22E+12"')),
    "meterpoint from a spreadsheet elsewhere": ("meterpoint_id_spreadsheet_number", row(meterpoint='"7,22e12"')),
    "meterpoint of 257 letters": ("meterpoint_id_too_long", row(meterpoint='"' + "m" * 257 + '"')),
    "start null": ("interval_start_not_a_timestamp", row(start="null")),
    "start a number": ("interval_start_not_a_timestamp", row(start="1609459200")),
    "start half a surrogate pair": ("interval_start_not_a_timestamp", row(start=r'"\udc00"')),
    "start empty": ("interval_start_not_a_timestamp", row(start='""')),
    "start a word": ("interval_start_not_a_timestamp", row(start='"now"')),
    "start without time": ("interval_start_not_a_timestamp", row(start='"2021-01-01"')),
    "start without seconds": ("interval_start_not_a_timestamp", row(start='"2021-01-01 00:30"')),
    "start with fractions": ("interval_start_not_a_timestamp", row(start='"2021-01-01 00:30:00.000"')),
    "start with offset": ("interval_start_not_a_timestamp", row(start='"2021-01-01 00:30:00Z"')),
    "start with T": ("interval_start_not_a_timestamp", row(start='"2021-01-01T00:30:00"')),
    "start with a line break": ("interval_start_not_a_timestamp", row(start=r'"2021-01-01 00:30:00\n"')),
    "start with a space before": ("interval_start_not_a_timestamp", row(start='" 2021-01-01 00:30:00"')),
    "start in Arabic digits": ("interval_start_not_a_timestamp", row(start='"٢٠٢١-01-01 00:30:00"')),
    "day before month": ("interval_start_not_a_timestamp", row(start='"31-12-2020 00:30:00"')),
    "30 February": ("interval_start_not_a_timestamp", row(start='"2021-02-30 00:00:00"')),
    "29 February of no leap year": ("interval_start_not_a_timestamp", row(start='"2021-02-29 00:00:00"')),
    "month 13": ("interval_start_not_a_timestamp", row(start='"2021-13-01 00:00:00"')),
    "day 0": ("interval_start_not_a_timestamp", row(start='"2021-01-00 00:00:00"')),
    "24 o'clock": ("interval_start_not_a_timestamp", row(start='"2021-01-01 24:00:00"')),
    "minute 60": ("interval_start_not_a_timestamp", row(start='"2021-01-01 00:60:00"')),
    "year 0": ("interval_start_out_of_range", row(start='"0000-01-01 00:00:00"')),
    "before 2000": ("interval_start_out_of_range", row(start='"1999-12-31 23:30:00"')),
    "after 2099": ("interval_start_out_of_range", row(start='"2100-01-01 00:00:00"')),
    "year 9999": ("interval_start_out_of_range", row(start='"9999-12-31 23:30:00"')),
    "a second late": ("interval_start_not_a_half_hour", row(start='"2021-01-01 00:30:01"')),
    "a quarter": ("interval_start_not_a_half_hour", row(start='"2021-01-01 00:15:00"')),
    "a second early": ("interval_start_not_a_half_hour", row(start='"2021-01-01 00:29:59"')),
    "gap in March": ("interval_start_does_not_exist", row(start='"2021-03-28 01:00:00"')),
    "end of gap in March": ("interval_start_does_not_exist", row(start='"2021-03-28 01:30:00"')),
    "consumption null": ("consumption_null", row(kwh="null")),
    "consumption text": ("consumption_not_a_number", row(kwh='"0.1"')),
    "consumption true": ("consumption_not_a_number", row(kwh="true")),
    "consumption false": ("consumption_not_a_number", row(kwh="false")),
    "consumption a list": ("consumption_not_a_number", row(kwh="[0.1]")),
    "consumption NaN": ("consumption_not_finite", row(kwh="NaN")),
    "consumption Infinity": ("consumption_not_finite", row(kwh="Infinity")),
    "consumption -Infinity": ("consumption_not_finite", row(kwh="-Infinity")),
    "consumption 1e999": ("consumption_not_finite", row(kwh="1e999")),
    "consumption -1e999": ("consumption_not_finite", row(kwh="-1e999")),
    "consumption of 401 digits": ("consumption_not_finite", row(kwh="1" + "0" * 400)),
    "consumption of 401 digits, negative": ("consumption_not_finite", row(kwh="-1" + "0" * 400)),
    "consumption of 5000 digits": ("consumption_not_finite", row(kwh="1" * 5000)),
    "consumption negative": ("consumption_negative", row(kwh="-0.001")),
    "consumption negative, less than a decimal": ("consumption_negative", row(kwh="-1e-9")),
    "consumption negative, a whole number": ("consumption_negative", row(kwh="-1")),
    "consumption absurd": ("consumption_absurd", row(kwh="100.000001")),
    "consumption absurd by less than a decimal": ("consumption_absurd", row(kwh="100.00000001")),
    "consumption absurd, a whole number": ("consumption_absurd", row(kwh="101")),
    "consumption beyond decimals": ("consumption_absurd", row(kwh="1e300")),
    "consumption beyond 64 bits": ("consumption_absurd", row(kwh="18446744073709551617")),
}
REASONS_OF_REPEATS = {"conflicting_readings", "duplicate_reading"}
REASONS_OF_DAYS = {reason for reason in get_args(RowReason) if reason.startswith("day_")}  # see test_days.py


@pytest.fixture(scope="module")
def bad_rows() -> dict[str, Outcome]:
    """Each bad row in a file between two good ones."""
    before, after = row(start='"2021-01-02 11:30:00"'), row(start='"2021-01-02 12:30:00"')
    files: dict[str, bytes | OSError] = {name: document(before, bad, after) for name, (_, bad) in BAD_ROWS.items()}
    return outcomes(files)


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row__should_be_rejected_with_its_reason_and_the_good_ones_load(
    bad_rows: dict[str, Outcome], name: str
) -> None:
    reason, text = BAD_ROWS[name]

    file, good, rejected = bad_rows[name]

    assert (file["status"], file["rows_read"]) == ("loaded", 3)
    assert sorted(each.interval_start for each in good) == ["2021-01-02 11:30:00", "2021-01-02 12:30:00"]
    assert [(each.position, each.reason) for each in rejected] == [(1, reason)]
    assert same(json.loads(rejected[0].row_json), as_delivered(text))


def as_delivered(text: str) -> Any:
    """A row with the names of its columns if it has as many values; what Python cannot read of it as infinity."""
    values = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 4000 else math.inf)
    return dict(zip(COLUMNS, values, strict=True)) if isinstance(values, list) and len(values) == 3 else values


def same(left: Any, right: Any) -> bool:
    """Equal as JSON, NaN too, and to 15 digits if a number is beyond 64 bits."""

    def normal(value: Any) -> Any:
        return float(value) if type(value) is int and abs(value) > 2**64 and abs(value) < 1e300 else value

    if isinstance(left, dict) and isinstance(right, dict):
        left, right = ({name: normal(value) for name, value in each.items()} for each in (left, right))
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def test_rows_that_lack_the_value_of_an_added_column__should_be_rejected() -> None:
    result = outcome(document(GOOD_ROW, columns=[*COLUMNS, "unit"]))

    assert (result.good, result.reasons) == ([], ["wrong_length"])


def test_row_of_a_file_with_an_added_column__should_be_kept_whole() -> None:
    content = in_order([*COLUMNS, "unit"], READING | {"interval_start": "2021-07-01 00:31:00"})

    (rejected,) = outcome(content).rejected

    assert json.loads(rejected.row_json) == READING | {"interval_start": "2021-07-01 00:31:00"}


EXTREMES = {
    "2000-01-01 00:00:00": ("0", "0.000000"),
    "2099-12-31 23:30:00": ("100", "100.000000"),
    "2024-02-29 00:00:00": ("-0.0", "0.000000"),
    "2021-03-28 00:30:00": ("0.0000005", "0.000001"),
    "2021-03-28 02:00:00": ("0.00000049", "0.000000"),
    "2021-01-01 00:00:00": ("99.9999999", "100.000000"),
    "2021-01-01 23:30:00": ("0.1234565", "0.123457"),
    "2021-01-02 00:00:00": ("1e-300", "0.000000"),
}


def test_extreme_rows__should_be_good_and_be_rounded_half_up() -> None:
    rows = [row(start=f'"{start}"', kwh=kwh) for start, (kwh, _) in EXTREMES.items()]

    result = outcome(document(*rows))

    assert result.rejected == []
    assert {each.interval_start: each.consumption_kwh for each in result.good} == {
        start: kwh for start, (_, kwh) in EXTREMES.items()
    }


def test_consumption__should_be_rounded_half_up_as_it_is_spelled() -> None:
    chance = random.Random(1)
    middles = [f"{chance.randrange(10**8) / 10**6:.6f}5" for _ in range(2000)]
    spelled = [*middles, *(str(chance.random() * 100) for _ in range(2000))]

    result = parsed({"a.json": document(*(row(kwh=kwh, meterpoint=f'"{n}"') for n, kwh in enumerate(spelled)))})

    expected = [Decimal(kwh).quantize(Decimal("0.000001"), ROUND_HALF_UP) for kwh in spelled]
    assert {int(row["meterpoint_id"]): row["consumption_kwh"] for row in rows_of(result.readings)} == dict(
        enumerate(expected)
    )


@pytest.mark.parametrize("name", ["m-é", "Ω 1", "😀", "12e4567890", "0432df65f7"])
def test_meterpoint_id__should_be_taken_as_it_is(name: str) -> None:
    result = outcome(document(row(meterpoint=json.dumps(name))))

    assert [each.meterpoint_id for each in result.good] == [name]


# --- repeated readings -------------------------------------------------------------------------------------------

WINTER, OCTOBER = "2021-01-01 01:00:00", "2021-10-31 01:00:00"
FIRST_UTC, SECOND_UTC = "2021-10-31 00:00:00", "2021-10-31 01:00:00"
NULL, NEGATIVE = row(start=f'"{OCTOBER}"', kwh="null"), row(start=f'"{OCTOBER}"', kwh="-1")
REPEATS: dict[str, tuple[list[str], list[tuple[str, str]], list[tuple[int, str]]]] = {
    # name: rows, (UTC, kWh) of good ones, (position, reason) of rejected ones
    "twice, equal": (at(WINTER, 0.1, 0.1), [(WINTER, "0.100000")], [(1, "duplicate_reading")]),
    "three times, equal": (
        at(WINTER, 0.1, 0.1, 0.1),
        [(WINTER, "0.100000")],
        [(1, "duplicate_reading"), (2, "duplicate_reading")],
    ),
    "twice, different": (at(WINTER, 0.1, 0.2), [], [(0, "conflicting_readings"), (1, "conflicting_readings")]),
    "equal and different": (
        at(WINTER, 0.1, 0.1, 0.2),
        [],
        [(position, "conflicting_readings") for position in range(3)],
    ),
    "good after negative": (at(WINTER, -1, 0.1), [(WINTER, "0.100000")], [(0, "consumption_negative")]),
    "good before absurd": (
        at(WINTER, 0.1, 101),
        [],
        [(0, "day_with_absurd_values"), (1, "consumption_absurd")],
    ),
    "twice wrong": (at(WINTER, -1, 101), [], [(0, "consumption_negative"), (1, "consumption_absurd")]),
    "wrong and twice equal": (
        at(WINTER, -1, 0.1, 0.1),
        [(WINTER, "0.100000")],
        [(0, "consumption_negative"), (2, "duplicate_reading")],
    ),
    "October, once": (at(OCTOBER, 0.1), [(FIRST_UTC, "0.100000")], []),
    "October, twice": (at(OCTOBER, 0.1, 0.2), [(FIRST_UTC, "0.100000"), (SECOND_UTC, "0.200000")], []),
    "October, twice, later one smaller": (
        at(OCTOBER, 0.2, 0.1),
        [(FIRST_UTC, "0.200000"), (SECOND_UTC, "0.100000")],
        [],
    ),
    "October, twice equal": (at(OCTOBER, 0.1, 0.1), [(FIRST_UTC, "0.100000"), (SECOND_UTC, "0.100000")], []),
    "October, three times equal": (
        at(OCTOBER, 0.1, 0.1, 0.1),
        [(FIRST_UTC, "0.100000"), (SECOND_UTC, "0.100000")],
        [(2, "duplicate_reading")],
    ),
    "October, three times different": (
        at(OCTOBER, 0.1, 0.2, 0.3),
        [],
        [(position, "conflicting_readings") for position in range(3)],
    ),
    "October, first one null": (
        [NULL, *at(OCTOBER, 0.2)],
        [(SECOND_UTC, "0.200000")],
        [(0, "consumption_null")],
    ),
    "October, first one negative": (
        [NEGATIVE, *at(OCTOBER, 0.2)],
        [(SECOND_UTC, "0.200000")],
        [(0, "consumption_negative")],
    ),
    "October, second one null": ([*at(OCTOBER, 0.1), NULL], [(FIRST_UTC, "0.100000")], [(1, "consumption_null")]),
    "October, a surplus null": (
        [NULL, *at(OCTOBER, 0.1, 0.2)],
        [(FIRST_UTC, "0.100000"), (SECOND_UTC, "0.200000")],
        [(0, "consumption_null")],
    ),
    "March gap, twice": (
        at("2021-03-28 01:00:00", 0.1, 0.2),
        [],
        [(0, "interval_start_does_not_exist"), (1, "interval_start_does_not_exist")],
    ),
    "another meterpoint": (
        [row(start=f'"{WINTER}"', kwh=kwh, meterpoint=name) for kwh, name in (("0.1", '"m1"'), ("0.2", '"m2"'))],
        [(WINTER, "0.100000"), (WINTER, "0.200000")],
        [],
    ),
}


@pytest.fixture(scope="module")
def repeated() -> dict[str, Outcome]:
    return outcomes({name: document(*rows) for name, (rows, _, _) in REPEATS.items()})


@pytest.mark.parametrize("name", REPEATS)
def test_repeated_reading__should_be_told_from_the_repeated_hour(repeated: dict[str, Outcome], name: str) -> None:
    _, good, rejected = REPEATS[name]

    result = repeated[name]

    assert result.utc == good
    assert [(each.position, each.reason) for each in result.rejected] == rejected


def test_days_of_clock_changes__should_have_46_and_50_half_hours_in_utc_order() -> None:
    files: dict[str, bytes | OSError] = {}
    expected = {}
    for day in [*(change(year, 3) for year in range(2000, 2038)), *(change(year, 10) for year in range(2000, 2038))]:
        instants = list(half_hours(day))
        local = [f"{instant.astimezone(LONDON):%Y-%m-%d %H:%M:%S}" for instant in instants]
        files[str(day)] = document(*(row(start=f'"{start}"', kwh=str(n / 1000)) for n, start in enumerate(local)))
        expected[str(day)] = [(f"{instant:%Y-%m-%d %H:%M:%S}", f"{n / 1000:.6f}") for n, instant in enumerate(instants)]

    result = outcomes(files)

    assert {path: each.utc for path, each in result.items()} == expected
    assert Counter(len(each.good) for each in result.values()) == {46: 38, 50: 38}


def change(year: int, month: int) -> date:
    """The last Sunday of a month."""
    return max(day for day in (date(year, month, number) for number in range(25, 32)) if day.weekday() == 6)


def half_hours(day: date) -> Iterable[datetime]:
    """The instants, in UTC, at which a half hour of a local day begins."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=LONDON).astimezone(UTC)
    for step in range(50):
        instant = midnight + timedelta(minutes=30 * step)
        if instant.astimezone(LONDON).date() == day:
            yield instant


# --- properties --------------------------------------------------------------------------------------------------


def test_local_time__should_follow_the_law_in_the_week_of_each_change_of_the_clock() -> None:
    """Summer time is from 01:00 UTC of the last Sunday in March to that of the last Sunday in October."""
    counted: Counter[Any] = Counter()
    for year, month, step in product(range(2000, 2100), (3, 10), range(8 * 48)):
        local = datetime(year, month, 24) + timedelta(minutes=30 * step)
        begins, ends = (datetime.combine(change(year, month), time(1)) for month in (3, 10))
        in_summer, in_winter = local - timedelta(hours=1), local
        instants = [in_summer] if begins <= in_summer < ends else []
        instants += [in_winter] if not begins <= in_winter < ends else []

        found = local_time(str(local))

        counted[len(instants)] += 1
        if instants:
            assert found == LocalTime(micros(local), micros(instants[0]), len(instants), True)
        else:
            assert found == "interval_start_does_not_exist"
    assert (counted[0], counted[2]) == (200, 200)


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)


half_hour = st.sampled_from(["2021-01-01", "2021-07-01", "2021-10-31"]).flatmap(
    lambda day: st.integers(0, 47).map(lambda n: f"{day} {n // 2:02}:{n % 2 * 30:02}:00")
)
kwh = st.integers(0, 11_500).map(lambda n: n / 1000)
meterpoint = st.sampled_from(["m1", "m2"])


@settings(deadline=None)
@given(st.lists(st.tuples(half_hour, kwh, meterpoint), unique_by=lambda r: (r[0], r[2])), st.randoms())
def test_rows__should_be_the_same_in_any_order_and_beside_a_bad_row_where_no_local_time_is_repeated(
    rows: list[tuple[str, float, str]], shuffle: random.Random
) -> None:
    def read(content: list[tuple[str, float, str]]) -> set[tuple[Any, ...]]:
        found = rows_of(parsed({"a.json": json.dumps({"columns": COLUMNS, "data": content}).encode()}).readings)
        names = ("interval_start", "consumption_kwh", "meterpoint_id", "interval_start_utc")
        return {tuple(row[name] for name in names) for row in found}

    bad = ("2021-06-01 00:00:00", -1.0, "m1")

    good = {(f"{start:%F %T}", float(kwh), name) for start, kwh, name, *_ in read(rows)}
    assert good == set(rows)
    assert read(shuffle.sample(rows, len(rows))) == read(rows)
    assert read([*rows, bad]) == read(rows)


STARTS = [
    "2021-01-01 00:30:00",
    "2021-01-01 00:45:00",
    "2021-02-30 00:00:00",
    "2021-03-28 01:30:00",
    "2021-10-31 01:00:00",
    "2021-10-31 01:00:00",
    "1999-12-31 00:00:00",
    "2021-01-01 00:30:00\n",
    "",
    None,
    7,
    "\ud800",
]
KWHS: list[Any] = [
    0.1,
    0.1,
    0.2,
    0,
    100,
    100.1,
    -1,
    None,
    True,
    "1",
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    10**5000,
    [],
    {},
]
METERPOINTS = ["m1", "m1", "m2", "ü", "", " \t", "\u00a0", None, 3, [1], "\udfff"]
cells = st.tuples(st.sampled_from(STARTS), st.sampled_from(KWHS), st.sampled_from(METERPOINTS))
likely_good = st.tuples(st.sampled_from(STARTS[:6]), st.sampled_from(KWHS[:4]), st.sampled_from(METERPOINTS[:3]))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def expected_reasons(rows: list[Any]) -> list[str | None]:
    """The rules, told once more without Spark: the reason for each row of a file, None for a good one."""

    def place(row: Any) -> tuple[str, str] | None:
        if not isinstance(row, list) or len(row) != 3 or not all(map(is_text, (row[0], row[2]))):
            return None
        return row[2], row[0]

    def is_text(value: Any) -> bool:
        return isinstance(value, str) and re.search("[\ud800-\udfff]", value) is None

    def number(value: Any) -> float | None:
        if type(value) is int:
            return float(value) if abs(value) < 10**300 else math.inf if value > 0 else -math.inf
        return value if type(value) is float else None

    def plausible(row: Any) -> bool:
        value = number(row[1])
        return value is not None and 0 <= value < math.inf

    rivals = defaultdict(list)
    for row in rows:
        if place(row) and plausible(row):
            rivals[place(row)].append(number(row[1]))
    taken: Counter[Any] = Counter()

    def reason(position: int, row: Any) -> str | None:
        if not isinstance(row, list) or len(row) != 3:
            return "wrong_length"
        start, value, name = row
        if not is_text(name):
            return "meterpoint_id_not_text"
        if not any(character.isprintable() and not character.isspace() for character in name):
            return "meterpoint_id_empty"
        try:
            if not is_text(start) or not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", start):
                raise ValueError
            local = datetime.fromisoformat(start)
        except ValueError:
            return "interval_start_not_a_timestamp"
        if not 2000 <= local.year < 2100:
            return "interval_start_out_of_range"
        before, after = (local.replace(tzinfo=LONDON, fold=fold).utcoffset() for fold in (0, 1))
        assert before is not None and after is not None
        if before < after:
            return "interval_start_does_not_exist"
        if value is None:
            return "consumption_null"
        kwh = number(value)
        if kwh is None:
            return "consumption_not_a_number"
        if not math.isfinite(kwh):
            return "consumption_not_finite"
        if kwh < 0:
            return "consumption_negative"
        if position in held:
            return str(held[position])
        capacity = 2 if before > after else 1
        values = rivals[place(row)]
        if len(values) > capacity:
            if len(set(values)) > 1:
                return "conflicting_readings"
            taken[place(row)] += 1
            if taken[place(row)] > capacity:
                return "duplicate_reading"
        return None

    held: dict[int, str] = {}
    sound = [position for position, row in enumerate(rows) if reason(position, row) not in ALONE]
    days: dict[Any, list[int]] = defaultdict(list)
    for position in sound:
        days[rows[position][2], rows[position][0][:10]].append(position)
    for positions in days.values():
        held |= held_day({position: (rows[position][0], number(rows[position][1])) for position in positions})
    rivals.clear()
    for position in sound:
        if position not in held:
            rivals[place(rows[position])].append(number(rows[position][1]))
    taken.clear()
    return [reason(position, row) for position, row in enumerate(rows)]


ALONE = set(get_args(RowReason)) - REASONS_OF_REPEATS


def held_day(rows: dict[int, tuple[str, Any]]) -> dict[int, str]:
    """Reasons of the rows of a meterpoint-day that is held whole, told once more. Rows are local start and kWh."""
    off = [position for position, (start, _) in rows.items() if start[14:16] not in ("00", "30")]
    values = [kwh for _, kwh in sorted(rows.values())]
    if off:
        if len(off) > 1:
            return dict.fromkeys(rows, "day_of_quarter_hours")  # the only odd minute here is 45
        return dict.fromkeys(rows, "day_off_the_grid") | dict.fromkeys(off, "interval_start_not_a_half_hour")
    absurd = [position for position, (_, kwh) in rows.items() if kwh > 100]
    if not absurd:
        return {}
    middle = statistics.median(values)
    if len(values) > 2 and middle > 11.5:
        if values == sorted(values) and values[0] < values[-1]:
            return dict.fromkeys(rows, "day_of_register_values")
        if middle > 34.5:
            return dict.fromkeys(rows, "day_in_watt_hours")
    return dict.fromkeys(rows, "day_with_absurd_values") | dict.fromkeys(absurd, "consumption_absurd")


def spelled(value: Any) -> str:
    """JSON text; integers of any length."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(spelled, value))}]"
    return "1" + "0" * 5000 if value == 10**5000 else json.dumps(value)


def test_rows__should_be_judged_as_an_independent_reading_of_the_rules_does() -> None:
    odd_row = st.sampled_from([[], [1], [1, 2, 3, 4]])
    rows = st.lists(likely_good.map(list) | likely_good.map(list) | cells.map(list) | odd_row, max_size=8)
    contents = examples(rows, 400)
    files: dict[str, bytes | OSError] = {
        f"{number}.json": document(*map(spelled, content)) for number, content in enumerate(contents)
    }

    result = outcomes(files)

    for number, content in enumerate(contents):
        expected = [(position, why) for position, why in enumerate(expected_reasons(content)) if why]
        assert [(each.position, each.reason) for each in result[f"{number}.json"].rejected] == expected, content


@st.composite
def mutilated(draw: st.DrawFn) -> tuple[str, bytes]:
    """Path and content of a file that was good, or not, before something happened to it."""
    columns = draw(st.permutations([*COLUMNS, *draw(st.lists(st.text(), max_size=1))]))
    data = draw(st.lists(cells.map(list) | any_json, max_size=5) | any_json)
    whole: Any = {"columns": columns, "data": data}
    if draw(st.booleans()):
        whole[draw(st.sampled_from(["columns", "data"]))] = draw(any_json)
    content = spelled_document(draw(st.sampled_from([whole, whole, whole, draw(any_json)])))
    zipped = draw(st.booleans())
    if zipped and draw(st.booleans()):
        content = gzip.compress(content, mtime=0)
    if draw(st.booleans()):
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.binary(max_size=3)) + content[place + draw(st.integers(0, 3)) :]
    if draw(st.booleans()):
        content = content[: draw(st.integers(0, len(content)))]
    return "a.json.gz" if zipped else "a.json", content


def spelled_document(value: Any) -> bytes:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(key)}: {spelled_value(inner)}" for key, inner in value.items()) + "}"
        ).encode()
    return spelled_value(value).encode()


def spelled_value(value: Any) -> str:
    return f"[{', '.join(map(spelled, value))}]" if isinstance(value, list) else json.dumps(value)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(["a.json", "a.json.gz"]), st.binary())
def test_parser__should_say_what_is_wrong_with_arbitrary_bytes(path: str, content: bytes) -> None:
    with pytest.raises(FileRejected) as error:
        parse.parse_file(path, content, 0)

    assert error.value.reason in get_args(FileReason)


def test_mutilated_files__should_lose_no_row() -> None:
    files: dict[str, bytes | OSError] = {
        f"{number}-{path}": content for number, (path, content) in enumerate(examples(mutilated(), 400))
    }

    result = outcomes(files)  # which checks that the rows of each file are good or rejected

    assert result.keys() == files.keys()
    statuses = Counter(each.file["status"] for each in result.values())
    assert min(statuses["loaded"], statuses["rejected"]) > 50, "both must occur for the test to mean something"
