"""docs/rules.md tells of every reason for which something is rejected, and of no other."""

import re
from pathlib import Path
from typing import get_args

import pytest

from jobs import reference
from jobs.readings import rules

RULES = Path(__file__).parents[2] / "docs" / "rules.md"
REASONS = {
    "Readings files": get_args(rules.FileReason),
    "Rows of readings files": get_args(rules.RowReason),
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
