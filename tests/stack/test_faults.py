"""A load that is killed anywhere, and run again, ends as if nothing had happened, and readers see nothing of it."""

import json
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen
from typing import Any

import pytest

from jobs.schedule_state import TRY_AGAIN
from tests.integration.command import as_json
from tests.integration.lake import day
from tests.integration.oracle import Oracle
from tests.stack.conftest import LONG_RUNNING, REPOSITORY, Stack

KILLED = 137  # by signal 9, as a container's exit status has it
# Moment, call, table among its arguments, and the seconds within which a kill comes in the middle of the call.
Point = tuple[str, str, str, float]
POINTS: list[Point] = [
    ("before", "ledger.files.to_read", "", 0),
    ("after", "ledger.writer.become_writer", "", 0),
    ("during", "silver.ingest_files", "", 2),
    ("during", "silver.merge_dates", "", 2),
    ("after", "silver.merge_dates", "", 0),
    ("during", "tables.write_portions", "mart.half_hourly", 0.05),
    ("after", "load._audit", "", 0),
    ("after", "ledger.loads.begin_publication", "", 0),
    ("during", "tables.publish", "silver.readings", 0.8),
    ("after", "tables.publish", "silver.readings", 0),
    ("after", "tables.publish", "ops.claims", 0),
    ("after", "tables.publish", "mart.half_hourly", 0),
    ("before", "tables.publish", "silver.current_snapshot", 0),
    ("before", "load._record", "", 0),
    ("after", "tables.publish", "ops.load_files", 0),
    ("during", "tables.publish", "ops.loads", 0.4),
    ("before", "quality.build_docs", "", 0),
    ("during", "collect.collect_replaced", "", 1),
]


def with_seed(seed: int, count: int) -> list[Point]:
    """Some of the points in random order, each with the very moment of the kill."""
    chance = random.Random(seed)
    return [(*point[:3], round(chance.uniform(0, point[3]), 2)) for point in chance.sample(POINTS, count)]


# A round: one run after the other is killed, and only then one comes to its end. Two rounds have each point once, four
# have it twice, at other moments and after other ones; `make soak` makes others for as long as one likes.
ROUNDS = [with_seed(seed, len(POINTS))[half::2] for seed in (1, 2) for half in (0, 1)]


class Deliveries:
    """What arrives in the landing place between one load and the next: each adds a date, corrects the one before and
    brings a bad row; each third has other agreements."""

    def __init__(self, landing: Path) -> None:
        self.landing = landing
        self.number = 0
        with closing(sqlite3.connect(landing / "case_study.db")) as connection:
            self.meterpoints = [id for (id,) in connection.execute("SELECT meterpoint_id FROM meterpoint LIMIT 2")]

    def arrive(self) -> None:
        self.number += 1
        self._file(self.number, kwh=0.5)
        if self.number > 1:
            self._file(self.number - 1, kwh=round(0.5 + self.number / 100, 2))
        if self.number % 3 == 0:
            with closing(sqlite3.connect(self.landing / "case_study.db")) as connection, connection:
                connection.execute("UPDATE agreement SET account_id = ? WHERE agreement_id % 7 = 0", [str(self.number)])

    def _file(self, number: int, kwh: float) -> None:
        local_date = f"2021-{4 + number // 28:02}-{1 + number % 28:02}"
        rows: list[Any] = ["bad row"]
        for meterpoint in self.meterpoints:
            rows += day(meterpoint, local_date, kwh)
        path = self.landing / f"readings/late-{number}.json"
        draft = path.with_suffix(".tmp")  # a file that is half there when the load looks would be another test
        columns = ["interval_start", "consumption_delta", "meterpoint_id"]
        draft.write_text(json.dumps({"columns": columns, "data": rows}))
        draft.replace(path)


