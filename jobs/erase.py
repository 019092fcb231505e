"""Erase meterpoints and accounts: from tables, their older folders, reports, state and, if wished, the landing place.

An erasure is a load of the kind `erase`. What it is to erase is written down before it begins (jobs/erasures.py), so
that the next run finishes one that was killed. Partitions that hold an id are written anew without it and switched,
then all that was replaced is deleted. Nothing before an erasure can be rolled back.
"""

import html
import json
import re
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property, reduce
from operator import or_
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs import collect, erasures, landing, tables
from jobs.erasures import Pending, State
from jobs.errors import LakeError
from jobs.ledger import loads as ledger
from jobs.ledger import writer as ledger_writer
from jobs.names import with_hints
from jobs.readings.erased import SHORTEST, Erased, Stone, alias, cut, stone, texts_of, values_of
from jobs.readings.merge import Changes
from jobs.readings.parse import parse_file
from jobs.readings.rules import TIME_ZONE, FileRejected, spelling
from jobs.reports import front
from jobs.settings import Settings
from jobs.tables import (
    CLAIMS,
    CONTESTED,
    DAILY_METERPOINT,
    ERASED,
    LOAD_FILES,
    LOADS,
    READINGS,
    Locations,
)
from jobs.telemetry import logs

AGREEMENTS = "silver.agreement_history"
# What a column can say of an id. A row goes that has one here:
OF_ROWS = ("meterpoint_id", "account_id", "row_json")
# A text has an alias in its place:
TEXTS = ("source_file", "note", "detail", "error", "critical_failures", "warnings")
# A file's bytes go whole:
CONTENT = "content"
# Texts that say nothing of an id. A test sees that every column is in one of these.
OTHERS = (
    *("load_id", "known_from", "brought_by", "kind", "status", "reason", "sha256", "table_name", "page", "folder"),
    *("replaced_folder", "partition_value", "reading_quality", "product_id", "display_name", "product_display_name"),
    *("region", "scheme", "period", "time_from", "time_to", "weekdays", "name", "checksum", "accepted", "erasure"),
    *("subject", "key_id", "digest", "name_digest", "erased_by", "rolled_back_load_id", "target_load_id", "setting"),
    "kept",
)
# Of these a partition is a day of loads, and their switches are not recorded.
OF_DAYS = (LOADS, *tables.OF_LOADS)
FEW_IDS = 50
WRITERS = 4  # each holds a file's rows
LARGEST_TEXT = 256 * 1024 * 1024  # bytes of a file of reports or state


class Unknown(LakeError):
    """Ids that nothing is known of. The message names them: it is for a terminal, and for no log."""


class Request(NamedTuple):
    """What a person asked for."""

    meterpoints: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    reason: str = ""
    by: str = ""
    restate: bool = False
    landing: bool = False


class Words:
    """Ids as they may stand in names and texts, and what takes their place."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names` are ids and their aliases."""
        self.seen: set[str] = set()
        self._names = {variant.lower(): name for name in names for variant in _variants(name)}
        self._aliases = dict(names)
        long, short = (
            [re.escape(each) for each in self._names if (len(each) >= SHORTEST) is is_long] for is_long in (True, False)
        )
        parts = [*sorted(long, key=len, reverse=True), *(f"(?<![^/\"'])(?:{each})(?![^./\"'])" for each in short)]
        self.pattern = re.compile("|".join(parts), re.IGNORECASE) if parts else None
        self.bytes_pattern = re.compile("|".join(parts).encode(), re.IGNORECASE) if parts else None
        # For Arrow, which looks through whole columns: what may be one.
        self.rough = "(?i)" + "|".join([*long, *short]) if parts else None

    def redacted(self, text: str) -> str:
        return self.pattern.sub(self._alias, text) if self.pattern else text

    def _alias(self, found: "re.Match[str]") -> str:
        name = self._names.get(found[0].lower())
        if name is None:
            return "erased"
        self.seen.add(name)
        return self._aliases[name]

    def are_in(self, content: bytes) -> bool:
        found = [match for text in texts_of(content) for match in self.pattern.finditer(text)] if self.pattern else []
        self.seen |= {name for match in found if (name := self._names.get(match[0].lower()))}
        return bool(found)


