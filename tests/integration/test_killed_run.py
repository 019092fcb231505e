"""A run that is killed leaves nothing that the next one does not put right; two runs do not work at once."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from subprocess import CompletedProcess, Popen

import pytest

from jobs.sample import write_sample
from jobs.schedule_state import TRY_AGAIN
from tests.integration.command import Command, as_json
from tests.integration.lake import VIEWS
from tests.integration.oracle import Oracle


@dataclass
class Story:
    """A run killed after it had written, one killed while it published, and one that came to its end."""

    lake: Command
    while_busy: CompletedProcess[str]
    busy_seconds: float
    last: CompletedProcess[str]


def killed_after(run: "Popen[str]", line: str, seconds: float = 0) -> None:
    """Kill a run and all that it started, `seconds` after it said that it is done with a stage."""
    wait_for(run, line)
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL


def wait_for(run: "Popen[str]", line: str) -> None:
    assert run.stderr
    said = []
    for each in run.stderr:
        said.append(each)
        if line in each:
            return
    raise AssertionError(f"the run ended before {line!r}: {''.join(said)}")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    lake = Command(tmp_path_factory.mktemp("killed"), LAKE_LOCK_WAIT_SECONDS="1")
    write_sample(lake.landing, meterpoints=300, days=4, start=date(2021, 1, 1))
    first = lake.start("run")
    try:
        wait_for(first, "start Spark")
        began = time.monotonic()
        while_busy = lake("run")
        busy_seconds = time.monotonic() - began
        killed_after(first, "write silver")
        second = lake.start("run")
        killed_after(second, "validate", seconds=0.3)
        yield Story(lake, while_busy, busy_seconds, lake("run"))
    finally:
        for run in (first, second):
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


def test_a_second_run_leaves_while_the_first_is_at_work(story: Story) -> None:
    done = story.while_busy

    assert done.returncode == TRY_AGAIN
    (line,) = done.stderr.strip().splitlines()
    assert line == "error: another run is at work and did not end in 1 s; try again later"
    assert story.busy_seconds < 20


def test_after_kills_a_run_ends_as_if_nothing_had_happened(story: Story) -> None:
    expected = Oracle(story.lake.landing).gold()
    views = [view for view in VIEWS if "period" not in view]  # nobody set periods

    answers = story.lake.tables(
        *(f"SELECT * FROM gold.{view}" for view in views),
        "SELECT status FROM ops.loads",
        "SELECT status, count(*) AS files FROM ops.load_files GROUP BY status",
        "SELECT count(*) AS readings, count(DISTINCT load_id) AS loads FROM silver.readings",
    )

    assert story.last.returncode == 0, story.last.stderr
    for view, rows in zip(views, answers, strict=False):
        columns, raw = expected[view]
        assert [*rows[0]] == columns, view
        assert sorted(([*row.values()] for row in rows), key=repr) == sorted(
            ([as_json(value) for value in row] for row in raw), key=repr
        ), view
    assert answers[-3:] == [
        [{"status": "published"}],
        [{"status": "loaded", "files": 301}],
        [{"readings": 300 * 4 * 48, "loads": 1}],
    ]
