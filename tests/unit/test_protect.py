"""Which columns have ids, and the key of the pseudonyms that analysts see in their place."""

import re
import stat
from pathlib import Path

import pytest

from jobs.settings import PROJECT, SQL, Settings
from jobs.thrift_server import pseudonym_key

PROTECT = PROJECT / "docker" / "endpoint-guard" / "src" / "lake" / "guard" / "Protect.java"
COLUMN = re.compile(r"^\s+(\w+) (?:[A-Z][A-Z<>, ()0-9]* )?COMMENT '", re.MULTILINE)
# Names that might hold an id of a person, home or contract.
DOUBTFUL = re.compile(r"(^|_)(id|file|files|hash|json|content|detail|note|name|path|account|address|postcode)$")
# Of products, loads, tables, keys of hashes; counts of files.
OPEN = {
    *("product_id", "id", "display_name", "product_display_name", "table_name", "name", "warnings_by_name"),
    "key_id",
    *("load_id", "last_load_id", "publishing_load_id", "rolled_back_load_id", "target_load_id"),
}


def test_each_column_that_may_hold_an_id__should_be_protected_or_known_to_hold_none() -> None:
    listed = re.search(r"IDS =\s*Set.of\(([^)]*)\)", PROTECT.read_text())
    assert listed
    protected = set(re.findall(r'"(\w+)"', listed[1]))
    columns = {column for file in SQL.rglob("*.sql") for column in COLUMN.findall(file.read_text())}

    assert {"meterpoint_id", "agreement_id", "account_id", "source_file"} <= columns & protected
    assert {column for column in columns if DOUBTFUL.search(column)} - protected - OPEN == set()


def test_key__should_be_made_once_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKE_PSEUDONYM_KEY", raising=False)
    settings = Settings(users=tmp_path / "users" / "users.json")

    key = pseudonym_key(settings)

    assert len(key) >= 32 and pseudonym_key(settings) == key
    assert stat.S_IMODE((tmp_path / "users" / "pseudonym.key").stat().st_mode) == 0o600


def test_key__should_be_that_of_the_environment_unless_it_could_be_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(users=tmp_path / "users.json")
    monkeypatch.setenv("LAKE_PSEUDONYM_KEY", "0123456789" * 4)
    assert pseudonym_key(settings) == "0123456789" * 4

    monkeypatch.setenv("LAKE_PSEUDONYM_KEY", "secret")
    with pytest.raises(RuntimeError, match="LAKE_PSEUDONYM_KEY must have 32 characters or more") as error:
        pseudonym_key(settings)
    assert "secret" not in str(error.value)
    assert pseudonym_key(Settings(users=tmp_path / "users.json", pseudonyms=False)) == "secret"


@pytest.mark.parametrize(("name", "value"), [("PSEUDONYMS", "perhaps"), ("MIN_GROUP", "-1"), ("MIN_GROUP", "few")])
def test_setting__should_be_one(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LAKE_{name}", value)
    with pytest.raises(ValueError, match=f"(?i){name}|{name.lower()}"):
        Settings()
