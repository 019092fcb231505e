"""Which readings count on a date: what files say, and which of them is believed.

A file's word on one meterpoint-day is a claim. A new version of a file replaces the claims of that file on the
meterpoint-days that it speaks of, and no others. Of several files that have one half hour that counts which was
modified last, then the one of the greater path; the others' readings are kept beside it (contested), because they count
again when it gives the half hour up.

`merge` and `replace` are pure: Arrow tables in, Arrow tables out, all of one date. Only `merge_and_write` has effects.
"""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from jobs.readings.ingest import CLAIMS_SCHEMA, CONTESTED_SCHEMA, READINGS_SCHEMA, Place, write_file

KEY = ["meterpoint_id", "interval_start_utc"]
KWH_TOTAL = pa.decimal128(18, 6)
# A row of silver.superseded_readings as its load stages it.
SUPERSEDED_SCHEMA = pa.schema(
    [
        *(field for field in CONTESTED_SCHEMA if field.name != "load_id"),
        ("brought_by", pa.string()),
        ("known_from", pa.string()),
        ("date", pa.date32()),
    ]
)


class Merged(NamedTuple):
    """The whole new content of a date."""

    readings: pa.Table  # READINGS_SCHEMA: those that count, sorted by meterpoint and time
    contested: pa.Table  # READINGS_SCHEMA: those that another file's outweigh
    claims: pa.Table  # CLAIMS_SCHEMA


class Changes(NamedTuple):
    """How the readings that count on a date differ from those before. Numbers are of keys."""

    before: int
    added: int
    changed: int  # another consumption or quality
    removed: int
    meterpoints: int  # of which a key was added, changed or removed
    kwh_before: Decimal
    kwh_after: Decimal


class Replaced(NamedTuple):
    """A date's new content, and what of the old one it replaces."""

    readings: pa.Table  # READINGS_SCHEMA, sorted by meterpoint and time, with the load since which each value is known
    superseded: pa.Table  # READINGS_SCHEMA: values that are known no longer
    changes: Changes


def merge(rows: pa.Table, claims: pa.Table, *, only_held: bool = False) -> Merged:
    """What counts of a date's readings.

    `rows` (READINGS_SCHEMA with `is_new`) are all that files say of the date, held or new, contested or not. `claims`
    (CLAIMS_SCHEMA with `is_new` and `is_dropped`) say of whom they are: a claim is left out if it is dropped, or if
    there is a new one of the same file and meterpoint. With `only_held` a new claim is left out where there was none
    before.
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
    # Not by the load: where a later version of a file said the same of a meterpoint-day, rows are of the earlier one.
    whose = live.group_by([*spoken, "is_new"]).aggregate([("modified_at", "max")])
    whose = whose.rename_columns({"modified_at_max": "modified_at"})
    rows = rows.join(whose, [*spoken, "is_new"], join_type="inner").combine_chunks()
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
        live.select(CLAIMS_SCHEMA.names).sort_by([(name, "ascending") for name in spoken[::-1]]),
    )


def _first_of_each_key(rows: pa.Table) -> pa.Array:
    """Whether a row is the first one of its key. The rows are sorted by key."""
    if not rows.num_rows:
        return pa.array([], pa.bool_())
    same = [pc.equal(rows[name].slice(1), rows[name].slice(0, rows.num_rows - 1)) for name in KEY]
    repeats = pc.and_(*same)
    return pa.concat_arrays([pa.array([True]), pc.invert(repeats).combine_chunks()])


def replace(before: pa.Table, after: pa.Table, load_id: str) -> Replaced:
    """What it means that a load puts one content of silver.readings on a date in place of another.

    Both have one row per key. A value that stays is known since the load that brought it first, also where another
    file says it now.
    """
    is_after = pa.array([False] * before.num_rows + [True] * after.num_rows, pa.bool_())
    rows = pa.concat_tables([before, after]).append_column("is_after", is_after)
    # An old value stands right before the new one of its key.
    order = [(name, "ascending") for name in (*KEY, "is_after")]
    rows = rows.sort_by(order).combine_chunks()
    is_after = _column(rows, "is_after")
    has_old = pc.invert(_first_of_each_key(rows))
    stays = pc.and_(has_old, pc.and_(_as_before(rows, "consumption_kwh"), _as_before(rows, "reading_quality")))
    known = pc.coalesce(_column(rows, "known_from"), _column(rows, "load_id"))
    known = pc.if_else(stays, _shifted(known), pc.if_else(is_after, load_id, known))
    rows = rows.set_column(rows.column_names.index("known_from"), "known_from", known)
    new = rows.filter(pc.and_(is_after, pc.invert(stays)))
    gone = rows.filter(pc.and_(pc.invert(is_after), pc.invert(_next(stays))))
    changed = pc.sum(pc.and_(has_old, pc.invert(stays))).as_py() or 0
    changes = Changes(
        before=before.num_rows,
        added=new.num_rows - changed,
        changed=changed,
        removed=gone.num_rows - changed,
        meterpoints=pc.count_distinct(pa.concat_tables([new, gone])["meterpoint_id"]).as_py(),
        kwh_before=_sum(before),
        kwh_after=_sum(after),
    )
    return Replaced(rows.filter(is_after).select(READINGS_SCHEMA.names), gone.select(READINGS_SCHEMA.names), changes)


def _column(rows: pa.Table, name: str) -> pa.Array:
    """A column of a table whose chunks were combined."""
    return rows[name].combine_chunks()


def _as_before(rows: pa.Table, name: str) -> pa.Array:
    """Whether a value is that of the row before; two nulls are."""
    here = _column(rows, name)
    there = _shifted(here)
    both_null = pc.and_(pc.is_null(here), pc.is_null(there))
    return pc.or_(pc.fill_null(pc.equal(here, there), False), both_null)


def _shifted(values: pa.Array) -> pa.Array:
    """The value of the row before, null for the first one."""
    return pa.concat_arrays([pa.nulls(min(len(values), 1), values.type), values.slice(0, max(len(values) - 1, 0))])


def _next(values: pa.Array) -> pa.Array:
    """The value of the row after, false for the last one."""
    return pa.concat_arrays([values.slice(1), pa.array([False] * min(len(values), 1), pa.bool_())])


def _sum(rows: pa.Table) -> Decimal:
    return pc.sum(rows["consumption_kwh"]).as_py() or Decimal(0)


# What a task that merged a part of a date hands back, one row for each part. Numbers are of rows.
WRITTEN = """
    date DATE, readings BIGINT, contested BIGINT, claims BIGINT,
    `before` BIGINT, added BIGINT, changed BIGINT, removed BIGINT, meterpoints BIGINT,
    kwh_before DECIMAL(18,6), kwh_after DECIMAL(18,6)
