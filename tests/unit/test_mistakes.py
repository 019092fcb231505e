"""What the command line says of a new user's mistakes, as docs/mistakes.md has it. Spark never starts here."""

import io
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from jobs import lock
from tests.mistakes import say, told

Before = Callable[[Path], None]


def nothing(folder: Path) -> None:
    """The folder is empty."""


def misplaced(folder: Path) -> None:
    (folder / "landing").mkdir()
    (folder / "landing" / "mine.json").touch()


def earlier_sample(folder: Path) -> None:
    (folder / "landing" / "readings").mkdir(parents=True)
    (folder / "landing" / "readings" / "mine.json").touch()


def loaded(folder: Path) -> None:
    """As far as can be seen without Spark."""
    (folder / "var" / "metastore").mkdir(parents=True)


def list_of_ids(folder: Path) -> None:
    loaded(folder)
    (folder / "ids.txt").write_text("0432df65f7\n")


def without_sunday(folder: Path) -> None:
    loaded(folder)
    (folder / "periods.csv").write_text("scheme,period,from,to,weekdays\nE7,night,00:00,24:00,Mon-Sat\n")


# By what the terminal says: settings and command, what there is before, and the exit status.
CASES: dict[str, tuple[str, Before, int]] = {
    "No such command 'rnu'": ("rnu", nothing, 2),
    "warning: LAKE_LANDIGN": ("LAKE_LANDIGN=/data status", nothing, 0),
    "error: the landing place": ("LAKE_LANDING=/nowhere run", nothing, 1),
    "warning: … has no readings": ("run", misplaced, 0),
    "error: LAKE_LANDING: s3://": ("LAKE_LANDING=s3://bucket/in run", nothing, 1),
    "error: LAKE_SPARK_MASTER": ("LAKE_SPARK_MASTER=4 run", nothing, 1),
    "error: LAKE_DRIVER_MEMORY": ("LAKE_DRIVER_MEMORY=2gb run", nothing, 1),
    "error: LAKE_LOCK_WAIT_SECONDS": ("LAKE_LOCK_WAIT_SECONDS=soon run", nothing, 1),
    "error: LAKE_HTTP": ("LAKE_HTTP=yes run", nothing, 1),
    "error: LAKE_WAREHOUSE": ("'LAKE_WAREHOUSE=my lake' run", nothing, 1),
    "error: LAKE_METASTORE": ("LAKE_METASTORE=thrift://metastore:9083 run", nothing, 1),
    "error: --accept nonsense": ("run --accept nonsense", nothing, 1),
    "error: another run": ("LAKE_LOCK_WAIT_SECONDS=0 backup out", nothing, 75),
    "error: nothing was loaded yet": ("rollback --load 20210101T000000-abcdef", nothing, 1),
    "'31.1.2021' is no date": ("rebuild --from 31.1.2021", nothing, 2),
    "error: --to 2021-01-01": ("rebuild --from 2021-02-01 --to 2021-01-01", nothing, 1),
    "error: name files, --load": ("retract --from 2021-01-01", nothing, 1),
    "error: name whom to erase": ("erase --reason because", loaded, 1),
    "error: say why": ("erase --meterpoint 0432df65f7", loaded, 1),
    "error: ids.txt: line 1": ("erase --file ids.txt --reason because", list_of_ids, 1),
    "error: say which load": ("rollback", nothing, 1),
    "error: gold.load_history": ("history gold.load_history", nothing, 1),
    "error: name files, or --gone": ("quarantine dismiss", nothing, 1),
    "error: periods.csv: No such": ("periods set periods.csv", loaded, 1),
    "error: periods.csv: scheme": ("periods set periods.csv", without_sunday, 1),
    "'xml' is not one of": ("sql --format xml -e 1", nothing, 2),
    "1 is the least": ("sample --days 0", nothing, 2),
    "error: … already exists": ("sample", earlier_sample, 1),
    "error: 'Ana' is no user name": ("users add Ana", nothing, 1),
    "error: the password is too short": ("users add ana", nothing, 1),
    "error: there is no certificate": ("certificate show", nothing, 1),
}


@pytest.mark.parametrize("text", told("Before anything runs", "Commands"))
def test_mistake__should_be_told_as_the_documentation_says(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (case,) = [case for begin, case in CASES.items() if text.startswith(begin)]
    typed, before, status = case
    settings = [word.split("=", 1) for word in shlex.split(typed) if word.startswith("LAKE_")]
    command = [word for word in shlex.split(typed) if not word.startswith("LAKE_")]
    monkeypatch.chdir(tmp_path)
    for name, value in settings:
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("jobs.cli.load.work_on", lambda wish, sample=False: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n" if "ana" in command else "a long password\n"))
    before(tmp_path)

    at_work = lock.writer_lock(tmp_path / "var", 0) if "another run" in text else nullcontext()
    with at_work:
        said = say(command, monkeypatch, capsys)

    assert said.says(text), said.text
    assert (said.status, "Traceback" in said.text) == (status, False)
    assert not list((tmp_path / "var").glob("metastore/*"))


def test_each_case__should_be_in_the_documentation() -> None:
    texts = told("Before anything runs", "Commands")

    assert [begin for begin in CASES if not any(text.startswith(begin) for text in texts)] == []
