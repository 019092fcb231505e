"""The commands that only look: `lake status`, `lake history` and `lake sql`."""

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import date as Date
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jobs import overview
from jobs.cli.terminal import AsJson, console, day, fail, say, warn
from jobs.cli.work import anything_loaded, runner, say_nothing_loaded
from jobs.overview import Overview
from jobs.query import Format
from jobs.settings import Settings
from jobs.wording import counted

Form = Annotated[Format, typer.Option("--format", help="How to print the rows.")]


def status(as_json: AsJson = False) -> None:
    """How new the published data is, the last loads, and how much is in quarantine."""
    settings = Settings()
    found, at_work = _overview(settings)
    until = _certificate_until(settings)
    if as_json:
        found = {name: value for name, value in found.items() if name != overview.CHECK}
        print(json.dumps({**found, "run_at_work": at_work, "certificate_until": until}, indent=1, default=str))
        return
    if at_work:
        warn(f"a run is at work; this is what was there at {found['as_of']} UTC, before it")
    if not found["loaded"]:
        say_nothing_loaded(as_json=False)
    else:
        print_overview(found)
    if until:
        say(f"The SQL endpoint's certificate is valid until {until}")


def _overview(settings: Settings) -> tuple[Overview, bool]:
    """What is to be shown, and whether a run is at work that may change it."""
    from jobs import lock

    if overview.is_new(settings):
        return {"loaded": False}, False
    if overview.can_be_kept(settings):
        try:
            with lock.writer_lock(settings.state, 0):
                if found := overview.kept(settings):
                    return found, False
        except lock.Busy:
            if found := overview.before_this_run(settings):
                return found, True
    with runner() as query:
        query.found = overview.ask(query)
        return query.found, False


def _certificate_until(settings: Settings) -> str | None:
    if not settings.tls.exists():
        return None
    from jobs.certificate import CertificateError, certificate

    try:
        return f"{certificate(settings.tls).not_valid_after_utc:%Y-%m-%d}"
    except CertificateError as error:
        raise fail(f"{settings.tls}: {error}") from None


def print_overview(found: Overview) -> None:
    """How new the data is, the last loads, and what a person should look at."""
    freshness = found["freshness"]
    for name, value in freshness.items():
        if name != "publishing_load_id":
            print(f"{name}: {value or ''}")
    print()
    print_loads(found["loads"])
    if found["loads"] and (error := found["loads"][0]["error"]):
        warn(f"load {found['loads'][0]['load_id']}: {error}")
    if load := freshness["publishing_load_id"]:
        warn(
            f"load {load} is switching tables, or was killed while it did: readings and marts may be of different"
            " loads until the next `lake run`"
        )
    for withheld in found["withheld"]:
        files, load = counted(withheld["files"], "file"), withheld["load_id"]
        say(f"{files} of load {load} withheld by a rollback: `lake reload --load {load}`")
    for text in _quarantine_texts(found["quarantine"]):
        say(text)


