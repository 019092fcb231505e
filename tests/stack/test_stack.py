"""What a user sees of the stack: SQL clients, reports, restarts, and the walls around it."""

import csv
import gzip
import io
import json
import stat
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from secrets import token_hex
from typing import Any

import pandas as pd
import pytest
import requests
import sqlalchemy
from dotenv import dotenv_values

from jobs.check import LONDON
from tests.stack.conftest import LONG_RUNNING, REPOSITORY, Stack

SHARES = ("received_share", "actual_share")
GOLD = {
    "active_agreements": ["agreement_id", "meterpoint_id", "product_display_name", "is_variable"],
    "half_hourly_consumption": [
        "interval_start",
        "interval_start_utc",
        "date",
        "meterpoint_count",
        "consumption_kwh",
        *SHARES,
    ],
    "daily_product_consumption": ["product_display_name", "date", "meterpoint_count", "consumption_kwh", *SHARES],
    "half_hourly_product_consumption": [
        "product_display_name",
        "interval_start",
        "interval_start_utc",
        "date",
        "meterpoint_count",
        "consumption_kwh",
        "average_kwh",
        *SHARES,
    ],
    "readings_without_agreement": ["meterpoint_id", "date", "reading_count", "consumption_kwh", *SHARES],
}


def delivered_readings(landing: Path) -> list[list[Any]]:
    """All rows in the landing place, read independently of the jobs: start, kWh, meterpoint."""
    rows = []
    for path in (landing / "readings").rglob("*.json*"):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        document = json.loads(content, parse_float=Decimal, parse_int=Decimal)
        order = [document["columns"].index(name) for name in ("interval_start", "consumption_delta", "meterpoint_id")]
        rows += [[row[index] for index in order] for row in document["data"] if isinstance(row, list)]
    return rows


@pytest.mark.parametrize("view", GOLD)
def test_pyhive_reads_every_gold_view(stack: Stack, view: str) -> None:
    cursor = stack.connect("analyst").cursor()
    cursor.execute(f"SELECT * FROM gold.{view}")
    rows = cursor.fetchall()

    assert [column[0].split(".")[-1] for column in cursor.description] == GOLD[view]
    assert len(rows) > 0


@pytest.mark.parametrize("view", GOLD)
def test_sqlalchemy_and_pandas_read_every_gold_view(stack: Stack, view: str) -> None:
    user = f"analyst:{stack.passwords['analyst']}"
    engine = sqlalchemy.create_engine(f"hive://{user}@127.0.0.1:{stack.sql_port}/gold?auth=CUSTOM")

    frame = pd.read_sql_query(f"SELECT * FROM {view}", engine)

    assert list(frame.columns) == GOLD[view]
    assert len(frame) == stack.query(f"SELECT count(*) FROM gold.{view}")[0][0] > 0


def test_beeline_reads_every_gold_view(stack: Stack) -> None:
    script = ";".join(f"SELECT '{view}' AS view, count(*) AS n FROM gold.{view}" for view in GOLD) + ";"

    output = stack.compose(
        "exec", "-T", "sql-endpoint", "beeline", "-u", "jdbc:hive2://127.0.0.1:10000",
        "-n", "analyst", "-p", stack.passwords["analyst"],
        "--outputformat=csv2", "--silent=true", "-e", script,
    ).stdout  # fmt: skip

    counted = dict(line.split(",") for line in output.splitlines() if "," in line and not line.startswith("view"))
    assert {view: int(count) for view, count in counted.items()} == {
        view: stack.query(f"SELECT count(*) FROM gold.{view}")[0][0] for view in GOLD
    }


def test_all_that_was_delivered_is_in_the_gold_views(stack: Stack) -> None:
    rows = delivered_readings(stack.landing)
    total = sum(Decimal(row[1]) for row in rows)

    half_hourly = stack.query("SELECT sum(meterpoint_count), sum(consumption_kwh) FROM gold.half_hourly_consumption")
    enriched = stack.query("SELECT count(*), sum(consumption_kwh) FROM gold.readings_enriched")
    with_product = stack.query("SELECT sum(consumption_kwh) FROM gold.daily_product_consumption")[0][0]
    without = stack.query("SELECT sum(consumption_kwh) FROM gold.readings_without_agreement")[0][0]

    assert half_hourly == [(len(rows), total)]
    assert enriched == [(len(rows), total)]
    assert with_product + without == total


