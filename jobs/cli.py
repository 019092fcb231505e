"""The command `lake`."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs import cli_watch
from jobs.query import Format
from jobs.schedule_state import TRY_AGAIN
from jobs.settings import Settings
from jobs.users import Role

if TYPE_CHECKING:  # Spark and Great Expectations take seconds to import, which --help must not pay for
    from pyspark.sql import SparkSession

    from jobs.load import Stage, Summary, Wish
    from jobs.query import Runner

app = typer.Typer(
    help="A lakehouse for half-hourly smart-meter readings. Settings are LAKE_… environment variables, see README.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
users = typer.Typer(help="Users of the SQL endpoint. A change holds at once, without a restart.", no_args_is_help=True)
app.add_typer(users, name="users")
certificate = typer.Typer(
    help="TLS of the SQL endpoint. A change holds from its next start: docker compose restart sql-endpoint.",
    no_args_is_help=True,
)
app.add_typer(certificate, name="certificate")
cli_watch.register(app)
# What a person watches goes to standard error; standard output is for results.
console = Console(stderr=True, highlight=False)


def main() -> None:
    """The command `lake`. A setting that will not do is an error in a line, whichever command meets it."""
    try:
        app(prog_name="lake")
    except ValidationError as error:
        if error.title != Settings.__name__:
            raise
        for wrong in error.errors():
            name = "".join(f"LAKE_{part}: ".upper() for part in wrong["loc"])
            fail(name + wrong["msg"].removeprefix("Value error, "))
        raise SystemExit(1) from None


def fail(message: str, status: int = 1) -> typer.Exit:
    """An error in one line, and the exit status that goes with it."""
    console.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    return typer.Exit(status)


Accept = Annotated[
    list[str] | None,
    typer.Option(help="Let a critical expectation pass, by the name that its message gives; recorded with the load."),
]


@app.command()
def run(
    sample: Annotated[
        bool | None,
        typer.Option(
            help="Make sample input if the landing place is empty and nothing was ever loaded; by default only where"
            " LAKE_LANDING is not set."
        ),
    ] = None,
    accept: Accept = None,
) -> None:
    """Load all that is new in the landing place: check, publish, build the marts, validate, report.

    Exit status 1 if a critical expectation failed or the reference file was rejected; 75 if the load could not run for
    a reason that may pass: another run was at work, a service did not answer.
    """
    from jobs.load import Wish

    _load(Wish(accept=frozenset(accept or ())), sample=sample)


@app.command()
def retract(
    files: Annotated[list[str] | None, typer.Argument(help="Paths below the landing place.")] = None,
    load: Annotated[str | None, typer.Option(help="What a load brought.")] = None,
    meterpoint: Annotated[str | None, typer.Option(help="What any file says of a meterpoint.")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First local date.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last local date.")] = None,
) -> None:
    """Take readings away: those of files, of a load, or of a meterpoint. `lake rollback` brings them back.

    Readings of other files that they outweighed count again. A new version of a file is loaded as any other.
    """
    from jobs.load import Wish
    from jobs.silver import Retraction

    if not (files or load or meterpoint):
        raise fail("name files, --load ID or --meterpoint ID")
    dates = _dates(first, last)
    retraction = Retraction(tuple(map(_below_landing, files or ())), load, meterpoint, *dates)
    _load(Wish(kind="retract", retraction=retraction))


@app.command()
def reload(
    files: Annotated[list[str] | None, typer.Argument(help="Paths below the landing place.")] = None,
    load: Annotated[str | None, typer.Option(help="All files that a load took.")] = None,
    accept: Accept = None,
) -> None:
    """Read files again as they are now, whatever is known of them: after a rollback, or where a new version has the
    size and time of the old one."""
    from jobs.load import Wish

    if not (files or load):
        raise fail("name files, or --load ID")
    _load(
        Wish(
            kind="reload",
            again=tuple(map(_below_landing, files or ())),
            again_load=load,
            accept=frozenset(accept or ()),
        )
    )


@app.command()
def rebuild(
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First local date.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last local date.")] = None,
    from_files: Annotated[
        bool, typer.Option("--from-files", help="Read the dates' files in the landing place again, too.")
    ] = False,
    accept: Accept = None,
) -> None:
    """Build the marts anew, after a formula was changed; with --from-files readings too, after a rule was changed."""
    from jobs.load import Wish

    _load(Wish(kind="rebuild", rebuild=_dates(first, last), from_files=from_files, accept=frozenset(accept or ())))


def _dates(first: datetime | None, last: datetime | None) -> tuple[date | None, date | None]:
    if first and last and last < first:
        raise fail(f"--to {last:%Y-%m-%d} is before --from {first:%Y-%m-%d}")
    return first and first.date(), last and last.date()


def _below_landing(file: str) -> str:
    """A file as the lakehouse names it; a shell completes names to paths that begin with the landing place."""
    landing = Settings().landing
    path = str(Path(file).resolve()) if Path(file).exists() else file
    return path.removeprefix(f"{landing}/")


def _load(wish: "Wish", *, sample: bool | None = False) -> None:
    from jobs import load

    with _job() as (settings, stage, stages):
        spark = _session(settings, stage)
        if sample or (sample is None and "landing" not in settings.model_fields_set):
            _sample_if_new(spark, settings)
        summary = load.run(spark, settings, stage, wish)
    _end(settings, summary, stages)


Stages = dict[str, float]


@contextmanager
def _job() -> Iterator[tuple[Settings, "Stage", Stages]]:
    """What a job that writes needs: the lock, the display of its stages, and errors in one line each."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    from jobs import lock
    from jobs.errors import LakeError

    settings = Settings()
    stages: Stages = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        began = time.monotonic()
        with console.status(f"{name} …"):
            yield
        stages[name] = time.monotonic() - began
        console.print(f"[green]✓[/] {name} [dim]{stages[name]:.1f} s[/]")

    expected = (LakeError, RuntimeError, OSError)
    try:
        with lock.writer_lock(settings.state, settings.lock_wait_seconds):
            yield settings, stage, stages
            if spark := SparkSession.getActiveSession():
                spark.stop()
    except expected as error:
        passing = isinstance(error, lock.Busy | OSError | RuntimeError)
        raise fail(str(error), TRY_AGAIN if passing else 1) from None
    except (PySparkException, Py4JError) as error:
        log = "" if settings.metastore else f"; more in {settings.state}/spark.log"
        what = f"Spark failed after {next(reversed(stages), 'no stage')!r}: {_cause(error)}{log}"
        raise fail(what, TRY_AGAIN) from None


