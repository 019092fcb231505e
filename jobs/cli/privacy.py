"""The commands `lake erase` and `lake expire`: who is to be forgotten, and what was kept for long enough."""

import getpass
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jobs.cli.summary import print_end
from jobs.cli.terminal import AsJson, fail, say, warn
from jobs.cli.work import job, require_loads
from jobs.settings import Settings
from jobs.telemetry import logs
from jobs.wording import counted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.cli.work import Job
    from jobs.erasure.find import Request
    from jobs.erasure.run import Done
    from jobs.erasure.state import Pending

LONGEST_REASON = 500
LARGEST_LIST = 16 * 1024 * 1024  # bytes
KINDS = ("meterpoint", "account")


def erase(
    meterpoint: Annotated[
        list[str] | None, typer.Option(help="Id of a meterpoint; may be given several times.")
    ] = None,
    account: Annotated[
        list[str] | None,
        typer.Option(help="Id of an account: its agreements, and readings on dates on which they held."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            help="File of lines `meterpoint ID` or `account ID`; -: standard input. So no shell remembers ids."
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why: needed, but for a dry run. It is kept, and must not name whom.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who asks for it; your user's name if not given.")] = None,
    totals: Annotated[
        Literal["keep", "restate"],
        typer.Option(help="Whether sums of past dates stay, or are built anew without them (gold.restatements)."),
    ] = "keep",
    landing: Annotated[
        bool, typer.Option("--landing", help="Also delete files in the landing place that hold theirs alone.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Say what was erased: when, by whom, why; never what.")] = False,
    as_json: AsJson = False,
    name: Annotated[str | None, typer.Option(hidden=True, help="What messages call the file.")] = None,
    key_lost: Annotated[
        bool, typer.Option("--key-lost", help="Have loads go on although the key of erased ids is lost.")
    ] = False,
) -> None:
    """Erase meterpoints or accounts for good: from all tables, older folders, reports and logs of this folder.

    First it says what would go, and asks. Later deliveries and restored backups do not bring them back. It cannot be
    rolled back, nor can loads from before it.
    """
    named = _named(meterpoint, account, file, name) if not (show or key_lost) else ((), ())
    if not (show or key_lost):
        _check_reason(reason, dry_run=dry_run)
    require_loads(Settings())

    from jobs.erasure import run as work
    from jobs.erasure.find import Request

    with job() as this:
        spark = this.start_spark()
        told: list[str] = []
        with this.stage("apply versioned SQL"):
            work.prepare(spark, this.settings, told.append, key_lost=key_lost)
        for text in told:
            say(text)
        if show:
            this.changed = bool(told)
            _print_list(work.listed(spark), as_json=as_json)
        elif not key_lost:
            request = Request(*named, reason or "", by or _user(), totals == "restate", landing)
            _erase(this, spark, request, yes=yes, dry_run=dry_run)


def _erase(this: "Job", spark: "SparkSession", request: "Request", *, yes: bool, dry_run: bool) -> None:
    from jobs import load
    from jobs.erasure import files, find
    from jobs.erasure import run as work

    try:
        with this.stage("look for them"):
            what, found = find.find(spark, this.settings, request)
            pages = sum(1 for _ in files.holding(files.texts(this.settings), found.who.words))
            backups = files.in_backups(Path(os.environ.get("LAKE_BACKUPS") or "backups"), what)
    except find.Unknown as error:
        # The line names ids, which are for a terminal: lines of JSON are kept by whoever collects logs.
        raise fail("an id is unknown, so nothing was erased" if logs.is_json() else str(error)) from None
    _print_plan(what, pages, backups)
    this.changed = False
    if dry_run:
        return
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise fail("nothing was erased: add --yes")
        if not typer.confirm("Erase them for good?", err=True):
            raise fail("nothing was erased")
    this.changed = True
    with this.stage("erase"):
        work.begin(this.settings, what)
        done = work.finish(spark, this.settings, say, found)
    if done:
        _print_done(done, what, backups, in_stack=bool(this.settings.metastore))
    if what.restate:
        told: list[str] = []
        print_end(this, load.run(spark, this.settings, this.stage, load.Wish(kind="rebuild"), told.append))


def _print_plan(what: "Pending", pages: int, backups: list[str]) -> None:
    print(f"{counted(len(what.meterpoints), 'meterpoint')} and {counted(len(what.accounts), 'account')} would go from:")
    for table, rows in sorted(what.removed.items()):
        print(f"  {table}: {counted(rows, 'row')}")
    print(f"  reports and logs: {counted(pages, 'file')}")
    place = "the landing place: files that hold theirs alone" if what.landing else "not from the landing place"
    print(f"  {place}; {counted(len(what.files), 'file')} named them, here or under an earlier name")
    print("Totals of past dates are built anew." if what.restate else "Totals of past dates stay as they are.")
    print(f"Backups that hold them, and stay: {', '.join(backups) or 'none found'}.")


def _print_done(done: "Done", what: "Pending", backups: list[str], *, in_stack: bool) -> None:
    rows = sum(done.removed.values())
    say(f"Erased {counted(rows, 'row')} by load {done.load_id}. Nothing before it can be rolled back.")
    if what.landing:
        say(f"{counted(len(done.deleted), 'file')} of the landing place deleted.")
    if done.remaining and logs.is_json():
        warn(f"{counted(len(done.remaining), 'file')} of the landing place hold them still")
    elif done.remaining:
        for name, why in done.remaining:
            warn(f"{name} of the landing place holds them still: {why}")
    if backups:
        warn(f"these backups hold them still: {', '.join(backups)}. One that is restored is cleaned by the next run")
    if in_stack:
        warn("logs of containers may name them: `docker compose up --detach --force-recreate` begins new ones")


def _print_list(rows: list[dict[str, object]], *, as_json: bool) -> None:
    from jobs.query import Format, Result, show

    if as_json:
        print(json.dumps(rows))
    elif rows:
        show(Result([*rows[0]], [[str(value) for value in row.values()] for row in rows]), Format.table)
    else:
        say("Nobody was erased.")


def _check_reason(reason: str | None, *, dry_run: bool) -> None:
    if dry_run and reason is None:
        return
    if not reason or not reason.strip():
        raise fail("say why: --reason TEXT")
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        raise fail(f"--reason must be one line of at most {LONGEST_REASON} characters")


def _named(
    meterpoints: list[str] | None, accounts: list[str] | None, file: str | None, name: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids that were typed, and those of a file."""
    found = {"meterpoint": list(meterpoints or ()), "account": list(accounts or ())}
    if file:
        name = name or ("standard input" if file == "-" else file)
        try:
            content = sys.stdin.buffer.read(LARGEST_LIST + 1) if file == "-" else Path(file).read_bytes()
            text = content.decode("utf-8-sig")
        except OSError as error:
            raise fail(f"{name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise fail(f"{name}: is no UTF-8 text") from None
        if len(content) > LARGEST_LIST:
            raise fail(f"{name}: is larger than {LARGEST_LIST:,} bytes")
        for number, line in enumerate(text.splitlines(), 1):
            kind, _, id_ = line.strip().partition(" ")
            if kind and (kind not in KINDS or not id_.strip()):
                # The line itself may be an id, and is not repeated.
                raise fail(f"{name}: line {number}: must be `meterpoint ID` or `account ID`")
            if kind:
                found[kind].append(id_)
    if not any(each.strip() for ids in found.values() for each in ids):
        raise fail("name whom to erase: --meterpoint ID, --account ID or --file FILE")
    return tuple(found["meterpoint"]), tuple(found["account"])


def _user() -> str:
    """Who calls: docker/lake says so, else the system."""
    try:
        return os.environ.get("LAKE_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
