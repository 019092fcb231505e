"""Where those are whom a person wants erased."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from jobs import snapshots, tables
from jobs.erasure import state as erasures
from jobs.erasure.state import Pending
from jobs.erasure.who import CONTENT, OF_ROWS, TEXTS, Who, who_of
from jobs.errors import LakeError
from jobs.ledger import loads as ledger
from jobs.ledger import writer as ledger_writer
from jobs.names import with_hints
from jobs.readings.erased import Erased, cut, texts_of, values_of
from jobs.readings.rules import TIME_ZONE, spelling
from jobs.settings import Settings
from jobs.tables import (
    CLAIMS,
    CONTESTED,
    DAILY_METERPOINT,
    LOAD_FILES,
    READINGS,
    Locations,
)

AGREEMENTS = "silver.agreement_history"
MOST_IDS = 1_000  # names and texts are searched for all of them at once


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


@dataclass
class Found:
    """Where ids are: rows that go and names that change, by table and partition."""

    who: Who
    writer: str | None = None  # the load that was the writer then
    parts: dict[str, dict[str, tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))
    places: dict[str, Locations] = field(default_factory=dict)

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
        return {tables.date_of(value) for table in (READINGS, DAILY_METERPOINT) for value in self.parts.get(table, {})}


def find(spark: SparkSession, settings: Settings, request: Request) -> tuple[Pending, Found]:
    """What an erasure would do. Raises Unknown where nothing is known of an id, LakeError where it cannot be done."""
    if ledger.interrupted(spark):
        raise LakeError("a run was killed while it published; `lake run` has to put that right first")
    asked = asked_for(request)
    tenancies = _tenancies(spark, asked["a"]) if asked["a"] else {}
    what = Pending(
        sorted(asked["m"]),
        sorted(asked["a"]),
        [(name, str(first), str(last)) for name, spans in tenancies.items() for first, last in spans],
        erasures.new_erasure(),
        {"at": datetime.now(UTC).isoformat(), "by": request.by, "reason": request.reason},
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
    what.files, what.dates, what.removed = sorted(found.who.files), sorted(found.dates), found.counts()
    return what, found


def asked_for(request: Request) -> dict[str, frozenset[str]]:
    """Ids of meterpoints (m) and accounts (a), in the spelling of the tables. Raises LakeError: none, or too many."""
    kinds = (("m", request.meterpoints), ("a", request.accounts))
    asked = {kind: frozenset(map(spelling, names)) - {""} for kind, names in kinds}
    if not (asked["m"] or asked["a"]):
        raise LakeError("name whom to erase: --meterpoint ID, --account ID or --file FILE")
    if len(asked["m"]) + len(asked["a"]) > MOST_IDS:
        raise LakeError(f"more than {MOST_IDS:,} ids: erase so many at a time")
    return asked


def _tenancies(spark: SparkSession, accounts: frozenset[str]) -> dict[str, list[tuple[date, date]]]:
    """Dates on which agreements of accounts held, by meterpoint, as the newest snapshot that has each agreement says.

    An open one is taken to hold until today. Dates on which a later agreement of another account holds are that one's.
    """
    places = tables.all_locations(spark, AGREEMENTS)
    columns = ("agreement_id", "agreement_valid_from", "agreement_valid_to", "meterpoint_id", "account_id", "load_id")
    held: list[tuple[tuple[str, str], dict[str, Any]]] = []
    today = datetime.now(ZoneInfo(TIME_ZONE)).date()

    def span(row: Mapping[str, Any]) -> tuple[date, date]:
        end = row["agreement_valid_to"]
        last = end - timedelta(days=1) if end and end > date.min else end or today
        return row["agreement_valid_from"], last

    def order(row: Mapping[str, Any]) -> tuple[date, int]:
        return row["agreement_valid_from"], row["agreement_id"]

    def see(value: str, rows: pa.Table) -> None:
        ids = [
            each
            for each in pc.unique(rows["account_id"]).to_pylist()
            if each is not None and spelling(each) in accounts
        ]
        of_ids = pc.is_in(rows["account_id"], pa.array(ids, pa.string()))
        held.extend(((value, row["load_id"] or ""), row) for row in rows.filter(of_ids).to_pylist())

    tables.each_file(spark, AGREEMENTS, places, columns, None, see)
    theirs = {row["agreement_id"]: row for _, row in sorted(held, key=lambda each: each[0])}.values()
    of_these = pc.field("meterpoint_id").isin(pa.array(sorted({row["meterpoint_id"] for row in theirs}), pa.string()))
    others = [
        row
        for row in snapshots.shown_rows(spark, "agreement", of_these, columns).to_pylist()
        if row["account_id"] is None or spelling(row["account_id"]) not in accounts
    ]
    found: dict[str, list[tuple[date, date]]] = defaultdict(list)
    for row in theirs:
        parts = [span(row)]
        for other in others:
            # Of two that hold on a date the later one counts; a corrected one has another account and the same id.
            if other["meterpoint_id"] == row["meterpoint_id"] and order(other) >= order(row):
                begin, end = span(other)
                parts = [each for part in parts for each in (cut(part, (begin, end)) if begin <= end else [part])]
        found[row["meterpoint_id"]] += [part for part in parts if part[0] <= part[1]]
    return {name: sorted(set(spans)) for name, spans in found.items() if spans}


def look(spark: SparkSession, who: Who) -> Found:
    """Find rows and names of `who` in all tables. Readings and claims are read only of dates that claims name."""
    found = Found(who, ledger_writer.writer(spark))
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
            claimed.add(tables.date_of(value))
            who.files.update(filter(None, rows["source_file"].to_pylist()))

    everywhere = tables.all_locations(spark, CLAIMS)
    ids = who.condition((), ("meterpoint_id", "source_file"))
    tables.each_file(spark, CLAIMS, everywhere, ("meterpoint_id", "source_file"), ids, dates_of)
    who.files |= names
    dates = claimed | (named_dates & tables.dates_of(everywhere))
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
        places = tables.of_dates(places, dates)
    places = {value: folder for value, folder in places.items() if not tables.is_empty(folder)}
    is_of_dates = tables.root_and_column(spark, table)[1] == "date"
    found.places[table] = places

    def see(value: str, rows: pa.Table) -> None:
        day = date.fromisoformat(tables.date_of(value)) if is_of_dates else None
        _, removed, changed = found.who.clean(rows, day)
        found.add(table, value, removed, changed)

    only = [*columns, *(name for name in ("date",) if not is_of_dates)]
    tables.each_file(spark, table, places, only, found.who.condition(names, columns), see)


def _ids(spark: SparkSession) -> set[str]:
    """Ids of meterpoints and accounts of the newest snapshot and the newest date, for a hint."""
    found: set[str] = set()
    for table in (AGREEMENTS, DAILY_METERPOINT):
        places = tables.all_locations(spark, table)
        last = max(map(tables.date_of, places), default="")
        newest = {value: folder for value, folder in places.items() if tables.date_of(value) == last}
        rows = tables.read_rows(spark, table, newest, only=("meterpoint_id", "account_id"))
        found |= {each for name in rows.column_names for each in pc.unique(rows[name]).to_pylist() if each}
    return found


def brought_back(spark: SparkSession, erased: Erased) -> Pending:
    """Ids in the tables that were erased."""
    meterpoints: set[str] = set()
    accounts: set[str] = set()
    tenancies: set[tuple[str, str, str]] = set()

    def see(_: str, rows: pa.Table) -> None:
        for name in rows.column_names:
            for text in _values(rows[name]):
                if name == "meterpoint_id":
                    meterpoints.update({text} if erased.has_meterpoint(text) else ())
                    tenancies.update((text, str(first), str(last)) for first, last in erased.spans(text))
                elif name == "account_id":
                    accounts.update({spelling(text)} if erased.has_account(text) else ())
                elif name == "row_json":
                    values = values_of(text)
                    meterpoints.update(spelling(each) for each in values if erased.has_meterpoint(each))
                    accounts.update(spelling(each) for each in values if erased.has_account(each))
                    meterpoints.update(word for each in values for word in erased.words_in(each))
                else:
                    for part in texts_of(text) if name == CONTENT else [text]:
                        meterpoints.update(part[start:end] for start, end, _ in erased.found(part))

    for table in tables.ALL:
        if (columns := _columns_of(spark, table)) and table not in (READINGS, CONTESTED):  # all of which is in claims
            tables.each_file(spark, table, tables.all_locations(spark, table), columns, None, see)
    return Pending(sorted(meterpoints), sorted(accounts), sorted(tenancies))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The different texts, or bytes, of a column, also of lists. Of one name another table may have numbers."""
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
        return []
    return pc.unique(values).drop_null().to_pylist()  # type: ignore[no-any-return]
