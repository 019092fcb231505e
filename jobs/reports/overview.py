"""What the front page says, as plain values, and what follows from them. No I/O."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby

from jobs.check import LONDON, Finding, Level, worst
from jobs.reports.facts import LoadFacts, same_warning
from jobs.wording import counted

DAYS = 91  # shown day by day, which are 13 weeks; what was before them month by month
RECENT = timedelta(days=30)  # in which rejections are counted and warnings compared
LOADS_SHOWN = 10


@dataclass(frozen=True)
class Freshness:
    """The newest local date that tables hold, beside the one that they must hold by now."""

    what: str
    tables: str
    newest: date | None
    wanted: date

    @property
    def late(self) -> bool:
        return self.newest is None or self.newest < self.wanted


@dataclass(frozen=True)
class DayTotal:
    """Readings of all meterpoints on a local date."""

    date: date
    readings: int
    kwh: Decimal


@dataclass(frozen=True)
class DayCompleteness:
    """How much of what was due on a local date came. Readings are half hours of meterpoints."""

    date: date
    expected: int
    received: int
    complete: int  # meterpoints with every half hour
    silent: int  # meterpoints with none
    meterpoints: int


@dataclass(frozen=True)
class WorstMeterpoint:
    """A meterpoint that lacks most half hours in the last `Overview.worst_days` days with readings."""

    meterpoint_id: str
    missing: int  # half hours
    days: int  # on which some are missing
    silent_days: int  # of these, days without any
    has_agreement: bool


@dataclass(frozen=True)
class Overview:
    """All that the front page shows. Loads are those of the last RECENT and at least LOADS_SHOWN, the newest first."""

    now: datetime  # UTC
    due: datetime  # when readings of one more date must be there; after it this page is out of date
    findings: Sequence[Finding] = ()
    freshness: Sequence[Freshness] = ()
    loads: Sequence[LoadFacts] = ()
    years: Sequence[int] = ()  # in which there were loads, the newest first
    totals: Sequence[DayTotal] = ()  # by date, gaps left out
    completeness: Sequence[DayCompleteness] = ()  # by date
    worst: Sequence[WorstMeterpoint] = ()
    worst_days: int = 0  # of which `worst` tells

    @property
    def level(self) -> Level:
        return worst(self.findings)


@dataclass(frozen=True)
class Verdict:
    """The page in a few words."""

    level: Level
    title: str


def verdict(findings: Sequence[Finding]) -> Verdict:
    """The worst findings are named, those that are less bad are counted."""
    level = worst(findings)
    if level is Level.ok:
        return Verdict(level, "Right and fresh")
    if level is Level.unknown:
        return Verdict(level, "Nothing is known yet")
    alarms, warnings = ([each.name for each in findings if each.level is of] for of in (Level.critical, Level.warning))
    title = counted(len(alarms or warnings), "alarm" if alarms else "warning") + f": {', '.join(alarms or warnings)}"
    return Verdict(level, f"{title}; {counted(len(warnings), 'warning')}" if alarms and warnings else title)


# --- by day and by month -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: a date, or the first one of a month. None: there is nothing."""

    date: date
    readings: int | None
    kwh: Decimal | None


def days(totals: Sequence[DayTotal]) -> list[Bar]:
    """The last DAYS dates, those without readings too."""
    if not totals:
        return []
    by_date = {total.date: total for total in totals}
    first, last = max(totals[0].date, totals[-1].date - timedelta(days=DAYS - 1)), totals[-1].date
    found = [by_date.get(day) for day in _dates(first, last)]
    return [
        Bar(day, total.readings if total else None, total.kwh if total else None)
        for day, total in zip(_dates(first, last), found, strict=True)
    ]


def months(totals: Sequence[DayTotal]) -> list[Bar]:
    """Whole months, those without readings too, up to the one in which the dates shown by day begin. None, where all
    dates are shown by day."""
    if not totals or totals[-1].date - totals[0].date < timedelta(days=DAYS):
        return []
    by_month = {
        month: list(of_month) for month, of_month in groupby(totals, key=lambda total: total.date.replace(day=1))
    }
    end = (totals[-1].date - timedelta(days=DAYS - 1)).replace(day=1)
    found = []
    for month in _months(totals[0].date, end):
        held = by_month.get(month, [])
        readings, kwh = sum(each.readings for each in held), sum((each.kwh for each in held), Decimal())
        found.append(Bar(month, readings if held else None, kwh if held else None))
    return found


