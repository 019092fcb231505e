"""The bytes of a readings file to its columns and data."""

import gzip
import io
import json
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from jobs.readings.rules import COLUMNS, FileRejected, is_text

# Bytes. A few kB of gzip can say gigabytes of nothing, and as Python objects JSON takes five times as much memory.
LARGEST_UNPACKED = 128 * 1024 * 1024
# Lists, objects and values of a file that is large. The smallest take thirty times their bytes as Python objects.
LARGE = 4 * 1024 * 1024
MOST_BRACKETS, MOST_VALUES = 5_000_000, 20_000_000
# Columns of a file, and characters of their names as JSON: a row that is rejected repeats them all.
MOST_COLUMNS, LONGEST_NAMES = 1_000, 64 * 1024
_MOST_A_BYTE = 1040  # a byte of gzip unpacks to at most 1032


def columns_and_data(source_file: str, content: bytes) -> tuple[list[str], list[Any]]:
    """The columns and the rows of a file. Raises FileRejected where it cannot be read as a table of readings."""
    name = source_file.lower()
    content = _unzipped(content) if name.endswith(".gz") else content
    if len(content) > LARGEST_UNPACKED:
        raise FileRejected("too_large", f"more than {LARGEST_UNPACKED} bytes")
    if len(content) > LARGE and (
        content.count(b"[") + content.count(b"{") > MOST_BRACKETS or content.count(b",") > MOST_VALUES
    ):
        raise FileRejected("too_large", f"more than {MOST_BRACKETS:,} rows or {MOST_VALUES:,} values")
    if not content.strip():
        raise FileRejected("empty_file", "the file is empty")
    if name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return _lines(content)
    return _one(_json(content))


def _unzipped(content: bytes) -> bytes:
    try:
        if len(content) * _MOST_A_BYTE <= LARGEST_UNPACKED:
            return gzip.decompress(content)
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read(LARGEST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FileRejected("not_gzip", str(error)) from None


def _lines(content: bytes) -> tuple[list[str], list[Any]]:
    """A document on each line, read as if they were one."""
    columns: list[str] = []
    data: list[Any] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            names, rows = _one(_json(line))
        except FileRejected as error:
            raise FileRejected(error.reason, f"line {number}: {error.detail}") from None
        columns = columns or names
        if sorted(columns) != sorted(names):
            raise FileRejected("columns_differ", f"line {number} has the columns {json.dumps(names)[:200]}")
        if columns != names:
            place = {name: index for index, name in enumerate(names)}
            order = [place[name] for name in columns]
            rows = [
                [row[index] for index in order] if isinstance(row, list) and len(row) == len(order) else row
                for row in rows
            ]
        data += rows
    if not columns:
        raise FileRejected("empty_file", "the file is empty")
    return columns, data


def _json(content: bytes) -> Any:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        # Slower, but it knows byte order marks and NaN, which many writers emit, halves of surrogate pairs and numbers
        # beyond every float: they are for the rules of rows, and no reason to lose the file.
        return _json_with_keys_checked(content)
    # orjson takes the last of two values for one key without a word. A key may be spelled with escapes as well.
    if b"\\" in content or content.count(b'"data"') > 1 or content.count(b'"columns"') > 1:
        _json_with_keys_checked(content)
    return document


def _json_with_keys_checked(content: bytes) -> Any:
    keys: list[str] = []  # of the object that ended last, which is the outermost

    def keep_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys[:] = [key for key, _ in pairs]
        return dict(pairs)

    try:
        document = json.loads(content, parse_int=_int, object_pairs_hook=keep_keys)
    except ValueError as error:
        raise FileRejected("not_json", str(error)) from None
    for key in ("columns", "data") if isinstance(document, dict) else ():
        if keys.count(key) > 1:
            raise FileRejected("key_twice", f"the key {key!r} occurs {keys.count(key)} times")
    return document


def _int(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Python reads no integer of more than 4300 digits
        return float(digits)


def _one(document: Any) -> tuple[list[str], list[Any]]:
    if not isinstance(document, dict):
        raise FileRejected(
            "not_an_object", f"expected an object with columns and data, found {type(document).__name__}"
        )
    columns, data = document.get("columns"), document.get("data")
    if not isinstance(columns, list):
        raise FileRejected("columns_missing", "the key 'columns' is missing or not a list")
    if not isinstance(data, list):
        raise FileRejected("data_missing", "the key 'data' is missing or not a list")
    try:
        _remembered(tuple(columns))
    except TypeError:  # lists or objects are among them
        _require_columns(columns)
    return columns, data


def _require_columns(columns: Sequence[Any]) -> None:
    """Raises FileRejected where these are no names of columns of readings."""
    if len(columns) > MOST_COLUMNS:
        raise FileRejected("too_large", f"{len(columns):,} columns are more than {MOST_COLUMNS:,}")
    if len(json.dumps(columns)) > LONGEST_NAMES:
        raise FileRejected("too_large", f"the names of the columns have more than {LONGEST_NAMES:,} characters")
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise FileRejected("column_missing", f"no column {', '.join(missing)}; found {json.dumps(columns)[:200]}")
    if not all(map(is_text, columns)) or len(set(columns)) < len(columns):
        raise FileRejected("columns_not_distinct_names", f"found {json.dumps(columns)[:200]}")


_remembered = lru_cache(maxsize=16)(_require_columns)  # most files have the same
