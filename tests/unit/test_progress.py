"""How far a load is, as a person is told."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.cli.work import Job
from jobs.landing import Content
from jobs.progress import Done, Show, counted, duration, shown, text
from jobs.settings import Settings

MB = 1_000_000
EMPTY = Content(b"", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("read", "seconds", "expected"),
    [
        (Done(0, 0), 5, "0 of 2,000 files, 0 of 300 MB"),
        (Done(1, 0), 5, "1 of 2,000 files, 0 of 300 MB"),
        (Done(2, MB), 1, "2 of 2,000 files, 1 of 300 MB"),
        (Done(2, MB), 30, "2 of 2,000 files, 1 of 300 MB, 0.0 MB/s, 2 h 30 min left"),
        (Done(500, 75 * MB), 30, "500 of 2,000 files, 75 of 300 MB, 2.5 MB/s, 90 s left"),
        (Done(2000, 300 * MB), 100, "2,000 of 2,000 files, 300 of 300 MB, 3.0 MB/s, 0 s left"),
    ],
)
def test_text__should_say_files_bytes_rate_and_time_left(read: Done, seconds: float, expected: str) -> None:
    assert text(read, Done(2000, 300 * MB), seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5939, "99 min"), (6000, "1 h 40 min"), (36_300, "10 h 05 min")],
)
def test_duration__should_be_no_more_exact_than_it_is_known(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_shown__should_add_up_what_tasks_at_work_tell_and_pass_nothing_that_is_wanted() -> None:
    told: list[str] = []
    ended = Done(0, 0)
    with shown(Show(told.append, 0.01), Done(4, 40 * MB), lambda: ended) as folder:
        assert folder
        for task in (0, 1):
            contents = counted([EMPTY, OSError("gone")], [5 * MB, 5 * MB], folder / f"task-{task}.txt")
            assert [type(content) for content in contents] == [Content, OSError]
        _until(told, "4 of 4 files, 20 of 40 MB")
        ended = Done(9, 90 * MB)  # of another machine, and some of it twice
        _until(told, "4 of 4 files, 40 of 40 MB")

    at_the_end = len(told)
    time.sleep(0.05)
    assert len(told) == at_the_end
    assert not folder.exists()


def test_counted__should_hand_on_contents_where_nobody_of_this_machine_watches(tmp_path: Path) -> None:
    assert [*counted([EMPTY], [1], tmp_path / "gone" / "task-0.txt")] == [EMPTY]


def _until(told: list[str], start: str) -> None:
    for _ in range(500):
        if told and told[-1].startswith(start):
            return
        time.sleep(0.01)
    pytest.fail(f"{start} was never told, but {told[-3:]}")


@pytest.mark.parametrize(("form", "seconds"), [("json", None), ("text", 30)])
def test_a_stage__should_tell_in_a_line_each_half_minute_without_a_terminal_and_nothing_in_json(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    seconds: float | None,
) -> None:
    monkeypatch.setenv("LAKE_LOG_FORMAT", form)
    with Job(Settings(state=tmp_path)).stage("read and check") as show:
        assert (show and show.seconds) == seconds
        if show:
            show.tell("[1] of 2 files, " + 200 * "x")

    out, err = capsys.readouterr()
    assert out == ""
    if show:
        assert err.splitlines()[0] == "read and check: [1] of 2 files, " + 200 * "x"
