"""The commands `lake users` and `lake certificate`: who may use the SQL endpoint, and how it proves what it is."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.terminal import AsJson, fail, say
from jobs.settings import Settings
from jobs.users import Role

users = typer.Typer(help="Users of the SQL endpoint. A change holds at once, without a restart.", no_args_is_help=True)
certificate = typer.Typer(
    help="TLS of the SQL endpoint. A change holds from its next start: docker compose restart sql-endpoint.",
    no_args_is_help=True,
)

Generate = Annotated[bool, typer.Option("--generate", help="Make up a password and print it, once.")]


@users.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="a-z, 0-9, '.', '_' and '-'.")],
    role: Annotated[
        Role,
        typer.Option(help="analyst: silver, mart, gold, with pseudonyms; steward: with ids; engineer: all."),
    ] = Role.analyst,
    generate: Generate = False,
) -> None:
    """Add a user. The password is asked for, or read from standard input; it is never an argument."""
    from jobs.users import add

    with _users_change(generate) as (path, password):
        add(path, name, role, password)
    say(f"user {name}, {role.value}")


@users.command("passwd")
def change_users_password(name: str, generate: Generate = False) -> None:
    """Change a user's password."""
    from jobs.users import change_password

    with _users_change(generate) as (path, password):
        change_password(path, name, password)
    say(f"password of {name} changed")


@users.command("role")
def change_users_role(name: str, role: Role) -> None:
    """Change what a user may read, from the next statement on."""
    from jobs.users import UserError, change_role

    try:
        change_role(Settings().users, name, role)
    except (UserError, OSError) as error:
        raise fail(str(error)) from None
    say(f"user {name}, {role.value}")


@users.command("remove")
def remove_user(name: str) -> None:
    """Remove a user. Sessions that are open can read nothing more."""
    from jobs.users import UserError, remove

    try:
        remove(Settings().users, name)
    except (UserError, OSError) as error:
        raise fail(str(error)) from None
    say(f"user {name} removed")


@users.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List users and their roles."""
    from jobs.users import UserError
    from jobs.users import users as all_users

    try:
        found = all_users(Settings().users)
        if as_json:
            print(json.dumps([{"user": name, "role": role.value} for name, role in found.items()]))
        else:
            print("".join(f"{name}\t{role.value}\n" for name, role in found.items()), end="")
        if not found:
            say("There are no users yet: `lake users add NAME` adds one.")
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
    say(f"certificate for {name}, valid until {made.not_valid_after_utc:%Y-%m-%d}")


@certificate.command("import")
def import_certificate() -> None:
    """Take a private key and its certificate chain, as PEM, from standard input."""
    from jobs.certificate import CertificateError, store

    try:
        taken = store(Settings().tls, sys.stdin.buffer.read())
    except (CertificateError, OSError) as error:
        raise fail(str(error)) from None
    say(f"certificate of {taken.subject.rfc4514_string()}, valid until {taken.not_valid_after_utc:%Y-%m-%d}")


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
    say("no certificate")
