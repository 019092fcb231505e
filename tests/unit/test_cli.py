"""What the command line says, and how it reads what was typed. No Spark."""

import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs import overview, schedule_state
from jobs.cli import look, quarantine, summary
from jobs.cli.terminal import named
from jobs.cli.work import below_landing
from jobs.load import Summary
from jobs.names import meant, with_hints
from jobs.quality import Verdict
from jobs.query import Result
from jobs.readings.ingest import Receipt
from jobs.readings.merge import Changes
from jobs.settings import OTHER_NAMES, PROJECT, Settings, unknown_names
from jobs.wording import counted
from tests.mistakes import Said, say

LOAD = "20261127T222348-61d7bf"
OVERVIEW: dict[str, Any] = {
    "as_of": "2026-11-27 22:24:12",
    "loaded": True,
    "freshness": {"last_reading_date": "2021-01-03", "snapshot_date": None, "publishing_load_id": None},
    "loads": [
        {
            "load_id": LOAD,
            **{"kind": "load", "status": "rolled back", "files": 20_000, "readings": 2_880_000},
            **{"rejected": 12_345, "dates": 31, "warnings": 2, "error": "case_study.db: not_sqlite"},
        }
    ],
    "withheld": [{"load_id": LOAD, "files": 1}],
    "quarantine": {"files": 2, "whole_files": 1, "rows": 12_345},
}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of a lakehouse of which what status shows is kept."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "var" / "metastore" / "seg0"
    folder.mkdir(parents=True)
    (folder / "c10.dat").write_bytes(b"a page")
    newest = tmp_path / "var" / "warehouse" / "ops" / "loads" / "load_date=2026-11-27" / f"load={LOAD}"
    newest.mkdir(parents=True)
    (newest / "part-0.parquet").touch()
    settings = Settings()
    overview.keep(settings, OVERVIEW | {overview.CHECK: {"loaded": False}}, str(newest))
    return settings.state


def status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> Said:
    return say(["status", *options], monkeypatch, capsys)


def test_count__should_go_with_its_noun() -> None:
    assert [counted(n, "file") for n in (0, 1, 2, 1234)] == ["0 files", "1 file", "2 files", "1,234 files"]


def test_command_in_a_message__should_be_the_one_that_works_where_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_COMMAND", "docker/lake")

    assert named("say `lake run`, or `lake`; a lake is `lakes`") == (
        "say `docker/lake run`, or `docker/lake`; a lake is `lakes`"
    )


@pytest.mark.parametrize(
    "typed",
    [
        "readings/a/b.json",
        "./readings/a/b.json",
        "landing/readings/a/b.json",
        "./landing/readings/a/b.json",
        "/landing/readings/a/b.json",
        "/home/ana/lake/landing/readings/a/b.json",
    ],
)
def test_file__should_be_named_by_its_path_below_the_landing_place(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert below_landing(typed) == "readings/a/b.json"
    assert below_landing("landing/case_study.db") == "case_study.db"


def test_file__should_be_named_as_the_link_that_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "landing" / "readings").mkdir(parents=True)
    (tmp_path / "landing" / "readings" / "a.json").touch()
    (tmp_path / "landing" / "readings" / "latest.json").symlink_to("a.json")

    assert below_landing("landing/readings/latest.json") == "readings/latest.json"
    assert below_landing("landing/readings/../readings/a.json") == "readings/a.json"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("b.json", "readings/x/b.json"),
        ("reading/x/b.json", "readings/x/b.json"),
        ("readings/0432df65f8.json", "readings/0432df65f7.json"),
        ("readings/0432df65f7.jsn", "readings/0432df65f7.json"),
        ("readings/gone.json", None),
    ],
)
def test_unknown_name__should_get_a_hint_where_another_is_like_it(name: str, expected: str | None) -> None:
    known = {"readings/x/b.json", "readings/0432df65f7.json", "readings/c.json"}

    assert meant(name, known) == expected
    assert with_hints([name], known) == (f"{name} (did you mean {expected}?)" if expected else name)


def test_names_of_settings__should_be_known_where_anything_of_the_project_reads_them() -> None:
    files = [PROJECT / name for name in ("compose.yaml", ".env.example", "Makefile", "README.md")]
    files += [path for path in (PROJECT / "docker").rglob("*") if path.is_file()]
    texts = [path.read_text(errors="ignore") for path in files]
    words = {word for text in texts for word in names_in(text)}

    assert unknown_names(sorted(words)) == []
    assert {f"LAKE_{name.upper()}" for name in Settings.model_fields} & OTHER_NAMES == set()


