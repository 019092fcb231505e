"""The real stack: the repository's compose file on a real Docker engine, as a project beside one that may run.

`make up` and `make run` are called as a user calls them. Where no Docker engine answers these tests are skipped, in CI
(CI=true) they fail instead.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import sqlalchemy
from dotenv import dotenv_values
from pyhive import hive

from jobs.sample import write_sample
from tests.integration.lake import SHORT_LIVED_JVM

# As its installation does (meterlake/pyproject.toml).
sqlalchemy.dialects.registry.register("meterlake", "meterlake.dialect", "MeterlakeDialect")

REPOSITORY = Path(__file__).parents[2]
PROJECT = "meter-lakehouse-test"
# All that is not as in compose.yaml: jobs of tests are short, and Java takes options for that.
SHORT_LIVED = "tests/stack/short-lived.yaml"
LONG_RUNNING = ("metadata-db", "object-store", "metastore", "metastore-read", "sql-endpoint", "reports", "scheduler")


@dataclass(frozen=True)
class Stack:
    """A running stack, and how to talk to it."""

    env: dict[str, str]
    landing: Path
    sql_port: int
    reports_port: int
    s3_port: int
    passwords: dict[str, str]  # of the users `analyst` and `engineer`, who have the roles of these names

    def make(
        self, *arguments: str, timeout: int = 600, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return self.call(["make", *arguments], timeout=timeout, check=check, **variables)

    def compose(
        self, *arguments: str, timeout: int = 300, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.call(
            ["docker", "compose", "--profile", "jobs", "--profile", "dashboard", "--profile", "cluster", *arguments],
            timeout=timeout,
            check=check,
            stdin=stdin,
        )

    def call(
        self, command: list[str], *, timeout: int, check: bool, stdin: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.env | variables,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and result.returncode:
            pytest.fail(f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    def lake(self, *arguments: str, stdin: str | None = None) -> str:
        """What the command `lake` prints, run as a person runs it."""
        return self.call(["docker/lake", *arguments], timeout=300, check=True, stdin=stdin).stdout

    def secret(self, name: str) -> str:
        """A secret that the first `make up` wrote, or that it was changed to."""
        return self.env.get(name) or str(dotenv_values(REPOSITORY / ".env")[name])

    def start(self, *command: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        """Start a command, and go on. What it says is on its standard error."""
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=self.env,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def told(self, mark: str) -> list[dict[str, Any]]:
        """What the SQL endpoint told of who asked what, of the lines that have the mark."""
        log = self.compose("logs", "--no-color", "--no-log-prefix", "sql-endpoint").stdout
        # Before a line some versions of Compose clear it, as on a terminal.
        found = [line.removeprefix("\x1b[2K") for line in log.split("\n") if mark in line]
        lines = [json.loads(line) for line in found if line.startswith("{")]
        return [line["message"] for line in lines if line.get("logger") == "query"]

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--quiet", service).stdout.strip()

    def connect(self, user: str, password: str | None = None, **options: Any) -> Any:
        """A PyHive connection, with the user's own password if none is given."""
        return hive.connect(
            "127.0.0.1",
            self.sql_port,
            username=user,
            password=self.passwords[user] if password is None else password,
            auth="CUSTOM",
            **options,
        )

    def query(self, sql: str, user: str = "engineer") -> list[tuple[Any, ...]]:
        with closing(self.connect(user)) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())

    def add_user(self, name: str, role: str) -> None:
        """As a person does it; the password that is printed is remembered."""
        self.passwords[name] = self.make("-s", "user", f"NAME={name}", f"ROLE={role}").stdout.strip()

    def add_people(self) -> None:
        """The users `analyst` and `engineer`."""
        for role in ("analyst", "engineer"):
            self.add_user(role, role)


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def cannot_run(message: str) -> NoReturn:
    """Skip, but in CI fail: a skipped test is not a passed one."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def docker() -> None:
    """A Docker engine that answers."""
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        cannot_run("no Docker engine answers, so the stack was not tested")


@pytest.fixture(scope="session")
def stack(docker: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, up and with the sample loaded by `make up && make run`."""
    with running_stack(PROJECT, landing_place(tmp_path_factory)) as stack:
        stack.add_people()
        assert "Nothing was loaded yet" in stack.make("status").stderr
        # The landing place is one that somebody chose, so that a sample is asked for.
        run = stack.make("run", "ARGS=--sample")
        assert "14,400 loaded" in run.stderr
        yield stack


@pytest.fixture(scope="session")
def small(docker: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that may run beside that one and has little data, and a small disk for objects, which is memory."""
    project = "meter-lakehouse-small"
    options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=96m,uid=10010"]
    disk = ["docker", "volume", "create", *options, f"{project}_objects"]
    with running_stack(project, landing_place(tmp_path_factory), *disk) as stack:
        stack.add_people()
        write_sample(stack.landing, meterpoints=2, days=1)
        stack.make("run")
        yield stack


def landing_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder that the container's user can read, to whom pytest's folders are closed."""
    landing = tmp_path_factory.mktemp("landing")
    for folder in (landing, *list(landing.parents)[:2]):
        folder.chmod(0o755)
    return landing


@contextmanager
def running_stack(project: str, landing: Path, *prepare: str) -> Iterator[Stack]:
    """A stack with ports and volumes of its own, which is gone in the end. `prepare` is a command before it starts."""
    sql_port, reports_port, s3_port, console_port = (free_port() for _ in range(4))
    # What make was called with is not for the calls of make in here.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))}
    env = inherited | {
        **SHORT_LIVED_JVM,
        "COMPOSE_PROJECT_NAME": project,
        "COMPOSE_FILE": f"compose.yaml:{SHORT_LIVED}",
        "LAKE_LANDING_DIR": str(landing),
        "LAKE_SQL_PORT": str(sql_port),
        "LAKE_REPORTS_PORT": str(reports_port),
        "LAKE_S3_PORT": str(s3_port),
        "LAKE_S3_CONSOLE_PORT": str(console_port),
        # Tests say when a load runs.
        "LAKE_SCHEDULE_READINGS": "none",
        "LAKE_SCHEDULE_REFERENCE": "none",
    }
    stack = Stack(env, landing, sql_port, reports_port, s3_port, {})
    # A run that was killed could not tidy up, and its users and data are not ours.
    stack.compose("down", "--volumes", "--remove-orphans", check=False)
    try:
        if prepare:
            stack.call(list(prepare), timeout=60, check=True)
        up = stack.make("up", timeout=2400)
        assert f"127.0.0.1:{sql_port}" in up.stdout
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", check=False)