def _variants(name: str) -> set[str]:
    """An id as JSON, Python, HTML and other systems' Unicode spell it."""
    spelled = {name, unicodedata.normalize("NFD", name)}
    return {
        variant
        for each in spelled
        for variant in (
            each,
            json.dumps(each)[1:-1],
            repr(each)[1:-1],
            html.escape(each),
            html.escape(each, quote=False),
        )
    }


@dataclass
class Who:
    """Whom an erasure concerns, in the spelling of the tables."""

    meterpoints: frozenset[str]
    accounts: frozenset[str]
    tenancies: Mapping[str, list[tuple[date, date]]]
    words: Words
    seen: set[str] = field(default_factory=set)

    @cached_property
    def _of_rows(self) -> pa.Array:
        return pa.array(sorted(self.meterpoints), pa.string())

    def condition(self, names: Collection[str], columns: Collection[str]) -> pc.Expression | None:
        """Which rows to look at; None: all. Parquet's statistics are asked first, if there are few ids."""
        if set(columns) & {"account_id", "row_json", CONTENT, "note", "detail", "error", "critical_failures"}:
            return None
        ids = sorted(self.meterpoints | self.tenancies.keys())
        column = pc.field("meterpoint_id")
        parts = [column == each for each in ids] if len(ids) <= FEW_IDS else [column.isin(pa.array(ids, pa.string()))]
        if names and "source_file" in columns:
            parts.append(pc.field("source_file").isin(pa.array(sorted(names), pa.string())))
        return reduce(or_, parts) if parts else pc.scalar(False)

    def clean(self, rows: pa.Table, day: date | None) -> tuple[pa.Table, int, int]:
        """Rows of a table without theirs, how many went, and in how many an alias took a name's place. `day` is the
        local date of rows that have no column for it."""
        gone = self._gone(rows, day)
        removed = pc.sum(gone).as_py() or 0
        kept = rows.filter(pc.invert(gone)) if removed else rows
        changed = 0
        for name in kept.column_names:
            if name in TEXTS and (texts := self._redacted(kept[name])) is not None:
                changed += (
                    pc.sum(pc.fill_null(pc.not_equal(texts, kept[name]), False)).as_py()
                    if pa.types.is_string(texts.type)
                    else 1
                )
                kept = kept.set_column(kept.column_names.index(name), kept.schema.field(name), texts)
        if CONTENT in kept.column_names:
            held = [value is not None and self.words.are_in(value) for value in kept[CONTENT].to_pylist()]
            if any(held):
                changed += sum(held)
                place = kept.column_names.index(CONTENT)
                emptied = pc.if_else(pa.array(held), pa.scalar(None, pa.binary()), kept[CONTENT])
                kept = kept.set_column(place, kept.schema.field(place), emptied)
        return kept, removed, changed

    def _gone(self, rows: pa.Table, day: date | None) -> pa.Array:
        gone = pa.array([False] * rows.num_rows) if not rows.num_rows else pa.repeat(False, rows.num_rows)
        columns = rows.column_names
        if "meterpoint_id" in columns:
            ids = rows["meterpoint_id"].combine_chunks()
            found = pc.fill_null(pc.is_in(ids, self._of_rows), False)
            self.seen |= set(pc.unique(ids.filter(found)).to_pylist())
            gone = pc.or_(gone, found)
            for name, spans in self.tenancies.items():
                for first, last in spans:
                    gone = pc.or_(
                        gone, pc.and_(pc.fill_null(pc.equal(ids, name), False), _within(rows, day, first, last))
                    )
        if "account_id" in columns and self.accounts:
            ids = rows["account_id"].combine_chunks()
            theirs = [
                each for each in pc.unique(ids).to_pylist() if each is not None and spelling(each) in self.accounts
            ]
            self.seen |= set(map(spelling, theirs))
            gone = pc.or_(gone, pc.fill_null(pc.is_in(ids, pa.array(theirs, pa.string())), False))
        if "row_json" in columns:
            gone = pc.or_(gone, self._says(rows, gone))
        return gone

    def _says(self, rows: pa.Table, gone: pa.Array) -> pa.Array:
        """Rows as they were delivered of which a value is an id, in whatever spelling."""
        names = self.meterpoints | self.accounts
        told = rows["meterpoint_id"].to_pylist() if "meterpoint_id" in rows.column_names else [None] * rows.num_rows
        says = []
        for text, meterpoint, is_gone in zip(rows["row_json"].to_pylist(), told, gone.to_pylist(), strict=True):
            found = (
                set()
                if meterpoint is not None and not is_gone
                else {spelling(each) for each in values_of(text)} & names
            )
            self.seen |= found
            says.append(bool(found))
        return pa.array(says, pa.bool_())

    def _redacted(self, column: pa.ChunkedArray) -> pa.Array | None:
        """The column with aliases; None if it has no id, or no text."""
        if not self.words.rough:
            return None
        if pa.types.is_list(column.type):
            if not any(self.words.pattern.search(text) for text in pc.list_flatten(column).to_pylist() if text):  # type: ignore[union-attr]
                return None
            rows = [
                None if each is None else [self.words.redacted(text) for text in each] for each in column.to_pylist()
            ]
            return pa.array(rows, column.type)
        if not pa.types.is_string(column.type):
            return None
        may_be = pc.unique(column.filter(pc.match_substring_regex(column, self.words.rough))).to_pylist()
        changed = {text: new for text in may_be if text and (new := self.words.redacted(text)) != text}
        if not changed:
            return None
        places = pc.index_in(column, pa.array(list(changed), pa.string()))
        return pc.coalesce(pc.take(pa.array(list(changed.values()), pa.string()), places), column)