def _cause(error: Exception) -> str:
    """What is wrong, in a line: of a failed task, which brings a stack trace of each layer, the innermost's words."""
    from meterlake import first_line

    _, is_python, trace = str(error).rpartition("Traceback (most recent call last):")
    raised = [line for line in trace.splitlines() if line and not line[0].isspace()]
    if is_python and raised:
        return raised[0]
    return first_line(str(error).rpartition("Caused by: ")[2])


def _session(settings: Settings, stage: "Stage") -> "SparkSession":
    from jobs.spark import start_session

    with stage("start Spark"):
        return start_session(settings)


def _end(settings: Settings, summary: "Summary | None", stages: Stages) -> None:
    """Say what a load did, and leave with the exit status that goes with it."""
    if summary is None:
        console.print(f"Nothing new in {settings.landing}.", soft_wrap=True)
        return
    _print_summary(settings, summary, stages)
    for text in summary.errors:
        fail(text)
    if summary.errors:
        raise typer.Exit(1)


def _sample_if_new(spark: "SparkSession", settings: Settings) -> None:
    """A sample for a new lakehouse. In one that has loads an empty landing place is a delivery that is missing, and
    made-up readings would stand beside real ones."""
    from jobs import landing, tables
    from jobs.sample import write_sample

    if "://" not in settings.landing:
        Path(settings.landing).mkdir(parents=True, exist_ok=True)
    file_system, folder = landing.open_folder(settings.landing, settings.s3_endpoint)
    found = landing.look(file_system, folder)
    if found.readings or found.reference:
        return
    has_loads = tables.exists(spark, tables.LOADS) and tables.partitions(spark, tables.LOADS)
    if has_loads or "://" in settings.landing or not landing.is_empty(file_system, folder):
        missing = f"{settings.landing} has no readings/**/*.json (or .jsonl, .gz) and no *.db"
        console.print(f"[yellow]warning:[/] {escape(missing)}", soft_wrap=True)
        return
    made = write_sample(Path(settings.landing))
    console.print(f"{settings.landing} is empty: made a sample of {made.readings:,} readings in it.", soft_wrap=True)


