"""What deliveries mean: days under one name, corrections, and what a person takes back, as the model says."""

import json
import os
import random
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import audit, dismiss, landing
from jobs.errors import LakeError
from jobs.ledger import loads
from jobs.silver import Retraction
from tests.integration.lake import DELIVERY, Agreement, Lake, as_if_much, day
from tests.integration.oracle import Oracle
from tests.integration.test_recovery import die_before_publishing
from tests.model.deliveries import Deliveries, Reading

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def believed(lake: Lake, source: str = "silver.readings") -> dict[tuple[str, datetime], tuple[float, str]]:
    rows = lake.rows(f"SELECT meterpoint_id, interval_start_utc, consumption_kwh, source_file FROM {source}")
    found = {(name, start.replace(tzinfo=UTC)): (float(kwh), file) for name, start, kwh, file in rows}
    assert len(found) == len(rows)
    return found


# --- any order of what may happen ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stage(new_lake: Callable[[], Lake]) -> Lake:
    lake = new_lake()
    lake.landing.readings("somebody.json", day("somebody", "2021-02-01"))
    lake.load()
    return lake


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_in_whatever_order_the_end_is_what_the_model_says(
    seed: int, stage: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries, redeliveries, touches, retractions, rollbacks of loads and of rollbacks, and reloads."""
    if seed == 1:
        as_if_much(monkeypatch)
    chance, model, lake = random.Random(seed), Deliveries(), stage
    files = [f"readings/walk-{seed}/{name}.json" for name in "abc"]
    meterpoints = [f"walk-{seed}-m1", f"walk-{seed}-m2"]
    modified = dict.fromkeys(files, timedelta())
    content: dict[str, tuple[Reading, ...]] = {}
    mine: list[str] = []
    known: dict[datetime, dict[tuple[str, datetime], tuple[float, str]]] = {}  # by when a load had ended

    def version() -> tuple[Reading, ...]:
        starts = [datetime(2021, 2, day, 12, minute, tzinfo=UTC) for day in (1, 2, 3) for minute in (0, 30)]
        slots = chance.sample([(m, start) for m in meterpoints for start in starts], chance.randrange(1, 7))
        return tuple(Reading(m, start, float(chance.randrange(4))) for m, start in sorted(slots))

    def write(file: str) -> None:
        rows = [[f"{start:%Y-%m-%d %H:%M:%S}", kwh, m] for m, start, kwh in content[file]]
        lake.landing.readings(file.removeprefix("readings/"), rows, after=modified[file])

    def delivered(names: list[str]) -> list[tuple[str, datetime, tuple[Reading, ...]]]:
        return [(file, DELIVERY + modified[file], content[file]) for file in names if file in content]

    def loaded(summary: Any) -> None:
        if summary and (summary.dates or summary.mart_dates):
            mine.append(summary.load_id)

    for number in range(8):
        step = chance.choice(["deliver", "deliver", "deliver", "touch", "retract", "rollback", "redo", "reload"])
        file = chance.choice(files)
        if step == "deliver":
            for name in chance.sample(files, chance.choice((1, 2))):
                content[name], modified[name] = version(), modified[name] + chance.choice((1, 2, 3)) * HOUR
                write(name)
            loaded(lake.run())
            model.load(str(number), delivered(files))
        elif step == "touch" and file in content:
            modified[file] += HOUR
            lake.landing.touch(file, modified[file])
            lake.run()
        elif step == "retract":
            first = date(2021, 2, 2)
            if any(key.file == file and key.date >= first for key in model.claims):
                loaded(lake.load(kind="retract", retraction=Retraction(files=(file,), first=first)))
                model.retract(str(number), lambda key, _, file=file: key.file == file and key.date >= date(2021, 2, 2))  # type: ignore[misc]
        elif step in ("rollback", "redo") and mine and model.undone:
            rollback = lake.undo(mine[-1])
            if step == "redo":
                lake.undo(rollback.load_id)
            else:
                mine.pop()
                model.rollback()
        elif step == "reload" and file in content:
            loaded(lake.load(kind="reload", again=[file]))
            before = dict(model.claims)
            model.load(str(number), delivered([file]), again=True)
            if model.claims == before:
                model.undone.append((str(number), before))

        ours = {slot: word for slot, word in believed(lake).items() if slot[0] in meterpoints}
        assert ours == model.believed(), (number, step)
        claims = lake.rows("SELECT source_file, meterpoint_id, date FROM ops.claims")
        assert {claim for claim in claims if claim[1] in meterpoints} == set(model.claims), (number, step)
        known[lake.value("SELECT max(finished_at) FROM ops.loads")] = ours
    for moment, then in known.items():
        found = believed(lake, f"silver.readings_as_of(TIMESTAMP '{moment}')")
        assert {slot: word[0] for slot, word in found.items() if slot[0] in meterpoints} == {
            slot: word[0] for slot, word in then.items()
        }, moment


# --- a sender that names files by meterpoint -------------------------------------------------------------------------


def test_a_week_of_deliveries_under_the_same_names_is_a_week_of_readings(new_lake: Callable[[], Lake]) -> None:
    """Each day's files have the names of the day before. On Thursday Tuesday is corrected for one meterpoint, and one
    of two half hours of Wednesday is missing in a correction."""
    lake, meterpoints = new_lake(), ["0432df65f7", "b2c4a88d01", "feed00beef"]
    archive = lake.landing.folder.parent / "archive"
    (archive / "readings").mkdir(parents=True)
    agreements = [Agreement(number, name) for number, name in enumerate(meterpoints)]
    lake.landing.reference(agreements, meterpoints)
    for number in range(7):
        local_date = f"2021-01-{4 + number:02}"
        for name in meterpoints:
            rows = day(name, local_date, 0.1 * (number + 1))
            if number == 3 and name == meterpoints[0]:
                rows += day(name, "2021-01-05", 7)
            after = number * DAY
            lake.landing.readings(f"{name}.json", rows, after=after)
            deliver_to(archive, f"{name}-{number}.json", rows, after)
        lake.load()
    shutil.copy(lake.landing.folder / "case_study.db", archive)

    gold = lake.gold()
    for view, (columns, expected) in Oracle(archive).gold().items():
        assert (gold[view].columns, gold[view].rows) == (columns, expected), view
    assert lake.value("SELECT count(*) FROM silver.readings") == 7 * 3 * 48
    assert lake.value("SELECT count(DISTINCT load_id) FROM ops.claims") == 7


def deliver_to(archive: Any, name: str, rows: list[list[Any]], after: timedelta) -> None:
    """The same rows under a name of their own, as the oracle reads them."""
    path = archive / "readings" / name
    path.write_text(json.dumps({"columns": ["interval_start", "consumption_delta", "meterpoint_id"], "data": rows}))
    modified = (DELIVERY + after).timestamp()
    os.utime(path, (modified, modified))


# --- what a person decides -------------------------------------------------------------------------------------------


def test_many_readings_go_only_if_a_person_says_so(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    landing = lake.landing
    whole = [row for n in range(4) for row in day(f"m{n}", "2021-01-01")]
    landing.readings("a.json", whole)
    landing.readings("b.json", day("other", "2021-01-01"))
    lake.load()

    landing.readings("a.json", [row for row in whole if "00:00:00" in row[0]], after=DAY)
    stopped = lake.load()
    before = lake.value("SELECT count(*) FROM silver.readings")
    accepted = lake.load(accept=frozenset({"removals"}))

    assert not stopped.published
    assert "add --accept removals to the command" in stopped.errors[0]
    assert before == 5 * 48
    assert accepted.published
    assert lake.value("SELECT count(*) FROM silver.readings") == 4 + 48
    recorded = lake.rows("SELECT status, accepted FROM gold.load_history ORDER BY load_id")
    assert recorded == [("published", []), ("failed", []), ("published", ["removals"])]
    with pytest.raises(LakeError, match="--accept nonsense: there is no such reason"):
        lake.run(accept=frozenset({"nonsense"}))


def test_a_retraction_is_a_load_and_can_be_rolled_back(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1) + day("a", "2021-01-02", 1))
    lake.landing.readings("b.json", day("a", "2021-01-02", 2) + day("b", "2021-01-02", 2), after=HOUR)
    first = lake.load()

    with pytest.raises(LakeError, match="there is nothing to retract"):
        lake.run(kind="retract", retraction=Retraction(files=("readings/none.json",)))
    of_meterpoint = lake.load(
        kind="retract", retraction=Retraction(meterpoint_id="a", first=date(2021, 1, 2), last=date(2021, 1, 2))
    )
    without = believed(lake)
    lake.undo(of_meterpoint.load_id)
    of_file = lake.load(kind="retract", retraction=Retraction(files=("readings/b.json",)))

    assert {slot[0] for slot in without if slot[1].date() == date(2021, 1, 2)} == {"b"}
    assert {(kwh, file) for kwh, file in believed(lake).values()} == {(1.0, "readings/a.json")}
    assert lake.run() is None
    assert lake.rows("SELECT load_id, kind, status FROM gold.load_history WHERE kind = 'retract' ORDER BY load_id") == [
        (of_meterpoint.load_id, "retract", "rolled back"),
        (of_file.load_id, "retract", "published"),
    ]
    lake.load(kind="reload", again_load=first.load_id)
    assert len(believed(lake)) == 3 * 48


def test_what_a_rollback_withholds_is_told_and_can_be_loaded_again(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.load()
    lake.landing.readings("b.json", day("b", "2021-01-01", 1))
    second = lake.load()
    lake.landing.touch("readings/a.json", DAY)
    touched = lake.load()  # switches nothing, so it does not stand in the way
    rollback = lake.undo(second.load_id)
    withheld = lake.rows("SELECT source_file, load_id FROM ops.withheld_files")
    status = dict(lake.rows("SELECT load_id, status FROM gold.load_history"))

    again = lake.load(kind="reload", again_load=second.load_id)

    assert withheld == [("readings/b.json", second.load_id)]
    assert status[second.load_id] == "rolled back" and status[touched.load_id] == "published"
    assert status[rollback.load_id] == "rollback" and rollback.undid == second.load_id
    assert again.readings_loaded == 48
    assert lake.value("SELECT count(*) FROM silver.readings") == 96
    assert lake.rows("SELECT source_file FROM ops.withheld_files") == []


def test_what_was_put_right_by_a_load_that_does_not_count_is_in_quarantine_again(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", [*day("a", "2021-01-01", 1), ["2021-01-02 00:00:00", -1, "a"]])
    lake.load()
    opened = "SELECT source_file, position FROM quarantine.open_readings"
    before = lake.rows(opened)
    assert before == [("readings/a.json", 48)]

    lake.landing.readings("a.json", day("a", "2021-01-01", 2), after=DAY)
    die_before_publishing(lake, "ops.loads")
    assert lake.rows(opened) == before
    second = lake.load()
    assert lake.rows(opened) == []
    lake.undo(second.load_id)

    assert lake.rows(opened) == before
    # The version that was rolled back is to stay away, unless it is named.
    assert lake.run(retry=[]) is None
    lake.load(retry=["readings/a.json"])
    assert lake.rows(opened) == []
    assert lake.value("SELECT sum(consumption_kwh) FROM silver.readings") == 96


def test_a_clock_that_went_back_is_told_and_one_that_was_ahead_can_be_accepted(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    real = datetime

    class Ahead(real):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return real.now(tz) + timedelta(days=3 * 365)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loads, "datetime", Ahead)
        lake.load()
    lake.landing.readings("a.json", day("a", "2021-01-01", 2), after=DAY)

    with pytest.raises(LakeError, match="set the clock right"):
        lake.run()
    lake.load(accept=frozenset({"clock"}))

    assert {kwh for kwh, _ in believed(lake).values()} == {2.0}


def test_marts_are_built_anew_on_demand_and_readings_from_files_by_stricter_rules(
    new_lake: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1) + day("a", "2021-01-02", 1))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    lake.load()
    before = lake.gold()

    marts = lake.load(kind="rebuild", rebuild=(date(2021, 1, 1), date(2021, 1, 1)))
    files = lake.load(kind="rebuild", rebuild=(None, None), from_files=True)

    assert (marts.dates, marts.mart_dates) == ([], [date(2021, 1, 1)])
    assert files.dates == [date(2021, 1, 1), date(2021, 1, 2)]
    assert files.readings_loaded == 96
    assert lake.gold() == before


# --- what lies in the landing place is another version than the one that is known -------------------------------------


def test_a_rebuild_from_files_leaves_new_versions_to_the_next_run(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    for name in ("a", "b", "same"):
        lake.landing.readings(f"{name}.json", day(name, "2021-01-01"))
    lake.load()
    # The sender writes each day under the same name, and of a new file the claims are there when a load is killed.
    lake.landing.readings("a.json", day("a", "2021-01-02"), after=DAY)
    lake.landing.readings("new.json", day("new", "2021-01-01"), after=DAY)
    die_before_publishing(lake, "ops.loads")

    summary = lake.load(kind="rebuild", rebuild=(None, None), from_files=True)

    assert summary.files == {"loaded": 2}
    assert lake.told[-1:] == [
        "Left out, because `lake run` has to load what is new in them first: readings/a.json, readings/new.json."
    ]
    lake.load()
    by_day = "SELECT meterpoint_id, date, count(*) FROM silver.readings GROUP BY ALL ORDER BY ALL"
    first, second = date(2021, 1, 1), date(2021, 1, 2)
    assert lake.rows(by_day) == [
        ("a", first, 48),
        ("a", second, 48),
        ("b", first, 48),
        ("new", first, 48),
        ("same", first, 48),
    ]


def test_a_new_time_of_a_file_brings_the_rows_that_were_later_than_it(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    days = day("a", "2021-01-01") + day("a", "2021-01-02")
    lake.landing.readings("a.json", days)
    lake.landing.readings("others.json", [row for number in range(20) for row in day(f"m{number}", "2021-01-01")])
    early = datetime(2021, 1, 2, tzinfo=UTC)
    lake.landing.touch("readings/a.json", early - DELIVERY)
    assert lake.load().receipt.reasons == {"interval_start_after_file": 47}
    assert lake.run() is None

    lake.landing.touch("readings/a.json", early + timedelta(hours=12) - DELIVERY)
    lake.landing.touch("readings/others.json", HOUR)
    lake.load()

    # Those that are not later than it now.
    assert lake.value("SELECT count(*) FROM silver.readings WHERE meterpoint_id = 'a'") == 73
    assert lake.rows(
        "SELECT status FROM ops.load_files WHERE source_file = 'readings/others.json' ORDER BY load_id"
    ) == [
        ("loaded",),
        ("unchanged",),
    ]
    assert lake.run() is None


@pytest.mark.parametrize("by", ["retract", "rollback"])
def test_what_was_taken_back_does_not_come_again_with_a_new_time_of_its_file(
    new_lake: Callable[[], Lake], by: str
) -> None:
    """Though a row of it was later than the file, and is still."""
    lake = new_lake()
    lake.landing.readings("a.json", [*day("a", "2021-01-01"), *day("a", "2021-01-02"), ["2021-11-03 00:00:00", 1, "a"]])
    first = lake.load()
    assert first.receipt.reasons == {"interval_start_after_file": 1}
    if by == "retract":
        lake.load(kind="retract", retraction=Retraction(files=("readings/a.json",), first=date(2021, 1, 2)))
    else:
        lake.undo(first.load_id)
    before = lake.rows("SELECT date, count(*) FROM silver.readings GROUP BY date")

    lake.landing.touch("readings/a.json", HOUR)
    lake.run()

    assert lake.rows("SELECT date, count(*) FROM silver.readings GROUP BY date") == before
    lake.load(kind="reload", again=["readings/a.json"])
    assert lake.value("SELECT count(*) FROM silver.readings") == 96


def test_a_file_that_is_replaced_while_a_load_is_at_work_loses_nothing(
    new_lake: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = new_lake()
    first, second = day("a", "2021-01-01"), day("a", "2021-01-02")
    lake.landing.readings("a.json", first)
    lake.landing.touch("readings/a.json", datetime(2021, 1, 2, 7, tzinfo=UTC) - DELIVERY)
    lake.landing.reference([Agreement(1, "a")], ["a"])
    look = landing.look

    def looked(*arguments: Any) -> landing.Landing:
        found = look(*arguments)
        lake.landing.readings("a.json", [*first, *second])
        lake.landing.reference([Agreement(1, "a", product_id="P3")], ["a"], after=DAY)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(landing, "look", looked)
        lake.load()
    assert lake.value("SELECT snapshot_date FROM gold.data_freshness") == date(2021, 11, 3)

    # The next run reads it once more, and knows it then.
    lake.load()

    assert lake.value("SELECT count(*) FROM silver.readings") == 96
    assert lake.rows("SELECT DISTINCT product_display_name FROM gold.daily_product_consumption") == [("Variable",)]
    assert lake.run() is None


def test_the_same_reference_file_is_the_snapshot_of_a_later_date_too(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-31"))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    lake.load()
    before = lake.gold()

    lake.landing.touch("case_study.db", HOUR)  # of the same date
    lake.load()
    assert lake.value("SELECT count(DISTINCT snapshot_date) FROM silver.agreement_snapshots") == 1
    lake.landing.touch("case_study.db", DAY)
    lake.load()

    assert lake.value("SELECT snapshot_date FROM gold.data_freshness") == date(2021, 11, 3)
    assert lake.gold() == before
    assert lake.run() is None


def test_a_file_that_still_cannot_be_read_is_nothing_new(new_lake: Callable[[], Lake], tmp_path: Path) -> None:
    lake = new_lake()
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(b"secret")
    link = lake.landing.folder / "readings/link.json"
    link.symlink_to(elsewhere)
    lake.landing.readings("a.json", day("a", "2021-01-01"))
    lake.run()
    assert lake.rows("SELECT source_file, reason FROM quarantine.open_files") == [
        ("readings/link.json", "outside_landing")
    ]

    assert lake.run() is None
    dismiss.run(lake.spark, lake.settings, ["readings/link.json"])
    assert lake.run() is None
    assert lake.rows("SELECT source_file FROM quarantine.open_files") == []

    link.unlink()
    lake.landing.readings("link.json", day("b", "2021-01-01"))
    lake.load()
    assert lake.value("SELECT count(DISTINCT meterpoint_id) FROM silver.readings") == 2


def test_files_that_cannot_be_read_stop_each_load_until_a_person_lets_it_pass(
    new_lake: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(audit, "FEW_FILES_AT_FAULT", 1)
    lake = new_lake()
    (tmp_path / "elsewhere.json").write_bytes(b"{}")
    (lake.landing.folder / "readings/link.json").symlink_to(tmp_path / "elsewhere.json")
    lake.landing.readings("a.json", day("a", "2021-01-01"))

    for _ in range(2):
        summary = lake.run()
        assert summary
        assert summary.blocking
    lake.load(accept=frozenset({"faults"}))

    assert lake.value("SELECT count(*) FROM silver.readings") == 48
    assert lake.run() is None