def _within(rows: pa.Table, day: date | None, first: date, last: date) -> pa.Array:
    if "date" in rows.column_names:  # of a row without a date nobody can say that it is another's
        dates = rows["date"].combine_chunks()
        return pc.fill_null(pc.and_(pc.greater_equal(dates, first), pc.less_equal(dates, last)), True)
    return pa.repeat(day is not None and first <= day <= last, rows.num_rows)


@dataclass
class Found:
    """Where ids are: rows that go and names that change, by table and partition."""

    who: Who
    parts: dict[str, dict[str, tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))
    places: dict[str, Locations] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)  # names of files that may hold them

    def add(self, table: str, value: str, removed: int, changed: int) -> None:
        if removed or changed:
            before = self.parts[table].get(value, (0, 0))
            self.parts[table][value] = (before[0] + removed, before[1] + changed)

    def counts(self) -> dict[str, int]:
        """Rows that go, or change, by table."""
        return {table: sum(map(sum, parts.values())) for table, parts in sorted(self.parts.items()) if parts}

    @property
    def dates(self) -> set[str]:
        """Dates of which marts have or had something of them."""
        return {*self.parts.get(READINGS, {}), *self.parts.get(DAILY_METERPOINT, {})}


# --- whom, and where -----------------------------------------------------------------------------------------------


def find(spark: SparkSession, settings: Settings, request: Request) -> tuple[Pending, Found]:
    """What an erasure would do. Raises Unknown where nothing is known of an id, LakeError where it cannot be done."""
    if ledger.interrupted(spark):
        raise LakeError("a run was killed while it published; `lake run` has to put that right first")
    asked = {
        kind: frozenset(map(spelling, names)) - {""}
        for kind, names in (("m", request.meterpoints), ("a", request.accounts))
    }
    if not (asked["m"] or asked["a"]):
        raise LakeError("name whom to erase: --meterpoint ID, --account ID or --file FILE")
    tenancies = _tenancies(spark, asked["a"]) if asked["a"] else {}
    what = Pending(
        sorted(asked["m"]),
        sorted(asked["a"]),
        [(name, str(first), str(last)) for name, spans in tenancies.items() for first, last in spans],
        request.restate,
        request.landing,
    )
    who = who_of(what)
    if who.words.redacted(request.reason) != request.reason or who.words.redacted(request.by) != request.by:
        raise LakeError("the reason is kept, and must not name whom it erases")
    found = look(spark, who)
    known = erasures.read(settings.state).erased()
    named = {*asked["m"], *asked["a"]}
    again = {name for name in named if known.has_meterpoint(name) or known.has_account(name)}
    if unknown := named - found.who.seen - found.who.words.seen - again:
        raise Unknown(f"{with_hints(unknown, _ids(spark))}: nothing is known of this id, so nothing was erased")
    what.files, what.removed = sorted(found.files), found.counts()
    return what, found


