"""Files that overlap, in any order and number of runs, some delivered again: the end is what the landing place says.

Each example is a play of its own meterpoints and files on the stage that the ones before it have left.
"""

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.lake import Agreement, Lake, day
from tests.integration.oracle import Oracle

DATES = ("2021-01-01", "2021-01-02", "2021-10-31")
EXAMPLES = 3


@pytest.fixture(scope="module")
def lake(new_lake: Callable[[], Lake]) -> Lake:
    lake = new_lake()
    meterpoints = [f"m{example}{letter}" for example in range(EXAMPLES) for letter in "ab"]
    lake.landing.reference([Agreement(number, name) for number, name in enumerate(meterpoints)], meterpoints)
    return lake


@pytest.mark.parametrize("example", range(EXAMPLES))
def test_whatever_the_order_gold_says_what_the_landing_place_says(example: int, lake: Lake) -> None:
    chance = random.Random(example)

    for name, rows, after in deliveries(example, chance):
        lake.landing.readings(name, rows, after=after)
        if chance.random() < 0.3:
            lake.run()
    lake.run()

    gold = lake.gold()
    for view, (columns, expected) in Oracle(lake.landing.folder).gold().items():
        assert gold[view].columns == columns, view
        assert gold[view].rows == expected, view


def deliveries(example: int, chance: random.Random) -> Iterator[tuple[str, list[list[Any]], timedelta]]:
    """File, rows and time of modification. Versions of one file come one after the other, files in any order."""
    files = [f"example-{example}/{number}.json" for number in range(4)]
    versions = [name for name in files for _ in range(chance.choice((1, 1, 2, 3)))]
    chance.shuffle(versions)
    modified = {name: timedelta(hours=chance.randrange(6)) for name in files}
    for name in versions:
        yield name, some_rows(example, chance), modified[name]
        modified[name] += timedelta(hours=chance.randrange(1, 4))


def some_rows(example: int, chance: random.Random) -> list[list[Any]]:
    """Some half hours of two days, of two meterpoints."""
    whole = [
        [start, round(chance.uniform(0, 2), 3), f"m{example}{chance.choice('ab')}"]
        for each in chance.sample(DATES, 2)
        for start, _, _ in day("", each)
    ]
    return chance.sample(whole, chance.randrange(1, len(whole)))
