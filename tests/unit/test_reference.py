"""Reference files, good and bad, from SQLite to typed tables."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pyarrow as pa
import pytest

from jobs import reference
from jobs.reference import SOURCES, Reason, RowReason, SnapshotRejected, overlapping_agreements, read_reference

AGREEMENT = {
    "agreement_id": 7,
    "agreement_valid_from": "2021-01-01",
    "agreement_valid_to": "2021-02-01",
    "product_id": "p1",
    "meterpoint_id": "m1",
    "account_id": "a1",
}
PRODUCT = {"display_name": "Green", "is_variable": 1, "id": 3, "product_id": "p1"}
METERPOINT = {"region": "London", "meterpoint_id": "m1"}
ROWS: dict[str, dict[str, Any]] = {"agreement": AGREEMENT, "product": PRODUCT, "meterpoint": METERPOINT}
SCHEMA = {
    "agreement": "agreement_id INTEGER, agreement_valid_from DATE, agreement_valid_to DATE, product_id TEXT,"
    " meterpoint_id TEXT, account_id TEXT",
    "product": "display_name TEXT, is_variable INTEGER, id INTEGER, product_id TEXT",
    "meterpoint": "region TEXT, meterpoint_id TEXT",
}
Changes = dict[str, Any]


def database(path: Path, *, schema: dict[str, str] | None = None, **rows: list[Changes]) -> Path:
    """A file with one good row in each table, or the given rows: each the good one with some columns overridden."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, columns in (SCHEMA | (schema or {})).items():
            connection.execute(f"CREATE TABLE {table} ({columns})")
            for changes in rows.get(table, [{}]):
                row = ROWS[table] | changes
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", [*row.values()])
    return path