def who_of(what: Pending) -> Who:
    tenancies: dict[str, list[tuple[date, date]]] = defaultdict(list)
    for name, first, last in what.tenancies:
        tenancies[name].append((date.fromisoformat(first), date.fromisoformat(last)))
    return Who(
        frozenset(what.meterpoints),
        frozenset(what.accounts),
        tenancies,
        Words(dict.fromkeys([*what.meterpoints, *what.accounts], "erased")),
    )


def _tenancies(spark: SparkSession, accounts: frozenset[str]) -> dict[str, list[tuple[date, date]]]:
    """Dates on which agreements of accounts held, by meterpoint, as the newest snapshot that has each agreement says.

    An open one is taken to hold until today. Dates on which an agreement of another account holds that began later are
    that one's.
    """
    places = tables.all_locations(spark, AGREEMENTS)
    columns = ("agreement_id", "agreement_valid_from", "agreement_valid_to", "meterpoint_id", "account_id", "load_id")
    newest: dict[int, tuple[Any, ...]] = {}
    today = datetime.now(ZoneInfo(TIME_ZONE)).date()

    def span(row: Mapping[str, Any]) -> tuple[date, date]:
        end = row["agreement_valid_to"]
        return row["agreement_valid_from"], end - timedelta(days=1) if end else today

    def see(value: str, rows: pa.Table) -> None:
        ids = [
            each
            for each in pc.unique(rows["account_id"]).to_pylist()
            if each is not None and spelling(each) in accounts
        ]
        for row in rows.filter(pc.is_in(rows["account_id"], pa.array(ids, pa.string()))).to_pylist():
            at = (value, row["load_id"] or "")
            if at >= newest.get(row["agreement_id"], (("", ""),))[0]:
                newest[row["agreement_id"]] = (at, row)

    tables.each_file(spark, AGREEMENTS, places, columns, None, see)
    theirs = [row for _, row in newest.values()]
    of_these = pc.field("meterpoint_id").isin(pa.array(sorted({row["meterpoint_id"] for row in theirs}), pa.string()))
    last = {value: places[value] for value in sorted(places)[-1:]}
    others = [
        row
        for row in tables.read_rows(spark, AGREEMENTS, last, of_these, columns).to_pylist()
        if row["account_id"] is None or spelling(row["account_id"]) not in accounts
    ]
    found: dict[str, list[tuple[date, date]]] = defaultdict(list)
    for row in theirs:
        parts = [span(row)]
        for other in others:
            if (
                other["meterpoint_id"] == row["meterpoint_id"]
                and other["agreement_valid_from"] > row["agreement_valid_from"]
            ):
                begin, end = span(other)
                parts = [each for part in parts for each in (cut(part, (begin, end)) if begin <= end else [part])]
        found[row["meterpoint_id"]] += [part for part in parts if part[0] <= part[1]]
    return {name: sorted(set(spans)) for name, spans in found.items() if spans}


def look(spark: SparkSession, who: Who) -> Found:
    """Where they are, in all tables. Of readings and their claims only dates are read on which claims name them."""
    found = Found(who)
    names: set[str] = set()
    named_dates: set[str] = set()

    def names_of(_: str, rows: pa.Table) -> None:
        held = [bool(text and who.words.redacted(text) != text) for text in rows["source_file"].to_pylist()]
        for row in rows.filter(pa.array(held, pa.bool_())).to_pylist():
            names.add(row["source_file"])
            if row["first_date"]:
                days = range((row["last_date"] - row["first_date"]).days + 1)
                named_dates.update(str(row["first_date"] + timedelta(days=each)) for each in days)

    if who.words.rough:
        rough = pc.match_substring_regex(pc.field("source_file"), who.words.rough)
        only = ("source_file", "first_date", "last_date")
        tables.each_file(spark, LOAD_FILES, tables.all_locations(spark, LOAD_FILES), only, rough, names_of)
    claimed: set[str] = set()

    def dates_of(value: str, rows: pa.Table) -> None:
        if rows.num_rows:
            claimed.add(value)
            found.files.update(rows["source_file"].to_pylist())

    everywhere = tables.all_locations(spark, CLAIMS)
    ids = who.condition((), ("meterpoint_id", "source_file"))
    tables.each_file(spark, CLAIMS, everywhere, ("meterpoint_id", "source_file"), ids, dates_of)
    found.files |= names
    dates = claimed | (named_dates & everywhere.keys())
    for table in tables.ALL:
        if columns := _columns_of(spark, table):
            _look_into(spark, table, columns, dates, names, found)
    return found


