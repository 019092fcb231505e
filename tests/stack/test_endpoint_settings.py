"""The SQL endpoint with limits that a test can reach, with TLS, with an LDAP directory, and over HTTP."""

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pandas as pd
import pytest
import sqlalchemy
from pyhive import exc, hive
from tenacity import Retrying, stop_after_delay, wait_fixed
from thrift.transport.THttpClient import THttpClient
from thrift.transport.TTransport import TTransportException

import meterlake
from jobs.certificate import generate, public
from tests.stack.conftest import REPOSITORY, Stack
from tests.stack.test_guard import GIVEN, SECRET, try_all_keys

SECONDS = 40
# Minutes of all cores, in tasks that take long, and nothing to read. A task looks whether it is to end every thousand
# rows of the first range: with few in the second one that is soon, also where Java has not compiled the loop well.
HEAVY = "SELECT count(*), sum(a.id * b.id % 7) FROM range(0, 90000000, 1, 64) a CROSS JOIN range(9000) b"
SMALL = "SELECT count(*) FROM gold.daily_product_consumption WHERE date = DATE '2021-01-02'"
# The directory's people: analysts by a group, a steward and an engineer by a title, and one who is nothing of it.
PEOPLE = {"lotte": "analyst", "noor": "analyst", "sami": "steward", "emil": "engineer", "gast": "guest"}
SMALLEST_GROUP = 3
# Of a sample of three dates one may be read, and fewer rows be held than it has.
LIMITS = {
    "LAKE_QUERY_SECONDS": str(SECONDS),
    "LAKE_QUERY_SCAN_BYTES": "45KB",
    "LAKE_QUERY_RESULT_BYTES": "8KB",
    "LAKE_QUERY_HELD_SECONDS": "15",
    "LAKE_QUERY_DISK_BYTES": "64MiB",
    "LAKE_MIN_GROUP": str(SMALLEST_GROUP),
    "LAKE_TEST_ENDPOINT_JAVA": "-Dlake.guard.idleSeconds=30 -Dlake.guard.freeGuesses=12",
}


