"""Erase meterpoints and accounts: from tables, their older folders, reports, state and, if wished, the landing place.

An erasure is a load of the kind `erase`. What it is to erase is written down before it begins (state.py), so
that the next run finishes one that was killed. Partitions that hold an id are written anew without it and switched,
then all that was replaced is deleted. Nothing before an erasure can be rolled back.
"""

import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from jobs import collect, move, tables, upgrade, versions
from jobs.erasure import state as erasures
from jobs.erasure.files import of_landing, redact_files
from jobs.erasure.find import Found, brought_back, look
from jobs.erasure.state import Pending, State
from jobs.erasure.who import Words, who_of
from jobs.ledger import loads as ledger
from jobs.ledger import writer as ledger_writer
from jobs.ledger.files import forget_known
from jobs.readings.erased import Erased, Stone, alias, stone
from jobs.readings.merge import Changes
from jobs.reports import front
from jobs.settings import SQL, Settings
from jobs.tables import (
    ERASED,
    LOADS,
    READINGS,
    Locations,
)
from jobs.wording import counted

# Of these a partition is a day of loads, and their switches are not recorded.
OF_DAYS = (LOADS, *tables.OF_LOADS)
WRITERS = 4  # each holds a file's rows


def prepare(spark: SparkSession, settings: Settings, tell: Callable[[str], None], *, key_lost: bool = False) -> None:
    """Bring the tables up to date, and finish what was begun. With `key_lost` loads go on without missing keys."""
    move.require_place(spark, settings)
    versions.apply_versions(spark, SQL, settings.warehouse, before_views=lambda: upgrade.run(spark))
    if key_lost:
        count = give_up_key(spark, settings)
        tell(f"{counted(count, 'key')} given up.")
    before_load(spark, settings, tell)


def begin(settings: Settings, what: Pending) -> None:
    """Write down whom it concerns: from now on each run finishes the erasure."""
    erasures.begin(settings.state, what)


def _keep_stones(settings: Settings, what: Pending) -> State:
    """From now on no load brings them back."""
    state = erasures.read(settings.state)
    key = state.key()
    if what.erasure:
        stones = [
            *(stone(key, "meterpoint", name) for name in what.meterpoints),
            *(stone(key, "account", name) for name in what.accounts),
            *(
                stone(key, "tenancy", name, date.fromisoformat(first), date.fromisoformat(last))
                for name, first, last in what.tenancies
            ),
        ]
        state.add(what.erasure, what.said, stones)
        erasures.write(settings.state, state)
    return state


def before_load(spark: SparkSession, settings: Settings, tell: Callable[[str], None]) -> Erased:
    """Finish an erasure that was killed, erase again what a restored backup brought back, and return who was erased.

    Raises KeyLost.
    """
    finish(spark, settings, tell)
    state = erasures.read(settings.state)
    recorded = _recorded(spark)
    missing = {row["key_id"] for row in recorded} - state.keys.keys()
    if missing - state.lost:
        raise erasures.KeyLost(
            "ids were erased here, and the key of their hashes is missing: put"
            f" {erasures.FOLDER}/{erasures.STONES} of LAKE_STATE, or of a backup, back into {settings.state}. Without"
            " it they could come back unseen. If it is lost: `lake erase --key-lost`"
        )
    if missing:
        tell("The key of some erased ids was given up: deliveries may bring these back.")
    known = {(kept.erasure, kept.stone.digest, kept.stone.first_date) for kept in state.stones}
    for row in recorded:
        if (row["erasure"], row["digest"], row["first_date"]) not in known:
            said = {"at": row["erased_at"].isoformat(), "by": row["erased_by"], "reason": row["reason"]}
            state.add(row["erasure"], said, [Stone(**{name: row[name] for name in Stone._fields})])
    if len(known) < len(state.stones):
        erasures.write(settings.state, state)
    in_tables = {(row["erasure"], row["digest"], row["first_date"]) for row in recorded}
    if known - in_tables and not ledger.interrupted(spark):
        erasures.begin(settings.state, brought_back(spark, state.erased()))
        finish(spark, settings, tell)
    return state.erased()