def names_in(text: str) -> list[str]:
    return [name for name in re.findall(r"\bLAKE_[A-Z0-9_]+\b", text) if not name.endswith("_")]


def test_status__should_be_readable_in_80_columns(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    look.print_overview(OVERVIEW)
    lines = capsys.readouterr().out.splitlines()

    assert [len(line) <= 82 for line in lines] == [True] * len(lines), lines
    assert any(line.split() == [LOAD, "rolled", "back", "20,000", "2,880,000", "12,345", "31", "2"] for line in lines)


def test_status__should_say_what_a_person_may_want_to_do(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = status(monkeypatch, capsys)

    assert said.status == 0
    assert f"warning: load {LOAD}: case_study.db: not_sqlite" in said.text
    assert f"1 file of load {LOAD} withheld by a rollback: `lake reload --load {LOAD}`" in said.text
    assert "In quarantine, of 2 files: 12,345 rows and 1 whole file. `lake quarantine list`" in said.text


def test_status__should_say_that_nothing_is_in_quarantine(capsys: pytest.CaptureFixture[str]) -> None:
    look.print_overview(OVERVIEW | {"quarantine": {"files": 0, "rows": 0, "whole_files": 0}})

    assert "Nothing is in quarantine." in capsys.readouterr().err


def test_status__should_be_json_where_that_is_asked_for(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = status(monkeypatch, capsys, "--json")

    assert json.loads(said.text) == {**OVERVIEW, "run_at_work": False, "certificate_until": None}


def test_kept_status__should_hold_until_anything_of_the_lakehouse_is_another(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings()
    page, newest = state / "metastore/seg0/c10.dat", next((state / "warehouse").rglob("*.parquet"))
    assert overview.kept(settings) == OVERVIEW | {overview.CHECK: {"loaded": False}}

    page.write_bytes(b"a page that a run changed, and was killed")
    assert overview.kept(settings) is None
    overview.keep(settings, OVERVIEW, str(newest.parent))
    (state / "metastore" / "db.lck").touch()
    assert overview.kept(settings) is None, "opened by another program"
    (state / "metastore" / "db.lck").unlink()
    assert overview.kept(settings) == OVERVIEW

    monkeypatch.setenv("LAKE_WAREHOUSE", "elsewhere")
    assert overview.kept(Settings()) is None, "another warehouse"
    monkeypatch.delenv("LAKE_WAREHOUSE")
    newest.rename(newest.with_suffix(".gone"))
    assert overview.kept(settings) is None, "files of the warehouse are gone"
    newest.with_suffix(".gone").rename(newest)
    schedule_state.write(state, {"form": 0, "overview": {}}, overview.NAME)
    assert overview.kept(settings) is None, "of another version"


def test_status__should_tell_that_a_run_is_at_work_and_how_old_what_it_shows_is(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import lock

    (state / "metastore" / "db.lck").touch()
    with lock.writer_lock(state, 0):
        said = status(monkeypatch, capsys)

    assert said.status == 0
    assert f"warning: a run is at work; this is what was there at {OVERVIEW['as_of']} UTC, before it" in said.text
    assert LOAD in said.text


@pytest.mark.parametrize("command", [["--help"], ["status"], ["quarantine", "--help"], ["users", "list"]])
def test_command_that_needs_no_spark__should_not_import_it(state: Path, command: list[str]) -> None:
    program = (
        "import sys; from jobs.cli import main; sys.argv = ['lake', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'pyspark', 'pyarrow', 'great_expectations'} & sys.modules.keys()))"
    )

    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    argv = [sys.executable, "-c", program, *command]
    done = subprocess.run(argv, cwd=state.parent, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_quarantine_list__should_have_each_name_whole_in_a_line_of_its_own() -> None:
    rows: list[tuple[Any, ...]] = [("readings/a.json", "consumption_negative", 1, "2026-11-27", "published")]
    rows += [("readings/a.json", "day_held_off_grid", 48, "2026-11-27", "published")]
    rows += [("readings/b.json", "not_json", None, "2026-11-27", "not published")]
    found = Result(["source_file", "reason", "rows", "rejected_on", "load"], rows)

    lines = quarantine.lines_of(found)

    assert [line.split("  ")[0] for line in lines] == ["readings/a.json", "", "", "readings/b.json", ""]
    assert [line.split() for line in lines[1:3]] == [
        ["1", "row", "consumption_negative", "2026-11-27", "load", "published"],
        ["48", "rows", "day_held_off_grid", "2026-11-27", "load", "published"],
    ]
    assert lines[4].split() == ["whole", "file", "not_json", "2026-11-27", "load", "not", "published"]
    assert max(map(len, lines)) <= 80


def test_history__should_have_each_folder_whole_in_a_line_of_its_own() -> None:
    row = {
        "load_id": LOAD,
        "status": "published",
        "published_at": "2026-11-27 22:24:10",
        "folder": f"/lake/load={LOAD}",
    }
    changes = {"readings_added": 1_000, "readings_changed": 2, "readings_removed": 0}
    no_changes = dict.fromkeys(changes)

    lines = look.lines_of(
        [
            {**row, "partition_value": "2021-01-01", **changes},
            {**row, "partition_value": "2021-01-02", **no_changes},
            {**row, "load_id": "another", "partition_value": "2021-01-02", **no_changes},
        ]
    )

    assert lines == [
        f"{LOAD}  published  2026-11-27 22:24:10 UTC",
        "  2021-01-01  1,000 added, 2 changed, 0 removed",
        f"    /lake/load={LOAD}",
        "  2021-01-02",
        f"    /lake/load={LOAD}",
        "",
        "another  published  2026-11-27 22:24:10 UTC",
        "  2021-01-02",
        f"    /lake/load={LOAD}",
    ]


def test_summary__should_count_a_broken_reference_file_as_one() -> None:
    receipt = Receipt()
    receipt.files["loaded"] = 2
    error = "case_study.db: not_sqlite: no SQLite file"
    done = Summary(
        LOAD,
        datetime(2026, 11, 27, tzinfo=UTC),
        receipt=receipt,
        files={"loaded": 2, "rejected": 1},
        errors=[error],
        reference_errors=[error],
    )

    rows = dict(summary.rows_of(done, {}))

    assert (rows["readings files"], rows["reference snapshot"]) == ("2 loaded", f"rejected: {error}")
    assert rows["status"] == "there was nothing to publish"


def test_summary__should_count_as_warnings_of_expectations_no_others() -> None:
    done = Summary(
        LOAD,
        datetime(2026, 11, 27, tzinfo=UTC),
        changes={date(2021, 1, 1): Changes(48, 48, 2, 0, 1, Decimal(10), Decimal(20))},
        verdicts=[Verdict("silver.agreement", LOAD, True, (), ("3 agreements hold at once",), 9, "")],
        notes=["case_study.db: odd"],
    )

    rows = dict(summary.rows_of(done, {"discover": 1.0, "publish": 2.5}))

    assert rows["expectations"] == "9 checked, 0 critical failed, 1 warning"
    assert rows["on dates that had readings"] == "48 added, 2 changed, 0 removed"
    assert "seconds" not in rows
    assert rows["total"] == "3.5 s"


def test_load__should_not_be_called_published_where_it_published_nothing() -> None:
    load = {"kind": "load", "status": "published", "dates": 0, "snapshot_date": None}

    assert look.what_came(load) == "nothing to publish"
    assert look.what_came(load | {"dates": 1}) == look.what_came(load | {"snapshot_date": "2021-01-01"}) == "published"
    assert look.what_came(load | {"kind": "dismiss"}) == "dismiss"
    assert look.what_came(load | {"status": "failed"}) == "failed"


def test_table_of_loads__should_stay_whole_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    look.print_loads([OVERVIEW["loads"][0] | {"kind": "rebuild"}])

    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["load_id", "what", "files", "readings", "rejected", "dates", "warnings"]
    assert line.startswith(f"{LOAD}  rebuild rolled back  20,000")
    assert Console(width=40).width == 40


@pytest.mark.parametrize("last", ["exit", " Quit ; ", ""])
def test_statements_end_at_a_semicolon_and_the_prompt_at_a_word(monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    typed = f"SELECT 1;\n\nSELECT\nexit\nFROM t;\n{last}\n" + ("SELECT 3;\n" if last else "SELECT 2")
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))

    found = [" ".join(statement.split()) for statement in look._typed_statements()]

    assert found == ["SELECT 1", "SELECT exit FROM t"] + ([] if last else ["SELECT 2"])
