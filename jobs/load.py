"""The main job: discover, write, audit, publish, record.

Silver and the marts are written into fresh folders and judged there. Only when no critical expectation failed, the
metastore is told of them, table by table; then the load is recorded in ops. Killed at any point and run again, it ends
in the same state: a load that is not recorded did not happen. Its files are loaded again, and what it had switched is
made anew from what was there before it.
"""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import (
    accept,
    audit,
    build,
    collect,
    compact,
    corrected,
    landing,
    move,
    quality,
    silver,
    snapshots,
    tables,
    upgrade,
    versions,
)
from jobs.accept import CLOCK, FAULTS
from jobs.build import Built
from jobs.erasure import run as erase
from jobs.erasure import state as erasures
from jobs.errors import LakeError
from jobs.ledger import files as ledger_files
from jobs.ledger import loads as ledger
from jobs.ledger import writer as ledger_writer
from jobs.names import with_hints
from jobs.progress import Show
from jobs.quality import SuiteError
from jobs.readings.erased import Erased
from jobs.readings.ingest import FILES_SCHEMA, Place, Receipt
from jobs.readings.merge import Changes
from jobs.reports import front
from jobs.settings import SQL, Settings
from jobs.silver import Retraction, Written
from jobs.spark import at_once
from jobs.stores import open_folder
from jobs.tables import (
    DAILY_METERPOINT,
    LOAD_FILES,
    LOADS,
    MARTS,
    READINGS,
    REJECTED_FILES,
    REJECTED_READINGS,
    REJECTED_REFERENCE,
    SUPERSEDED,
    Locations,
)
from jobs.telemetry import lineage

# A stage gets a Show to report its progress by; None if nobody watches.
Stage = Callable[[str], AbstractContextManager[Show | None]]
Tell = Callable[[str], None]
Kind = Literal["load", "retract", "reload", "rebuild", "rollback", "dismiss", "upgrade", "erase", "expire"]

# Rows and bytes of a load that its end may hold in memory; more are appended by Spark.
FEW_ROWS, FEW_BYTES = 200_000, 64 * 1024 * 1024
FEW_FILES = 500_000


