"""One client against all others: whatever a statement or a connection does, other users' queries are answered.

Each attack is made once; with `make siege` all of them, again and again and together, for as long as one likes.
"""

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import pytest
from pyhive.exc import OperationalError
from TCLIService import ttypes
from tenacity import Retrying, stop_after_delay, wait_fixed
from thrift.transport.TTransport import TTransportException

from tests.stack.conftest import Stack

MINUTES = float(os.environ.get("LAKE_SIEGE_MINUTES", 0))
LONGEST_WAIT = 30
RESTARTS = "/var/lib/lake/state/endpoint_restarts"
SMALL = "SELECT count(*) FROM gold.daily_product_consumption WHERE date = DATE '2021-01-02'"
MEDIUM = "SELECT date, count(*), sum(consumption_kwh) FROM silver.readings GROUP BY date ORDER BY date"
DOUBLING = ", ".join(f"c{n} AS (SELECT * FROM c{n - 1} UNION ALL SELECT * FROM c{n - 1})" for n in range(1, 29))
ROLLUP = "ROLLUP (" + ", ".join(f"id + {n}" for n in range(100)) + ")"


def nested(levels: int, select: str, first: str) -> str:
    """A query in a query in a query."""
    for level in range(levels):
        first = f"SELECT {select.format(level, level + 1)} FROM ({first})"
    return first