def changed(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path


def refused(path: Path) -> SnapshotRejected:
    with pytest.raises(SnapshotRejected) as error:
        read_reference(path)
    return error.value


def tables_of(path: Path) -> dict[str, pa.Table]:
    """The tables of a file of which no row is left out."""
    found = read_reference(path)
    assert found.rejected == []
    return found.tables


def left_out(path: Path) -> list[tuple[str, str]]:
    """Reason and detail of each row that is left out. No row of the file is lost."""
    found = read_reference(path)
    rejected = Counter(row.table_name for row in found.rejected)
    kept_by_key = Counter(
        {name: table.num_rows + rejected[name] - found.rows[name] for name, table in found.tables.items()}
    )
    assert all(0 <= count <= 1 for count in kept_by_key.values())
    return [(row.reason, row.detail) for row in found.rejected]


# --- good files --------------------------------------------------------------------------------------------------


def test_good_file__should_give_typed_tables(tmp_path: Path) -> None:
    tables = tables_of(database(tmp_path / "a.db"))

    assert {name: table.to_pylist() for name, table in tables.items()} == {
        "agreement": [
            AGREEMENT | {"agreement_valid_from": date(2021, 1, 1), "agreement_valid_to": date(2021, 2, 1)},
        ],
        "product": [PRODUCT | {"is_variable": True}],
        "meterpoint": [METERPOINT],
    }
    assert {(name, field.name): field.type for name, table in tables.items() for field in table.schema} == {
        ("agreement", "agreement_id"): pa.int64(),
        ("agreement", "agreement_valid_from"): pa.date32(),
        ("agreement", "agreement_valid_to"): pa.date32(),
        ("agreement", "product_id"): pa.string(),
        ("agreement", "meterpoint_id"): pa.string(),
        ("agreement", "account_id"): pa.string(),
        ("product", "product_id"): pa.string(),
        ("product", "display_name"): pa.string(),
        ("product", "is_variable"): pa.bool_(),
        ("product", "id"): pa.int64(),
        ("meterpoint", "meterpoint_id"): pa.string(),
        ("meterpoint", "region"): pa.string(),
    }


def test_nulls__should_be_kept_where_they_are_allowed(tmp_path: Path) -> None:
    path = database(
        tmp_path / "a.db",
        agreement=[{"agreement_valid_to": None, "account_id": None}],
        product=[{"display_name": None, "is_variable": None, "id": None}],
        meterpoint=[{"region": None}],
    )

    tables = tables_of(path)

    assert tables["agreement"]["agreement_valid_to"].to_pylist() == [None]
    assert tables["product"].to_pylist() == [
        {"product_id": "p1", "display_name": None, "is_variable": None, "id": None}
    ]


def test_irregular_agreements__should_be_facts_and_not_faults(tmp_path: Path) -> None:
    cancelled = {"agreement_valid_to": "2021-01-01"}
    reversed_ = {"agreement_id": 8, "agreement_valid_to": "2020-01-01"}
    overlapping = {"agreement_id": 9, "agreement_valid_from": "1999-12-31", "agreement_valid_to": None}
    path = database(
        tmp_path / "a.db",
        agreement=[cancelled, reversed_, overlapping],
        product=[{}, {"product_id": "p2"}],  # of the same name
        meterpoint=[{}, {"meterpoint_id": "m2"}],  # without agreement
    )

    tables = tables_of(path)

    assert [table.num_rows for table in tables.values()] == [2, 2, 3]


def test_empty_tables__should_be_empty_and_typed(tmp_path: Path) -> None:
    tables = tables_of(database(tmp_path / "a.db", agreement=[], product=[], meterpoint=[]))

    assert tables["agreement"].num_rows == 0
    assert tables["agreement"].schema.field("agreement_valid_from").type == pa.date32()


def test_additional_tables_columns_and_capitals__should_be_ignored(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", schema={"meterpoint": "notes BLOB, Region TEXT, METERPOINT_ID TEXT"})
    changed(path, "CREATE TABLE tariff (price REAL)")

    assert tables_of(path)["meterpoint"].to_pylist() == [METERPOINT]


@pytest.mark.parametrize("column", ["agreement_valid_from DATE", "agreement_valid_from", "agreement_valid_from BLOB"])
def test_date__should_be_read_whatever_the_declared_type_of_its_column(tmp_path: Path, column: str) -> None:
    schema = SCHEMA["agreement"].replace("agreement_valid_from DATE", column)

    tables = tables_of(database(tmp_path / "a.db", schema={"agreement": schema}))

    assert tables["agreement"]["agreement_valid_from"].to_pylist() == [date(2021, 1, 1)]


def test_tables_without_rowid__should_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, columns in SCHEMA.items():
            connection.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({table}_id)) WITHOUT ROWID")
            row = ROWS[table]
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", [*row.values()])

    assert tables_of(path)["meterpoint"].to_pylist() == [METERPOINT]
    changed(path, "INSERT INTO meterpoint VALUES (5, 'm0'), (x'00', 'm2')")
    assert ("wrong_type", "meterpoint row 3: region is not text: b'\\x00'") in left_out(path)


def test_view__should_do_instead_of_a_table(tmp_path: Path) -> None:
    path = changed(
        database(tmp_path / "a.db"),
        "ALTER TABLE product RENAME TO product_table",
        "CREATE VIEW product AS SELECT * FROM product_table",
    )

    assert tables_of(path)["product"].num_rows == 1
    changed(path, "INSERT INTO product_table VALUES (NULL, 0, 1, NULL)")
    assert left_out(path) == [("null_value", "product row 2: product_id is null")]


def test_file_in_write_ahead_mode__should_be_read_with_nothing_written_beside_it(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")

    found = read_reference(path)

    assert found.tables["product"].num_rows == 1
    assert "write-ahead mode" in found.warnings[0]
    assert os.listdir(tmp_path) == ["a.db"]


def test_file__should_be_opened_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = database(tmp_path / "one? file #1%.db")
    path.chmod(stat.S_IRUSR)
    before = path.read_bytes()
    attempts = []

    def try_to_write(connection: sqlite3.Connection, size_bytes: int) -> None:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM product")
        attempts.append(connection)

    monkeypatch.setattr(reference, "_require_health", try_to_write)
    tables_of(path)

    assert len(attempts) == 1
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_checksum__should_be_sha256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    assert reference.checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- bad files ---------------------------------------------------------------------------------------------------


class Bad(NamedTuple):
    """Rows to put into a good file, and what is said of it."""

    rows: dict[str, list[Changes]]
    reason: RowReason
    detail: str


BAD_ROWS = {
    "agreement without key": Bad(
        {"agreement": [{}, {"agreement_id": None}]}, "null_value", "agreement row 2: agreement_id is null"
    ),
    "product without key": Bad(
        {"product": [{}, {"product_id": None}]}, "null_value", "product row 2: product_id is null"
    ),
    "meterpoint without key": Bad(
        {"meterpoint": [{"meterpoint_id": None}]}, "null_value", "meterpoint row 1: meterpoint_id is null"
    ),
    "agreement without start": Bad(
        {"agreement": [{"agreement_valid_from": None}]}, "null_value", "agreement row 1: agreement_valid_from is null"
    ),
    "agreement without product": Bad(
        {"agreement": [{"product_id": None}]}, "null_value", "agreement row 1: product_id is null"
    ),
    "agreement without meterpoint": Bad(
        {"agreement": [{"meterpoint_id": None}]}, "null_value", "agreement row 1: meterpoint_id is null"
    ),
    "key text": Bad(
        {"agreement": [{"agreement_id": "x7"}]},
        "wrong_type",
        "agreement row 1: agreement_id is not a whole number: 'x7'",
    ),
    "key with a fraction": Bad(
        {"agreement": [{"agreement_id": 7.5}]}, "wrong_type", "agreement row 1: agreement_id is not a whole number: 7.5"
    ),
    "key bytes": Bad(
        {"product": [{"product_id": b"p1"}]}, "wrong_type", "product row 1: product_id is not text: b'p1'"
    ),
    "flag 2": Bad({"product": [{"is_variable": 2}]}, "wrong_type", "product row 1: is_variable is not 0 or 1: 2"),
    "flag text": Bad(
        {"product": [{"is_variable": "yes"}]}, "wrong_type", "product row 1: is_variable is not 0 or 1: 'yes'"
    ),
    "flag -1": Bad({"product": [{"is_variable": -1}]}, "wrong_type", "product row 1: is_variable is not 0 or 1: -1"),
    **{
        f"date {value!r}": Bad(
            {"agreement": [{}, {"agreement_id": 8, column: value}]},
            "wrong_type",
            f"agreement row 2: {column} is not a date of the form YYYY-MM-DD: {stored!r}",
        )
        for column, value, stored in (
            ("agreement_valid_from", "2021-02-30", "2021-02-30"),
            ("agreement_valid_to", "01/02/2021", "01/02/2021"),
            ("agreement_valid_from", "20210101", 20210101),  # a column of type DATE keeps digits as a number
            ("agreement_valid_from", "2021-W01-1", "2021-W01-1"),
            ("agreement_valid_from", "2021-1-1", "2021-1-1"),
            ("agreement_valid_to", "2021-01-01 00:30:00", "2021-01-01 00:30:00"),
            ("agreement_valid_from", "", ""),
            ("agreement_valid_to", 18628, 18628),
            ("agreement_valid_to", "٢٠٢١-01-01", "٢٠٢١-01-01"),
        )
    },
    "agreement twice": Bad({"agreement": [{}, {}]}, "duplicate_key", "agreement row 2: agreement_id 7 occurs 2 times"),
    "product twice": Bad(
        {"product": [{}, {"display_name": "Blue"}, {}]},
        "duplicate_key",
        "product row 3: product_id 'p1' occurs 3 times, and the rows differ",
    ),
    "meterpoint twice": Bad(
        {"meterpoint": [{}, {}]}, "duplicate_key", "meterpoint row 2: meterpoint_id 'm1' occurs 2 times"
    ),
    "unknown product": Bad(
        {"agreement": [{}, {"agreement_id": 8, "product_id": "p9"}]},
        "unknown_product",
        "agreement row 2: agreement 8 names the unknown product 'p9'",
    ),
    "product of other case": Bad(
        {"agreement": [{"product_id": "P1"}]},
        "unknown_product",
        "agreement row 1: agreement 7 names the unknown product 'P1'",
    ),
    "unknown meterpoint": Bad(
        {"agreement": [{"meterpoint_id": "m9"}]},
        "unknown_meterpoint",
        "agreement row 1: agreement 7 names the unknown meterpoint 'm9'",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row__should_be_named_with_its_table_and_rule(tmp_path: Path, name: str) -> None:
    bad = BAD_ROWS[name]

    found = left_out(database(tmp_path / "a.db", schema=None, **bad.rows))

    assert (bad.reason, bad.detail) in found


def test_rows__should_be_named_by_rowid(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", meterpoint=[{"meterpoint_id": f"m{number}"} for number in range(9)])
    changed(
        path, "DELETE FROM meterpoint WHERE rowid IN (3, 4, 5)", "UPDATE meterpoint SET region = 5.5 WHERE rowid = 6"
    )
    changed(path, "CREATE INDEX by_region ON meterpoint (region, meterpoint_id)")
    changed(path, "UPDATE meterpoint SET region = x'01' WHERE rowid = 7")

    assert ("wrong_type", "meterpoint row 7: region is not text: b'\\x01'") in left_out(path)


def test_text_that_is_not_utf8__should_be_a_fault_of_its_row(tmp_path: Path) -> None:
    path = changed(database(tmp_path / "a.db"), "UPDATE meterpoint SET region = CAST(x'ff41' AS TEXT)")

    found = left_out(path)

    assert ("wrong_type", "meterpoint row 1: region is not UTF-8 text") in found
    assert all(row.row_json.isascii() for row in read_reference(path).rejected)


def test_faulty_rows__should_not_keep_the_others_out(tmp_path: Path) -> None:
    agreements = [{"agreement_id": n} for n in range(5)] + [{"agreement_id": 5, "product_id": "gone"}]
    path = database(tmp_path / "a.db", agreement=agreements)

    found = read_reference(path)

    assert found.tables["agreement"]["agreement_id"].to_pylist() == [0, 1, 2, 3, 4]
    (row,) = found.rejected
    assert (row.table_name, row.row_number, row.reason) == ("agreement", 6, "unknown_product")
    assert json.loads(row.row_json) == AGREEMENT | agreements[5]


def test_meterpoint_in_rows_that_differ__should_be_kept_by_its_key_so_that_its_agreements_hold(tmp_path: Path) -> None:
    path = database(
        tmp_path / "a.db", meterpoint=[{}, {"region": "Wales"}, {"meterpoint_id": "m2"}, {"meterpoint_id": "m2"}]
    )

    found = read_reference(path)

    assert found.tables["agreement"].num_rows == 1
    assert found.tables["meterpoint"].to_pylist() == [
        {"meterpoint_id": "m1", "region": None},
        {"meterpoint_id": "m2", "region": "London"},
    ]
    assert [row.row_number for row in found.rejected] == [1, 2, 4]


def test_agreements_of_one_id_that_differ__should_all_be_left_out(tmp_path: Path) -> None:
    found = read_reference(database(tmp_path / "a.db", agreement=[{}, {"account_id": "other"}, {"agreement_id": 8}]))

    assert found.tables["agreement"]["agreement_id"].to_pylist() == [8]


@pytest.mark.parametrize("end", ["2021-02-01 00:00:00", "2021-02-01T00:00:00", " 2021-02-01 "])
def test_midnight__should_be_its_date_and_a_blank_end_an_open_one(tmp_path: Path, end: str) -> None:
    path = database(
        tmp_path / "a.db", agreement=[{"agreement_valid_to": end}, {"agreement_id": 8, "agreement_valid_to": " "}]
    )

    assert tables_of(path)["agreement"]["agreement_valid_to"].to_pylist() == [date(2021, 2, 1), None]


def test_padded_ids__should_match_and_invisible_ones_be_left_out(tmp_path: Path) -> None:
    path = database(
        tmp_path / "a.db",
        agreement=[{"meterpoint_id": "m1   ", "product_id": " p1"}],
        product=[{"product_id": "p1 "}],
        meterpoint=[{}, {"meterpoint_id": "m\u200b2"}],
    )

    found = read_reference(path)

    assert found.tables["agreement"].select(["product_id", "meterpoint_id"]).to_pylist() == [
        {"product_id": "p1", "meterpoint_id": "m1"}
    ]
    assert [row.reason for row in found.rejected] == ["bad_id"]


def test_generated_column__should_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database(path)
    changed(
        path,
        "DROP TABLE meterpoint",
        "CREATE TABLE meterpoint (region TEXT, raw TEXT, meterpoint_id TEXT GENERATED ALWAYS AS (lower(raw)) VIRTUAL)",
        "INSERT INTO meterpoint (region, raw) VALUES ('London', 'M1')",
    )

    assert tables_of(path)["meterpoint"].to_pylist() == [METERPOINT]


def test_view_that_never_ends__should_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n{})"
        " SELECT 'x' AS region, 'm' || i AS meterpoint_id FROM n"
    )
    path = changed(
        database(tmp_path / "a.db"), "DROP TABLE meterpoint", f"CREATE VIEW meterpoint AS {endless.format('')}"
    )
    monkeypatch.setattr(reference, "MOST_ROWS", 1000)

    assert refused(path).reason == "too_large"

    changed(path, "DROP VIEW meterpoint", f"CREATE VIEW meterpoint AS {endless.format('')} WHERE i < 0")
    with pytest.raises(SnapshotRejected) as error:
        read_reference(path, seconds=0.2)
    assert error.value.reason == "takes_too_long"


def test_view_that_sorts_without_end__should_fill_neither_memory_nor_disk(tmp_path: Path) -> None:
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION SELECT i + 1 FROM n) SELECT i AS region, i AS meterpoint_id FROM n"
    )
    path = changed(
        database(tmp_path / "a.db"), "DROP TABLE meterpoint", f"CREATE VIEW meterpoint AS {endless} ORDER BY i DESC"
    )
    # In a process of its own, as the limit is one of the process and cannot be raised again.
    code = (
        "import sys; from pathlib import Path; from jobs import reference; reference.MOST_HEAP = 40_000_000\n"
        "try: reference.read_reference(Path(sys.argv[1]), seconds=100)\n"
        "except reference.SnapshotRejected as error: print(error.reason, error.detail)"
    )

    said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout

    assert said == "too_large a.db: SQLite takes more than 40,000,000 bytes to read it; is it a view?\n"


def test_connection__should_not_trust_the_file(tmp_path: Path) -> None:
    path = changed(database(tmp_path / "a.db"), "PRAGMA default_cache_size = 1000000")

    with closing(reference._connect(path, 1)) as connection:
        found = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("temp_store", "hard_heap_limit", "trusted_schema", "cache_size")
        ]

    assert found == [2, reference.MOST_HEAP, 0, -reference.CACHE]