def give_up_key(spark: SparkSession, settings: Settings) -> int:
    """On a person's word loads go on although keys are missing. Returns how many were given up."""
    state = erasures.read(settings.state)
    missing = {row["key_id"] for row in _recorded(spark)} - state.keys.keys() - state.lost
    state.lost |= missing
    erasures.write(settings.state, state)
    return len(missing)


def listed(spark: SparkSession) -> list[dict[str, Any]]:
    """Erasures, the newest first: when, by whom, why, how many ids and rows."""
    found: dict[str, dict[str, Any]] = {}
    for row in _recorded(spark):
        each = found.setdefault(
            row["erasure"],
            {
                "at": f"{row['erased_at']:%Y-%m-%d %H:%M}",
                "by": row["erased_by"],
                "reason": row["reason"],
                "meterpoints": 0,
                "accounts": 0,
                "rows": sum(count for _, count in row["removed"] or ()),
            },
        )
        if row["subject"] != "tenancy":
            each[f"{row['subject']}s"] += 1
    return [found[name] for name in sorted(found, reverse=True)]


def _recorded(spark: SparkSession) -> list[dict[str, Any]]:
    places = tables.all_locations(spark, ERASED) if tables.exists(spark, ERASED) else {}
    if not places:
        return []
    rows: list[dict[str, Any]] = tables.read_rows(
        spark, ERASED, places, ledger.is_of(ledger.recorded_loads(spark))
    ).to_pylist()
    return rows


@dataclass
class Done:
    """What an erasure did."""

    load_id: str
    removed: dict[str, int]
    deleted: list[str] = field(default_factory=list)  # files of the landing place
    remaining: list[tuple[str, str]] = field(default_factory=list)  # that hold them still, and why


def finish(
    spark: SparkSession, settings: Settings, tell: Callable[[str], None], found: Found | None = None
) -> Done | None:
    """Carry out the erasure that was begun, if there is one. What was done of it already is found done.

    Where a load was killed it waits until a run has put that right: that one begins from folders that an erasure does
    not look into, and would delete.
    """
    what = erasures.pending(settings.state)
    if not what or ledger.interrupted(spark):
        return None
    if not found:
        tell("An erasure that was begun is finished first.")
        found = look(spark, who_of(what))
        for table, count in found.counts().items():
            what.removed.setdefault(table, count)
        what.files = sorted({*what.files, *found.who.files})
        erasures.begin(settings.state, what)
    state = _keep_stones(settings, what)
    key = state.key()
    found.who.words = Words(
        [*what.meterpoints, *what.accounts], lambda text: alias(key, unicodedata.normalize("NFC", text))
    )
    started_at = datetime.now(UTC)
    load_id = ledger.begin(spark, found.writer)
    changes = _write(spark, found, load_id)
    new = {table: changes.locations[table] for table in tables.DATA if table in changes.locations}
    # Recorded first: until all is switched, the next run does it again.
    _record(spark, state, what, found, changes, new, load_id, started_at)
    for table in tables.DATA:
        ledger_writer.publish(spark, table, new.get(table, {}), load_id)
    if settings.metastore:
        time.sleep(settings.erase_wait_seconds)  # for queries that began before
    collect.sweep(spark, settings)
    forget_known(spark)
    redact_files(settings, found.who.words)
    front.publish(spark, settings)
    deleted, remaining = of_landing(settings, what) if what.landing else ([], [])
    erasures.end(settings.state, what)
    return Done(load_id, what.removed, deleted, remaining)


@dataclass
class _Written:
    locations: dict[str, Locations] = field(default_factory=lambda: defaultdict(dict))
    changes: dict[date, Changes] = field(default_factory=dict)


