"""Which files are known, by key: held to a dictionary of the newest versions, whatever happens to loads and files."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

from jobs.errors import LakeError
from jobs.ledger import known
from jobs.ledger.known import Load, Versions

NAMES = [f"readings/{number}.json" for number in range(12)]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Version = tuple[int, int]  # size and time


class Row(NamedTuple):
    load_id: str
    name: str
    version: Version
    kind: str = "readings"


@dataclass
class Ledger:
    """What ops.loads and ops.load_files say."""

    loads: list[Load] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    begun: int = 0
    backups: list[tuple[list[Load], list[Row]]] = field(default_factory=lambda: [([], [])])
    asked: list[int] = field(default_factory=list)  # how many loads the state asked for, each time

    def load(
        self, files: dict[str, Version], failed: bool = False, erased: bool = False, kind: str = "readings"
    ) -> None:
        self.begun += 1
        load_id = f"{datetime(2026, 1, 1) + timedelta(hours=self.begun):%Y%m%dT%H%M%S}-abc"
        self.loads.append(Load(load_id, failed, erased))
        self.rows += [Row(load_id, name, version, kind) for name, version in files.items()]
        self.backups.append((self.loads.copy(), self.rows.copy()))

    def newest(self) -> dict[str, tuple[Version, int]]:
        took = {load.load_id for load in self.loads if not load.failed}
        return {row.name: (row.version, second(row.load_id)) for row in self.rows if row.load_id in took}

    def versions_of(self, loads: list[str]) -> Iterator[Versions]:
        self.asked.append(len(loads))
        rows = [row for row in self.rows if row.load_id in loads]
        for part in (rows[:2], rows[2:]):
            yield Versions(
                [row.name for row in part],
                np.array([row.version[0] for row in part], np.int64),
                np.array([row.version[1] for row in part], np.int64),
                np.array([second(row.load_id) for row in part], np.int64),
                frozenset(row.name for row in part if row.kind == "reference"),
            )


@dataclass
class Lake:
    store: FileSystem
    folder: str
    place: Path
    ledger: Ledger = field(default_factory=Ledger)

    def compare(self, delivered: dict[str, Version]) -> list[tuple[int, bool]]:
        sizes, times = (np.array([each[place] for each in delivered.values()], np.int64) for place in (0, 1))
        of_files = [*delivered], sizes, times
        seconds, is_same = known.compare(self.store, self.folder, self.ledger.loads, self.ledger.versions_of, *of_files)
        return [*zip(seconds.tolist(), is_same.tolist(), strict=True)]

    def is_right(self, delivered: dict[str, Version]) -> None:
        newest = self.ledger.newest()
        expected = [
            (newest[name][1], newest[name][0] == version) if name in newest else (0, False)
            for name, version in delivered.items()
        ]
        assert self.compare(delivered) == expected

    @property
    def files(self) -> list[Path]:
        return sorted(self.place.iterdir()) if self.place.exists() else []


def second(load_id: str) -> int:
    return int((datetime.strptime(load_id[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) - EPOCH).total_seconds())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LocalFileSystem(), str(tmp_path / "known"), tmp_path / "known")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are merged, and have many blocks, with few entries already."""
    for name, value in (("MANY", 2), ("BLOCK", 3), ("SMALL_RUN", 1), ("SORTED_AT_ONCE", 4)):
        monkeypatch.setattr(known, name, value)


