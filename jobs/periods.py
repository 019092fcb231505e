"""Time-of-use periods: the rules of silver.time_of_use_periods, read from a CSV file.

A scheme gives each half hour of a local week to one of its periods. A rule names the weekdays on which a period begins,
its local times, and goes on into the next day where it ends at or before its beginning.
"""

import csv
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import SparkSession

from jobs import tables
from jobs.errors import LakeError
from jobs.ledger import writer
from jobs.tables import PERIODS

COLUMNS = ("scheme", "period", "from", "to", "weekdays")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
A_DAY = 48
A_WEEK = A_DAY * len(WEEKDAYS)
LARGEST = 1024 * 1024  # bytes of a file
LONGEST = 100  # characters of a name
MOST_TOLD = 10  # mistakes, a line each
PARTITION = "current"  # the only one


class Rule(NamedTuple):
    """A line of the file."""

    line: int
    scheme: str
    period: str
    begin: int  # half hour of the day
    length: int  # half hours
    weekdays: tuple[int, ...]  # on which it begins, 0: Monday

    @property
    def half_hours(self) -> list[int]:
        """Half hours of the week, 0: Monday 00:00."""
        begins = (day * A_DAY + self.begin for day in self.weekdays)
        return [(begin + number) % A_WEEK for begin in begins for number in range(self.length)]


class PeriodsError(LakeError):
    """The file will not do: a line for each mistake."""


def read(content: bytes, name: str) -> list[Rule]:
    """The rules of a CSV file with the columns of COLUMNS, in any order. `name` is how messages call the file.

    Raises PeriodsError.
    """
    if len(content) > LARGEST:
        raise PeriodsError(f"{name}: has {len(content):,} bytes, and {LARGEST:,} is the most")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PeriodsError(f"{name}: is no UTF-8 text, from byte {error.start:,} on") from None
    if "\0" in text:
        raise PeriodsError(f"{name}: is no text: it has zero bytes")
    mistakes: list[str] = []
    rules = []
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [each.strip().lower() for each in next(reader, [])]
        if sorted(header) != sorted(COLUMNS):
            shown = ", ".join(header)[:LONGEST] or "nothing"
            raise PeriodsError(f"{name}: the first line must be {','.join(COLUMNS)}, and is {shown}")
        for values in reader:
            if not any(each.strip() for each in values):
                continue
            try:
                if len(values) != len(COLUMNS):
                    raise ValueError(f"{len(values)} values, and {len(COLUMNS)} columns; weekdays go without commas")
                rules.append(_rule(reader.line_num, dict(zip(header, map(str.strip, values), strict=True))))
            except ValueError as error:
                mistakes.append(f"{name}: line {reader.line_num}: {error}")
    except csv.Error as error:
        mistakes.append(f"{name}: line {reader.line_num}: {error}")
    # Half of the rules would seem to leave gaps.
    mistakes = mistakes or [f"{name}: {each}" for each in _gaps_and_overlaps(rules)]
    if mistakes:
        more = len(mistakes) - MOST_TOLD
        raise PeriodsError("\n".join([*mistakes[:MOST_TOLD], *([f"{name}: and {more:,} more"] if more > 0 else [])]))
    return rules


def _rule(line: int, values: dict[str, str]) -> Rule:
    for column in ("scheme", "period"):
        if not 1 <= len(values[column]) <= LONGEST or not values[column].isprintable():
            raise ValueError(f"{column} must have 1 to {LONGEST} characters that can be printed")
    begin, end = (_half_hour(values[column], column) for column in ("from", "to"))
    if begin == A_DAY:
        raise ValueError("from 24:00: a day begins at 00:00")
    length = end - begin if end > begin else end - begin + A_DAY
    return Rule(line, values["scheme"], values["period"], begin, length, _weekdays(values["weekdays"]))


def _half_hour(text: str, column: str) -> int:
    found = re.fullmatch(r"(\d\d?):(\d\d)", text, re.ASCII)
    hours, minutes = (int(found[1]), int(found[2])) if found else (99, 0)
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise ValueError(f"{column} {text[:LONGEST]!r} is no time; 07:30 is one")
    if minutes % 30:
        raise ValueError(f"{column} {text} is no full or half hour, and readings are of half hours")
    return hours * 2 + minutes // 30


def _weekdays(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in re.split(r"[\s,;]+", text):
        first, dash, last = part.partition("-")
        begin = _weekday(first, text)
        end = _weekday(last, text) if dash else begin
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return tuple(sorted(found))


def _weekday(word: str, text: str) -> int:
    if word.capitalize() not in WEEKDAYS:
        raise ValueError(
            f"weekdays {text[:LONGEST]!r}: {word[:LONGEST]!r} is none of {', '.join(WEEKDAYS)}; Mon-Fri is a span"
        )
    return WEEKDAYS.index(word.capitalize())


def _gaps_and_overlaps(rules: list[Rule]) -> Iterable[str]:
    for scheme in dict.fromkeys(rule.scheme for rule in rules):
        holding: list[list[Rule]] = [[] for _ in range(A_WEEK)]
        for rule in rules:
            if rule.scheme == scheme:
                for half_hour in rule.half_hours:
                    holding[half_hour].append(rule)
        at = 0
        for lines, group in groupby(holding, key=lambda held: tuple(rule.line for rule in held)):
            end = at + len(list(group))
            if not lines:
                yield f"scheme {scheme!r} has no period from {_time(at)} to {_time(end)}"
            elif len(lines) > 1:
                several = " and ".join(f"{rule.period!r} (line {rule.line})" for rule in holding[at][:2])
                yield f"scheme {scheme!r} has {several} from {_time(at)} to {_time(end)}"
            at = end


def _time(half_hour: int) -> str:
    day, of_day = divmod(half_hour % A_WEEK, A_DAY)
    return f"{WEEKDAYS[day]} {_clock(of_day)}"


def _clock(half_hour: int) -> str:
    return f"{half_hour // 2:02}:{half_hour % 2 * 30:02}"


def store(spark: SparkSession, rules: list[Rule]) -> None:
    """Put the rules in place of all that there are, in one switch. All dates are read by them from then on."""
    now = datetime.now(UTC)
    rows = [
        {
            "scheme": rule.scheme,
            "period": rule.period,
            "time_from": _clock(rule.begin),
            "time_to": _clock((rule.begin + rule.length) % A_DAY),
            "weekdays": " ".join(WEEKDAYS[day] for day in rule.weekdays),
            "half_hours": rule.half_hours,
            "set_at": now,
        }
        for rule in rules
    ]
    content = pa.Table.from_pylist(rows, tables.schema(spark, PERIODS))
    written = tables.write_rows(spark, content, PERIODS, writer.new_load_id(now, []), PARTITION)
    tables.publish(spark, PERIODS, written)
