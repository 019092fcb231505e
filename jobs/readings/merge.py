"""Which readings count on a date: what files say, and which of them is believed.

A file's word on one meterpoint-day is a claim. A new version of a file replaces the claims of that file on the
meterpoint-days that it speaks of, and no others. Of several files that have one half hour that counts which was
modified last, then the one of the greater path; the others' readings are kept beside it (contested), because they count
again when it gives the half hour up.

`merge` and `changes` are pure: Arrow tables in, Arrow tables out, all of one date. Only `merge_and_write` has effects.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from jobs.readings.ingest import CLAIMS_SCHEMA, READINGS_SCHEMA, Place, write_file

KEY = ["meterpoint_id", "interval_start_utc"]


class Merged(NamedTuple):
    """The whole new content of a date."""

    readings: pa.Table  # READINGS_SCHEMA: those that count, sorted by meterpoint and time
    contested: pa.Table  # READINGS_SCHEMA: those that another file's outweigh
    claims: pa.Table  # CLAIMS_SCHEMA


class Changes(NamedTuple):
    """How the readings that count on a date differ from those before: numbers of keys."""

    before: int
    added: int
    changed: int  # another consumption
    removed: int


def merge(rows: pa.Table, claims: pa.Table, *, only_held: bool = False) -> Merged:
    """What counts of a date's readings.

    `rows` (READINGS_SCHEMA) are all that files say of the date, held or new, contested or not. `claims` (CLAIMS_SCHEMA
    with `is_new` and `is_dropped`) say of whom they are: a claim is left out if it is dropped, or if there is a new one
    of the same file and meterpoint. With `only_held` a new claim is left out where there was none before.
    """
    spoken = ["source_file", "meterpoint_id"]
    if only_held:
        known = claims.filter(pc.invert(claims["is_new"])).select(spoken)
        again = claims.filter(claims["is_new"]).join(known, spoken, join_type="left semi").select(claims.column_names)
        claims = pa.concat_tables([claims.filter(pc.invert(claims["is_new"])), again])
    claims = claims.filter(pc.invert(claims["is_dropped"]))
    new = claims.filter(claims["is_new"]).select(spoken)
    held = claims.filter(pc.invert(claims["is_new"])).join(new, spoken, join_type="left anti")
    live = pa.concat_tables([claims.filter(claims["is_new"]), held.select(claims.column_names)])
    live = live.select(CLAIMS_SCHEMA.names)
    whose = live.select([*spoken, "load_id", "modified_at"])
    rows = rows.join(whose, [*spoken, "load_id"], join_type="inner").combine_chunks()
    latest_first = [
        *((name, "ascending") for name in KEY),
        ("modified_at", "descending"),
        ("source_file", "descending"),
    ]
    rows = rows.sort_by(latest_first).combine_chunks()
    counts = _first_of_each_key(rows)
    rows = rows.select(READINGS_SCHEMA.names)
    return Merged(
        rows.filter(counts),
        rows.filter(pc.invert(counts)),
        live.sort_by([(name, "ascending") for name in spoken[::-1]]),
    )


def _first_of_each_key(rows: pa.Table) -> pa.Array:
    """Whether a row is the first one of its key. The rows are sorted by key."""
    if not rows.num_rows:
        return pa.array([], pa.bool_())
    same = [pc.equal(rows[name].slice(1), rows[name].slice(0, rows.num_rows - 1)) for name in KEY]
    repeats = pc.and_(*same)
    return pa.concat_arrays([pa.array([True]), pc.invert(repeats).combine_chunks()])


def changes(before: pa.Table, after: pa.Table) -> Changes:
    """How two contents of silver.readings on a date differ. Both have one row per key."""
    old = before.select([*KEY, "consumption_kwh"])
    new = after.select([*KEY, "consumption_kwh"]).rename_columns([*KEY, "new_kwh"])
    both = old.join(new, KEY, join_type="inner")
    changed = pc.sum(pc.not_equal(both["consumption_kwh"], both["new_kwh"])).as_py() or 0
    return Changes(
        before=before.num_rows,
        added=after.num_rows - both.num_rows,
        changed=changed,
        removed=before.num_rows - both.num_rows,
    )


# What a task that merged a part of a date hands back, one row for each part. Numbers are of rows.
WRITTEN = """
    date DATE, readings BIGINT, contested BIGINT, claims BIGINT,
    `before` BIGINT, added BIGINT, changed BIGINT, removed BIGINT
"""


def merge_and_write(place: Place, only_held: bool, key: tuple[Any, ...], rows: pa.Table, claims: pa.Table) -> pa.Table:
    """Merge one bucket of one date (`key`), and write it into the folders that the load is to publish.

    `rows` have, beside READINGS_SCHEMA, `counts`: whether they are what silver.readings holds now.
    """
    day, bucket = (each.as_py() for each in key)
    all_rows = rows.select(READINGS_SCHEMA.names).cast(READINGS_SCHEMA)
    flagged = claims.select([*CLAIMS_SCHEMA.names, "is_new", "is_dropped"])
    merged = merge(all_rows, flagged, only_held=only_held)
    before = all_rows.filter(rows["counts"])
    roots = (place.readings, place.contested, place.claims)
    for root, content, schema in zip(roots, merged, (READINGS_SCHEMA, READINGS_SCHEMA, CLAIMS_SCHEMA), strict=True):
        if content.num_rows:
            folder = f"{root}/date={day}/load={place.load_id}"
            write_file(place.lake, folder, f"merged-{bucket}.parquet", content.select(schema.names).cast(schema))
    counts = {name: [table.num_rows] for name, table in zip(Merged._fields, merged, strict=True)}
    differ = {name: [value] for name, value in changes(before, merged.readings)._asdict().items()}
    return pa.table({"date": pa.array([day], pa.date32()), **counts, **differ})


def written_of(rows: list[Any]) -> Iterator[tuple[str, dict[str, int]]]:
    """Rows of WRITTEN, added up by date."""
    names = ("readings", "contested", "claims", "before", "added", "changed", "removed")
    for day in sorted({row.date for row in rows}):
        of_day = [row for row in rows if row.date == day]
        yield day.isoformat(), {name: sum(row[name] for row in of_day) for name in names}
