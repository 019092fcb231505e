"""Versioned SQL files: applied in order, once, recorded in ops.schema_versions."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import NamedTuple

import pyarrow as pa
import sqlglot
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from jobs import tables
from jobs.errors import LakeError
from jobs.tables import VERSIONS

FOLDERS = ("schema", "mart", "gold")
VIEWS = FOLDERS[-1]
MAKES_OR_DROPS = re.compile(
    r"^(?:(CREATE)\s+(?:OR\s+REPLACE\s+)?|DROP\s+)(TABLE|VIEW|FUNCTION)\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?([\w.]+)",
    re.IGNORECASE | re.MULTILINE,
)


class Version(NamedTuple):
    """A versioned file: V<version>__<name>.sql."""

    folder: str
    version: int
    name: str
    checksum: str  # SHA-256
    sql: str

    @property
    def path(self) -> str:
        """Of its file, from the project's folder on."""
        return f"sql/{self.folder}/V{self.version:03}__{self.name}.sql"


class Subject(NamedTuple):
    """What a statement makes or drops."""

    is_made: bool
    kind: str  # TABLE, VIEW or FUNCTION
    name: str  # schema.name, lower case


class VersionError(LakeError):
    """The SQL files do not go with what was applied."""


def read_versions(sql: Path) -> list[Version]:
    """All versioned files below `sql`, in the order in which they are applied.

    Raises VersionError on a name that is not of the form, or a version that occurs twice.
    """
    versions: list[Version] = []
    for folder in FOLDERS:
        found = []
        for path in (sql / folder).glob("*.sql"):
            match = re.fullmatch(r"V(\d+)__(\w+)\.sql", path.name)
            if not match:
                raise VersionError(f"{folder}/{path.name}: the name must be V<number>__<name>.sql")
            text = path.read_bytes()
            found.append(Version(folder, int(match[1]), match[2], hashlib.sha256(text).hexdigest(), text.decode()))
        found.sort(key=lambda version: version.version)
        for first, second in pairwise(found):
            if first.version == second.version:
                raise VersionError(f"{folder}: {first.name} and {second.name} both have version {first.version}")
        versions += found
    return versions


def pending(versions: list[Version], applied: dict[tuple[str, int], str]) -> list[Version]:
    """The versions that were not applied yet. `applied` maps folder and version to checksum.

    Raises VersionError where an applied file was changed, is gone, or a new one comes before an applied one.
    """
    known = {(version.folder, version.version) for version in versions}
    for folder, number in sorted(set(applied) - known):
        raise VersionError(
            f"{folder}/V{number:03}: was applied, but the file is gone; put it back and add a new version"
        )
    new = []
    for version in versions:
        label = f"{version.folder}/V{version.version:03}__{version.name}.sql"
        checksum = applied.get((version.folder, version.version))
        if checksum is None:
            latest = max((number for folder, number in applied if folder == version.folder), default=0)
            if version.version < latest:
                raise VersionError(f"{label}: is new, but V{latest:03} was applied before; give it a higher number")
            new.append(version)
        elif checksum != version.checksum:
            raise VersionError(f"{label}: was changed after it was applied; undo that and add a new version")
    return new


def statements(sql: str) -> list[str]:
    """The statements of a file, split at the semicolons that end them."""
    tokens = sqlglot.tokenize(sql, read="spark")
    cuts = [token.start for token in tokens if token.token_type == sqlglot.TokenType.SEMICOLON]
    parts = [sql[start:end] for start, end in zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(sql)], strict=True)]
    return [part.strip() for part in parts if sqlglot.tokenize(part, read="spark")]


def apply_versions(
    spark: SparkSession, sql: Path, warehouse: str, before_views: Callable[[], None] = lambda: None
) -> list[Version]:
    """Apply what is pending, and return it; `before_views` is called when the tables are as they are to be.

    A file that was applied in part, by a run that was killed, is applied again: every statement is made to be
    repeatable, or, where it adds a column, is done if the column is there, or if a view has taken the table's place.
    Raises VersionError, which names the file, where a statement is at fault.
    """
    applied: dict[tuple[str, int], str] = {}
    if tables.exists(spark, VERSIONS):
        for folder, location in tables.all_locations(spark, VERSIONS).items():
            rows = tables.read_rows(spark, VERSIONS, {folder: location}).to_pylist()
            applied |= {(folder, row["version"]): row["checksum"] for row in rows}
    versions = read_versions(sql)
    new = pending(versions, applied)
    made = statements_to_run(new, warehouse)
    subjects = (subject_of(statement) for found in made.values() for statement in found)
    views = {subject.name for subject in subjects if subject and subject.is_made and subject.kind == "VIEW"}
    for folder in FOLDERS:
        if folder == VIEWS:
            before_views()
        for version in [version for version in new if version.folder == folder]:
            for statement in made[version]:
                try:
                    spark.sql(statement)
                except AnalysisException as error:
                    if not _was_done(error, statement, views):
                        raise VersionError(f"{version.path}: {str(error).splitlines()[0]}") from error
                tables.forms_changed()
    if new:
        _record(spark, new)
    _repair(spark, versions, warehouse)
    return new


