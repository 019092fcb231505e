"""Loads and the SQL endpoint on a standalone cluster, of which a worker dies."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.lake import day
from tests.stack.conftest import Stack
from tests.stack.test_faults import the_error

MASTER = "spark://spark-master:7077"
DATE = "2022-02-01"
# Not in gold's reach of the other tests' dates, and more files than a few tasks.
FILES = 400
SMALL = {"LAKE_EXECUTOR_MEMORY": "600m", "LAKE_WORKER_CORES": "3", "LAKE_SPARK_MASTER": MASTER}
QUERIES = {
    "one date of a view": f"SELECT count(*) FROM gold.half_hourly_consumption WHERE date = DATE '{DATE}'",
    "a join": f"SELECT count(*), count(region) FROM gold.readings_enriched WHERE date = DATE '{DATE}'",
    "a shuffle": "SELECT date, count(*), sum(consumption_kwh) FROM silver.readings GROUP BY date ORDER BY date",
    "a sort": "SELECT meterpoint_id, interval_start_utc FROM silver.readings ORDER BY 2 DESC, 1 LIMIT 5",
    "a function": "SELECT count(*) FROM gold.active_agreements_on(DATE '2021-01-02')",
    "a window": "SELECT max(n) FROM (SELECT rank() OVER (PARTITION BY date ORDER BY consumption_kwh) AS n"
    " FROM silver.readings)",
    "a subquery": "SELECT count(*) FROM silver.readings WHERE date = (SELECT max(date) FROM silver.readings)",
}
ASK = """
import json, sys
from pathlib import Path
from jobs.endpoint import connect
said = {}
with connect("127.0.0.1", 10000, Path("/none"), False, "engineer", sys.argv[1]) as connection:
    cursor = connection.cursor()
    for name, query in json.load(sys.stdin).items():
        cursor.execute(query)
        said[name] = [[str(value) for value in row] for row in cursor.fetchall()]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def workers(stack: Stack) -> Iterator[list[str]]:
    """Containers of two workers, beside the stack."""
    up = ["docker", "compose", "--profile", "cluster", "up", "--detach", "--wait", "--no-deps"]
    try:
        for service in (["spark-master"], ["--scale", "spark-worker=2", "spark-worker"]):
            stack.call([*up, *service], timeout=180, check=True, **SMALL)
        yield stack.compose("ps", "--quiet", "spark-worker").stdout.split()
    finally:
        stack.compose("rm", "--stop", "--force", "spark-worker", "spark-master", check=False)


def deliver(stack: Stack) -> None:
    folder = stack.landing / "readings/cluster"
    folder.mkdir()
    columns = ["interval_start", "consumption_delta", "meterpoint_id"]
    for number in range(FILES):
        rows = day(f"cluster{number:03}", DATE, 0.001 * number)
        (folder / f"{number}.json").write_text(json.dumps({"columns": columns, "data": rows}))


def on_the_cluster(*command: str) -> list[str]:
    """A command of the stack with settings as .env would have them."""
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    return ["env", *settings, "docker", "compose", "--profile", "jobs", "run", "--rm", "--no-deps", *command]


def test_a_worker_dies_while_a_load_reads_and_nothing_is_lost(stack: Stack, workers: list[str]) -> None:
    deliver(stack)
    said = []
    with stack.start(*on_the_cluster("jobs", "run")) as run:
        for line in run.stderr or []:
            said.append(line)
            if "✓ discover " in line:
                time.sleep(1)
                subprocess.run(["docker", "kill", workers[0]], check=True, capture_output=True, timeout=60)
    assert run.returncode == 0, "".join(said)

    found = (
        "SELECT count(*), count(DISTINCT meterpoint_id, interval_start_utc), sum(consumption_kwh)"
        f" FROM silver.readings WHERE date = DATE '{DATE}'"
    )
    kwh = sum(48 * Decimal(number) / 1000 for number in range(FILES))
    assert stack.query(found) == [(48 * FILES, 48 * FILES, kwh)]
    totals = f"SELECT DISTINCT meterpoint_count FROM gold.half_hourly_consumption WHERE date = DATE '{DATE}'"
    assert stack.query(totals) == [(FILES,)]


@contextmanager
def endpoint_on_the_cluster(stack: Stack) -> Iterator[str]:
    name = "meter-lakehouse-test-endpoint-on-the-cluster"
    stack.call([*on_the_cluster("--detach", "--name", name, "sql-endpoint", "serve")], timeout=120, check=True)
    try:
        deadline = time.monotonic() + 180
        while subprocess.run(["docker", "exec", name, "endpoint-health"], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, subprocess.run(["docker", "logs", name], capture_output=True, text=True)
            time.sleep(2)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)


def test_the_endpoint_answers_from_the_cluster_as_from_itself(stack: Stack, workers: list[str]) -> None:
    with endpoint_on_the_cluster(stack) as name:
        ask = ["docker", "exec", "--interactive", name, "python", "-c", ASK, stack.passwords["engineer"]]
        asked = subprocess.run(
            ask,
            input=json.dumps(QUERIES),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert asked.returncode == 0, asked.stderr
        found: dict[str, Any] = json.loads(asked.stdout)
        logs = [asked.stderr, *(printed(container) for container in [name, *workers])]

    assert found == {each: [[str(value) for value in row] for row in stack.query(sql)] for each, sql in QUERIES.items()}
    assert "org.apache.spark.executor.CoarseGrainedExecutorBackend" in logs[-1]
    for secret in ("LAKE_SPARK_SECRET", "LAKE_S3_JOBS_SECRET", "LAKE_S3_ENDPOINT_SECRET"):
        assert stack.secret(secret) not in str(logs), secret


def printed(container: str) -> str:
    """What a container has logged, its executors' files, and the command lines of its processes."""
    look = "cat /proc/[0-9]*/cmdline; cat /var/lib/lake/work/*/*/std* 2>/dev/null; true"
    inside = subprocess.run(["docker", "exec", container, "sh", "-c", look], capture_output=True, check=False).stdout
    logs = subprocess.run(["docker", "logs", container], capture_output=True, check=True)
    return (inside + logs.stdout + logs.stderr).decode(errors="replace")


def test_a_folder_that_executors_do_not_see_and_a_wrong_secret_are_one_line_each(
    stack: Stack, workers: list[str]
) -> None:
    other = ["--volume", f"{stack.landing}:/elsewhere:ro", "--env", "LAKE_LANDING=/elsewhere"]
    unseen = stack.call(on_the_cluster(*other, "jobs", "run"), timeout=300, check=False)
    assert unseen.returncode == 1
    assert "does not see the landing place /elsewhere: there is no /elsewhere" in the_error(unseen.stderr.splitlines())

    wrong = ["--env", "_SPARK_AUTH_SECRET=guessed"]
    refused = stack.call(on_the_cluster(*wrong, "jobs", "run"), timeout=300, check=False)
    assert refused.returncode != 0
    assert "has it another secret" in the_error(refused.stderr.splitlines())
