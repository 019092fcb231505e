"""The bytes of readings files to good and rejected rows, by the rules of docs/rules.md.

No Spark, no I/O, no settings.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from jobs.readings import by_column, by_row
from jobs.readings.document import columns_and_data
from jobs.readings.parsed import GOOD, Document, File, Parsed, ParsedFile, Told
from jobs.readings.rules import COLUMNS, FileRejected, Warning, quality_column

# So many rows, or bytes of files, are judged together.
ROWS_TOGETHER, BYTES_TOGETHER = 25_000, 8 * 1024 * 1024
LONGEST_NOTE = 200  # characters: names of columns


class _Waiting(NamedTuple):
    """A file that is to be judged together with others."""

    file: File
    values: by_column.Values
    note: str | None


def parse_file(source_file: str, content: bytes, modified_at: int) -> ParsedFile:
    """The rows of a file that was modified at `modified_at` (microseconds UTC). Raises FileRejected where it cannot be
    read as a table of readings."""
    [(_, good, told)] = parse_files([File(source_file, content, modified_at)])
    if isinstance(told[0], FileRejected):
        raise told[0]
    return ParsedFile(good, *told[0])


def parse_files(files: Iterable[File]) -> Iterator[Parsed]:
    """What files say: some together where all of their rows are good, others one by one."""
    waiting: list[_Waiting] = []
    rows = size = 0
    for file in files:
        try:
            document = _read(file)
        except FileRejected as error:
            yield _rejected(file, error)
            continue
        values = by_column.values(document)
        if values is None:
            yield _row_by_row(file, document)
            continue
        waiting.append(_Waiting(file, values, _note(document.columns)))
        rows, size = rows + len(document.data), size + len(file.content)
        if rows >= ROWS_TOGETHER or size >= BYTES_TOGETHER:
            yield from _together(waiting)
            waiting, rows, size = [], 0, 0
    yield from _together(waiting)


def _together(waiting: list[_Waiting]) -> Iterator[Parsed]:
    if not waiting:
        return
    good, warnings, others = by_column.judge([each.values for each in waiting])
    told: dict[int, Told | FileRejected] = {
        number: Told([], _named(warnings.get(number, {})), each.note)
        for number, each in enumerate(waiting)
        if number not in others
    }
    if told:
        yield Parsed([each.file for each in waiting], good, told)
    for number in sorted(others):
        # Read once more: to keep the rows of all until it is known which are good would take longer.
        yield _row_by_row(waiting[number].file, _read(waiting[number].file))


def _row_by_row(file: File, document: Document) -> Parsed:
    try:
        good, rejected, warnings = by_row.judge(document)
    except FileRejected as error:
        return _rejected(file, error)
    except RecursionError:
        return _rejected(file, FileRejected("not_json", "brackets are nested too deeply"))
    return Parsed([file], good, {0: Told(rejected, _named(warnings), _note(document.columns))})


def _rejected(file: File, error: FileRejected) -> Parsed:
    return Parsed([file], GOOD.empty_table(), {0: error})


def _named(warnings: Mapping[Warning, int]) -> dict[str, int]:
    return {str(name): count for name, count in warnings.items()}


def _read(file: File) -> Document:
    try:
        return Document(*columns_and_data(file.name, file.content), file.modified_at)
    except RecursionError:
        raise FileRejected("not_json", "brackets are nested too deeply") from None


def _note(columns: list[str]) -> str | None:
    """Names of ignored columns, as many as there is room for. None is cut: half an id is not known as an erased one."""
    extra = sorted(set(columns) - set(COLUMNS) - {quality_column(columns)})
    ends = accumulate(len(name) + 2 for name in extra)
    shown = [name for name, end in zip(extra, ends, strict=True) if end <= LONGEST_NOTE]
    more = [f"… ({len(extra)} in all)"] if len(shown) < len(extra) else []
    return f"ignored columns: {', '.join([*shown, *more])}" if extra else None
