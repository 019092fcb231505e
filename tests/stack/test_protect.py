"""What analysts see of ids: pseudonyms, whatever they ask. Statements are in statements/inference.txt and shown.txt."""

import hmac
import re
from collections.abc import Iterator
from contextlib import closing
from secrets import token_hex
from typing import Any, NamedTuple

import pytest
from pyhive import exc
from tenacity import Retrying, stop_after_delay, wait_fixed

from .conftest import Stack
from .test_guard import lines, sql

INFERENCE = [sql(line) for line in lines("inference.txt")]
SHOWN = [sql(line) for line in lines("shown.txt")]


class Ids(NamedTuple):
    """Of one meterpoint."""

    meterpoint: str
    agreement: int
    account: str
    file: str

    def put_into(self, statement: str) -> str:
        for name, value in self._asdict().items():
            statement = statement.replace(f"{{{name}}}", str(value))
        return statement


INVENTED = Ids("ffffffff00", 4_000_000_000, "A-FFFFFFFF", "readings/ffffffff00.json")


@pytest.fixture(scope="module")
def real(stack: Stack) -> Ids:
    rows = stack.query(
        "SELECT meterpoint_id, agreement_id, account_id, max(source_file) FROM gold.readings_enriched"
        " JOIN silver.readings USING (meterpoint_id, interval_start_utc)"
        " WHERE agreement_id IS NOT NULL GROUP BY ALL ORDER BY 1 LIMIT 1"
    )
    return Ids(*rows[0])


@pytest.fixture(scope="module")
def secrets(stack: Stack) -> set[str]:
    """All ids that are texts. Numbers of agreements, and ids as short as "42", are in other texts by chance."""
    return {
        str(row[0])
        for column, table in (
            ("meterpoint_id", "silver.readings"),
            ("meterpoint_id", "silver.meterpoint"),
            ("account_id", "silver.agreement_history"),
            ("source_file", "silver.readings"),
        )
        for row in stack.query(f"SELECT DISTINCT {column} FROM {table} WHERE length({column}) > 5")
    }


@pytest.fixture(scope="module")
def cursor(stack: Stack) -> Iterator[Any]:
    with closing(stack.connect("analyst", database="gold")) as connection:
        yield connection.cursor()


@pytest.fixture(scope="module")
def steward(stack: Stack) -> Iterator[Any]:
    stack.add_user("steward", "steward")
    with closing(stack.connect("steward", database="gold")) as connection:
        yield connection.cursor()


def answer(cursor: Any, statement: str) -> str:
    """Rows, or the error; without the numbers that Spark gives to columns anew each time."""
    try:
        cursor.execute(statement)
        text = str([column[0] for column in cursor.description or ()]) + str(cursor.fetchall())
    except exc.OperationalError as error:
        text = str(error.args[0].status.errorMessage)
    return text


@pytest.mark.parametrize("statement", INFERENCE)
def test_nothing_tells_an_id_that_there_is_from_one_that_there_is_not(
    cursor: Any, real: Ids, secrets: set[str], statement: str
) -> None:
    of_real, of_invented = (answer(cursor, ids.put_into(statement)) for ids in (real, INVENTED))

    for name, value in real._asdict().items():
        of_real = of_real.replace(str(value), name)
        of_invented = of_invented.replace(str(INVENTED._asdict()[name]), name)
    assert of_real == of_invented
    assert not [secret for secret in secrets if secret in of_real]


@pytest.mark.parametrize("statement", SHOWN)
def test_no_answer_shows_an_id(cursor: Any, secrets: set[str], statement: str) -> None:
    shown = answer(cursor, statement)

    assert "[READ_ONLY]" not in shown
    assert not [secret for secret in secrets if secret in shown]


# Tables of which rows are in memory, and views of them.
IN_MEMORY = (
    "SELECT * FROM silver.agreement",
    "SELECT count(*) FROM silver.readings WHERE date = DATE '2021-01-01' AND length(meterpoint_id) > 2",
    "SELECT * FROM gold.readings_enriched WHERE date = DATE '2021-01-02' ORDER BY ALL",
)


@pytest.mark.parametrize("mode", ["", "EXTENDED", "FORMATTED", "COST", "CODEGEN"])
@pytest.mark.parametrize("statement", IN_MEMORY)
def test_no_plan_shows_a_row(cursor: Any, secrets: set[str], statement: str, mode: str) -> None:
    shown = answer(cursor, statement) and answer(cursor, f"EXPLAIN {mode} {statement}")

    assert "Plan" in shown or "plan" in shown
    # A row is written as words of eight bytes, each a hexadecimal number.
    words = {f"{int.from_bytes(secret.encode()[:8], 'little'):x}" for secret in secrets}
    assert not [secret for secret in secrets | words if secret in shown]