@pytest.mark.parametrize("options", ["", " WITHOUT ROWID"])
def test_table_of_more_rows_than_are_held__should_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    path = changed(
        database(tmp_path / "a.db"),
        "DROP TABLE meterpoint",
        f"CREATE TABLE meterpoint (region TEXT, meterpoint_id TEXT PRIMARY KEY){options}",
        "INSERT INTO meterpoint VALUES ('x', 'm1'), ('x', 'm2'), ('x', 'm3')",
    )
    for most in ("MOST_ROWS", "MOST_ROWS_OF_TABLE"):
        monkeypatch.setattr(reference, most, 3)
    assert read_reference(path).rows["meterpoint"] == 3

    for most in ("MOST_ROWS", "MOST_ROWS_OF_TABLE"):
        monkeypatch.setattr(reference, most, 2)

    assert refused(path).reason == "too_large"


def test_numbers_and_nulls__should_count_as_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = database(
        tmp_path / "a.db",
        product=[{"display_name": None, "is_variable": None, "id": number} for number in range(3)],
        meterpoint=[],
        agreement=[],
    )
    bytes_of_values = 3 * (len("p1") + 3 * reference.SMALLEST_VALUE)
    monkeypatch.setattr(reference, "MOST_VALUES", bytes_of_values)
    assert read_reference(path).rows["product"] == 3

    monkeypatch.setattr(reference, "MOST_VALUES", bytes_of_values - 1)

    found = refused(path)
    assert (found.reason, found.detail) == (
        "too_large",
        "its values have more than 77 bytes, an eighth of the memory here",
    )