class Reader(threading.Thread):
    """Looks at the endpoint again and again, and keeps what is wrong."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self.stack = stack
        self.looks = 0
        self.wrong: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        seen: set[Any] = set()
        with closing(self.stack.connect("engineer")) as connection:
            self.cursor = connection.cursor()
            while not self.ended.is_set():
                try:
                    seen = self._look(seen)
                except Exception as error:
                    self.wrong.append(f"error: {error}")
                self.looks += 1
                time.sleep(10)  # or it takes the cores that the load needs

    def _look(self, seen: set[Any]) -> set[Any]:
        before = self._freshness()
        silver = self._rows("SELECT date, count(*), sum(consumption_kwh) FROM silver.readings GROUP BY date")
        mart = self._rows("SELECT date, sum(consumption_kwh) FROM mart.half_hourly GROUP BY date")
        after = self._freshness()
        dates = {row[0] for row in silver}
        if gone := seen - dates:
            self.wrong.append(f"dates are gone: {gone}")
        self.wrong += [f"{date} is half loaded: {count} readings" for date, count, _ in silver if count % 48]
        kwh = {row[0]: row[2] for row in silver}
        if before == after and before[1] is None and kwh != dict(mart):
            self.wrong.append(f"readings and marts differ, and data_freshness said nothing: {before}")
        return dates

    def _freshness(self) -> tuple[Any, ...]:
        return self._rows("SELECT last_load_id, publishing_load_id FROM gold.data_freshness")[0]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        self.cursor.execute(sql)
        return list(self.cursor.fetchall())


@pytest.fixture(scope="module")
def deliveries(stack: Stack) -> Deliveries:
    return Deliveries(stack.landing)


@pytest.fixture
def reader(stack: Stack) -> Iterator[Reader]:
    thread = Reader(stack)
    thread.start()
    yield thread
    thread.ended.set()
    thread.join(60)


def run_to_kill(stack: Stack, point: Point) -> "Popen[str]":
    """A run that is killed at the point, and begins with a line of standard input."""
    script = f"{REPOSITORY}/tests/stack/killed.py:/killed.py:ro"
    command = ["docker", "compose", "--profile", "jobs", "run", "--rm", "--no-deps", "--no-TTY", "--volume"]
    return stack.start(*command, script, "--entrypoint", "python", "jobs", "/killed.py", *map(str, point), stdin=PIPE)


def assert_like_undisturbed(stack: Stack) -> None:
    """Silver, marts, quarantine and ops are what they would be had every run come to its end."""
    for view, (columns, raw) in Oracle(stack.landing).gold().items():
        if view.endswith("period_consumption"):
            continue  # by periods that a person sets: what they add up is in half_hourly_product_consumption
        rows = stack.query(f"SELECT {', '.join(columns)} FROM gold.{view}")
        assert sorted(map(_texts, rows)) == sorted(map(_texts, raw)), view
    files = {str(path.relative_to(stack.landing)): path for path in (stack.landing / "readings").rglob("*.json*")}
    bad = [name for name, path in files.items() if b"bad row" in path.read_bytes()]
    assert sorted(row[0] for row in stack.query("SELECT source_file FROM quarantine.open_readings")) == sorted(bad)
    newest = "SELECT source_file, max_by(size_bytes, load_id) FROM ops.load_files WHERE kind = 'readings' GROUP BY 1"
    assert dict(stack.query(newest)) == {name: path.stat().st_size for name, path in files.items()}
    for table in ("silver.readings", "ops.load_files", "ops.validations", "ops.publications", "ops.publishing"):
        strangers = f"SELECT DISTINCT load_id FROM {table} WHERE load_id NOT IN (SELECT load_id FROM ops.loads)"
        assert stack.query(strangers) == [], table


def assert_next_run_makes_up_for_it(stack: Stack) -> None:
    again = stack.make("run", check=False)
    assert again.returncode == 0, again.stderr
    assert_like_undisturbed(stack)


def the_error(said: list[str]) -> str:
    """The one line that says what is wrong, of what a failed run said; there is no stack trace."""
    assert not any("Exception in thread" in line or "\tat " in line for line in said), said
    errors = [line for line in said if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0]


def _texts(row: Any) -> list[str]:
    return [str(as_json(value)) for value in row]


def killed_and_run_again(stack: Stack, deliveries: Deliveries, points: list[Point]) -> None:
    run = run_to_kill(stack, points[0])
    for point, following in zip(points, [*points[1:], None], strict=True):
        deliveries.arrive()
        killed, run = run, run_to_kill(stack, following) if following else run
        _, said = killed.communicate("begin\n", timeout=300)
        assert killed.returncode == KILLED, f"{point}: {said}"
    assert_next_run_makes_up_for_it(stack)


@pytest.mark.parametrize("points", ROUNDS)
def test_loads_are_killed_and_run_again(
    stack: Stack, deliveries: Deliveries, reader: Reader, points: list[Point]
) -> None:
    killed_and_run_again(stack, deliveries, points)

    assert reader.wrong == []
    assert reader.looks > 0


if "LAKE_SOAK_MINUTES" in os.environ:  # make soak

    def test_loads_are_killed_at_random(stack: Stack, deliveries: Deliveries, reader: Reader) -> None:
        chance = random.Random(os.environ.get("LAKE_SOAK_SEED", "1"))
        ends, kills = time.monotonic() + 60 * float(os.environ["LAKE_SOAK_MINUTES"]), 0
        while time.monotonic() < ends:
            points = with_seed(chance.randrange(2**32), chance.randint(1, 4))
            print(points, flush=True)
            killed_and_run_again(stack, deliveries, points)
            kills += len(points)
            assert reader.wrong == []
        print(f"{kills} kills, {reader.looks} looks")


def wait_until_healthy(stack: Stack) -> None:
    """Nobody restarts anything: the services have to come back by themselves."""
    deadline = time.monotonic() + 180
    while True:
        listed = stack.compose("ps", "--format", "json").stdout.splitlines()
        health = {service["Service"]: service["Health"] for service in map(json.loads, listed)}
        if all(health.get(service) == "healthy" for service in LONG_RUNNING):
            return
        assert time.monotonic() < deadline, health
        time.sleep(2)


# The stage of a load after which services die.
DEATHS = {
    "discover": ["object-store"],
    "read and check": ["metastore"],
    "build marts": ["sql-endpoint", "metastore-read"],
    "validate": ["metadata-db"],
}


def test_services_die_while_a_load_is_at_work(stack: Stack, deliveries: Deliveries) -> None:
    for stage, services in DEATHS.items():
        deliveries.arrive()
        with stack.start("make", "run") as run:
            said = []
            for line in run.stderr or []:
                said.append(line)
                if f"✓ {stage} " in line:
                    # All processes but the container's first: nothing may be left to be tidied up.
                    for service in services:
                        stack.compose("exec", "-T", service, "sh", "-c", "kill -9 -1", check=False)
            status = run.wait(timeout=300)

        assert any(f"✓ {stage} " in line for line in said), said
        if status:  # it waited for the service, but not for ever
            the_error(said)
        wait_until_healthy(stack)
    assert_next_run_makes_up_for_it(stack)


@contextmanager
def proxy(stack: Stack, service: str, *faults: str) -> Iterator[tuple[str, str]]:
    """A proxy before a service, with faults as tests/stack/proxy.py reads them: its host and its container's id."""
    script = f"{REPOSITORY}/tests/stack/proxy.py:/proxy.py:ro"
    project = stack.env["COMPOSE_PROJECT_NAME"]
    command = f"docker run --detach --rm --network {project}_load --network-alias proxy".split()
    image = ["--entrypoint", "python", f"localhost/{project}/lake:dev", "/proxy.py"]
    container = stack.call(
        [*command, "--volume", script, *image, service, *faults], timeout=60, check=True
    ).stdout.strip()
    try:
        yield f"proxy:{service.split(':')[1]}", container
    finally:
        stack.call(["docker", "rm", "--force", container], timeout=60, check=True)


