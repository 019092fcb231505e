"""Correct some meterpoints of a date without writing, or reading, the whole date.

A date's rows are stored in two layers (jobs/tables.py): the late one has the meterpoints that were corrected since the
base was written, each whole, and takes their place. Of the base only the row groups are read in which one of the
meterpoints that the load speaks of may be; what of them is another than before becomes part of a new late layer.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import ParquetFileFormat, dataset
from pyarrow.fs import FileSelector, FileSystem

from jobs.readings.ingest import CLAIMS_SCHEMA, CONTESTED_SCHEMA, READINGS_SCHEMA, Place, write_file
from jobs.readings.merge import Changes, merge, replace, superseded

# A base of fewer bytes is written anew: that takes no longer than a late layer.
LARGE = 64 * 1024
# The late layer has less than this part of the base's bytes. Then the date is written anew.
PART = 8
KEYS = {"readings": "interval_start_utc", "contested": "interval_start_utc", "claims": "source_file"}
SCHEMAS = {"readings": READINGS_SCHEMA, "contested": CONTESTED_SCHEMA, "claims": CLAIMS_SCHEMA}
VALUES = ["meterpoint_id", "interval_start_utc", "consumption_kwh", "reading_quality", "source_file"]


class Layers(NamedTuple):
    """Folders of a date in a table, None where there is none."""

    base: str | None
    late: str | None


class Date(NamedTuple):
    """A date to correct: what is there, by kind of row (KEYS), and where the load's tasks wrote what its files say."""

    day: str
    held: dict[str, Layers]
    targets: dict[str, str]  # folders of the new late layer, by kind
    new_readings: str | None
    new_claims: str | None


class Corrected(NamedTuple):
    """What a new late layer has. A kind of row of which nothing changed has no new one, and no number."""

    day: str
    rows: dict[str, int]  # of the late layer, by kind
    changes: Changes  # of the meterpoints that the load speaks of


# Flags of claims that are taken back, given the held ones (CLAIMS_SCHEMA) and the date.
TakenBack = Callable[[pa.Table, date], pa.ChunkedArray]


def correct(place: Place, taken_back: TakenBack | None, of: Date) -> Corrected:
    """Merge what a load says of some meterpoints of a date, and write the new late layer."""
    day = date.fromisoformat(of.day)
    new_claims = flagged(content(place.lake, of.new_claims, CLAIMS_SCHEMA), is_new=True, is_dropped=False)
    names = new_claims["meterpoint_id"]
    if taken_back:
        held_claims = rows_of(place.lake, "claims", of.held["claims"])
        dropped = taken_back(held_claims, day)
        names = pa.chunked_array([*names.chunks, *held_claims["meterpoint_id"].filter(dropped).chunks], pa.string())
        held_claims = flagged(held_claims, is_new=False).append_column("is_dropped", dropped)
        touched = pc.unique(names).sort()
        held_claims = held_claims.filter(pc.is_in(held_claims["meterpoint_id"], touched))
    else:
        touched = pc.unique(names).sort()
        held_claims = rows_of(place.lake, "claims", of.held["claims"], touched)
        held_claims = flagged(held_claims, is_new=False, is_dropped=False)
    before, lost = (rows_of(place.lake, kind, of.held[kind], touched) for kind in ("readings", "contested"))
    new = content(place.lake, of.new_readings, READINGS_SCHEMA)
    rows = pa.concat_tables(
        [
            flagged(before, is_new=False),
            flagged(with_columns(lost, READINGS_SCHEMA), is_new=False),
            flagged(new, is_new=True),
        ]
    )
    merged = merge(rows, pa.concat_tables([held_claims, new_claims]))
    replaced = replace(before, merged.readings, place.load_id)
    claims_before = held_claims.select(CLAIMS_SCHEMA.names)
    differ = {
        "readings": _differing(before, merged.readings, VALUES),
        "contested": _differing(lost, merged.contested, VALUES),
        "claims": _differing(claims_before, merged.claims, CLAIMS_SCHEMA.names),
    }
    after = {"readings": replaced.readings, "contested": merged.contested, "claims": merged.claims}
    counts = {
        kind: _write_late(place, kind, of.held[kind].late, of.targets[kind], after[kind], differ[kind])
        for kind in KEYS
        if len(differ[kind])
    }
    for name, each in (("before", before), ("after", replaced.readings)):
        _stage(place, name, day, each.filter(pc.is_in(each["meterpoint_id"], differ["readings"])))
    if replaced.superseded.num_rows:
        write_file(
            place.lake, f"{place.staging}/superseded", f"late-{day}.parquet", superseded(replaced.superseded, day)
        )
    return Corrected(of.day, counts, replaced.changes)