def test_types_and_comments_arrive_at_a_client(stack: Stack) -> None:
    described = stack.query("DESCRIBE gold.half_hourly_consumption")

    assert [(row[0], row[1]) for row in described] == [
        ("interval_start", "timestamp"),
        ("interval_start_utc", "timestamp"),
        ("date", "date"),
        ("meterpoint_count", "bigint"),
        ("consumption_kwh", "decimal(18,6)"),
        ("received_share", "decimal(9,6)"),
        ("actual_share", "decimal(9,6)"),
    ]
    assert all(row[2] for row in described)


def test_make_sql_prints_csv_and_nothing_else(stack: Stack) -> None:
    query = (
        "SELECT product_display_name, date, meterpoint_count FROM gold.daily_product_consumption ORDER BY 1, 2 LIMIT 3"
    )

    output = stack.make("-s", "sql", f"Q={query}").stdout

    rows = list(csv.reader(io.StringIO(output)))
    assert rows[0] == ["product_display_name", "date", "meterpoint_count"]
    assert len(rows) == 4


def test_make_sql_takes_a_statement_as_it_is_written(stack: Stack) -> None:
    output = stack.make("-s", "sql", """Q=SELECT '$5 "a" `b` $(shell id)' AS text""").stdout

    assert [*csv.reader(io.StringIO(output))] == [["text"], ['$5 "a" `b` $(shell id)']]


def test_a_wrong_query_is_an_error_in_one_line(stack: Stack) -> None:
    result = stack.make("-s", "sql", "Q=SELECT nonsense FROM gold.active_agreements", check=False)

    assert result.returncode != 0
    assert result.stdout == ""
    assert "nonsense" in result.stderr
    assert "\tat " not in result.stderr


def test_periods_of_a_file_of_the_caller_hold_at_once_and_wrong_ones_change_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    rules, wrong = tmp_path / "the periods.csv", tmp_path / "wrong.csv"
    rules.write_text("scheme,period,from,to,weekdays\nE7,night,00:30,07:30,Mon-Sun\nE7,day,07:30,00:30,Mon-Sun\n")
    wrong.write_text("scheme,period,from,to,weekdays\nE7,night,00:30,07:30,Mon-Sun\n")

    stack.lake("periods", "set", str(rules))
    refused = stack.call(["docker/lake", "periods", "set", str(wrong)], timeout=300, check=False)
    shown = stack.lake("periods", "show")
    sums = stack.query(
        "SELECT period, sum(consumption_kwh), min(half_hours) FROM gold.period_consumption GROUP BY ALL ORDER BY ALL"
    )

    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"error: {wrong}: scheme 'E7' has no period from Mon 07:30 to Tue 00:30" in refused.stderr
    assert sorted(shown.splitlines()[1:]) == [
        "E7,day,07:30,00:30,Mon Tue Wed Thu Fri Sat Sun",
        "E7,night,00:30,07:30,Mon Tue Wed Thu Fri Sat Sun",
    ]
    [(total,)] = stack.query("SELECT sum(consumption_kwh) FROM gold.daily_product_consumption")
    assert sum(kwh for _, kwh, _ in sums) == total
    assert [(period, half_hours) for period, _, half_hours in sums] == [("day", 34), ("night", 14)]


def test_the_reports_are_served(stack: Stack) -> None:
    def served(page: str) -> str:
        address = f"http://127.0.0.1:{stack.reports_port}/{page}"
        return str(urllib.request.urlopen(address, timeout=10).read().decode())

    def pages_of(load_id: str) -> list[str]:
        return [row[0] for row in stack.query(f"SELECT page FROM ops.validations WHERE load_id = '{load_id}'")]

    [(load_id, newest)] = stack.query("SELECT min(load_id), max(load_id) FROM ops.validations")
    pages = pages_of(load_id)

    front, of_load, of_year, checks = map(
        served, ("", f"loads/{load_id}.html", f"loads/{load_id[:4]}.html", "checks.html")
    )
    bodies = [served(page) for page in pages]

    assert len(pages) == 12
    assert all(page in of_load for page in pages)
    assert all(page in checks for page in pages_of(newest))  # which lists the newest loads alone
    assert f"{load_id}.html" in of_year
    assert f"loads/{load_id[:4]}.html" in front
    assert all("silver." in body or "mart." in body or "ops.load_files" in body for body in bodies)


