"""Undo a load, or a rollback: partitions name the folders again that they named before it."""

from datetime import UTC, date, datetime

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import audit, quality, tables
from jobs.erasure import state as erasures
from jobs.errors import LakeError
from jobs.ledger import loads as ledger
from jobs.ledger import writer as ledger_writer
from jobs.load import Stage, Summary, Tell
from jobs.names import with_hints
from jobs.readings.merge import Changes
from jobs.reports import front
from jobs.settings import Settings
from jobs.tables import DAILY_METERPOINT, LOADS, MARTS, READINGS, ROLLBACKS, SUPERSEDED, Locations
from jobs.telemetry import lineage

Switches = dict[tuple[str, str], list[tuple[str, str]]]  # as of ledger.switches


class RollbackError(LakeError):
    """The load cannot be rolled back."""


def run(spark: SparkSession, settings: Settings, undone: str, stage: Stage, tell: Tell = lambda _: None) -> Summary:
    """Publish what was there before `undone`, judge it first, and record that as a load of its own.

    `undone` is the newest load that is in effect, or the newest rollback: what that took away comes back then. The
    load's files stay known: `lake reload` reads them again, and a new version of one is loaded as any other.

    Raises RollbackError where something else came after it, or its predecessors' folders are gone.
    """
    started_at = datetime.now(UTC)
    with stage("find what was before"):
        if not tables.exists(spark, LOADS):
            raise RollbackError("nothing was loaded yet, so there is nothing to roll back")
        writer = ledger_writer.writer(spark)
        if erasures.pending(settings.state):
            raise RollbackError("an erasure was killed; `lake run` has to finish it first")
        if ledger.interrupted(spark):
            raise RollbackError("a run was killed while it published; `lake run` has to put that right first")
        event = _event(spark, undone)
        target, in_effect = event.target, not event.in_effect
        effective = event.effective | {target} if in_effect else event.effective - {target}
        switched = ledger.switches(spark, ledger.recorded_loads(spark))
        before = _folders_with(spark, effective, switched)
        load_id = ledger.begin(spark, writer)
        lineage.begin("rollback", load_id, settings, [*before], tell)
    judge = audit.Audit(load_id, started_at, settings.reports, kind="rollback")
    with stage("validate"):
        _audit(spark, judge, before)
    errors: list[str] = []
    summary = Summary(
        load_id=load_id,
        started_at=started_at,
        kind="rollback",
        dates=sorted(map(date.fromisoformat, tables.dates_of(before.get(READINGS, {})))),
        mart_dates=sorted(map(date.fromisoformat, tables.dates_of(before.get(DAILY_METERPOINT, {})))),
        verdicts=judge.verdicts,
        errors=errors,
        undid=undone,
    )
    if summary.blocking:
        errors.append(f"not rolled back, readers keep what they have: {'; '.join(summary.blocking)}")
        lineage.ended(spark, summary.verdicts, published=False, errors=errors, warn=tell)
        quality.build_docs(settings.reports)
        return summary
    with stage("publish"):
        ledger.begin_publication(spark, load_id)
        changes = _keep_superseded(spark, before.get(READINGS, {}), switched, load_id)
        replaced = {table: ledger_writer.publish(spark, table, before.get(table, {}), load_id) for table in tables.DATA}
    with stage("record"):
        ledger.append_publications(spark, before, replaced, changes, load_id)
        ledger.append_validations(spark, summary.verdicts, load_id)
        rollback = {"rolled_back_load_id": undone, "target_load_id": target, "in_effect": in_effect}
        ledger.append_rows(spark, [rollback], ROLLBACKS, load_id)
        warnings = len(summary.warnings)
        ledger.append_change(spark, load_id, "rollback", started_at, before, status="rollback", warnings=warnings)
        lineage.ended(spark, summary.verdicts, published=True, errors=errors, warn=tell)
    with stage("report"):
        quality.build_docs(settings.reports)
        front.publish(spark, settings)
    return summary


def _event(spark: SparkSession, undone: str) -> ledger.Event:
    """The load or rollback, if nothing that is in effect came after it."""
    events = ledger.events(spark)
    found = next((event for event in events if event.load_id == undone), None)
    if not found:
        if undone in ledger.recorded_loads(spark):
            raise RollbackError(f"{undone} changed no table, so there is nothing to roll back")
        hint = with_hints([undone], [event.load_id for event in events])
        raise RollbackError(f"{hint}: there is no such load; `lake status` lists them")
    if found.kind == "upgrade":
        raise RollbackError(f"{undone} took over a lakehouse of an older version: restore a backup to go back")
    if final := next((each for each in events[events.index(found) :] if each.kind == "erase"), None):
        raise RollbackError(f"{final.load_id} erased ids: that cannot be rolled back, nor what came before it")
    now = events[-1].effective
    if found.effective == now:
        return found
    after = events[events.index(found) + 1 :]
    last = next((event for event in reversed(after) if event.target == found.target), found)
    if last.in_effect != found.in_effect:
        raise RollbackError(f"{undone} was rolled back before, by {last.load_id}")
    # What can be rolled back now: a load rather than the rollback that put it back.
    newest = [event.load_id for event in after if event.effective == now and event.kind != "rollback"]
    first = newest[-1] if newest else after[-1].load_id
    raise RollbackError(f"{first} came after {undone}: roll that back first")