versions = st.tuples(st.integers(0, 2), st.integers(0, 2))
files = st.dictionaries(st.sampled_from(NAMES), versions, max_size=8)
events = st.one_of(
    st.tuples(st.just("load"), files),
    st.tuples(st.just("fail"), files),
    st.tuples(st.just("look"), files),
    st.tuples(st.just("erase"), st.sampled_from(NAMES)),
    st.tuples(st.just("restore"), st.integers(0, 4)),
    st.tuples(st.just("damage"), st.integers(0, 10_000)),
    st.tuples(st.just("cut"), st.integers(0, 10_000)),
    st.tuples(st.just("lose"), st.integers(0, 10_000)),
    st.tuples(st.just("older manifest"), st.none()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(events, max_size=40), st.booleans())
def test_state__should_say_what_the_newest_versions_say_whatever_happened(
    happened: list[tuple[str, Any]], subtree: bool
) -> None:
    constants = known.MANY, known.BLOCK, known.SMALL_RUN, known.SORTED_AT_ONCE
    known.MANY, known.BLOCK, known.SMALL_RUN, known.SORTED_AT_ONCE = 2, 3, 1, 4
    try:
        with tempfile.TemporaryDirectory() as temporary:
            (place := Path(temporary) / "known").mkdir()
            local = LocalFileSystem()
            store = SubTreeFileSystem(temporary, local) if subtree else local
            lake, manifest = Lake(store, "known" if subtree else str(place), place), b""
            for event, what in happened:
                manifest = apply(lake, event, what, manifest)
            lake.is_right(dict.fromkeys(NAMES, (1, 1)))
    finally:
        known.MANY, known.BLOCK, known.SMALL_RUN, known.SORTED_AT_ONCE = constants


def apply(lake: Lake, event: str, what: Any, manifest: bytes) -> bytes:
    """What may happen to a lakehouse. Returned is a manifest of before, which may be put back."""
    ledger, files = lake.ledger, lake.files
    found = lake.place / known.MANIFEST
    if event in ("load", "fail"):
        ledger.load(what, failed=event == "fail")
    elif event == "look":
        lake.is_right(what)
        return found.read_bytes() if found.exists() else b""
    elif event == "erase":
        ledger.rows = [row._replace(name=row.name.replace(what, f"alias-of-{what}")) for row in ledger.rows]
        ledger.load({}, erased=True)
    elif event == "restore":
        ledger.loads, ledger.rows = map(list, ledger.backups[-1 - what % len(ledger.backups)])
    elif event == "older manifest" and manifest and not any(load.erased for load in ledger.loads):
        found.write_bytes(manifest)
    elif event in ("damage", "cut", "lose") and files:
        file = files[what % len(files)]
        content = bytearray(file.read_bytes())
        if event == "damage" and content:
            content[what % len(content)] ^= 1
        if event == "cut" and content:
            del content[what % len(content) :]
        file.unlink() if event == "lose" else file.write_bytes(content)
    return manifest


def test_load__should_cost_what_is_new_and_not_what_is_known(lake: Lake) -> None:
    for number in range(5):
        lake.ledger.load({f"{number}.json": (1, 1)})
        lake.is_right({f"{number}.json": (1, 1), "new": (1, 1)})
    lake.is_right({"0.json": (1, 2), "4.json": (1, 1)})

    assert lake.ledger.asked == [1] * 5  # loads; the last look asked for none


def test_load_that_failed__should_leave_its_files_unknown_and_a_later_one_take_them(lake: Lake) -> None:
    lake.ledger.load({"a": (1, 1)}, failed=True)
    assert lake.compare({"a": (1, 1)}) == [(0, False)]

    lake.ledger.load({"a": (1, 1)})
    assert [is_same for _, is_same in lake.compare({"a": (1, 1)})] == [True]


@pytest.mark.usefixtures("small")
def test_runs__should_stay_few_and_nothing_but_them_be_left(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "KEPT_SECONDS", -1)
    for number in range(64):
        lake.ledger.load({f"{number}.json": (1, 1)})
        lake.compare({"0.json": (1, 1)})

        state = known.read(lake.store, lake.folder)
        assert state and len(state.runs) <= 7
        assert {file.name for file in lake.files} == {known.MANIFEST, *(run.name for run in state.runs)}
    lake.is_right({f"{number}.json": (1, 1) for number in range(70)})


def test_killed_run__should_leave_files_that_a_later_one_deletes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.ledger.load({"a": (1, 1)})
    lake.compare({})
    (lake.place / "run-of-a-killed-run").write_bytes(b"half")
    (lake.place / "draft-1").write_bytes(b"half")
    lake.ledger.load({"b": (1, 1)})

    lake.is_right({"a": (1, 1), "b": (1, 1)})
    assert len(lake.files) == 5, "they may be those of a run that is at work"
    monkeypatch.setattr(known, "KEPT_SECONDS", -1)
    lake.ledger.load({"c": (1, 1)})

    lake.is_right({"a": (1, 1), "b": (1, 1), "c": (1, 1)})
    assert len(lake.files) == 4  # a manifest and three runs


def test_versions_of_one_second__should_be_known_by_no_hash(lake: Lake) -> None:
    """Whichever comes first, and in whichever run: the file is looked up by its name then."""
    one, other, later = (
        known.entries(b"", known.Versions(["a"], np.array([size]), np.array([1]), np.array([second])))
        for size, second in ((1, 5), (2, 5), (3, 6))
    )
    for parts in ((one, other), (other, one), (one, other, one)):
        assert known.newest(*parts).version.tolist() == [0]
        assert known.newest(known.newest(*parts), one).version.tolist() == [0]
        assert known.newest(*parts, later).version.tolist() == later.version.tolist()
    assert known.newest(one, one).version.tolist() == one.version.tolist()
    lake.place.mkdir()
    for runs in ([one, other], [other, one]):
        state = known.empty()._replace(runs=tuple(known._write_run(lake.store, lake.folder, [each]) for each in runs))
        assert known.find(lake.store, lake.folder, state, one.key).version.tolist() == [0]


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"form": 1}', b'{"form": 1, "runs": 3}', b'{"form": "x"}', b"1"])
def test_manifest_of_another_form__should_be_as_good_as_none(lake: Lake, content: bytes) -> None:
    lake.place.mkdir(exist_ok=True)
    (lake.place / known.MANIFEST).write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    assert known.read(lake.store, lake.folder) is None


