"""Who is erased is nowhere any more, and does not come back."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import backup, tables
from jobs.erasure import files, find
from jobs.erasure import run as erase
from jobs.erasure import state as erasures
from jobs.erasure.state import KeyLost
from jobs.erasure.who import CONTENT, OF_ROWS, OTHERS, TEXTS
from jobs.errors import LakeError
from jobs.ledger import loads as ledger
from jobs.ledger import writer
from jobs.reports import front
from jobs.rollback import RollbackError
from tests.holding import holding
from tests.integration.lake import COLUMNS, Agreement, Lake, as_if_much, day
from tests.integration.typed import on

GONE, OTHER, MOVED = "0432df65f7", "1b2c3d4e5f", "99aa88bb77"
ACCOUNT = "Account/17 é"
NUMBER = 200012345678  # as a spreadsheet writes an id
LATER = [f"{number:x}ffe00{number:x}a{number:x}" for number in range(1, 8)]


class Died(Exception):
    """A run that was killed."""


def places(lake: Lake) -> list[Path]:
    """Where the lakehouse writes: tables, reports, state, and its metastore."""
    derby = lake.spark.conf.get("spark.hadoop.javax.jdo.option.ConnectionURL")
    assert derby
    metastore = Path(derby.removeprefix("jdbc:derby:").split(";")[0])
    return [Path(lake.settings.warehouse), lake.settings.reports, lake.settings.state, metastore]


def erased(lake: Lake, *meterpoints: str, accounts: tuple[str, ...] = (), **options: bool) -> erase.Done:
    what, found = find.find(
        lake.spark, lake.settings, find.Request(meterpoints, accounts, "asked for", "somebody", **options)
    )
    erase.begin(lake.settings, what)
    done = erase.finish(lake.spark, lake.settings, lambda _: None, found)
    assert done
    return done


def without_load(lake: Lake, meterpoint: str) -> list[tuple[Any, ...]]:
    return lake.rows(
        "SELECT meterpoint_id, interval_start_utc, consumption_kwh FROM silver.readings"
        f" WHERE meterpoint_id <> '{meterpoint}' ORDER BY ALL"
    )


@pytest.fixture(scope="module")
def lake(new_lake: Callable[[], Lake]) -> Lake:
    """Ids in rows, names, faults, whole files, snapshots, corrections, contested readings, reports and logs."""
    lake = new_lake()
    landing = lake.landing
    for name in (GONE, OTHER, MOVED, *LATER):
        landing.readings(f"{name}.json", day(name, "2021-10-30") + day(name, "2021-10-31"))
    landing.readings("mixed.json", day(GONE, "2021-10-29") + day(OTHER, "2021-10-29"))
    landing.readings("again.json", day(GONE, "2021-10-30", 0.1), after=timedelta(minutes=1))
    landing.readings(f"more_{GONE.upper()}and.json.gz", day(OTHER, "2021-10-28"))
    landing.readings(
        "faults.json",
        [
            *(["2021-10-30 00:00:00", -1, GONE], ["x", 1, f" \u200b{GONE} "], ["x", 1, OTHER], [GONE]),
            *(["2021-10-30 00:00:00", 1, NUMBER], ["x", 1, f"MP-{NUMBER}"]),
        ],
    )
    cut = json.dumps({"columns": COLUMNS, "data": day(GONE, "2021-10-27")}).encode()[:-9]
    landing.raw(f"readings/{GONE}_cut.json", cut)
    landing.raw("readings/packed.json.gz", cut)
    landing.raw("readings/wide.json", cut.decode().encode("utf-16"))
    landing.reference(
        [
            *(Agreement(number, name) for number, name in enumerate([GONE, *LATER])),
            Agreement(99, OTHER, account_id=ACCOUNT),  # which the next snapshot corrects
            Agreement(100, MOVED, "2020-01-01", "2021-10-31", account_id=ACCOUNT),
            Agreement(101, MOVED, "2021-10-31", account_id="next"),
            Agreement(102, "unknown", account_id=ACCOUNT),
        ],
        [GONE, OTHER, MOVED, *LATER],
    )
    lake.load()
    landing.readings(f"{GONE}.json", day(GONE, "2021-10-30", 0.5) + day(GONE, "2021-10-31"), after=timedelta(hours=1))
    lake.load()
    lake.settings.state.mkdir(exist_ok=True)
    (lake.settings.state / "spark.log").write_text(f"reads readings/{GONE}.json\n")
    return lake


def test_every_text_of_every_table_is_known_to_the_erasure_as_one_that_may_name_an_id_or_not(lake: Lake) -> None:
    known = {*OF_ROWS, *TEXTS, CONTENT, *OTHERS}

    unknown = {
        f"{table}.{field.name}"
        for table in tables.ALL
        for field in tables.schema(lake.spark, table)
        # Keys of maps are names of reasons and stages.
        if re.match("string|binary|list.*string", str(field.type)) and field.name not in known
    }

    assert unknown == set()
    assert not {*OF_ROWS, *TEXTS, CONTENT} & {*OTHERS}


def test_a_meterpoint_is_erased_from_everything_and_its_loads_cannot_be_rolled_back(lake: Lake) -> None:
    before = {root.name: len(holding(GONE, root)) for root in places(lake)}
    totals, others = lake.gold(), without_load(lake, GONE)
    newest = lake.value("SELECT max(load_id) FROM ops.loads")

    done = erased(lake, f" {GONE}\u200b", str(NUMBER))

    assert all(count > 0 for name, count in before.items() if name != "metastore")
    assert [holding(each, *places(lake)) for each in (GONE, str(NUMBER))] == [[], []]
    assert lake.rows("SELECT DISTINCT get_json_object(row_json, '$.meterpoint_id') FROM quarantine.readings") == [
        (OTHER,)
    ]
    assert without_load(lake, "") == others
    sums = ("half_hourly_consumption", "daily_product_consumption", "monthly_consumption")
    assert {view: lake.view(f"gold.{view}") for view in sums} == {view: totals[view] for view in sums}
    assert lake.value("SELECT count(*) FROM gold.restatements WHERE kind = 'erase'") == 0
    # What goes, and a day of another meterpoint in a file with its name.
    assert done.removed["silver.readings"] == 48 + 50 + 48 + 48
    assert lake.rows("SELECT DISTINCT subject, reason, erased_by FROM ops.erased") == [
        ("meterpoint", "asked for", "somebody")
    ]
    for load in (newest, done.load_id):
        with pytest.raises(RollbackError, match="erased ids: that cannot be rolled back"):
            lake.undo(load)


def test_what_is_delivered_of_an_erased_id_is_counted_and_not_kept(lake: Lake) -> None:
    files_before = lake.value("SELECT count(*) FROM ops.load_files")
    for name, rows in {
        f"{GONE}.json": day(GONE, "2021-11-01"),
        f"new-{GONE}.json.gz": day(f"{GONE} ", "2021-11-01"),
        "both.json": [*day(GONE, "2021-11-01"), *day(OTHER, "2021-11-01"), ["2021-11-01 00:00:00", 1, NUMBER]],
    }.items():
        lake.landing.readings(name, rows, after=timedelta(hours=2))
    lake.landing.raw(f"readings/{GONE}_cut.json", f'{{"data": [["x", 1, "{GONE}"'.encode(), after=timedelta(hours=2))
    lake.landing.reference(
        [*(Agreement(number, name) for number, name in enumerate([GONE, *LATER])), Agreement(99, OTHER)],
        [GONE, OTHER, MOVED, *LATER],
        after=timedelta(days=1),
    )

    summary = lake.load()
    again = lake.run()

    assert summary.receipt.reasons == {"erased": 3 * 48 + 1, "not_json": 1}
    assert summary.readings_loaded == 48
    assert summary.published
    assert again is None
    assert lake.value("SELECT count(*) FROM ops.load_files") == files_before + 5
    assert (
        lake.value("SELECT count(*) FROM quarantine.files WHERE content IS NULL AND source_file LIKE '%erased-%'") > 0
    )
    assert lake.value("SELECT count(*) FROM silver.agreement") == 1 + len(LATER)
    assert [holding(each, *places(lake)) for each in (GONE, str(NUMBER))] == [[], []]


def test_an_account_takes_its_agreements_and_the_readings_of_their_dates_and_no_others(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_much(monkeypatch)
    counts = "SELECT date, count(*) FROM silver.readings WHERE meterpoint_id = '{}' GROUP BY ALL ORDER BY ALL".format
    before, others = lake.rows(counts(MOVED)), lake.rows(counts(OTHER))

    erased(lake, accounts=(ACCOUNT,))
    after = lake.rows(counts(MOVED))
    assert lake.rows(counts(OTHER)) == others
    lake.landing.readings(
        f"{MOVED}.json", day(MOVED, "2021-10-30", 1) + day(MOVED, "2021-10-31", 1), after=timedelta(hours=3)
    )
    summary = lake.load()

    assert [count for _, count in before] == [48, 50]
    assert [count for _, count in after] == [50]
    assert holding(ACCOUNT, *places(lake)) == []
    assert (summary.receipt.reasons, summary.readings_loaded) == ({"erased": 48}, 50)


def test_totals_are_restated_and_files_of_the_landing_place_go_where_a_person_wants_it(lake: Lake) -> None:
    name = LATER[0]
    before = lake.value("SELECT sum(consumption_kwh) FROM gold.half_hourly_consumption WHERE date = '2021-10-30'")
    lake.landing.readings("two.json", day(name, "2021-10-31") + day(OTHER, "2021-10-31"))
    lake.load()

    done = erased(lake, name, restate=True, landing=True)
    lake.load(kind="rebuild")

    after = lake.value("SELECT sum(consumption_kwh) FROM gold.half_hourly_consumption WHERE date = '2021-10-30'")
    # Its own, and those of the account, whose totals stayed until something else changed the date.
    assert before - after == 12 + 12
    assert lake.rows(
        "SELECT date, readings_removed, meterpoint_count, kwh_before - kwh_after FROM gold.restatements"
        " WHERE kind = 'erase' ORDER BY date LIMIT 1"
    )[0][1:] == (48, 1, 12)
    assert done.deleted == [f"readings/{name}.json"]
    assert sorted(done.remaining) == [
        ("case_study.db", "a reference file is replaced by its sender"),
        ("readings/two.json", "it holds others' rows, too"),
    ]
    assert erasures.to_restate(lake.settings.state) == set()
    assert lake.run() is None


def dying(whole: Callable[..., Any], at: int) -> Callable[..., Any]:
    """A function that dies when it is called for the `at`th time."""
    calls = []

    def dies(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) == at:
            raise Died
        return whole(*arguments, **named)

    return dies


DEATHS: list[tuple[Any, str, int]] = [
    (tables, "rewrite", 3),
    (ledger, "append_publications", 1),
    (writer, "publish", 3),
    (front, "publish", 1),
]


@pytest.mark.parametrize("where", range(len(DEATHS)), ids=[name for _, name, _ in DEATHS])
def test_an_erasure_that_was_killed_is_finished_by_the_next_run(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, where: int
) -> None:
    name, (module, function, at) = LATER[1 + where], DEATHS[where]

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(module, function, dying(getattr(module, function), at))
        erased(lake, name)
    with pytest.raises(RollbackError, match="an erasure was killed"):
        lake.undo("any")
    lake.run()

    assert erasures.pending(lake.settings.state) is None
    assert holding(name, *places(lake)) == []
    assert without_load(lake, name)[0][0] == OTHER


def test_an_erasure_that_a_load_overtook_is_finished_by_the_next_one(lake: Lake) -> None:
    name = LATER[6]
    what, found = find.find(lake.spark, lake.settings, find.Request((name,), (), "asked for", "somebody"))
    lake.landing.readings("between.json", day(name, "2021-11-01"), after=timedelta(hours=4))
    lake.load()

    erase.begin(lake.settings, what)
    with pytest.raises(writer.Overtaken):
        erase.finish(lake.spark, lake.settings, lambda _: None, found)
    lake.run()

    assert holding(name, *places(lake)) == []
    assert lake.run() is None


def test_what_a_restored_backup_brings_back_is_erased_once_a_load_that_was_killed_in_it_is_put_right(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A backup from before an erasure, made while a load switched; the state knows better."""
    name, in_bytes = "abcdef1234", "fedcba4321"
    lake.landing.readings(
        "late.json", day(name, "2021-10-30") + day(OTHER, "2021-10-30", 0.5), after=timedelta(hours=4)
    )
    lake.landing.raw("readings/broken.json", f'[["{in_bytes}"'.encode(), after=timedelta(hours=4))
    lake.load()
    what, _ = find.find(lake.spark, lake.settings, find.Request((name, in_bytes), (), "asked for", "somebody"))
    known = erasures.read(lake.settings.state)

    assert files.in_backups(tmp_path, what) == []
    backup.copy_out(lake.settings, tmp_path / "one")
    assert files.in_backups(tmp_path, what) == [f"{tmp_path.name}/one"]
    lake.landing.readings("dying.json", day(OTHER, "2021-10-26", 0.5), after=timedelta(hours=4))
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(writer, "publish", dying(writer.publish, at=3))
        lake.run()
    erase._keep_stones(lake.settings, what)
    lake.run()
    lake.run()

    assert [holding(each, *places(lake)) for each in (name, in_bytes)] == [[], []]
    assert len(erasures.read(lake.settings.state).stones) == len(known.stones) + 2
    assert (
        lake.value(f"SELECT count(*) FROM silver.readings WHERE meterpoint_id = '{OTHER}' AND date = '2021-10-26'")
        == 48
    )
    assert len(erase.listed(lake.spark)) == lake.value("SELECT count(DISTINCT erasure) FROM ops.erased")