# What each is told at once.
REFUSED = {
    "partitions of a range": "SELECT count(*) FROM range(0, 1, 1, 5000000)",
    "partitions by a hint": "SELECT /*+ REPARTITION(20000000) */ count(*) FROM silver.readings",
    "names of WITH that double": f"WITH c0 AS (SELECT 1 AS a), {DOUBLING} SELECT count(*) FROM c28",
    "a statement of megabytes": f"SELECT '{'x' * 2_000_000}'",
    "brackets": "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "types": "SELECT cast(NULL AS " + "array<" * 400 + "int" + ">" * 400 + ")",
    "comments": "SELECT " + "/*" * 400 + "*/" * 400 + " 1",
    "brackets behind columns called end": "SELECT " + "1 AS end, " * 20_000 + "(" * 20_000 + "1" + ")" * 20_000,
    "signs": "SELECT " + "NOT " * 400 + "true",
    "other signs": "SELECT " + "!" * 400 + "true",
    "plus signs": "SELECT " + "+ " * 400 + "1",
    "stars that double": f"SELECT count(*) FROM ({nested(24, '*, *', 'SELECT 1 AS a')})",
    "stars of a field that double": f"SELECT s FROM ({nested(24, 'struct(s.*, s.*) AS s', 'SELECT struct(1) AS s')})",
    "columns that double": "SELECT count(*) FROM "
    f"({nested(28, 'a{0} + a{0} AS a{1}', 'SELECT id AS a0 FROM range(9)')}) WHERE a28 > 0",
    "columns of WITH that double": "WITH t0 (a) AS (SELECT id FROM range(9)), "
    + ", ".join(f"t{n} (a) AS (SELECT a + a FROM t{n - 1})" for n in range(1, 29))
    + " SELECT count(*) FROM t28 WHERE a > 0",
    "columns of UNION that double": "WITH t0 AS (SELECT id AS a FROM range(9)), "
    + ", ".join(f"t{n} AS (SELECT 1 AS a UNION ALL SELECT a + a AS b FROM t{n - 1})" for n in range(1, 29))
    + " SELECT count(*) FROM t28 WHERE a > 0",
    "columns that double in one SELECT": "SELECT count(*) FROM (SELECT date AS a0, "
    + ", ".join(f"concat(a{n}, a{n}) AS a{n + 1}" for n in range(28))
    + " FROM silver.readings) WHERE a28 > ''",
    "columns that double along a pipe": "FROM range(9) |> SELECT id AS a"
    + " |> SET a = a + a" * 28
    + " |> WHERE a > 0",
    "columns that double from side to side": "SELECT * FROM range(9), LATERAL (SELECT id + id AS a0)"
    + "".join(f", LATERAL (SELECT a{n} + a{n} AS a{n + 1})" for n in range(28)),
    "structs that double": nested(28, "struct(a, a) AS a", "SELECT 1 AS a"),
    "windows of a second": "SELECT window(current_timestamp(), '1 day', '1 second')",
    "windows that nobody knows": "SELECT window(current_timestamp(), '1 day', concat('1', ' second'))",
    "windows by another name": "SELECT IDENTIFIER('window')(current_timestamp(), '1 day', '1 second')",
    "grouping sets that multiply": f"SELECT count(*) FROM range(1) GROUP BY {ROLLUP}, {ROLLUP}, {ROLLUP}",
    "a cube in grouping sets": f"SELECT 1 FROM range(1) GROUP BY GROUPING SETS ({ROLLUP.replace('ROLLUP', 'CUBE')})",
    "a row of gigabytes": "SELECT repeat('x', 30000000), id FROM range(1)",
    "a CASE of thousands": f"SELECT CASE id {' '.join(f'WHEN {n} THEN {n}' for n in range(10_000))} END FROM range(1)",
    "a map of thousands": "SELECT map(" + ", ".join(f"id + {n}, {n}" for n in range(20_000)) + ") FROM range(1)",
    "rounds without end": "WITH RECURSIVE r MAX RECURSION LEVEL 1000000 AS"
    " (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 900000) SELECT max(n) FROM r",
}
# What ends with an error, sooner or later.
GREEDY = {
    "a list that grows": "SELECT collect_list(a.meterpoint_id) FROM silver.readings a CROSS JOIN silver.readings b",
    "a stack that overflows": "SELECT repeat('a', 1000000) RLIKE '^(a|b)*$', id FROM range(2)",
    "a text of gigabytes": "SELECT length(repeat(repeat('x', 1000000), id + 1500)) FROM range(2)",
    "a constant of gigabytes": "SELECT length(repeat('x', 2000000000))",
    "a constant that is written out": "SELECT repeat('x', 300000000)",
    "an array of a billion": "SELECT max(size(sequence(1, 1000000000 + id))) FROM range(2)",
    "many rows that are held": "SELECT id, repeat('x', 500) FROM range(3000000) ORDER BY id DESC",
}
# Some 40 MB in memory, and next to nothing packed.
HELD = "SELECT id, repeat('x', 500) FROM range(60000)"
STREAM = {"set:hiveconf:spark.sql.thriftServer.incrementalCollect": "true"}
RUNS_LONG = "SELECT count(*) FROM range(0, 1000000000000, 1, 2)"
# Takes two stages of two tasks each, and no time.
NEEDS_CORES = "SELECT id % 3, count(*) FROM range(0, 9, 1, 2) GROUP BY 1"
# Spark works it out while it plans, in a loop that looks at no interrupt.
ENDLESS = f"SELECT '{'a' * 60_000}' RLIKE '(.*a){{12}}b'"
# These take long to come to their end: the first is planned as long as a query may run.
SLOW = {
    "a long AND": "SELECT 1 WHERE " + " AND ".join(["rand() > 0"] * 20_000),
    "three tables": "SELECT * FROM silver.readings a, silver.readings b, silver.readings c",
}
# One row of a table gives a hundred million.
MULTIPLIED = {
    "three tables": SLOW["three tables"],
    "three tables that share few values": "SELECT * FROM silver.readings a JOIN silver.readings b ON a.date = b.date"
    " JOIN silver.readings c ON b.date = c.date",
    "a list for each of a list": "SELECT x, y FROM silver.readings LATERAL VIEW explode(sequence(1, 100000)) AS x"
    " LATERAL VIEW explode(sequence(1, 100000)) AS y",
}


