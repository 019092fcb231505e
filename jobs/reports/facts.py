"""What the reports say of one load. Kept as a small JSON file beside its page, so that no later load reads the tables
of old loads again."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter

NAMES = 50  # rejected files that a page names


@dataclass(frozen=True)
class Check:
    """An expectation suite that judged a table."""

    table: str
    passed: bool
    evaluated: int
    critical: tuple[str, ...]
    warnings: tuple[str, ...]
    page: str  # path below the reports folder


@dataclass(frozen=True)
class DateChange:
    """What a load did to a date that had readings before. Counts are of readings."""

    date: date
    added: int
    changed: int
    removed: int


@dataclass(frozen=True)
class RejectedFile:
    """A file in quarantine, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class LoadFacts:
    """A load as ops recorded it. Counts are of files and rows of input."""

    load_id: str
    kind: str
    status: str
    started_at: datetime  # UTC
    finished_at: datetime
    files: dict[str, int] = field(default_factory=dict)  # readings and reference files by status
    rows_read: int = 0  # counted file by file
    rows_loaded: int = 0  # counted by the load
    rows_rejected: int = 0
    reference_rows_read: int = 0
    reference_rows_rejected: int = 0
    rejected: dict[str, int] = field(default_factory=dict)  # rows and files by reason
    rejected_files: tuple[RejectedFile, ...] = ()  # the first ones
    first_date: date | None = None
    last_date: date | None = None
    dates: int = 0
    mart_dates: int = 0
    changes: tuple[DateChange, ...] = ()
    snapshot_date: date | None = None
    noticed: dict[str, int] = field(default_factory=dict)  # oddities in files that were loaded, by name
    notes: tuple[str, ...] = ()  # what else was odd
    accepted: tuple[str, ...] = ()
    error: str | None = None
    stages: dict[str, float] = field(default_factory=dict)  # seconds
    checks: tuple[Check, ...] = ()
    undid: str | None = None  # of a rollback: the load that it took away or put back
    in_effect: bool = False  # of a rollback: whether it put that load back
    rolled_back_by: str | None = None

    @property
    def balanced(self) -> bool:
        """Whether every row that was read was loaded or rejected."""
        return self.rows_read == self.rows_loaded + self.rows_rejected

    @property
    def state(self) -> str:
        """The status, unless the load was taken away since."""
        return "rolled back" if self.rolled_back_by else self.status

    @property
    def warnings(self) -> list[str]:
        return [f"{check.table}: {text}" for check in self.checks for text in check.warnings] + list(self.notes)

    @property
    def seconds(self) -> float:
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class Recorded:
    """Rows of the tables of ops, of the days on which some loads ran; dicts by column."""

    loads: Sequence[Mapping[str, Any]]
    # By load: counts (kind, status, files, rows_read, rows_rejected), and names of rejected files.
    files: Mapping[str, Sequence[Mapping[str, Any]]]
    rejected_files: Mapping[str, Sequence[RejectedFile]]
    changes: Mapping[str, Sequence[DateChange]]
    validations: Mapping[str, Sequence[Mapping[str, Any]]]
    rollbacks: Mapping[str, Mapping[str, Any]]


def of_recorded(recorded: Recorded, notes: Mapping[str, Sequence[str]]) -> list[LoadFacts]:
    """The loads in their order. `notes` are what only the run itself knows, by load."""
    loads = sorted(recorded.loads, key=lambda load: str(load["load_id"]))
    return [_of_load(load, recorded, notes.get(load["load_id"], ())) for load in loads]


def _of_load(load: Mapping[str, Any], recorded: Recorded, notes: Sequence[str]) -> LoadFacts:
    load_id = load["load_id"]
    of_files = recorded.files.get(load_id, ())
    readings = [each for each in of_files if each["kind"] != "reference"]
    reference = [each for each in of_files if each["kind"] == "reference"]
    files: dict[str, int] = {}
    for each in of_files:
        files[each["status"]] = files.get(each["status"], 0) + each["files"]
    rollback = recorded.rollbacks.get(load_id, {})
    return LoadFacts(
        load_id=load_id,
        # Of a load by a version that recorded no kinds.
        kind=load["kind"] or ("rollback" if load["status"] == "rollback" else "load"),
        status=load["status"],
        started_at=load["started_at"],
        finished_at=load["finished_at"],
        files=files,
        rows_read=sum(each["rows_read"] or 0 for each in readings),
        rows_loaded=load["readings_loaded"] or 0,
        rows_rejected=load["readings_rejected"] or 0,
        reference_rows_read=sum(each["rows_read"] or 0 for each in reference),
        reference_rows_rejected=sum(each["rows_rejected"] or 0 for each in reference),
        rejected=dict(load["rejected_by_reason"] or ()),
        rejected_files=tuple(recorded.rejected_files.get(load_id, ())[:NAMES]),
        first_date=load["first_date"],
        last_date=load["last_date"],
        dates=load["dates_published"] or 0,
        mart_dates=load["mart_dates_published"] or 0,
        changes=tuple(sorted(recorded.changes.get(load_id, ()), key=lambda change: change.date)),
        snapshot_date=load["snapshot_date"],
        noticed=dict(load["warnings_by_name"] or ()),
        notes=tuple(notes),
        accepted=tuple(load["accepted"] or ()),
        error=load["error"],
        stages=dict(load["stage_seconds"] or ()),
        checks=tuple(
            Check(
                table=row["table_name"],
                passed=row["passed"],
                evaluated=row["expectations"],
                critical=tuple(row["critical_failures"] or ()),
                warnings=tuple(row["warnings"] or ()),
                page=row["page"],
            )
            for row in sorted(recorded.validations.get(load_id, ()), key=lambda row: str(row["table_name"]))
        ),
        undid=rollback.get("target_load_id") or rollback.get("rolled_back_load_id"),
        in_effect=bool(rollback.get("in_effect")),
    )


@cache
def _adapter() -> TypeAdapter[LoadFacts]:
    return TypeAdapter(LoadFacts)


def to_json(facts: LoadFacts) -> str:
    return _adapter().dump_json(facts).decode()


def from_json(text: bytes) -> LoadFacts:
    """Raises ValueError if it is no such load."""
    return _adapter().validate_json(text)


def same_warning(text: str) -> str:
    """What two warnings have in common that differ in their numbers alone."""
    return re.sub(r"\d[\d.,:%]*", "#", text)