def _was_done(error: AnalysisException, statement: str, views: set[str]) -> bool:
    """Whether a statement failed because a run that was killed had done it. `views` are those that are made later."""
    condition = str(error.getCondition())
    altered = re.match(r"ALTER\s+TABLE\s+([\w.]+)", statement_without_comments(statement), re.IGNORECASE)
    is_view_now = condition.startswith("EXPECT_TABLE_NOT_VIEW") and altered and altered[1].lower() in views
    return bool(is_view_now) or condition in ("FIELD_ALREADY_EXISTS", "COLUMN_ALREADY_EXISTS")


def statements_to_run(versions: list[Version], warehouse: str) -> dict[Version, list[str]]:
    """The statements of versions, without those that make what a later one makes anew or drops, if none in between
    needs it: a new lakehouse does not go through all that older ones were."""
    found = [(version, statement) for version in versions for statement in _statements_of(version, warehouse)]
    kept: dict[Version, list[str]] = {version: [] for version in versions}
    needed: set[str] = set()
    ended: set[str] = set()  # what a later statement makes anew or drops
    for version, statement in reversed(found):
        subject = subject_of(statement)
        if subject and subject.is_made and subject.name in ended - needed:
            continue
        kept[version].insert(0, statement)
        names = set(re.findall(r"\w+\.\w+", statement_without_comments(statement).lower()))
        if subject:
            ended, needed, names = ended | {subject.name}, needed - {subject.name}, names - {subject.name}
        needed |= names
    return kept


def subject_of(statement: str) -> Subject | None:
    """What a statement makes or drops; None if it does neither."""
    found = MAKES_OR_DROPS.match(statement_without_comments(statement))
    return _subject(found) if found else None


def subjects_of(sql: str) -> list[Subject]:
    """What a file makes or drops, in its order, where each statement begins a line: to split it takes ten times as
    long, and each load asks."""
    return list(map(_subject, MAKES_OR_DROPS.finditer(sql)))


def _subject(found: re.Match[str]) -> Subject:
    return Subject(found[1] is not None, found[2].upper(), found[3].lower())


def _statements_of(version: Version, warehouse: str) -> list[str]:
    return statements(Template(version.sql).substitute(warehouse=warehouse))


def _repair(spark: SparkSession, versions: list[Version], warehouse: str) -> None:
    """Make views and functions anew that somebody dropped.

    Raises VersionError where a table is gone: its content cannot be made anew.
    """
    made: dict[str, tuple[Subject, Version]] = {}  # the last to make it, by name
    for version in versions:
        for subject in subjects_of(version.sql):
            if subject.is_made:
                made[subject.name] = subject, version
            else:
                made.pop(subject.name, None)
    there = tables.names(spark, {name.split(".")[0] for name in made})
    for name, (subject, version) in made.items():
        if name not in there:
            if subject.kind == "TABLE":
                raise VersionError(f"table {name} is gone; restore a backup")
            spark.sql([each for each in _statements_of(version, warehouse) if subject_of(each) == subject][-1])


def statement_without_comments(statement: str) -> str:
    """A statement from its first word on."""
    return statement[sqlglot.tokenize(statement, read="spark")[0].start :]


def _record(spark: SparkSession, new: list[Version]) -> None:
    now = datetime.now(UTC)
    write_id = now.strftime("%Y%m%dT%H%M%S%f")
    folders = {version.folder for version in new}
    before = tables.locations(spark, VERSIONS, folders)
    written: tables.Locations = {}
    for folder in folders:
        rows = [version._asdict() | {"applied_at": now} for version in new if version.folder == folder]
        known = tables.read_rows(spark, VERSIONS, {folder: before[folder]} if folder in before else {})
        recorded = pa.concat_tables([known, pa.Table.from_pylist(rows, known.schema)])
        written |= tables.write_rows(spark, recorded, VERSIONS, write_id, folder)
    tables.publish(spark, VERSIONS, written)