class Victim:
    """Asks a small and a medium query every second, from three connections, and notes how long it waited."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.waits: list[float] = []
        self.wrong: list[Any] = []
        self._ended = threading.Event()
        self._expected = {query: stack.query(query, "engineer") for query in (SMALL, MEDIUM)}
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def _ask(self) -> None:
        connection: Any = None
        while not self._ended.is_set():
            for query, expected in self._expected.items():
                began = time.monotonic()
                while not self._ended.is_set():
                    try:
                        connection = connection or self.stack.connect("engineer")
                        cursor = connection.cursor()
                        cursor.execute(query)
                        rows = cursor.fetchall()
                        break
                    except Exception:
                        connection = None  # it is asked again, and the time counts on
                        time.sleep(0.5)
                else:
                    break
                self.waits.append(time.monotonic() - began)
                if rows != expected:
                    self.wrong.append(rows)
            self._ended.wait(1)

    @contextmanager
    def asking(self) -> Iterator["Victim"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in self._threads:
                thread.join(120)


def told(stack: Stack, statement: str) -> str:
    """The error of a statement, or its result's beginning."""
    try:
        with closing(stack.connect("analyst")) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return f"answered {str(cursor.fetchone())[:60]}"
    except Exception as error:
        status = getattr(error.args[0] if error.args else None, "status", None)
        return str(status.errorMessage if status else repr(error)).splitlines()[0][:200]


def hold_connections(stack: Stack, count: int, first: bytes) -> list[socket.socket]:
    held = []
    for _ in range(count):
        with suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", stack.sql_port), timeout=5)
            connection.sendall(first)
            held.append(connection)
    return held


def test_a_statement_that_asks_for_too_much_is_refused_at_once(stack: Stack) -> None:
    for name, statement in REFUSED.items():
        began = time.monotonic()
        assert told(stack, statement).startswith("[LIMIT]"), name
        assert time.monotonic() - began < LONGEST_WAIT, name


def answered_within(stack: Stack, seconds: float, statement: str = "SELECT 1", times: int = 5) -> None:
    """Somebody else asks, again and again."""
    for _ in range(times):
        began = time.monotonic()
        stack.query(statement, "engineer")
        assert time.monotonic() - began < seconds


@pytest.mark.parametrize("count", [1, 30])
def test_long_queries_of_others_leave_a_core_for_a_short_one(stack: Stack, count: int) -> None:
    """Each of the long ones could have both cores for hours, and was there before."""
    patient = f"patient{count}"
    stack.add_user(patient, "analyst")
    with closing(stack.connect("analyst")) as first, closing(stack.connect(patient)) as second:
        for connection in (first, second):
            request = ttypes.TExecuteStatementReq(connection.sessionHandle, RUNS_LONG, runAsync=True)
            for _ in range(count):
                assert connection.client.ExecuteStatement(request).operationHandle
        time.sleep(5)
        answered_within(stack, 15, NEEDS_CORES)


def test_a_condition_on_dates_that_takes_long_is_nobody_elses_trouble(stack: Stack) -> None:
    """It is worked out for each partition while the query is planned."""
    slow = "levenshtein(repeat('ab', 15000), repeat(string(date), 4000)) < 0"
    statement = f"SELECT count(*) FROM silver.readings_by_layer WHERE {slow}"
    with closing(stack.connect("analyst")) as connection:
        request = ttypes.TExecuteStatementReq(connection.sessionHandle, statement, runAsync=True)
        assert connection.client.ExecuteStatement(request).operationHandle
        time.sleep(1)
        answered_within(stack, 5, MEDIUM)


def test_what_a_client_says_that_it_will_send_takes_no_memory(stack: Stack) -> None:
    """Each says that a statement of 8 MB comes in a frame of 8 MB, and sends 47 bytes."""
    stack.add_user("promiser", "analyst")
    announced = 8 * 1024 * 1024 - 1000
    name = b"ExecuteStatement"
    head = struct.pack(">II", 0x80010001, len(name)) + name + struct.pack(">I", 0)
    head += b"\x0c\x00\x01\x0b\x00\x02" + struct.pack(">I", announced)
    with ExitStack() as stands:
        for _ in range(190):
            connection = stack.connect("promiser")
            stands.callback(connection._transport.close)  # to end the session would wait for an answer
            connection._transport._trans.handle.sendall(
                struct.pack(">I", len(head)) + head + struct.pack(">I", announced) + b"x"
            )
        answered_within(stack, 5, MEDIUM)


