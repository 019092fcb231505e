"""What the command line says of mistakes that only a lakehouse with loads shows, as docs/mistakes.md has it."""

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import pytest

from jobs.silver import Retraction
from tests.integration.lake import Lake, day
from tests.integration.typed import on
from tests.mistakes import told

DAY = timedelta(days=1)


class Story(NamedTuple):
    """A lakehouse with two loads, the second of them rolled back, after a file was retracted."""

    lake: Lake
    first: str
    retraction: str
    second: str


@pytest.fixture(scope="module")
def story(new_lake: Callable[[], Lake]) -> Story:
    lake = new_lake()
    wrong = ["2021-01-01 00:00:07", 1, "bad"]
    lake.landing.readings("bad.json", [*day("bad", "2021-01-02", 1), wrong])
    lake.landing.readings("lost.json", [wrong])
    lake.landing.readings("b.json", day("b", "2021-01-01", 2))
    first = lake.load()
    (lake.landing.folder / "readings" / "lost.json").unlink()
    retraction = lake.load(kind="retract", retraction=Retraction(files=("readings/bad.json",)))
    lake.landing.readings("c.json", day("c", "2021-01-03", 2))
    second = lake.load()
    lake.undo(second.load_id)
    return Story(lake, first.load_id, retraction.load_id, second.load_id)


# By what the terminal says: the command, and its exit status.
CASES: dict[str, tuple[list[str], int]] = {
    "error: there is nothing to retract": (["retract", "readings/b.jsn"], 1),
    "error: readings/gone.json": (["reload", "landing/readings/gone.json"], 1),
    "error: 0432df65f8": (["erase", "--meterpoint", "0432df65f8", "--reason", "asked for"], 1),
    "error: … came after": (["rollback", "--load", "{first}"], 1),
    "error: … was rolled back before": (["rollback", "--load", "{second}"], 1),
    "error: readings/b.json": (["quarantine", "show", "landing/readings/b.json"], 1),
    "Left out, because some": (["quarantine", "retry"], 0),
    "Left out, because they": (["quarantine", "retry"], 0),
    "error: only statements that read": (["sql", "-e", "DROP VIEW gold.load_history"], 1),
    "error: the tables are in": (["run"], 1),
}


@pytest.mark.parametrize("text", told("Loads, files and tables"))
def test_mistake_is_told_as_the_documentation_says(
    story: Story, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = on(story.lake, monkeypatch, capsys)
    ((command, status),) = [case for begin, case in CASES.items() if text.startswith(begin)]
    if text.startswith("error: the tables are in"):
        monkeypatch.setenv("LAKE_WAREHOUSE", f"{story.lake.settings.warehouse}-elsewhere")
    loads = story.lake.value("SELECT count(*) FROM ops.loads")

    said = typed(*(word.format(**story._asdict()) for word in command))

    assert said.says(text), said.text
    assert (said.status, "Traceback" in said.text) == (status, False)
    assert story.lake.value("SELECT count(*) FROM ops.loads") == loads


def test_each_case_is_in_the_documentation() -> None:
    texts = told("Loads, files and tables")

    assert [begin for begin in CASES if not any(text.startswith(begin) for text in texts)] == []


def test_rollback_names_what_stands_in_its_way(
    story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = on(story.lake, monkeypatch, capsys)

    of_first, of_nonsense = typed("rollback", "--load", story.first), typed("rollback", "--load", "nonsense")

    assert f"{story.retraction} came after {story.first}: roll that back first" in of_first.text
    assert "nonsense: there is no such load; `lake status` lists them" in of_nonsense.text


def test_what_was_retracted_comes_back_where_its_file_is_named_and_what_is_gone_can_be_dismissed(
    story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = on(story.lake, monkeypatch, capsys)
    counted = "SELECT count(*) FROM silver.readings WHERE meterpoint_id = 'bad'"

    listed = typed("quarantine", "list")
    typed("quarantine", "retry")
    after_all = story.lake.value(counted)
    dismissed = typed("quarantine", "dismiss", "--gone")
    again = typed("quarantine", "dismiss", "--gone")
    typed("quarantine", "retry", "landing/readings/bad.json")
    after_named = story.lake.value(counted)

    assert "readings/bad.json 1 row day_held_off_grid" in listed.text
    assert "readings/lost.json 1 row day_held_off_grid" in listed.text
    assert (after_all, after_named) == (0, 48)
    assert (dismissed.status, dismissed.text.endswith("1 file off the list")) == (0, True), dismissed.text
    assert "error: no file in quarantine is gone from the landing place" in again.text
    assert "lost" not in typed("quarantine", "list").text


def test_broken_reference_file_is_told_as_one_and_is_no_readings_file(
    new_lake: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.landing.raw("case_study.db", b"no database")
    typed = on(lake, monkeypatch, capsys)

    done = typed("run")
    shown = typed("status")

    assert done.status == 1
    assert "readings files 1 loaded readings 48 loaded" in done.text
    assert "reference snapshot rejected: case_study.db: not_sqlite" in done.text
    assert "Next: `lake sql -e" in done.text
    assert "In quarantine, of 1 file: 1 whole file. `lake quarantine list`" in shown.text
    assert "error: case_study.db" not in shown.text


def test_rebuild_that_was_rolled_back_withholds_nothing_and_can_be_done_again(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.load()
    withheld = "SELECT source_file FROM ops.withheld_files"

    rebuilt = lake.load(kind="rebuild", rebuild=(None, None), from_files=True)
    lake.undo(rebuilt.load_id)
    after_rollback = lake.rows(withheld)
    again = lake.load(kind="rebuild", rebuild=(None, None), from_files=True)
    lake.landing.readings("a.json", day("a", "2021-01-01", 2), after=DAY)
    newer = lake.load()
    lake.undo(newer.load_id)

    assert (after_rollback, again.files) == ([], {"loaded": 1})
    assert lake.rows(withheld) == [("readings/a.json",)]