def rows_of(file_system: FileSystem, kind: str, layers: Layers, meterpoints: pa.Array | None = None) -> pa.Table:
    """What counts of a date, of the given meterpoints (sorted) or of all."""
    late = content(file_system, layers.late, SCHEMAS[kind])
    base = content(file_system, layers.base, SCHEMAS[kind], meterpoints)
    base = base.filter(pc.invert(pc.is_in(base["meterpoint_id"], pc.unique(late["meterpoint_id"]))))
    late = late.filter(late[KEYS[kind]].is_valid())
    if meterpoints is not None:
        late = late.filter(pc.is_in(late["meterpoint_id"], meterpoints))
    return pa.concat_tables([base, late])


def content(
    file_system: FileSystem, folder: str | None, schema: pa.Schema, meterpoints: pa.Array | None = None
) -> pa.Table:
    """The rows of a folder, of the given meterpoints (sorted) or of all. Of meterpoints only the row groups are read
    that may have one of them."""
    names = meterpoints.to_pylist() if meterpoints is not None else []
    parts = []
    for path in _files(file_system, folder):
        fragment = ParquetFileFormat().make_fragment(path, filesystem=file_system)
        condition = None
        if meterpoints is not None:
            groups = [group.id for group in fragment.row_groups if _may_have(group.statistics, names)]
            if not groups:
                continue
            fragment = fragment.subset(row_group_ids=groups)
            condition = pc.field("meterpoint_id").isin(meterpoints)
        parts.append(fragment.to_table(schema=schema, columns=schema.names, filter=condition))
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _files(file_system: FileSystem, folder: str | None) -> Iterator[str]:
    if folder:
        found = file_system.get_file_info(FileSelector(folder, allow_not_found=True))
        yield from sorted(info.path for info in found if info.path.endswith(".parquet"))


def _may_have(statistics: dict[str, Any] | None, names: list[str]) -> bool:
    """Whether a row group may have one of the meterpoints, by the least and the greatest of its own."""
    ids = (statistics or {}).get("meterpoint_id")
    if not ids:
        return True
    first = bisect_left(names, ids["min"])
    return first < len(names) and names[first] <= ids["max"]


def flagged(rows: pa.Table, **flags: bool) -> pa.Table:
    """Rows with columns that say the same of each."""
    for name, value in flags.items():
        rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    return rows


def with_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with the columns of a schema that they lack, as nulls."""
    return dataset(rows).replace_schema(schema).to_table()


def _differing(before: pa.Table, after: pa.Table, columns: list[str]) -> pa.Array:
    """Meterpoints of which a row is on one side alone."""
    both = pa.concat_tables([before.select(columns), after.select(columns)])
    counted = both.group_by(columns).aggregate([([], "count_all")])
    return pc.unique(counted.filter(pc.equal(counted["count_all"], 1))["meterpoint_id"]).sort()


def _write_late(place: Place, kind: str, late: str | None, target: str, after: pa.Table, meterpoints: pa.Array) -> int:
    """Write the late layer: the given meterpoints as they are now, others as they were. Returns how many rows count."""
    schema = SCHEMAS[kind]
    kept = content(place.lake, late, schema)
    kept = kept.filter(pc.invert(pc.is_in(kept["meterpoint_id"], meterpoints)))
    now = after.select(schema.names).cast(schema)
    now = now.filter(pc.is_in(now["meterpoint_id"], meterpoints))
    gone = meterpoints.filter(pc.invert(pc.is_in(meterpoints, pc.unique(now["meterpoint_id"]))))
    marks = with_columns(pa.table({"meterpoint_id": gone}), schema)
    order = [(name, "ascending") for name in dict.fromkeys(["meterpoint_id", KEYS[kind]])]
    rows = pa.concat_tables([kept, now, marks]).sort_by(order)
    write_file(place.lake, target, "late.parquet", rows)
    return int(rows.num_rows - rows[KEYS[kind]].null_count)


def _stage(place: Place, name: str, day: date, rows: pa.Table) -> None:
    """Readings of meterpoints that changed, for the marts, whose sums change by them."""
    if rows.num_rows:
        dated = rows.append_column("date", pa.repeat(pa.scalar(day, pa.date32()), rows.num_rows))
        write_file(place.lake, f"{place.staging}/{name}", f"{day}.parquet", dated)