def test_very_long_statements_come_some_at_a_time(stack: Stack) -> None:
    listed = ", ".join(map(str, range(0, 200_000, 7)))
    long = f"SELECT id IN ({listed}) FROM range(0, 1000000000000, 1, 2) WHERE id < 0"
    with closing(stack.connect("analyst")) as connection:
        for _ in range(2):
            request = ttypes.TExecuteStatementReq(connection.sessionHandle, long, runAsync=True)
            assert connection.client.ExecuteStatement(request).operationHandle
        for attempt in Retrying(stop=stop_after_delay(20), wait=wait_fixed(1), reraise=True):
            with attempt:
                assert told(stack, long).startswith("[LIMIT] query refused: statements of more than 64 KiB")
        answered_within(stack, LONGEST_WAIT, MEDIUM, times=1)


def test_statements_that_are_given_up_count_until_they_have_ended(stack: Stack) -> None:
    """Dozens of connections begin statements that take memory, and cancel them at once, again and again."""
    stack.add_user("fickle", "analyst")
    ends, lost = time.monotonic() + 30, []

    def give_up() -> None:
        try:
            with closing(stack.connect("fickle")) as connection:
                client = connection.client
                request = ttypes.TExecuteStatementReq(connection.sessionHandle, SLOW["three tables"], runAsync=True)
                while time.monotonic() < ends:
                    handle = client.ExecuteStatement(request).operationHandle
                    time.sleep(0.05)
                    if handle:
                        client.CancelOperation(ttypes.TCancelOperationReq(handle))
                        client.CloseOperation(ttypes.TCloseOperationReq(handle))
        except Exception as error:
            lost.append(repr(error))

    threads = [threading.Thread(target=give_up) for _ in range(60)]
    for thread in threads:
        thread.start()
    try:
        while time.monotonic() < ends:
            answered_within(stack, 4 * LONGEST_WAIT, times=1)
    finally:
        for thread in threads:
            thread.join()
    assert lost == []


@pytest.mark.parametrize("statement", MULTIPLIED.values(), ids=MULTIPLIED)
def test_rows_that_multiply_come_one_by_one(stack: Stack, statement: str) -> None:
    assert len(stack.query(f"{statement} LIMIT 20000")) == 20_000


def test_whoever_has_not_logged_in_keeps_nobody_out(stack: Stack) -> None:
    # Nothing; a login of 100 MB that does not come; a status that there is not.
    for first in (b"", b"\x01\x05\xf5\xe1\x00", b"\x09\x00\x00\x00\x01x"):
        held = hold_connections(stack, 600, first)
        # One that comes in the same moment as hundreds of others may be closed with them: clients try again.
        for attempt in Retrying(stop=stop_after_delay(LONGEST_WAIT), wait=wait_fixed(0.5), reraise=True):
            with attempt:
                assert stack.query("SELECT 1", "engineer") == [(1,)]
        for connection in held:
            connection.close()


def test_whoever_has_not_logged_in_does_not_push_the_query_log_away(stack: Stack) -> None:
    """Docker keeps some megabytes of it."""

    def size() -> int:
        return len(stack.compose("logs", "--no-color", "--no-log-prefix", "sql-endpoint").stdout)

    before = size()
    for _ in range(2_000):
        with suppress(OSError), socket.create_connection(("127.0.0.1", stack.sql_port), timeout=5) as connection:
            connection.sendall(b"\x09\x00\x00\x00\x01x")
            connection.recv(100)
    assert size() - before < 2_500_000


def message_of(error: OperationalError) -> str:
    return str(error.args[0].status.errorMessage)


def test_results_that_nobody_fetches_do_not_fill_the_memory(stack: Stack) -> None:
    """The one who holds most loses results, and nobody else does."""
    with closing(stack.connect("engineer")) as modest, closing(stack.connect("analyst")) as greedy:
        cursor = modest.cursor()
        cursor.execute(HELD)
        held = [greedy.cursor() for _ in range(24)]
        for other in held:
            other.execute(HELD)

        # The largest of equal ones is the oldest.
        assert fetched(held[0]).startswith("[LIMIT] query stopped: results that are held in memory take more than the ")
        assert fetched(held[-1]) == "60000 rows"
        assert fetched(cursor) == "60000 rows"


