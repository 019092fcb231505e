"""The bytes of readings files to good and rejected rows, by the rules of docs/rules.md.

No Spark, no I/O, no settings.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import pyarrow as pa

from jobs.readings import by_column, by_row
from jobs.readings.document import columns_and_data
from jobs.readings.parsed import Document, ParsedFile, Rejected, Told
from jobs.readings.rules import COLUMNS, FileRejected, Warning, quality_column

LONGEST_NOTE = 200  # characters: names of columns


class File(NamedTuple):
    """A readings file as it came."""

    name: str
    content: bytes
    modified_at: int  # microseconds UTC


def parse_file(source_file: str, content: bytes, modified_at: int) -> ParsedFile:
    """The rows of a file that was modified at `modified_at` (microseconds UTC). Raises FileRejected where there are
    no rows to be had."""
    good, (told,) = parse_files([File(source_file, content, modified_at)])
    if isinstance(told, FileRejected):
        raise told
    return ParsedFile(good, *told)


def parse_files(files: Sequence[File]) -> tuple[pa.Table, list[Told | FileRejected]]:
    """The good rows of files (columns as of GOOD), and what else each file says, or why there are no rows to be had."""
    found: dict[int, Told | FileRejected] = {}
    notes: dict[int, str | None] = {}

    def documents() -> Iterator[Document]:
        for number, file in enumerate(files):
            try:
                columns, data = _read(file)
            except FileRejected as error:
                found[number] = error
            else:
                notes[number] = _note(sorted(set(columns) - set(COLUMNS) - {quality_column(columns)}))
                yield Document(number, columns, data, file.modified_at)

    plain = by_column.judge(documents())
    good = [plain.good]
    for number, note in notes.items():
        if number not in plain.others:
            found[number] = Told([], _named(plain.warnings.get(number, {})), note)
            continue
        try:
            rows, rejected, warnings = _by_row(number, files[number])
        except FileRejected as error:
            found[number] = error
        else:
            good.append(rows)
            found[number] = Told(rejected, _named(warnings), note)
    return pa.concat_tables(good), [found[number] for number in range(len(files))]


def _named(warnings: Mapping[Warning, int]) -> dict[str, int]:
    return {str(name): count for name, count in warnings.items()}


def _read(file: File) -> tuple[list[str], list[Any]]:
    try:
        return columns_and_data(file.name, file.content)
    except RecursionError:
        raise FileRejected("not_json", "brackets are nested too deeply") from None


def _by_row(number: int, file: File) -> tuple[pa.Table, list[Rejected], Counter[Warning]]:
    # The bytes are read once more: to keep the rows of all files until it is known which are plain would take longer.
    document = Document(number, *_read(file), file.modified_at)
    try:
        return by_row.judge(document)
    except RecursionError:
        raise FileRejected("not_json", "brackets are nested too deeply") from None


def _note(extra: list[str]) -> str | None:
    """Names of ignored columns, as many as there is room for. None is cut: half an id is not known as an erased one."""
    ends = accumulate(len(name) + 2 for name in extra)
    shown = [name for name, end in zip(extra, ends, strict=True) if end <= LONGEST_NOTE]
    more = [f"… ({len(extra)} in all)"] if len(shown) < len(extra) else []
    return f"ignored columns: {', '.join([*shown, *more])}" if extra else None