@dataclass(frozen=True)
class Wish:
    """What a person asked for. By default: all that is new in the landing place."""

    kind: Kind = "load"
    # Quarantined files to read again although their bytes did not change. An empty collection means all of them.
    retry: Collection[str] | None = None
    again: Collection[str] = ()  # files to read again, whatever is known of them
    again_load: str | None = None  # and those that a load took
    retraction: Retraction | None = None
    rebuild: tuple[date | None, date | None] | None = None  # first and last date to build anew, None: an open end
    from_files: bool = False  # read the files of these dates again, too
    accept: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Summary:
    """What a load did. Counts are of files and rows of input."""

    load_id: str
    started_at: datetime  # UTC
    kind: Kind = "load"
    receipt: Receipt = field(default_factory=Receipt)
    files: dict[str, int] = field(default_factory=dict)  # by status: loaded, unchanged, rejected
    rejected_by_reason: dict[str, int] = field(default_factory=dict)  # rows and files
    dates: list[date] = field(default_factory=list)
    # Keys of readings added, changed and removed, by date that had readings before.
    changes: dict[date, Changes] = field(default_factory=dict)
    contested: int = 0
    mart_dates: list[date] = field(default_factory=list)
    snapshot_date: date | None = None
    verdicts: list[quality.Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what else is odd, a sentence each
    errors: list[str] = field(default_factory=list)  # what makes the run fail
    reference_errors: list[str] = field(default_factory=list)  # of these, why reference files were not taken
    accepted: frozenset[str] = frozenset()
    undid: str | None = None  # load that a rollback took away or put back

    @property
    def readings_loaded(self) -> int:
        return self.receipt.readings.total()

    @property
    def readings_rejected(self) -> int:
        return self.receipt.rows_rejected + self.receipt.rows_erased

    @property
    def rejections(self) -> list[str]:
        """A sentence each, the first ones."""
        return [text for *_, text in self.receipt.rejections]

    @property
    def status(self) -> str:
        """published; failed: the next load reads its files again; rejected: every file was, and they are known."""
        return "published" if self.published else "failed" if self.blocking else "rejected"

    @property
    def published(self) -> bool:
        """Whether readers got it. A reference snapshot that failed is left out of a load; it does not stop the load."""
        return not self.blocking and not (self.nothing_good and not self.dates and not self.snapshot_date)

    @property
    def nothing_good(self) -> bool:
        """Whether the load had files and every one of them is at fault, and nobody lets that pass."""
        if FAULTS in self.accepted:
            return False
        read = self.receipt.files["loaded"] + self.receipt.files["rejected"]
        return bool(read) and self.receipt.files_at_fault == read and not self.receipt.readings

    @property
    def blocking(self) -> list[str]:
        """Failed critical expectations that keep the load from readers."""
        judged = [verdict for verdict in self.verdicts if verdict.table in (LOAD_FILES, READINGS, *MARTS)]
        return [f"{verdict.table}: {text}" for verdict in judged for text in verdict.critical]

    @property
    def warnings(self) -> list[str]:
        failed = [f"{verdict.table}: {text}" for verdict in self.verdicts for text in verdict.warnings]
        return failed + self.notes


class Plan(NamedTuple):
    """What a load is to do, worked out before it writes."""

    readings: pa.Table  # files to read, columns as of ledger.files.to_read
    reference: list[dict[str, Any]]  # files that may be the newest snapshot, the newest first
    notes: list[str]  # what is odd about the landing place
    retraction: Retraction | None
    dropped: dict[str, int]  # dates on which the retraction takes claims back, and how many readings these give
    mart_dates: set[str]  # to build anew, beside those that change
    erased: Erased  # whose rows are not kept

    @property
    def inputs(self) -> list[str]:
        """What the load reads: kinds of files in the landing place, or silver.readings alone."""
        files = [name for name, found in (("readings", self.readings), ("reference", self.reference)) if len(found)]
        return files or [READINGS]


@tables.remembered()
def run(
    spark: SparkSession,
    settings: Settings,
    stage: Stage,
    wish: Wish | None = None,
    tell: Tell = lambda _: None,
    note: Tell = lambda _: None,
) -> Summary | None:
    """Load what is new in the landing place, or do what a person asked for. None if there is nothing to do.

    `tell` gets what a person should know beside, a sentence each; `note`, where nothing is new, what is odd about the
    landing place, which changes nothing.
    Raises LakeError where it cannot be done: nothing was changed then.
    """
    wish = wish or Wish()
    started_at = datetime.now(UTC)
    seconds: dict[str, float] = {}
    stage = _timed(stage, seconds)
    with stage("apply versioned SQL"):
        accept.require_known(wish.accept)
        move.require_place(spark, settings)
        is_new = not tables.exists(spark, tables.VERSIONS)
        applied = versions.apply_versions(spark, SQL, settings.warehouse, before_views=lambda: upgrade.run(spark))
        if applied and not is_new:
            tell(f"Applied: {', '.join(each.path for each in applied)}.")
    with stage("discover"):
        erased = erase.before_load(spark, settings, tell)
        restated = erasures.to_restate(settings.state)
        tables.ask_anew()  # of what another run publishes from here on become_writer knows
        writer = ledger_writer.writer(spark)
        interrupted = ledger.interrupted(spark)
        plan = _plan(spark, settings, wish, interrupted, erased, tell)
        if restated:
            plan = plan._replace(mart_dates=plan.mart_dates | (restated & tables.partitions(spark, READINGS)))
        if not (plan.readings.num_rows or plan.reference or plan.dropped or plan.mart_dates or interrupted):
            for text in plan.notes:
                note(text)
            return None
        quality.preload()
        load_id = ledger.begin(spark, writer, accept_clock=CLOCK in wish.accept)
        lineage.begin(wish.kind, load_id, settings, plan.inputs, tell)
        begun = ledger.recover(spark, load_id) if interrupted else {}
        place = silver.place_of(spark, settings, load_id, started_at, erased)
        silver.begin_staging(place)
        judge = audit.Audit(load_id, started_at, settings.reports, wish.kind, wish.accept)

    with stage("read and check") as show:
        receipt, taken = at_once(
            lambda: silver.ingest_files(spark, plan.readings, place, show),
            lambda: snapshots.take_first(spark, plan.reference, place.landing, place.landing_folder, judge, erased),
        )
    with stage("write silver"):
        written = _merge(spark, place, plan, wish, receipt, begun)
        snapshot = {table: folders for each in taken for table, folders in each.locations.items()}
    with stage("build marts"):
        built = build.build(spark, place, written, snapshot, plan.mart_dates)
    new = written.locations | built.locations
    with stage("validate"):
        _audit(spark, judge, receipt, written, built, snapshot)
    summary = _summary(judge, wish, plan, receipt, taken, written, built)
    replaced: dict[str, Locations] = {}
    if summary.published:
        with stage("publish"):
            ledger.begin_publication(spark, load_id)
            # Before the values are replaced: one that is both here and there is known to be the same.
            _keep_superseded(spark, place, written)
            for table in tables.DATA:
                replaced[table] = ledger_writer.publish(spark, table, (new | snapshot).get(table, {}), load_id)
    with stage("record"):
        _record(spark, place, wish, summary, taken, new | snapshot, replaced, seconds)
        if summary.published:
            silver.delete_staging(place)
            if restated:
                erasures.restated(settings.state)
        lineage.ended(spark, summary.verdicts, published=summary.published, errors=summary.errors, warn=tell)
    with stage("report"):
        quality.build_docs(settings.reports)
        front.publish(spark, settings, {load_id: summary.notes})
    with stage("collect"):
        compact.compact(spark, settings, load_id)
        collect.collect_replaced(spark, settings)
    return summary


def _timed(stage: Stage, seconds: dict[str, float]) -> Stage:
    @contextmanager
    def timed(name: str) -> Iterator[Show | None]:
        began = time.monotonic()
        with stage(name) as show:
            yield show
        seconds[name] = time.monotonic() - began

    return timed


def _plan(spark: SparkSession, settings: Settings, wish: Wish, interrupted: bool, erased: Erased, tell: Tell) -> Plan:
    plan = Plan(ledger_files.to_read(spark, []), [], [], None, {}, set(), erased)
    if wish.kind == "rebuild" and not wish.rebuild:
        return plan  # what an erasure left to build anew
    if wish.retraction:
        return plan._replace(retraction=wish.retraction, dropped=_to_retract(spark, wish.retraction, interrupted))
    if wish.rebuild:
        plan = plan._replace(mart_dates=_dates_between(spark, *wish.rebuild))
        if not plan.mart_dates:
            raise LakeError("there is nothing to rebuild: no readings are of these dates")
        if not wish.from_files:
            return plan
    file_system, folder = open_folder(settings.landing, settings.s3_endpoint)
    if "://" not in settings.landing and not Path(folder).is_dir():
        raise LakeError(f"the landing place {settings.landing} is no folder; is it mounted?")
    found = landing.look(file_system, folder)
    named = set(map(erased.redacted, wish.again))
    named |= set(ledger_files.of_load(spark, wish.again_load) if wish.again_load else ())
    if not (named or wish.rebuild or wish.retry is not None):
        return _of_what_is_new(spark, plan, found, set(), file_system, folder)
    there = {erased.redacted(file.source_file) for file in [*found.readings, *found.reference]}
    if gone := sorted((named | set(wish.retry or ())) - there):
        raise ledger_files.UnknownFile(f"{with_hints(gone, there)}: not in the landing place {settings.landing}")
    if wish.rebuild:
        named = _files_to_rebuild(spark, wish.rebuild, found, there, erased, tell)
    elif not named:
        again = ledger_files.to_retry(spark, wish.retry or (), there, tell)
        return _of_what_is_new(spark, plan, found, again, file_system, folder)
    return _of_named(spark, plan, found, named)


def _to_retract(spark: SparkSession, retraction: Retraction, interrupted: bool) -> dict[str, int]:
    dates = silver.held_dates(spark, retraction)
    # A run that was killed may have taken them away already, in part: they are found where it began.
    if not dates and not interrupted:
        hint = ledger_files.not_known(spark, retraction.files, retraction.load_id)
        raise LakeError(f"there is nothing to retract: no reading that counts, or could, is of what was named{hint}")
    return dates


def _files_to_rebuild(
    spark: SparkSession,
    between: tuple[date | None, date | None],
    found: landing.Landing,
    there: set[str],
    erased: Erased,
    tell: Tell,
) -> set[str]:
    """Files with readings of the dates, but for those of which a rebuild would miss something."""
    named = silver.files_between(spark, *between) & there - ledger_files.withheld(spark)
    # Of what is new in a file a rebuild takes nothing, and the file would be known afterwards.
    if new := named & set(ledger_files.to_read(spark, found.readings, erased=erased)["source_file"].to_pylist()):
        tell(f"Left out, because `lake run` has to load what is new in them first: {ledger_files.some(new)}.")
    return named - new


def _of_what_is_new(
    spark: SparkSession,
    plan: Plan,
    found: landing.Landing,
    again: Collection[str],
    file_system: FileSystem,
    folder: str,
) -> Plan:
    """To read what is new, and files that were rejected `again`."""
    readings = ledger_files.to_read(spark, found.readings, again, plan.erased)
    return plan._replace(
        readings=_without_refused(spark, readings, again, file_system, folder),
        reference=_reference_candidates(spark, found.reference, again, plan.erased),
        notes=_notes(found, plan.erased),
    )


def _of_named(spark: SparkSession, plan: Plan, found: landing.Landing, named: set[str]) -> Plan:
    """To read files that were named, whatever is known of them."""
    readings, reference = (
        ledger_files.to_read(
            spark, [file for file in files if plan.erased.redacted(file.source_file) in named], named, plan.erased
        )
        for files in (found.readings, found.reference)
    )
    order = {file.source_file: place for place, file in enumerate(found.reference)}
    newest_first = sorted(reference.to_pylist(), key=lambda row: order[row["path"]])
    # What a person names is no stray.
    return plan._replace(readings=readings, reference=[row | {"may_be_stray": False} for row in newest_first])


def _without_refused(
    spark: SparkSession, readings: pa.Table, again: Collection[str], file_system: FileSystem, folder: str
) -> pa.Table:
    """Files to read, but for those that could not be read before and still cannot, for the same reason: they are tried
    again by each run, and are nothing new."""
    refused = ledger_files.refused_unread(spark, readings)
    tried = readings.filter(pc.is_in(readings["source_file"], pa.array(refused.keys() - set(again), pa.string())))
    still = [
        file["source_file"]
        for file in tried.to_pylist()
        if landing.why_not_read(file_system, folder, file["path"]) == refused[file["source_file"]]
    ]
    return readings.filter(pc.invert(pc.is_in(readings["source_file"], pa.array(still, pa.string()))))


def _reference_candidates(
    spark: SparkSession, delivered: list[landing.Delivered], again: Collection[str], erased: Erased
) -> list[dict[str, Any]]:
    """SQLite files that may be the next snapshot, the newest first: those that are to be read, down to the newest one
    that was taken before."""
    to_read = {row["path"]: row for row in ledger_files.to_read(spark, delivered, again, erased).to_pylist()}
    taken = ledger_files.snapshots_taken(spark) if to_read else frozenset()
    found = []
    for place, file in enumerate(delivered):
        if row := to_read.get(file.source_file):
            is_new = row["source_file"] not in taken
            found.append(row | {"may_be_stray": is_new and place + 1 < len(delivered)})
        elif erased.redacted(file.source_file) in taken:
            break
    return found


def _notes(found: landing.Landing, erased: Erased) -> list[str]:
    if not found.ignored:
        return []
    names = ledger_files.some(list(map(erased.redacted, found.ignored)))
    return [f"not read, because their names are not those of readings or reference files: {names}"]


def _dates_between(spark: SparkSession, first: date | None, last: date | None) -> set[str]:
    begin, end = str(first or ""), str(last or "9999")
    return {day for day in build.read_dates(spark) if begin <= day <= end}


def _merge(
    spark: SparkSession,
    place: Place,
    plan: Plan,
    wish: Wish,
    receipt: Receipt,
    begun: dict[str, Locations],
) -> Written:
    dropped, reread = plan.dropped, None
    if (wish.again or wish.again_load or wish.rebuild or wish.retry is not None) and receipt.files["loaded"]:
        # The same bytes read once more are no new version: all that they said before makes room for what they say now.
        files = silver.staged(place, "files")
        reread = ledger_files.versions_with(spark, files.filter(pc.equal(files["status"], "loaded")))
        reread = reread if reread.num_rows else None
    if reread is not None:
        # Dates before kept_from are not read again, so what files said of them stays until it expires.
        dropped = dropped | silver.held_dates(spark, Retraction(first=place.kept_from), reread)
    return silver.merge_dates(
        spark,
        place,
        receipt,
        begun,
        retraction=plan.retraction,
        reread=reread,
        dropped=dropped,
        only_held=wish.kind == "rebuild",
    )


def _audit(
    spark: SparkSession,
    judge: audit.Audit,
    receipt: Receipt,
    written: Written,
    built: Built,
    snapshot: dict[str, Locations],
) -> None:
    """Judge what was written, table by table, and each mart against the readings that it was built from."""

    def measure_readings() -> quality.Measures:
        places = written.locations[READINGS]
        if build.is_for_here(spark, places):
            with suppress(SuiteError):  # Spark may know the measure, or have room for it
                return audit.measure(READINGS, tables.scan(spark, READINGS, places, coded=True))
        return audit.measure(READINGS, tables.read(spark, READINGS, places))

    def measure_marts() -> tuple[dict[str, quality.Measures], dict[str, quality.Measures]]:
        measure = partial(_measure_marts, spark, judge.load_id, written, built, snapshot)
        if built.in_memory:
            with suppress(SuiteError):
                return measure(in_memory=True)
        return measure(in_memory=False)

    of_readings, of_marts = at_once(
        lambda: measure_readings() if written.rows else {},
        lambda: measure_marts() if built.dates else None,
    )
    if receipt.files or written.dates:
        lost = audit.lost_of_totals(spark, built.locations, written.dates) if built.dates else []
        audit.judge_delivery(judge, receipt, written, lost)
    audit.judge_readings(judge, of_readings, expected=written.rows)
    if of_marts:
        measures, given = of_marts
        audit.judge_marts(judge, measures, given, audit.lost_of_other_dates(spark, built.locations, built.dates))


def _measure_marts(
    spark: SparkSession,
    load_id: str,
    written: Written,
    built: Built,
    snapshot: dict[str, Locations],
    *,
    in_memory: bool,
) -> tuple[dict[str, quality.Measures], dict[str, quality.Measures]]:
    """Measure what was built. Of corrected dates only changed meterpoints are, and `rest` is what all others give."""
    read = partial(tables.scan, coded=True) if in_memory else tables.read
    meterpoints = build.meterpoints(spark, snapshot, load_id, in_memory=in_memory)
    sums = audit.by_year(spark, built.locations, built.dates)
    readings = read(spark, READINGS, build.places_of_readings(spark, built.whole, written.locations))
    if not built.sides:
        daily = read(spark, DAILY_METERPOINT, built.locations[DAILY_METERPOINT])
        return audit.measure_marts(sums, daily, [readings], meterpoints)
    before, after = built.sides
    rest = audit.rest_of(spark, built.corrected, before.readings, before.daily)
    daily = corrected.changed_rows(spark, built.locations[DAILY_METERPOINT], built.sides, in_memory=in_memory)
    return audit.measure_marts(sums, daily, [readings, after.readings], meterpoints, rest)


def _summary(
    judge: audit.Audit,
    wish: Wish,
    plan: Plan,
    receipt: Receipt,
    taken: list[snapshots.Taken],
    written: Written,
    built: Built,
) -> Summary:
    refused = [each for each in taken if each.error]
    files = receipt.files + type(receipt.files)(["rejected"] * len(refused))
    reasons = receipt.reasons + type(receipt.reasons)(each.file.get("reason") or "snapshot" for each in refused)
    errors = [each.error for each in refused if each.error]
    summary = Summary(
        load_id=judge.load_id,
        started_at=judge.loaded_at,
        kind=wish.kind,
        receipt=receipt,
        files=dict(files),
        rejected_by_reason=dict(reasons),
        dates=written.dates,
        changes=written.changes,
        contested=written.contested,
        mart_dates=sorted(map(date.fromisoformat, built.dates)),
        snapshot_date=next((each.current for each in taken if each.current), None),
        verdicts=judge.verdicts,
        notes=plan.notes + [text for each in taken for text in each.warnings],
        errors=errors,
        reference_errors=errors.copy(),
        accepted=wish.accept,
    )
    if summary.nothing_good:
        errors.append("every readings file was rejected; `lake quarantine list` says why")
    if summary.blocking:
        errors.append(f"not published, readers keep what they had: {'; '.join(summary.blocking)}")
    return summary


def _record(
    spark: SparkSession,
    place: Place,
    wish: Wish,
    summary: Summary,
    taken: list[snapshots.Taken],
    published: dict[str, Locations],
    replaced: dict[str, Locations],
    seconds: dict[str, float],
) -> None:
    """Record what the load did. ops.loads comes last: with it the load has happened.

    Of a load that was not published its files and what they were rejected for are recorded too, so that a person sees
    them; but its files are not known by it, and are tried again.
    """
    load_id, receipt = summary.load_id, summary.receipt
    appends: list[Callable[[], None]] = [lambda: ledger.append_validations(spark, summary.verdicts, load_id)]
    if receipt.files or taken:
        appends.append(lambda: _record_files(spark, place, receipt, taken, load_id))
    if receipt.rows_rejected:
        appends.append(lambda: _record_rejected_rows(spark, place, receipt, load_id))
    for each in taken:
        if each.rejected.num_rows:
            appends.append(partial(ledger.append_rows, spark, each.rejected, REJECTED_REFERENCE, load_id))
    if summary.published:
        appends.append(lambda: ledger.append_publications(spark, published, replaced, summary.changes, load_id))
    at_once(*appends)
    load = {
        "status": summary.status,
        "kind": wish.kind,
        "started_at": summary.started_at,
        "finished_at": datetime.now(UTC),
        "files_loaded": summary.files.get("loaded", 0),
        "files_rejected": summary.files.get("rejected", 0),
        "readings_loaded": summary.readings_loaded,
        "readings_rejected": summary.readings_rejected,
        "rejected_by_reason": [*summary.rejected_by_reason.items()],
        "dates_published": len(summary.dates) if summary.published else 0,
        "mart_dates_published": len(summary.mart_dates) if summary.published else 0,
        "first_date": min(summary.dates, default=None),
        "last_date": max(summary.dates, default=None),
        "snapshot_date": summary.snapshot_date if summary.published else None,
        "warnings": len(summary.warnings),
        "warnings_by_name": [*receipt.warnings.items()],
        "accepted": sorted(wish.accept),
        "stage_seconds": [*seconds.items()],
        "error": "; ".join(summary.errors) or None,
    }
    ledger.append_rows(spark, [load], LOADS, load_id)


def _record_files(
    spark: SparkSession, place: Place, receipt: Receipt, taken: list[snapshots.Taken], load_id: str
) -> None:
    """What became of each file, and the rejected ones whole."""
    if receipt.files.total() > FEW_FILES or receipt.bytes_kept > FEW_BYTES:
        staged = spark.read.parquet(f"{place.staging_uri}/files")
        reasons = F.when(F.col("status") == "rejected", F.concat_ws(": ", "reason", "detail"))
        ledger.append(staged.where("status = 'rejected'"), REJECTED_FILES, load_id)
        ledger.append(staged.withColumn("note", reasons.otherwise(F.col("detail"))), LOAD_FILES, load_id)
        staged_files = FILES_SCHEMA.empty_table()
    else:
        staged_files = silver.staged(place, "files")
    rows = pa.Table.from_pylist([each.file | {"detail": each.file.get("note")} for each in taken], FILES_SCHEMA)
    files = pa.concat_tables([staged_files, rows])
    is_rejected = pc.equal(files["status"], "rejected")
    note = pc.if_else(is_rejected, pc.binary_join_element_wise(files["reason"], files["detail"], ": "), files["detail"])
    ledger.append_rows(spark, files.filter(is_rejected), REJECTED_FILES, load_id)
    ledger.append_rows(spark, files.append_column("note", note), LOAD_FILES, load_id)


def _keep_superseded(spark: SparkSession, place: Place, written: Written) -> None:
    if written.superseded > FEW_ROWS:
        ledger.append(spark.read.parquet(f"{place.staging_uri}/superseded"), SUPERSEDED, place.load_id)
    elif written.superseded:
        ledger.append_rows(spark, silver.staged(place, "superseded"), SUPERSEDED, place.load_id)


def _record_rejected_rows(spark: SparkSession, place: Place, receipt: Receipt, load_id: str) -> None:
    if receipt.rows_rejected > FEW_ROWS:
        ledger.append(spark.read.parquet(f"{place.staging_uri}/rejected"), REJECTED_READINGS, load_id)
    else:
        ledger.append_rows(spark, silver.staged(place, "rejected"), REJECTED_READINGS, load_id)