def test_state_that_others_delete_again_and_again__should_end_the_load_with_a_reason(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.ledger.load({"a": (1, 1)})
    find = known.find

    def too_late(*arguments: Any) -> Any:
        known.forget(lake.store, lake.folder)
        return find(*arguments)

    monkeypatch.setattr(known, "find", too_late)
    with pytest.raises(LakeError, match="another run changes the state"):
        lake.compare({"a": (1, 1)})


def test_lakehouse_without_loads__should_write_nothing(lake: Lake) -> None:
    assert lake.compare({"a": (1, 1)}) == [(0, False)]
    assert not lake.files


def test_erasure__should_leave_no_file_of_before(lake: Lake) -> None:
    lake.ledger.load({"readings/1.json": (1, 1)})
    lake.compare({})
    before = {file.name: file.read_bytes() for file in lake.files}
    apply(lake, "erase", "1", b"")

    lake.is_right({"readings/1.json": (1, 1), "readings/alias-of-1.json": (1, 1)})

    secrets = [content for name, content in before.items() if name != known.MANIFEST]
    assert not {file.name for file in lake.files} & (before.keys() - {known.MANIFEST})
    assert all(content not in file.read_bytes() for content in secrets for file in lake.files)


def test_forget__should_delete_all_and_be_repeatable(lake: Lake) -> None:
    lake.ledger.load({"a": (1, 1)})
    lake.compare({})

    for _ in range(2):
        known.forget(lake.store, lake.folder)
        assert not lake.files


def test_names_with_one_key__should_be_told_to_be_looked_up(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def alike(secret: bytes, names: list[str], sizes: known.Array, times: known.Array) -> Any:
        _, versions = hashes(secret, names, sizes, times)
        return np.zeros(len(names), "<u8"), versions

    hashes = known.hashes
    monkeypatch.setattr(known, "hashes", alike)
    lake.ledger.load({"a": (1, 1)})
    lake.ledger.load({"b": (1, 1)})

    assert [is_same for _, is_same in lake.compare({"a": (1, 1), "b": (1, 1), "c": (1, 1)})] == [False, True, False]


def test_hashes__should_differ_by_name_size_time_and_secret() -> None:
    def of(secret: bytes, name: str, size: int, time: int) -> tuple[int, int]:
        key, version = known.hashes(secret, [name], np.array([size]), np.array([time]))
        return int(key[0]), int(version[0])

    one = of(b"a", "x", 1, 1)
    assert of(b"a", "x", 1, 1) == one
    assert of(b"a", "x", 1, 2)[0] == of(b"a", "x", 2, 1)[0] == one[0]
    others = [of(b"a", "x", 1, 2), of(b"a", "x", 2, 1), of(b"a", "y", 1, 1), of(b"b", "x", 1, 1)]
    assert len({version for _, version in [one, *others]}) == 5
    assert len({one[0], others[2][0], others[3][0]}) == 3
    assert of(b"a", "caf\udce9", 1, 1)  # a name that is no UTF-8


def test_snapshots__should_be_kept_of_all_loads(lake: Lake) -> None:
    lake.ledger.load({"a.db": (1, 1)}, kind="reference")
    lake.compare({})
    lake.ledger.load({"b.db": (1, 1)}, kind="reference")
    lake.ledger.load({"c.db": (1, 1)}, kind="reference", failed=True)

    state = known.up_to_date(lake.store, lake.folder, lake.ledger.loads, lake.ledger.versions_of)

    assert state.snapshots == {"a.db", "b.db"}


def test_manifest__should_be_for_its_owner_alone_as_it_has_the_secret(tmp_path: Path) -> None:
    known.add(LocalFileSystem(), str(tmp_path / "known"), known.empty(), (), "1")

    assert (tmp_path / "known" / known.MANIFEST).stat().st_mode & 0o777 == 0o600