def _columns_of(spark: SparkSession, table: str) -> list[str]:
    return [name for name in tables.schema(spark, table).names if name in (*OF_ROWS, *TEXTS, CONTENT)]


def _look_into(
    spark: SparkSession, table: str, columns: list[str], dates: set[str], names: set[str], found: Found
) -> None:
    places = tables.all_locations(spark, table)
    if table in (READINGS, CONTESTED, CLAIMS):
        places = {value: folder for value, folder in places.items() if value in dates}
    places = {value: folder for value, folder in places.items() if not tables.is_empty(folder)}
    is_of_dates = tables.root_and_column(spark, table)[1] == "date"
    found.places[table] = places

    def see(value: str, rows: pa.Table) -> None:
        _, removed, changed = found.who.clean(rows, date.fromisoformat(value) if is_of_dates else None)
        found.add(table, value, removed, changed)
        if removed and "source_file" in columns:
            found.files.update(
                filter(None, pc.unique(rows.filter(found.who._gone(rows, None))["source_file"]).to_pylist())
            )

    only = [*columns, *(name for name in ("date",) if not is_of_dates)]
    tables.each_file(spark, table, places, only, found.who.condition(names, columns), see)


def _ids(spark: SparkSession) -> set[str]:
    """Ids of meterpoints and accounts that the newest snapshot has, for a hint."""
    history = tables.all_locations(spark, AGREEMENTS)
    newest = {value: history[value] for value in sorted(history)[-1:]}
    rows = tables.read_rows(spark, AGREEMENTS, newest, only=("meterpoint_id", "account_id"))
    return {each for name in ("meterpoint_id", "account_id") for each in pc.unique(rows[name]).to_pylist() if each}


# --- carry it out --------------------------------------------------------------------------------------------------


def begin(settings: Settings, what: Pending, request: Request) -> None:
    """Write down whom it concerns: from now on no load brings them back, and each run finishes the erasure."""
    state = erasures.read(settings.state)
    key = state.key()
    stones = [
        *(stone(key, "meterpoint", name) for name in what.meterpoints),
        *(stone(key, "account", name) for name in what.accounts),
        *(
            stone(key, "tenancy", name, date.fromisoformat(first), date.fromisoformat(last))
            for name, first, last in what.tenancies
        ),
    ]
    said = {"at": datetime.now(UTC).isoformat(), "by": request.by, "reason": request.reason}
    state.add(erasures.new_erasure(), said, stones)
    erasures.begin(settings.state, what)
    erasures.write(settings.state, state)


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
    if known - in_tables:
        erasures.begin(settings.state, _brought_back(spark, state.erased()))
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