def test_answers_that_nobody_reads_do_not_fill_the_memory(stack: Stack) -> None:
    """One user's connections ask for the same rows, 1.5 GB in all."""
    stack.add_user("mute", "analyst")
    with closing(stack.connect("mute")) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT id, repeat('x', 1500) FROM range(10000)")
        request = ttypes.TFetchResultsReq(cursor._operationHandle, ttypes.TFetchOrientation.FETCH_FIRST, 10_000)
        others = [stack.connect("mute") for _ in range(100)]
        for other in others:
            other.client.send_FetchResults(request)
        for _ in range(3):
            began = time.monotonic()
            assert stack.query("SELECT 1", "engineer") == [(1,)]
            assert time.monotonic() - began < LONGEST_WAIT
            time.sleep(1)
        for other in others:
            other._transport.close()
    # No place is kept for what nobody takes.
    assert len(stack.query("SELECT id FROM range(100)", "mute")) == 100


def test_a_result_that_is_read_meanwhile_is_whole_whatever_its_rows_take(stack: Stack) -> None:
    with closing(stack.connect("analyst", configuration=STREAM)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT id, repeat('x', CAST(id % 7 AS INT) * 100000) FROM range(0, 200, 1, 3)")
        rows = cursor.fetchall()
    assert [(number, len(text)) for number, text in rows] == [(number, number % 7 * 100_000) for number in range(200)]


def test_what_a_user_leaves_open_is_closed_when_it_is_too_much(stack: Stack) -> None:
    """The oldest of it: metadata calls keep their results, too."""
    with closing(stack.connect("analyst")) as connection:
        client, session = connection.client, connection.sessionHandle
        first, *_, last = [client.GetTypeInfo(ttypes.TGetTypeInfoReq(session)).operationHandle for _ in range(310)]

        def fetch(handle: Any) -> Any:
            return client.FetchResults(ttypes.TFetchResultsReq(handle, ttypes.TFetchOrientation.FETCH_NEXT, 10)).status

        for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.5), reraise=True):
            with attempt:
                message = fetch(first).errorMessage
                assert message and message.startswith("[LIMIT] statement closed: more than 300 of analyst were open")
        assert fetch(last).errorMessage is None


def fetched(cursor: Any) -> str:
    try:
        return f"{len(cursor.fetchall())} rows"
    except OperationalError as error:
        return message_of(error)


def test_nobody_has_all_connections_sessions_or_statements(stack: Stack) -> None:
    stack.add_user("crowd", "analyst")
    connections: list[Any] = []
    refused: list[str] = []

    def connect() -> None:
        for _ in range(30):
            try:
                connections.append(stack.connect("crowd"))
            except TTransportException as error:
                refused.append(str(error))

    threads = [threading.Thread(target=connect) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(connections) == 200
    assert {"[LIMIT] 200 connections of crowd are open" in error for error in refused} == {True}
    assert stack.query("SELECT 1", "analyst") == [(1,)]
    # An address has places for more than one user, but not for any number of them.
    others: list[Any] = []
    with pytest.raises(TTransportException, match=r"\[LIMIT\] 350 connections of this address are open"):
        for _ in range(200):
            others.append(stack.connect("analyst"))
    assert 100 < len(others) <= 150
    assert "last_load_id" in stack.make("status").stdout
    for connection in connections[1:] + others:
        connection.close()

    client, session = connections[0].client, connections[0].sessionHandle
    answers = [
        client.OpenSession(ttypes.TOpenSessionReq(ttypes.TProtocolVersion.HIVE_CLI_SERVICE_PROTOCOL_V6))
        for _ in range(200)
    ]
    assert sum(answer.sessionHandle is not None for answer in answers) == 199
    assert answers[-1].status.errorMessage.startswith("[LIMIT] session refused: 200 of crowd are open")

    request = ttypes.TExecuteStatementReq(session, RUNS_LONG, runAsync=True)
    statements = [client.ExecuteStatement(request) for _ in range(66)]
    assert statements[-1].status.errorMessage.startswith("[LIMIT] statement refused: 64 of crowd at once are allowed")
    began = time.monotonic()
    assert stack.query("SELECT 1", "analyst") == [(1,)]
    assert time.monotonic() - began < LONGEST_WAIT
    # All of it ends with the connection.
    connections[0].close()
    for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(1)):
        with attempt:
            assert stack.query("SELECT 1", "crowd") == [(1,)]


