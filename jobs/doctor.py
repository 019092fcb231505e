"""What is wrong with this machine or stack, and what to do about it, a line each: `make doctor`.

It needs Python alone, so that it also runs where Docker or the virtual environment is missing. Exit status: 0, or 1 if
something is in the way. Nothing is changed.
"""

import argparse
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

REPOSITORY = Path(__file__).parents[1]
PORTS = {
    "LAKE_SQL_PORT": 10000,
    "LAKE_REPORTS_PORT": 8088,
    "LAKE_S3_PORT": 9000,
    "LAKE_S3_CONSOLE_PORT": 9001,
    "LAKE_DASHBOARD_PORT": 8089,
}
OLDEST_ENGINE, OLDEST_COMPOSE, OLDEST_PYTHON = (20, 10), (2, 20), (3, 11)
MEMORY_GIB, DISK_GIB, DRIFT_SECONDS = 8, 15, 60
LOOKED_AT = 1000  # files of the landing place
PACKAGES = "https://pypi.org/simple/pip/"

Run = Callable[[list[str]], "Output"]


class Output(NamedTuple):
    """What a command said."""

    status: int
    text: str


class Finding(NamedTuple):
    """What one look found: ok, warning (it may work), or trouble (it will not)."""

    level: str
    about: str
    text: str


def run(command: list[str]) -> Output:
    """A command's exit status and its output; 127 if there is no such program, 124 if it does not end."""
    try:
        ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return Output(127, "")
    except subprocess.TimeoutExpired:
        return Output(124, "")
    return Output(ended.returncode, ended.stdout if not ended.returncode else ended.stderr)


def setting(name: str, default: str, environment: Mapping[str, str], file: Path) -> str:
    """A setting as Compose takes it: from the environment, then .env."""
    if environment.get(name):
        return environment[name]
    found = default
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    except OSError:
        lines = []
    for line in lines:
        if line.startswith(f"{name}=") and line.partition("=")[2]:
            found = line.partition("=")[2].strip("'\"")
    return found


def python(version: tuple[int, ...] = sys.version_info[:2]) -> Finding:
    """For the embedded lakehouse and the tests; the stack brings its own."""
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Finding(
            "warning", "python", f"{text} is too old to run embedded: install 3.11 or newer, or use the stack"
        )
    return Finding("ok", "python", text)


def time_zones() -> Finding:
    try:
        ZoneInfo("Europe/London")
    except ZoneInfoNotFoundError:
        return Finding("warning", "time zones", "this Python has none: install the package tzdata")
    return Finding("ok", "time zones", "Europe/London is known")


def engine(run: Run) -> list[Finding]:
    """Docker's engine, its memory, clock and compose plug-in."""
    asked = run(["docker", "info", "--format", "{{.ServerVersion}}|{{.MemTotal}}|{{.SystemTime}}|{{.DockerRootDir}}"])
    if asked.status == 127:
        return [Finding("warning", "docker", "it is not installed: without it `make run` works embedded")]
    if "permission denied" in asked.text.lower():
        return [Finding("trouble", "docker", "you may not use it: `sudo usermod -aG docker $USER`, and log in again")]
    parts = asked.text.strip().split("|")
    if asked.status or len(parts) != 4 or not parts[0]:
        return [Finding("trouble", "docker", "no engine answers: start Docker (`sudo systemctl start docker`)")]
    version, memory, clock, root = parts
    found = [_not_older("docker", version, OLDEST_ENGINE, "the engine")]
    gib = int(memory) / 2**30
    less = gib < MEMORY_GIB
    text = f"Docker has {gib:.1f} GiB" + (
        f", less than {MEMORY_GIB}: give it more, or lower LAKE_JOBS_HEAP and LAKE_ENDPOINT_HEAP" if less else ""
    )
    found.append(Finding("warning" if less else "ok", "memory", text))
    found.append(drift(clock, datetime.now(UTC)))
    found.append(disk(root if Path(root).exists() else str(REPOSITORY)))
    compose = run(["docker", "compose", "version", "--short"])
    if compose.status:
        return [
            *found,
            Finding("trouble", "compose", "the plug-in is missing: install docker-compose-plugin (version 2)"),
        ]
    return [*found, _not_older("compose", compose.text.strip(), OLDEST_COMPOSE, "the plug-in")]


def _not_older(about: str, version: str, oldest: tuple[int, int], what: str) -> Finding:
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers < oldest:
        return Finding("trouble", about, f"{what} is {version}: {'.'.join(map(str, oldest))} is the oldest that works")
    return Finding("ok", about, version)


def drift(clock: str, now: datetime) -> Finding:
    """The engine's clock, which in a virtual machine may stand still while the computer sleeps."""
    stamp = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", clock)
    zone = re.search(r"(Z|[+-]\d\d:\d\d)$", clock)
    if not stamp or not zone:
        return Finding("warning", "clock", f"Docker tells its time as {clock!r}")
    seconds = (datetime.fromisoformat(stamp[0] + zone[0].replace("Z", "+00:00")) - now).total_seconds()
    if abs(seconds) > DRIFT_SECONDS:
        way = "ahead" if seconds > 0 else "behind"
        return Finding("trouble", "clock", f"Docker's is {abs(seconds):.0f} s {way} of this machine's: restart Docker")
    return Finding("ok", "clock", "Docker's is this machine's")