def struck(stack: Stack, container: str) -> Counter[str]:
    """How often each fault was done."""
    return Counter(stack.call(["docker", "logs", container], timeout=60, check=True).stdout.split()[1:])


def lake_with(stack: Stack, *command: str, **settings: str) -> CompletedProcess[str]:
    """The command `lake` with other settings than the stack's."""
    options = [option for name, value in settings.items() for option in ("--env", f"{name}={value}")]
    return stack.compose("run", "--rm", "--no-deps", *options, "jobs", *command, check=False, timeout=600)


def assert_ended_with_a_clear_error(run: CompletedProcess[str], *messages: str) -> None:
    """Its error is in one of the given words: who met the fault first, Java or Arrow, is a matter of time."""
    assert run.returncode == TRY_AGAIN, run.stderr
    assert any(message in the_error(run.stderr.splitlines()) for message in messages), run.stderr


REQUEST = " HTTP/1.1\r\n"


def test_the_object_store_stays_busy_and_then_now_and_then(
    stack: Stack, deliveries: Deliveries, reader: Reader
) -> None:
    deliveries.arrive()
    with proxy(stack, "object-store:9000", "busy,PUT /,1,5,-1") as (host, _):
        run = lake_with(stack, "run", LAKE_S3_ENDPOINT=f"http://{host}")
    assert_ended_with_a_clear_error(run, "503", "SLOW_DOWN")

    faults = [
        f"busy,{REQUEST},0.06,1,-1",
        f"reset,{REQUEST},0.03,1,-1",
        f"lost,{REQUEST},0.03,1,-1",
        f"stall,{REQUEST},0.1,50,1",
    ]
    with proxy(stack, "object-store:9000", *faults) as (host, container):
        run = lake_with(stack, "run", LAKE_S3_ENDPOINT=f"http://{host}")
        done = struck(stack, container)
    assert run.returncode == 0, run.stderr
    assert min(done[kind] for kind in ("busy", "reset", "lost")) >= 5, done
    assert done["stall"] == 1
    assert_like_undisturbed(stack)
    assert reader.wrong == []


