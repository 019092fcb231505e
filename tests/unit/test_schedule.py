"""The scheduler: when loads are due, and what becomes of them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time as clock
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import schedule_state
from jobs.check import LONDON
from jobs.schedule import TIMED_OUT, LocalTimes, Scheduler, backoff, healthy, missed, next_slot, overview
from jobs.settings import Settings, clock_times

MakeLake = Callable[..., tuple[Scheduler, Path]]


@pytest.mark.parametrize("at", ["00:15", "00:30", "01:00", "01:30", "02:00", "08:05", "23:59"])
def test_a_time_is_due_exactly_once_on_each_local_day_of_a_year(at: str) -> None:
    trigger, fired = LocalTimes(clock_times(at)), []
    due = trigger.get_next_fire_time(None, datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC))
    while due and due.astimezone(LONDON).year == 2026:
        fired.append(due.astimezone(LONDON).date())
        due = trigger.get_next_fire_time(due, due)
    assert fired == [date(2026, 1, 1) + timedelta(days=count) for count in range(365)]


@pytest.mark.parametrize(
    ("after", "due"),
    [
        # 01:30 is skipped in March: an hour later. It comes twice in October: the first time.
        (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), datetime(2026, 3, 30, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)),
    ],
)
def test_on_clock_change_days(after: datetime, due: datetime) -> None:
    assert next_slot([time(1, 30)], after) == due


def test_a_load_is_missed_if_it_was_due_since() -> None:
    times, at = clock_times("08:05, 09:05"), datetime(2026, 1, 5, 8, 5, tzinfo=UTC)
    assert missed(times, at - timedelta(hours=1), at)
    assert missed(times, at - timedelta(days=30), at)
    assert not missed(times, at, at + timedelta(minutes=59))
    assert not missed([], at, at + timedelta(days=9))
    assert next_slot([], at) is None


def test_waits_double_up_to_an_hour() -> None:
    assert [backoff(attempt, 60) for attempt in (1, 2, 3, 20)] == [60, 120, 240, 3600]


@pytest.fixture
def lake(tmp_path: Path) -> MakeLake:
    """A command in lake's place, which notes its arguments and ends as the file `script` says."""

    def make(script: str, **settings: Any) -> tuple[Scheduler, Path]:
        calls = tmp_path / "calls"
        program = tmp_path / "lake.py"
        program.write_text(f"import sys, time\nopen({str(calls)!r}, 'a').write(sys.argv[1] + '\\n')\n{script}\n")
        chosen = Settings(state=tmp_path / "state", schedule_backoff_seconds=0, **settings)
        return Scheduler(chosen, (sys.executable, str(program))), calls

    return make


def last(scheduler: Scheduler) -> dict[str, Any]:
    found: dict[str, Any] = schedule_state.read(scheduler.settings.state)["jobs"]["readings"]
    return found


