"""Bytes of a readings file to good and rejected rows. No Spark, no files, no settings."""

import gzip
import io
import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from jobs.readings.days import (
    MANY_ROWS,
    ONE_PHASE,
    Row,
    hold_days,
    judge_repeats,
    rows_of_meterpoints,
    tell_repeated_hour,
)
from jobs.readings.rules import (
    COLUMNS,
    DAY,
    FORM,
    HALF_HOUR,
    HOUR,
    QUALITY_COLUMNS,
    FileRejected,
    LocalTime,
    RowReason,
    Warning,
    fault_of_consumption,
    fault_of_id,
    is_text,
    local_time,
    quality_of,
)

Numbers = np.ndarray[Any, np.dtype[Any]]
# Bytes of JSON of one file. As Python objects they take ten times as much memory.
LARGEST_UNPACKED = 256 * 1024 * 1024


class Good(NamedTuple):
    """Rows that broke no rule, as columns of equal length, in file order."""

    meterpoint_id: Sequence[str]
    interval_start: Sequence[int] | Numbers  # microseconds since 1970 as the local clock shows it
    interval_start_utc: Sequence[int] | Numbers  # microseconds since 1970, the instant
    consumption_kwh: Sequence[float] | Numbers
    reading_quality: Sequence[str | None]  # empty if the file says nothing


class Rejected(NamedTuple):
    """A row that broke a rule."""

    position: int  # index in the file's data, from 0
    reason: RowReason
    row_json: str  # the row as delivered
    meterpoint_id: str | None  # this and the next where they can be told
    date: int | None  # local date, as days since 1970


class ParsedFile(NamedTuple):
    """What a file says."""

    good: Good
    rejected: list[Rejected]
    warnings: dict[Warning, int]
    note: str | None  # what of the file was ignored


class Document(NamedTuple):
    """The names of a file's columns, and its rows."""

    columns: list[str]
    data: list[Any]


def parse_file(source_file: str, content: bytes, modified_at: int) -> ParsedFile:
    """The rows of a readings file, judged by the rules of docs/rules.md.

    `modified_at` is when the file was written, in microseconds since 1970, UTC: no reading can be later. Raises
    FileRejected if the file cannot be read as a table of readings.
    """
    try:
        documents = _documents(source_file, _unzipped(source_file, content))
        parsed = _plain(documents[0], modified_at) if len(documents) == 1 else None
        return parsed or _judged(documents, modified_at)
    except RecursionError:
        raise FileRejected("not_json", "brackets are nested too deeply") from None


# --- bytes to documents -----------------------------------------------------------------------------------------------


