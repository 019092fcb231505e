"""Files that overlap, in any order and number of runs, some delivered again: gold says what the model says.

Each example is a play of its own meterpoints and files on the stage that the ones before it have left. What the model
believes in the end is laid out as files that say it once each, and the independent calculation reads these.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.lake import DELIVERY, Agreement, Lake, Landing, as_if_large, as_if_much, day, in_portions
from tests.integration.oracle import Oracle
from tests.model.deliveries import Deliveries, Reading

DATES = ("2021-01-01", "2021-01-02", "2021-01-03")
EXAMPLES = 3


@pytest.fixture(scope="module")
def lake(new_lake: Callable[[], Lake]) -> Lake:
    lake = new_lake()
    meterpoints = [f"m{example}{letter}" for example in range(EXAMPLES) for letter in "ab"]
    lake.landing.reference([Agreement(number, name) for number, name in enumerate(meterpoints)], meterpoints)
    return lake


@pytest.fixture(scope="module")
def model() -> Deliveries:
    return Deliveries()


@pytest.mark.parametrize("example", range(EXAMPLES))
def test_whatever_the_order_gold_says_what_the_model_says(
    example: int, lake: Lake, model: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if example == 1:
        as_if_much(monkeypatch)
    if example == 2:
        in_portions(monkeypatch)
    if example:
        as_if_large(monkeypatch)
    chance = random.Random(example)
    files = [f"example-{example}/{number}.json" for number in range(4)]
    versions = [name for name in files for _ in range(chance.choice((1, 1, 2, 3)))]
    chance.shuffle(versions)
    modified = {name: timedelta(hours=chance.randrange(6)) for name in files}
    waiting: dict[str, tuple[datetime, tuple[Reading, ...]]] = {}
    for number, name in enumerate([*versions, ""]):
        if name:
            content = some_readings(example, chance)
            rows = [[f"{start:%Y-%m-%d %H:%M:%S}", kwh, m] for m, start, kwh in content]
            lake.landing.readings(name, rows, after=modified[name])
            waiting[f"readings/{name}"] = DELIVERY + modified[name], content
            modified[name] += timedelta(hours=chance.randrange(1, 4))
        if chance.random() < 0.3 or not name:
            lake.run(accept=frozenset({"removals"}))
            model.load(str(number), [(file, *version) for file, version in waiting.items()])
            waiting.clear()

    gold = lake.gold()
    for view, (columns, expected) in Oracle(laid_out(model, lake, tmp_path)).gold().items():
        assert gold[view].columns == columns, view
        assert gold[view].rows == expected, view


def some_readings(example: int, chance: random.Random) -> tuple[Reading, ...]:
    """Some half hours of two days, of two meterpoints."""
    whole = [
        Reading(
            f"m{example}{chance.choice('ab')}",
            datetime.strptime(start, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC),
            round(chance.uniform(0, 2), 3),
        )
        for each in chance.sample(DATES, 2)
        for start, _, _ in day("", each)
    ]
    return tuple(chance.sample(whole, chance.randrange(1, len(whole))))


def laid_out(model: Deliveries, lake: Lake, folder: Path) -> Path:
    """A landing place with a file for each claim."""
    landing = Landing(folder)
    for key, claim in model.claims.items():
        rows = [[f"{start:%Y-%m-%d %H:%M:%S}", kwh, key.meterpoint_id] for start, kwh in claim.readings.items()]
        name = f"{key.file.removeprefix('readings/')}-{key.meterpoint_id}-{key.date}.json"
        landing.readings(name, rows, after=claim.modified - DELIVERY)
    (folder / "case_study.db").write_bytes((lake.landing.folder / "case_study.db").read_bytes())
    return folder