def _write(spark: SparkSession, found: Found, load_id: str) -> _Written:
    """Write partitions without them. Those of days of loads are switched at once: they are not recorded."""
    written = _Written()

    def of_partition(table: str, value: str) -> tuple[str, str, str]:
        is_of_dates = tables.root_and_column(spark, table)[1] == "date"
        day = date.fromisoformat(tables.date_of(value)) if is_of_dates else None
        counted = _Counted()

        def clean(rows: pa.Table) -> pa.Table:
            kept, removed, changed = found.who.clean(rows, day)
            if table == READINGS and tables.date_of(value) not in layered:
                counted.add(rows, kept)
            return kept if removed or changed else rows

        live = found.places[table][value]
        folder = load_id if table in tables.DATA else ledger.free_folder(live, load_id)
        place = tables.rewrite(spark, table, value, live, folder, clean)
        if table == READINGS and day and str(day) not in layered:
            written.changes[day] = counted.changes()
        return table, value, place

    def of_layered(day: str) -> tuple[date, Changes]:
        """What the layers have counts together: a row of the base may be one that does not count."""
        layers = {value: each for value, each in found.places[READINGS].items() if tables.date_of(value) == day}
        rows = tables.read_rows(spark, READINGS, layers, only=("meterpoint_id", "consumption_kwh"))
        counted, local_date = _Counted(), date.fromisoformat(day)
        counted.add(rows, found.who.clean(rows, local_date)[0])
        return local_date, counted.changes()

    late = filter(tables.is_late, found.places.get(READINGS, {}))
    layered = tables.dates_of(found.parts.get(READINGS, {})) & tables.dates_of(late)
    jobs = [(table, value) for table, parts in found.parts.items() for value in parts]
    with ThreadPoolExecutor(WRITERS) as pool:
        for table, value, place in pool.map(lambda each: of_partition(*each), jobs):
            written.locations[table][value] = place
        written.changes |= dict(pool.map(of_layered, layered))
    for table in OF_DAYS:
        ledger_writer.publish(spark, table, written.locations.get(table, {}), load_id)
    return written


@dataclass
class _Counted:
    """What goes of a date's readings."""

    before: int = 0
    removed: int = 0
    kwh_before: Decimal = Decimal(0)
    kwh_after: Decimal = Decimal(0)
    meterpoints: set[str] = field(default_factory=set)

    def add(self, rows: pa.Table, kept: pa.Table) -> None:
        self.before += rows.num_rows
        self.removed += rows.num_rows - kept.num_rows
        self.kwh_before += pc.sum(rows["consumption_kwh"].cast(pa.decimal128(18, 6))).as_py() or 0
        self.kwh_after += pc.sum(kept["consumption_kwh"].cast(pa.decimal128(18, 6))).as_py() or 0
        self.meterpoints |= {*pc.unique(rows["meterpoint_id"]).to_pylist()} - {
            *pc.unique(kept["meterpoint_id"]).to_pylist()
        }

    def changes(self) -> Changes:
        return Changes(self.before, 0, 0, self.removed, len(self.meterpoints), self.kwh_before, self.kwh_after)


def _record(
    spark: SparkSession,
    state: State,
    what: Pending,
    found: Found,
    written: _Written,
    new: dict[str, Locations],
    load_id: str,
    started_at: datetime,
) -> None:
    recorded = {(row["erasure"], row["digest"], row["first_date"]) for row in _recorded(spark)}
    rows = [
        kept.stone._asdict()
        | {
            "erasure": kept.erasure,
            "erased_at": datetime.fromisoformat(state.erasures[kept.erasure]["at"]),
            "erased_by": state.erasures[kept.erasure]["by"],
            "reason": state.erasures[kept.erasure]["reason"],
            "removed": [*what.removed.items()],
        }
        for kept in state.stones
        if (kept.erasure, kept.stone.digest, kept.stone.first_date) not in recorded
    ]
    ledger.append_rows(spark, rows, ERASED, load_id)
    replaced = {table: {value: found.places[table][value] for value in parts} for table, parts in new.items()}
    # Where totals stay, how much went of each date is told to nobody: it may be one customer's.
    ledger.append_publications(spark, new, replaced, written.changes if what.restate else {}, load_id)
    ledger.append_change(spark, load_id, "erase", started_at, new)
