"""The command `lake quarantine`."""

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs import overview
from jobs.cli.load import look_at_landing, work_on
from jobs.cli.terminal import AsJson, fail, say, visible
from jobs.cli.work import (
    all_below_landing,
    anything_loaded,
    below_landing,
    job,
    require_loads,
    runner,
    say_nothing_loaded,
)
from jobs.query import Format
from jobs.settings import Settings
from jobs.wording import counted

if TYPE_CHECKING:
    from jobs.query import Result, Runner

app = typer.Typer(help="What was rejected, and what to do with it.", no_args_is_help=True)
Form = Annotated[Format, typer.Option("--format", help="How to print the rows.")]


@app.command("list")
def list_files(form: Form = Format.table, as_json: AsJson = False) -> None:
    """Files of which rows are in quarantine, or the whole file, by reason.

    A file leaves the list when a new version of it is loaded, or when it is dismissed.
    """
    from jobs.overview import IN_QUARANTINE
    from jobs.query import show

    form = Format.json if as_json else form
    if overview.is_new(Settings()):
        say_nothing_loaded(as_json=form is Format.json)
        return
    with runner() as query:
        if not anything_loaded(query, as_json=form is Format.json):
            return
        found = query(IN_QUARANTINE)
        if form is not Format.table:
            show(found, form)
        elif found.rows:
            print("\n".join(lines_of(found)))
            say("`lake quarantine show FILE` shows what of a file is in it.")
        else:
            say("Nothing is in quarantine.")


def lines_of(found: "Result") -> list[str]:
    """A line a file, whole, so that its name can be copied, and one below it for each reason."""
    lines: list[str] = []
    for file, rows in groupby(found.rows, key=lambda row: str(row[0])):
        lines.append(visible(file))
        for _, reason, count, rejected_on, load in rows:
            what = "whole file" if count is None else counted(count, "row")
            lines.append(f"  {what:<12} {reason:<34} {rejected_on}  load {load}")
    return lines


@app.command("show")
def show_file(
    file: Annotated[str, typer.Argument(help="Path below the landing place, as the list has it.")],
    form: Form = Format.table,
    as_json: AsJson = False,
) -> None:
    """What of a file is in quarantine: its rows as they were delivered, or why the whole file was rejected."""
    from jobs.query import show

    require_loads(Settings())
    name = below_landing(file).replace("\\", "\\\\").replace("'", "\\'")
    with runner() as query:
        if not anything_loaded(query):
            return
        found = query(
            "SELECT position, reason, row_json AS content FROM quarantine.open_readings"
            f" WHERE source_file = '{name}' UNION ALL"
            f" SELECT NULL, reason, detail FROM quarantine.open_files WHERE source_file = '{name}' UNION ALL"
            " SELECT row_number, reason, concat(detail, ': ', row_json) FROM quarantine.open_reference"
            f" WHERE source_file = '{name}'"
            " ORDER BY position"
        )
        if not found.rows:
            raise _not_in_quarantine(query, below_landing(file))
        show(found, Format.json if as_json else form)


def _not_in_quarantine(query: "Runner", file: str) -> typer.Exit:
    from jobs.names import with_hints
    from jobs.overview import IN_QUARANTINE

    known: set[Any] = {row[0] for row in query(f"SELECT DISTINCT source_file FROM ({IN_QUARANTINE})").rows}
    return fail(f"{with_hints([file], known)}: not in quarantine; `lake quarantine list` tells what is")


@app.command("retry")
def retry(
    files: Annotated[list[str] | None, typer.Argument(help="Paths as the list has them; all if none is given.")] = None,
) -> None:
    """Read files in quarantine again, unchanged as they are: after a rule, or the program, was changed.

    What else is new is loaded too. A file that was put right and delivered again needs no retry. Where none is named,
    files of which something was retracted are left out.
    """
    require_loads(Settings())
    look_at_landing(Settings())

    from jobs.load import Wish

    work_on(Wish(retry=all_below_landing(files)))


@app.command("dismiss")
def dismiss(
    files: Annotated[list[str] | None, typer.Argument(help="Paths as the list has them.")] = None,
    gone: Annotated[bool, typer.Option("--gone", help="All that are no longer in the landing place.")] = False,
) -> None:
    """Take files off the list: they are gone, or need not be put right. The record of what came stays."""
    if not (files or gone):
        raise fail("name files, or --gone")
    require_loads(Settings())
    if gone:
        look_at_landing(Settings())

    from jobs import dismiss as work

    with job() as this:
        dismissed = work.run(this.start_spark(), this.settings, all_below_landing(files), gone=gone)
    for name in dismissed:
        print(name)
    say(f"{counted(len(dismissed), 'file')} off the list")
