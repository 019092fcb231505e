"""Versioned SQL files: which are applied, in which order, and what is an error."""

import hashlib
from pathlib import Path

import pytest

from jobs.settings import SQL
from jobs.versions import Version, VersionError, pending, read_versions, statements, subject_of, subjects_of


def folder_of(root: Path, *names: str) -> Path:
    """A folder of SQL files, each with its own name as its content."""
    for name in names:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"-- {path.name}\nSELECT 1")
    return root


def applied(versions: list[Version]) -> dict[tuple[str, int], str]:
    """What the lakehouse remembers when these were applied."""
    return {(version.folder, version.version): version.checksum for version in versions}


def labels(versions: list[Version]) -> list[str]:
    return [f"{version.folder}/{version.version}" for version in versions]


def test_versions__should_come_by_folder_then_by_number(tmp_path: Path) -> None:
    names = ["gold/V001__a.sql", "gold/V010__a.sql", "gold/V2__b.sql", "mart/V009__z.sql", "schema/V100__late.sql"]

    versions = read_versions(folder_of(tmp_path, *names))

    assert labels(versions) == ["schema/100", "mart/9", "gold/1", "gold/2", "gold/10"]


def test_version__should_carry_name_text_and_checksum(tmp_path: Path) -> None:
    (version,) = read_versions(folder_of(tmp_path, "gold/V007__daily_totals.sql"))

    text = "-- V007__daily_totals.sql\nSELECT 1"
    assert version == Version("gold", 7, "daily_totals", hashlib.sha256(text.encode()).hexdigest(), text)


def test_other_files_and_folders__should_be_ignored(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "gold/V001__a.sql", "gold/README.md", "scratch/V001__b.sql")

    assert labels(read_versions(root)) == ["gold/1"]


def test_gap_in_numbers__should_be_allowed(tmp_path: Path) -> None:
    versions = read_versions(folder_of(tmp_path, "gold/V001__a.sql", "gold/V003__c.sql"))

    assert labels(pending(versions, {})) == ["gold/1", "gold/3"]


@pytest.mark.parametrize(
    "name", ["V1_a.sql", "v001__a.sql", "V001__a b.sql", "V__a.sql", "a.sql", "V001__.sql", "V1.1__a.sql"]
)
def test_name_of_another_form__should_be_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(VersionError, match=f"gold/{name}: the name must be V<number>__<name>.sql"):
        read_versions(folder_of(tmp_path, f"gold/{name}"))


def test_number_that_occurs_twice__should_be_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="gold: a and b both have version 2") as error:
        read_versions(folder_of(tmp_path, "gold/V002__a.sql", "gold/V02__b.sql"))

    assert "schema" not in str(error.value)


def test_number_in_two_folders__should_be_two_versions(tmp_path: Path) -> None:
    assert len(read_versions(folder_of(tmp_path, "gold/V001__a.sql", "mart/V001__a.sql"))) == 2


def test_applied_versions__should_not_be_pending(tmp_path: Path) -> None:
    versions = read_versions(folder_of(tmp_path, "mart/V005__a.sql", "gold/V001__a.sql", "gold/V002__b.sql"))

    assert pending(versions, applied(versions)) == []
    assert labels(pending(versions, applied(versions[:2]))) == ["gold/2"]
    assert pending(versions, {}) == versions


def test_changed_file__should_be_an_error_that_says_to_add_a_new_version(tmp_path: Path) -> None:
    before = applied(read_versions(folder_of(tmp_path, "gold/V001__a.sql")))
    (tmp_path / "gold/V001__a.sql").write_text("SELECT 2")

    with pytest.raises(
        VersionError, match=r"gold/V001__a\.sql: was changed after it was applied; .* add a new version"
    ):
        pending(read_versions(tmp_path), before)


def test_white_space_that_changed__should_be_a_change(tmp_path: Path) -> None:
    before = applied(read_versions(folder_of(tmp_path, "gold/V001__a.sql")))
    with (tmp_path / "gold/V001__a.sql").open("a") as file:
        file.write("\n")

    with pytest.raises(VersionError, match="changed"):
        pending(read_versions(tmp_path), before)


def test_removed_file__should_be_an_error_that_says_to_add_a_new_version(tmp_path: Path) -> None:
    before = applied(read_versions(folder_of(tmp_path, "gold/V001__a.sql", "gold/V002__b.sql")))
    (tmp_path / "gold/V001__a.sql").unlink()

    with pytest.raises(VersionError, match=r"gold/V001: was applied, but the file is gone; .* add a new version"):
        pending(read_versions(tmp_path), before)


def test_version_inserted_before_an_applied_one__should_be_an_error(tmp_path: Path) -> None:
    before = applied(read_versions(folder_of(tmp_path, "gold/V001__a.sql", "gold/V003__c.sql", "mart/V001__a.sql")))
    folder_of(tmp_path, "gold/V002__b.sql")

    with pytest.raises(VersionError, match=r"gold/V002__b\.sql: is new, but V003 was applied before; .* higher number"):
        pending(read_versions(tmp_path), before)


def test_new_version_in_an_earlier_folder__should_be_pending(tmp_path: Path) -> None:
    before = applied(read_versions(folder_of(tmp_path, "gold/V009__a.sql")))

    assert labels(pending(read_versions(folder_of(tmp_path, "schema/V001__a.sql")), before)) == ["schema/1"]


SPLIT = {
    # text: statements
    "SELECT 1; SELECT 2;": ["SELECT 1", "SELECT 2"],
    "SELECT 1": ["SELECT 1"],
    "": [],
    " ;; \n;": [],
    "-- nothing; at all\n/* here; */": [],
    "SELECT ';' AS a; SELECT 2": ["SELECT ';' AS a", "SELECT 2"],
    "SELECT 'it''s; so'; SELECT 2": ["SELECT 'it''s; so'", "SELECT 2"],
    r"SELECT 'it\'s; so'; SELECT 2": [r"SELECT 'it\'s; so'", "SELECT 2"],
    'SELECT "a; b"; SELECT 2': ['SELECT "a; b"', "SELECT 2"],
    "SELECT `a; b`; SELECT 2": ["SELECT `a; b`", "SELECT 2"],
    "-- first; one\nSELECT 1; -- after; it\nSELECT 2": ["-- first; one\nSELECT 1", "-- after; it\nSELECT 2"],
    "SELECT /* a; b */ 1; SELECT 2": ["SELECT /* a; b */ 1", "SELECT 2"],
    "SELECT 1; -- the end; really": ["SELECT 1"],
    "-- é – 😀; x\nSELECT 'é; 😀'; SELECT 2": ["-- é – 😀; x\nSELECT 'é; 😀'", "SELECT 2"],
    "SELECT '-- no comment'; SELECT '/* nor this; '": ["SELECT '-- no comment'", "SELECT '/* nor this; '"],
}


@pytest.mark.parametrize("text", SPLIT)
def test_statements__should_be_split_at_the_semicolons_that_end_them(text: str) -> None:
    assert statements(text) == SPLIT[text]


def test_files_of_this_repository__should_be_in_form_and_begin_with_a_comment() -> None:
    versions = read_versions(SQL)

    assert labels(pending(versions, {})) == labels(versions)
    assert {version.folder for version in versions} == {"schema", "mart", "gold"}
    for version in versions:
        assert version.sql.startswith("-- "), version.name
        assert statements(version.sql), version.name
        found = [subject for each in statements(version.sql) if (subject := subject_of(each))]
        assert subjects_of(version.sql) == found, version.name