def _brought_back(spark: SparkSession, erased: Erased) -> Pending:
    """Ids in the tables that were erased."""
    meterpoints: set[str] = set()
    accounts: set[str] = set()
    tenancies: set[tuple[str, str, str]] = set()

    def see(_: str, rows: pa.Table) -> None:
        for name in rows.column_names:
            for text in filter(None, pc.unique(rows[name]).to_pylist()):
                if name == "meterpoint_id":
                    meterpoints.update({text} if erased.has_meterpoint(text) else ())
                    tenancies.update((text, str(first), str(last)) for first, last in erased.spans(text))
                elif name == "account_id":
                    accounts.update({spelling(text)} if erased.has_account(text) else ())
                elif name == "row_json":
                    meterpoints.update(spelling(each) for each in values_of(text) if erased.has_meterpoint(each))
                    accounts.update(spelling(each) for each in values_of(text) if erased.has_account(each))
                else:
                    meterpoints.update(text[start:end] for start, end, _ in erased._found(text))

    for table in tables.ALL:
        columns = [name for name in _columns_of(spark, table) if name in (*OF_ROWS, "source_file")]
        if columns and table not in (READINGS, CONTESTED):  # whose ids and names are all in claims
            tables.each_file(spark, table, tables.all_locations(spark, table), columns, None, see)
    return Pending(sorted(meterpoints), sorted(accounts), sorted(tenancies))


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
    """Carry out the erasure that was begun, if there is one. What was done of it already is found done."""
    what = erasures.pending(settings.state)
    if not what:
        return None
    if not found:
        tell("An erasure that was begun is finished first.")
        found = look(spark, who_of(what))
        for table, count in found.counts().items():
            what.removed.setdefault(table, count)
        what.files = sorted({*what.files, *found.files})
        erasures.begin(settings.state, what)
    state = erasures.read(settings.state)
    aliases = _aliases(state, what)
    found.who.words = Words(aliases)
    previous, started_at = ledger_writer.writer(spark), datetime.now(UTC)
    earlier = [*ledger.recorded_loads(spark), *([previous] if previous else [])]
    load_id = ledger_writer.new_load_id(started_at, earlier)
    ledger_writer.become_writer(spark, load_id, after=previous)
    logs.load_id.set(load_id)
    changes = _write(spark, found, load_id)
    dates = found.dates
    new = {table: changes.locations[table] for table in tables.DATA if table in changes.locations}
    # Recorded first: until all is switched, the next run does it again.
    _record(spark, state, what, found, changes, new, load_id, started_at)
    for table in tables.DATA:
        ledger_writer.publish(spark, table, new.get(table, {}), load_id)
    if settings.metastore:
        time.sleep(settings.erase_wait_seconds)  # for queries that began before
    collect.sweep(spark, settings)
    _redact_files(settings, found.who.words)
    front.publish(spark, settings)
    deleted, remaining = _of_landing(settings, what) if what.landing else ([], [])
    erasures.end(settings.state, dates if what.restate else ())
    return Done(load_id, what.removed, deleted, remaining)


def _aliases(state: State, what: Pending) -> dict[str, str]:
    key = state.key()
    return {name: alias(stone(key, "meterpoint", name).name_digest) for name in [*what.meterpoints, *what.accounts]}


@dataclass
class _Written:
    locations: dict[str, Locations] = field(default_factory=lambda: defaultdict(dict))
    changes: dict[date, Changes] = field(default_factory=dict)


def _write(spark: SparkSession, found: Found, load_id: str) -> _Written:
    """Write partitions without them. Those of days of loads are switched at once: they are not recorded."""
    written = _Written()

    def of_partition(table: str, value: str) -> tuple[str, str, str]:
        is_of_dates = tables.root_and_column(spark, table)[1] == "date"
        day = date.fromisoformat(value) if is_of_dates else None
        counted = _Counted()

        def clean(rows: pa.Table) -> pa.Table:
            kept, removed, changed = found.who.clean(rows, day)
            if table == READINGS:
                counted.add(rows, kept)
            return kept if removed or changed else rows

        folder = (
            load_id if table in tables.DATA else ledger.free_folder(spark, table, date.fromisoformat(value), load_id)
        )
        place = tables.rewrite(spark, table, value, found.places[table][value], folder, clean)
        if table == READINGS and day:
            written.changes[day] = counted.changes()
        return table, value, place

    jobs = [(table, value) for table, parts in found.parts.items() for value in parts]
    with ThreadPoolExecutor(WRITERS) as pool:
        for table, value, place in pool.map(lambda each: of_partition(*each), jobs):
            written.locations[table][value] = place
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
    dates = sorted(date.fromisoformat(day) for day in new.get(READINGS, {}))
    load = {
        "status": "published",
        "kind": "erase",
        "started_at": started_at,
        "finished_at": datetime.now(UTC),
        "dates_published": len(dates),
        "mart_dates_published": len(new.get(DAILY_METERPOINT, {})),
        "first_date": min(dates, default=None),
        "last_date": max(dates, default=None),
        "warnings": 0,
    }
    ledger.append_rows(spark, [load], LOADS, load_id)


# --- what is no table ----------------------------------------------------------------------------------------------


def texts(settings: Settings) -> Iterator[Path]:
    """Files of reports, and of state but for the metastore's, and for what an erasure keeps itself."""
    for root in (settings.reports, settings.state):
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            inside = path.relative_to(root).parts[0]
            of_others = root == settings.state and inside in ("metastore", erasures.FOLDER, "warehouse")
            if path.is_file() and not path.is_symlink() and not of_others and path.stat().st_size <= LARGEST_TEXT:
                yield path