def disk(folder: str) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    text = f"{free:.0f} GiB free where {folder} is"
    if free < DISK_GIB:
        more = "images alone take 5, their build more: `docker builder prune` frees some"
        return Finding("warning", "disk", f"{text}; {more}")
    return Finding("ok", "disk", text)


def secrets(file: Path) -> Finding:
    if not file.exists():
        return Finding("ok", ".env", "is not there yet: the first `make up` writes it")
    about = file.stat()
    if about.st_uid not in (os.getuid(), 0) or not os.access(file, os.R_OK | os.W_OK):
        return Finding("trouble", ".env", "belongs to somebody else: `sudo chown $USER .env`")
    if stat.S_IMODE(about.st_mode) & 0o077:
        return Finding("warning", ".env", "holds secrets and others may read it: `chmod 600 .env`")
    return Finding("ok", ".env", "is yours alone")


def ports(wanted: Mapping[str, int], ours: Iterable[int]) -> list[Finding]:
    """Ports of this machine that something else has taken. `ours` are those of the stack itself."""
    found = []
    for name, port in wanted.items():
        if port in set(ours):
            continue
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                text = f"{port} is taken by another program: write {name}=… with another one into .env"
                found.append(Finding("trouble", "ports", text))
    return found or [Finding("ok", "ports", "none is taken by another program")]


def services(run: Run) -> tuple[list[Finding], list[int]]:
    """Services that are not as they should be, and the ports that the stack has."""
    asked = run(["docker", "compose", "--profile", "jobs", "--profile", "dashboard", "ps", "--all", "--format", "json"])
    if asked.status or not asked.text.strip():
        return [], []
    lines = asked.text.strip()
    listed = json.loads(lines) if lines.startswith("[") else [json.loads(line) for line in lines.splitlines()]
    published = [port["PublishedPort"] for each in listed for port in each.get("Publishers") or []]
    found = []
    for each in listed:
        name, state, health = each["Service"], each["State"], each.get("Health") or ""
        if (state == "running" and health in ("", "healthy")) or (state == "exited" and not each.get("ExitCode")):
            continue
        text = f"{name} is {health or state}: `make logs S={name}` tells why, `make up` tries again"
        found.append(Finding("warning" if health == "starting" else "trouble", "services", text))
    return found or [Finding("ok", "services", f"{len(listed)} as they should be")], published


def landing(folder: Path, uid: int, gid: int) -> Finding:
    """Whether the user of the containers may read the landing place."""
    if not folder.exists():
        return Finding("ok", "landing place", f"{folder} is not there yet: the first run makes it")

    def may(path: Path, read: int) -> bool:
        about = path.stat()
        shift = 6 if about.st_uid == uid else 3 if about.st_gid == gid else 0
        return bool(stat.S_IMODE(about.st_mode) >> shift & read == read)

    closed = [each for each in (folder.resolve(), *folder.resolve().parents) if not may(each, 1)]
    if closed:
        text = f"uid {uid} of the containers may not enter {closed[-1]}: `chmod o+x {closed[-1]}`"
        return Finding("trouble", "landing place", text)
    for number, path in enumerate(folder.rglob("*")):
        if number >= LOOKED_AT:
            break
        if not path.is_symlink() and not may(path, 5 if path.is_dir() else 4):
            text = f"uid {uid} of the containers may not read {path}: `chmod -R o+rX {folder}`"
            return Finding("trouble", "landing place", text)
    return Finding("ok", "landing place", f"uid {uid} of the containers may read {folder}")


def packages(address: str = PACKAGES) -> Finding:
    """Whether this machine reaches what images are built from, through a proxy that speaks TLS itself, too."""
    try:
        with urllib.request.urlopen(address, timeout=10):
            return Finding("ok", "packages", "Python packages can be downloaded")
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            text = (
                "a proxy has a certificate of its own: put that of its authority into"
                " /usr/local/share/ca-certificates, and `sudo docker/base-image --force` brings it into the images"
            )
            return Finding("trouble", "packages", text)
        return Finding(
            "warning", "packages", "Python packages cannot be downloaded, so nothing can be built or installed now"
        )
    except OSError:
        return Finding(
            "warning", "packages", "Python packages cannot be downloaded, so nothing can be built or installed now"
        )


def look(environment: Mapping[str, str]) -> list[Finding]:
    """All findings of this machine."""
    file = REPOSITORY / ".env"

    def value(name: str, default: str) -> str:
        return setting(name, default, environment, file)

    found = [python(), time_zones(), *engine(run), secrets(file)]
    of_services, ours = services(run)
    wanted = {name: int(value(name, str(port))) for name, port in PORTS.items()}
    uid, gid = (int(value(name, str(own))) for name, own in (("LAKE_UID", os.getuid()), ("LAKE_GID", os.getgid())))
    place = Path(value("LAKE_LANDING_DIR", "landing"))
    return [
        *found,
        *of_services,
        *ports(wanted, ours),
        landing(place if place.is_absolute() else REPOSITORY / place, uid or 10001, gid or 10001),
        packages(),
    ]


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--json", action="store_true", help="print JSON")
    as_json = arguments.parse_args().json
    found = look(os.environ)
    if as_json:
        print(json.dumps([each._asdict() for each in found]))
    else:
        for level, about, text in found:
            print(f"{level:8} {about}: {text}")
    return int(any(each.level == "trouble" for each in found))


if __name__ == "__main__":
    sys.exit(main())