@dataclass(frozen=True)
class Endpoint:
    """The restarted endpoint, and its certificate in a file."""

    stack: Stack
    certificate: str
    http: bool = False

    def connect(
        self, host: str = "127.0.0.1", *, certificate: str | None, user: str = "analyst", password: str | None = None
    ) -> meterlake.Connection:
        return meterlake.connect(
            host,
            self.stack.sql_port,
            username=user,
            password=self.stack.passwords[user] if password is None else password,
            http=self.http,
            tls=True,
            certificate=certificate,
        )

    def query(self, *statements: str, user: str = "analyst", password: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of the last statement."""
        with closing(self.connect(certificate=self.certificate, user=user, password=password)) as connection:
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
            url="jdbc:hive2://localhost:10000/gold;ssl=true;sslTrustStore=/tmp/trust.p12;trustStorePassword=changeit$4"
            exec timeout -s KILL "$3" beeline -u "$url" -n analyst -p "$1" --outputformat=csv2 --silent=true -e "$2"
        """
        result = self.stack.compose(
            "exec", "-T", "sql-endpoint", "sh", "-euc", script, "-", self.stack.passwords["analyst"], sql, str(seconds),
            ";transportMode=http;httpPath=cliservice" if self.http else "",
            stdin=Path(self.certificate).read_text(), check=False,
        )  # fmt: skip
        return result.stdout if not result.returncode else result.stdout + result.stderr

    def load(self) -> float:
        """How many cores the endpoint uses now."""
        stats = ["docker", "stats", "--no-stream", "--format", "{{.CPUPerc}}", self.stack.container("sql-endpoint")]
        return float(self.stack.call(stats, timeout=60, check=True).stdout.strip().rstrip("%")) / 100


def restart(stack: Stack, **settings: str) -> None:
    command = ["docker", "compose", "up", "--detach", "--wait", "--force-recreate", "--no-deps", "sql-endpoint"]
    stack.call(command, timeout=300, check=True, **settings)


@pytest.fixture(scope="module")
def directory(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An OpenLDAP server in the endpoint's network, and the settings with which the endpoint asks it."""
    data = tmp_path_factory.mktemp("directory")
    data.chmod(0o755)
    name = f"{stack.env['COMPOSE_PROJECT_NAME']}-directory"
    generate(data / "tls.pem", name)
    (data / "authorities.pem").write_text(public(data / "tls.pem"))
    entries = [
        "dn: dc=example,dc=org\nobjectClass: domain",
        "dn: ou=people,dc=example,dc=org\nobjectClass: organizationalUnit",
    ]
    analysts = ["dn: cn=analysts,dc=example,dc=org", "objectClass: groupOfNames"]
    for person, title in PEOPLE.items():
        stack.passwords[person] = token_urlsafe(12) + "é"
        secret = b64encode(stack.passwords[person].encode()).decode()
        dn = f"uid={person},ou=people,dc=example,dc=org"
        about = [f"cn: {person}", f"sn: {person}", f"title: {title}", f"userPassword:: {secret}"]
        entries.append("\n".join([f"dn: {dn}", "objectClass: inetOrgPerson", *about]))
        if title == "analyst":
            analysts.append(f"member: {dn}")
    entries.append("\n".join(analysts))
    (data / "people.ldif").write_text("\n\n".join(entries) + "\n")
    for file in data.iterdir():
        file.chmod(0o644)
    image = "localhost/meter-lakehouse/test-directory:dev"
    stack.call(["docker", "build", "--quiet", "--tag", image, "tests/stack/directory"], timeout=300, check=True)
    network = f"{stack.env['COMPOSE_PROJECT_NAME']}_query"
    run = ["docker", "run", "--detach", "--name", name, "--network", network, "--volume", f"{data}:/data:ro", image]
    stack.call(run, timeout=60, check=True)
    try:
        yield {
            "LAKE_LDAP_URL": f"ldaps://{name}:6360",
            "LAKE_LDAP_BIND": "uid={user},ou=people,dc=example,dc=org",
            "LAKE_LDAP_BASE": "dc=example,dc=org",
            "LAKE_LDAP_ANALYSTS": "(&(cn=analysts)(member={dn}))",
            "LAKE_LDAP_STEWARDS": "(&(uid={user})(title=steward))",
            "LAKE_LDAP_ENGINEERS": "(&(uid={user})(title=engineer))",
            "LAKE_LDAP_AUTHORITIES": str(data / "authorities.pem"),
        }
    finally:
        stack.call(["docker", "rm", "--force", name], timeout=60, check=True)


@pytest.fixture(scope="module")
def endpoint(stack: Stack, directory: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    stack.lake("certificate", "generate", "lake.example.org")
    try:
        restart(stack, **LIMITS, **directory)
        certificate = tmp_path_factory.mktemp("tls") / "certificate.pem"
        certificate.write_text(stack.lake("certificate", "show"))
        yield Endpoint(stack, str(certificate))
    finally:
        stack.lake("certificate", "remove")
        restart(stack)


@pytest.fixture(scope="module")
def over_http(endpoint: Endpoint, directory: dict[str, str]) -> Endpoint:
    """For the last tests here."""
    restart(endpoint.stack, **LIMITS, **directory, LAKE_HTTP="true")
    return replace(endpoint, http=True)


def test_a_query_that_would_read_too_much_is_refused(endpoint: Endpoint) -> None:
    assert endpoint.query("SELECT count(*) FROM gold.readings_enriched WHERE date = DATE '2021-01-02'") == [(4800,)]

    with pytest.raises(meterlake.OperationalError, match=r"^\[LIMIT\] query refused: .* name fewer dates"):
        endpoint.query("SELECT count(*) FROM gold.readings_enriched")


def test_an_analyst_sees_no_numbers_of_small_groups_nor_can_they_be_worked_out(endpoint: Endpoint) -> None:
    for table in ("gold.daily_product_consumption", "mart.daily_by_product"):
        query = f"SELECT date, meterpoint_count, product_display_name, consumption_kwh FROM {table} ORDER BY 1, 3"
        expected: list[tuple[Any, ...]] = []
        hidden: dict[Any, int] = {}
        whole = endpoint.query(query, user="engineer")
        for date, count, name, kwh in sorted(whole, key=lambda row: row[:3]):
            before = hidden.setdefault(date, 0)
            is_hidden = count > 0 and (count < SMALLEST_GROUP or 0 < before < SMALLEST_GROUP)
            hidden[date] += count * is_hidden
            expected.append((date, None, name, None) if is_hidden else (date, count, name, kwh))
        # What Spark keeps of a session's first statement does not tell the next ones.
        with closing(endpoint.connect(certificate=endpoint.certificate)) as connection:
            for _ in range(3):
                cursor = connection.cursor()
                cursor.execute(query)
                shown = cursor.fetchall()
                assert sorted(shown, key=str) == sorted(expected, key=str)
        assert 0 < sum(row[1] is None for row in shown) < len(shown)
        assert all(count == 0 or count >= SMALLEST_GROUP for count in hidden.values())
    # A filter, a join or a subquery does not see them either.
    small = f"SELECT count(*) FROM gold.daily_product_consumption WHERE meterpoint_count < {SMALLEST_GROUP}"
    assert endpoint.query(small) == [(0,)] != endpoint.query(small, user="engineer")
    joined = """SELECT count(*) FROM gold.daily_product_consumption a JOIN gold.daily_product_consumption b
    USING (date, product_display_name) WHERE a.consumption_kwh IS NULL OR b.consumption_kwh IS NULL"""
    nothing = "SELECT count(*) FROM gold.daily_product_consumption WHERE consumption_kwh IS NULL"
    assert endpoint.query(joined) == endpoint.query(nothing) == endpoint.query(f"SELECT ({nothing})") != [(0,)]


def test_many_rows_are_handed_over_without_being_held(endpoint: Endpoint) -> None:
    rows = endpoint.query("SELECT * FROM gold.readings_enriched WHERE date = DATE '2021-01-02'")

    assert len(rows) == 4800


def test_a_result_that_is_too_large_to_be_held_is_stopped_unless_it_is_asked_for_in_pieces(endpoint: Endpoint) -> None:
    query = "SELECT id FROM range(0, 300000, 1, 64)"

    with pytest.raises(meterlake.OperationalError, match=r"\[LIMIT\] query stopped: its result is larger"):
        endpoint.query(query)
    assert len(endpoint.query("SET spark.sql.thriftServer.incrementalCollect=true", query)) == 300_000


def test_a_result_that_nobody_fetches_is_freed(endpoint: Endpoint) -> None:
    with closing(endpoint.connect(certificate=endpoint.certificate)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT id FROM range(100)")
        time.sleep(20)

        with pytest.raises(exc.OperationalError, match=r"\[LIMIT\] query stopped: nothing was fetched .* for 15 s"):
            cursor.fetchall()
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]


def test_an_idle_connection_is_closed(endpoint: Endpoint) -> None:
    connection = endpoint.connect(certificate=endpoint.certificate)
    connection.cursor().execute("SELECT 1")
    time.sleep(32)  # after 12 hours, where no test says otherwise

    with pytest.raises((TTransportException, OSError, EOFError, exc.Error)):
        connection.cursor().execute("SELECT 1")


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


def test_a_query_that_fills_the_disk_is_stopped_and_others_are_not(endpoint: Endpoint) -> None:
    # Rows that are all different, on their way from task to task.
    different = "SELECT rand() AS number FROM range(0, 60000000, 1, 16)"
    spills = f"SELECT max(rows) FROM (SELECT number, count(*) AS rows FROM ({different}) GROUP BY number)"

    with pytest.raises(meterlake.OperationalError, match=r"\[LIMIT\] query stopped: queries have written more than"):
        endpoint.query(spills)
    assert endpoint.query(SMALL)[0][0] > 0


def test_jdbc_hears_of_the_limit_too(endpoint: Endpoint) -> None:
    # As long as files of the query before are on the disk, whoever asked it is stopped first.
    for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(1), reraise=True):
        with attempt:
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


# Logs in from an address of its own for every few guesses; the last one, with the right password, from another one.
GUESS = """
import json, socket, ssl, struct, sys, time
name, password = json.load(sys.stdin)
tls = ssl.create_default_context()
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
def login(address, password):
    connection = socket.create_connection(("127.0.0.1", 10000), 60, (f"127.0.1.{address}", 0))
    with tls.wrap_socket(connection) as connection:
        for status, payload in ((1, b"PLAIN"), (2, f"\\0{name}\\0{password}".encode())):
            connection.sendall(struct.pack(">BI", status, len(payload)) + payload)
        return connection.recv(1)[0] == 5
print([login(1 + guess // 4, "wrong") for guess in range(12)].count(True))
for pause in (1.1, 2.1, 4.1):
    time.sleep(pause)
    login(100 + int(pause), "wrong")
print(login(200, password))
"""


def test_guesses_from_many_addresses_lock_a_name_for_all_for_less_than_a_minute(endpoint: Endpoint) -> None:
    endpoint.stack.add_user("wanted", "analyst")
    person = json.dumps(["wanted", endpoint.stack.passwords["wanted"]])

    said = endpoint.stack.compose("exec", "-T", "sql-endpoint", "python", "-c", GUESS, stdin=person).stdout

    assert said.split() == ["0", "False"]
    assert endpoint.query("SELECT 1") == [(1,)]
    for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(1), reraise=True):
        with attempt:
            assert endpoint.query("SELECT 1", user="wanted") == [(1,)]


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


# The names of secrets that processes have, and of those that stand on a command line, which others see, too.
SECRETS = """
from contextlib import suppress
from pathlib import Path
def of_processes(what):
    for path in Path("/proc").glob(f"[0-9]*/{what}"):
        with suppress(OSError):  # it has ended meanwhile
            yield path.read_bytes()
lines = b"".join(of_processes("cmdline"))
secrets = dict(each.split(b"=", 1) for each in b"".join(of_processes("environ")).split(b"\\0") if b"=" in each)
secrets = {name: value for name, value in secrets.items() if name.endswith((b"PASSWORD", b"KEY", b"SECRET")) and value}
for name, value in secrets.items():
    print(name.decode(), value in lines)
"""


def test_no_secret_is_on_a_command_line(endpoint: Endpoint) -> None:
    said = endpoint.stack.compose("exec", "-T", "sql-endpoint", "python", "-c", SECRETS).stdout.splitlines()

    assert "LAKE_KEYSTORE_PASSWORD False" in said
    assert not [line for line in said if line.endswith("True")]


def test_people_of_the_directory_have_the_rights_of_their_group(endpoint: Endpoint) -> None:
    assert endpoint.query(SMALL, user="lotte") == endpoint.query(SMALL, user="emil") == endpoint.query(SMALL)
    assert endpoint.query("SELECT count(*) > 0 FROM ops.loads", user="emil") == [(True,)]
    one = "SELECT max(meterpoint_id) FROM gold.active_agreements"
    assert endpoint.query(one, user="sami") == endpoint.query(one, user="emil") != endpoint.query(one, user="lotte")
    with pytest.raises(meterlake.OperationalError, match=r"^\[PERMISSION\]"):
        endpoint.query("SELECT count(*) FROM ops.loads", user="lotte")


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("gast", None),  # known, and in neither group
        ("lotte", "wrong"),
        ("lotte", ""),  # to a directory that is no wrong password, but none
        ("nobody", "wrong"),
        ("", "wrong"),
    ],
)
def test_nobody_else_comes_in_by_the_directory(endpoint: Endpoint, user: str, password: str | None) -> None:
    with pytest.raises(meterlake.OperationalError, match="Error validating the login"):
        endpoint.query("SELECT 1", user=user, password=password)


