"""What `lake status` and `lake check` show, kept in a file, because asking takes a Spark that starts for seconds.

Only the embedded lakehouse needs it: in the stack the SQL endpoint answers at once. Whatever uses the embedded
metastore changes files of it, be it to read. So the kept answer holds as long as every file of the metastore is as it
was when the answer was written, just after the metastore was shut down. A run that was killed, an older version of this
program, a backup that was put back and anything else that opened the metastore leave other files behind: then the
tables are asked again. The warehouse is beside the metastore, so the newest of its folders is looked for, too.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jobs import schedule_state
from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.query import Result

Query = Callable[[str], "Result"]
Overview = dict[str, Any]  # what JSON holds: numbers, texts, lists, and these by name

NAME = "status.json"
CHECK = "check"  # what jobs.check asked, beside what `lake status` shows
FORM = 2  # of the file's content
LOADS = 10
ROLLBACKS = "ops.rollbacks"
REJECTED = frozenset({"quarantine.readings", "quarantine.files", "quarantine.reference"})
SELDOM = REJECTED | {ROLLBACKS}  # a usual load leaves them as they are
NO_QUARANTINE = {"files": 0, "whole_files": 0, "rows": 0}

_FRESHNESS = """
    SELECT
      CAST(last_reading_date AS STRING) AS last_reading_date, CAST(last_reading_utc AS STRING) AS last_reading_utc,
      CAST(snapshot_date AS STRING) AS snapshot_date, last_load_id,
      date_format(last_load_finished_at, 'yyyy-MM-dd HH:mm:ss') AS last_load_finished_at, publishing_load_id
    FROM gold.data_freshness
"""
_LOADS = f"""
    SELECT
      load_id, kind, status, date_format(finished_at, 'yyyy-MM-dd HH:mm:ss') AS finished_at,
      files_loaded + files_rejected AS files, readings_loaded AS readings, readings_rejected AS rejected,
      dates_published AS dates, CAST(snapshot_date AS STRING) AS snapshot_date, warnings, error
    FROM gold.load_history ORDER BY started_at DESC LIMIT {LOADS}
"""
_WITHHELD = "SELECT load_id, count(*) AS files FROM ops.withheld_files GROUP BY load_id ORDER BY load_id"
IN_QUARANTINE = """
    SELECT
      source_file, reason, `rows`, CAST(rejected_on AS STRING) AS rejected_on,
      if(loads.status IN ('failed', 'rejected'), 'not published', loads.status) AS `load`
    FROM (
      SELECT source_file, reason, count(*) AS `rows`, load_date AS rejected_on, load_id
      FROM quarantine.open_readings GROUP BY source_file, reason, load_date, load_id
      UNION ALL SELECT source_file, reason, NULL, load_date, load_id FROM quarantine.open_files
      UNION ALL SELECT source_file, reason, count(*), load_date, load_id
      FROM quarantine.open_reference GROUP BY source_file, reason, load_date, load_id
    ) JOIN ops.loads AS loads USING (load_id)
    ORDER BY source_file, reason
"""
_QUARANTINE = f"""
    SELECT
      count(DISTINCT source_file) AS files, count_if(`rows` IS NULL) AS whole_files, coalesce(sum(`rows`), 0) AS `rows`
    FROM ({IN_QUARANTINE})
"""


def ask(query: Query, empty: frozenset[str] = frozenset()) -> Overview:
    """The answer of the tables. Times are UTC. What tables of `empty` would give is not asked."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    if not query("SHOW SCHEMAS LIKE 'gold'").rows:
        return {"as_of": now, "loaded": False}
    asked = {"freshness": _FRESHNESS, "loads": _LOADS}
    if ROLLBACKS not in empty:
        asked["withheld"] = _WITHHELD
    if not empty >= REJECTED:
        asked["quarantine"] = _QUARANTINE
    answers = dict(zip(asked, in_parallel(query, [*asked.values()]), strict=True))
    (freshness,), (quarantine,) = answers["freshness"], answers.get("quarantine", [NO_QUARANTINE])
    return {
        "as_of": now,
        "loaded": True,
        "freshness": freshness,
        "loads": answers["loads"],
        "withheld": answers.get("withheld", []),
        "quarantine": quarantine,
    }