def print_loads(loads: list[dict[str, Any]]) -> None:
    """The loads, a line each. An id that goes over two lines could not be copied, nor could a number be read."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("load_id", "what", "files", "readings", "rejected", "dates", "warnings"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("load_id", "what") else "right")
    for load in loads:
        numbers = [f"{load[name] or 0:,}" for name in ("files", "readings", "rejected", "dates", "warnings")]
        table.add_row(load["load_id"], what_came(load), *numbers)
    width = table.__rich_measure__(console, console.options.update(max_width=1_000)).maximum
    Console(width=width, highlight=False).print(table)


def what_came(load: Mapping[str, Any]) -> str:
    """Kind and status of a load in one or two words: of a usual load how it ended, else what it was, too."""
    kind, status = load["kind"], load["status"]
    if kind == "load":
        # Its only file was a reference file that was rejected, or all of them said what they had said before.
        is_empty = status == "published" and not load["dates"] and not load["snapshot_date"]
        return "nothing to publish" if is_empty else status
    return kind if status in ("published", "rollback") else f"{kind} {status}"


def _quarantine_texts(quarantine: dict[str, Any]) -> list[str]:
    if not quarantine["files"]:
        return ["Nothing is in quarantine."]
    parts = [counted(quarantine["rows"], "row")] if quarantine["rows"] else []
    parts += [counted(quarantine["whole_files"], "whole file")] if quarantine["whole_files"] else []
    return [f"In quarantine, of {counted(quarantine['files'], 'file')}: {' and '.join(parts)}. `lake quarantine list`"]


def history(
    table: Annotated[str, typer.Argument(help="schema.table, for example silver.readings")],
    date: Annotated[Date | None, typer.Option(parser=day, metavar="DATE", help="Of this partition only.")] = None,
    form: Form = Format.table,
    as_json: AsJson = False,
) -> None:
    """Which loads published a table's partitions, what each changed, and where the content of then is.

    The folders can be read (Parquet) until they are collected.
    """
    from jobs.query import show
    from jobs.tables import DATA

    if table not in DATA:
        raise fail(f"{table} has no history; these have: {', '.join(DATA)}")
    form = Format.json if as_json else form
    if overview.is_new(Settings()):
        say_nothing_loaded(as_json=form is Format.json)
        return
    of_date = f" AND (partition_value = '{date}' OR partition_value LIKE '{date}/%')" if date else ""
    with runner() as query:
        if not anything_loaded(query, as_json=form is Format.json):
            return
        found = query(
            "SELECT load_id, status, partition_value,"
            " date_format(finished_at, 'yyyy-MM-dd HH:mm:ss') AS published_at, readings_added,"
            " readings_changed, readings_removed, folder FROM ops.publications JOIN ops.loads USING (load_id)"
            f" WHERE table_name = '{table}'{of_date} ORDER BY load_id DESC, partition_value"
        )
    if form is not Format.table:
        show(found, form)
    elif found.rows:
        print("\n".join(lines_of([dict(zip(found.columns, row, strict=True)) for row in found.rows])))
    if not found.rows:
        say(f"No load published {table}" + (f" of {date}." if date else "."))


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """A heading a load, and below it a line a partition, with its folder, whole, in a line of its own."""
    lines: list[str] = []
    load = None
    for row in rows:
        if row["load_id"] != load:
            load = row["load_id"]
            lines += [*([""] if lines else []), f"{load}  {row['status']}  {row['published_at']} UTC"]
        changes = [row[f"readings_{name}"] for name in ("added", "changed", "removed")]
        text = "" if changes[0] is None else "  {:,} added, {:,} changed, {:,} removed".format(*changes)
        lines += [f"  {row['partition_value']}{text}", f"    {row['folder']}"]
    return lines


def sql(
    execute: Annotated[str | None, typer.Option("-e", "--execute", help="Run this and leave.")] = None,
    form: Form = Format.table,
    as_json: AsJson = False,
) -> None:
    """Query the lakehouse: a prompt, or one statement with -e. In the stack through the SQL endpoint."""
    from jobs.query import QueryError, show

    failed, form = False, Format.json if as_json else form
    with runner() as query:
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


LEAVE = ("exit", "quit")


def _typed_statements() -> Iterator[str]:
    """Statements that a person types, each ended by a semicolon; the end of input or the word exit ends them."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  # gives input() a history and line editing

        console.print("Statements end with a semicolon. Leave with exit or Ctrl-D.")
    text = ""
    while True:
        try:
            line = input(("     > " if text else "lake > ") if sys.stdin.isatty() else "")
        except EOFError:
            break
        except KeyboardInterrupt:
            text = ""
            console.print()
            continue
        if not text and line.strip(" \t\r;").lower() in LEAVE:
            return
        text += f"{line}\n"
        if text.rstrip().endswith(";"):
            yield text.rstrip().rstrip(";")
            text = ""
        elif not text.strip():
            text = ""
    if text.strip():
        yield text
