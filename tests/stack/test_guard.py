"""The read-only wall and the door: what is refused, what passes, who gets in. Statements are in statements/*.txt."""

import json
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

import pyspark
import pytest
from pyhive import exc, hive
from TCLIService import ttypes
from tenacity import Retrying, stop_after_delay, wait_fixed
from thrift.Thrift import TMessageType, TType
from thrift.transport.TTransport import TTransportException

from .conftest import Stack

STATEMENTS = Path(__file__).parent / "statements"
SCHEMAS = ("default", "silver", "mart", "gold", "quarantine", "ops")


def lines(name: str) -> list[str]:
    listed = (STATEMENTS / name).read_text().splitlines()
    return [line for line in listed if line and not line.startswith("#")]


def sql(line: str) -> str:
    return line.replace("\\n", "\n").replace("\\t", "\t")


HOSTILE = [(line.split(" ", 1)[0], sql(line.split(" ", 1)[1])) for line in lines("hostile.txt")]
FRIENDLY = [sql(line) for line in lines("friendly.txt")]


def error_of(cursor: Any, statement: str) -> str:
    """The message with which a statement is refused."""
    try:
        cursor.execute(statement)
    except exc.OperationalError as error:
        return str(error.args[0].status.errorMessage)
    pytest.fail(f"passed: {statement}")


def class_of(message: str) -> str:
    found = re.search(r"\[([A-Z_]+)", message)
    return found[1] if found else message


def content(stack: Stack) -> list[list[tuple[Any, ...]]]:
    """All that a hostile statement might have changed."""
    listed = [stack.query(f"SHOW TABLES IN {schema}") for schema in SCHEMAS]
    functions = stack.query("SHOW USER FUNCTIONS IN gold")
    readings = stack.query("SELECT count(*), sum(consumption_kwh) FROM silver.readings")
    return [stack.query("SHOW SCHEMAS"), *listed, functions, readings]


@pytest.fixture(scope="module")
def before(stack: Stack) -> list[list[tuple[Any, ...]]]:
    return content(stack)


@pytest.fixture(scope="module")
def cursor(stack: Stack) -> Iterator[Any]:
    with closing(stack.connect("analyst", database="gold")) as connection:
        yield connection.cursor()


