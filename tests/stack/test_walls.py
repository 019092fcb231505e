"""The walls behind the guard of the SQL endpoint: with the guard switched off, they stand alone."""

import json

from tests.stack.conftest import REPOSITORY, Stack

SCRIPT = REPOSITORY / "tests" / "stack" / "behind_the_guard.py"
REFUSED = {
    "overwrite an object": "ACCESS_DENIED",
    "write an object": "ACCESS_DENIED",
    "delete an object": "ACCESS_DENIED",
    "read another folder": "ACCESS_DENIED",
    "list another folder": "ACCESS_DENIED",
    "drop a table": "permission denied for table",
    "make a database": "external path",
    "reach the jobs' metastore": "not known",
    "reach the metastore's database": "not known",
    "change the program": "Read-only file system",
    "change the users": "Read-only file system",
    "become root": "Operation not permitted",
}


def test_without_the_guard_the_endpoint_can_still_only_read(stack: Stack) -> None:
    before = stack.query("SELECT count(*), sum(consumption_kwh) FROM silver.readings")

    # The endpoint's own container, of which only the command is another one: no Thrift server, and so no guard.
    run = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "python", "sql-endpoint", "-"]
    said = stack.compose(*run, stdin=SCRIPT.read_text()).stdout

    tried = json.loads(said.splitlines()[-1])
    outcome = tried["outcome"]
    assert [name for name, error in outcome.items() if error is None] == ["read a table", "read an object"]
    assert {name: error for name, error in REFUSED.items() if error not in str(outcome[name])} == {}, outcome
    assert set(outcome) == {"read a table", "read an object", *REFUSED}
    assert tried["secrets"] == ["AWS_SECRET_ACCESS_KEY", "LAKE_SQL_PASSWORD_HASH"]
    assert stack.query("SELECT count(*), sum(consumption_kwh) FROM silver.readings") == before
