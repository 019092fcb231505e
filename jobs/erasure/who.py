"""Whom an erasure concerns: which rows are theirs, and where they are named. No Spark, no I/O."""

import html
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, reduce
from operator import or_
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.erasure.state import Pending
from jobs.readings.erased import SHORTEST, texts_of, values_of
from jobs.readings.rules import spelling

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
FEW_IDS = 50


class Words:
    """Ids as they may stand in names and texts, and what takes their place."""

    def __init__(self, names: Iterable[str], alias_of: Callable[[str], str] = lambda _: "erased") -> None:
        """`names` are ids. `alias_of` tells what takes the place of one, as it is spelled where it is found."""
        self.seen: set[str] = set()
        self._names = {variant.lower(): name for name in names for variant in _variants(name)}
        self._alias_of = alias_of
        long, short = (
            [re.escape(each) for each in self._names if (len(each) >= SHORTEST) is is_long] for is_long in (True, False)
        )
        parts = [*sorted(long, key=len, reverse=True), *(f"(?<![^/\"'])(?:{each})(?![^./\"'])" for each in short)]
        self.pattern = re.compile("|".join(parts), re.IGNORECASE) if parts else None
        self.bytes_pattern = re.compile("|".join(parts).encode(), re.IGNORECASE) if parts else None
        words = "|".join(each for each in long if each.isalnum())
        self._words = re.compile(rf"(?<![^\W_])(?:{words})(?![^\W_])", re.IGNORECASE) if words else None
        # For Arrow, which looks through whole columns: what may be one.
        self.rough = "(?i)" + "|".join([*long, *short]) if parts else None

    def redacted(self, text: str) -> str:
        return self.pattern.sub(self._alias, text) if self.pattern else text

    def _alias(self, found: "re.Match[str]") -> str:
        if name := self._names.get(found[0].lower()):
            self.seen.add(name)
        return self._alias_of(found[0])

    def of_words(self, text: str) -> Iterator[str]:
        """Ids that are a word of a text: `MP-1234567` names 1234567, and `12345678` does not."""
        found = (self._names.get(match[0].lower()) for match in (self._words.finditer(text) if self._words else ()))
        yield from filter(None, found)

    def are_in(self, content: bytes) -> bool:
        found = [match for text in texts_of(content) for match in self.pattern.finditer(text)] if self.pattern else []
        self.seen |= {name for match in found if (name := self._names.get(match[0].lower()))}
        return bool(found)


def _variants(name: str) -> set[str]:
    """An id as JSON, Python, HTML, links and other systems' Unicode spell it."""
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
            quote(each),
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
    files: set[str] = field(default_factory=set)  # that had rows of theirs

    @cached_property
    def _of_rows(self) -> pa.Array:
        return pa.array(sorted(self.meterpoints), pa.string())

    def condition(self, names: Collection[str], columns: Collection[str]) -> pc.Expression | None:
        """Which rows to look at; None: all. Parquet's statistics are asked first, if there are few ids."""
        if set(columns) & {"row_json", CONTENT, "note", "detail", "error", "critical_failures"}:
            return None
        if self.accounts and "account_id" in columns:  # which is kept as it is spelled
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
        if removed and "source_file" in rows.column_names:
            self.files |= {*filter(None, pc.unique(rows["source_file"].filter(gone)).to_pylist())}
        names = kept["source_file"] if "source_file" in kept.column_names else None
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
                self.files |= {*(names.filter(pa.array(held)).to_pylist() if names else ())}
                place = kept.column_names.index(CONTENT)
                emptied = pc.if_else(pa.array(held), pa.scalar(None, pa.binary()), kept[CONTENT])
                kept = kept.set_column(place, kept.schema.field(place), emptied)
        return kept, removed, changed

    def _gone(self, rows: pa.Table, day: date | None) -> pa.Array:
        gone = pa.array([False] * rows.num_rows, pa.bool_())
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
            gone = pc.or_(gone, self._of_rows_that_say(rows))
        return gone

    def _of_rows_that_say(self, rows: pa.Table) -> pa.Array:
        texts = rows["row_json"].combine_chunks()
        # An id stands there as it is, unless with a character that is escaped or beyond ASCII.
        parts = [
            *map(re.escape, self.tenancies),
            *([self.words.rough.removeprefix("(?i)")] if self.words.rough else []),
        ]
        may_say = pc.match_substring_regex(texts, "|".join(["(?i)" + r"[^\x00-\x7F]|\\", *parts]))
        days = rows["date"].to_pylist() if "date" in rows.column_names else [None] * rows.num_rows
        says = np.zeros(rows.num_rows, bool)
        for place in np.flatnonzero(pc.fill_null(may_say, False)):
            says[place] = self.says(texts[place].as_py(), days[place])
        return pa.array(says)

    def says(self, row_json: str, day: date | None) -> bool:
        """Whether a row as it was delivered names one of them, in whatever spelling. Of no date: as if of any."""
        values = values_of(row_json)
        spelled = set(map(spelling, values))
        found = spelled & (self.meterpoints | self.accounts) | {
            name for each in values for name in self.words.of_words(each)
        }
        self.seen |= found
        return bool(found) or any(self.had(name, day) for name in spelled & self.tenancies.keys())

    def had(self, meterpoint_id: str, day: date | None) -> bool:
        """Whether an account had a meterpoint on a local date."""
        return any(day is None or first <= day <= last for first, last in self.tenancies.get(meterpoint_id, ()))

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


def who_of(what: Pending) -> Who:
    tenancies: dict[str, list[tuple[date, date]]] = defaultdict(list)
    for name, first, last in what.tenancies:
        tenancies[name].append((date.fromisoformat(first), date.fromisoformat(last)))
    return Who(
        frozenset(what.meterpoints),
        frozenset(what.accounts),
        tenancies,
        Words([*what.meterpoints, *what.accounts]),
    )
