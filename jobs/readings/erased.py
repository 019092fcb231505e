"""Who was erased: whose rows are not to come back, and which names are not to be written down again.

Of an id only keyed hashes are kept (a Stone each). The keys are in LAKE_STATE and nowhere else, so that whoever has the
tables cannot try out ids. No I/O.
"""

import hashlib
import json
import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.readings.parsed import Rejected
from jobs.readings.rules import LONGEST_ID, spelling

# A shorter id is looked for in names and texts only where it stands alone: 7 is in every date.
SHORTEST = 6
LARGEST_UNPACKED = 256 * 1024 * 1024  # bytes of a rejected .gz that are looked through
EPOCH = date(1970, 1, 1)
DAY = 86_400_000_000  # microseconds
_WORD = re.compile(r"[^\W_]+")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
# Numbers of these are amounts, or keys of something else.
NO_IDS = frozenset({"interval_start", "consumption_delta", "agreement_id", "id", "is_variable"})

Subject = Literal["meterpoint", "account", "tenancy"]


class Stone(NamedTuple):
    """What is kept of an erased id. A tenancy is a meterpoint on the dates on which an erased account had it."""

    subject: Subject
    key_id: str
    digest: str
    name_digest: str  # of the id in small letters, by which it is found in names and texts; "" of a tenancy
    length: int
    is_word: bool  # letters and digits alone
    first_date: date | None = None
    last_date: date | None = None


def key_id(key: bytes) -> str:
    """Tells keys apart, and tells nothing of them."""
    return hashlib.blake2b(key, digest_size=8, person=b"key").hexdigest()


def digest(key: bytes, text: str) -> str:
    """The keyed hash of a text."""
    return _short_digest(key, text) if len(text) <= LONGEST_ID else _digest(key, text)


def _digest(key: bytes, text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=16).hexdigest()


_short_digest = lru_cache(maxsize=200_000)(_digest)


def stone(key: bytes, subject: Subject, name: str, first: date | None = None, last: date | None = None) -> Stone:
    """What is kept of an id (as `spelling` has it)."""
    small = name.lower()
    of_names = "" if subject == "tenancy" else digest(key, small)
    is_word = bool(_WORD.fullmatch(small))
    return Stone(subject, key_id(key), digest(key, name), of_names, len(small), is_word, first, last)


def alias(key: bytes, text: str) -> str:
    """What stands in the place of an erased id in a name: another for each spelling, so that names stay different."""
    return f"erased-{digest(key, text)[:12]}"


