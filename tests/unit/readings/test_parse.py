"""Readings files, good and bad, from their bytes to good and rejected rows."""

import gzip
import json
import math
import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.readings import by_column, by_row, october
from jobs.readings import document as documents
from jobs.readings.parse import parse_file, parse_files
from jobs.readings.parsed import Document, File, ParsedFile
from jobs.readings.rules import FileReason, FileRejected, LocalTime, RowReason, local_time
from tests.model.readings import reasons

LONDON = ZoneInfo("Europe/London")
MODIFIED_AT = datetime(2030, 1, 1, tzinfo=UTC)
COLUMNS = ["interval_start", "consumption_delta", "meterpoint_id"]
GOOD_ROW = '["2021-01-01 12:00:00", 0.25, "m1"]'


def row(start: str = '"2021-01-01 00:30:00"', kwh: str = "0.186", meterpoint: str = '"m1"') -> str:
    """A row as JSON text, so that it can be spelled in every way in which a file can."""
    return f"[{start}, {kwh}, {meterpoint}]"


def document(*rows: str, columns: list[Any] | None = None) -> bytes:
    return f'{{"columns": {json.dumps(columns or COLUMNS)}, "data": [{", ".join(rows)}]}}'.encode()


def at(start: str, *kwh: float) -> list[str]:
    """Rows of one meterpoint at one local time."""
    return [row(start=f'"{start}"', kwh=str(value)) for value in kwh]


