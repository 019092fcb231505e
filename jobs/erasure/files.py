"""Erased ids in what is no table: reports, logs, the landing place, backups."""

import mmap
import os
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import dataset

from jobs import landing
from jobs.erasure import state as erasures
from jobs.erasure.state import Pending
from jobs.erasure.who import CONTENT, OF_ROWS, TEXTS, Who, Words, who_of
from jobs.readings.erased import DAY, EPOCH
from jobs.readings.parse import parse_file
from jobs.readings.rules import FileRejected
from jobs.settings import Settings
from jobs.stores import open_folder

READ_BY_PROGRAMS = {".json", ".prom"}
TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
TIME = re.compile(rb'"\d{4}-?\d\d-?\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d|-[0-9a-f]{6})?)?"')  # or the id of a load


def texts(settings: Settings) -> Iterator[Path]:
    """Files of reports and of state, but for tables, the metastore, and what an erasure keeps itself."""
    others = {Path(settings.warehouse), settings.state / "metastore", settings.state / erasures.FOLDER}
    for root in dict.fromkeys((settings.reports, settings.state)):
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if Path(folder, name) not in others | {settings.reports}]
            paths = (Path(folder, name) for name in names)
            yield from (path for path in paths if path.is_file() and not path.is_symlink())


def holding(paths: Iterable[Path], words: Words) -> Iterator[Path]:
    """Files that hold ids, whatever they are."""
    for path in paths:
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                is_held = any(_spans(path, content, words))
            if is_held:
                yield path


def redact_files(settings: Settings, words: Words) -> None:
    """Write asterisks over ids in pages and logs. In their place, so that whoever appends to a log still can."""
    for path in holding(texts(settings), words):
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
            for start, end in list(_spans(path, content, words)):
                content[start:end] = b"*" * (end - start)


def _spans(path: Path, content: mmap.mmap, words: Words) -> Iterator[tuple[int, int]]:
    """Where ids are in a file. In one that programs read numbers and times are none, whatever their digits."""
    pattern = words.bytes_pattern
    if pattern and path.suffix in READ_BY_PROGRAMS:
        texts = (text for text in TEXT.finditer(content) if not TIME.fullmatch(text[0]))
        yield from (
            (text.start() + found.start(), text.start() + found.end())
            for text in texts
            for found in pattern.finditer(text[0])
        )
    elif pattern:
        yield from (found.span() for found in pattern.finditer(content))


def of_landing(settings: Settings, what: Pending) -> tuple[list[str], list[tuple[str, str]]]:
    """Delete files that hold theirs alone. Others are a sender's, are not changed, and are named with the reason."""
    file_system, folder = open_folder(settings.landing, settings.s3_endpoint)
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
            with landing.open_file(file_system, folder, name, landing.LARGEST_READINGS).stream as stream:
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
    odd = [name for name in there.ignored if who.words.redacted(name) != name]
    remaining += [(name, "by its name it is no input") for name in odd]
    for file in there.reference:
        try:
            opened = landing.open_file(file_system, folder, file.source_file, landing.LARGEST_REFERENCE)
            with opened.stream as stream:
                if _in_stream(stream, who.words):
                    remaining.append((file.source_file, "a reference file is replaced by its sender"))
        except OSError as error:
            remaining.append((file.source_file, f"it cannot be opened: {type(error).__name__}"))
    return deleted, remaining


def _rows_of(name: str, content: bytes, who: Who) -> tuple[int, int]:
    """How many rows of a file are others', and how many theirs. Raises FileRejected."""
    parsed = parse_file(name, content, 2**62)
    names, starts = (parsed.good[column].to_pylist() for column in ("meterpoint_id", "interval_start"))
    days = [EPOCH + timedelta(days=start // DAY) for start in starts]
    theirs = sum(name in who.meterpoints or who.had(name, day) for name, day in zip(names, days, strict=True))
    theirs += sum(
        who.says(row.row_json, None if row.date is None else EPOCH + timedelta(days=row.date))
        for row in parsed.rejected
    )
    return len(days) + len(parsed.rejected) - theirs, theirs


def _in_stream(stream: Any, words: Words, piece: int = 16 * 1024 * 1024) -> bool:
    before = b""
    while content := stream.read(piece):
        if words.bytes_pattern and words.bytes_pattern.search(before + content):
            return True
        before = content[-4096:]
    return False


def in_backups(folder: Path, what: Pending) -> list[str]:
    """Names of backups that have one of the ids in a table, a report or a log."""
    who = who_of(what)
    found = []
    for backup in sorted(folder.iterdir()) if folder.is_dir() else ():
        files = [path for path in sorted(backup.rglob("*")) if path.is_file() and not path.is_symlink()]
        others = (path for path in files if path.suffix != ".parquet")
        if any(_is_in(path, who) for path in files if path.suffix == ".parquet") or any(holding(others, who.words)):
            found.append(f"{folder.name}/{backup.name}")
    return found


def _is_in(path: Path, who: Who) -> bool:
    try:
        content = dataset.dataset(path, format="parquet", partitioning=None)
        columns = [name for name in content.schema.names if name in (*OF_ROWS, *TEXTS, CONTENT)]
        rows = content.to_table(columns=columns, filter=who.condition((), columns))
    except (OSError, pa.ArrowException):
        return False
    _, removed, changed = who.clean(rows, None)
    return bool(removed or changed)