@dataclass(frozen=True)
class Erased:
    """All that were erased. Tasks get it with their files."""

    keys: tuple[bytes, ...] = ()
    meterpoints: frozenset[str] = frozenset()  # digests
    accounts: frozenset[str] = frozenset()
    tenancies: Mapping[str, tuple[tuple[date, date], ...]] = field(
        default_factory=dict
    )  # by digest, last date included
    names: frozenset[str] = frozenset()
    word_lengths: frozenset[int] = frozenset()
    other_lengths: frozenset[int] = frozenset()

    @staticmethod
    def of(keys: Mapping[str, bytes], stones: Iterable[Stone]) -> "Erased":
        """Stones of which the key is not there tell nothing."""
        known = [each for each in stones if each.key_id in keys]
        tenancies: dict[str, tuple[tuple[date, date], ...]] = defaultdict(tuple)
        for each in known:
            if each.subject == "tenancy" and each.first_date and each.last_date:
                tenancies[each.digest] += ((each.first_date, each.last_date),)
        named = [each for each in known if each.name_digest]
        return Erased(
            keys=tuple(keys[each] for each in sorted({each.key_id for each in known})),
            meterpoints=frozenset(each.digest for each in known if each.subject == "meterpoint"),
            accounts=frozenset(each.digest for each in known if each.subject == "account"),
            tenancies=dict(tenancies),
            names=frozenset(each.name_digest for each in named),
            word_lengths=frozenset(each.length for each in named if each.is_word),
            other_lengths=frozenset(each.length for each in named if not each.is_word),
        )

    def _digests(self, text: str) -> list[str]:
        return [digest(key, text) for key in self.keys]

    def has_meterpoint(self, name: str) -> bool:
        """Whether a meterpoint was erased, in whatever spelling it comes."""
        return not self.meterpoints.isdisjoint(self._digests(spelling(name)))

    def has_account(self, name: str) -> bool:
        """The same of an account."""
        return not self.accounts.isdisjoint(self._digests(spelling(name)))

    def spans(self, meterpoint_id: str) -> list[tuple[date, date]]:
        """Dates on which a meterpoint was that of an erased account, the last one included."""
        if not self.tenancies:
            return []
        return [span for each in self._digests(spelling(meterpoint_id)) for span in self.tenancies.get(each, ())]

    def is_gone(self, meterpoint_id: str, day: date | None) -> bool:
        """Whether what a row says of a meterpoint on a local date is not to be kept. Of no date: as if of any."""
        if self.has_meterpoint(meterpoint_id):
            return True
        return any(day is None or first <= day <= last for first, last in self.spans(meterpoint_id))

    def redacted(self, text: str) -> str:
        """A name or a text with aliases in the place of erased ids."""
        if not self.names:
            return text
        for form in dict.fromkeys((text, unicodedata.normalize("NFC", text))):
            parts, at = [], 0
            for start, end, name in sorted(self.found(form), key=lambda each: (each[0], -each[1])):
                if start >= at:
                    parts += [form[at:start], name]
                    at = end
            if parts:
                return "".join([*parts, form[at:]])
        return text

    def holds(self, content: bytes) -> bool:
        """Whether an erased id is in the bytes of a file, which may be packed."""
        return bool(self.names) and any(next(self.found(text), None) is not None for text in texts_of(content))

    def found(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where erased ids begin and end in a text, and their aliases."""
        small = text.lower()
        if len(small) != len(text):  # a letter of which the small one is two
            small = "".join(each.lower() if len(each.lower()) == 1 else each for each in text)
        for run in _WORD.finditer(small) if self.word_lengths else ():
            for length in self.word_lengths:
                yield from self._at(text, small, range(run.start(), run.end() - length + 1), length)
        for length in self.other_lengths:
            yield from self._at(text, small, range(len(small) - length + 1), length)

    def _at(self, text: str, small: str, starts: range, length: int) -> Iterator[tuple[int, int, str]]:
        for start in starts:
            end = start + length
            if length < SHORTEST and not stands_alone(small, start, end):
                continue
            for key in self.keys:
                if digest(key, small[start:end]) in self.names:
                    yield start, end, alias(key, text[start:end])

    def gone(self, good: pa.Table) -> npt.NDArray[np.bool_]:
        """Which good rows (columns as of GOOD) are of erased ids."""
        is_gone = np.zeros(good.num_rows, bool)
        if not self.keys:
            return is_gone
        names, days = good["meterpoint_id"], good["interval_start"].to_numpy() // DAY
        known = pc.unique(names).to_pylist()
        whole = {name for name in known if self.has_meterpoint(name)}
        if whole:
            is_gone |= pc.is_in(names, value_set=pa.array(sorted(whole), pa.string())).to_numpy()
        for name in known if self.tenancies else ():
            for first, last in () if name in whole else self.spans(name):
                in_span = (days >= (first - EPOCH).days) & (days <= (last - EPOCH).days)
                is_gone |= pc.equal(names, name).to_numpy() & in_span
        return is_gone

    def without(self, rejected: list[Rejected]) -> list[Rejected]:
        """Rejected rows without those of erased ids."""
        if not self.keys:
            return rejected
        days = [None if row.date is None else EPOCH + timedelta(days=row.date) for row in rejected]
        return [row for row, day in zip(rejected, days, strict=True) if not self.says(row.row_json, day)]

    def says(self, row_json: str, day: date | None = None) -> bool:
        """Whether a row as it was delivered names an erased id."""
        return any(
            self.is_gone(value, day) or self.has_account(value) or any(self.words_in(value))
            for value in values_of(row_json)
        )

    def words_in(self, value: str) -> Iterator[str]:
        """Erased ids that are a word of a text: `MP-1234567` names 1234567, and `12345678` does not."""
        for run in _WORD.finditer(value):
            word = run[0].lower()
            if (
                len(word) >= SHORTEST
                and len(word) in self.word_lengths
                and not self.names.isdisjoint(self._digests(word))
            ):
                yield run[0]


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a part of a path or of a text is a name by itself: between slashes, quotes or ends, but for an ending."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return before in ("", "/", '"', "'") and after in ("", "/", '"', "'", ".")


def values_of(row_json: str | None) -> list[str]:
    """What may be an id in a row that is kept as JSON: its texts, at any depth, and numbers as texts."""
    try:
        return [*_values(json.loads(row_json or "null"), None)]
    except (ValueError, RecursionError):
        return []


def _values(value: Any, column: str | None) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from _values(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _values(each, column)
    elif isinstance(value, int | float) and not isinstance(value, bool) and column not in NO_IDS:
        text = str(value).removesuffix(".0")
        if len(text) >= SHORTEST or column in ("meterpoint_id", "account_id"):
            yield text


def texts_of(content: bytes) -> Iterator[str]:
    """The texts that a file may be, unpacked if it is packed: UTF-8, and where it has zero bytes UTF-16 as well; with
    JSON's escapes read, and in the usual form of Unicode."""
    if content[:2] == b"\x1f\x8b":
        try:
            unpacked = zlib.decompressobj(wbits=31).decompress(content, LARGEST_UNPACKED)
        except zlib.error:
            unpacked = b""
        yield from texts_of(unpacked) if unpacked[:2] != b"\x1f\x8b" else ()
    for encoding in ("utf-8", *(("utf-16-le", "utf-16-be") if b"\0" in content else ())):
        text = content.decode(encoding, "replace")
        yield text
        read = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "\\u" in text else text
        read = unicodedata.normalize("NFC", read)
        if read != text:
            yield read


def cut(span: tuple[date, date], other: tuple[date, date]) -> list[tuple[date, date]]:
    """What is left of dates without those of another span. Last dates are included."""
    # As numbers, because no date is before the first or after the last one.
    (first, last), (begin, end) = (tuple(map(date.toordinal, each)) for each in (span, other))
    parts = [(first, min(last, begin - 1)), (max(first, end + 1), last)]
    return [(date.fromordinal(since), date.fromordinal(until)) for since, until in parts if since <= until]
