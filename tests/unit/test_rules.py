"""docs/rules.md tells of every reason for which something is rejected, and of no other."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from jobs import reference
from jobs.readings import rules
from jobs.settings import PROJECT

RULES = Path(__file__).parents[2] / "docs" / "rules.md"
REASONS = {
    "Readings files": get_args(rules.FileReason),
    "Rows of readings files": get_args(rules.RowReason),
    "Rows that are not kept": get_args(rules.NotKept),
    "Warnings": get_args(rules.Warning),
    "Reference files": get_args(reference.Reason),
    "Rows of reference files": get_args(reference.RowReason),
}


def table_rows(section: str) -> list[list[str]]:
    """The cells of the table in a section, without its head."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", RULES.read_text(), re.MULTILINE | re.DOTALL)
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("section", REASONS)
def test_rules__should_tell_of_every_reason_and_of_no_other_in_the_order_of_the_code(section: str) -> None:
    documented = [row[0].strip("`") for row in table_rows(section)]

    assert documented == list(REASONS[section])


@pytest.mark.parametrize("section", REASONS)
def test_rules__should_say_what_each_reason_means_and_what_to_do(section: str) -> None:
    for reason, *cells in table_rows(section):
        assert len(cells) == 2, reason
        assert all(len(cell) > 10 for cell in cells), reason


def test_code__should_give_no_reason_that_is_not_declared() -> None:
    """The type checker sees to literals; this sees to those that are put together, or are in other modules."""
    jobs = Path(reference.__file__).parent
    declared = {reason for reasons in REASONS.values() for reason in reasons}
    given = [
        reason
        for path in jobs.rglob("*.py")
        for reason in re.findall(r'(?:FileRejected|SnapshotRejected|NotRead)\(\s*f?"(\w+)"', path.read_text())
    ]

    assert set(given) <= declared
    assert len(given) > 10


def test_rule_of_the_developers_guide__should_be_one_that_code_pages_model_and_cases_agree_on(tmp_path: Path) -> None:
    """The guide's patch is applied to a copy of the project, in which this file and the scenarios run then."""
    for name in ("jobs", "docs", "tests"):
        shutil.copytree(
            PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "stack", "reports*")
        )
    shutil.copytree(PROJECT / "jobs" / "reports", tmp_path / "jobs" / "reports")
    [patch] = re.findall(r"```diff\n(.*?)```", (PROJECT / "docs" / "development.md").read_text(), re.DOTALL)
    if "meterpoint_id_of_a_test" in REASONS["Rows of readings files"]:
        pytest.skip("this is a project to which the guide's patch was applied")
    changed = {path.split("/")[0] for path in re.findall(r"^\+\+\+ b/(.*)$", patch, re.MULTILINE)}
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch, text=True, check=True)
    readings = "tests/unit/readings"
    tests = ["tests/unit/test_rules.py", f"{readings}/test_scenarios.py", f"{readings}/test_parse.py"]
    tests += ["-k", "not guide and (rules or scenarios or cases__should_cover)"]

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert changed == {"docs", "jobs", "tests"}
    assert done.returncode == 0, done.stdout
    cases = sum(1 for _ in (PROJECT / "tests" / "scenarios").iterdir())
    assert f"{cases + 1 + 2 * len(REASONS) + 2} passed" in done.stdout
