"""Versioned SQL: applied once, in order, never changed afterwards; everything that is made is explained."""

import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import load, versions
from jobs.settings import SQL
from jobs.versions import VersionError
from tests.integration.lake import Lake


@pytest.fixture(scope="module")
def lake(bare_lake: Callable[[], Lake]) -> Lake:
    """Without any input: a run applies the SQL and finds nothing new."""
    lake = bare_lake()
    assert lake.run() is None
    return lake


@pytest.fixture
def sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the SQL files that a test may change."""
    folder = tmp_path / "sql"
    shutil.copytree(SQL, folder)
    monkeypatch.setattr(load, "SQL", folder)
    return folder


def test_every_file_is_recorded_as_applied(lake: Lake) -> None:
    rows = lake.rows("SELECT folder, version, name FROM ops.schema_versions")

    files = [path.relative_to(SQL) for path in SQL.rglob("*.sql")]
    assert sorted(f"{folder}/V{version:03}__{name}.sql" for folder, version, name in rows) == sorted(map(str, files))


def test_a_file_that_was_changed_after_it_was_applied_is_refused(lake: Lake, sql: Path) -> None:
    changed = sql / "gold" / "V002__half_hourly_consumption.sql"
    changed.write_text(changed.read_text() + "-- an afterthought\n")

    with pytest.raises(VersionError, match=r"gold/V002__half_hourly_consumption\.sql: .*add a new version"):
        lake.run()


def test_a_fault_in_a_new_version_is_told_with_its_file(lake: Lake, sql: Path) -> None:
    (sql / "gold" / "V900__faulty.sql").write_text("CREATE VIEW gold.faulty AS SELECT nope FROM silver.readings;\n")

    with pytest.raises(VersionError, match=r"^sql/gold/V900__faulty\.sql: \[UNRESOLVED_COLUMN.*nope") as error:
        lake.run()

    assert "\n" not in str(error.value)


def test_a_new_version_is_applied_by_the_next_run_and_once(lake: Lake, sql: Path) -> None:
    (sql / "gold" / "V900__half_hours.sql").write_text(
        "-- One row: a half hour.\n"
        "CREATE VIEW gold.half_hours (interval_start COMMENT 'Start; local') COMMENT 'Half hours'\n"
        "AS SELECT interval_start FROM gold.half_hourly_consumption;\n"
    )
    [example] = re.findall(r"```sql\n(.*?)```", (SQL.parent / "docs" / "development.md").read_text(), re.DOTALL)
    (sql / "gold" / "V901__daily_price_kind_consumption.sql").write_text(textwrap.dedent(example))

    lake.run()
    told = lake.told
    lake.run()  # CREATE VIEW would fail the second time

    assert (told, lake.told) == (
        ["Applied: sql/gold/V900__half_hours.sql, sql/gold/V901__daily_price_kind_consumption.sql."],
        [],
    )
    assert lake.rows("SELECT * FROM gold.half_hours") == []
    assert lake.rows("SELECT is_variable, date, consumption_kwh FROM gold.daily_price_kind_consumption") == []
    assert lake.rows("SELECT folder, name FROM ops.schema_versions WHERE version = 900") == [("gold", "half_hours")]


def test_every_schema_table_view_and_column_has_a_comment(lake: Lake) -> None:
    bare = []
    for schema in ("silver", "mart", "gold", "quarantine", "ops"):
        described = {row[0]: row[1] for row in lake.rows(f"DESCRIBE SCHEMA {schema}")}
        bare += [schema] if not described["Comment"] else []
        tables = [row[1] for row in lake.rows(f"SHOW TABLES IN {schema}")]
        assert tables
        for table in tables:
            rows = lake.rows(f"DESCRIBE EXTENDED {schema}.{table}")
            detail = next(n for n, row in enumerate(rows) if row[0].startswith("#"))
            columns = [row for row in rows[:detail] if row[0]]
            assert [row[0] for row in columns] == lake.spark.table(f"{schema}.{table}").columns
            bare += [f"{schema}.{table}.{name}" for name, _, comment in columns if not comment]
            comments = [row[1] for row in rows[detail:] if row[0] == "Comment"]
            bare += [f"{schema}.{table}"] if not any(comments) else []

    assert bare == []


def test_the_function_has_a_comment(lake: Lake) -> None:
    text = "\n".join(row[0] for row in lake.rows("DESCRIBE FUNCTION EXTENDED gold.active_agreements_on"))

    assert "Agreements active on a day" in text


def test_a_run_that_was_killed_while_it_applied_the_files_does_not_stop_the_next(
    bare_lake: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = bare_lake()

    class Died(Exception):
        pass

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(versions, "_record", die)
        lake.run()

    assert lake.run() is None
    assert lake.rows("SELECT count(*) > 10 FROM ops.schema_versions") == [(True,)]