def test_metrics_of_loads_checks_and_the_endpoint_are_beside_the_reports(stack: Stack) -> None:
    checked = stack.compose("exec", "-T", "scheduler", "lake", "check", check=False)
    address, deadline = f"http://127.0.0.1:{stack.reports_port}/metrics", time.monotonic() + 60

    def lines() -> dict[str, float]:
        answer = requests.get(address, timeout=10)
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        series = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in series}

    def whole(found: dict[str, float]) -> bool:
        return 'lake_loads_total{status="published"}' in found and found.get("lake_endpoint_up") == 1

    while not whole(found := lines()) and time.monotonic() < deadline:
        time.sleep(2)

    assert checked.returncode in (0, 1, 2), checked.stderr
    assert found['lake_loads_total{status="published"}'] >= 1
    assert found['lake_readings_total{status="loaded"}'] >= 14400
    assert found['lake_check_status{check="lake"}'] == 0
    assert found["lake_endpoint_up"] == 1
    assert found['lake_endpoint_queries_total{end="done"}'] > 0
    assert found["lake_endpoint_query_duration_seconds_count"] > 0
    assert 0 < found["lake_endpoint_heap_used_bytes"] < found["lake_endpoint_heap_max_bytes"]


HALF_REQUESTS = """
import socket, urllib.request
place = ("sql-endpoint", 9464)
held = [socket.create_connection(place) for _ in range(8)]
for each in held:
    each.sendall(b"GET /metr")
print(urllib.request.urlopen("http://%s:%d/metrics" % place, timeout=20).status)
"""


def test_who_begins_to_ask_for_metrics_and_does_not_go_on_keeps_nobody_out(stack: Stack) -> None:
    assert stack.compose("exec", "-T", "scheduler", "python", "-c", HALF_REQUESTS).stdout.split() == ["200"]


def test_a_run_that_finds_nothing_new_says_so(stack: Stack) -> None:
    before = stack.query("SELECT count(*) FROM ops.loads")

    output = stack.make("run").stderr

    assert "Nothing new" in output
    assert stack.query("SELECT count(*) FROM ops.loads") == before


def test_new_data_is_seen_without_restart_or_refresh(stack: Stack) -> None:
    day = "SELECT meterpoint_count, consumption_kwh FROM gold.half_hourly_consumption WHERE date = DATE '2021-02-01'"
    before = stack.query(day)
    document = {
        "columns": ["meterpoint_id", "interval_start", "consumption_delta"],
        "data": [["new0000001", "2021-02-01 00:30:00", 0.5], ["new0000001", "2021-02-01 25:00:00", 0.5]],
    }
    path = stack.landing / "readings" / "new.json"
    path.write_text(json.dumps(document))
    path.chmod(0o644)

    output = stack.make("run").stderr

    assert before == []
    assert stack.query(day) == [(1, Decimal("0.500000"))]
    assert "readings/new.json row 1: interval_start_not_a_timestamp" in output
    quarantined = "SELECT position, reason FROM quarantine.readings WHERE source_file = 'readings/new.json'"
    assert stack.query(quarantined) == [(1, "interval_start_not_a_timestamp")]


def test_a_sender_that_writes_every_day_under_one_name_keeps_its_days(stack: Stack) -> None:
    days = "SELECT date, consumption_kwh FROM silver.readings WHERE meterpoint_id = 'new0000001' ORDER BY date"
    path = stack.landing / "readings" / "new.json"
    rows = [["new0000001", "2021-02-03 00:30:00", 0.25], ["new0000001", "2021-02-04 00:30:00", 0.125]]
    columns = ["meterpoint_id", "interval_start", "consumption_delta"]
    path.write_text(json.dumps({"columns": columns, "data": rows}))

    stack.make("run")
    delivered = stack.query(days)
    stack.compose(
        "run", "--rm", "-T", "--no-deps", "jobs", "retract", "readings/new.json", "--from", "2021-02-03",
    )  # fmt: skip
    taken_back = stack.query(days)
    path.write_text(json.dumps({"columns": columns, "data": [["new0000001", "2021-02-01 00:30:00", 0.5]]}))
    stack.make("run")

    assert [(str(date), kwh) for date, kwh in delivered] == [
        ("2021-02-01", Decimal("0.500000")),
        ("2021-02-03", Decimal("0.250000")),
        ("2021-02-04", Decimal("0.125000")),
    ]
    assert taken_back == delivered[:1] == stack.query(days)


