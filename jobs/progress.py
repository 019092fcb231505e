"""How far the reading of a load's files is, for a person who waits."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # commands that need no Arrow do not wait for it
    from jobs.landing import Content

MB = 1_000_000
FIRST_SECONDS, FIRST_SHARE = 30.0, 0.01  # after either a rate is told
TOLD_EACH = 0.5  # seconds in which a task tells again how far it is


class Show(NamedTuple):
    """Shows a text to a person, each so many seconds."""

    tell: Callable[[str], None]
    seconds: float


class Done(NamedTuple):
    """What was read: files, and their bytes as they are in the landing place."""

    files: int
    size: int


@contextmanager
def shown(show: Show | None, wanted: Done, ended: Callable[[], Done]) -> Iterator[Path | None]:
    """Show how far the work is as long as it goes on. Without `show` nobody watches.

    Tasks that end are counted by `ended`. Those of this machine are seen before: they `tell` it in the folder given.
    """
    if not show:
        yield None
        return
    stop, began = Event(), time.monotonic()
    with TemporaryDirectory(prefix="lake-progress-") as name:
        folder = Path(name)

        def watch() -> None:
            while not stop.wait(show.seconds):
                at_work, done = _told(folder), ended()
                # A task that is done twice, because a machine died, counts twice.
                read = Done(*(min(max(pair), most) for *pair, most in zip(at_work, done, wanted, strict=True)))
                show.tell(text(read, wanted, time.monotonic() - began))

        watching = Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield folder
        finally:
            stop.set()
            watching.join()


def counted(contents: "Iterable[Content | OSError]", sizes: Iterable[int], told: Path) -> "Iterator[Content | OSError]":
    """The contents of a task's files. A file counts as read when the next one is asked for."""
    files = size = 0
    last = 0.0
    for content, each in zip(contents, sizes, strict=True):
        yield content
        files, size = files + 1, size + each
        if time.monotonic() - last > TOLD_EACH:
            last = time.monotonic()
            _tell(told, files, size)
    _tell(told, files, size)


def _tell(told: Path, files: int, size: int) -> None:
    with suppress(OSError):  # of another machine than the one on which somebody watches
        draft = told.with_suffix(".part")
        draft.write_text(f"{files} {size}")
        os.replace(draft, told)


def _told(folder: Path) -> Done:
    told = [tuple(map(int, path.read_text().split())) for path in folder.glob("task-*.txt")]
    return Done(sum(files for files, _ in told), sum(size for _, size in told))


def text(read: Done, wanted: Done, seconds: float) -> str:
    """Files and MB, the rate, and the time left if each byte takes the same time."""
    counts = f"{read.files:,} of {wanted.files:,} files, {read.size / MB:,.0f} of {wanted.size / MB:,.0f} MB"
    # Of the first few files nothing follows: tasks are still to be started.
    if not read.size or (seconds < FIRST_SECONDS and read.size < FIRST_SHARE * wanted.size):
        return counts
    rate = read.size / max(seconds, 0.001)
    return f"{counts}, {rate / MB:,.1f} MB/s, {duration((wanted.size - read.size) / rate)} left"


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 05 min": no more exact than it is known."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
