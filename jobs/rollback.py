"""Undo the newest load: its partitions name the folders again that they named before it."""

from datetime import UTC, date, datetime

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import audit, ops, quality, tables
from jobs.load import Stage, Summary
from jobs.settings import Settings
from jobs.tables import DAILY_METERPOINT, MARTS, READINGS, Locations


class RollbackError(Exception):
    """The load cannot be rolled back."""


def run(spark: SparkSession, settings: Settings, undone: str, stage: Stage) -> Summary:
    """Publish what was there before the load `undone`, judge it first, and record that as a load of its own.

    The files of the load stay known, so that the next run does not load them again; a new version of one of them is
    loaded as any other.

    Raises RollbackError where `undone` is not the newest load that is in effect, or its predecessors' folders are gone.
    """
    started_at = datetime.now(UTC)
    summary = Summary(ops.new_load_id(started_at), started_at)
    load_id, load_date = summary.load_id, started_at.date()
    with stage("find what was before"):
        writer = ops.writer(spark)
        if ops.interrupted(spark):
            raise RollbackError("a run was killed while it published; `lake run` has to put that right first")
        before = _before(spark, undone)
        ops.become_writer(spark, load_id, after=writer)
    with stage("validate"):
        _audit(spark, audit.Audit(load_id, started_at, settings.reports, summary.verdicts), before)
    if summary.blocking:
        summary.errors.append(f"not rolled back, readers keep what they have: {'; '.join(summary.blocking)}")
        quality.build_docs(settings.reports)
        return summary
    with stage("publish"):
        ops.begin_publication(spark, load_id)
        for table in tables.DATA:
            ops.publish(spark, table, before.get(table, {}), load_id)
    with stage("record"):
        summary.dates = sorted(map(date.fromisoformat, before.get(READINGS, {})))
        summary.mart_dates = sorted(map(date.fromisoformat, before.get(DAILY_METERPOINT, {})))
        ops.append_publications(spark, before, {}, load_id, load_date)
        ops.append_validations(spark, summary.verdicts, load_id, load_date)
        ops.append_few(spark, [{"rolled_back_load_id": undone}], ops.ROLLBACKS, load_id, load_date)
        load = {
            "status": "rollback",
            "started_at": started_at,
            "finished_at": datetime.now(UTC),
            "dates_published": len(summary.dates),
            "mart_dates_published": len(summary.mart_dates),
            "first_date": min(summary.dates, default=None),
            "last_date": max(summary.dates, default=None),
            "warnings": len(summary.warnings),
        }
        ops.append_few(spark, [load], ops.LOADS, load_id, load_date)
    with stage("report"):
        quality.build_docs(settings.reports)
    return summary


def _before(spark: SparkSession, undone: str) -> dict[str, Locations]:
    """Where the partitions that a load published were before it, by table."""
    loads = tables.read_rows(spark, ops.LOADS, tables.all_locations(spark, ops.LOADS)).to_pylist()
    rolled_back = tables.read_rows(spark, ops.ROLLBACKS, tables.all_locations(spark, ops.ROLLBACKS))
    withdrawn = set(rolled_back["rolled_back_load_id"].to_pylist())
    in_effect = {
        load["load_id"]: load for load in loads if load["status"] == "published" and load["load_id"] not in withdrawn
    }
    if undone not in in_effect:
        why = "was rolled back before" if undone in withdrawn else "is no published load; `lake status` lists them"
        raise RollbackError(f"{undone} {why}")
    if undone != max(in_effect):
        raise RollbackError(f"load {max(in_effect)} came after {undone}: roll that back first")

    switched = ops.switches(spark, in_effect)
    for load in in_effect.keys() - {load for history in switched.values() for load, _ in history}:
        if in_effect[load]["dates_published"] or in_effect[load]["mart_dates_published"]:
            raise RollbackError(f"what load {load} published was not recorded: it is of an older version")

    before: dict[str, Locations] = {}
    for (table, value), history in switched.items():
        if history[-1][0] != undone:
            continue
        folder = history[-2][1] if len(history) > 1 else tables.folder_of(*tables.root_and_column(spark, table), value)
        before.setdefault(table, {})[value] = folder
    for table, locations in before.items():
        held = {value: folder for value, folder in locations.items() if not tables.is_empty(folder)}
        if gone := tables.without_files(spark, held):
            raise RollbackError(f"what was before {undone} is deleted already, of {table} {', '.join(sorted(gone))}")
    return before


def _audit(spark: SparkSession, judge: audit.Audit, before: dict[str, Locations]) -> None:
    """Judge what is about to be published again: readings by the marts that were built of them, and these by them."""
    dates = set(before.get(DAILY_METERPOINT, {}))
    if not dates:
        return
    restored = before.get(READINGS, {})
    marts = {mart: tables.read(spark, mart, before[mart]) for mart in MARTS}
    counted = marts[DAILY_METERPOINT].where(F.col("date").isin(list(restored)))
    expected = counted.agg(F.coalesce(F.sum("reading_count"), F.lit(0))).collect()[0][0]
    of_readings = audit.measure(READINGS, tables.read(spark, READINGS, restored))
    audit.judge_readings(judge, of_readings, expected=expected)
    kept = tables.locations(spark, READINGS, dates - set(restored))
    audit.judge_marts(judge, *audit.measure_marts(marts, tables.read(spark, READINGS, kept | restored)))