def test_a_failure_that_may_pass_is_tried_again_and_then_checked(
    lake: MakeLake, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "sys.exit(75 if sys.argv[1] == 'run' else 0)"
    scheduler, calls = lake(script, schedule_attempts=3)
    scheduler.load("readings")
    assert calls.read_text().split() == ["run", "run", "run", "check"]
    assert (last(scheduler)["exit_status"], last(scheduler)["attempts"]) == (75, 3)
    (line,) = [json.loads(each) for each in capfd.readouterr().out.splitlines() if '"run"' in each]
    assert (line["job"], line["result"], line["attempts"]) == ("readings", "failed", 3)


@pytest.mark.parametrize("status", [0, 1])
def test_a_load_that_ended_is_not_tried_again(lake: MakeLake, status: int) -> None:
    scheduler, calls = lake(f"sys.exit({status})")
    scheduler.load("readings")
    assert calls.read_text().split() == ["run", "check"]
    assert last(scheduler)["exit_status"] == status


def test_a_load_that_takes_too_long_is_ended(lake: MakeLake) -> None:
    scheduler, _ = lake("time.sleep(60 if sys.argv[1] == 'run' else 0)", schedule_timeout_seconds=1)
    began = clock.monotonic()
    scheduler.load("readings")
    assert last(scheduler)["exit_status"] == TIMED_OUT
    assert clock.monotonic() - began < 20


def served(scheduler: Scheduler) -> threading.Thread:
    thread = threading.Thread(target=scheduler.serve)
    thread.start()
    return thread


def wait_for(condition: Callable[[], bool]) -> None:
    until = clock.monotonic() + 20
    while not condition():
        assert clock.monotonic() < until
        clock.sleep(0.05)


def test_a_missed_load_runs_once_at_the_start_and_a_first_start_missed_nothing(lake: MakeLake) -> None:
    scheduler, calls = lake("")
    thread = served(scheduler)
    wait_for(lambda: healthy(scheduler.settings, datetime.now(UTC)))
    scheduler.stop()
    thread.join(20)
    assert not calls.exists()

    state = schedule_state.read(scheduler.settings.state)
    state["jobs"]["readings"]["seen"] = (datetime.now(UTC) - timedelta(days=9)).isoformat()
    schedule_state.write(scheduler.settings.state, state)
    again = Scheduler(scheduler.settings, scheduler.command)
    thread = served(again)
    wait_for(lambda: calls.exists() and "check" in calls.read_text())
    again.stop()
    thread.join(20)
    assert calls.read_text().split() == ["run", "check"]
    assert not healthy(scheduler.settings, datetime.now(UTC) + timedelta(minutes=2))


def test_a_load_that_is_stopped_gets_the_signal_and_runs_at_the_next_start(lake: MakeLake) -> None:
    noted = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[0] + '.term', 'w'), sys.exit(9)))\n"
    scheduler, calls = lake(noted + "time.sleep(60)")
    seen = (datetime.now(UTC) - timedelta(days=9)).isoformat()
    scheduler._state["jobs"]["readings"] = {"seen": seen}
    thread = served(scheduler)
    wait_for(calls.exists)
    clock.sleep(0.5)
    scheduler.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert Path(str(scheduler.command[1]) + ".term").exists()
    assert last(scheduler)["seen"] == seen
    assert calls.read_text().split() == ["run"]


def test_the_command_stops_cleanly_and_shows_its_plan(tmp_path: Path) -> None:
    env = os.environ | {"LAKE_STATE": str(tmp_path), "LAKE_SCHEDULE_READINGS": "none", "LAKE_COMMAND": "lake"}
    server = subprocess.Popen([sys.executable, "-m", "jobs", "scheduler"], env=env, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    started = json.loads(server.stdout.readline())
    assert (started["event"], started["readings"]) == ("started", "none")
    health = [sys.executable, "-m", "jobs", "scheduler", "--health"]
    assert subprocess.run(health, env=env, check=False).returncode == 0
    second = subprocess.run(health[:-1], env=env, capture_output=True, text=True, check=False, timeout=30)
    assert (second.returncode, second.stderr) == (1, "error: a scheduler is at work already: `lake schedule`\n")
    server.send_signal(signal.SIGTERM)
    assert json.loads(server.communicate(timeout=30)[0])["event"] == "stopped"
    assert server.returncode == 0

    rows = overview(Settings(state=tmp_path), datetime(2026, 3, 28, 23, tzinfo=UTC))
    assert [(row["job"], row["next"], row["last_started"]) for row in rows] == [
        ("reference", "2026-03-29 00:30 GMT", "never"),
        ("readings", "2026-03-29 08:05 BST", "never"),
        ("expire", "2026-03-29 03:30 BST", "never"),
    ]


def test_the_plan_shows_the_expiry_where_something_is_kept_no_longer_and_how_the_last_one_went(lake: MakeLake) -> None:
    scheduler, calls = lake("sys.exit(1)", keep_superseded_months=0)
    scheduler.expire()

    now = datetime(2026, 1, 5, tzinfo=UTC)
    with_expiry = scheduler.settings.model_copy(update={"keep_readings_months": 24})
    (*_, row) = overview(with_expiry, now)
    assert calls.read_text().split() == ["expire"]
    assert (row["job"], row["next"], row["exit_status"]) == ("expire", "2026-01-05 03:30 GMT", "1")
    assert row["last_started"] != "never"
    assert [each["job"] for each in overview(scheduler.settings, now)] == ["reference", "readings"]