def test_schemas_that_are_shown_are_those_that_may_be_read(stack: Stack) -> None:
    for user, expected in (("analyst", {"default", "gold", "mart", "silver"}), ("engineer", {"default", *SCHEMAS})):
        with closing(stack.connect(user)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("SHOW SCHEMAS")
            shown = {row[0] for row in cursor.fetchall()}
            cursor.execute("SHOW DATABASES LIKE 'q*|o*|g*'")
            some = {row[0] for row in cursor.fetchall()}
        assert shown == expected
        assert some == {name for name in expected if name[0] in "qog"}


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize(("error_class", "statement"), HOSTILE)
def test_hostile_statement_is_refused(cursor: Any, error_class: str, statement: str) -> None:
    message = error_of(cursor, statement)

    assert class_of(message) == error_class
    if error_class in ("READ_ONLY", "PERMISSION", "LIMIT"):
        assert message.startswith("[") and len(message.splitlines()) == 1


def test_hostile_statements_changed_nothing(stack: Stack, before: list[list[tuple[Any, ...]]]) -> None:
    assert content(stack) == before


@pytest.mark.parametrize("statement", FRIENDLY)
def test_friendly_statement_passes(cursor: Any, statement: str) -> None:
    cursor.execute("USE gold")

    cursor.execute(statement)

    if cursor.description:
        cursor.fetchall()


def test_there_are_enough_statements() -> None:
    assert len(HOSTILE) >= 80 and len(FRIENDLY) >= 60


def test_refused_over_jdbc_as_over_thrift(stack: Stack) -> None:
    hostile = [
        "DROP TABLE silver.readings",
        "ADD JAR /tmp/evil.jar",
        "SELECT reflect('java.lang.System', 'getenv')",
        "SELECT * FROM text.`/etc/hostname`",
        "SET -v",
        "SELECT * FROM ops.loads",
    ]
    statements = [*hostile, "SELECT count(*) > 0 AS passes FROM gold.active_agreements"]
    options = [option for statement in statements for option in ("-e", statement + ";")]

    result = stack.compose(
        "exec", "-T", "sql-endpoint", "beeline", "-u", "jdbc:hive2://127.0.0.1:10000/gold",
        "-n", "analyst", "-p", stack.passwords["analyst"], "--silent=true", *options,
        check=False,
    )  # fmt: skip

    errors = re.findall(r"Error: (?:[\w.]+: )?\[([A-Z_]+)\]", result.stdout + result.stderr)
    assert errors == ["READ_ONLY"] * 5 + ["PERMISSION"]
    assert "true" in result.stdout


def test_variables_are_not_substituted(cursor: Any) -> None:
    cursor.execute("SELECT '${env:AWS_SECRET_ACCESS_KEY}', '${system:user.dir}', '${spark.sql.warehouse.dir}'")

    assert cursor.fetchall() == [
        ("${env:AWS_SECRET_ACCESS_KEY}", "${system:user.dir}", "${spark.sql.warehouse.dir}"),
    ]


# A variable of the endpoint's environment (see short-lived.yaml), and what a client gives.
SECRET, GIVEN = "canary-of-the-endpoint", "canary-of-the-client"
PROTOCOL = ttypes.TProtocolVersion.HIVE_CLI_SERVICE_PROTOCOL_V6
KINDS = ("", "set:", "set:hiveconf:", "set:hivevar:", "set:metaconf:", "set:system:", "set:env:")


def all_keys() -> set[str]:
    """Every key that Spark's and Hive's registries list: constants of these classes."""
    registries = re.compile(r"/(HiveConf|SQLConf|StaticSQLConf|HiveUtils|package|\w*Config)\b.*\.class$")
    key = re.compile(rb"(?:spark|hive|fs|hadoop|mapreduce|javax\.jdo|datanucleus)\.[A-Za-z][\w.-]+\w")
    found: set[bytes] = set()
    for jar in Path(pyspark.__path__[0], "jars").glob("*.jar"):
        if re.match(r"spark-(core|sql|hive|catalyst|common)|hive-common", jar.name):
            with zipfile.ZipFile(jar) as archive:
                for name in filter(registries.search, archive.namelist()):
                    found.update(key.findall(archive.read(name)))
    return {word.decode() for word in found} | {"use:database", "hive.server2.proxy.user", "spark.sql.catalog.evil"}


def test_no_key_at_connect_time_shows_a_secret_or_its_value(stack: Stack) -> None:
    with closing(stack.connect("analyst")) as connection:
        try_all_keys(connection)

    log = stack.compose("logs", "--no-color", "sql-endpoint").stdout
    assert "read-only endpoint: setting" in log
    assert SECRET not in log and GIVEN not in log


def try_all_keys(connection: Any, kinds: tuple[str, ...] = KINDS) -> None:
    """Give every key a value that would show a secret, over an open connection. No answer shows it, or the value."""
    keys = all_keys()
    assert len(keys) > 2000 and {"spark.sql.shuffle.partitions", "hive.metastore.uris"} < keys
    for key in sorted(keys):
        for kind in kinds:
            settings = {kind + key: f"{GIVEN}${{env:LAKE_CANARY}}${{system:java.home}}"}
            request = ttypes.TOpenSessionReq(client_protocol=PROTOCOL, configuration=settings)
            answer = connection.client.OpenSession(request)
            assert answer.sessionHandle is None
            message = answer.status.errorMessage
            assert re.fullmatch(r"\[READ_ONLY\] read-only endpoint: [^\n]* is not allowed", message), message
            assert key[:80] in message
            assert SECRET not in str(answer) and GIVEN not in str(answer) and "/java" not in str(answer)
    with pytest.raises(exc.OperationalError, match="READ_ONLY"):
        overlay = {"spark.sql.shuffle.partitions": "${env:LAKE_CANARY}"}
        request = ttypes.TExecuteStatementReq(connection.sessionHandle, "SELECT 1", confOverlay=overlay)
        hive._check_status(connection.client.ExecuteStatement(request))


def test_metadata_calls_show_an_analyst_nothing_of_other_schemas(stack: Stack) -> None:
    shown = {user: schemas_of_metadata(stack, user) for user in ("analyst", "engineer")}

    assert {"ops", "quarantine", "gold"} <= shown["engineer"]
    assert {"gold", "mart", "silver"} <= shown["analyst"] <= {"gold", "mart", "silver", "default"}


def schemas_of_metadata(stack: Stack, user: str) -> set[str]:
    found: set[str] = set()
    with closing(stack.connect(user)) as connection:
        session = connection.sessionHandle
        for pattern in (
            None,
            "",
            "%",
            "*",
            "ops",
            "op_",
            "OPS",
            "q%",
            "gold|ops",
            "ops|gold",
            "o\\ps",
            "(ops)",
            ".*",
            "[o]ps",
        ):
            for call, request in (
                (connection.client.GetTables, ttypes.TGetTablesReq(session, schemaName=pattern)),
                (connection.client.GetColumns, ttypes.TGetColumnsReq(session, schemaName=pattern)),
            ):
                answer = call(request)
                if answer.operationHandle:
                    rows = ttypes.TFetchResultsReq(answer.operationHandle, ttypes.TFetchOrientation.FETCH_NEXT, 10_000)
                    found.update(connection.client.FetchResults(rows).results.columns[1].stringVal.values)
    return found


def test_calls_that_would_make_a_client_of_the_metastore_are_refused(stack: Stack) -> None:
    with closing(stack.connect("engineer")) as connection:
        session, client = connection.sessionHandle, connection.client
        for answer in (
            client.GetPrimaryKeys(ttypes.TGetPrimaryKeysReq(session, schemaName="gold", tableName="x")),
            client.GetCrossReference(ttypes.TGetCrossReferenceReq(session)),
            client.GetDelegationToken(ttypes.TGetDelegationTokenReq(session, "analyst", "analyst")),
        ):
            assert answer.status.errorMessage.startswith("[READ_ONLY]")


def test_the_endpoint_holds_no_password(stack: Stack) -> None:
    """Not in the environment of any of its processes, nor on their command lines."""
    script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
    held = stack.compose("exec", "-T", "sql-endpoint", "sh", "-c", script, check=False).stdout
    assert "LAKE_SQL_PASSWORD_HASH" in held
    assert stack.secret("LAKE_SQL_PASSWORD") not in held


def test_setting_that_a_driver_gives_at_connect_time_is_taken(stack: Stack) -> None:
    configuration = {"set:hiveconf:hive.server2.thrift.resultset.default.fetch.size": "1000"}

    with closing(stack.connect("analyst", configuration=configuration)) as connection:
        connection.cursor().execute("SELECT 1")


def test_names_in_double_quotes_are_read_where_a_tool_says_that_it_writes_them(stack: Stack) -> None:
    """As Tableau writes them for a source of the dialect SQL-92, and as docs/bi-tools.md tells."""
    views = '"gold"."half_hourly_consumption" "half_hourly_consumption"'
    statements = (
        f'SELECT "half_hourly_consumption"."date" AS "date", SUM("half_hourly_consumption"."consumption_kwh") AS "sum" '
        f'FROM {views} WHERE ("half_hourly_consumption"."date" = DATE \'2021-01-02\') '
        f'GROUP BY "half_hourly_consumption"."date" HAVING (COUNT(1) > 0)',
        f"SELECT * FROM {views} WHERE 1 = 0",
        f'SELECT COUNT(1) AS "n", \'it is "text"\' AS "t" FROM (SELECT * FROM {views} LIMIT 3) "Custom SQL Query"',
    )
    setting = "spark.sql.ansi.doubleQuotedIdentifiers"
    with closing(stack.connect("analyst", configuration={f"set:hiveconf:{setting}": "true"})) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        assert cursor.fetchall() == [(3, 'it is "text"')]
        assert class_of(error_of(cursor, 'SELECT * FROM "ops"."loads"')) == "PERMISSION"
    shown = stack.compose(
        "exec", "-T", "sql-endpoint", "beeline", "-u", f"jdbc:hive2://127.0.0.1:10000/gold?{setting}=true",
        "-n", "analyst", "-p", stack.passwords["analyst"], "--silent=true", "--outputformat=csv2", "-e", statements[-1],
    )  # fmt: skip
    assert "3,it is" in shown.stdout.replace('"', "")


def test_engineers_read_what_analysts_may_not(stack: Stack) -> None:
    loads = "SELECT load_id FROM ops.loads ORDER BY load_id"

    assert stack.query(loads, "engineer") == stack.query(
        "SELECT load_id FROM gold.load_history ORDER BY load_id", "analyst"
    )
    with closing(stack.connect("analyst")) as connection:
        assert class_of(error_of(connection.cursor(), loads)) == "PERMISSION"


def test_engineers_write_nothing_either(stack: Stack) -> None:
    with closing(stack.connect("engineer")) as connection:
        assert class_of(error_of(connection.cursor(), "DROP TABLE ops.loads")) == "READ_ONLY"


def test_what_the_jobs_user_might_create_is_refused_too(stack: Stack) -> None:
    create = """
from jobs.settings import Settings
from jobs.spark import start_session
spark = start_session(Settings())
for statement in (
    "CREATE TABLE silver.outside USING parquet LOCATION 's3a://lake/elsewhere/outside' AS SELECT 1 AS a",
    "CREATE VIEW gold.outside AS SELECT * FROM silver.outside",
    "CREATE VIEW gold.reflects AS SELECT reflect('java.lang.System', 'getProperty', 'user.dir') AS a",
    "CREATE FUNCTION gold.evil AS 'org.apache.hadoop.hive.ql.udf.generic.GenericUDFReflect'",
    "CREATE FUNCTION mart.evil() RETURNS INT RETURN 1",
    "CREATE FUNCTION gold.plus_one(x INT) RETURNS INT RETURN x + 1",
):
    spark.sql(statement)
"""
    drop = (
        create.split("for statement")[0]
        + """
for name in ("VIEW gold.outside", "VIEW gold.reflects", "TABLE silver.outside", "FUNCTION gold.evil",
             "FUNCTION mart.evil", "FUNCTION gold.plus_one"):
    kind, name = name.split()
    spark.sql(f"DROP {kind} IF EXISTS {name}")
"""
    )
    job = ["run", "--rm", "-T", "--no-deps", "--entrypoint", "python", "jobs", "-"]
    try:
        stack.compose(*job, stdin=create)
        with closing(stack.connect("analyst", database="gold")) as connection:
            cursor = connection.cursor()
            for statement in (
                "SELECT * FROM silver.outside",
                "SELECT * FROM outside",
                "SELECT * FROM reflects",
                "SELECT evil('java.lang.System', 'getProperty', 'user.dir')",
                "SELECT gold.evil('java.lang.System', 'getProperty', 'user.dir')",
                "SELECT mart.evil()",
                "SELECT plus_one((SELECT count(*) FROM ops.loads))",
            ):
                error = error_of(cursor, statement)
                # Where the files are outside the warehouse, the object store may say it before the guard does.
                is_refused = class_of(error) in ("READ_ONLY", "PERMISSION") or "AccessDenied" in error
                assert is_refused, (statement, error)
            cursor.execute("SELECT plus_one(1)")
            assert cursor.fetchall() == [(2,)]
    finally:
        stack.compose(*job, stdin=drop)


# --- who gets in -----------------------------------------------------------------------------------------------------


def seconds_until_refused(stack: Stack, user: str, password: str) -> float:
    began = time.monotonic()
    with pytest.raises(TTransportException, match="Error validating the login"):
        stack.connect(user, password)
    return time.monotonic() - began


def test_wrong_password_and_unknown_user_are_refused_alike(stack: Stack) -> None:
    stack.add_user("alike", "analyst")

    began = time.monotonic()
    stack.connect("alike").close()  # the first time, at which its hash is worked out
    right = time.monotonic() - began
    # The quickest of some: what else the machine does only makes them slower.
    wrong = min(seconds_until_refused(stack, "alike", f"guess {guess}") for guess in range(3))
    unknown = min(seconds_until_refused(stack, "nobody", f"guess {guess}") for guess in range(3))

    assert max(wrong, unknown) < 2 * min(wrong, unknown)
    assert wrong < 5 * right


def test_who_asked_what_is_in_the_endpoints_log(stack: Stack) -> None:
    mark = token_hex(4)
    with closing(stack.connect("analyst")) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SELECT\n'{mark}'")
        error_of(cursor, f"SELECT '{mark}' FROM ops.loads")
    seconds_until_refused(stack, mark, "a secret guess")
    stack.lake("sql", "-e", f"SELECT '{mark}'")

    for attempt in Retrying(stop=stop_after_delay(20), wait=wait_fixed(1)):  # Spark tells it a moment later
        with attempt:
            answered, refused, login, own = stack.told(mark)

    assert "a secret guess" not in stack.compose("logs", "--no-color", "sql-endpoint").stdout
    assert login == {"event": "login refused", "user": mark, "address": answered["address"]}
    assert own["user"] == "lake-jobs"
    assert {**answered, "started": "", "seconds": 0, "address": ""} == {
        "event": "query",
        "user": "analyst",
        "address": "",
        "statement": f"SELECT\n'{mark}'",
        "started": "",
        "seconds": 0,
        "end": "done",
    }
    assert re.fullmatch(r"[0-9.]+", answered["address"])
    assert answered["seconds"] < 60
    assert (refused["user"], class_of(refused["end"])) == ("analyst", "PERMISSION")
    assert {"event": "login", "user": "analyst", "address": answered["address"]} in stack.told('"event":"login"')


def test_without_a_password_nobody_gets_in(stack: Stack) -> None:
    with pytest.raises(TTransportException):
        hive.connect("127.0.0.1", stack.sql_port, username="analyst")
    with pytest.raises((TTransportException, OSError)):
        hive.connect("127.0.0.1", stack.sql_port, auth="NOSASL")
    seconds_until_refused(stack, "lake-jobs", "lake-jobs")


def test_no_answer_has_a_stack_trace(stack: Stack) -> None:
    with closing(stack.connect("analyst")) as connection:
        session, client = connection.sessionHandle, connection.client
        answers = [
            client.ExecuteStatement(ttypes.TExecuteStatementReq(session, statement))
            for statement in ("SELECT * FROM nowhere", "SELEC", "DROP TABLE silver.readings", "SELECT 1/0")
        ]
        nothing = ttypes.TOperationHandle(
            ttypes.THandleIdentifier(b"x" * 16, b"y" * 16), ttypes.TOperationType.EXECUTE_STATEMENT, True
        )
        fetch = ttypes.TFetchResultsReq(nothing, ttypes.TFetchOrientation.FETCH_NEXT, 10)
        for answer in (*answers, client.FetchResults(fetch)):
            assert answer.status.statusCode == ttypes.TStatusCode.ERROR_STATUS
            assert answer.status.infoMessages is None
            assert not re.search(r"^\s+at |\.java:|\.scala:", str(answer.status.errorMessage), re.MULTILINE)


def test_what_a_client_calls_itself_is_taken_and_not_logged(stack: Stack) -> None:
    """A call that newer JDBC drivers make, and that the generated client here does not know yet."""
    mark = token_hex(8)
    with closing(stack.connect("analyst")) as connection:
        protocol = connection.client._oprot
        protocol.writeMessageBegin("SetClientInfo", TMessageType.CALL, 0)
        protocol.writeFieldBegin("req", TType.STRUCT, 1)
        protocol.writeFieldBegin("sessionHandle", TType.STRUCT, 1)
        connection.sessionHandle.write(protocol)
        protocol.writeFieldBegin("configuration", TType.MAP, 2)
        protocol.writeMapBegin(TType.STRING, TType.STRING, 1)
        protocol.writeString("ApplicationName")
        protocol.writeString(f"{mark}\n{{}} forged")
        protocol.writeFieldStop()
        protocol.writeFieldStop()
        protocol.writeMessageEnd()
        protocol.trans.flush()
        name, kind, _ = connection.client._iprot.readMessageBegin()
        connection.client._iprot.skip(TType.STRUCT)
        connection.client._iprot.readMessageEnd()
        assert (name, kind) == ("SetClientInfo", TMessageType.REPLY)
        connection.cursor().execute("SELECT 1")
    assert mark not in stack.compose("logs", "--no-color", "sql-endpoint").stdout


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u20ac", "\U0001f600", "\x01", '\\"'])
def test_a_statement_of_any_letters_is_one_line_of_the_log(stack: Stack, letter: str) -> None:
    """Of a line of more than 16 KiB Docker makes two, and neither is JSON: it could not be told who asked."""
    mark = token_hex(8)
    statement = f"SELECT '{mark}', '{letter * 9_000}', nothing"
    with closing(stack.connect("analyst")) as connection, pytest.raises(exc.OperationalError):
        connection.cursor().execute(statement)

    for attempt in Retrying(stop=stop_after_delay(20), wait=wait_fixed(1)):
        with attempt:
            (told,) = stack.told(mark)
    assert told["user"] == "analyst" and " … " in told["statement"]
    assert told["statement"].endswith("', nothing")  # whatever stands before what is asked
    assert len(json.dumps(told, ensure_ascii=False).encode()) < 15_000


@pytest.mark.parametrize(("relation", "count"), [("silver.product", 60), ("gold.readings_enriched", 40)])
def test_many_joins_are_refused_before_they_are_planned(stack: Stack, relation: str, count: int) -> None:
    """The optimiser takes a minute for 250 joins, and nothing can stop it. A view has some of its own."""
    joins = " ".join(f"JOIN {relation} AS a{number} ON true" for number in range(1, count))
    with (
        closing(stack.connect("analyst")) as connection,
        pytest.raises(exc.OperationalError, match=r"\[LIMIT\].*joins"),
    ):
        connection.cursor().execute(f"SELECT count(*) FROM {relation} AS a0 {joins}")


def test_brute_force_is_slowed(stack: Stack) -> None:
    stack.add_user("victim", "analyst")
    for guess in range(20):
        seconds_until_refused(stack, "victim", f"guess {guess}")

    # Now even the right password must wait, so that guesses are not looked at.
    seconds_until_refused(stack, "victim", stack.passwords["victim"])
    # But not from elsewhere: nobody keeps another one out.
    elsewhere = stack.compose(
        "exec", "-T", "sql-endpoint", "beeline", "-u", "jdbc:hive2://127.0.0.1:10000/gold",
        "-n", "victim", "-p", stack.passwords["victim"], "--silent=true", "-e", "SELECT 41 + 1",
    )  # fmt: skip
    assert "42" in elsewhere.stdout
    for attempt in Retrying(stop=stop_after_delay(90), wait=wait_fixed(2)):
        with attempt:
            stack.connect("victim").close()


def test_nobody_can_keep_the_lakehouses_own_commands_out(stack: Stack) -> None:
    for guess in range(6):
        seconds_until_refused(stack, "lake-jobs", f"guess {guess}")

    assert "last_load_id" in stack.make("status").stdout


def test_users_change_without_a_restart(stack: Stack) -> None:
    stack.add_user("brief", "engineer")
    # Closed by nobody: the endpoint ends the sessions.
    cursor = stack.connect("brief").cursor()
    cursor.execute("SELECT count(*) FROM ops.loads")
    old = stack.passwords["brief"]

    stack.passwords["brief"] = stack.make("-s", "users", "ARGS=passwd brief --generate").stdout.strip()
    seconds_until_refused(stack, "brief", old)
    wait_until_ended(cursor)

    cursor = stack.connect("brief").cursor()
    cursor.execute("SELECT count(*) FROM ops.loads")
    stack.make("users", "ARGS=remove brief")
    wait_until_ended(cursor)
    assert "brief" not in stack.make("users").stdout


def wait_until_ended(cursor: Any) -> None:
    """A session ends some seconds after its user was changed."""
    for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(1), reraise=True):
        with attempt:
            try:
                cursor.execute("SELECT 1")
            except exc.OperationalError as error:
                assert re.search("Invalid (Session|Operation)Handle", str(error)), error
            else:
                raise AssertionError("the session is open")


def test_passwords_are_not_stored(stack: Stack) -> None:
    path = "/var/lib/lake/users/users.json"

    stored = stack.compose("exec", "-T", "sql-endpoint", "cat", path).stdout
    mode = stack.compose("exec", "-T", "sql-endpoint", "stat", "-c", "%a", path).stdout.strip()

    assert mode == "600"
    assert "pbkdf2" in stored and not any(password in stored for password in stack.passwords.values())
    denied = stack.compose("exec", "-T", "sql-endpoint", "touch", path, check=False)
    assert "Read-only file system" in denied.stderr