def test_the_key_and_its_place_are_in_no_plan(stack: Stack, cursor: Any) -> None:
    key = stack.secret("LAKE_PSEUDONYM_KEY")
    for statement in (line for line in SHOWN if line.startswith("EXPLAIN")):
        assert key not in answer(cursor, statement)
    assert key not in stack.compose("logs", "--no-color", "sql-endpoint").stdout


def test_a_steward_sees_ids_and_no_more_schemas(steward: Any, real: Ids) -> None:
    steward.execute(f"SELECT count(*) > 0 FROM silver.readings WHERE meterpoint_id = '{real.meterpoint}'")
    assert steward.fetchall() == [(True,)]
    assert answer(steward, "SELECT * FROM ops.loads").startswith("[PERMISSION]")
    assert answer(steward, "DROP TABLE silver.readings").startswith("[READ_ONLY]")


SAME = """SELECT count(*), count(DISTINCT r.meterpoint_id), count(DISTINCT r.agreement_id), sum(r.consumption_kwh),
sum(d.consumption_kwh), count(m.region), count(a.agreement_valid_from)
FROM gold.readings_enriched AS r
JOIN mart.daily_meterpoint_consumption AS d ON d.meterpoint_id = r.meterpoint_id AND d.date = r.date
LEFT JOIN silver.meterpoint AS m ON m.meterpoint_id = r.meterpoint_id
LEFT JOIN silver.agreement AS a ON a.agreement_id = r.agreement_id"""


def test_joins_groups_and_sums_are_those_of_ids(cursor: Any, steward: Any) -> None:
    for statement in (
        SAME,
        "SELECT sum(consumption_kwh) AS kwh FROM silver.readings GROUP BY meterpoint_id ORDER BY kwh",
        "SELECT count(*), sum(consumption_kwh) FROM gold.unknown_meterpoints",
        "SELECT * FROM gold.daily_product_consumption ORDER BY ALL",
    ):
        assert answer(cursor, statement) == answer(steward, statement)


def test_a_pseudonym_is_that_of_one_meterpoint_in_all_tables_and_sessions(stack: Stack, cursor: Any) -> None:
    cursor.execute("SELECT DISTINCT meterpoint_id FROM silver.readings")
    pseudonyms = {row[0] for row in cursor.fetchall()}

    assert all(re.fullmatch("p[0-9a-f]{20}", pseudonym) for pseudonym in pseudonyms)
    assert pseudonyms == {
        row[0] for row in stack.query("SELECT DISTINCT meterpoint_id FROM gold.readings_enriched", "analyst")
    }
    whole = hmac.digest(stack.secret("LAKE_PSEUDONYM_KEY").encode(), b"meterpoint_id", "sha256")
    ids = [row[0] for row in stack.query("SELECT DISTINCT meterpoint_id FROM silver.readings")]
    assert pseudonyms == {"p" + hmac.digest(whole, meterpoint.encode(), "sha256")[:10].hex() for meterpoint in ids}
    one = min(pseudonyms)
    cursor.execute(f"SELECT count(*) > 0 FROM gold.readings_enriched WHERE meterpoint_id = '{one}'")
    assert cursor.fetchall() == [(True,)]
    assert stack.query(f"SELECT count(*) FROM silver.readings WHERE meterpoint_id = '{one}'") == [(0,)]


def test_the_log_says_whose_rows_were_read_and_how(stack: Stack, cursor: Any, steward: Any) -> None:
    mark = token_hex(4)
    cursor.execute(f"SELECT count(*) AS x{mark} FROM gold.readings_enriched")
    steward.execute(f"SELECT count(*) AS x{mark} FROM silver.readings WHERE meterpoint_id = 'a'")
    steward.execute(f"SELECT count(*) AS x{mark} FROM gold.daily_product_consumption")

    for attempt in Retrying(stop=stop_after_delay(20), wait=wait_fixed(1)):
        with attempt:
            analysts, stewards, sums = stack.told(mark)

    assert (analysts["user"], analysts["ids"]) == ("analyst", "pseudonyms")
    assert {"mart.daily_meterpoint_consumption", "silver.readings"} <= set(analysts["ids_of"].split())
    assert (stewards["user"], stewards["ids"], stewards["ids_of"]) == ("steward", "real", "silver.readings")
    assert "ids" not in sums


def test_a_role_changes_at_once(stack: Stack) -> None:
    stack.add_user("changing", "analyst")
    with closing(stack.connect("changing")) as connection, closing(connection.cursor()) as cursor:
        one = "SELECT max(meterpoint_id) FROM silver.readings"
        assert "('p" in answer(cursor, one)
        stack.make("users", "ARGS=role changing steward")
        assert "('p" not in answer(cursor, one)
