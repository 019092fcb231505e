"""What the command line says, and how it reads what a person typed."""

import os
import re
import shutil
import sys
from datetime import date
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from jobs.telemetry import logs

# What a person watches goes to standard error; standard output is for results.
console = Console(stderr=True, highlight=False)
# The variable by which a shell asks how a command may go on.
COMPLETE = "_LAKE_COMPLETE"


def command_name() -> str:
    """How `lake` is called where this process was started: docker/lake says so in LAKE_COMMAND."""
    return os.environ.get("LAKE_COMMAND") or ("lake" if shutil.which("lake") else "python -m jobs")


def named(text: str) -> str:
    """A text in which commands, each written `lake …` in backticks, are those that work here."""
    return re.sub(r"`lake(?=[ `])", lambda _: f"`{command_name()}", text)


def say(text: str) -> None:
    """A line for the person who watches."""
    _print("info", named(text), escape(named(text)))


def warn(text: str) -> None:
    """A warning in a line."""
    _print("warning", named(text), f"[yellow]warning:[/] {escape(named(text))}")


def fail(text: str, status: int = 1) -> typer.Exit:
    """An error in a line, and the exit status that goes with it."""
    _print("error", named(text), f"[bold red]error:[/] {escape(named(text))}")
    return typer.Exit(status)


def visible(text: str) -> str:
    """A text in which characters that no one sees are written out: a name of a file could move the cursor, set colours,
    or make a line of its own."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _print(level: str, plain: str, marked: str) -> None:
    if logs.is_json():
        print(logs.line(level, plain), file=sys.stderr, flush=True)
    else:
        console.print(visible(marked), soft_wrap=True)


def day(typed: str | date) -> date:
    """A date that was typed, or is the default. Raises BadParameter."""
    text = str(typed)
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is no date; 2021-01-31 is one")


def whole(typed: str | int) -> int:
    """A whole number, 0 or more, that was typed, or is the default. Raises BadParameter."""
    text = str(typed)
    if re.fullmatch(r"\d{1,18}", text, re.ASCII):
        return int(text)
    raise typer.BadParameter(f"{text!r} is no whole number; 100 is one")


def positive(typed: str | int) -> int:
    """The same, 1 or more."""
    if number := whole(typed):
        return number
    raise typer.BadParameter("1 is the least")


First = Annotated[date | None, typer.Option("--from", parser=day, metavar="DATE", help="First local date.")]
Last = Annotated[date | None, typer.Option("--to", parser=day, metavar="DATE", help="Last local date.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def in_order(first: date | None, last: date | None) -> tuple[date | None, date | None]:
    """The two as they are. Ends the command if the last date is before the first."""
    if first and last and last < first:
        raise fail(f"--to {last} is before --from {first}")
    return first, last
