"""The command `lake`: its commands, by what they are about."""

import os
import sys
from collections.abc import Callable
from inspect import getdoc

import typer
from pydantic import ValidationError
from typer.completion import completion_init  # type: ignore[attr-defined]

from jobs.check import Level
from jobs.cli import access, care, load, look, periods, privacy, quarantine, watch
from jobs.cli.terminal import COMPLETE, command_name, fail, warn
from jobs.settings import Settings, unknown_names, wrong_values
from jobs.telemetry import logs

app = typer.Typer(
    help="A lakehouse for half-hourly smart-meter readings. Settings are variables LAKE_…, see docs/configuration.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(load.run, load.retract, load.reload, load.rebuild, load.rollback),
    privacy.erase,
    *(look.status, look.history, look.sql),
    *(watch.schedule, watch.scheduler, watch.check),
    *(care.sample, care.collect, care.expire, care.move, care.serve, care.completion),
)
for command in COMMANDS:
    app.command()(command)
app.command(hidden=True)(care.backup)  # the scripts of the stack call these two
app.command(hidden=True)(care.restore)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(periods.app, name="periods")
app.add_typer(access.users, name="users")
app.add_typer(access.certificate, name="certificate")


def _unwrap_help(app: typer.Typer) -> None:
    """Help is broken into lines by whoever prints it, not where lines of the code end."""
    for command in app.registered_commands:
        paragraphs = (getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for group in app.registered_groups:
        if group.typer_instance:
            _unwrap_help(group.typer_instance)


_unwrap_help(app)


def main() -> None:
    """The command `lake`. A setting that will not do is an error in a line, whichever command meets it."""
    logs.set_up()
    if COMPLETE in os.environ:
        completion_init()
    else:
        for text in unknown_names(os.environ):
            warn(text)
    try:
        app(prog_name=command_name(), complete_var=COMPLETE)
    except ValidationError as error:
        if error.title != Settings.__name__:
            raise
        for text in wrong_values(error):
            fail(text)
        raise SystemExit(Level.unknown if sys.argv[1:2] == ["check"] else 1) from None