def micros(moment: datetime) -> int:
    return (moment.replace(tzinfo=None) - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def text(instant: int) -> str:
    return f"{datetime(1970, 1, 1) + timedelta(microseconds=int(instant)):%Y-%m-%d %H:%M:%S}"


def parsed(content: bytes, path: str = "readings/a.json", modified_at: datetime = MODIFIED_AT) -> ParsedFile:
    """What becomes of a file. No key may be good twice, and rejected rows are in order."""
    result = parse_file(path, content, micros(modified_at))
    keys = list(zip(good(result, "meterpoint_id"), good(result, "interval_start_utc"), strict=True))
    assert len(set(keys)) == len(keys), "two good rows for one key"
    positions = [each.position for each in result.rejected]
    assert positions == sorted(set(positions))
    return result


def good(result: ParsedFile, name: str) -> list[Any]:
    """A column of the good rows."""
    return list(result.good[name].to_pylist())


def utc(result: ParsedFile) -> list[tuple[str, str]]:
    """UTC and kWh of the good rows, in order of time."""
    instants, kwh = good(result, "interval_start_utc"), good(result, "consumption_kwh")
    return sorted((text(instant), f"{value:.6f}") for instant, value in zip(instants, kwh, strict=True))


# --- bad files ---------------------------------------------------------------------------------------------------

WHOLE = document(GOOD_ROW)
BAD_FILES: dict[str, tuple[FileReason, bytes, str]] = {
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
    "key_twice.json": ("key_twice", WHOLE[:-1] + b', "data": []}', "'data' occurs 2"),
    "key_twice_escaped.json": ("key_twice", WHOLE[:-1] + rb', "\u0064ata": []}', "'data' occurs 2"),
    "columns_twice.json": ("key_twice", b'{"columns": [1], ' + WHOLE[1:], "'columns' occurs 2"),
    "key_twice_beside_nan.json": ("key_twice", document(row(kwh="NaN"))[:-1] + b', "data": []}', "'data' occurs 2"),
    "lines.jsonl": ("not_json", WHOLE + b"\n{", "line 2: "),
    "rows.jsonl": ("columns_missing", b'{"interval_start": "2021-01-01 00:30:00"}', "line 1: "),
    "pretty.ndjson": ("not_json", json.dumps(json.loads(WHOLE), indent=1).encode(), "line 1: "),
    "columns_differ.jsonl": (
        "columns_differ",
        WHOLE + b"\n" + document(columns=[*COLUMNS, "unit"]),
        "line 2 has the columns",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file__should_be_rejected_whole_with_its_reason(name: str) -> None:
    reason, content, named = BAD_FILES[name]

    with pytest.raises(FileRejected) as error:
        parsed(content, name)

    assert error.value.reason == reason
    assert named in error.value.detail


def test_cases__should_cover_every_reason_for_a_file_and_for_a_row() -> None:
    elsewhere = {"unreadable", "outside_landing", "too_large"}
    assert {reason for reason, _, _ in BAD_FILES.values()} | elsewhere == set(get_args(FileReason))
    of_several_rows = {"conflicting_readings", "duplicate_reading"}
    of_days = {reason for reason in get_args(RowReason) if reason.startswith("day_held_")}
    assert {reason for reason, _ in BAD_ROWS.values()} | of_several_rows | of_days == set(get_args(RowReason))


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_file_that_unpacks_to_too_much__should_be_rejected_before_it_is_unpacked_whole(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(documents, "LARGEST_UNPACKED", 1_000_000)
    content = document() + b" " * 10_000_000

    with pytest.raises(FileRejected, match="more than 1000000 bytes") as error:
        parsed(gzip.compress(content) if name.endswith(".gz") else content, name)

    assert error.value.reason == "too_large"


@pytest.mark.parametrize(
    ("bound", "size", "detail"),
    [
        ("MOST_COLUMNS", 4, "5 columns"),
        ("LONGEST_NAMES", 100, "names of the columns"),
        ("MOST_REPEATED", 200, "2 rows"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_names_of_columns_that_rows_at_fault_would_repeat__should_have_a_limit(
    monkeypatch: pytest.MonkeyPatch, bound: str, size: int, detail: str, name: str
) -> None:
    monkeypatch.setattr(by_row if bound == "MOST_REPEATED" else documents, bound, size)
    monkeypatch.setattr(documents, "_remembered", documents._require_columns)
    bad = "[null, null, null, 1, 1]"
    content = document(bad, bad, columns=[*COLUMNS, "a" * 50, "b" * 50])

    with pytest.raises(FileRejected, match=detail) as error:
        parsed(content, name)

    assert error.value.reason == "too_large"


def test_rows_of_another_length__should_not_count_as_if_they_repeated_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_row, "MOST_REPEATED", 200)

    assert len(parsed(document(*["[]"] * 100)).rejected) == 100


def test_repeated_hour__should_be_told_by_the_rows_beside_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    told = october.told

    def counted(times: Any) -> Any:
        seen.append(len(times))
        return told(times)

    monkeypatch.setattr(october, "told", counted)
    days = [f"2021-10-{day} {hour:02}:00:00" for day in (30, 31) for hour in range(2, 24)]
    night = [f"2021-10-31 {time}:00" for time in ("00:30", "01:00", "01:30", "01:00", "01:30", "02:00")]

    result = parsed(document(*(row(start=f'"{start}"') for start in [*days[:-22], *night, *days[-21:], *days])))

    assert max(seen) <= 14
    assert "repeated_hour_not_told" not in result.warnings


def test_note_of_ignored_columns__should_be_short_and_cut_no_name() -> None:
    names = [f"column-{number:02}" for number in range(30)]

    assert parsed(document(columns=[*COLUMNS, *names])).note == (
        f"ignored columns: {', '.join(names[:18])}, … (30 in all)"
    )
    assert parsed(document(columns=[*COLUMNS, "x" * 1000])).note == "ignored columns: … (1 in all)"


def test_columns_in_another_order__should_be_found_without_a_search_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    class Names(list[str]):
        def index(self, *_: Any) -> int:
            raise AssertionError("a search for each column takes a time that grows with their square")

    one = documents._one
    monkeypatch.setattr(documents, "_one", lambda document: (Names(one(document)[0]), one(document)[1]))
    turned = document('["m1", 0.25, "2021-01-01 12:00:00"]', columns=COLUMNS[::-1])

    _, rows = documents.columns_and_data("a.jsonl", document(row()) + b"\n" + turned)

    assert rows[1] == json.loads(GOOD_ROW)


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
    "capitals.JSON.GZ": (gzip.compress(in_order(COLUMNS, READING)), None),
    "lines.jsonl": (b"\xef\xbb\xbf\n" + in_order(COLUMNS, READING) + b"\r\n" + document() + b"\n", None),
    "lines.NDJSON.gz": (gzip.compress(document() + b"\n" + in_order(COLUMNS[::-1], READING)), None),
    "data_as_id.json": (in_order([*COLUMNS, "data"], READING | {"data": {"data": 1}}), "ignored columns: data"),
}


@pytest.mark.parametrize("name", GOOD_FILES)
def test_good_file__should_load_whatever_its_form(name: str) -> None:
    content, note = GOOD_FILES[name]

    result = parsed(content, name)

    assert (good(result, "meterpoint_id"), utc(result)) == (["m1"], [("2021-06-30 23:30:00", "0.186000")])
    assert text(good(result, "interval_start")[0]) == "2021-07-01 00:30:00"
    assert (result.rejected, result.warnings, result.note) == ([], {}, note)


def test_file_without_rows__should_be_loaded_with_none() -> None:
    result = parsed(document())

    assert (good(result, "meterpoint_id"), result.rejected, result.warnings) == ([], [], {})


QUALITIES = {
    # column, value as JSON: quality
    ("reading_quality", '"A"'): "A",
    ("Reading_Quality", '" e "'): "E",
    ("quality", '"Actual"'): "A",
    ("reading_type", '"ESTIMATED"'): "E",
    ("read_type", '"s"'): "S",
    ("estimated", "true"): "E",
    ("estimated", "false"): "A",
    ("is_estimated", '"N"'): "A",
    ("quality", '"Substituted by hand, twice, in another year"'): "Substituted by hand, twice, in a",
    ("quality", '"  "'): None,
    ("quality", "null"): None,
    ("quality", "[1]"): None,
    ("quality", r'"\ud800"'): None,
}


@pytest.mark.parametrize("good_neighbour", [True, False])
@pytest.mark.parametrize(("column", "value"), QUALITIES)
def test_quality__should_be_kept_and_reject_no_row(column: str, value: str, good_neighbour: bool) -> None:
    rows = [row()[:-1] + f", {value}]"] + ([] if good_neighbour else ["[]"])

    result = parsed(document(*rows, columns=[*COLUMNS, column]))

    assert (good(result, "reading_quality"), result.note) == ([QUALITIES[column, value]], None)


def test_equal_rows_of_different_quality__should_be_duplicates() -> None:
    rows = [row()[:-1] + f', "{quality}"]' for quality in "AE"]

    result = parsed(document(*rows, columns=[*COLUMNS, "quality"]))

    assert (good(result, "reading_quality"), [each.reason for each in result.rejected]) == (
        ["A"],
        ["duplicate_reading"],
    )


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
    "meterpoint padded": ("meterpoint_id_padded_or_invisible", row(meterpoint='"m1 "')),
    "meterpoint padded before": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"\tm1"')),
    "meterpoint with a zero-width space": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"m\u200b1"')),
    "meterpoint with a soft hyphen": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"m\u00ad1"')),
    "meterpoint with a byte order mark": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"\ufeffm1"')),
    "meterpoint written from the right": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"\u202em1"')),
    "meterpoint with a no-break space": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"m\u00a01"')),
    "meterpoint with a variation selector": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"m1\ufe0f"')),
    "meterpoint with a Hangul filler": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"m1\u3164"')),
    "meterpoint with an accent apart": ("meterpoint_id_padded_or_invisible", row(meterpoint=r'"me\u0301"')),
    "meterpoint too long": ("meterpoint_id_too_long", row(meterpoint=f'"{"m" * 257}"')),
    "meterpoint of a spreadsheet": ("meterpoint_id_spreadsheet_number", row(meterpoint='"7.22E+12"')),
    "meterpoint of a spreadsheet with comma": ("meterpoint_id_spreadsheet_number", row(meterpoint='"1,23E+05"')),
    "meterpoint of a spreadsheet, short": ("meterpoint_id_spreadsheet_number", row(meterpoint='"7e+12"')),
    "meterpoint with a fraction": ("meterpoint_id_spreadsheet_number", row(meterpoint='"1200000000123.0"')),
    "start after the file": ("interval_start_after_file", row(start='"2031-01-01 00:00:00"')),
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
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row__should_be_rejected_with_its_reason_and_the_good_ones_load(name: str) -> None:
    reason, bad = BAD_ROWS[name]
    before, after = row(start='"2021-01-01 11:30:00"'), row(start='"2021-01-01 12:30:00"')

    result = parsed(document(before, bad, after))

    assert list(map(text, good(result, "interval_start"))) == ["2021-01-01 11:30:00", "2021-01-01 12:30:00"]
    assert [(each.position, each.reason) for each in result.rejected] == [(1, reason)]
    if reason not in ("wrong_length", "consumption_not_finite"):
        assert json.loads(result.rejected[0].row_json) == dict(zip(COLUMNS, json.loads(bad), strict=True))


def test_rejected_row__should_tell_meterpoint_and_date_where_they_can_be_told() -> None:
    late, nameless = row(start='"2031-01-02 00:00:00"'), row(meterpoint="7")

    found = [
        (each.meterpoint_id, each.date) for each in parsed(document(late, nameless, row(kwh="null"), "[]")).rejected
    ]

    new_year = (date(2021, 1, 1) - date(1970, 1, 1)).days
    day_of_late = (date(2031, 1, 2) - date(1970, 1, 1)).days
    assert found == [("m1", day_of_late), (None, new_year), ("m1", new_year), (None, None)]


@pytest.mark.parametrize("name", ["m-é", "Ω 1", "😀", "0432df65f7", "12345678e9", "１２", "m" * 256])
def test_meterpoint_id__should_be_taken_as_it_is(name: str) -> None:
    assert good(parsed(document(row(meterpoint=json.dumps(name)))), "meterpoint_id") == [name]


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


@pytest.mark.parametrize("name", REPEATS)
def test_repeated_reading__should_be_told_from_the_repeated_hour(name: str) -> None:
    rows, good, rejected = REPEATS[name]

    result = parsed(document(*rows))

    assert utc(result) == good
    assert [(each.position, each.reason) for each in result.rejected] == rejected


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


kinds_of_order = st.sampled_from(["oldest first", "newest first", "rotated", "rotated, newest first"])


@settings(deadline=None)
@given(
    st.integers(2000, 2037),
    st.lists(st.tuples(kinds_of_order, st.integers(0, 49)), min_size=1, max_size=3),
    st.permutations(COLUMNS),
    st.randoms(use_true_random=False),
)
def test_october__should_be_told_by_the_neighbours_whatever_stands_between_them(
    year: int, orders: list[tuple[str, int]], columns: list[str], chance: random.Random
) -> None:
    """The true instants are known here, the file is made of them, and the parser has to find them again."""
    queues = []
    for number, (order, cut) in enumerate(orders):
        instants = list(half_hours(change(year, 10)))
        instants = instants[cut:] + instants[:cut] if "rotated" in order else instants
        queues.append([(f"m{number}", each) for each in (instants[::-1] if "newest" in order else instants)])
    rows = []
    while any(queues):
        rows.append(chance.choice([queue for queue in queues if queue]).pop(0))
    data = [
        {
            "interval_start": f"{instant.astimezone(LONDON):%Y-%m-%d %H:%M:%S}",
            "consumption_delta": n % 7 / 10,
            "meterpoint_id": name,
        }
        for n, (name, instant) in enumerate(rows)
    ]

    result = parsed(in_order(columns, *data), modified_at=datetime(2100, 1, 1, tzinfo=UTC))

    found = list(zip(good(result, "meterpoint_id"), good(result, "interval_start_utc"), strict=True))
    assert found == [(name, micros(instant)) for name, instant in rows]
    assert "repeated_hour_not_told" not in result.warnings


@settings(deadline=None)
@given(st.integers(0, 50), st.booleans(), st.randoms(use_true_random=False))
def test_october_cut_in_two__should_load_both_files_right_wherever_it_is_cut(
    cut: int, newest_first: bool, chance: random.Random
) -> None:
    instants = list(half_hours(date(2021, 10, 31)))
    for part in (instants[:cut], instants[cut:]):
        part = part[::-1] if newest_first else part
        rows = [row(start=f'"{each.astimezone(LONDON):%Y-%m-%d %H:%M:%S}"') for each in part]

        result = parsed(document(*rows))

        assert sorted(good(result, "interval_start_utc")) == sorted(micros(each) for each in part)
        assert "repeated_hour_not_told" not in result.warnings


def test_second_of_two_hours__should_be_rejected_if_it_is_later_than_the_file() -> None:
    rows = at("2021-10-31 00:30:00", 0.1) + at(OCTOBER, 0.2) + at("2021-10-31 01:30:00", 0.3) + at(OCTOBER, 0.4)

    result = parsed(document(*rows), modified_at=datetime(2021, 10, 31, 0, 45, tzinfo=UTC))

    assert [(each.position, each.reason) for each in result.rejected] == [(3, "interval_start_after_file")]


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
            assert found == LocalTime(micros(local), micros(instants[0]), len(instants))
        else:
            assert found == "interval_start_does_not_exist"
    assert (counted[0], counted[2]) == (200, 200)


STARTS = [
    "2021-01-01 00:30:00",
    "2021-01-01 00:45:00",
    "2021-02-30 00:00:00",
    "2021-03-28 01:30:00",
    "2021-10-31 01:00:00",
    "2021-10-31 01:00:00",
    "1999-12-31 00:00:00",
    "2021-01-01 00:30:07",
    "2021-01-01 01:00:00",
    "2021-01-01 01:30:00",
    "2021-01-01 02:00:00",
    "2031-01-01 01:00:00",
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
    40,
    50,
    3000,
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
METERPOINTS = ["m1", "m1", "m2", "ü", "", " \t", "\u00a0", "m1 ", "\u200bm1", "7.22E+12", None, 3, [1], "\udfff"]
cells = st.tuples(st.sampled_from(STARTS), st.sampled_from(KWHS), st.sampled_from(METERPOINTS))
likely_good = st.tuples(st.sampled_from(STARTS[:6]), st.sampled_from(KWHS[:4]), st.sampled_from(METERPOINTS[:3]))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def spelled(value: Any) -> str:
    """JSON text; integers of any length."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(spelled, value))}]"
    return "1" + "0" * 5000 if value == 10**5000 else json.dumps(value)


@settings(deadline=None, max_examples=500)
@given(
    st.lists(
        likely_good.map(list) | likely_good.map(list) | cells.map(list) | st.sampled_from([[], [1], [1, 2, 3, 4]]),
        max_size=9,
    )
)
def test_rows__should_be_judged_as_the_model_does(rows: list[Any]) -> None:
    result = parsed(document(*map(spelled, rows)))

    expected = [(position, why) for position, why in enumerate(reasons(rows, MODIFIED_AT)) if why]
    assert [(each.position, each.reason) for each in result.rejected] == expected
    assert result.good.num_rows == len(rows) - len(expected)


plain_files = st.lists(
    st.tuples(
        st.integers(0, 120).map(lambda n: str(datetime(2021, 3, 27) + timedelta(minutes=30 * n))),
        st.integers(0, 20) | st.floats(0, 100),
        st.sampled_from(["m1", "m2", "é"]),
        st.sampled_from(["A", "E", None]),
    ),
    min_size=1,
    max_size=80,
    unique_by=lambda row: (row[0], row[2]),
)


@settings(deadline=None, max_examples=200)
@given(plain_files)
def test_plain_file__should_be_read_by_column_as_it_is_by_row(rows: list[tuple[Any, ...]]) -> None:
    columns, data = [*COLUMNS, "quality"], [list(row) for row in rows]

    document = Document(columns, data, micros(MODIFIED_AT))

    values = by_column.values(document)
    assert values is not None
    plain = by_column.judge([values])
    rows_of_it, rejected, warnings = by_row.judge(document)

    assert plain.others == ({0} if rejected else set())
    if not rejected:
        order = [("meterpoint_id", "ascending"), ("interval_start_utc", "ascending")]
        assert plain.good.sort_by(order).equals(rows_of_it.sort_by(order))
        assert plain.warnings.get(0, {}) == warnings


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
@given(st.sampled_from(["a.json", "a.json.gz", "a.jsonl"]), st.binary())
def test_parser__should_say_what_is_wrong_with_arbitrary_bytes(path: str, content: bytes) -> None:
    try:
        result = parse_file(path, content, 0)
    except FileRejected as error:
        assert error.reason in get_args(FileReason)
    else:
        assert not result.good.num_rows


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        mutilated()
        | plain_files.map(lambda rows: ("plain.json", document(*map(spelled, rows), columns=[*COLUMNS, "quality"]))),
        max_size=5,
    )
)
def test_files_together__should_say_what_each_says_alone(files: list[tuple[str, bytes]]) -> None:
    named = [File(f"{number}{name}", content, micros(MODIFIED_AT)) for number, (name, content) in enumerate(files)]

    together = list(parse_files(named))

    assert sorted(each.files[number].name for each in together for number in each.told) == [file.name for file in named]
    for each in together:
        for number, told in each.told.items():
            of_file = each.good.filter(pc.equal(each.good["file"], number)).drop_columns(["file"])
            try:
                alone = parse_file(*each.files[number])
            except FileRejected as error:
                assert repr(told) == repr(error) and not of_file.num_rows
            else:
                assert told == alone[1:]
                assert as_set(of_file) == as_set(alone.good.drop_columns(["file"]))


def as_set(rows: pa.Table) -> set[str]:
    return set(map(str, rows.to_pylist()))


@settings(deadline=None, max_examples=400)
@given(mutilated())
def test_mutilated_file__should_lose_no_row(file: tuple[str, bytes]) -> None:
    path, content = file
    try:
        result = parsed(content, path)
    except FileRejected as error:
        assert error.reason in get_args(FileReason)
    else:
        data = json.loads(gzip.decompress(content) if path.endswith(".gz") else content, parse_int=float)["data"]
        assert result.good.num_rows + len(result.rejected) == len(data)


@pytest.mark.parametrize("value", ["é" * 1_100_000, [["é"] * 600_000, {"é": "é" * 600_000}]], ids=["text", "nested"])
def test_row_at_fault_of_a_million_characters__should_have_its_file_rejected(value: Any) -> None:
    rows = [["2021-01-01 00:00:00", 1, "m1"], ["2021-01-01 00:30:00", value, "m1"]]
    content = json.dumps({"columns": ["interval_start", "consumption_delta", "meterpoint_id"], "data": rows}).encode()

    with pytest.raises(FileRejected, match="row 1 is at fault, and has 1,") as rejected:
        parse_file("a.json", content, 2**62)

    assert rejected.value.reason == "too_large"
