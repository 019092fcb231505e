"""When a folder ceased to be what its partition names."""

from datetime import UTC, datetime

import pytest

from jobs.collect import _replaced_at

ROOT = "file:/warehouse/ops/publishing/kind=last"
FINISHED = {f"2021010{n}T000000-aaaaaa": datetime(2021, 1, n, tzinfo=UTC) for n in (1, 2, 3)}
FIRST, SECOND, THIRD = FINISHED
KILLED = "20210104T120000-bbbbbb"


@pytest.mark.parametrize(
    ("load", "live", "later", "expected"),
    [
        (FIRST, THIRD, [SECOND, THIRD], FINISHED[SECOND]),
        (FIRST, THIRD, [KILLED, THIRD], FINISHED[THIRD]),
        (THIRD, THIRD, [], None),
        (SECOND, None, [], FINISHED[SECOND]),  # it failed, and the partition never was
        (SECOND, FIRST, [], FINISHED[SECOND]),  # it failed, and what was before stayed
        (KILLED, THIRD, [], datetime(2021, 1, 4, 12, tzinfo=UTC)),
    ],
)
def test_folder_whose_switches_are_not_recorded__should_be_replaced_by_the_next_load_that_wrote_there(
    load: str, live: str | None, later: list[str], expected: datetime | None
) -> None:
    folder = live and f"{ROOT}/load={live}"

    assert _replaced_at(load, f"{ROOT}/load={load}", folder, None, later, FINISHED) == expected
