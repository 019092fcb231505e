"""The file of the SQL endpoint's users, and the command that changes it."""

import base64
import hashlib
import json
import re
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.users import ITERATIONS, Role, UserError, add, change_password, change_role, remove, users

PASSWORD = "correct horse"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "new" / "users.json"
    monkeypatch.setenv("LAKE_USERS", str(path))
    monkeypatch.setattr("jobs.users.ITERATIONS", 1_000)  # these tests are not about slowness
    return path


def is_password(path: Path, name: str, password: str) -> bool:
    """As the endpoint checks it."""
    user = json.loads(path.read_text())["users"][name]
    salt = base64.b64decode(user["salt"])
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, user["iterations"]) == base64.b64decode(user["hash"])


def test_user__should_be_stored_with_role_and_a_salted_slow_hash(path: Path) -> None:
    add(path, "ana", Role.analyst, PASSWORD)
    add(path, "eve", Role.engineer, PASSWORD)

    stored = json.loads(path.read_text())["users"]
    assert users(path) == {"ana": "analyst", "eve": "engineer"}
    assert is_password(path, "ana", PASSWORD) and not is_password(path, "ana", PASSWORD + "!")
    assert stored["ana"]["hash"] != stored["eve"]["hash"]
    assert stored["ana"]["iterations"] == 1_000
    assert ITERATIONS >= 600_000  # as long as no test changes it
    assert PASSWORD not in path.read_text()


def test_file__should_be_the_owners_alone_and_leave_nothing_beside_it(path: Path) -> None:
    add(path, "ana", Role.analyst, PASSWORD)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {entry.name for entry in path.parent.iterdir()} == {"users.json", ".users.json.lock"}


def test_no_file__should_be_no_users(path: Path) -> None:
    assert users(path) == {}


def test_change_of_password__should_keep_the_role(path: Path) -> None:
    add(path, "eve", Role.engineer, PASSWORD)

    change_password(path, "eve", "another password")

    assert users(path) == {"eve": "engineer"}
    assert is_password(path, "eve", "another password")


def test_removed_user__should_be_gone(path: Path) -> None:
    add(path, "ana", Role.analyst, PASSWORD)

    remove(path, "ana")

    assert users(path) == {}


@pytest.mark.parametrize("name", ["", "Ana", "1a", "a b", "a@b", "a/b", "a" * 33, "ana\n", "lake-jobs"])
def test_name_that_will_not_do__should_be_refused(path: Path, name: str) -> None:
    with pytest.raises(UserError):
        add(path, name, Role.analyst, PASSWORD)

    assert not path.exists()


@pytest.mark.parametrize(
    "password", ["", "short", "a" * 201, "with a\x00nul character", "two\nlines of it", "colon: not"]
)
def test_password_that_will_not_do__should_be_refused_and_change_nothing(path: Path, password: str) -> None:
    add(path, "ana", Role.analyst, PASSWORD)
    before = path.read_bytes()

    with pytest.raises(UserError, match="password"):
        change_password(path, "ana", password)

    assert path.read_bytes() == before


def test_second_user_of_a_name__should_be_refused(path: Path) -> None:
    add(path, "ana", Role.analyst, PASSWORD)

    with pytest.raises(UserError, match="already"):
        add(path, "ana", Role.engineer, "another password")

    assert users(path) == {"ana": "analyst"}
    assert is_password(path, "ana", PASSWORD)


def test_unknown_user__should_be_an_error(path: Path) -> None:
    with pytest.raises(UserError, match="no user ana"):
        change_password(path, "ana", PASSWORD)
    with pytest.raises(UserError, match="no user ana"):
        remove(path, "ana")


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"users": '])
def test_file_of_something_else__should_not_be_overwritten(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)

    with pytest.raises(UserError, match=r"users\.json is not a file"):
        add(path, "ana", Role.analyst, PASSWORD)

    assert path.read_text() == content


def test_command__should_read_the_password_from_standard_input(path: Path) -> None:
    done = CliRunner().invoke(app, ["users", "add", "ana"], input=PASSWORD + "\n")

    assert done.exit_code == 0
    assert done.stdout == ""
    assert is_password(path, "ana", PASSWORD)


def test_command__should_print_a_generated_password_and_nothing_else(path: Path) -> None:
    done = CliRunner().invoke(app, ["users", "add", "eve", "--role", "engineer", "--generate"])

    (password,) = done.stdout.splitlines()
    assert len(password) == 20
    assert is_password(path, "eve", password)
    assert users(path) == {"eve": "engineer"}


@pytest.mark.usefixtures("path")
def test_command__should_print_no_password_that_was_not_stored() -> None:
    done = CliRunner().invoke(app, ["users", "passwd", "nobody", "--generate"])

    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["error: there is no user nobody"]


@pytest.mark.usefixtures("path")
def test_command__should_say_so_where_there_is_nobody_to_list() -> None:
    done = CliRunner().invoke(app, ["users", "list"])

    assert (done.exit_code, done.stdout) == (0, "")
    assert re.fullmatch(r"There are no users yet: `.* users add NAME` adds one\.\n", done.stderr)


def test_command__should_list_and_remove(path: Path) -> None:
    add(path, "eve", Role.engineer, PASSWORD)
    add(path, "ana", Role.analyst, PASSWORD)

    listed = CliRunner().invoke(app, ["users", "list"])
    removed = CliRunner().invoke(app, ["users", "remove", "ana"])

    assert listed.stdout == "ana\tanalyst\neve\tengineer\n"
    assert removed.exit_code == 0
    assert users(path) == {"eve": "engineer"}


def test_role__should_change_and_leave_the_password(path: Path) -> None:
    add(path, "ana", Role.analyst, PASSWORD)

    assert CliRunner().invoke(app, ["users", "role", "ana", "steward"]).exit_code == 0

    assert users(path) == {"ana": "steward"}
    assert is_password(path, "ana", PASSWORD)
    with pytest.raises(UserError, match="there is no user eve"):
        change_role(path, "eve", Role.steward)
    assert CliRunner().invoke(app, ["users", "role", "ana", "king"]).exit_code == 2
