"""Users of the SQL endpoint: a file of salted slow hashes, which the endpoint reads again when it changes."""

import base64
import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

ITERATIONS = 600_000  # of PBKDF2-HMAC-SHA256, which Python and Java both bring
SHORTEST_PASSWORD = 10
# The users of the `lake` commands and of the health check, see docker/endpoint-guard.
JOBS, HEALTH = RESERVED = ("lake-jobs", "lake-health")


class Role(StrEnum):
    """What a user may read."""

    analyst = "analyst"  # silver, mart and gold, with pseudonyms in the place of ids
    steward = "steward"  # the same, with ids
    engineer = "engineer"  # and ops and quarantine


class UserError(Exception):
    """The change cannot be made, in one line."""


def users(path: Path) -> dict[str, Role]:
    """All users and their roles, by name."""
    return {name: Role(user["role"]) for name, user in sorted(_read(path).items())}


def add(path: Path, name: str, role: Role, password: str) -> None:
    """Raises UserError if there is such a user, or name or password will not do."""
    if not re.fullmatch(r"[a-z][a-z0-9._-]{0,31}", name):
        raise UserError(f"{name!r} is no user name: use up to 32 of a-z, 0-9, '.', '_' and '-', the first a letter")
    if name in RESERVED:
        raise UserError(f"{name} is a user of the lakehouse's own")
    with _changed(path) as entries:
        if name in entries:
            raise UserError(f"there is a user {name} already: `lake users passwd {name}` changes the password")
        entries[name] = {"role": role.value, **_hashed(password)}


def change_password(path: Path, name: str, password: str) -> None:
    """Raises UserError if there is no such user, or the password will not do."""
    with _changed(path) as entries:
        if name not in entries:
            raise UserError(f"there is no user {name}")
        entries[name] |= _hashed(password)


def change_role(path: Path, name: str, role: Role) -> None:
    """Raises UserError if there is no such user."""
    with _changed(path) as entries:
        if name not in entries:
            raise UserError(f"there is no user {name}")
        entries[name]["role"] = role.value


def remove(path: Path, name: str) -> None:
    """Raises UserError if there is no such user."""
    with _changed(path) as entries:
        if entries.pop(name, None) is None:
            raise UserError(f"there is no user {name}")


def generated_password() -> str:
    """A password that nobody needs to make up: 120 random bits."""
    return secrets.token_urlsafe(15)


def _hashed(password: str) -> dict[str, Any]:
    if len(password) < SHORTEST_PASSWORD:
        raise UserError(f"the password is too short: use {SHORTEST_PASSWORD} characters or more")
    if len(password) > 200 or not password.isprintable():
        raise UserError("the password must be one line of at most 200 printable characters")
    if ":" in password:
        raise UserError("the password must not have a ':', after which the endpoint reads nothing over HTTP")
    salt = secrets.token_bytes(16)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    return {
        "algorithm": "pbkdf2-hmac-sha256",
        "iterations": ITERATIONS,
        "salt": base64.b64encode(salt).decode(),
        "hash": base64.b64encode(digest).decode(),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        entries: dict[str, Any] = content["users"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not a file that 'lake users' wrote") from None
    return entries


@contextmanager
def _changed(path: Path) -> Iterator[dict[str, Any]]:
    """The entries, to be changed, by one at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = _read(path)
        yield entries
        write_private(path, json.dumps({"version": 1, "users": entries}, indent=1, sort_keys=True) + "\n")


def write_private(path: Path, content: str) -> None:
    """Write a file for its owner alone, under another name and moved into place, so a reader sees old or new."""
    # mkstemp makes the file readable by its owner alone.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