def _print_summary(settings: Settings, summary: "Summary", stages: dict[str, float]) -> None:
    table = Table(title=f"{summary.kind.capitalize()} {summary.load_id}", show_header=False, title_justify="left")
    dates = f"{summary.dates[0]} … {summary.dates[-1]} ({len(summary.dates)})" if summary.dates else "none"
    files = ", ".join(f"{count:,} {status}" for status, count in sorted(summary.files.items())) or "none"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(summary.rejected_by_reason.items()))
    table.add_row("status", "published" if summary.published else "[bold red]not published")
    if summary.undid:
        table.add_row("undid", summary.undid)
    table.add_row("readings files", files)
    table.add_row("readings", f"{summary.readings_loaded:,} loaded, {summary.readings_rejected:,} rejected")
    if reasons:
        table.add_row("rejected", reasons)
    table.add_row("reference snapshot", str(summary.snapshot_date or "no new one"))
    table.add_row("dates published" if summary.published else "dates not published", dates)
    if summary.changes:
        changed = [sum(counts) for counts in zip(*summary.changes.values(), strict=True)]
        table.add_row("by corrections", "{:,} added, {:,} changed, {:,} removed".format(*changed[1:]))
    if summary.receipt.warnings:
        noticed = ", ".join(f"{count:,} {name}" for name, count in sorted(summary.receipt.warnings.items()))
        table.add_row("noticed", noticed)
    table.add_row("mart dates rebuilt", str(len(summary.mart_dates)))
    checks = sum(verdict.evaluated for verdict in summary.verdicts)
    critical = sum(len(verdict.critical) for verdict in summary.verdicts)
    table.add_row("expectations", f"{checks} checked, {critical} critical failed, {len(summary.warnings)} warnings")
    table.add_row("seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items()))
    table.add_row("total", f"{sum(stages.values()):.1f} s")
    console.print(table)
    for rejection in summary.rejections:
        console.print(f"[yellow]rejected:[/] {escape(rejection)}", soft_wrap=True)
    if summary.rejections:
        console.print("All of them: lake quarantine list; whole: tables quarantine.readings and quarantine.files")
    for warning in summary.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    report = settings.reports_url or settings.reports / "index.html"
    console.print(f"Quality report: {report}", soft_wrap=True)
    console.print('Next: make sql Q="SELECT * FROM gold.daily_product_consumption LIMIT 10"')


@app.command()
def sql(
    execute: Annotated[str | None, typer.Option("-e", "--execute", help="Run this and leave.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
) -> None:
    """Query the lakehouse: a prompt, or one statement with -e. In the stack through the SQL endpoint."""
    from jobs.query import QueryError, show

    failed = False
    with _runner() as query:
        if execute is not None:
            show(query(execute), form)
            return
        for statement in _typed_statements():
            try:
                show(query(statement), form)
            except QueryError as error:
                failed = True
                fail(str(error))
    if failed and not sys.stdin.isatty():
        raise typer.Exit(1)


@contextmanager
def _runner() -> Iterator["Runner"]:
    """What runs queries. Its errors end the command, in one line each."""
    from jobs import lock
    from jobs.errors import LakeError
    from jobs.query import Runner

    settings = Settings()
    # The embedded metastore can be open in one process at a time.
    alone = nullcontext() if settings.endpoint else lock.writer_lock(settings.state, settings.lock_wait_seconds)
    try:
        with alone:
            yield Runner(settings)
    except (LakeError, RuntimeError) as error:
        raise fail(str(error)) from None


def _typed_statements() -> Iterator[str]:
    """Statements that a person types, each ended by a semicolon; the end of input ends them."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  # gives input() a history and line editing

        console.print("Statements end with a semicolon. Leave with Ctrl-D.")
    text = ""
    while True:
        try:
            text += input(("     > " if text else "lake > ") if sys.stdin.isatty() else "") + "\n"
        except EOFError:
            break
        except KeyboardInterrupt:
            text = ""
            console.print()
            continue
        if text.rstrip().endswith(";"):
            yield text.rstrip().rstrip(";")
            text = ""
        elif not text.strip():
            text = ""
    if text.strip():
        yield text


@app.command()
def status() -> None:
    """How new the published data is, the last loads, and what is in quarantine."""
    from jobs.query import show

    with _runner() as query:
        if not _anything_loaded(query):
            return
        show(query("SELECT * FROM gold.data_freshness"), Format.lines)
        print()
        show(
            query(
                "SELECT load_id, kind, status, files_loaded + files_rejected AS files, readings_loaded AS readings,"
                " readings_rejected AS rejected, dates_published AS dates, warnings"
                " FROM gold.load_history ORDER BY started_at DESC LIMIT 10"
            ),
            Format.table,
        )
        withheld = query("SELECT load_id, count(*) AS files FROM ops.withheld_files GROUP BY load_id ORDER BY load_id")
        for load_id, count in withheld.rows:
            console.print(f"{count:,} files of load {load_id} are withheld by a rollback; lake reload --load {load_id}")
        rejected = query(_IN_QUARANTINE)
        if rejected.rows:
            show(rejected, Format.table)
    tls = Settings().tls
    if tls.exists():
        from jobs.certificate import CertificateError, certificate

        try:
            until = certificate(tls).not_valid_after_utc
        except CertificateError as error:
            raise fail(f"{tls}: {error}") from None
        console.print(f"The SQL endpoint's certificate is valid until {until:%Y-%m-%d}")


def _anything_loaded(query: "Runner") -> bool:
    """Says so if not."""
    loaded = bool(query("SHOW SCHEMAS LIKE 'gold'").rows)
    if not loaded:
        console.print("Nothing was loaded yet: make run")
    return loaded


@app.command()
def history(
    table: Annotated[str, typer.Argument(help="schema.table, for example silver.readings")],
    date: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Of this partition only.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
) -> None:
    """Which loads published a table's partitions, what each changed, and where the content of then is.

    The folders can be read (Parquet) until they are collected.
    """
    from jobs.query import show
    from jobs.tables import DATA

    if table not in DATA:
        raise fail(f"{table} has no history; these have: {', '.join(DATA)}")
    of_date = f" AND partition_value = '{date:%Y-%m-%d}'" if date else ""
    with _runner() as query:
        if not _anything_loaded(query):
            return
        show(
            query(
                "SELECT load_id, status, partition_value, finished_at AS published_at, readings_added,"
                " readings_changed, readings_removed, folder FROM ops.publications JOIN ops.loads USING (load_id)"
                f" WHERE table_name = '{table}'{of_date} ORDER BY load_id DESC, partition_value"
            ),
            form,
        )


@app.command()
def rollback(
    load: Annotated[str, typer.Option(help="Id of the newest load or rollback; `lake status` lists them.")],
) -> None:
    """Undo the newest load, or the newest rollback: publish again what was there before, after it was judged.

    The load's files stay known: `lake reload` reads them again, and new versions of them are loaded.
    """
    from jobs import rollback as job

    with _job() as (settings, stage, stages):
        summary = job.run(_session(settings, stage), settings, load, stage)
    _end(settings, summary, stages)


@app.command()
def collect(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
) -> None:
    """Delete folders that no partition names any more, after LAKE_RETENTION_HOURS. A load does it too."""
    from jobs import collect as job

    with _job() as (settings, stage, _):
        spark = _session(settings, stage)
        with stage("collect"):
            folders = job.collect(spark, settings, dry_run=dry_run)
    for folder in folders:
        print(folder)
    console.print(f"{len(folders)} folders {'can be' if dry_run else 'were'} deleted")


@app.command()
def move() -> None:
    """Take over a warehouse that was moved or copied to where LAKE_WAREHOUSE says. No file is touched."""
    from jobs import move as job

    with _job() as (settings, stage, _):
        spark = _session(settings, stage)
        with stage("move"):
            old = job.run(spark, settings)
    console.print(f"the tables are in {settings.warehouse} now, no longer in {old}", soft_wrap=True)


@app.command(hidden=True)
def backup(folder: Path) -> None:
    """Copy the tables' files and the reports to a folder. `make backup` dumps the metastore's database before."""
    from jobs.backup import copy_out

    with _job() as (settings, stage, _), stage("copy tables and reports"):
        copy_out(settings, folder)


@app.command(hidden=True)
def restore(folder: Path) -> None:
    """Copy the tables' files and the reports of a backup into a warehouse that is empty."""
    from jobs.backup import copy_in

    with _job() as (settings, stage, _), stage("copy tables and reports"):
        copy_in(settings, folder)


quarantine = typer.Typer(help="What was rejected, and what to do with it.", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine")

_IN_QUARANTINE = """
    SELECT
      source_file, reason, `rows`, rejected_on,
      if(loads.status IN ('failed', 'rejected'), 'not published', loads.status) AS `load`
    FROM (
      SELECT source_file, reason, count(*) AS `rows`, load_date AS rejected_on, load_id
      FROM quarantine.open_readings GROUP BY source_file, reason, load_date, load_id
      UNION ALL SELECT source_file, reason, NULL, load_date, load_id FROM quarantine.open_files
      UNION ALL SELECT source_file, reason, count(*), load_date, load_id
      FROM quarantine.open_reference GROUP BY source_file, reason, load_date, load_id
    ) JOIN ops.loads AS loads USING (load_id)
    ORDER BY source_file, reason
"""


@quarantine.command("list")
def list_quarantine(
    form: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
) -> None:
    """Files of which rows are in quarantine, or the whole file (rows is empty), by reason.

    A file leaves the list when a new version of it is loaded.
    """
    from jobs.query import show

    with _runner() as query:
        if _anything_loaded(query):
            show(query(_IN_QUARANTINE), form)


@quarantine.command("show")
def show_quarantine(
    file: Annotated[str, typer.Argument(help="Path below the landing place, as the list has it.")],
    form: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
) -> None:
    """What of a file is in quarantine: its rows as they were delivered, or why the whole file was rejected."""
    from jobs.query import show

    name = file.replace("\\", "\\\\").replace("'", "\\'")
    with _runner() as query:
        if not _anything_loaded(query):
            return
        show(
            query(
                "SELECT position, reason, row_json AS content FROM quarantine.open_readings"
                f" WHERE source_file = '{name}' UNION ALL"
                f" SELECT NULL, reason, detail FROM quarantine.open_files WHERE source_file = '{name}' UNION ALL"
                " SELECT row_number, reason, concat(detail, ': ', row_json) FROM quarantine.open_reference"
                f" WHERE source_file = '{name}'"
                " ORDER BY position"
            ),
            form,
        )


@quarantine.command("retry")
def retry_quarantine(
    files: Annotated[list[str] | None, typer.Argument(help="Paths as the list has them; all if none is given.")] = None,
) -> None:
    """Read files in quarantine again, unchanged as they are: after a rule, or the program, was changed.

    What else is new is loaded too. A file that was put right and delivered again needs no retry.
    """
    from jobs.load import Wish

    _load(Wish(retry=[*map(_below_landing, files or ())]))


@quarantine.command("dismiss")
def dismiss_quarantine(
    files: Annotated[list[str], typer.Argument(help="Paths as the list has them.")],
) -> None:
    """Take files off the list: they are gone, or need not be put right. The record of what came stays."""
    from jobs.dismiss import run as dismiss

    with _job() as (settings, stage, _):
        dismiss(_session(settings, stage), [*map(_below_landing, files)])
    console.print(f"{len(files)} files are off the list", soft_wrap=True)


@app.command()
def sample(
    meterpoints: Annotated[int, typer.Option(min=1, help="Number of meterpoints.")] = 100,
    days: Annotated[int, typer.Option(min=1, help="Number of local days.")] = 3,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First local day.")] = datetime(2021, 1, 1),
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; the landing place if not given.")] = None,
) -> None:
    """Make sample input in the form of the real one: readings/*.json and case_study.db."""
    from jobs.sample import write_sample

    landing = Settings().landing
    if not out and "://" in landing:
        raise fail(f"{landing} is no folder; give one: --out DIR")
    try:
        with console.status("making the sample …"):
            made = write_sample(out or Path(landing), meterpoints=meterpoints, days=days, start=start.date(), seed=seed)
    except (FileExistsError, ValueError) as error:
        raise fail(str(error)) from None
    console.print(f"{made.readings:,} readings of {made.meterpoints:,} meterpoints in {made.files:,} files")


@app.command()
def serve() -> None:
    """Become the SQL endpoint (Spark's Thrift server) on port 10000."""
    from jobs.spark import serve as become_endpoint

    try:
        become_endpoint(Settings())
    except RuntimeError as error:
        raise fail(str(error)) from None


Generate = Annotated[bool, typer.Option("--generate", help="Make up a password and print it, once.")]


@users.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="a-z, 0-9, '.', '_' and '-'.")],
    role: Annotated[
        Role, typer.Option(help="analyst: silver, mart, gold; engineer: ops and quarantine, too.")
    ] = Role.analyst,
    generate: Generate = False,
) -> None:
    """Add a user. The password is asked for, or read from standard input; it is never an argument."""
    from jobs.users import add

    with _users_change(generate) as (path, password):
        add(path, name, role, password)
    console.print(f"user {name}, {role.value}", soft_wrap=True)


@users.command("passwd")
def change_users_password(name: str, generate: Generate = False) -> None:
    """Change a user's password."""
    from jobs.users import change_password

    with _users_change(generate) as (path, password):
        change_password(path, name, password)
    console.print(f"password of {name} changed", soft_wrap=True)


@users.command("remove")
def remove_user(name: str) -> None:
    """Remove a user. Sessions that are open can read nothing more."""
    from jobs.users import UserError, remove

    try:
        remove(Settings().users, name)
    except (UserError, OSError) as error:
        raise fail(str(error)) from None
    console.print(f"user {name} removed", soft_wrap=True)


@users.command("list")
def list_users() -> None:
    """List users and their roles."""
    from jobs.users import UserError
    from jobs.users import users as all_users

    try:
        for name, role in all_users(Settings().users).items():
            print(f"{name}\t{role.value}")
    except (UserError, OSError) as error:
        raise fail(str(error)) from None


@contextmanager
def _users_change(generate: bool) -> Iterator[tuple[Path, str]]:
    """The users' file and a new password, which is printed only once it is stored, if it was generated."""
    from jobs.users import UserError, generated_password

    password = generated_password() if generate else _new_password()
    try:
        yield Settings().users, password
    except (UserError, OSError) as error:
        raise fail(str(error)) from None
    if generate:
        print(password)


def _new_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


@certificate.command("generate")
def generate_certificate(
    name: Annotated[str, typer.Argument(help="Host name or IP address by which clients reach the endpoint.")],
) -> None:
    """Make a key and a self-signed certificate. Clients need 'lake certificate show'."""
    from jobs.certificate import generate

    try:
        made = generate(Settings().tls, name)
    except (ValueError, OSError) as error:
        raise fail(str(error)) from None
    console.print(f"certificate for {name}, valid until {made.not_valid_after_utc:%Y-%m-%d}", soft_wrap=True)


@certificate.command("import")
def import_certificate() -> None:
    """Take a private key and its certificate chain, as PEM, from standard input."""
    from jobs.certificate import CertificateError, store

    try:
        taken = store(Settings().tls, sys.stdin.buffer.read())
    except (CertificateError, OSError) as error:
        raise fail(str(error)) from None
    console.print(
        f"certificate of {taken.subject.rfc4514_string()}, valid until {taken.not_valid_after_utc:%Y-%m-%d}",
        soft_wrap=True,
    )


@certificate.command("show")
def show_certificate() -> None:
    """Print the certificate, which clients of a self-signed one need. It is no secret."""
    from jobs.certificate import CertificateError, public

    try:
        print(public(Settings().tls), end="")
    except FileNotFoundError:
        raise fail("there is no certificate: the endpoint speaks without TLS") from None
    except (CertificateError, OSError) as error:
        raise fail(str(error)) from None


@certificate.command("remove")
def remove_certificate() -> None:
    """Remove it: the endpoint speaks without TLS from its next start."""
    Settings().tls.unlink(missing_ok=True)
    console.print("no certificate", soft_wrap=True)
