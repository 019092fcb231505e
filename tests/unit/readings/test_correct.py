"""Meterpoints of a date corrected in a late layer, against the pure functions over the whole date."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from jobs.readings.correct import KEYS, SCHEMAS, Corrected, Date, Layers, content, correct, rows_of
from jobs.readings.ingest import CLAIMS_SCHEMA, READINGS_SCHEMA, Place, write_file
from jobs.readings.merge import SUPERSEDED_SCHEMA, Changes, Merged, merge, replace

DAY, MIDNIGHT = date(2021, 1, 1), datetime(2021, 1, 1, tzinfo=UTC)
LOCAL = LocalFileSystem()
# Names of which the order of letters, of UTF-8 and of UTF-16 differ.
METERPOINTS = ("A", "m1", "m2", "z", "é", "\uffff", "😀")
FILES = ("a.json", "b.json", "c.json")
EMPTY = Merged(READINGS_SCHEMA.empty_table(), READINGS_SCHEMA.empty_table(), CLAIMS_SCHEMA.empty_table())
# What tells that a meterpoint is another than before; not which load brought what a later one said once more.
SHOWN = {
    "readings": ("meterpoint_id", "interval_start_utc", "consumption_kwh", "reading_quality", "source_file"),
    "contested": ("meterpoint_id", "interval_start_utc", "consumption_kwh", "reading_quality", "source_file"),
    "claims": tuple(CLAIMS_SCHEMA.names),
}

Rows = list[dict[str, Any]]


class Version(NamedTuple):
    """What a file says of the date from a load on."""

    file: str
    modified: int
    said: dict[tuple[str, int], tuple[int, str | None]]  # kWh and quality by meterpoint and half hour


class Load(NamedTuple):
    number: int
    versions: list[Version]
    taken_back: set[tuple[str, str]] | None  # files and meterpoints of claims; None where there is no retraction

    @property
    def load_id(self) -> str:
        return f"load-{self.number}"

    def rows(self) -> tuple[pa.Table, pa.Table]:
        """Its readings and claims, as tasks write them."""
        readings = [
            {
                "meterpoint_id": meterpoint,
                "interval_start": MIDNIGHT + timedelta(minutes=30 * half_hour),
                "interval_start_utc": MIDNIGHT + timedelta(minutes=30 * half_hour),
                "consumption_kwh": Decimal(kwh) / 2,
                "reading_quality": quality,
                "source_file": each.file,
                "load_id": self.load_id,
            }
            for each in self.versions
            for (meterpoint, half_hour), (kwh, quality) in each.said.items()
        ]
        claims = [
            {
                "source_file": each.file,
                "meterpoint_id": meterpoint,
                "load_id": self.load_id,
                "modified_at": MIDNIGHT + timedelta(hours=24 + each.modified),
                "readings": sum(of == meterpoint for of, _ in each.said),
            }
            for each in self.versions
            for meterpoint in sorted({meterpoint for meterpoint, _ in each.said})
        ]
        return pa.Table.from_pylist(readings, READINGS_SCHEMA), pa.Table.from_pylist(claims, CLAIMS_SCHEMA)

    def dropped(self, claims: pa.Table, day: date) -> pa.ChunkedArray:
        assert day == DAY
        pairs = zip(claims["source_file"].to_pylist(), claims["meterpoint_id"].to_pylist(), strict=True)
        return pa.chunked_array([pa.array([pair in (self.taken_back or ()) for pair in pairs], pa.bool_())])


slots = st.tuples(st.sampled_from(METERPOINTS), st.integers(0, 2))
values = st.tuples(st.integers(0, 2), st.sampled_from([None, "A", "E"]))
versions = st.builds(
    Version, st.sampled_from(FILES), st.integers(0, 3), st.dictionaries(slots, values, min_size=1, max_size=8)
)
deliveries = st.lists(versions, max_size=3, unique_by=lambda each: each.file)
pairs = st.sets(st.tuples(st.sampled_from(FILES), st.sampled_from(METERPOINTS)), max_size=6)
loads = st.tuples(deliveries, st.none() | st.none() | pairs)
some = st.sets(st.sampled_from(METERPOINTS), max_size=3)


def whole(held: Merged, load: Load) -> tuple[Merged, Changes, pa.Table]:
    """The date after a load, merged as a whole; what changed, and which values are known no longer."""

    def flagged(rows: pa.Table, is_new: bool) -> pa.Table:
        return rows.append_column("is_new", pa.array([is_new] * rows.num_rows, pa.bool_()))

    readings, claims = load.rows()
    rows = pa.concat_tables([flagged(held.readings, False), flagged(held.contested, False), flagged(readings, True)])
    none = pa.chunked_array([pa.array([False] * claims.num_rows, pa.bool_())])
    merged = merge(
        rows,
        pa.concat_tables(
            [
                flagged(held.claims, False).append_column("is_dropped", load.dropped(held.claims, DAY)),
                flagged(claims, True).append_column("is_dropped", none),
            ]
        ),
    )
    replaced = replace(held.readings, merged.readings, load.load_id)
    return merged._replace(readings=replaced.readings), replaced.changes, replaced.superseded


def by_meterpoint(rows: pa.Table, names: tuple[str, ...]) -> dict[str, set[tuple[Any, ...]]]:
    found: dict[str, set[tuple[Any, ...]]] = {}
    for row in rows.to_pylist():
        found.setdefault(row["meterpoint_id"], set()).add(tuple(row[name] for name in names))
    assert sum(map(len, found.values())) == rows.num_rows, "a row occurs twice"
    return found


def differing(kind: str, before: Merged, after: Merged) -> set[str]:
    old, new = (by_meterpoint(getattr(each, kind), SHOWN[kind]) for each in (before, after))
    return {each for each in old.keys() | new.keys() if old.get(each) != new.get(each)}


def mark(meterpoint: str, schema: pa.Schema) -> dict[str, Any]:
    return dict.fromkeys(schema.names) | {"meterpoint_id": meterpoint}


class Lake:
    """A date on disk, in layers, beside what the pure functions say of it."""

    def __init__(self, root: str, base: Merged, late: Merged, corrected: dict[str, set[str]], is_old: bool) -> None:
        """The base has what counted once; of the corrected meterpoints a late layer says what counts now."""
        self.root, self.held = root, late
        self.layers: dict[str, Layers] = {}
        for kind, schema in SCHEMAS.items():
            meterpoints = corrected[kind]
            rows = getattr(base, kind).select(schema.names)
            if is_old and kind == "readings":  # an older version did not say since when a value is known
                rows = rows.set_column(7, "known_from", pa.nulls(rows.num_rows, pa.string()))
            self.layers[kind] = Layers(
                self.write(f"{kind}/base", rows) if rows.num_rows else None,
                self.write(f"{kind}/late", _late(getattr(late, kind), schema, meterpoints)) if meterpoints else None,
            )

    def write(self, folder: str, rows: pa.Table) -> str:
        write_file(LOCAL, f"{self.root}/{folder}", "part-0.parquet", rows)
        return f"{self.root}/{folder}"

    def take(self, load: Load) -> None:
        """Correct the date by a load, and hold all that comes of it to the whole date."""
        before, layers = self.held, self.layers
        self.held, changes, superseded = whole(before, load)
        folder = f"{self.root}/{load.load_id}"
        readings, claims = load.rows()
        new = (self.write(f"{load.load_id}/new/{n}", each) for n, each in enumerate((readings, claims)))
        new_readings, new_claims = new if load.versions else (None, None)
        place = Place(
            *(LOCAL, self.root, LOCAL, f"{self.root}/r", f"{self.root}/c", f"{self.root}/k"),
            staging=f"{folder}/staging",
            staging_uri=f"{folder}/staging",
            load_id=load.load_id,
            started_at=MIDNIGHT,
        )
        targets = {kind: f"{folder}/{kind}" for kind in KEYS}
        given_up = load.dropped if load.taken_back is not None else None

        told = correct(place, given_up, Date(str(DAY), layers, targets, new_readings, new_claims))

        self.layers = {
            kind: each._replace(late=targets[kind]) if kind in told.rows else each for kind, each in layers.items()
        }
        _same_changes(told, changes)
        for kind in KEYS:
            differ = differing(kind, before, self.held)
            assert (kind in told.rows) == Path(targets[kind]).exists() == bool(differ)
            if differ:
                self._holds_late(kind, told.rows[kind], layers[kind].late, differ)
            self._counts(kind)
        differ = differing("readings", before, self.held)
        for name, each in (("before", before.readings), ("after", self.held.readings)):
            rows = _staged(f"{folder}/staging/{name}")
            assert all(row.pop("date") == DAY for row in rows)
            columns = (*SHOWN["readings"], "interval_start")
            expected = {m: shown for m, shown in by_meterpoint(each, columns).items() if m in differ}
            assert by_meterpoint(pa.Table.from_pylist(rows, READINGS_SCHEMA), columns) == expected
        columns = (
            "meterpoint_id",
            "interval_start_utc",
            "consumption_kwh",
            "reading_quality",
            "source_file",
            "known_from",
        )
        rows = _staged(f"{folder}/staging/superseded")
        assert by_meterpoint(pa.Table.from_pylist(rows, SUPERSEDED_SCHEMA), columns) == by_meterpoint(
            superseded, columns
        )

    def _holds_late(self, kind: str, count: int, earlier: str | None, differ: set[str]) -> None:
        """The new late layer has the meterpoints that differ as they are, and others as they were."""
        schema = SCHEMAS[kind]
        rows = content(LOCAL, self.layers[kind].late, schema)
        kept = [row for row in content(LOCAL, earlier, schema).to_pylist() if row["meterpoint_id"] not in differ]
        stored = [row for row in rows.to_pylist() if row["meterpoint_id"] not in differ]
        assert sorted(stored, key=str) == sorted(kept, key=str)
        now = by_meterpoint(getattr(self.held, kind), SHOWN[kind])
        marks = [row for row in rows.to_pylist() if row[KEYS[kind]] is None]
        assert [each for each in marks if each["meterpoint_id"] in differ] == [
            mark(each, schema) for each in sorted(differ - now.keys())
        ]
        assert set(rows["meterpoint_id"].to_pylist()) == {row["meterpoint_id"] for row in kept} | differ
        assert rows["meterpoint_id"].to_pylist() == sorted(rows["meterpoint_id"].to_pylist()), "row groups are by name"
        assert count == rows.num_rows - len(marks)

    def _counts(self, kind: str) -> None:
        """What counts is what the whole date says, of all meterpoints and of each."""
        expected, key = getattr(self.held, kind), SHOWN[kind]
        found = rows_of(LOCAL, kind, self.layers[kind])
        assert by_meterpoint(found, key) == by_meterpoint(expected, key)
        # A load that says once more what is held leaves it as the earlier one's.
        loads = {tuple(row[name] for name in key): row for row in expected.to_pylist()}
        for row in found.to_pylist():
            of_whole = loads[tuple(row[name] for name in key)]
            assert row["load_id"] <= of_whole["load_id"]
            if kind == "readings":
                assert (row["known_from"] or row["load_id"]) == of_whole["known_from"]
                assert row["interval_start"] == of_whole["interval_start"]
        for names in (["A"], ["m1", "é"], ["nobody", "😀"]):
            some = rows_of(LOCAL, kind, self.layers[kind], pa.array(names))
            assert by_meterpoint(some, key) == {
                m: rows for m, rows in by_meterpoint(expected, key).items() if m in names
            }


def _late(rows: pa.Table, schema: pa.Schema, meterpoints: set[str]) -> pa.Table:
    found = [row for row in rows.select(schema.names).to_pylist() if row["meterpoint_id"] in meterpoints]
    gone = meterpoints - {row["meterpoint_id"] for row in found}
    return pa.Table.from_pylist([*found, *(mark(each, schema) for each in sorted(gone))], schema)


def _same_changes(told: Corrected, changes: Changes) -> None:
    assert told.day == str(DAY)
    assert told.changes[1:5] == changes[1:5]  # added, changed, removed, meterpoints
    assert told.changes.kwh_after - told.changes.kwh_before == changes.kwh_after - changes.kwh_before


def _staged(folder: str) -> Rows:
    return [row for path in sorted(Path(folder).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@settings(deadline=None, max_examples=80)
@given(
    before=st.lists(deliveries, min_size=1, max_size=2),
    since=st.lists(loads, max_size=2),
    corrected=some,
    then=st.lists(loads, min_size=1, max_size=3),
    is_old=st.booleans(),
)
def test_a_corrected_date_is_as_if_it_were_merged_as_a_whole(
    before: list[list[Version]],
    since: list[tuple[list[Version], set[tuple[str, str]] | None]],
    corrected: set[str],
    then: list[tuple[list[Version], set[tuple[str, str]] | None]],
    is_old: bool,
) -> None:
    history = [Load(n, *each) for n, each in enumerate([*((each, None) for each in before), *since, *then])]
    base = late = EMPTY
    for load in history[: len(before)]:
        base, *_ = whole(base, load)
    late = base = _first_known(base) if is_old else base
    of_kinds = {kind: set(corrected) for kind in KEYS}
    for load in history[len(before) : -len(then)]:
        earlier, (late, *_) = late, whole(late, load)
        of_kinds = {kind: each | differing(kind, earlier, late) for kind, each in of_kinds.items()}

    with TemporaryDirectory() as root:
        lake = Lake(root, base, late, of_kinds, is_old)
        for load in history[-len(then) :]:
            lake.take(load)


def _first_known(held: Merged) -> Merged:
    """A date of which nothing tells since when values are known, but the loads that brought them."""
    readings = held.readings.set_column(7, "known_from", held.readings["load_id"])
    return held._replace(readings=readings)


# --- what is read of a file ----------------------------------------------------------------------------------------


def one_each(*names: str) -> pa.Table:
    """One claim of each meterpoint."""
    rows = [{"source_file": "a.json", "meterpoint_id": each, "load_id": "load-1", "readings": 1} for each in names]
    return pa.Table.from_pylist(rows, CLAIMS_SCHEMA)


def found(folder: Path, *names: str) -> list[str]:
    rows = content(LOCAL, str(folder), CLAIMS_SCHEMA, pa.array(sorted(names), pa.string()))
    return [str(each) for each in rows["meterpoint_id"].to_pylist()]


def destroy(path: Path, group: int) -> None:
    """Overwrite what a row group of a file holds; what the footer says of it stays."""
    of_group = pq.ParquetFile(path).metadata.row_group(group)
    stored = bytearray(path.read_bytes())
    for number in range(of_group.num_columns):
        column = of_group.column(number)
        first = column.dictionary_page_offset or column.data_page_offset
        stored[first : first + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(stored)


def test_of_some_meterpoints_only_row_groups_are_read_that_may_have_one(tmp_path: Path) -> None:
    path = tmp_path / "part-0.parquet"
    pq.write_table(one_each(*(f"m{number}" for number in range(10))), path, row_group_size=2)
    for group in (0, 2, 4):
        destroy(path, group)

    assert found(tmp_path, "m2", "m3", "m7") == ["m2", "m3", "m7"]
    assert found(tmp_path, "a", "m31", "m5a", "z") == []  # in the gaps between the groups' meterpoints
    assert found(tmp_path) == []
    for name in ("m0", "m5", "m9"):
        with pytest.raises((OSError, pa.ArrowInvalid)):
            found(tmp_path, "m2", name)


@pytest.mark.parametrize("one", METERPOINTS)
@pytest.mark.parametrize("other", METERPOINTS)
def test_row_groups_are_told_apart_whatever_the_letters_of_their_meterpoints(
    tmp_path: Path, one: str, other: str
) -> None:
    path = tmp_path / "part-0.parquet"
    names = sorted(METERPOINTS)
    pq.write_table(one_each(*names), path, row_group_size=1)
    for group in range(len(names)):
        if names[group] not in (one, other):
            destroy(path, group)

    assert found(tmp_path, *{one, other}) == sorted({one, other})


def written(folder: Path, kind: str) -> Iterator[Path]:
    """Files as this version of the lakehouse and others have written them, of half of the meterpoints each."""
    for number, names in enumerate((("m0", "m1", "m2"), ("m3", "m4", "m5"))):
        path, rows = folder / f"part-{number}.parquet", one_each(*names)
        options: dict[str, Any] = {"row_group_size": 2}
        if kind == "no statistics":
            options["write_statistics"] = False
        elif kind == "statistics of other columns":
            options["write_statistics"] = ["source_file"]
        elif kind == "other order of columns":
            rows = rows.select(rows.column_names[::-1])
        pq.write_table(rows, path, **options)
        yield path


@pytest.mark.parametrize("kind", ["as now", "no statistics", "statistics of other columns", "other order of columns"])
def test_meterpoints_are_found_in_files_of_every_kind(tmp_path: Path, kind: str) -> None:
    paths = list(written(tmp_path, kind))
    (tmp_path / "_SUCCESS").touch()

    has_statistics = [
        pq.ParquetFile(path).metadata.row_group(0).column(names.index("meterpoint_id")).is_stats_set
        for path in paths
        for names in [pq.read_schema(path).names]
    ]
    assert has_statistics == [kind not in ("no statistics", "statistics of other columns")] * 2
    assert found(tmp_path, "m1", "m3", "m6") == ["m1", "m3"]
    assert content(LOCAL, str(tmp_path), CLAIMS_SCHEMA)["meterpoint_id"].to_pylist() == [f"m{n}" for n in range(6)]


def test_columns_that_a_file_lacks_are_null(tmp_path: Path) -> None:
    """As an older version wrote them."""
    rows, _ = Load(1, [Version("a.json", 0, {("m1", 0): (1, "A"), ("m2", 0): (2, "E")})], None).rows()
    write_file(LOCAL, str(tmp_path), "part-0.parquet", rows.drop_columns(["reading_quality", "known_from"]))
    write_file(LOCAL, str(tmp_path), "part-1.parquet", rows)

    both = content(LOCAL, str(tmp_path), READINGS_SCHEMA, pa.array(["m2"]))

    assert both.schema == READINGS_SCHEMA
    assert both["reading_quality"].to_pylist() == [None, "E"]
    assert pc.all(pc.equal(both["consumption_kwh"], Decimal(1))).as_py()


def test_a_folder_that_does_not_exist_has_no_rows(tmp_path: Path) -> None:
    for folder in (None, str(tmp_path / "none")):
        for meterpoints in (None, pa.array(["m1"]), pa.array([], pa.string())):
            assert content(LOCAL, folder, READINGS_SCHEMA, meterpoints) == READINGS_SCHEMA.empty_table()
    for kind, schema in SCHEMAS.items():
        assert rows_of(LOCAL, kind, Layers(None, None)) == schema.empty_table()


def test_a_load_that_says_nothing_writes_nothing(tmp_path: Path) -> None:
    held, *_ = whole(EMPTY, Load(0, [Version("a.json", 0, {("m1", 0): (1, None)})], None))
    lake = Lake(str(tmp_path), held, held, {kind: set() for kind in KEYS}, False)

    for number, taken_back in enumerate((None, set(), {("b.json", "m1")})):
        lake.take(Load(number + 1, [], taken_back))
        assert not list((tmp_path / f"load-{number + 1}").rglob("*.parquet"))