def _dates(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


def _months(first: date, last: date) -> Iterator[date]:
    for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        yield date(number // 12, number % 12 + 1, 1)


# --- completeness --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A cell of the heat map. Shares are rounded down, so that 100 means all; None: nothing was due."""

    date: date
    expected: int
    received: int

    @property
    def percent(self) -> int | None:
        return self.received * 100 // self.expected if self.expected else None

    @property
    def exact(self) -> str:
        """With a tenth of a percent, where that tells something."""
        if not self.expected or self.received in (0, self.expected):
            return str(self.percent)
        return f"{self.received * 1000 // self.expected / 10:.1f}"

    @property
    def shade(self) -> str:
        """Name of its colour, from full to none."""
        if self.percent is None:
            return "unknown"
        limits = ((100, "full"), (99, "high"), (95, "good"), (80, "fair"), (1, "low"))
        if not self.received:
            return "none"
        return next((name for limit, name in limits if self.percent >= limit), "low")


def weeks(completeness: Sequence[DayCompleteness]) -> list[list[Cell | None]]:
    """The last DAYS dates as weeks from Monday to Sunday, the newest week first. None: outside of the dates."""
    if not completeness:
        return []
    by_date = {each.date: each for each in completeness}
    last = completeness[-1].date
    first = max(completeness[0].date, last - timedelta(days=DAYS - 1))
    monday = first - timedelta(days=first.weekday())
    sunday = last + timedelta(days=6 - last.weekday())
    cells = [_cell(day, by_date.get(day)) if first <= day <= last else None for day in _dates(monday, sunday)]
    return [cells[start : start + 7] for start in range(0, len(cells), 7)][::-1]


def _cell(day: date, of_day: DayCompleteness | None) -> Cell:
    return Cell(day, of_day.expected if of_day else 0, of_day.received if of_day else 0)


def years(completeness: Sequence[DayCompleteness]) -> list[tuple[int, list[Cell | None]]]:
    """A row of twelve months a year, the newest first. Empty, where all dates are shown by day."""
    if not completeness or completeness[-1].date - completeness[0].date < timedelta(days=DAYS):
        return []
    found: dict[date, Cell] = {}
    for month, of_month in groupby(completeness, key=lambda each: each.date.replace(day=1)):
        held = list(of_month)
        found[month] = Cell(month, sum(each.expected for each in held), sum(each.received for each in held))
    first, last = completeness[0].date.year, completeness[-1].date.year
    return [(year, [found.get(date(year, month, 1)) for month in range(1, 13)]) for year in range(last, first - 1, -1)]


# --- loads ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rejected:
    """Rows and files that were rejected for one reason."""

    reason: str
    newest: int  # in the newest load that read files
    recent: int  # in the last RECENT
    last_load: str
    last_seen: datetime


def rejected(loads: Iterable[LoadFacts], now: datetime) -> list[Rejected]:
    """By reason, what the newest load rejected first. `loads` are the newest first."""
    recent = [load for load in loads if load.rejected or load.files]
    newest = recent[0].rejected if recent else {}
    found: dict[str, Rejected] = {}
    for load in recent:
        if load.started_at < now - RECENT:
            continue
        for reason, count in load.rejected.items():
            known = found.get(reason) or Rejected(reason, newest.get(reason, 0), 0, load.load_id, load.started_at)
            found[reason] = Rejected(reason, known.newest, known.recent + count, known.last_load, known.last_seen)
    return sorted(found.values(), key=lambda each: (-each.newest, -each.recent, each.reason))


@dataclass(frozen=True)
class Warned:
    """A warning of the newest load, and how long it has been there."""

    text: str
    earlier: int  # loads of the last RECENT that had it as well
    since: datetime | None  # the first of these; None: it is new


def warned(loads: Sequence[LoadFacts], now: datetime) -> list[Warned]:
    """Warnings of the newest load that was judged, the new ones first. `loads` are the newest first."""
    judged = [load for load in loads if load.checks]
    if not judged:
        return []
    before = [load for load in judged[1:] if load.started_at >= now - RECENT]
    keys = [(load.started_at, {same_warning(text) for text in load.warnings}) for load in before]
    found = []
    for text in judged[0].warnings:
        seen = [started_at for started_at, of_load in keys if same_warning(text) in of_load]
        found.append(Warned(text, len(seen), min(seen, default=None)))
    return sorted(found, key=lambda each: (each.since is not None, each.text))


def since_yesterday(loads: Iterable[LoadFacts], now: datetime) -> tuple[int, int]:
    """Rows and whole files that loads of today and yesterday (UTC) rejected."""
    first = now.astimezone(UTC).date() - timedelta(days=1)
    of_these = [load for load in loads if load.started_at.date() >= first]
    return sum(load.rows_rejected for load in of_these), sum(load.files.get("rejected", 0) for load in of_these)


def local(moment: datetime) -> datetime:
    return moment.astimezone(LONDON)