@pytest.mark.parametrize(("bound", "size"), [("MOST_REJECTED", 2), ("MOST_OF_REJECTED", 100)])
@pytest.mark.parametrize(
    "rows",
    [
        {"meterpoint": [{}, *[{"meterpoint_id": None}] * 3]},
        {"meterpoint": [{}] * 4},
        {"agreement": [{"agreement_id": number, "product_id": "p2"} for number in range(3)]},
        {"agreement": [{"agreement_id": number, "meterpoint_id": "m2"} for number in range(3)]},
    ],
)
def test_file_of_more_rows_at_fault_than_are_held__should_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, size: int, rows: dict[str, Any]
) -> None:
    path = database(tmp_path / "a.db", **rows)
    assert len(read_reference(path).rejected) == 3
    monkeypatch.setattr(reference, bound, size)

    assert refused(path).reason == "too_large"


def test_virtual_table__should_say_itself_what_its_rows_are(tmp_path: Path) -> None:
    path = changed(
        database(tmp_path / "a.db"),
        "DROP TABLE meterpoint",
        "CREATE TABLE x (rid, region, meterpoint_id)",
        "INSERT INTO x VALUES (1, 'London', 'm1'), (1, 'Wales', 'm1'), (2, 'Wales', 'm2')",
        "CREATE VIEW v AS SELECT rid, region, meterpoint_id FROM x",
        "CREATE VIRTUAL TABLE meterpoint USING fts5(region, meterpoint_id, content = 'v', content_rowid = 'rid')",
    )

    found = read_reference(path)

    assert [(row.row_number, json.loads(row.row_json)["region"]) for row in found.rejected] == [
        (1, "London"),
        (2, "Wales"),
    ]
    assert found.tables["meterpoint"].num_rows == 2