def test_the_landing_place_can_be_in_the_object_store(stack: Stack) -> None:
    names = ["a tab\there.json", "store.json", "ü %20+#?.json"]
    upload = f"""
import io, json, os
from minio import Minio
client = Minio("object-store:9000", os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], secure=False)
columns = ["interval_start", "consumption_delta", "meterpoint_id"]
for number, name in enumerate({names!r}):
    rows = [[f"2021-02-02 0{{number}}:00:00", 1.25, "fromstore1"]]
    content = json.dumps({{"columns": columns, "data": rows}}).encode()
    client.put_object("lake", f"landing/readings/{{name}}", io.BytesIO(content), len(content))
"""
    stack.compose("run", "--rm", "-T", "--no-deps", "--entrypoint", "python", "jobs", "-", stdin=upload)

    output = stack.make("run", LAKE_LANDING="s3a://lake/landing").stderr

    assert "3 loaded" in output
    loaded = "SELECT consumption_kwh, source_file FROM silver.readings WHERE date = DATE '2021-02-02' ORDER BY 2"
    assert stack.query(loaded) == [(Decimal("1.250000"), f"readings/{name}") for name in names]


def test_a_sample_can_be_written_into_a_folder_of_the_callers(stack: Stack, tmp_path: Path) -> None:
    said = stack.make("sample", f"ARGS=--meterpoints 3 --days 1 --out {tmp_path}/new").stderr

    assert "144 readings of 3 meterpoints" in said
    assert len(list((tmp_path / "new" / "readings").iterdir())) == 3


def test_the_scheduler_loads_at_its_time_what_was_dropped_and_says_so_in_a_line(stack: Stack) -> None:
    def runs() -> list[dict[str, Any]]:
        log = stack.compose("logs", "--no-color", "--no-log-prefix", "scheduler").stdout
        found = [json.loads(line[line.index("{") :]) for line in log.splitlines() if "{" in line]
        return [line for line in found if line.get("event") == "run"]

    rows = [["clock00001", "2021-02-05 00:30:00", 0.75]]
    document = {"columns": ["meterpoint_id", "interval_start", "consumption_delta"], "data": rows}
    draft = stack.landing / "readings" / "clock.json.part"
    draft.write_text(json.dumps(document))
    draft.chmod(0o644)
    draft.rename(draft.with_suffix(""))
    due = (datetime.now(LONDON) + timedelta(seconds=70)).replace(second=0, microsecond=0)  # in 10 to 70 seconds
    start = ["docker", "compose", "up", "--detach", "--no-deps", "scheduler"]
    deadline = time.monotonic() + 300
    try:
        stack.call(start, timeout=120, check=True, LAKE_SCHEDULE_READINGS=f"{due:%H:%M}")
        while not (found := runs()) and time.monotonic() < deadline:
            time.sleep(1)
    finally:
        stack.call(start, timeout=120, check=True)

    [ran] = found
    assert (ran["job"], ran["result"], ran["exit_status"], ran["attempts"]) == ("readings", "ok", 0, 1)
    assert 0 <= (datetime.fromisoformat(ran["started"]) - due).total_seconds() < 30
    by_name = {row["job"]: row for row in json.loads(stack.lake("schedule", "--json"))["jobs"]}
    assert by_name["readings"]["last_started"] == f"{due:%Y-%m-%d %H:%M %Z}"
    assert by_name["expire"]["next"].split()[1] == "03:30"
    assert stack.query("SELECT consumption_kwh, source_file FROM silver.readings WHERE date = DATE '2021-02-05'") == [
        (Decimal("0.750000"), "readings/clock.json")
    ]


def test_containers_run_as_non_root_without_capabilities(stack: Stack) -> None:
    for service in LONG_RUNNING:
        status = stack.compose("exec", "-T", service, "cat", "/proc/self/status").stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

        assert "0" not in fields["Uid"].split(), service
        assert int(fields["CapEff"], 16) == 0, service