def _unzipped(source_file: str, content: bytes) -> bytes:
    if source_file.lower().endswith(".gz"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(LARGEST_UNPACKED + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise FileRejected("not_gzip", str(error)) from None
    if len(content) > LARGEST_UNPACKED:
        raise FileRejected("too_large", f"more than {LARGEST_UNPACKED // 1024**2} MiB of JSON; deliver it in parts")
    return content


def _documents(source_file: str, content: bytes) -> list[Document]:
    """The documents of a file: one, or, where the name says so, one a line."""
    name = source_file.lower().removesuffix(".gz")
    if not content.strip():
        raise FileRejected("empty_file", "the file is empty")
    if name.endswith((".jsonl", ".ndjson")):
        return [_document(_json(line)) for line in content.splitlines() if line.strip()]
    return [_document(_json(content))]


def _json(content: bytes) -> Any:
    # orjson takes the last of two equal keys without a word. A file that may have a key twice is read more slowly.
    if content.count(b'"data"') < 2 and content.count(b'"columns"') < 2 and b"\\u" not in content:
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            pass
    try:
        # It knows byte order marks and NaN, which many writers emit, halves of surrogate pairs and numbers beyond every
        # float: they are for the rules of rows, and no reason to lose the file.
        return json.loads(content, parse_int=_int, object_pairs_hook=_object)
    except ValueError as error:
        raise FileRejected("not_json", str(error)) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in ("columns", "data"):
        if names.count(name) > 1:
            raise FileRejected("key_twice", f"the key {name!r} occurs {names.count(name)} times")
    return dict(pairs)


def _int(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Python reads no integer of more than 4300 digits
        return float(digits)


def _document(value: Any) -> Document:
    if not isinstance(value, dict):
        raise FileRejected("not_an_object", f"expected an object with columns and data, found {type(value).__name__}")
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list):
        raise FileRejected("columns_missing", "the key 'columns' is missing or not a list")
    if not isinstance(data, list):
        raise FileRejected("data_missing", "the key 'data' is missing or not a list")
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise FileRejected("column_missing", f"no column {', '.join(missing)}; found {json.dumps(columns)[:200]}")
    if not all(map(is_text, columns)) or len(set(columns)) < len(columns):
        raise FileRejected("columns_not_distinct_names", f"found {json.dumps(columns)[:200]}")
    return Document(columns, data)


def _quality_column(columns: list[str]) -> str | None:
    return next((name for name in QUALITY_COLUMNS if name in columns), None)


def _note(columns: list[str]) -> str | None:
    extra = sorted(set(columns) - {*COLUMNS, _quality_column(columns)})
    return f"ignored columns: {', '.join(extra)}" if extra else None


# --- a plain file: of one meterpoint, all rows good -------------------------------------------------------------------


def _plain(document: Document, modified_at: int) -> ParsedFile | None:
    """What a file says of which no rule needs a second look; None of another.

    Nearly every file is like this, so it goes column by column, not row by row.
    """
    columns, data = document
    if not data or set(map(type, data)) != {list} or set(map(len, data)) != {len(columns)}:
        return None
    values = dict(zip(columns, zip(*data, strict=True), strict=True))
    starts, consumption, meterpoints = (values[name] for name in COLUMNS)
    if {*map(type, starts), *map(type, meterpoints)} != {str} or set(map(len, starts)) != {len(FORM)}:
        return None
    names = set(meterpoints)
    if len(names) > 1 or fault_of_id(meterpoints[0]) or len(set(starts)) < len(starts):
        return None
    if not set(map(type, consumption)) <= {float, int} or not 0 <= min(consumption) <= max(consumption) <= ONE_PHASE:
        return None
    times = [time for time in map(local_time, starts) if isinstance(time, LocalTime)]
    if len(times) < len(data):
        return None
    start, utc, instants, on_grid = np.array(times, dtype=np.int64).T
    if instants.max() > 1 or not on_grid.all() or utc.max() > modified_at:
        return None
    kwh = np.array(consumption, dtype=np.float64)
    if not np.isfinite(kwh).all():
        return None
    word = _quality_column(columns)
    quality = list(map(quality_of, values[word])) if word else []
    return ParsedFile(Good(meterpoints, start, utc, kwh, quality), [], _warnings(start, kwh), _note(columns))


def _warnings(start: Numbers, kwh: Numbers) -> dict[Warning, int]:
    """What is odd about the good readings of one meterpoint in a file."""
    found: dict[Warning, int] = {}
    count = len(start)
    if count < MANY_ROWS - 1:
        return found
    order = np.argsort(start, kind="stable")
    in_order, values = start[order], kwh[order]
    if values[0] < values[-1] and (np.diff(values) >= 0).all():
        found["rising_values"] = count
    first, last = int(in_order[0]), int(in_order[-1])
    if first % DAY == HALF_HOUR and last % DAY == 0 and count >= 46:
        found["stamps_at_interval_end"] = count
    if not (start % HOUR).any():
        _, rows = np.unique(start // DAY, return_counts=True)
        if whole := int((rows >= 23).sum()):
            found["hourly_values"] = whole
    return found


# --- any file, row by row ---------------------------------------------------------------------------------------------


def _judged(documents: list[Document], modified_at: int) -> ParsedFile:
    rows: list[Row] = []
    delivered: list[tuple[list[str], Any]] = []
    for columns, data in documents:
        order = [columns.index(name) for name in COLUMNS]
        word = _quality_column(columns)
        quality = columns.index(word) if word else None
        rows += [_judged_alone(values, len(columns), order, quality, modified_at) for values in data]
        delivered += [(columns, values) for values in data]
    warnings: dict[Warning, int] = {}
    for positions in rows_of_meterpoints(rows).values():
        _count(warnings, "repeated_hour_not_told", tell_repeated_hour(rows, positions))
        hold_days(rows, positions)
        judge_repeats(rows, positions)
        for position in positions:
            time = rows[position].time
            if rows[position].reason is None and time and time.utc > modified_at:
                rows[position] = rows[position]._replace(reason="interval_start_after_file")
        good = [rows[position] for position in positions if rows[position].reason is None]
        start = np.array([row.time.start for row in good if row.time], dtype=np.int64)
        kwh = np.array([row.consumption_kwh for row in good], dtype=np.float64)
        for name, count in _warnings(start, kwh).items():
            _count(warnings, name, count)
    kept = [row for row in rows if row.reason is None]
    good_rows = Good(
        [str(row.meterpoint_id) for row in kept],
        [row.time.start for row in kept if row.time],
        [row.time.utc for row in kept if row.time],
        [row.consumption_kwh or 0.0 for row in kept],
        [row.quality for row in kept] if any(row.quality for row in kept) else [],
    )
    rejected = [
        _rejected(position, row, *delivered[position]) for position, row in enumerate(rows) if row.reason is not None
    ]
    notes = sorted({note for columns, _ in documents if (note := _note(columns))})
    return ParsedFile(good_rows, rejected, warnings, "; ".join(notes) or None)


def _count(warnings: dict[Warning, int], name: Warning, count: int) -> None:
    if count:
        warnings[name] = warnings.get(name, 0) + count


def _judged_alone(values: Any, width: int, order: list[int], quality: int | None, modified_at: int) -> Row:
    """A row without regard to the others of its file."""
    if not isinstance(values, list) or len(values) != width:
        return Row(reason="wrong_length")
    start, consumption, meterpoint_id = (values[index] for index in order)
    if not isinstance(meterpoint_id, str):
        return Row(reason="meterpoint_id_not_text")
    if fault := fault_of_id(meterpoint_id):
        return Row(reason=fault)
    row = Row(meterpoint_id)
    if not isinstance(start, str) or len(start) != len(FORM):
        return row._replace(reason="interval_start_not_a_timestamp")
    time = local_time(start)
    if not isinstance(time, LocalTime):
        return row._replace(reason=time)
    row = row._replace(time=time)
    if time.utc > modified_at:
        return row._replace(reason="interval_start_after_file")
    if reason := fault_of_consumption(consumption):
        return row._replace(reason=reason)
    word = quality_of(values[quality]) if quality is not None else None
    return row._replace(consumption_kwh=float(consumption), quality=word)


def _rejected(position: int, row: Row, columns: list[str], values: Any) -> Rejected:
    delivered = values if row.reason == "wrong_length" else dict(zip(columns, values, strict=True))
    date = row.time.start // DAY if row.time else None
    assert row.reason is not None
    return Rejected(position, row.reason, json.dumps(delivered, separators=(",", ":")), row.meterpoint_id, date)
