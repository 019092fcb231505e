"""Erased ids in what is no table: reports, logs, the landing place, backups."""

import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs import landing
from jobs.erasure import state as erasures
from jobs.erasure.state import Pending
from jobs.erasure.who import Who, Words, who_of
from jobs.readings.erased import values_of
from jobs.readings.parse import parse_file
from jobs.readings.rules import FileRejected, spelling
from jobs.settings import Settings

LARGEST_TEXT = 256 * 1024 * 1024  # bytes of a file of reports or state


def texts(settings: Settings) -> Iterator[Path]:
    """Files of reports and of state, but for tables, the metastore, and what an erasure keeps itself."""
    others = {Path(settings.warehouse), settings.state / "metastore", settings.state / erasures.FOLDER}
    for root in dict.fromkeys((settings.reports, settings.state)):
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if Path(folder, name) not in others | {settings.reports}]
            paths = (Path(folder, name) for name in names)
            yield from (path for path in paths if path.is_file() and not path.is_symlink())


def holding(settings: Settings, words: Words) -> Iterator[tuple[Path, bytes]]:
    """Pages and logs that hold ids, and their bytes without."""
    pattern = words.bytes_pattern
    for path in texts(settings) if pattern else ():
        if path.stat().st_size > LARGEST_TEXT:
            continue
        content = path.read_bytes()
        hidden = pattern.sub(lambda found: b"*" * len(found[0]), content)  # type: ignore[union-attr]
        if hidden != content:
            yield path, hidden


def redact_files(settings: Settings, words: Words) -> None:
    """Write asterisks over ids in pages and logs. In their place, so that whoever appends to a log still can."""
    for path, hidden in holding(settings, words):
        with path.open("r+b") as file:
            file.write(hidden)


def of_landing(settings: Settings, what: Pending) -> tuple[list[str], list[tuple[str, str]]]:
    """Delete files that hold theirs alone. Others are a sender's, are not changed, and are named with the reason."""
    file_system, folder = landing.open_folder(settings.landing, settings.s3_endpoint)
    who = who_of(what)
    there = landing.look(file_system, folder)
    wanted = [
        file.source_file
        for file in there.readings
        if file.source_file in what.files or who.words.redacted(file.source_file) != file.source_file
    ]
    deleted, remaining = [], []
    for name in wanted:
        try:
            with landing.open_file(file_system, folder, name, landing.LARGEST_READINGS) as stream:
                others, theirs = _rows_of(name, bytes(stream.read()), who)
            if others:
                if theirs or who.words.redacted(name) != name:
                    remaining.append((name, "it holds others' rows, too"))
            elif theirs:
                file_system.delete_file(f"{folder}/{name}")
                deleted.append(name)
        except FileRejected:
            remaining.append((name, "it cannot be read as a readings file"))
        except OSError as error:
            remaining.append((name, f"it cannot be opened or deleted: {type(error).__name__}"))
    for file in there.reference:
        try:
            with landing.open_file(file_system, folder, file.source_file, landing.LARGEST_REFERENCE) as stream:
                if _in_stream(stream, who.words):
                    remaining.append((file.source_file, "a reference file is replaced by its sender"))
        except OSError as error:
            remaining.append((file.source_file, f"it cannot be opened: {type(error).__name__}"))
    return deleted, remaining


def _rows_of(name: str, content: bytes, who: Who) -> tuple[int, int]:
    """How many rows of a file are others', and how many theirs. Raises FileRejected."""
    parsed = parse_file(name, content, 2**62)
    days = [date(1970, 1, 1) + timedelta(days=int(start) // 86_400_000_000) for start in parsed.good.interval_start]
    rows: list[tuple[str, date | None]] = [*zip(parsed.good.meterpoint_id, days, strict=True)]
    for row in parsed.rejected:
        named = [spelling(each) for each in values_of(row.row_json)]
        day = None if row.date is None else date(1970, 1, 1) + timedelta(days=row.date)
        rows.append((next((each for each in named if each in who.meterpoints or each in who.tenancies), ""), day))
    theirs = sum(
        each in who.meterpoints
        or any(day is None or first <= day <= last for first, last in who.tenancies.get(each, ()))
        for each, day in rows
    )
    return len(rows) - theirs, theirs


def _in_stream(stream: Any, words: Words, piece: int = 16 * 1024 * 1024) -> bool:
    before = b""
    while content := stream.read(piece):
        if words.bytes_pattern and words.bytes_pattern.search(before + content):
            return True
        before = content[-4096:]
    return False


def in_backups(folder: Path, what: Pending) -> list[str]:
    """Names of backups of which a table has one of the ids."""
    who = who_of(what)
    found = []
    for backup in sorted(folder.iterdir()) if folder.is_dir() else ():
        files = sorted((backup / "warehouse").rglob("*.parquet"))
        if any(_is_in(path, who) for path in files):
            found.append(f"{folder.name}/{backup.name}")
    return found


def _is_in(path: Path, who: Who) -> bool:
    try:
        columns = set(pq.read_schema(path).names) & {"meterpoint_id", "account_id"}
        rows = pq.read_table(path, columns=sorted(columns), partitioning=None) if columns else None
    except (OSError, pa.ArrowException):
        return False
    if rows is None:
        return False
    ids = {name: set(filter(None, pc.unique(rows[name]).to_pylist())) for name in columns}
    return bool(
        ids.get("meterpoint_id", set()) & who.meterpoints
        or {spelling(each) for each in ids.get("account_id", set())} & who.accounts
    )