def test_without_the_key_nothing_is_loaded_until_it_is_back_or_given_up(lake: Lake, tmp_path: Path) -> None:
    folder = lake.settings.state / erasures.FOLDER
    shutil.move(folder, tmp_path / "elsewhere")

    with pytest.raises(KeyLost, match="key of their hashes is missing"):
        lake.run()
    assert erase.give_up_key(lake.spark, lake.settings) == 1
    lake.run()

    assert "The key of some erased ids was given up" in " ".join(lake.told)
    erasures.merge(lake.settings.state, erasures.read_file(tmp_path / "elsewhere" / erasures.STONES))
    assert lake.run() is None
    assert lake.told == []


def test_the_command_says_what_would_go_erases_and_never_tells_whom_afterwards(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed, name = on(lake, monkeypatch, capsys), LATER[5]
    asked = ("erase", "--meterpoint", name, "--reason", "letter of 12 May", "--by", "ana")
    loads = lake.value("SELECT count(*) FROM ops.loads")

    dry = typed(*asked, "--dry-run")
    not_yet = typed(*asked)
    between = lake.value("SELECT count(*) FROM ops.loads")
    done = typed(*asked, "--yes", "--totals", "restate")
    listed = typed("erase", "--list")

    assert "silver.readings: 98 rows" in dry.text
    assert "Totals of past dates stay as they are. Backups that hold them, and stay: none found." in dry.text
    assert (not_yet.status, between) == (1, loads)
    assert "nothing was erased: add --yes" in not_yet.text
    assert (done.status, "Nothing before it can be rolled back" in done.text) == (0, True), done.text
    assert "Rebuild" in done.text
    assert "ana letter of 12 May 1 0" in listed.text
    assert name not in done.text + listed.text
    assert holding(name, *places(lake)) == []


def test_an_unknown_id_is_an_error_with_the_names_that_are_near(lake: Lake) -> None:
    with pytest.raises(find.Unknown, match=rf"{OTHER}0 \(did you mean {OTHER}\?\): nothing is known of this id"):
        find.find(lake.spark, lake.settings, find.Request((f"{OTHER}0",), (), "why", "who"))
    with pytest.raises(LakeError, match="must not name whom"):
        find.find(lake.spark, lake.settings, find.Request((OTHER,), (), f"as {OTHER.upper()} asked", "who"))


def test_of_a_meterpoint_with_two_accounts_each_has_the_dates_that_the_shown_snapshot_gives_it(
    new_lake: Callable[[], Lake],
) -> None:
    """Whatever an earlier snapshot of its day, or a later one that was rolled back, says."""
    lake, first = new_lake(), "2020-01-01"
    agreements = [Agreement(1, GONE, first, account_id="account-A"), Agreement(2, GONE, "2021-02-01", account_id="B")]
    lake.landing.readings("a.json", day(GONE, "2021-01-31") + day(GONE, "2021-02-01"))
    lake.landing.reference([Agreement(1, GONE, first, account_id="account-C")], [GONE])
    lake.load()
    lake.landing.reference(agreements, [GONE], after=timedelta(hours=1))
    lake.load()
    lake.landing.reference([*agreements, Agreement(3, OTHER)], [GONE, OTHER], after=timedelta(days=2))
    lake.undo(lake.load().load_id)

    erased(lake, accounts=("account-A",))

    assert lake.rows("SELECT DISTINCT date FROM silver.readings") == [(date(2021, 2, 1),)]
