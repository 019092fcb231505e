"""Erased ids in files, and in rows of tables; no Spark."""

import gzip
import json
from datetime import date
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import backup
from jobs.erasure import files, find
from jobs.erasure import state as erasures
from jobs.erasure.state import Pending
from jobs.erasure.who import Words, who_of
from jobs.errors import LakeError
from jobs.readings.erased import stone
from jobs.settings import Settings

ID, OTHER, NUMBER, ACCOUNT = "0432df65f7", "1b2c3d4e5f", "1234567", "Konto/17 é & <b>"
WHAT = Pending([ID, NUMBER], [ACCOUNT], [("99aa88bb77", "2021-01-02", "2021-01-03")])
COLUMNS = ["interval_start", "consumption_delta", "meterpoint_id"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(
        landing=str(tmp_path / "landing"),
        warehouse=str(tmp_path / "state" / "warehouse"),
        state=tmp_path / "state",
        reports=tmp_path / "state" / "reports",
    )
    for folder in (settings.landing, settings.warehouse, settings.reports, settings.state / "metastore"):
        Path(folder).mkdir(parents=True)
    return settings


def readings(*names: object) -> bytes:
    rows = [[f"2021-01-01 {hour:02}:00:00", 1, name] for hour, name in enumerate(names)]
    return json.dumps({"columns": COLUMNS, "data": rows}).encode()


def test_pages_and_logs__should_have_asterisks_in_an_ids_place_and_be_as_they_were_else(settings: Settings) -> None:
    page = settings.reports / "load" / "page.html"
    page.parent.mkdir()
    said = "<a href='{}'>readings/{}.json</a> &amp; Konto/17 &eacute;"
    page.write_text(said.format(quote(ACCOUNT), ID.upper()))
    (settings.state / "spark.log").write_text(f"a {ID}\n{json.dumps(ACCOUNT)} Konto/17 é &amp; &lt;b&gt;\n{OTHER}\n")
    (settings.state / "empty.json").touch()
    (settings.state / "metastore" / "seg0").write_text(ID)
    (settings.state / "link").symlink_to(settings.state / "metastore" / "seg0")

    with (settings.state / "spark.log").open("a") as log:
        files.redact_files(settings, who_of(WHAT).words)
        log.write("and so on\n")

    assert page.read_text() == said.format("*" * len(quote(ACCOUNT)), "*" * len(ID))
    told = (settings.state / "spark.log").read_text()
    assert [word for word in told.split() if "*" not in word] == ["a", OTHER, "and", "so", "on"]
    assert list(files.holding(files.texts(settings), who_of(WHAT).words)) == []
    assert (settings.state / "metastore" / "seg0").read_text() == ID


def test_files_that_programs_read__should_keep_their_numbers_and_times(settings: Settings) -> None:
    what = Pending([NUMBER, "20210105", "345678"], [], [])
    kept = {"size": 1234567, "at": "2021-01-05T08:00:00.345678+00:00", "load": "20210105T080000-123456"}
    facts, metrics = settings.reports / "facts.json", settings.state / "metrics.prom"
    facts.write_text(json.dumps(kept | {"file": f'readings/"{NUMBER}.json', "20210105": [f"{NUMBER}"]}))
    metrics.write_text(f'lake_bytes{{file="{NUMBER}"}} {NUMBER}\n')

    files.redact_files(settings, who_of(what).words)

    assert json.loads(facts.read_text()) == kept | {"file": 'readings/"*******.json', "20210105": ["*******"]}
    assert metrics.read_text() == f'lake_bytes{{file="*******"}} {NUMBER}\n'


@pytest.mark.parametrize(
    ("path", "content", "is_named"),
    [
        ("reports/page.html", ID.encode(), True),
        ("reports/page.html", OTHER.encode(), False),
        ("quarantine.readings", {"row_json": [json.dumps({"meterpoint_id": int(NUMBER)})]}, True),
        ("quarantine.readings", {"row_json": [json.dumps({"meterpoint_id": OTHER})]}, False),
        ("quarantine.files", {"content": [gzip.compress(readings(ID))]}, True),
        ("ops.load_files", {"source_file": [f"readings/{ID}.json"], "note": [None]}, True),
        ("silver.readings", {"meterpoint_id": [OTHER, ID]}, True),
        ("silver.agreement", {"account_id": [f" {ACCOUNT}"], "meterpoint_id": ["x"]}, True),
        ("silver.agreement", {"account_id": ["another"], "meterpoint_id": ["99aa88bb77"]}, False),
    ],
)
def test_backup__should_be_named_if_anything_in_it_has_an_id(
    tmp_path: Path, path: str, content: bytes | dict[str, list[object]], is_named: bool
) -> None:
    target = tmp_path / "backups" / "one" / path
    if isinstance(content, bytes):
        target.parent.mkdir(parents=True)
        target.write_bytes(content)
    else:
        target.mkdir(parents=True)
        pq.write_table(pa.table(content), target / "part.parquet")

    assert files.in_backups(tmp_path / "backups", WHAT) == (["backups/one"] if is_named else [])


def test_backup__should_not_be_made_while_an_erasure_is_to_be_finished(settings: Settings, tmp_path: Path) -> None:
    erasures.begin(settings.state, WHAT)

    with pytest.raises(RuntimeError, match="an erasure was killed"):
        backup.copy_out(settings, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_landing_place__should_lose_files_that_are_theirs_alone_and_have_others_named(settings: Settings) -> None:
    landing = Path(settings.landing)
    for name, content in {
        f"readings/{ID}.json": readings(ID),
        "readings/packed.json.gz": gzip.compress(readings(ID, f"{ID} ", int(NUMBER))),
        "readings/mixed.json": readings(ID, OTHER),
        f"readings/of_{ID}.json": readings(OTHER),
        "readings/account.json": readings("99aa88bb77"),  # before the account had it
        "readings/cut.json": readings(ID)[:-9],
        "readings/other.json": readings(OTHER),
        f"readings/{ID}.csv": b"",
        "case_study.db": b"SQLite format 3\0" + ID.encode(),
    }.items():
        (landing / name).parent.mkdir(exist_ok=True)
        (landing / name).write_bytes(content)
    named = ["packed.json.gz", "mixed.json", "account.json", "cut.json", "gone.json"]
    WHAT.files = [f"readings/{name}" for name in named]

    deleted, remaining = files.of_landing(settings, WHAT)

    assert deleted == [f"readings/{ID}.json", "readings/packed.json.gz"]
    assert dict(remaining) == {
        "readings/mixed.json": "it holds others' rows, too",
        f"readings/of_{ID}.json": "it holds others' rows, too",
        "readings/cut.json": "it cannot be read as a readings file",
        f"readings/{ID}.csv": "by its name it is no input",
        "case_study.db": "a reference file is replaced by its sender",
    }
    left = {f"{path.relative_to(landing)}" for path in landing.rglob("*") if path.is_file()}
    assert left == {*dict(remaining), "readings/account.json", "readings/other.json"}


def test_rows__should_go_in_each_spelling_and_dates_of_an_account_alone() -> None:
    who = who_of(WHAT)
    delivered = [
        ID,
        int(NUMBER),
        float(NUMBER),
        f"\u200b{ID}",
        f"MP-{NUMBER}",
        f"{NUMBER}8",
        "99aa88bb77",
        "99aa88bb77",
    ]
    rows = pa.table(
        {
            "row_json": [json.dumps({"meterpoint_id": each}) for each in delivered],
            "date": pa.array([*[None] * 6, date(2021, 1, 2), date(2021, 1, 4)], pa.date32()),
            "source_file": [f"{number}.json" for number in range(8)],
        }
    )

    kept, removed, changed = who.clean(rows, None)

    assert kept["source_file"].to_pylist() == ["5.json", "7.json"]
    assert (removed, changed) == (6, 0)
    assert who.seen == {ID, NUMBER}
    assert who.files == {f"{number}.json" for number in (0, 1, 2, 3, 4, 6)}


def test_files_in_quarantine__should_lose_their_bytes_and_be_known_by_name() -> None:
    who = who_of(WHAT)
    rows = pa.table({"source_file": [f"{ID}.json", "cut.json", "other.json"], "content": [b"", ID.encode(), b"x"]})

    kept, removed, changed = who.clean(rows, None)

    assert kept.to_pydict() == {"source_file": ["erased.json", "cut.json", "other.json"], "content": [b"", None, b"x"]}
    assert (removed, changed) == (0, 2)
    assert who.files == {"cut.json"}


def test_names__should_have_the_longest_id_replaced_and_stay_different() -> None:
    words = Words(["123456", NUMBER], str.upper)

    assert words.redacted(f"{NUMBER}.json 123456.json") == f"{NUMBER}.json 123456.json"
    assert words.seen == {"123456", NUMBER}
    assert len({Words([ID], hash_of).redacted(name) for name in (ID, ID.upper())}) == 2


def hash_of(text: str) -> str:
    return str(hash(text))


def test_state__should_be_private_and_say_in_a_line_when_it_is_damaged(tmp_path: Path) -> None:
    state = erasures.State()
    state.add("one", {"at": "", "by": "", "reason": ""}, [stone(state.key(), "meterpoint", ID)])
    erasures.write(tmp_path, state)
    path = tmp_path / erasures.FOLDER / erasures.STONES

    assert path.stat().st_mode & 0o77 == 0
    assert ID not in path.read_text()
    for damaged in ("", "{}", path.read_text()[:-9], path.read_text().replace('"lost"', '"last"')):
        path.write_text(damaged)
        with pytest.raises(LakeError, match=r"erased\.json is damaged: put it back from a backup"):
            erasures.read(tmp_path)


def test_states__should_be_merged_and_a_key_that_is_back_be_lost_no_more(tmp_path: Path) -> None:
    states = [erasures.State(), erasures.State()]
    for number, state in enumerate(states):
        state.add(str(number), {"at": "", "by": "", "reason": ""}, [stone(state.key(), "meterpoint", f"{number}")])
    states[0].lost = set(states[1].keys)
    erasures.write(tmp_path, states[0])

    erasures.merge(tmp_path, states[1])
    erasures.merge(tmp_path, states[1])

    merged = erasures.read(tmp_path)
    assert (merged.lost, len(merged.stones), len(merged.keys)) == (set(), 2, 2)
    assert [merged.erased().has_meterpoint(each) for each in ("0", "1", "2")] == [True, True, False]


def test_too_many_ids__should_be_refused_in_a_line(settings: Settings) -> None:
    many = tuple(map(str, range(find.MOST_IDS + 1)))

    with pytest.raises(LakeError, match="more than 1,000 ids: erase so many at a time"):
        find.asked_for(find.Request(meterpoints=many))
    with pytest.raises(LakeError, match="name whom to erase"):
        find.asked_for(find.Request(meterpoints=(" ", "\u200b")))