@pytest.mark.parametrize("name", ["emil ", "emil\\20", "EMIL", "Emil", "emil@elsewhere", "emil/elsewhere"])
def test_a_name_of_the_directory_has_one_spelling(endpoint: Endpoint, name: str) -> None:
    """To a directory the first four are emil, to the Thrift server the others: the guard must know who it is, and whose
    limits hold."""
    with pytest.raises(meterlake.OperationalError, match="Error validating the login"):
        endpoint.query("SELECT 1", user=name, password=endpoint.stack.passwords["emil"])


def test_a_directory_without_a_trusted_certificate_is_told_no_password(
    endpoint: Endpoint, directory: dict[str, str], tmp_path: Path
) -> None:
    authorities = Path(directory["LAKE_LDAP_AUTHORITIES"])
    trusted = authorities.read_text()
    generate(tmp_path / "other.pem", "other.example.org")
    authorities.write_text(public(tmp_path / "other.pem"))  # in place: the container has this very file
    try:
        with pytest.raises(meterlake.OperationalError, match="Error validating the login"):
            endpoint.query("SELECT 1", user="noor")
    finally:
        authorities.write_text(trusted)
    assert endpoint.query("SELECT 1", user="noor") == [(1,)]


def test_over_http_the_same_holds(over_http: Endpoint) -> None:
    assert over_http.query(SMALL) == over_http.query(SMALL, user="lotte")
    assert over_http.beeline(SMALL).split()[-1] == str(over_http.query(SMALL)[0][0])
    with pytest.raises(meterlake.OperationalError, match=r"^\[PERMISSION\]"):
        over_http.query("SELECT count(*) FROM ops.loads")
    with pytest.raises(meterlake.OperationalError, match=r"^\[LIMIT\]"):
        over_http.query("SELECT count(*) FROM gold.readings_enriched")
    with pytest.raises(meterlake.OperationalError, match=r"^\[READ_ONLY\]"):
        over_http.query("DROP TABLE silver.readings")
    with pytest.raises(meterlake.OperationalError, match="certificate verify failed"):
        over_http.connect(certificate=None)
    for user, password in (("analyst", "wrong"), ("analyst", ""), ("nobody", "wrong")):
        with pytest.raises(meterlake.OperationalError, match="wrong user name or password"):
            over_http.connect(certificate=over_http.certificate, user=user, password=password)


