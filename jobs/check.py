"""Is the lakehouse right and fresh? Facts are read in a few queries; a pure function judges them."""

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from jobs import schedule_state
from jobs.settings import Settings, clock_times
from jobs.wording import counted

if TYPE_CHECKING:
    from jobs.overview import Overview, Query
    from jobs.query import Result

LONDON = ZoneInfo("Europe/London")
HEARTBEAT_LIMIT = timedelta(minutes=3)
SILENT_NAMED = 5  # meterpoints that are named in a message
RECENT = timedelta(days=10)


class Level(IntEnum):
    """How bad it is; the worst one is the exit status of `lake check`, as monitors of Nagios' kind read it."""

    ok = 0
    warning = 1
    critical = 2
    unknown = 3


class Finding(NamedTuple):
    """What one check found."""

    name: str
    level: Level
    text: str


@dataclass(frozen=True)
class Facts:
    """What is known at a moment. None: not known, or there is none."""

    now: datetime  # with a time zone
    lake_error: str | None = None  # why the lake could not be asked
    busy: bool = False  # embedded: a run is at work, so the lake cannot be asked now
    loaded: bool = True  # whether there ever was a load
    last_reading_date: date | None = None
    days_read: Collection[date] = ()  # dates of the last RECENT days that have readings
    snapshot_date: date | None = None
    publishing: str | None = None  # load that has begun to switch tables and has not ended
    last_load_id: str | None = None
    last_load_status: str | None = None
    last_load_error: str | None = None
    silent: int = 0  # meterpoints
    silent_examples: Sequence[str] = ()
    newly_rejected_rows: int = 0  # still open, of loads since yesterday
    newly_rejected_files: int = 0
    certificate_until: datetime | None = None
    certificate_error: str | None = None
    free_percent: Mapping[str, float] = field(default_factory=dict)  # by folder
    scheduler_heartbeat: datetime | None = None
    figures: Mapping[str, list[Any]] = field(default_factory=dict)  # as of telemetry.metrics.figures


def expected_date(settings: Settings, now: datetime) -> date:
    """The local date of which readings must be there: yesterday once the deadline is over, else the day before."""
    yesterday = now.astimezone(LONDON).date() - timedelta(days=1)
    return yesterday if now >= deadline_of(settings, yesterday) else yesterday - timedelta(days=1)


def deadline_of(settings: Settings, day: date) -> datetime:
    """When the readings of a local date must be there.

    An instant, because on the days of clock changes wall clocks differ by less or more than time goes by.
    """
    deadline = datetime.combine(day + timedelta(days=1), clock_times(settings.deadline)[0], LONDON).astimezone(UTC)
    return deadline + timedelta(minutes=settings.deadline_grace_minutes)


def judge(facts: Facts, settings: Settings) -> list[Finding]:
    """One finding a check, in a fixed order. A check of which nothing can be known now is left out."""
    found = [*_lake(facts, settings), *_machine(facts, settings)]
    return [Finding(name, level, " ".join(text.split())) for name, level, text in found]


def _lake(facts: Facts, settings: Settings) -> list[Finding]:
    if facts.lake_error is not None:
        return [Finding("lake", Level.critical, f"the lakehouse does not answer: {facts.lake_error}")]
    if facts.busy:
        return [Finding("lake", Level.ok, "a run is at work: its data is checked afterwards")]
    found = [Finding("lake", Level.ok, "the lakehouse answers")]
    if not facts.loaded:
        return [*found, Finding("delivery", Level.warning, "nothing was loaded yet")]

    wanted, newest = expected_date(settings, facts.now), facts.last_reading_date
    # One reading of today must not hide that yesterday is missing.
    late = newest is None or newest < wanted or wanted not in facts.days_read
    text = f"newest readings are of {newest or 'no date'}"
    found.append(
        Finding("delivery", Level.critical, f"{text}; those of {wanted} are missing")
        if late
        else Finding("delivery", Level.ok, text)
    )

    failed = facts.last_load_status in ("failed", "rejected")
    what = facts.last_load_error or facts.last_load_status or "no status"
    if facts.publishing and not failed:
        half = "readings and marts may be of different loads until the next `lake run`"
        text = f"load {facts.publishing} is switching tables, or was killed while it did: {half}"
        found.append(Finding("load", Level.warning, text))
    elif facts.last_load_error and not failed:  # the readings were published, the reference file was rejected
        found.append(Finding("load", Level.warning, f"load {facts.last_load_id} rejected a file: {what}"))
    else:
        level = Level.critical if failed else Level.ok
        found.append(Finding("load", level, f"load {facts.last_load_id}: {what}"))

    today = facts.now.astimezone(LONDON).date()
    if facts.snapshot_date is None:
        found.append(Finding("snapshot", Level.warning, "there is no reference snapshot"))
    else:
        stale = (today - facts.snapshot_date).days > settings.snapshot_days
        level = Level.warning if stale else Level.ok
        found.append(Finding("snapshot", level, f"reference snapshot is of {facts.snapshot_date}"))

    names = ", ".join(facts.silent_examples[:SILENT_NAMED])
    more = ", …" if facts.silent > min(len(facts.silent_examples), SILENT_NAMED) else ""
    found.append(
        Finding("silent", Level.warning, f"{counted(facts.silent, 'meterpoint')} fell silent: {names}{more}")
        if facts.silent
        else Finding("silent", Level.ok, "no meterpoint fell silent")
    )

    rows, files = facts.newly_rejected_rows, facts.newly_rejected_files
    what = f"{counted(rows, 'row')} and {counted(files, 'whole file')}"
    found.append(
        Finding("quarantine", Level.warning, f"since yesterday {what} were rejected")
        if rows or files
        else Finding("quarantine", Level.ok, "nothing rejected since yesterday is open")
    )
    return found