"""


def merge_and_write(place: Place, only_held: bool, key: tuple[Any, ...], rows: pa.Table, claims: pa.Table) -> pa.Table:
    """Merge one bucket of one date (`key`), and write it into the folders that the load is to publish.

    `rows` have, beside READINGS_SCHEMA, `is_new` and `counts`: whether they are what silver.readings holds now.
    """
    day, bucket = (each.as_py() for each in key)
    all_rows = rows.select(READINGS_SCHEMA.names).cast(READINGS_SCHEMA)
    flagged = claims.select([*CLAIMS_SCHEMA.names, "is_new", "is_dropped"])
    merged = merge(all_rows.append_column("is_new", rows["is_new"]), flagged, only_held=only_held)
    replaced = replace(all_rows.filter(rows["counts"]), merged.readings, place.load_id)
    contents = (
        (place.readings, replaced.readings, READINGS_SCHEMA),
        (place.contested, merged.contested, CONTESTED_SCHEMA),
        (place.claims, merged.claims, CLAIMS_SCHEMA),
    )
    for root, content, schema in contents:
        if content.num_rows:
            folder = f"{root}/date={day}/load={place.load_id}"
            write_file(place.lake, folder, f"merged-{bucket}.parquet", content.select(schema.names).cast(schema))
    if replaced.superseded.num_rows:
        name = f"merged-{day}-{bucket}.parquet"
        write_file(place.lake, f"{place.staging}/superseded", name, superseded(replaced.superseded, day))
    counts = {name: [table.num_rows] for name, table in zip(Merged._fields, merged, strict=True)}
    differ = {
        name: pa.array([value], KWH_TOTAL if isinstance(value, Decimal) else pa.int64())
        for name, value in replaced.changes._asdict().items()
    }
    return pa.table({"date": pa.array([day], pa.date32()), **counts, **differ})


def superseded(rows: pa.Table, day: date) -> pa.Table:
    """Replaced values of a date (READINGS_SCHEMA) as a load stages them."""
    rows = rows.append_column("brought_by", rows["load_id"])
    rows = rows.append_column("date", pa.array([day] * rows.num_rows, pa.date32()))
    return rows.select(SUPERSEDED_SCHEMA.names).cast(SUPERSEDED_SCHEMA)


def written_of(rows: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of WRITTEN, added up by date."""
    names = (*Merged._fields, *Changes._fields)
    for day in sorted({row["date"] for row in rows}):
        of_day = [row for row in rows if row["date"] == day]
        yield day.isoformat(), {name: sum(row[name] for row in of_day) for name in names}