def test_over_http_no_key_at_connect_time_shows_a_secret_or_its_value(over_http: Endpoint) -> None:
    with closing(over_http.connect(certificate=over_http.certificate)) as connection:
        # Of one kind: each request is a TLS connection of its own, and the kinds are told apart behind the transport.
        try_all_keys(connection, kinds=("set:hiveconf:",))

    log = over_http.stack.compose("logs", "--no-color", "sql-endpoint").stdout
    assert SECRET not in log and GIVEN not in log


def test_over_http_whoever_has_not_logged_in_keeps_nobody_out(over_http: Endpoint) -> None:
    head = b"POST /cliservice HTTP/1.1\r\nHost: x\r\n"
    # Nothing; half of a header; a body that does not come.
    for first in (b"", head + b"X: y", head + b"Content-Length: 100000000\r\n\r\n"):
        held = [tls_connection(over_http) for _ in range(300)]
        for connection in held:
            with suppress(OSError):
                connection.sendall(first)
        began = time.monotonic()
        assert over_http.query("SELECT 1") == [(1,)]
        assert time.monotonic() - began < 30
        for connection in held:
            connection.close()


def test_over_http_nothing_is_believed_that_is_too_large(over_http: Endpoint) -> None:
    login = b64encode(f"analyst:{over_http.stack.passwords['analyst']}".encode())
    head = b"POST /cliservice HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + login + b"\r\n"
    for request, status in (
        (head + b"X: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
        (head + b"Content-Length: 100000000\r\n\r\n", b"413"),
        # A message's name of two gigabytes.
        (head + b"Content-Length: 8\r\n\r\n\x80\x01\x00\x01\x7f\xff\xff\xff", b"500"),
        (b"POST /cliservice HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"401"),
    ):
        with closing(tls_connection(over_http)) as connection:
            connection.sendall(request)
            answer = connection.recv(10_000)
            assert answer.split(b" ")[1] == status
            # Of more than one line are Jetty's own pages, which name classes.
            assert b"xception" not in answer and answer.split(b"\r\n\r\n")[-1].count(b"\n") <= 1


def tls_connection(endpoint: Endpoint) -> socket.socket:
    context = ssl.create_default_context(cafile=endpoint.certificate)
    context.check_hostname = False
    plain = socket.create_connection(("127.0.0.1", endpoint.stack.sql_port), timeout=30)
    return context.wrap_socket(plain)


def test_over_http_a_user_is_who_the_password_says(over_http: Endpoint) -> None:
    """Not whom a request names besides, and without a cookie that outlives a password."""
    with closing(over_http.connect(certificate=over_http.certificate)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT current_user()")
        assert cursor.fetchall() == [("analyst",)]
        assert "set-cookie" not in {name.lower() for name in connection._transport.headers}
    transport = _as_another(over_http, "engineer")
    with pytest.raises(exc.Error, match=r"substitution is not allowed|\[PERMISSION\]"):
        hive.Connection(thrift_transport=transport).cursor().execute("SELECT count(*) FROM ops.loads")


def _as_another(endpoint: Endpoint, user: str) -> THttpClient:
    """An analyst's transport whose requests ask to act for another user."""
    with closing(endpoint.connect(certificate=endpoint.certificate)) as connection:
        transport = connection._transport
    transport.path += f"?doAs={user}"
    transport.open()
    return transport


def test_sqlalchemy_and_pyhive_read_over_http(over_http: Endpoint) -> None:
    expected = [(count,)] = over_http.query(SMALL)
    url = sqlalchemy.URL.create(
        "meterlake", "analyst", over_http.stack.passwords["analyst"], "127.0.0.1", over_http.stack.sql_port, "gold",
        query={"http": "true", "tls": "true", "certificate": over_http.certificate},
    )  # fmt: skip
    assert pd.read_sql_query(SMALL, sqlalchemy.create_engine(url)).iloc[0, 0] == count
    connection = hive.connect(
        "127.0.0.1", over_http.stack.sql_port, scheme="https", ssl_cert="none", auth="BASIC",
        username="analyst", password=over_http.stack.passwords["analyst"],
    )  # fmt: skip
    with closing(connection):
        cursor = connection.cursor()
        cursor.execute(SMALL)
        assert cursor.fetchall() == expected


def test_the_lakehouses_own_commands_use_http(over_http: Endpoint) -> None:
    shown = over_http.stack.make("-s", "sql", f"Q={SMALL}", LAKE_HTTP="true").stdout
    assert shown.splitlines()[-1] == str(over_http.query(SMALL)[0][0])