def _machine(facts: Facts, settings: Settings) -> list[Finding]:
    found = []
    if facts.certificate_error is not None:
        found.append(Finding("certificate", Level.critical, facts.certificate_error))
    elif facts.certificate_until is not None:
        left = facts.certificate_until - facts.now
        ends = left < timedelta(days=settings.certificate_days)
        level = Level.critical if left <= timedelta() else Level.warning if ends else Level.ok
        found.append(Finding("certificate", level, f"certificate is valid until {facts.certificate_until:%Y-%m-%d}"))
    if facts.free_percent:
        folder, free = min(facts.free_percent.items(), key=lambda each: each[1])
        limit = settings.disk_free_percent
        level = Level.critical if free < limit / 2 else Level.warning if free < limit else Level.ok
        found.append(Finding("disk", level, f"{free:.0f} % free where {folder} is"))
    if facts.scheduler_heartbeat is not None:
        stopped = facts.now - facts.scheduler_heartbeat > HEARTBEAT_LIMIT
        text = f"last sign of the scheduler at {facts.scheduler_heartbeat:%Y-%m-%d %H:%M} UTC"
        found.append(Finding("scheduler", Level.critical if stopped else Level.ok, text))
    return found


def worst(findings: Sequence[Finding]) -> Level:
    return max((finding.level for finding in findings), default=Level.unknown)


def as_json(findings: Sequence[Finding]) -> str:
    checks = [{"name": each.name, "status": each.level.name, "text": each.text} for each in findings]
    return json.dumps({"status": worst(findings).name, "checks": checks}, ensure_ascii=False)


def machine_facts(settings: Settings) -> dict[str, Any]:
    """What can be known without the lake."""
    facts: dict[str, Any] = {"free_percent": {}}
    for folder in (str(settings.state), str(settings.reports), settings.warehouse):
        if "://" not in folder and Path(folder).exists():
            usage = shutil.disk_usage(folder)
            # As df does: what is kept for root is not free, nor does it count.
            facts["free_percent"][folder] = 100 * usage.free / max(usage.used + usage.free, 1)
    if settings.tls.exists():
        from jobs.certificate import CertificateError, certificate

        try:
            facts["certificate_until"] = certificate(settings.tls).not_valid_after_utc
        except (CertificateError, OSError) as error:
            facts["certificate_error"] = f"{settings.tls}: {error}"
    if beat := schedule_state.read(settings.state).get("heartbeat"):
        facts["scheduler_heartbeat"] = datetime.fromisoformat(beat)
    return facts


def ask(
    settings: Settings,
    query: "Query",
    now: datetime,
    empty: frozenset[str] = frozenset(),
    known: "Overview | None" = None,
    silent_on: Callable[[date], Sequence[str]] | None = None,
    read_since: Callable[[date], Collection[date]] | None = None,
) -> dict[str, Any]:
    """What the tables tell, in a few small queries, as JSON holds it. What tables of `empty` would give is not asked,
    nor what is `known` from `lake status`, nor which meterpoints are silent, where `silent_on` tells it of a date, nor
    which dates have readings, where `read_since` tells them from a date on.

    Raises QueryError.
    """
    from jobs import overview
    from jobs.query import QueryError, plain

    known = known or overview.ask(query, overview.SELDOM)
    if not known["loaded"] or not known["loads"]:
        return {"loaded": False}
    newest, snapshot = (_date(known["freshness"][name]) for name in ("last_reading_date", "snapshot_date"))
    day = _silent_on(newest, now)
    names = (silent_on or partial(_silent, query))(day) if day else []
    last = known["loads"][telling([(load["kind"], load["status"]) for load in known["loads"]])]
    told = {
        "asked_on": now.astimezone(UTC).date(),
        "last_load": tuple(last[name] for name in ("load_id", "status", "error")),
        "last_reading_date": newest,
        "days_read": sorted((read_since or partial(_read_since, query))(now.astimezone(LONDON).date() - RECENT)),
        "snapshot_date": snapshot,
        "publishing": known["freshness"]["publishing_load_id"],
        "rejected": [] if empty >= _REJECTED else _tuples(query(newly_rejected(now))),
        "silent_on": day,
        "silent": len(names),
        "silent_examples": list(names[:SILENT_NAMED]),
    }
    if settings.metrics_file:
        from jobs.telemetry import metrics

        with suppress(QueryError):  # tables of an older version, until the next run
            told["figures"] = metrics.figures(query)
    return {name: plain(value) for name, value in told.items()}