def test_java_takes_its_classes_from_the_archive_in_the_image(stack: Stack) -> None:
    mapped = stack.compose("exec", "-T", "sql-endpoint", "sh", "-c", "cat /proc/[0-9]*/maps").stdout
    assert "/opt/venv/classes.aot" in mapped


def test_ports_are_bound_to_this_machine_alone(stack: Stack) -> None:
    listed = stack.compose("ps", "--format", "json").stdout
    services = [json.loads(line) for line in listed.splitlines()]

    published = [port for service in services for port in service["Publishers"] or [] if port["PublishedPort"]]

    assert published
    assert {port["URL"] for port in published} == {"127.0.0.1"}


def test_secrets_are_generated_private_and_not_in_images_or_logs(stack: Stack) -> None:
    env = REPOSITORY / ".env"
    secrets = [
        line.split("=", 1)[1]
        for line in env.read_text().splitlines()
        if "=" in line and ("SECRET" in line or "PASSWORD" in line)
    ]

    logs = stack.compose("logs", "--no-color").stdout
    images = {line for line in stack.compose("images", "--quiet").stdout.split() if line}
    history = "".join(
        stack.call(["docker", "image", "inspect", image], timeout=60, check=True).stdout for image in images
    )

    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert len(secrets) >= 5 and all(len(secret) >= 32 for secret in secrets)
    assert not any(secret in logs or secret in history for secret in secrets)
    assert stack.call(["git", "check-ignore", ".env"], timeout=10, check=False).stdout.strip() == ".env"


def test_the_object_store_refuses_the_anonymous_and_default_passwords(stack: Stack) -> None:
    from minio import Minio
    from minio.error import S3Error

    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://127.0.0.1:{stack.s3_port}/lake/", timeout=10)
    with pytest.raises(S3Error, match="InvalidAccessKeyId"):
        Minio(f"127.0.0.1:{stack.s3_port}", "minioadmin", "minioadmin", secure=False).list_buckets()


def test_data_survives_down_and_up_with_other_secrets(stack: Stack) -> None:
    count = "SELECT count(*), sum(consumption_kwh) FROM silver.readings"
    before = stack.query(count)

    stack.make("down")
    elsewhere = stack.make("run", check=False)
    names = [name for name in dotenv_values(REPOSITORY / ".env") if name.endswith(("_SECRET", "_PASSWORD"))]
    stack.env.update({name: token_hex(24) for name in names})
    stack.make("up")

    assert len(names) == 10

    assert elsewhere.returncode != 0
    assert "the stack is down: make up" in elsewhere.stderr
    assert stack.query(count) == before
    assert "Nothing new" in stack.make("run").stderr


def test_clean_asks_and_keeps_the_data_unless_told_otherwise(stack: Stack) -> None:
    refused = stack.call(["make", "clean"], timeout=60, check=False, stdin="n\n", LAKE_LANDING="s3a://lake/landing")

    assert refused.returncode != 0
    assert "the landing place s3a://lake/landing is in its object store: it is DELETED, too" in refused.stdout
    assert stack.query("SELECT count(*) FROM silver.readings")[0][0] > 0


def everything(stack: Stack) -> dict[str, list[str]]:
    """All rows of all tables and views, in an order of their own."""
    rows = {}
    for schema in ("silver", "mart", "gold", "quarantine", "ops"):
        for name in sorted(row[1] for row in stack.query(f"SHOW TABLES IN {schema}")):
            rows[f"{schema}.{name}"] = sorted(map(repr, stack.query(f"SELECT * FROM {schema}.{name}")))
    return rows


def test_a_backup_is_restored_into_an_empty_stack(stack: Stack, tmp_path: Path) -> None:
    before = everything(stack)
    backup = tmp_path / "backup"
    stack.make("backup", f"TO={backup}")
    onto_itself = stack.make("restore", f"FROM={backup}", check=False)
    stack.make("clean", FORCE="1")
    stack.make("up")

    nothing = stack.make("restore", f"FROM={tmp_path}", check=False)
    stack.make("restore", f"FROM={backup}")

    assert len(before) > 20
    assert everything(stack) == before
    assert "Nothing new" in stack.make("run").stderr
    assert onto_itself.returncode != 0
    assert "is not empty" in onto_itself.stderr
    assert nothing.returncode != 0
    assert "is no backup: it has no metastore.dump" in nothing.stderr
