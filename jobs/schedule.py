"""The scheduler: starts loads at their times, one at a time, and tells when something is wrong."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from jobs import schedule_state
from jobs.check import LONDON
from jobs.schedule_state import TRY_AGAIN
from jobs.settings import Settings, clock_times
from jobs.telemetry import logs

TIMED_OUT = 124  # as the command `timeout` has it
STOP_SECONDS = 30  # a child that does not end after SIGTERM in this time is killed
HEARTBEAT_SECONDS = 20
LONGEST_BACKOFF = 3600.0
EXPIRE, EXPIRY = "expire", [time(3, 30)]  # local


def jobs_of(settings: Settings) -> dict[str, list[time]]:
    """Local times of each scheduled load."""
    return {"reference": clock_times(settings.schedule_reference), "readings": clock_times(settings.schedule_readings)}


def next_slot(times: Sequence[time], after: datetime) -> datetime | None:
    """The first instant after `after`, in UTC, at which one of the local times is due.

    Each time is due once a local day. One that the March day skips is due an hour later on the wall clock, one that the
    October day has twice is due the first time. (APScheduler's own cron trigger runs that one twice.)
    """
    day = after.astimezone(LONDON).date() - timedelta(days=1)
    days = (day + timedelta(days=count) for count in range(4))
    slots = (datetime.combine(each, at, LONDON).astimezone(UTC) for each in days for at in times)
    return min((slot for slot in slots if slot > after), default=None)


def missed(times: Sequence[time], since: datetime, now: datetime) -> bool:
    """Whether a load was due after `since` and is not in the future."""
    slot = next_slot(times, since)
    return slot is not None and slot <= now


class LocalTimes(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at `next_slot`."""

    def __init__(self, times: Sequence[time]) -> None:
        self.times = times

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        return next_slot(self.times, previous_fire_time or now)


def backoff(attempt: int, first: float) -> float:
    """Seconds to wait after a failed attempt, the first of which is 1."""
    return min(first * 2.0 ** (attempt - 1), LONGEST_BACKOFF)


def log(event: str, level: str = "info", **fields: Any) -> None:
    """One line of JSON on standard output."""
    print(logs.line(level, event, event=event, **fields), flush=True)


def _ran(began: datetime, ended: datetime, status: int, attempts: int = 1) -> dict[str, Any]:
    """What is kept of a job's last run."""
    return {
        "started": began.isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
        "seconds": round((ended - began).total_seconds(), 1),
        "exit_status": status,
        "attempts": attempts,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Scheduler:
    """Runs until `stop`; holds the children that it started and its state file."""

    def __init__(self, settings: Settings, command: Sequence[str] = (sys.executable, "-m", "jobs")) -> None:
        self.settings = settings
        self.command = command
        self.stopping = threading.Event()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._state = schedule_state.read(settings.state)
        self._state.setdefault("jobs", {})

    def serve(self) -> None:
        """Returns after `stop`, when no child is left."""
        scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(1), "check": ThreadPoolExecutor(1), "beat": ThreadPoolExecutor(1)},
            # A machine that slept runs what it missed once, however late.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        now = datetime.now(UTC)
        for name, times in jobs_of(self.settings).items():
            # A first start missed nothing: what is in the landing place then is for a person to load.
            known = self._state["jobs"].get(name, {}).get("seen")
            if known and missed(times, datetime.fromisoformat(known), now):
                scheduler.add_job(self.load, args=[name], id=f"{name}-missed")
            else:
                self._update(name, seen=now.isoformat(timespec="seconds"))
            if times:
                scheduler.add_job(self.load, LocalTimes(times), args=[name], id=name)
        first = now + timedelta(minutes=5)  # services that start with it answer by then
        scheduler.add_job(self.check, "interval", hours=1, id="check", executor="check", next_run_time=first)
        if expiry := next_slot(EXPIRY, now):
            scheduler.add_job(self.expire, LocalTimes(EXPIRY), id=EXPIRE, next_run_time=expiry)
        scheduler.add_job(self.beat, "interval", seconds=HEARTBEAT_SECONDS, id="beat", executor="beat")
        self.beat()
        scheduler.start()
        log("started", **{name: _text(next_slot(times, now)) for name, times in jobs_of(self.settings).items()})
        self.stopping.wait()
        with self._lock:
            children = list(self._children)
        for child in children:
            _signal(child, signal.SIGTERM)
        scheduler.shutdown(wait=True)
        log("stopped")

    def stop(self, *_: Any) -> None:
        """Also a signal handler."""
        self.stopping.set()

    def load(self, name: str) -> None:
        """Run a load, again if its failure may pass, and check afterwards."""
        if self.stopping.is_set():
            return
        began = datetime.now(UTC)
        status, attempt = TRY_AGAIN, 0
        while status == TRY_AGAIN and attempt < self.settings.schedule_attempts:
            if attempt and self.stopping.wait(backoff(attempt, self.settings.schedule_backoff_seconds)):
                break
            attempt += 1
            status = self._run("run", "--no-sample", timeout=self.settings.schedule_timeout_seconds)
        stopped = self.stopping.is_set() and status != 0
        ran = _ran(began, datetime.now(UTC), status, attempt)
        # A load that was stopped did not happen: it runs once at the next start.
        self._update(name, **ran, **({} if stopped else {"seen": ran["started"]}))
        result = "stopped" if stopped else "ok" if status == 0 else "failed"
        log("run", "error" if result == "failed" else "info", job=name, result=result, **ran)
        if not stopped:
            self.check()

    def expire(self) -> None:
        """Take away what is kept no longer. A night that is missed is made up for by the next."""
        if self.stopping.is_set():
            return
        began = datetime.now(UTC)
        status = self._run(EXPIRE, timeout=self.settings.schedule_timeout_seconds)
        self._update(EXPIRE, **_ran(began, datetime.now(UTC), status))
        log(EXPIRE, exit_status=status)

    def check(self) -> None:
        """Check, and send alarms."""
        if not self.stopping.is_set():
            status = self._run("check", "--alarm", timeout=600, quiet=True)
            log("check", exit_status=status)

    def beat(self) -> None:
        """Say that the scheduler lives; `healthy` reads it."""
        with self._lock:
            self._state["heartbeat"] = _now()
            schedule_state.write(self.settings.state, self._state)
        if self.settings.metrics_file:
            from jobs.telemetry import metrics

            with suppress(OSError):  # a full disk: what is old in the page tells
                metrics.publish(self.settings)

    def _update(self, name: str, **values: Any) -> None:
        with self._lock:
            self._state["jobs"][name] = self._state["jobs"].get(name, {}) | values
            schedule_state.write(self.settings.state, self._state)

    def _run(self, *arguments: str, timeout: float, quiet: bool = False) -> int:
        """A child process, which gives its memory back as it ends. Its exit status; 128 + n if a signal ended it."""
        out = subprocess.DEVNULL if quiet else None
        with self._lock:
            if self.stopping.is_set():
                return 128 + signal.SIGTERM
            child = subprocess.Popen([*self.command, *arguments], stdin=subprocess.DEVNULL, stdout=out, process_group=0)
            self._children.add(child)
        try:
            return _wait(child, timeout, self.stopping.is_set)
        finally:
            with self._lock:
                self._children.discard(child)


def _wait(child: "subprocess.Popen[bytes]", timeout: float, stopping: Callable[[], bool]) -> int:
    left, timed_out, ending = timeout, False, False
    while True:
        try:
            status = child.wait(1)
        except subprocess.TimeoutExpired:
            left -= 1
        else:
            return TIMED_OUT if timed_out else status if status >= 0 else 128 - status
        if stopping() and not ending:  # SIGTERM was sent
            left, ending = min(left, float(STOP_SECONDS)), True
        if left > 0:
            continue
        _signal(child, signal.SIGKILL if ending else signal.SIGTERM)
        timed_out, ending, left = timed_out or not stopping(), True, float(STOP_SECONDS)


def _signal(child: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """To the child and what it started: Spark's Java is one of these."""
    try:
        if child.poll() is None:
            os.killpg(child.pid, number)
    except ProcessLookupError:
        pass


def healthy(settings: Settings, now: datetime) -> bool:
    """Whether the scheduler gave a sign in the last three intervals."""
    beat = schedule_state.read(settings.state).get("heartbeat")
    return beat is not None and now - datetime.fromisoformat(beat) < timedelta(seconds=3 * HEARTBEAT_SECONDS)


def overview(settings: Settings, now: datetime) -> list[dict[str, str]]:
    """What runs next and what ran last, a row a job. Times are local (Europe/London).

    `lake expire` has a row where something is kept no longer; elsewhere it finds nothing each night.
    """
    ran = schedule_state.read(settings.state).get("jobs", {})
    jobs = jobs_of(settings)
    if any(months for name, months in settings if name.startswith("keep_")):
        jobs[EXPIRE] = EXPIRY
    rows = []
    for name, times in jobs.items():
        last = ran.get(name, {})
        rows.append(
            {
                "job": name,
                "next": _text(next_slot(times, now)),
                "last_started": _text(datetime.fromisoformat(last["started"])) if "started" in last else "never",
                "seconds": str(last.get("seconds", "")),
                "exit_status": str(last.get("exit_status", "")),
                "attempts": str(last.get("attempts", "")),
            }
        )
    return rows


def _text(at: datetime | None) -> str:
    return at.astimezone(LONDON).strftime("%Y-%m-%d %H:%M %Z") if at else "none"
