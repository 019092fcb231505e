"""The front page, the page of a load and the list of a year, as text. Pure functions of plain values."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from jobs.check import Level
from jobs.reports import charts, overview
from jobs.reports.advice import advice
from jobs.reports.facts import LoadFacts
from jobs.reports.overview import Bar, Overview
from jobs.reports.site import template

FRONT, CHECKS = "index.html", "checks.html"
WORDS = {Level.ok: "ok", Level.warning: "warning", Level.critical: "alarm", Level.unknown: "unknown"}
STATES = {"published": "passed", "rollback": "passed", "rolled back": "info", "failed": "failed", "rejected": "failed"}
FEW_BARS = 12  # which all have a label


def load_page(load_id: str) -> str:
    """Path below the reports folder."""
    return f"loads/{load_id}.html"


def year_page(year: int) -> str:
    return f"loads/{year}.html"


def front(value: Overview) -> str:
    """The front page."""
    days, months = overview.days(value.totals), overview.months(value.totals)
    return template("front.html").render(
        **_common(FRONT),
        v=value,
        verdict=overview.verdict(value.findings),
        due_local=overview.local(value.due),
        loads=value.loads[: overview.LOADS_SHOWN],
        days=days[::-1],
        months=months[::-1],
        day_charts=_charts(days, "a day", _day_label, _day),
        month_charts=_charts(months, "a month", _month_label, _month),
        weeks=overview.weeks(value.completeness),
        by_year=overview.years(value.completeness),
        newest=value.completeness[-1] if value.completeness else None,
        rejected=overview.rejected(value.loads, value.now),
        warned=overview.warned(value.loads, value.now),
    )


def load(facts: LoadFacts) -> str:
    """The page of a load."""
    return template("load.html").render(**_common(load_page(facts.load_id)), v=facts)


def year(number: int, loads: Sequence[LoadFacts]) -> str:
    """The list of a year's loads, which are given newest first."""
    months = [(month, list(of)) for month, of in groupby(loads, key=lambda each: each.started_at.date().replace(day=1))]
    return template("year.html").render(**_common(year_page(number)), year=number, months=months)


def _common(page: str) -> dict[str, Any]:
    """What each template knows, `page` being where it will lie."""
    root = "../" * (len(PurePosixPath(page).parts) - 1)
    return {
        "root": root,
        "checks": root + CHECKS,
        "load_page": load_page,
        "year_page": year_page,
        "advice": advice,
        "words": WORDS,
        "states": STATES,
        "day": _day,
        "month": _month,
        "moment": _moment,
        "seconds": _seconds,
    }


def _charts(
    bars: Sequence[Bar], each: str, label: Callable[[Sequence[Bar], int], str], name: Callable[[date], str]
) -> list[dict[str, Any]]:
    """A chart of readings and one of kWh, each for wide and for narrow screens."""
    if not bars:
        return []
    found = []
    for title, unit, values in (
        (f"Readings {each}", "readings", [bar.readings for bar in bars]),
        (f"Consumption {each}, kWh", "kWh", [None if bar.kwh is None else float(bar.kwh) for bar in bars]),
    ):
        points = [
            charts.Point(value, f"{name(bar.date)}: {value or 0:,.0f} {unit}", label(bars, place))
            for place, (bar, value) in enumerate(zip(bars, values, strict=True))
        ]
        heard = _summary(title, points, name(bars[0].date), name(bars[-1].date))
        sizes = {"wide": charts.WIDE, "narrow": charts.NARROW}
        drawn = {size: charts.bars(points, heard, of) for size, of in sizes.items()}
        found.append({"title": title, "last": values[-1], "unit": unit, **drawn})
    return found


def _summary(title: str, points: Sequence[charts.Point], first: str, last: str) -> str:
    values = [point.value for point in points if point.value is not None]
    gaps = len(points) - len(values)
    text = f"{title}, {first} to {last}: {min(values, default=0):,.0f} to {max(values, default=0):,.0f}"
    return text + (f"; {gaps} without readings" if gaps else "")


def _day_label(bars: Sequence[Bar], place: int) -> str:
    day = bars[place].date
    if len(bars) <= FEW_BARS:
        shown = True
    elif len(bars) <= 3 * FEW_BARS:
        shown = day.weekday() == 0
    else:
        shown = day.day in (1, 15)
    return f"{day.day} {day:%b}" if shown else ""


def _month_label(bars: Sequence[Bar], place: int) -> str:
    month = bars[place].date
    if len(bars) <= FEW_BARS:
        return f"{month:%b}"
    return f"{month.year}" if month.month == 1 else ""


def _day(value: date) -> str:
    return f"{value.day} {value:%b %Y}"


def _month(value: date) -> str:
    return f"{value:%B %Y}"


def _moment(value: datetime) -> str:
    return f"{_day(value.date())} {value:%H:%M}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else f"{value // 60:.0f} min {value % 60:.0f} s"
