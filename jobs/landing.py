"""The landing place: which files have been delivered, and their bytes. Local or S3, through Arrow's file systems."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pyarrow.fs import (
    AwsStandardS3RetryStrategy,
    FileInfo,
    FileSelector,
    FileSystem,
    FileType,
    LocalFileSystem,
    S3FileSystem,
)


class Delivered(NamedTuple):
    """A file in the landing place."""

    source_file: str  # path below the landing place
    size_bytes: int
    modified_at: datetime  # UTC; of two files that give one reading the later wins


def open_folder(location: str, s3_endpoint: str | None) -> tuple[FileSystem, str]:
    """File system and path of a folder, local or s3a://. S3 keys come from the AWS_… environment variables."""
    parts = urlsplit(location)
    if parts.scheme in ("s3", "s3a"):
        endpoint = urlsplit(s3_endpoint) if s3_endpoint else None
        where = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme} if endpoint else {}
        # Three tries, the default, is what a store that is busy for some seconds outlasts.
        patient = AwsStandardS3RetryStrategy(max_attempts=10)
        # A file of a few MB is one request then, which can be repeated when its answer is lost. The request that
        # completes an upload in parts can not: by then there is no such upload.
        return S3FileSystem(retry_strategy=patient, allow_delayed_open=True, **where), parts.netloc + parts.path
    return LocalFileSystem(), unquote(parts.path) if parts.scheme == "file" else location


def delivered_readings(file_system: FileSystem, path: str) -> list[Delivered]:
    """All readings files: readings/**/*.json and *.json.gz, sorted by path. Hidden ones may still be written."""
    found = _found(file_system, f"{path}/readings", recursive=True)
    files = [info for info in found if info.base_name.endswith((".json", ".json.gz")) and not _is_hidden(info)]
    return sorted(_delivered(info, path) for info in files if info.type == FileType.File)


def delivered_reference(file_system: FileSystem, path: str) -> list[Delivered]:
    """The newest SQLite file (*.db) at the top of the landing place, if there is one."""
    files = [info for info in _found(file_system, path) if info.extension == "db" and not _is_hidden(info)]
    delivered = [_delivered(info, path) for info in files if info.type == FileType.File]
    return sorted(delivered, key=lambda file: (file.modified_at, file.source_file))[-1:]


def _found(file_system: FileSystem, path: str, *, recursive: bool = False) -> list[FileInfo]:
    """Raises OSError where the name of a file, of whatever kind, is not UTF-8."""
    found: list[FileInfo] = file_system.get_file_info(FileSelector(path, allow_not_found=True, recursive=recursive))
    try:
        for info in found:
            _ = info.path  # it is decoded only now
    except UnicodeDecodeError as error:
        name = error.object.decode(errors="backslashreplace")
        raise OSError(f"the name of a file is not UTF-8, rename or remove it: {name}") from None
    return found


def is_empty(file_system: FileSystem, path: str) -> bool:
    """Whether there is no file at all, of whatever name; hidden ones aside."""
    found = _found(file_system, path, recursive=True)
    return not any(info.type == FileType.File and not _is_hidden(info) for info in found)


def _is_hidden(info: FileInfo) -> bool:
    return bool(info.base_name.startswith("."))


def _delivered(info: FileInfo, path: str) -> Delivered:
    return Delivered(info.path.removeprefix(f"{path}/"), info.size, info.mtime)


def read_ahead(file_system: FileSystem, paths: Iterable[str], threads: int = 16) -> Iterator[bytes | OSError]:
    """The bytes of each path, in order; from an object store read some files ahead, as its latency is most of what a
    small file costs. A file that cannot be read gives its error."""

    def read(path: str) -> bytes | OSError:
        try:
            with file_system.open_input_stream(path, compression=None) as stream:
                return bytes(stream.read())
        except OSError as error:
            return error

    if isinstance(file_system, LocalFileSystem):
        yield from map(read, paths)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[bytes | OSError]] = deque()
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
