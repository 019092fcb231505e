"""The SQL endpoint with limits that a test can reach, and with TLS."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy
from pyhive import exc, hive
from thrift.transport.TTransport import TTransportException

import meterlake
from tests.stack.conftest import REPOSITORY, Stack

SECONDS = 40
# Minutes of all cores, in tasks that take long, and nothing to read.
HEAVY = "SELECT count(*), sum(a.id * b.id % 7) FROM range(0, 900000, 1, 64) a CROSS JOIN range(900000) b"
SMALL = "SELECT count(*) FROM gold.daily_product_consumption WHERE date = DATE '2021-01-02'"
# Of a sample of three dates one may be read, and fewer rows be held than it has.
LIMITS = {
    "LAKE_QUERY_SECONDS": str(SECONDS),
    "LAKE_QUERY_SCAN_BYTES": "25KB",
    "LAKE_QUERY_RESULT_BYTES": "8KB",
}


@dataclass(frozen=True)
class Endpoint:
    """The restarted endpoint, and its certificate in a file."""

    stack: Stack
    certificate: str

    def connect(self, host: str = "127.0.0.1", *, certificate: str | None) -> meterlake.Connection:
        password = self.stack.passwords["analyst"]
        return meterlake.connect(
            host, self.stack.sql_port, username="analyst", password=password, tls=True, certificate=certificate
        )

    def query(self, *statements: str) -> list[tuple[Any, ...]]:
        """The rows of the last statement."""
        with closing(self.connect(certificate=self.certificate)) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def beeline(self, sql: str, *, seconds: int = 120) -> str:
        """What Hive's JDBC client prints, which is killed after some seconds."""
        script = """
            cat >/tmp/certificate.pem
            rm -f /tmp/trust.p12
            keytool -importcert -noprompt -alias lake -file /tmp/certificate.pem -keystore /tmp/trust.p12 \
              -storepass changeit >/dev/null 2>&1
            url="jdbc:hive2://localhost:10000/gold;ssl=true;sslTrustStore=/tmp/trust.p12;trustStorePassword=changeit"
            exec timeout -s KILL "$3" beeline -u "$url" -n analyst -p "$1" --outputformat=csv2 --silent=true -e "$2"
        """
        result = self.stack.compose(
            "exec", "-T", "sql-endpoint", "sh", "-euc", script, "-", self.stack.passwords["analyst"], sql, str(seconds),
            stdin=Path(self.certificate).read_text(), check=False,
        )  # fmt: skip
        return result.stdout if not result.returncode else result.stdout + result.stderr

    def load(self) -> float:
        """How many cores the endpoint uses now."""
        stats = ["docker", "stats", "--no-stream", "--format", "{{.CPUPerc}}", self.stack.container("sql-endpoint")]
        return float(self.stack.call(stats, timeout=60, check=True).stdout.strip().rstrip("%")) / 100


