"""The landing place: which files have been delivered, and their bytes. Local or S3, through Arrow's file systems."""

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, NamedTuple

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from jobs import stores

LARGEST_READINGS = 128 * 1024 * 1024  # bytes of a readings file
LARGEST_REFERENCE = 16 * 1024**3
PIECE = 64 * 1024  # bytes of a local file that are asked for at once


class NotRead(OSError):
    """A file that is not read, for a reason of docs/rules.md."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def reason_of(error: OSError) -> str:
    """The reason of docs/rules.md for which a file is not read."""
    return error.reason if isinstance(error, NotRead) else "unreadable"


class Delivered(NamedTuple):
    """A file in the landing place."""

    source_file: str  # path below the landing place
    size_bytes: int
    modified_at: datetime  # UTC; of two files that give one reading the later wins


# Ends of names of files that are being written, and names of what a system made for itself.
_DRAFT = ("~", ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp")
_OF_SYSTEMS = ("thumbs.db", "desktop.ini")
_READINGS = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
_REFERENCE = (".db", ".sqlite", ".sqlite3")


class Opened(NamedTuple):
    """An open file. Between the listing and now another one may have taken its place."""

    stream: Any
    modified_at: datetime  # UTC


class Content(NamedTuple):
    """All bytes of a file, and when the file was modified that they are of."""

    content: bytes
    modified_at: datetime  # UTC


class Landing(NamedTuple):
    """What lies in the landing place."""

    readings: list[Delivered]  # readings/**, sorted by path
    reference: list[Delivered]  # SQLite files at the top, the newest first
    ignored: list[str]  # what is neither, and was not left there by a system or a program


def look(file_system: FileSystem, path: str) -> Landing:
    """List the landing place. Files are told by their names, in capitals or not. Those that are being written (a
    leading dot, .tmp, .part and the like) are passed over."""
    readings: list[Delivered] = []
    reference: list[Delivered] = []
    ignored: list[str] = []
    of_folder = cache(_is_hidden)
    for info in _found(file_system, path, "readings", ignored):
        if _is_folder(info):
            continue
        file = _delivered(info, path)
        folder, _, name = file.source_file.rpartition("/")
        if of_folder(folder) or _is_hidden(name):
            continue
        if name.lower().endswith(_READINGS):
            readings.append(file)
        else:
            ignored.append(file.source_file)
    for info in _found(file_system, path, "", ignored):
        name = info.base_name.lower()
        if _is_folder(info) or _is_hidden(info.base_name) or name.endswith(_LOGS):
            continue
        if name.endswith(_REFERENCE):
            reference.append(_delivered(info, path))
        else:
            ignored.append(info.base_name)
    reference.sort(key=lambda file: (file.modified_at, file.source_file), reverse=True)
    return Landing(sorted(readings), reference, sorted(ignored))


_LOGS = ("-wal", "-shm", "-journal")  # of SQLite, beside a database


def _is_hidden(path: str) -> bool:
    parts = path.lower().split("/")
    return any(part.startswith((".", "~")) or part.endswith(_DRAFT) or part in _OF_SYSTEMS for part in parts)


def _is_folder(info: FileInfo) -> bool:
    # Files alone have a size, which takes a tenth of the time to ask for.
    return info.size is None and info.type == FileType.Directory


def _found(file_system: FileSystem, root: str, folder: str, odd: list[str]) -> list[FileInfo]:
    """What lies at the top of the landing place, or at any depth in a folder of it. Names that are not UTF-8 are added
    to `odd`, and their files passed over."""
    place = f"{root}/{folder}" if folder else root
    if folder and isinstance(file_system, LocalFileSystem):
        return _walked(file_system, root, place, odd)
    return _listed(file_system, root, FileSelector(place, allow_not_found=True, recursive=bool(folder)), odd)


def _listed(file_system: FileSystem, root: str, selector: FileSelector, odd: list[str]) -> list[FileInfo]:
    found = []
    for info in file_system.get_file_info(selector):
        try:
            _ = info.path  # it is decoded only now
            found.append(info)
        except UnicodeDecodeError as error:
            odd.append(error.object.decode(errors="backslashreplace").removeprefix(f"{root}/"))
    return found


def _walked(file_system: FileSystem, root: str, place: str, odd: list[str]) -> list[FileInfo]:
    """As a recursive listing, but each folder once, and none outside of the landing place: a link to a folder above
    would list its files forty times, and one to / the whole machine."""
    if os.path.exists(place) and not os.path.isdir(place):
        odd.append(place.removeprefix(f"{root}/"))
        return []
    inside = f"{os.path.realpath(root)}/"
    found: list[FileInfo] = []
    seen: set[str] = set()
    folders, links = deque([place]), deque[str]()
    while folders or links:  # links last, so that a folder is read under its own name
        folder = folders.popleft() if folders else links.popleft()
        real = os.path.realpath(folder)
        if not real.startswith(inside):
            odd.append(folder.removeprefix(f"{root}/"))
        elif real not in seen:
            seen.add(real)
            for info in _listed(file_system, root, FileSelector(folder, allow_not_found=True), odd):
                found.append(info)
                if _is_folder(info):
                    (links if os.path.islink(info.path) else folders).append(info.path)
    return found


def has_input(path: str) -> bool:
    """Whether a local landing place has a file of readings or a SQLite file. Only as much is listed as that takes."""
    with os.scandir(path) as entries:
        if any(entry.name.lower().endswith(_REFERENCE) and not _is_hidden(entry.name) for entry in entries):
            return True
    folders, seen = [f"{path}/readings"], set()
    while folders:
        folder = folders.pop()
        real = os.path.realpath(folder)
        if real in seen or not os.path.isdir(folder):
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _is_hidden(entry.name):
                        continue
                    if entry.is_dir():
                        folders.append(entry.path)
                    elif entry.name.lower().endswith(_READINGS):
                        return True
        except PermissionError:
            return True  # what is in it cannot be told; the load will say so
    return False


def is_empty(file_system: FileSystem, path: str) -> bool:
    """Whether there is no file at all, of whatever name, and no folder but `readings`; hidden ones aside."""
    found = [*_found(file_system, path, "", []), *_found(file_system, path, "readings", [])]
    folders = ("readings", *(info.base_name for info in found if f"{path}/readings/" in info.path))
    return all(
        info.base_name.startswith(".") or (info.type == FileType.Directory and info.base_name in folders)
        for info in found
    )


def _delivered(info: FileInfo, path: str) -> Delivered:
    return Delivered(info.path.removeprefix(f"{path}/"), info.size, info.mtime)


def open_file(file_system: FileSystem, root: str, name: str, largest: int) -> Opened:
    """Open a file.

    Raises NotRead where the file is larger than `largest` bytes, or leads out of the landing place, else OSError. A
    link inside is followed: some senders deliver a folder by switching one.
    """
    path = f"{root}/{name}"
    if isinstance(file_system, LocalFileSystem):
        return _open_local(path, root, largest)
    stream, size, modified_at = stores.open_file(file_system, path)
    if size > largest:
        stream.close()
        raise _too_large(size, largest)
    return Opened(stream, modified_at)


def _open_local(path: str, root: str, largest: int) -> Opened:
    try:
        # What is no file is not opened, as a device may do something then; nor waited for, if it takes a file's place.
        is_file = stat.S_ISREG(os.stat(path).st_mode)
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) if is_file else None
    except OSError:  # there is nothing, or it is not ours to read
        if _is_inside(os.path.realpath(path), root):
            raise
        raise _outside() from None
    if opened is None:
        raise NotRead("unreadable", "it is no regular file") if _is_inside(os.path.realpath(path), root) else _outside()
    try:
        # Of what is open, for a link may be switched meanwhile.
        status = os.fstat(opened)
        if not _is_inside(_place(opened, path), root):
            raise _outside()
        if not stat.S_ISREG(status.st_mode):
            raise NotRead("unreadable", "it is no regular file")
        if status.st_size > largest:
            raise _too_large(status.st_size, largest)
        return Opened(os.fdopen(opened, "rb", buffering=0), datetime.fromtimestamp(status.st_mtime, UTC))
    except BaseException:
        os.close(opened)
        raise


def why_not_read(file_system: FileSystem, root: str, name: str) -> str | None:
    """The reason for which a file of readings cannot be opened, None if it can."""
    try:
        open_file(file_system, root, name, LARGEST_READINGS).stream.close()
    except OSError as error:
        return reason_of(error)
    return None


def time_of(listed: datetime, opened: datetime) -> datetime:
    """When the file was modified that was opened: as it was listed, but for one that took its place since then. A
    listing has parts of seconds that an object store does not tell of one object, and that Arrow rounds."""
    return listed if abs(opened - listed) < timedelta(seconds=1) else opened


def _place(opened: int, path: str) -> str:
    """Where an open file lies, all links followed: the kernel knows, and says it in a tenth of the time."""
    try:
        return os.readlink(f"/proc/self/fd/{opened}")
    except OSError:  # not Linux
        return os.path.realpath(path)


def _is_inside(real: str, root: str) -> bool:
    # What is remembered holds no longer where the landing place is a link that was switched.
    return real.startswith(f"{_known_folder(root)}/") or real.startswith(f"{os.path.realpath(root)}/")


def _outside() -> NotRead:
    return NotRead("outside_landing", "it is a link that leads out of the landing place")


_known_folder = lru_cache(maxsize=8)(os.path.realpath)


def _too_large(size: int, largest: int) -> NotRead:
    return NotRead("too_large", f"{size:,} bytes are more than {largest:,}")


def _all_of(stream: Any, is_local: bool) -> bytes:
    """All of a stream, or more than a file of readings may have."""
    if not is_local:  # in one request: between two of them the file may become another one
        return bytes(stream.read(LARGEST_READINGS + 1))
    # Python makes room for as much as is asked for.
    content = bytearray()
    while len(content) <= LARGEST_READINGS and (piece := stream.read(PIECE)):
        content += piece
    return bytes(content)


def read_ahead(
    file_system: FileSystem, root: str, names: Iterable[str], threads: int = 16
) -> Iterator[Content | OSError]:
    """The content of each file, in order; from an object store read some files ahead, as its latency is most of what a
    small file costs. A file that cannot be read gives its error."""

    is_local = isinstance(file_system, LocalFileSystem)

    def read(name: str) -> Content | OSError:
        try:
            opened = open_file(file_system, root, name, LARGEST_READINGS)
            with opened.stream as stream:
                content = _all_of(stream, is_local)
                if len(content) > LARGEST_READINGS:  # it has grown meanwhile
                    raise NotRead("too_large", f"it has more than {LARGEST_READINGS:,} bytes")
                return Content(content, opened.modified_at)
        except OSError as error:
            return error

    if is_local:
        yield from map(read, names)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Content | OSError]] = deque()
        for name in names:
            waiting.append(pool.submit(read, name))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
