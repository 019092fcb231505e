"""The commands that look after a lakehouse, make input for it, or serve it."""

import json
import os
import re
import shlex
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.terminal import COMPLETE, AsJson, command_name, console, day, fail, positive, say, whole
from jobs.cli.work import job, require_loads
from jobs.settings import Settings
from jobs.wording import counted


def sample(
    meterpoints: Annotated[int, typer.Option(parser=positive, metavar="NUMBER", help="Number of meterpoints.")] = 100,
    days: Annotated[int, typer.Option(parser=positive, metavar="NUMBER", help="Number of local days.")] = 3,
    start: Annotated[date, typer.Option(parser=day, metavar="DATE", help="First local day.")] = date(2021, 1, 1),
    seed: Annotated[int, typer.Option(parser=whole, metavar="NUMBER", help="The same seed gives the same files.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; the landing place if not given.")] = None,
) -> None:
    """Make sample input in the form of the real one: readings/*.json and case_study.db."""
    from jobs.sample import write_sample

    landing = Settings().landing
    if not out and "://" in landing:
        raise fail(f"{landing} is no folder; give one: --out DIR")
    try:
        with console.status("making the sample …"):
            made = write_sample(out or Path(landing), meterpoints=meterpoints, days=days, start=start, seed=seed)
    except (OSError, ValueError) as error:
        raise fail(str(error)) from None
    readings, files = counted(made.readings, "reading"), counted(made.files, "file")
    say(f"{readings} of {counted(made.meterpoints, 'meterpoint')} in {files}")


def collect(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete folders that no partition names any more, after LAKE_RETENTION_HOURS. A load does it too."""
    require_loads(Settings())

    from jobs import collect as work

    with job() as this:
        spark = this.start_spark()
        with this.stage("collect"):
            folders = work.collect(spark, this.settings, dry_run=dry_run)
        this.changed = False
    print(json.dumps(folders) if as_json else "".join(f"{folder}\n" for folder in folders), end="")
    what = "can be deleted" if dry_run else "deleted"
    say(f"{counted(len(folders), 'folder')} {what}")


def expire(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take away what is older than the settings LAKE_KEEP_… allow. The scheduler does it each night."""
    require_loads(Settings())

    from datetime import UTC, datetime

    from jobs import expire as work
    from jobs.reports import expire as reports

    with job() as this:
        spark = this.start_spark()
        today = work.local_today(datetime.now(UTC))
        with this.stage("expire"):
            found = work.find(spark, this.settings, today)
            first = work.first_day(this.settings.keep_reports_months, today)
            pages = reports.older(this.settings.reports, first) if first else []
            load_id = None if dry_run else work.run(spark, this.settings, found, say)
            if not dry_run:
                reports.delete(this.settings.reports, pages)
        this.changed = bool(load_id)
    if as_json:
        rows = [each._asdict() for each in found]
        print(json.dumps({"load_id": load_id, "expired": rows, "reports": pages}, default=str))
        return
    if pages:
        print(f"reports: {counted(len(pages), 'load')}, {pages[0]} to {pages[-1]} (LAKE_KEEP_REPORTS_MONTHS)")
    for table, setting, values in found:
        print(f"{table}: {counted(len(values), 'date')}, {values[0]} to {values[-1]} ({setting})")
    if not found and not pages:
        say("Nothing is older than it may be.")
    elif dry_run:
        say("Nothing was changed: without --dry-run these go.")
    elif load_id:
        say(f"Expired by load {load_id}; `lake rollback` brings readings and snapshots back until they are deleted.")


def move() -> None:
    """Take over a warehouse that was moved or copied to where LAKE_WAREHOUSE says. No file is touched."""
    require_loads(Settings())

    from jobs import move as work

    with job() as this:
        spark = this.start_spark()
        with this.stage("move"):
            old = work.run(spark, this.settings)
    say(f"the tables are in {this.settings.warehouse} now, no longer in {old}")


def backup(folder: Path) -> None:
    """Copy the tables' files and the reports to a folder. `make backup` dumps the metastore's database before."""
    from jobs.backup import copy_out

    with job() as this, this.stage("copy tables and reports"):
        copy_out(this.settings, folder)


def restore(folder: Path) -> None:
    """Copy the tables' files and the reports of a backup into a warehouse that is empty."""
    from jobs.backup import copy_in

    with job() as this, this.stage("copy tables and reports"):
        copy_in(this.settings, folder, Path(os.environ.get("LAKE_BACKUPS") or "backups"))


class Shell(StrEnum):
    """Shells that can complete `lake`."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(shell: Shell) -> None:
    """Print what has a shell complete `lake`, once it has read it: source <(lake completion bash)."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name="lake", complete_var=COMPLETE, shell=shell.value)
    # It calls the command by its path, because an alias is known to people alone.
    path = shlex.quote(command_name())
    print(re.sub(r' (\$1|lake)(?= ?[)"])', lambda _: f" {path}", script))


def serve() -> None:
    """Become the SQL endpoint (Spark's Thrift server) on port 10000."""
    from jobs.thrift_server import serve as become_endpoint

    try:
        become_endpoint(Settings())
    except RuntimeError as error:
        raise fail(str(error)) from None