def test_value_of_two_megabytes__should_end_nothing(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", meterpoint=[{}, {"region": "x" * 2_000_000}])

    assert refused(path).reason in ("too_large", "not_sqlite")


def test_file_of_other_tables__should_be_told_from_a_reference_file(tmp_path: Path) -> None:
    other = changed(tmp_path / "other.db", "CREATE TABLE photo (name TEXT)")
    database(tmp_path / "a.db")
    (tmp_path / "text.db").write_text("no database")

    (tmp_path / "empty.db").touch()
    (tmp_path / "cut.db").write_bytes(other.read_bytes()[:3000])

    assert reference.is_other_database(other)
    for name in ("a.db", "text.db", "empty.db", "cut.db"):
        assert not reference.is_other_database(tmp_path / name)


def test_case_insensitive_keys__should_be_different_keys_here_too(tmp_path: Path) -> None:
    schema = {"meterpoint": "region TEXT, meterpoint_id TEXT COLLATE NOCASE"}
    path = database(tmp_path / "a.db", schema=schema, meterpoint=[{}, {"meterpoint_id": "M1"}])

    assert tables_of(path)["meterpoint"].num_rows == 2


def test_required_column_that_is_null_in_spite_of_its_constraint__should_be_a_fault_of_its_row(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", meterpoint=[{"meterpoint_id": None}])
    constrained = "CREATE TABLE meterpoint (region TEXT, meterpoint_id TEXT NOT NULL)"
    changed(
        path, "PRAGMA writable_schema = 1", f"UPDATE sqlite_master SET sql = '{constrained}' WHERE name = 'meterpoint'"
    )

    assert ("null_value", "meterpoint row 1: meterpoint_id is null") in left_out(path)


@pytest.mark.parametrize("table", SCHEMA)
def test_missing_table__should_be_named(tmp_path: Path, table: str) -> None:
    error = refused(changed(database(tmp_path / "a.db"), f"DROP TABLE {table}"))

    assert (error.reason, error.detail) == ("table_missing", f"there is no table {table}")


@pytest.mark.parametrize(
    ("table", "column"), [(table, column.name) for table, columns in reference.SOURCES.items() for column in columns]
)
def test_missing_column__should_be_named(tmp_path: Path, table: str, column: str) -> None:
    error = refused(changed(database(tmp_path / "a.db"), f"ALTER TABLE {table} RENAME COLUMN {column} TO other"))

    assert (error.reason, error.detail) == ("column_missing", f"table {table} has no column {column}")


def damaged(content: bytes) -> bytes:
    """The first page of the table with rows overwritten, of which SQLite's header tells nothing."""
    return content[:4096] + b"\x0d" + b"\xff" * 200 + content[4297:]


def forgetful(content: bytes) -> bytes:
    """The last page, that of meterpoint, says that it has no row: SQLite believes it."""
    page = len(content) - 4096
    assert content[page + 3 : page + 5] == b"\0\1"
    return content[: page + 3] + b"\0\0" + content[page + 5 :]


NOT_SQLITE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "text": lambda content: b"agreement_id,product_id\n1,2\n",
    "json": lambda content: b'{"columns": [], "data": []}',
    "a few bytes": lambda content: content[:15],
    "only the first words": lambda content: content[:16],
    "only the header": lambda content: content[:100],
    "truncated": lambda content: content[:-4096],
    "one byte short": lambda content: content[:-1],
    "zeros after the header": lambda content: content[:100] + bytes(len(content) - 100),
    "damaged": damaged,
    "with a row that is forgotten": forgetful,
}


@pytest.mark.parametrize("name", NOT_SQLITE)
def test_file_that_is_not_sqlite_or_damaged__should_be_refused(tmp_path: Path, name: str) -> None:
    path = database(tmp_path / "a.db")
    path.write_bytes(NOT_SQLITE[name](path.read_bytes()))

    error = refused(path)

    assert error.reason == "not_sqlite"
    assert error.detail


def test_every_byte_of_a_file_overwritten__should_be_refused_or_change_a_value(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db")
    content = path.read_bytes()

    for place in range(0, len(content), 37):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            found = read_reference(path)
            assert all(0 <= table.num_rows <= 1 for table in found.tables.values())
        except SnapshotRejected as error:
            assert error.reason in get_args(Reason)


def test_damage__should_leave_no_file_open_or_locked(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db")
    path.write_bytes(damaged(path.read_bytes()))

    refused(path)

    assert not any(
        os.path.samefile(f"/proc/self/fd/{number}", path) for number in os.listdir("/proc/self/fd") if _is_open(number)
    )


def _is_open(number: str) -> bool:
    return os.path.exists(f"/proc/self/fd/{number}")


# --- overlaps ----------------------------------------------------------------------------------------------------

OVERLAPS: dict[str, tuple[list[tuple[str, str, str | None]], int]] = {
    # name: (meterpoint, from, to) of agreements, number of overlaps
    "none": ([("m1", "2021-01-01", "2021-02-01"), ("m1", "2021-02-01", None)], 0),
    "a day": ([("m1", "2021-01-01", "2021-02-02"), ("m1", "2021-02-01", None)], 1),
    "open-ended before": ([("m1", "2021-01-01", None), ("m1", "2021-02-01", "2021-03-01")], 1),
    "within a long one, though not the one before": (
        [("m1", "2021-01-01", "2021-12-01"), ("m1", "2021-02-01", "2021-03-01"), ("m1", "2021-04-01", None)],
        2,
    ),
    "of equal start": ([("m1", "2021-01-01", None), ("m1", "2021-01-01", None)], 1),
    "of other meterpoints": ([("m1", "2021-01-01", None), ("m2", "2021-01-01", None)], 0),
    "with one that is cancelled": ([("m1", "2021-01-01", None), ("m1", "2021-02-01", "2021-02-01")], 0),
    "with one that ends before it starts": ([("m1", "2021-01-01", None), ("m1", "2021-02-01", "2021-01-15")], 0),
    "no agreement": ([], 0),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_overlaps__should_be_counted_once_for_each_later_agreement(name: str) -> None:
    rows, expected = OVERLAPS[name]
    day = date.fromisoformat
    agreement = pa.Table.from_pylist(
        [
            {
                "agreement_id": number,
                "meterpoint_id": meterpoint,
                "agreement_valid_from": day(start),
                "agreement_valid_to": day(end) if end else None,
            }
            for number, (meterpoint, start, end) in enumerate(rows)
        ],
        pa.schema([(column.name, column.type) for column in SOURCES["agreement"]]),
    )

    assert overlapping_agreements(agreement) == expected


@pytest.mark.parametrize("value", ["'text'", "NULL"])
def test_column_named_rowid__should_not_be_taken_for_the_number_of_a_row(tmp_path: Path, value: str) -> None:
    path = changed(
        database(tmp_path / "reference.db", meterpoint=[{}, {"meterpoint_id": None}]),
        "ALTER TABLE meterpoint ADD COLUMN rowid TEXT",
        f"UPDATE meterpoint SET rowid = {value}",
    )

    (rejected,) = read_reference(path).rejected

    assert (rejected.row_number, rejected.reason) == (2, "null_value")


def test_view_over_the_limit__should_be_refused_whole_even_if_some_rows_are_faulty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "MOST_ROWS", 3)
    path = changed(
        database(tmp_path / "reference.db", meterpoint=[{"meterpoint_id": key} for key in (None, "m1", "m2", "m3")]),
        "ALTER TABLE meterpoint RENAME TO original",
        "CREATE VIEW meterpoint AS SELECT * FROM original",
    )

    assert refused(path).reason == "too_large"


# --- cases from the field ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "left_out", "warned"),
    [
        ("s06-open-end-is-empty-text", [], False),
        ("s08-wal-left-behind", [], True),
        ("s14-ids-with-padding", [], False),
        ("s20-one-agreement-names-a-product-that-is-gone", ["unknown_product"], False),
    ],
)
def test_case_from_the_field__should_be_read_with_what_is_good(case: str, left_out: list[str], warned: bool) -> None:
    found = read_reference(Path(__file__).parents[1] / "cases" / "sqlite" / f"{case}.db")

    assert [row.reason for row in found.rejected] == left_out
    assert {name: table.num_rows for name, table in found.tables.items()} == {
        "product": 3, "meterpoint": 4, "agreement": 5
    }  # fmt: skip
    assert bool(found.warnings) is warned
    known = set(found.tables["meterpoint"]["meterpoint_id"].to_pylist())
    assert set(found.tables["agreement"]["meterpoint_id"].to_pylist()) <= known