def in_parallel(query: Query, statements: Sequence[str]) -> list[list[dict[str, Any]]]:
    """The rows of each statement, by name of column. One statement alone leaves cores idle."""
    from concurrent.futures import ThreadPoolExecutor

    def rows(statement: str) -> list[dict[str, Any]]:
        result = query(statement)
        return [dict(zip(result.columns, row, strict=True)) for row in result.rows]

    with ThreadPoolExecutor(len(statements)) as pool:
        return list(pool.map(rows, statements))


def can_be_kept(settings: Settings) -> bool:
    """Whether the lakehouse is an embedded one on this machine."""
    return not settings.endpoint and not settings.metastore and "://" not in settings.warehouse


def is_new(settings: Settings) -> bool:
    """Whether nothing was ever loaded, as far as that can be seen without Spark: there is no embedded metastore."""
    return can_be_kept(settings) and not (settings.state / "metastore").exists()


def kept(settings: Settings) -> Overview | None:
    """The answer that is kept, if it holds. None: the tables have to be asked."""
    if not can_be_kept(settings):
        return None
    file = schedule_state.read(settings.state, NAME)
    if file.get("form") != FORM or file.get("warehouse") != settings.warehouse:
        return None
    newest = file.get("newest_folder")
    if newest and not any(Path(newest).glob("*.parquet")):
        return None
    return file["overview"] if file.get("metastore") == _files_of_metastore(settings) else None


def before_this_run(settings: Settings) -> Overview | None:
    """The answer that was kept last, whether or not it still holds; to be shown with its time."""
    file = schedule_state.read(settings.state, NAME)
    if not can_be_kept(settings) or file.get("form") != FORM or file.get("warehouse") != settings.warehouse:
        return None
    return file.get("overview")


def end_session(spark: "SparkSession", settings: Settings, overview: Overview | None) -> None:
    """Stop Spark, and keep an answer of it. None: what was kept holds no longer, and nothing takes its place."""
    if not can_be_kept(settings):
        spark.stop()
        return
    newest, jvm = newest_folder(spark), cast("Any", spark._jvm)
    spark.stop()
    _shut_metastore(jvm)
    if overview:
        keep(settings, overview, newest)


def newest_folder(spark: "SparkSession") -> str:
    """Folder of the newest load's record, empty if there is none. Each load writes another one."""
    from jobs import tables

    folders = tables.all_locations(spark, tables.LOADS) if tables.exists(spark, tables.LOADS) else {}
    return tables.plain(folders[max(folders)]) if folders else ""


def is_of_newest_load(spark: "SparkSession", settings: Settings) -> bool:
    """Whether no load was recorded since an answer was kept."""
    return schedule_state.read(settings.state, NAME).get("newest_folder") == newest_folder(spark)


def keep(settings: Settings, overview: Overview, newest_folder: str) -> None:
    """Keep an answer of tables whose metastore is shut. `newest_folder` is that of the newest load; empty: no load."""
    content = {
        "form": FORM,
        "warehouse": settings.warehouse,
        "newest_folder": newest_folder,
        "metastore": _files_of_metastore(settings),
        "overview": overview,
    }
    schedule_state.write(settings.state, content, NAME)


def empty_tables(spark: "SparkSession") -> frozenset[str]:
    """Tables that have no partition, of those which a usual load leaves as they are."""
    from jobs import tables

    found = [name for name in SELDOM if tables.exists(spark, name)]
    return frozenset(name for name in found if not tables.partitions(spark, name))


def of_session(spark: "SparkSession") -> Query:
    """Runs statements on a session that is there."""
    from jobs.query import Result

    def query(session: "SparkSession", statement: str) -> Result:
        frame = session.sql(statement)
        return Result(frame.columns, frame.collect())

    return partial(query, spark)


def _files_of_metastore(settings: Settings) -> list[list[Any]]:
    """Name, size and modification time of each file of the embedded metastore."""
    root = settings.state / "metastore"
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [[str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _shut_metastore(jvm: Any) -> None:
    """Have Derby write all that it holds, so that its files stay as they are. It says with an error that it did."""
    from py4j.protocol import Py4JJavaError

    try:
        jvm.java.sql.DriverManager.getConnection("jdbc:derby:;shutdown=true")
    except Py4JJavaError as error:
        if error.java_exception.getSQLState() != "XJ015":
            raise
