"""Bad input: what is good loads, and the rest is in quarantine, whole, with its reason."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jobs import load
from jobs.load import Summary
from tests.integration.lake import COLUMNS, PRODUCTS, Agreement, Lake, Product, Rows, day

UNNAMED = Product("P5", " ")

BAD_FILES = {
    "not-json.json": (b"interval_start,consumption_delta,meterpoint_id\n", "not_json"),
    "truncated.json": (json.dumps({"columns": COLUMNS, "data": day("x", "2021-01-01")}).encode()[:-100], "not_json"),
    "empty.json": (b"", "empty_file"),
    "blank.json": (b" \n", "empty_file"),
    "list.json": (b"[]", "not_an_object"),
    "columns-missing.json": (b'{"data": []}', "columns_missing"),
    "data-missing.json": (json.dumps({"columns": COLUMNS}).encode(), "data_missing"),
    "column-missing.json": (b'{"columns": ["interval_start", "meterpoint_id"], "data": []}', "column_missing"),
    "column-renamed.json": (
        b'{"columns": ["interval_start", "consumption", "meterpoint_id"], "data": [["2021-01-01 00:00:00", 1, "x"]]}',
        "column_missing",
    ),
    "not-gzip.json.gz": (json.dumps({"columns": COLUMNS, "data": []}).encode(), "not_gzip"),
    "not-text.json": (b"\xff\xfe\x00\x01", "not_json"),
}
START = "2021-01-01 12:00:00"
BAD_ROWS: list[tuple[Any, str]] = [
    ([START, 1], "wrong_length"),
    ([START, 1, "m", "more"], "wrong_length"),
    ("no row at all", "wrong_length"),
    ([START, None, "m1"], "consumption_null"),
    ([START, "0.5", "m2"], "consumption_not_a_number"),
    ([START, True, "m3"], "consumption_not_a_number"),
    ([START, -0.001, "m4"], "consumption_negative"),
    ([START, float("nan"), "m5"], "consumption_not_finite"),
    ([START, float("inf"), "m6"], "consumption_not_finite"),
    ([START, 100.000001, "m7"], "day_held_absurd"),
    (["2021-01-01 12:15:00", 1, "m8"], "day_held_off_grid"),
    (["2021-02-30 12:00:00", 1, "m9"], "interval_start_not_a_timestamp"),
    (["noon", 1, "m10"], "interval_start_not_a_timestamp"),
    ([None, 1, "m11"], "interval_start_not_a_timestamp"),
    (["2021-03-28 01:30:00", 1, "m12"], "interval_start_does_not_exist"),
    ([START, 1, ""], "meterpoint_id_empty"),
    ([START, 1, None], "meterpoint_id_not_text"),
    ([START, 1, "twice"], "conflicting_readings"),
    ([START, 2, "twice"], "conflicting_readings"),
    (["2021-10-31 01:00:00", 1, "thrice"], "conflicting_readings"),
    (["2021-10-31 01:00:00", 1, "thrice"], "conflicting_readings"),
    (["2021-10-31 01:00:00", 3, "thrice"], "conflicting_readings"),
]
ONCE = ["2021-01-01 13:00:00", 1, "once"]
GOOD = day("good", "2021-01-01")
ROWS = [*GOOD[:24], *(row for row, _ in BAD_ROWS), ONCE, ONCE, *GOOD[24:]]  # the surplus of ONCE is bad too


@dataclass
class Story:
    """What the lakehouse said after each of its loads."""

    lake: Lake
    no_reference: Summary
    bad_reference_first: Summary
    good_reference: Summary
    bad_reference_later: Summary
    agreements_before: Rows
    agreements_after: Rows


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake]) -> Story:
    lake = new_lake()
    landing = lake.landing
    for name, (content, _) in BAD_FILES.items():
        (landing.folder / "readings" / name).write_bytes(content)
    landing.readings("mixed.json", ROWS)
    # It leads out of the landing place, to the secrets of the job.
    (landing.folder / "readings" / "outside.json").symlink_to("/proc/self/environ")
    no_reference = lake.load()

    landing.raw("case_study.db", b"this is no database, but long enough to be taken for one by its size" * 20)
    landing.readings("second.json", day("good", "2021-01-02"))
    bad_reference_first = lake.load()

    landing.reference([Agreement(1, "good")], ["good"], after=timedelta(days=1))
    good_reference = lake.load()
    before = lake.view("silver.agreement")

    landing.reference([Agreement(1, "good", product_id="P3")], ["good"], after=timedelta(days=2))
    with closing(sqlite3.connect(landing.folder / "case_study.db")) as connection, connection:
        connection.execute("ALTER TABLE meterpoint RENAME COLUMN region TO area")
    landing.readings("third.json", day("good", "2021-01-03"))
    bad_reference_later = lake.load()
    return Story(
        lake, no_reference, bad_reference_first, good_reference, bad_reference_later, before,
        lake.view("silver.agreement"),
    )  # fmt: skip


def test_good_rows_beside_bad_ones_load_and_the_run_succeeds(story: Story) -> None:
    summary = story.no_reference

    assert summary.published
    assert summary.errors == []
    rows = story.lake.rows(
        "SELECT meterpoint_id, count(*), sum(consumption_kwh) FROM gold.readings_enriched"
        " WHERE date = '2021-01-01' GROUP BY ALL ORDER BY meterpoint_id"
    )
    assert rows == [("good", 48, Decimal(12)), ("once", 1, Decimal(1))]


def test_every_bad_row_is_in_quarantine_whole_with_its_place_and_reason(story: Story) -> None:
    expected = {24 + n: reason for n, (_, reason) in enumerate(BAD_ROWS)}
    expected[24 + len(BAD_ROWS) + 1] = "duplicate_reading"

    rows = story.lake.rows("SELECT position, reason, row_json FROM quarantine.readings ORDER BY position")

    assert {position: reason for position, reason, _ in rows} == expected
    assert len(rows) == len(expected)
    for position, _, row_json in rows:
        delivered = ROWS[position]
        if isinstance(delivered, list) and len(delivered) == len(COLUMNS):
            delivered = dict(zip(COLUMNS, delivered, strict=True))
        assert json.dumps(json.loads(row_json), sort_keys=True) == json.dumps(delivered, sort_keys=True)


def test_every_bad_file_is_in_quarantine_whole_with_its_reason(story: Story) -> None:
    rows = story.lake.rows(
        "SELECT source_file, reason, content, size_bytes, kind FROM quarantine.files"
        " WHERE reason <> 'outside_landing' AND kind = 'readings'"
    )

    assert {name: (bytes(content), reason) for name, reason, content, *_ in rows} == {
        f"readings/{name}": bad for name, bad in BAD_FILES.items()
    }
    assert all(size == len(content) for *_, content, size, _ in rows)


def test_rows_in_are_rows_loaded_and_rows_in_quarantine(story: Story) -> None:
    lake, summary = story.lake, story.no_reference

    assert summary.readings_loaded + summary.readings_rejected == len(ROWS)
    assert summary.files == {"loaded": 1, "rejected": len(BAD_FILES) + 1}
    assert sum(summary.rejected_by_reason.values()) == len(BAD_ROWS) + 1 + len(BAD_FILES) + 1
    history = lake.rows(
        "SELECT files_loaded, files_rejected, readings_loaded, readings_rejected FROM gold.load_history"
        f" WHERE load_id = '{summary.load_id}'"
    )
    assert history == [(1, len(BAD_FILES) + 1, len(GOOD) + 1, len(BAD_ROWS) + 1)]
    of_file = lake.rows("SELECT rows_read, rows_rejected FROM ops.load_files WHERE source_file = 'readings/mixed.json'")
    assert of_file == [(len(ROWS), len(BAD_ROWS) + 1)]


def test_a_few_rejections_are_told_in_a_sentence_each(story: Story) -> None:
    rejections = story.no_reference.rejections

    assert any(text.startswith("readings/empty.json: empty_file") for text in rejections)
    assert any(text.startswith("readings/mixed.json row 24: wrong_length") for text in rejections)
    assert len(rejections) <= 20


def test_a_bad_file_is_not_read_again_nor_told_again_of_one_that_still_cannot_be_read(story: Story) -> None:
    rows = story.lake.rows(
        "SELECT source_file, count(*) FROM ops.load_files WHERE status = 'rejected' AND kind = 'readings' GROUP BY ALL"
    )

    assert dict(rows) == {f"readings/{name}": 1 for name in BAD_FILES} | {"readings/outside.json": 1}


def test_without_a_reference_file_readings_load_and_have_no_agreement(story: Story) -> None:
    assert story.no_reference.published
    assert story.no_reference.snapshot_date is None
    assert [verdict.table for verdict in story.no_reference.verdicts if not verdict.passed] == []


@pytest.mark.parametrize(
    ("load", "day", "reason"),
    [("bad_reference_first", 2, "not_sqlite"), ("bad_reference_later", 3, "column_missing")],
)
def test_with_a_bad_reference_file_readings_load_and_the_run_fails(
    load: str, day: int, reason: str, story: Story
) -> None:
    summary: Summary = getattr(story, load)

    assert summary.published
    assert summary.dates == [date(2021, 1, day)]
    assert summary.snapshot_date is None
    (error,) = summary.errors
    assert error.startswith(f"case_study.db: {reason}: ")
    assert story.lake.value(f"SELECT count(*) FROM silver.readings WHERE date = '2021-01-0{day}'") == 48
    assert story.lake.value(f"SELECT error FROM ops.loads WHERE load_id = '{summary.load_id}'") == error


def test_a_bad_reference_file_is_in_quarantine_whole(story: Story) -> None:
    rows = story.lake.rows(
        "SELECT reason, content, size_bytes FROM quarantine.files WHERE kind = 'reference' ORDER BY load_id"
    )

    assert [reason for reason, *_ in rows] == ["not_sqlite", "column_missing"]
    assert bytes(rows[1][1]) == (story.lake.landing.folder / "case_study.db").read_bytes()
    assert all(len(content) == size for _, content, size in rows)


def test_a_bad_reference_file_leaves_the_snapshot_before_it_in_place(story: Story) -> None:
    assert story.good_reference.snapshot_date == date(2021, 11, 3)
    assert len(story.agreements_before.rows) == 1
    assert story.agreements_after == story.agreements_before
    assert story.lake.value("SELECT count(DISTINCT snapshot_date) FROM silver.product_history") == 1
    products = story.lake.rows("SELECT DISTINCT product_display_name, date FROM gold.daily_product_consumption")
    assert sorted(products) == [("Fixed", date(2021, 1, n)) for n in (1, 2, 3)]


def test_the_reference_file_that_comes_at_last_gives_all_earlier_readings_their_agreement(story: Story) -> None:
    assert story.good_reference.mart_dates == [date(2021, 1, 1), date(2021, 1, 2)]


def test_a_delivery_of_which_most_files_are_rejected_is_not_published(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("good.json", day("a", "2021-01-01"))
    for number in range(50):
        lake.landing.readings(f"{number}.json", [], columns=["start", "kwh", "meterpoint"])

    summary = lake.load()

    assert not summary.published
    assert "98 % of the load's files are at fault, expected at most 5 %" in summary.errors[-1]
    assert lake.value("SELECT count(*) FROM silver.readings") == 0


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("a pipe", "unreadable"),
        ("a journal", "in_use"),
        ("written meanwhile", "in_use"),
        ("another column", "column_missing"),
    ],
)
def test_a_reference_file_that_cannot_be_read_does_not_keep_readings_out(
    new_lake: Callable[[], Lake], case: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01"))
    for number in range(2):
        lake.landing.readings(f"{number}.json", [], columns=["start"])  # a reason that reference files have, too
    database = lake.landing.folder / "case_study.db"
    if case == "a pipe":
        os.mkfifo(database)  # it is there, and has no end
    else:
        lake.landing.reference([Agreement(1, "a")], ["a"])
    if case == "a journal":
        database.with_name("case_study.db-wal").write_bytes(b"committed")
    if case == "written meanwhile":
        copy = shutil.copyfileobj

        def copied(*streams: Any) -> None:
            copy(*streams)
            os.utime(database)

        monkeypatch.setattr(shutil, "copyfileobj", copied)
    if case == "another column":
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("ALTER TABLE meterpoint RENAME COLUMN region TO area")

    summary = lake.load()

    assert summary.published
    (error,) = summary.errors
    assert error.startswith(f"case_study.db: {reason}: ")
    reasons = {"column_missing": 3} if reason == "column_missing" else {"column_missing": 2, reason: 1}
    assert summary.rejected_by_reason == reasons
    assert lake.value("SELECT count(*) FROM silver.readings") == 48
    monkeypatch.undo()
    for path in lake.landing.folder.glob("case_study.db*"):
        path.unlink()
    lake.landing.reference([Agreement(1, "a"), Agreement(2, "b", product_id="P5")], ["a", "b"], [*PRODUCTS, UNNAMED])
    assert lake.load().snapshot_date is not None
    assert lake.value("SELECT display_name IS NULL FROM silver.product WHERE product_id = 'P5'")


def test_a_newer_file_that_cannot_be_taken_is_told_and_keeps_no_older_one_out(new_lake: Callable[[], Lake]) -> None:
    lake, hour = new_lake(), timedelta(hours=1)
    folder = lake.landing.folder
    lake.landing.reference([], ["a"])
    (folder / "case_study.db").rename(folder / "nothing.db")
    lake.landing.touch("nothing.db", 7 * hour)
    lake.landing.reference([Agreement(1, "a")], ["a"])
    whole = (folder / "case_study.db").read_bytes()
    with closing(sqlite3.connect(folder / "photos.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE photo (name TEXT)")
    lake.landing.touch("photos.sqlite", hour)
    lake.landing.raw("empty.db", b"", after=2 * hour)
    lake.landing.raw("cut.db", whole[:3000], after=3 * hour)
    lake.landing.raw("cut_later.db", whole[:6000], after=4 * hour)
    lake.landing.raw("other.db", b"something else", after=5 * hour)
    lake.landing.raw("busy.db", whole, after=6 * hour)
    lake.landing.raw("busy.db-wal", b"committed")

    summary = lake.load()

    assert summary.snapshot_date is not None
    assert [error.split(": ")[:2] for error in summary.errors] == [
        ["nothing.db", "expectation_failed"],
        ["busy.db", "in_use"],
        *([name, "not_sqlite"] for name in ("other.db", "cut_later.db", "cut.db", "empty.db")),
    ]
    assert [text for text in summary.warnings if "photos" in text] == ["photos.sqlite is no reference file: ignored"]
    assert lake.value("SELECT count(*) FROM silver.agreement") == 1
    judged = [row[0] for row in lake.rows("SELECT table_name FROM ops.validations")]
    assert len(judged) == len(set(judged))
    # What a person names is meant.
    named = lake.load(kind="reload", again=["empty.db", "photos.sqlite", "cut.db"])
    assert [error.split(": ")[:2] for error in named.errors] == [
        ["cut.db", "not_sqlite"],
        ["empty.db", "not_sqlite"],
        ["photos.sqlite", "table_missing"],
    ]


def test_a_load_too_large_for_memory_records_all_that_a_small_one_does(
    new_lake: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "FEW_FILES", 0)
    monkeypatch.setattr(load, "FEW_ROWS", 0)
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01"))
    lake.landing.readings("b.json", [*day("b", "2021-01-01"), ["2021-01-01 00:00:00", -1, "b"]])
    lake.landing.raw("readings/bad.json", b"{")
    lake.landing.reference([Agreement(1, "a")], ["a", "b"])
    lake.load()
    lake.landing.readings("a.json", day("a", "2021-01-01", 2), after=timedelta(hours=1))
    lake.load()

    assert lake.rows(
        "SELECT source_file, status, rows_read, rows_rejected FROM ops.load_files ORDER BY load_id, 1"
    ) == [
        ("case_study.db", "loaded", 7, 0),
        ("readings/a.json", "loaded", 48, 0),
        ("readings/b.json", "loaded", 49, 1),
        ("readings/bad.json", "rejected", None, None),
        ("readings/a.json", "loaded", 48, 0),
    ]
    assert lake.rows("SELECT source_file, content FROM quarantine.files") == [("readings/bad.json", b"{")]
    assert lake.rows("SELECT source_file, reason FROM quarantine.readings") == [
        ("readings/b.json", "consumption_negative")
    ]
    assert lake.value("SELECT count(*) FROM silver.superseded_readings") == 48
    assert lake.run() is None
