"""What may be rolled back, and what stands in its way. Loads are L1, L2, …, rollbacks R1, R2, …"""

from typing import Any

import pytest

from jobs import rollback
from jobs.ledger.loads import Event

NO_SPARK: Any = None


def events(*steps: str) -> list[Event]:
    """Of "L1" a load, of "R1 -L2" a rollback that takes L2 away, of "R2 +L2" one that puts it back."""
    found: list[Event] = []
    effective: frozenset[str] = frozenset()
    for step in steps:
        name, _, change = step.partition(" ")
        target, in_effect = (change[1:], change[0] == "+") if change else (name, True)
        effective = effective | {target} if in_effect else effective - {target}
        found.append(Event(name, "rollback" if change else "load", target, in_effect, effective))
    return found


@pytest.mark.parametrize(
    ("steps", "undone", "told"),
    [
        (["L1", "L2"], "L1", "L2 came after L1: roll that back first"),
        (["L1", "L2", "R1 -L2"], "L2", "L2 was rolled back before, by R1"),
        (["L1", "L2", "R1 -L2", "L3"], "L2", "L2 was rolled back before, by R1"),
        (["L1", "L2", "R1 -L2", "L3"], "R1", "L3 came after R1: roll that back first"),
        (["L1", "L2", "R1 -L2", "R2 +L2"], "R1", "R1 was rolled back before, by R2"),
        (["L1", "L2", "R1 -L2", "R2 +L2"], "L1", "L2 came after L1: roll that back first"),
        (["L1", "L2", "R1 -L2", "R2 +L2", "R3 -L2"], "L2", "L2 was rolled back before, by R3"),
        (["L1", "L2", "L3", "R1 -L3", "R2 -L2"], "R1", "R2 came after R1: roll that back first"),
        (["L1", "L2", "L3"], "L2", "L3 came after L2: roll that back first"),
    ],
)
def test_load_that_is_not_the_newest__should_name_what_stands_in_its_way(
    steps: list[str], undone: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.rollback.ledger.events", lambda spark: events(*steps))

    with pytest.raises(rollback.RollbackError) as refused:
        rollback._event(NO_SPARK, undone)

    assert str(refused.value) == told


@pytest.mark.parametrize(
    ("steps", "undone"),
    [
        (["L1", "L2"], "L2"),
        (["L1", "L2", "R1 -L2"], "R1"),
        (["L1", "L2", "R1 -L2"], "L1"),
        (["L1", "L2", "R1 -L2", "R2 +L2"], "L2"),
        (["L1", "L2", "R1 -L2", "R2 +L2"], "R2"),
    ],
)
def test_newest_load_or_rollback__should_be_one_that_can_be_undone(
    steps: list[str], undone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.rollback.ledger.events", lambda spark: events(*steps))

    assert rollback._event(NO_SPARK, undone).load_id == undone
