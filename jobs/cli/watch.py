"""The commands `lake schedule`, `lake scheduler` and `lake check`."""

import fcntl
import json
import signal
from datetime import UTC, datetime
from typing import Annotated

import typer

from jobs.cli.terminal import AsJson, fail, say, warn
from jobs.errors import LakeError
from jobs.settings import Settings


def schedule(as_json: AsJson = False) -> None:
    """What the scheduler runs next, and what it ran last. Times are those of Europe/London."""
    from jobs.query import Format, Result, show
    from jobs.schedule import healthy, overview

    settings, now = Settings(), datetime.now(UTC)
    rows, running = overview(settings, now), healthy(settings, now)
    if as_json:
        print(json.dumps({"scheduler_running": running, "jobs": rows}))
        return
    # So that it fits 80 columns; --json has the rest.
    shown = {
        "job": "job",
        "next": "next",
        "last_started": "last started",
        "seconds": "seconds",
        "exit_status": "status",
    }
    show(Result([*shown.values()], [[row[name] for name in shown] for row in rows]), Format.table)
    if not running:
        warn("the scheduler does not run: `make up`, or `lake scheduler` embedded")


def scheduler(
    health: Annotated[bool, typer.Option("--health", help="Only tell, by exit status, whether it is alive.")] = False,
) -> None:
    """Become the scheduler: loads and checks run at their times until it is stopped (SIGTERM, Ctrl-C)."""
    from jobs.schedule import Scheduler, healthy

    settings = Settings()
    if health:
        raise typer.Exit(not healthy(settings, datetime.now(UTC)))
    settings.state.mkdir(parents=True, exist_ok=True)
    with (settings.state / "scheduler.lock").open("w") as alone:
        try:
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise fail("a scheduler is at work already: `lake schedule`") from None
        serving = Scheduler(settings)
        signal.signal(signal.SIGTERM, serving.stop)
        signal.signal(signal.SIGINT, serving.stop)
        serving.serve()


def check(
    as_json: AsJson = False,
    alarm: Annotated[bool, typer.Option("--alarm", help="Also send alarms that began or ended.")] = False,
    test_alarm: Annotated[bool, typer.Option("--test-alarm", help="Only send a test to who gets alarms.")] = False,
) -> None:
    """Is the data there, right and fresh? Exit status 0 ok, 1 warning, 2 critical, 3 unknown.

    With LAKE_METRICS_FILE what was found is written there, too, for Prometheus.
    """
    from jobs import alarm as alarms
    from jobs import check as checks

    settings, now = Settings(), datetime.now(UTC)
    if test_alarm:
        try:
            say("\n".join(alarms.test(settings, now)))
        except LakeError as error:
            raise fail(str(error)) from None
        return
    facts = checks.gather(settings, now)
    findings = checks.judge(facts, settings)
    if as_json:
        print(checks.as_json(findings))
    else:
        for name, level, text in findings:
            print(f"{level.name.upper():8} {name}: {text}")
    if settings.metrics_file:
        from jobs.telemetry import metrics

        try:
            metrics.write(settings.metrics_file, facts, findings)
        except OSError as problem:  # alarms are sent all the same
            warn(f"LAKE_METRICS_FILE: {problem}")
    if alarm:
        for text in alarms.tell(settings, findings, now):
            warn(text)
    raise typer.Exit(int(checks.worst(findings)))