def test_what_cannot_be_stopped_ends_the_endpoint_and_its_user_is_limited(stack: Stack) -> None:
    stack.add_user("looper", "analyst")
    refused = {"repeater": "stuck", "glutton": "greedy"}
    for user, why in refused.items():
        stack.add_user(user, "analyst")
        note = f"printf '{int(time.time() * 1000)} {why} {user}\\n%.0s' 1 2 >>{RESTARTS}"
        stack.compose("exec", "-T", "sql-endpoint", "sh", "-c", note)
    connection = stack.connect("looper")
    answer = connection.client.ExecuteStatement(
        ttypes.TExecuteStatementReq(connection.sessionHandle, ENDLESS, runAsync=True)
    )
    time.sleep(3)
    connection.client.CancelOperation(ttypes.TCancelOperationReq(answer.operationHandle))
    cancelled = time.monotonic()
    try:
        # It ends half a minute later, and serves again within a minute.
        while True:
            try:
                connection.client.GetInfo(
                    ttypes.TGetInfoReq(connection.sessionHandle, ttypes.TGetInfoType.CLI_DBMS_NAME)
                )
            except (TTransportException, OSError, EOFError):
                break
            assert time.monotonic() - cancelled < 60
            time.sleep(1)
        ended = time.monotonic()
        assert ended - cancelled > 25
        for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(1)):
            with attempt:
                assert stack.query("SELECT 1", "engineer") == [(1,)]
        print(f"ended {ended - cancelled:.0f} s after the cancel, served {time.monotonic() - ended:.0f} s later")

        log = stack.compose("logs", "--no-color", "--no-log-prefix", "sql-endpoint").stdout
        assert '"culprit":"looper"' in log
        assert '"event":"limited after a restart","user":"looper"' in log
        with closing(stack.connect("looper")) as first, closing(stack.connect("looper")) as second:
            long = ttypes.TExecuteStatementReq(first.sessionHandle, RUNS_LONG, runAsync=True)
            assert first.client.ExecuteStatement(long).operationHandle
            with pytest.raises(OperationalError, match=r"\[LIMIT\] statement refused: 1 of looper at once"):
                second.cursor().execute("SELECT 1")
        for user in refused:
            # The client's first statement is USE.
            with pytest.raises(OperationalError, match=r"\[LIMIT\] statement refused: 2 times within an hour"):
                stack.connect(user)
        assert stack.query("SELECT 1", "analyst") == [(1,)]
    finally:
        stack.compose("exec", "-T", "sql-endpoint", "rm", "-f", RESTARTS, check=False)


def test_greedy_statements_do_not_keep_others_waiting(stack: Stack) -> None:
    attacks = list((GREEDY | SLOW if MINUTES else GREEDY).items())
    ends = time.monotonic() + 60 * MINUTES
    outcomes: dict[str, str] = {}
    with Victim(stack).asking() as victim:
        rounds = 0
        while True:
            for name, statement in attacks:
                since, began = len(victim.waits), time.monotonic()
                answer = told(stack, statement)
                taken, worst = time.monotonic() - began, max(victim.waits[since:], default=0)
                print(f"{name}: {taken:.0f} s, victim at most {worst:.1f} s; {answer}")
                outcomes[name] = answer
            rounds += 1
            random.shuffle(attacks)
            if time.monotonic() >= ends:
                break
        if MINUTES:
            together = [threading.Thread(target=told, args=(stack, statement)) for _, statement in attacks]
            for thread in together:
                thread.start()
            for thread in together:
                thread.join()
        time.sleep(3)
    print(f"{rounds} rounds, {len(victim.waits)} answers, the longest after {max(victim.waits):.1f} s")
    assert victim.wrong == []
    assert max(victim.waits) < LONGEST_WAIT
    assert {name: answer for name, answer in outcomes.items() if not answer.startswith(("[LIMIT]", "answered"))} == {}