def telling(loads: Sequence[tuple[str | None, str]]) -> int:
    """Which of the newest loads (kind and status, the newest first) says how loading goes: the newest, unless the last
    that took files failed. These wait, whatever a person did since."""
    took_files = next((place for place, (kind, _) in enumerate(loads) if kind in (None, "load")), 0)
    return took_files if loads[took_files][1] == "failed" else 0


def _silent(query: "Query", day: date) -> list[str]:
    return [name for (name,) in query(_SILENT.format(day=day, first=day - timedelta(days=7))).rows]


def _read_since(query: "Query", first: date) -> list[date]:
    rows = query(f"SELECT CAST(date AS STRING) FROM mart.daily_completeness WHERE date >= DATE '{first}'").rows
    return [date.fromisoformat(day) for (day,) in rows]


def _tuples(result: "Result") -> list[tuple[Any, ...]]:
    """Rows without names, which JSON would have, too."""
    return [tuple(row) for row in result.rows]


def holds(told: Mapping[str, Any], now: datetime) -> bool:
    """Whether what was asked before still tells all, of tables that did not change since."""
    if not told.get("loaded", True):
        return True
    same_day = _date(told["silent_on"]) == _silent_on(_date(told["last_reading_date"]), now)
    return same_day and date.fromisoformat(told["asked_on"]) <= now.astimezone(UTC).date()


def lake_facts(told: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Facts of what `ask` told."""
    if not told.get("loaded", True):
        return {"loaded": False}
    since = _rejected_since(now)
    rejected = [(rows, files) for day, rows, files in told["rejected"] if date.fromisoformat(day) >= since]
    return {
        **dict(zip(("last_load_id", "last_load_status", "last_load_error"), told["last_load"], strict=True)),
        "last_reading_date": _date(told["last_reading_date"]),
        "days_read": frozenset(map(date.fromisoformat, told["days_read"])),
        "snapshot_date": _date(told["snapshot_date"]),
        "publishing": told["publishing"],
        "newly_rejected_rows": sum(rows for rows, _ in rejected),
        "newly_rejected_files": sum(files for _, files in rejected),
        "silent": told["silent"],
        "silent_examples": told["silent_examples"],
        "figures": told.get("figures", {}),
    }


def _silent_on(newest: date | None, now: datetime) -> date | None:
    """The local date on which a meterpoint without a reading is silent. Today is not over."""
    return newest and min(newest, now.astimezone(LONDON).date() - timedelta(days=1))


def _rejected_since(now: datetime) -> date:
    return now.astimezone(UTC).date() - timedelta(days=1)


def newly_rejected(now: datetime) -> str:
    """Asks how many rows and whole files were rejected since yesterday and are open, by UTC date of their load."""
    since = f"{_rejected_since(now):%Y%m%d}"  # ids of loads begin with their day
    return f"""
        SELECT load_date, count_if(NOT whole) AS `rows`, count_if(whole) AS files
        FROM (
          SELECT load_date, false AS whole FROM quarantine.open_readings WHERE load_id >= '{since}'
          UNION ALL SELECT load_date, true FROM quarantine.open_files WHERE load_id >= '{since}'
        ) GROUP BY load_date
    """


_REJECTED = frozenset({"quarantine.readings", "quarantine.files"})
_SILENT = """
    SELECT meterpoint_id FROM mart.daily_meterpoint_consumption
    WHERE date BETWEEN DATE '{first}' AND DATE '{day}' AND reading_count > 0
    GROUP BY meterpoint_id HAVING max(date) < DATE '{day}' ORDER BY meterpoint_id
"""


def _date(value: Any) -> date | None:
    """The endpoint's client may give a date as text."""
    return date.fromisoformat(value) if isinstance(value, str) else value


def gather(settings: Settings, now: datetime) -> Facts:
    """All facts of this moment. A lake that cannot be asked is a fact, too."""
    from jobs import lock, overview
    from jobs.query import QueryError, opened

    lake: dict[str, Any]
    if overview.is_new(settings):
        return Facts(now=now, loaded=False, **machine_facts(settings))
    try:
        with opened(settings) as query:
            known = query.known
            told = (known or {}).get(overview.CHECK)
            if not told or not holds(told, now) or (settings.metrics_file and "figures" not in told):
                told = ask(settings, query, now, known=known)
                if overview.can_be_kept(settings):
                    query.found = (known or overview.ask(query)) | {overview.CHECK: told}
            lake = lake_facts(told, now)
    except lock.Busy:
        lake = {"busy": True}
    except (QueryError, RuntimeError, OSError) as error:
        lake = {"lake_error": str(error)}
    return Facts(now=now, **machine_facts(settings), **lake)