def _redact_files(settings: Settings, words: Words) -> None:
    """Write asterisks over ids in pages and logs. In their place, so that whoever appends to a log still can."""
    if not words.bytes_pattern:
        return
    for path in texts(settings):
        content = path.read_bytes()
        hidden = words.bytes_pattern.sub(lambda found: b"*" * len(found[0]), content)
        if hidden != content:
            with path.open("r+b") as file:
                file.write(hidden)


def _of_landing(settings: Settings, what: Pending) -> tuple[list[str], list[tuple[str, str]]]:
    """Delete files that hold theirs alone. Others are a sender's, are not changed, and are named with the reason."""
    file_system, folder = landing.open_folder(settings.landing, settings.s3_endpoint)
    who = who_of(what)
    there = landing.look(file_system, folder)
    wanted = [
        file.source_file
        for file in there.readings
        if file.source_file in what.files or who.words.redacted(file.source_file) != file.source_file
    ]
    deleted, remaining = [], []
    for name in wanted:
        try:
            with landing.open_file(file_system, folder, name, landing.LARGEST_READINGS) as stream:
                others, theirs = _rows_of(name, bytes(stream.read()), who)
            if others:
                if theirs or who.words.redacted(name) != name:
                    remaining.append((name, "it holds others' rows, too"))
            elif theirs:
                file_system.delete_file(f"{folder}/{name}")
                deleted.append(name)
        except FileRejected:
            remaining.append((name, "it cannot be read as a readings file"))
        except OSError as error:
            remaining.append((name, f"it cannot be opened or deleted: {type(error).__name__}"))
    for file in there.reference:
        try:
            with landing.open_file(file_system, folder, file.source_file, landing.LARGEST_REFERENCE) as stream:
                if _in_stream(stream, who.words):
                    remaining.append((file.source_file, "a reference file is replaced by its sender"))
        except OSError as error:
            remaining.append((file.source_file, f"it cannot be opened: {type(error).__name__}"))
    return deleted, remaining


def _rows_of(name: str, content: bytes, who: Who) -> tuple[int, int]:
    """How many rows of a file are others', and how many theirs. Raises FileRejected."""
    parsed = parse_file(name, content, 2**62)
    days = [date(1970, 1, 1) + timedelta(days=int(start) // 86_400_000_000) for start in parsed.good.interval_start]
    rows: list[tuple[str, date | None]] = [*zip(parsed.good.meterpoint_id, days, strict=True)]
    for row in parsed.rejected:
        named = [spelling(each) for each in values_of(row.row_json)]
        day = None if row.date is None else date(1970, 1, 1) + timedelta(days=row.date)
        rows.append((next((each for each in named if each in who.meterpoints or each in who.tenancies), ""), day))
    theirs = sum(
        each in who.meterpoints
        or any(day is None or first <= day <= last for first, last in who.tenancies.get(each, ()))
        for each, day in rows
    )
    return len(rows) - theirs, theirs


def _in_stream(stream: Any, words: Words, piece: int = 16 * 1024 * 1024) -> bool:
    before = b""
    while content := stream.read(piece):
        if words.bytes_pattern and words.bytes_pattern.search(before + content):
            return True
        before = content[-4096:]
    return False


def in_backups(folder: Path, what: Pending) -> list[str]:
    """Names of backups of which a table has one of the ids."""
    who = who_of(what)
    found = []
    for backup in sorted(folder.iterdir()) if folder.is_dir() else ():
        files = sorted((backup / "warehouse").rglob("*.parquet"))
        if any(_is_in(path, who) for path in files):
            found.append(f"{folder.name}/{backup.name}")
    return found


def _is_in(path: Path, who: Who) -> bool:
    try:
        columns = set(pq.read_schema(path).names) & {"meterpoint_id", "account_id"}
        rows = pq.read_table(path, columns=sorted(columns), partitioning=None) if columns else None
    except (OSError, pa.ArrowException):
        return False
    if rows is None:
        return False
    ids = {name: set(filter(None, pc.unique(rows[name]).to_pylist())) for name in columns}
    return bool(
        ids.get("meterpoint_id", set()) & who.meterpoints
        or {spelling(each) for each in ids.get("account_id", set())} & who.accounts
    )