@pytest.fixture(scope="module")
def endpoint(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    restart = ("docker", "compose", "up", "--detach", "--wait", "--force-recreate", "--no-deps", "sql-endpoint")
    stack.call(["docker/lake", "certificate", "generate", "lake.example.org"], timeout=120, check=True)
    try:
        stack.call([*restart], timeout=300, check=True, **LIMITS)
        certificate = tmp_path_factory.mktemp("tls") / "certificate.pem"
        certificate.write_text(stack.call(["docker/lake", "certificate", "show"], timeout=120, check=True).stdout)
        yield Endpoint(stack, str(certificate))
    finally:
        stack.call(["docker/lake", "certificate", "remove"], timeout=120, check=True)
        stack.call([*restart], timeout=300, check=True)


def test_a_query_that_would_read_too_much_is_refused(endpoint: Endpoint) -> None:
    assert endpoint.query("SELECT count(*) FROM gold.readings_enriched WHERE date = DATE '2021-01-02'") == [(4800,)]

    with pytest.raises(meterlake.OperationalError, match=r"^\[LIMIT\] query refused: .* name fewer dates"):
        endpoint.query("SELECT count(*) FROM gold.readings_enriched")


def test_many_rows_are_handed_over_without_being_held(endpoint: Endpoint) -> None:
    rows = endpoint.query("SELECT * FROM gold.readings_enriched WHERE date = DATE '2021-01-02'")

    assert len(rows) == 4800


def test_a_result_that_is_too_large_to_be_held_is_stopped_unless_it_is_asked_for_in_pieces(endpoint: Endpoint) -> None:
    query = "SELECT id FROM range(0, 300000, 1, 64)"

    with pytest.raises(meterlake.OperationalError, match=r"\[LIMIT\] query stopped: its result is larger"):
        endpoint.query(query)
    assert len(endpoint.query("SET spark.sql.thriftServer.incrementalCollect=true", query)) == 300_000


def test_a_heavy_query_does_not_keep_others_out_and_is_stopped_in_the_end(endpoint: Endpoint) -> None:
    errors: list[str] = []

    def heavy() -> None:
        try:
            endpoint.query(HEAVY)
        except meterlake.OperationalError as error:
            errors.append(str(error))

    thread = threading.Thread(target=heavy)
    thread.start()
    while endpoint.load() < 0.5:
        assert thread.is_alive()
    answered = [endpoint.query(SMALL) for _ in range(3)]
    answered_meanwhile = thread.is_alive()
    thread.join(timeout=4 * SECONDS)

    assert answered_meanwhile
    assert all(rows[0][0] > 0 for rows in answered)
    assert len(errors) == 1
    assert f"[LIMIT] query stopped: it ran for {SECONDS} s" in errors[0]


def test_jdbc_hears_of_the_limit_too(endpoint: Endpoint) -> None:
    assert "[LIMIT] query refused" in endpoint.beeline("SELECT count(*) FROM gold.readings_enriched")


def test_a_python_client_that_goes_away_has_its_query_cancelled(endpoint: Endpoint) -> None:
    program = f"""import meterlake, sys
connection = meterlake.connect("127.0.0.1", {endpoint.stack.sql_port}, username="analyst", password=sys.stdin.read(),
                               tls=True, certificate={endpoint.certificate!r})
connection.cursor().execute({HEAVY!r})"""
    client = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert client.stdin
    client.stdin.write(endpoint.stack.passwords["analyst"])
    client.stdin.close()
    while endpoint.load() < 0.5:
        assert client.poll() is None
    started = time.monotonic()
    client.kill()
    client.wait()

    _becomes_idle(endpoint, started)


def test_a_jdbc_client_that_goes_away_has_its_query_cancelled(endpoint: Endpoint) -> None:
    output = endpoint.beeline(HEAVY, seconds=12)  # killed in the middle
    started = time.monotonic()

    assert "[LIMIT]" not in output
    _becomes_idle(endpoint, started)


def _becomes_idle(endpoint: Endpoint, started: float) -> None:
    """Well before the limit would have ended the query."""
    while endpoint.load() > 0.5:
        assert time.monotonic() - started < SECONDS / 2, "the query of a client that is gone goes on"


def test_sqlalchemy_and_jdbc_read_over_tls(endpoint: Endpoint) -> None:
    url = sqlalchemy.URL.create(
        "meterlake", "analyst", endpoint.stack.passwords["analyst"], "127.0.0.1", endpoint.stack.sql_port, "gold",
        query={"tls": "true", "certificate": endpoint.certificate},
    )  # fmt: skip
    frame = pd.read_sql_query(SMALL, sqlalchemy.create_engine(url))

    assert frame.iloc[0, 0] == endpoint.query(SMALL)[0][0] > 0
    assert endpoint.beeline(SMALL).split()[-1] == str(frame.iloc[0, 0])


def test_the_lakehouses_own_commands_use_tls(endpoint: Endpoint) -> None:
    assert endpoint.stack.make("-s", "sql", f"Q={SMALL}").stdout.splitlines()[-1] == str(endpoint.query(SMALL)[0][0])


def test_with_tls_nothing_else_is_spoken(endpoint: Endpoint) -> None:
    with pytest.raises((TTransportException, exc.Error, OSError, EOFError)):
        hive.connect(
            "127.0.0.1",
            endpoint.stack.sql_port,
            username="analyst",
            password=endpoint.stack.passwords["analyst"],
            auth="CUSTOM",
        )


def test_a_certificate_that_is_not_trusted_or_of_another_host_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(meterlake.OperationalError, match=r"certificate verify failed: self-signed"):
        endpoint.connect(certificate=None)
    with pytest.raises(meterlake.OperationalError, match=r"certificate verify failed: .* mismatch"):
        endpoint.connect("127.1", certificate=endpoint.certificate)