def test_the_call_that_publishes_is_lost_and_then_its_answer_is(
    stack: Stack, deliveries: Deliveries, reader: Reader
) -> None:
    """Was it committed or not? It is repeated, and is the same the second time."""
    deliveries.arrive()
    faults = [f"{kind},alter_partitions,1,1,1" for kind in ("reset", "lost")]
    with proxy(stack, "metastore:9083", *faults) as (host, container):
        run = lake_with(stack, "run", LAKE_METASTORE=f"thrift://{host}")
        done = struck(stack, container)
    assert run.returncode == 0, run.stderr
    assert done == {"reset": 1, "lost": 1}
    assert_like_undisturbed(stack)
    assert reader.wrong == []


def test_the_metastore_never_answers_the_call_that_publishes(
    stack: Stack, deliveries: Deliveries, reader: Reader
) -> None:
    """The second one of the load: silver is switched, and what follows is not."""
    deliveries.arrive()
    with proxy(stack, "metastore:9083", "lost,alter_partitions,1,2,-1") as (host, container):
        run = lake_with(stack, "run", LAKE_METASTORE=f"thrift://{host}")
        assert struck(stack, container)["lost"] >= 5

    assert_ended_with_a_clear_error(run, "Spark failed in 'publish'")
    assert stack.query("SELECT publishing_load_id IS NULL FROM gold.data_freshness") == [(False,)]
    assert_next_run_makes_up_for_it(stack)
    assert reader.wrong == []


def test_a_query_that_began_before_a_correction_is_published_reads_to_its_end(
    stack: Stack, deliveries: Deliveries
) -> None:
    """Rows are read while they are fetched, so the last date is read long after its folder was replaced."""
    deliveries.arrive()
    stack.make("run")
    [(corrected, before)] = stack.query(
        "SELECT date, sum(consumption_kwh) FROM silver.readings GROUP BY 1 ORDER BY 1 DESC LIMIT 1"
    )
    dates = [*(f"2021-01-0{day}" for day in (1, 2, 3)), corrected]
    parts = [f"SELECT date, consumption_kwh FROM silver.readings WHERE date = DATE '{date}'" for date in dates]
    with closing(stack.connect("analyst")) as connection:
        cursor = connection.cursor(arraysize=100)
        cursor.execute(" UNION ALL ".join(parts))
        rows = cursor.fetchmany(100)
        deliveries.arrive()
        stack.make("run")
        stack.lake("collect")
        rows += cursor.fetchall()

    last = [Decimal(kwh) for date, kwh in rows if date == corrected]
    assert (len(last), sum(last)) == (96, Decimal(before))
    now = f"SELECT sum(consumption_kwh) FROM silver.readings WHERE date = DATE '{corrected}'"
    assert stack.query(now) != [(before,)]
    without_retention = lake_with(stack, "collect", LAKE_RETENTION_HOURS="0")
    assert without_retention.returncode == 0, without_retention.stderr
    assert f"silver/readings/date={corrected}/load=" in without_retention.stdout + without_retention.stderr