def _folders_with(spark: SparkSession, effective: frozenset[str], switched: Switches) -> dict[str, Locations]:
    """Which partitions would name which other folders than now, if exactly these loads were in effect, by table."""
    recorded = {load for history in switched.values() for load, _ in history}
    if unknown := sorted(effective - recorded):
        raise RollbackError(f"what load {unknown[0]} published was not recorded: it is of an older version")
    before: dict[str, Locations] = {}
    for (table, value), history in switched.items():
        of_these = [folder for load, folder in history if load in effective]
        empty = tables.folder_of(*tables.root_and_column(spark, table), value)
        folder = of_these[-1] if of_these else empty
        if not tables.is_same(folder, history[-1][1]):
            before.setdefault(table, {})[value] = folder
    for table, locations in before.items():
        held = {value: folder for value, folder in locations.items() if not tables.is_empty(folder)}
        if gone := tables.without_files(spark, held):
            raise RollbackError(f"what was there before is deleted already, of {table} {', '.join(sorted(gone))}")
    return before


def _audit(spark: SparkSession, judge: audit.Audit, before: dict[str, Locations]) -> None:
    """Judge what is about to be published again: readings by the marts that were built of them, and these by them."""
    # Readings may be of another file, and mean the same: then the marts of their date stay.
    dates = tables.dates_of(before.get(DAILY_METERPOINT, {})) | tables.dates_of(before.get(READINGS, {}))
    if not dates:
        return
    places = {
        table: tables.locations(spark, table, tables.holding(table, dates)) | before.get(table, {})
        for table in (READINGS, *MARTS)
    }
    restored = tables.dates_of(before.get(READINGS, {}))
    readings = {value: folder for value, folder in places.pop(READINGS).items() if not tables.is_empty(folder)}
    daily = tables.read(spark, DAILY_METERPOINT, places[DAILY_METERPOINT])
    counted = daily.where(F.col("date").isin([date.fromisoformat(day) for day in restored]))
    expected = counted.agg(F.coalesce(F.sum("reading_count"), F.lit(0))).collect()[0][0]
    of_readings = audit.measure(READINGS, tables.read(spark, READINGS, tables.of_dates(readings, restored)))
    audit.judge_readings(judge, of_readings, expected=expected)
    sums = audit.by_year(spark, places, dates)
    measured = audit.measure_marts(sums, daily, [tables.read(spark, READINGS, readings)], None)
    audit.judge_marts(judge, *measured, audit.lost_of_other_dates(spark, places, dates))


def _keep_superseded(spark: SparkSession, before: Locations, switched: Switches, load_id: str) -> dict[date, Changes]:
    """Keep the readings that are known no longer when dates go back to folders of before; count what differs by date.

    What comes back has its older `known_from`, though it was not known meanwhile. So a value that ends here counts from
    when its folder came, and where there was none in its time, that is a row with no consumption.
    """
    if not before:
        return {}
    keys = ["date", "meterpoint_id", "interval_start_utc"]
    came: dict[str, str] = {}
    for value in before:
        load, day = switched[READINGS, value][-1][0], tables.date_of(value)
        came[day] = max(came.get(day, load), load)
    since = spark.createDataFrame(
        [(date.fromisoformat(day), load) for day, load in came.items()], "date DATE, since STRING"
    )
    held = tables.locations(spark, READINGS, tables.dates_of(before))
    now, then = (
        tables.read(spark, READINGS, {day: folder for day, folder in places.items() if not tables.is_empty(folder)})
        for places in (held, held | before)
    )
    both = (
        now.withColumn("is_now", F.lit(True))
        .join(
            then.select(
                *keys,
                F.col("interval_start").alias("then_start"),
                F.col("consumption_kwh").alias("then_kwh"),
                F.col("reading_quality").alias("then_quality"),
                F.lit(True).alias("is_then"),
            ),
            on=keys,
            how="full",
        )
        .join(F.broadcast(since), on="date")
        .withColumn(
            "differs",
            F.expr("NOT (is_now <=> is_then AND consumption_kwh <=> then_kwh AND reading_quality <=> then_quality)"),
        )
    )
    superseded = both.where("differs").select(
        "meterpoint_id",
        F.coalesce("interval_start", "then_start").alias("interval_start"),
        "interval_start_utc",
        "consumption_kwh",
        "reading_quality",
        "source_file",
        F.col("load_id").alias("brought_by"),
        F.greatest(F.coalesce("known_from", "load_id"), "since").alias("known_from"),
        "date",
    )
    ledger.append(superseded, SUPERSEDED, load_id)
    counted = both.groupBy("date").agg(
        F.count("is_now").alias("before"),
        F.count_if(F.expr("differs AND is_now IS NULL")).alias("added"),
        F.count_if(F.expr("differs AND is_now AND is_then")).alias("changed"),
        F.count_if(F.expr("differs AND is_then IS NULL")).alias("removed"),
        F.count_distinct(F.expr("if(differs, meterpoint_id, NULL)")).alias("meterpoints"),
        F.sum("consumption_kwh").alias("kwh_before"),
        F.sum("then_kwh").alias("kwh_after"),
    )
    rows = counted.fillna(0, subset=["kwh_before", "kwh_after"]).collect()
    return {row.date: Changes(*(row[name] for name in Changes._fields)) for row in rows}
