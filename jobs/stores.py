"""Where files lie: a local disk or an object store, through Arrow's file systems."""

import time
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store
from pyarrow import ArrowInvalid, BufferReader, NativeFile, py_buffer
from pyarrow.fs import (
    AwsStandardS3RetryStrategy,
    FileInfo,
    FileSelector,
    FileSystem,
    FileSystemHandler,
    LocalFileSystem,
    PyFileSystem,
    S3FileSystem,
)

TRIES = 10
SMALL = 1024 * 1024  # bytes of a file that is read whole
OF_AWS = "amazonaws.com"
ANSWER_TOO_LARGE = "Failed to flush response stream"


def open_folder(location: str, s3_endpoint: str | None) -> tuple[FileSystem, str]:
    """File system and path of a folder, local or s3a://. S3 keys come from the AWS_… environment variables."""
    parts = urlsplit(location)
    if parts.scheme in ("s3", "s3a"):
        endpoint = urlsplit(s3_endpoint) if s3_endpoint else None
        where = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme} if endpoint else {}
        # Three tries, the default, is what a store that is busy for some seconds outlasts.
        patient = AwsStandardS3RetryStrategy(max_attempts=TRIES)
        # A file of a few MB is one request then, which can be repeated when its answer is lost. The request that
        # completes an upload in parts can not: by then there is no such upload.
        store = S3FileSystem(retry_strategy=patient, allow_delayed_open=True, **where)
        return PyFileSystem(_SmallFilesWhole(store, s3_endpoint)), parts.netloc + parts.path
    return LocalFileSystem(), unquote(parts.path) if parts.scheme == "file" else location


class Stored(NamedTuple):
    """A file that is open for reading, its size in bytes, and when it was modified (UTC)."""

    stream: NativeFile
    size: int
    modified_at: datetime


def open_file(file_system: FileSystem, path: str) -> Stored:
    """Open a file. An object store tells all about a small one with its bytes: to ask before takes another request."""
    if isinstance(file_system, PyFileSystem) and isinstance(file_system.handler, _SmallFilesWhole):
        return file_system.handler.open(path)
    stream = file_system.open_input_stream(path, compression=None)
    info = file_system.get_file_info(path)
    return Stored(stream, info.size, info.mtime)


class _SmallFilesWhole(FileSystemHandler):  # type: ignore[misc]
    """An object store as it is, but for small files: they are read whole, in one request, and again if that fails.

    The SDK repeats what a busy store refuses, except where the refusal is longer than the bytes that were asked for
    (some hundred): it cannot take it in, and then takes the fault for its own.
    """

    def __init__(self, store: FileSystem, endpoint: str | None) -> None:
        self.store = store
        self.endpoint = endpoint

    def open_input_file(self, path: str) -> NativeFile:
        return _whole_if_small(self.store.open_input_file(path))

    def open(self, path: str) -> Stored:
        bucket, _, key = path.partition("/")
        try:
            found = obstore.get(_bucket(bucket, self.endpoint), key)
            if found.meta["size"] <= SMALL:
                stream = BufferReader(py_buffer(found.bytes()))
                return Stored(stream, found.meta["size"], found.meta["last_modified"])
        except (BaseError, OSError, ValueError):
            pass  # Arrow's client waits for a store that is busy, takes every name, and has one line for an error
        try:
            file = self.store.open_input_file(path)
        except ArrowInvalid as error:  # no name to Arrow, as one with an empty part
            raise OSError(str(error)) from None
        modified_at = datetime.fromisoformat(file.metadata()["Last-Modified"].decode())
        return Stored(_whole_if_small(file), file.size(), modified_at)

    def open_input_stream(self, path: str) -> NativeFile:
        return self.open_input_file(path)

    def get_type_name(self) -> str:
        return str(self.store.type_name)

    def normalize_path(self, path: str) -> str:
        return str(self.store.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return list(self.store.get_file_info(paths))

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        return list(self.store.get_file_info(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        self.store.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self.store.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.store.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        self.store.delete_dir_contents("/", accept_root_dir=True)

    def delete_file(self, path: str) -> None:
        self.store.delete_file(path)

    def move(self, source: str, target: str) -> None:
        self.store.move(source, target)

    def copy_file(self, source: str, target: str) -> None:
        self.store.copy_file(source, target)

    def open_output_stream(self, path: str, metadata: Any) -> NativeFile:
        return self.store.open_output_stream(path, compression=None, metadata=metadata)

    def open_append_stream(self, path: str, metadata: Any) -> NativeFile:
        return self.store.open_append_stream(path, compression=None, metadata=metadata)


@lru_cache
def _bucket(name: str, endpoint: str | None) -> S3Store:
    """A client that takes a third of the processor time of Arrow's for a small file, and one request instead of two."""
    address = urlsplit(endpoint or f"https://{OF_AWS}")
    # Neither Arrow's client nor Spark's takes a proxy from the environment. Where one is named, that is not asked for.
    options: Any = {"proxy_url": "http://localhost", "proxy_excludes": address.hostname}
    options["allow_http"] = address.scheme == "http"
    where: Any = {"endpoint": endpoint} if endpoint else {}
    return S3Store(name, retry_config={"max_retries": 0}, client_options=options, **where)


def _whole_if_small(file: NativeFile) -> NativeFile:
    return BufferReader(_read_whole(file)) if file.size() <= SMALL else file


def _read_whole(file: NativeFile) -> bytes:
    for tried in range(1, TRIES):
        try:
            return bytes(file.read_at(file.size(), 0))
        except OSError as error:
            if ANSWER_TOO_LARGE not in str(error):
                raise
            time.sleep(min(0.1 * 2**tried, 5))
    return bytes(file.read_at(file.size(), 0))
