"""Data quality: what a load wrote is measured, and judged by Great Expectations, before it is published.

Great Expectations run on Spark data takes a job or more for each expectation, which for millions of readings is
many times the cost of the load itself. So each table is *measured* in one Spark action, which gives one row of named
numbers, and genuine expectations *judge* that row. What the driver has in memory, tables of a reference file and the
marts by year, is measured by DuckDB. Measures, limits and the reason of each are in `expectations/<table>.json`, one
native Great Expectations suite a table:

- `meta.measures`: name → Spark SQL aggregate over the table's rows.
- `meta.groups`: the rows grouped `by` columns, with `columns` aggregated for each group and `measures` over the
  groups: one cheap way to find duplicate keys and incomplete days. A list of several groupings is taken, too.
- `meta.given`: measures that the caller brings along (what the load meant to write, what silver holds), and their
  meaning.
- `expectations`: a `severity` each. `critical` stops the publication, `warning` is published and reported, `info` is
  only counted. `meta.found` is a sentence of what was found (jobs/wording.py). `expect_column_max_to_be_between` and
  `expect_column_pair_values_to_be_equal` fail if nothing was measured (null); `expect_column_values_to_be_between`
  passes then.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, reduce
from importlib import import_module
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pyarrow as pa
from pyarrow.dataset import Dataset

from jobs.errors import LakeError
from jobs.relations import NotTheSame, Rows, in_memory, translated
from jobs.reports.site import template, write
from jobs.wording import told

if TYPE_CHECKING:  # Great Expectations takes seconds to import, which a run with nothing to do must not pay for
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from pyspark.sql import DataFrame

Measure = int | float | Decimal | date | str | None
Measures = dict[str, Measure]

INDEX = "checks.html"
LISTED = 50  # loads in the index
_RESULTS = "results"
# Folders of what is kept of each load: below them schema, table, load.
OF_LOADS = (_RESULTS, "validations")
_TIME, _IN_NAMES = "%Y-%m-%d %H:%M:%S UTC", "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True)
class Suite:
    """One file of `expectations/`: how a table is measured, and what is expected of the measures."""

    table: str
    about: str
    measures: dict[str, str]
    groups: list[dict[str, Any]]
    given: dict[str, str]
    definition: dict[str, Any]


class Check(NamedTuple):
    """An expectation, and whether it held."""

    rule: str
    is_critical: bool
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """What the expectations said of one table of one load."""

    table: str
    load_id: str
    passed: bool
    """No critical expectation failed, and all could be evaluated."""
    critical: tuple[str, ...]
    """Failed critical expectations, a sentence each with the measured value and the limit."""
    warnings: tuple[str, ...]
    evaluated: int
    """Number of expectations."""
    page: str
    """The validation's HTML page, relative to the reports folder; written by `build_docs`."""
    notes: tuple[str, ...] = ()
    """Facts of severity `info`, counted and never a warning."""
    checks: tuple[Check, ...] = ()
    """All but those of severity `info`."""
    rows: int | None = None
    """Rows that were judged; None where the suite does not count them."""


class SuiteError(LakeError, ValueError):
    """A file of `expectations/` that is no suite."""


def load_suite(folder: Path, table: str) -> Suite:
    """Read `<folder>/<table>.json`. Raises SuiteError that names the file if it is not such a suite."""
    path = folder / f"{table}.json"
    try:
        definition = json.loads(path.read_text(encoding="utf-8"))
        meta = definition["meta"]
        groups = meta.get("groups", [])
        groups = groups if isinstance(groups, list) else [groups]
        suite = Suite(table, meta["about"], meta["measures"], groups, meta.get("given", {}), definition)
        if definition["name"] != table or not definition["expectations"]:
            raise ValueError(f"it must be named {table} and hold expectations")
    except FileNotFoundError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise SuiteError(f"{path} is not an expectation suite: {error}") from error
    return suite


def acceptable(folder: Path) -> set[str]:
    """Names under which a person may let critical expectations pass, of all suites. Raises SuiteError."""
    suites = [load_suite(folder, path.stem) for path in sorted(folder.glob("*.json"))]
    found = {each.get("meta", {}).get("accept") for suite in suites for each in suite.definition["expectations"]}
    return {str(reason) for reason in found - {None}}


def measure(content: Rows, suite: Suite) -> Measures:
    """Take all measures of a table. The session's time zone must be UTC."""
    return measure_with(content, suite)[0]


def measure_with(content: Rows, suite: Suite, others: Sequence[Rows] = ()) -> tuple[Measures, list[dict[str, Any]]]:
    """Take all measures of a table, and the row of others that have one each; of Spark's in one action: to plan and
    start one takes longer than to measure a small table."""
    if isinstance(content, (pa.Table, Dataset)):
        return measure_in_memory(content, suite), [row for each in others for row in each.to_pylist()]
    own = _frames(content, suite)
    rows = _rows([*own, *others])
    return {name: value for row in rows[: len(own)] for name, value in row.items()}, rows[len(own) :]


def measure_in_memory(content: pa.Table | Dataset, suite: Suite) -> Measures:
    """Take all measures of a table of Arrow's, which DuckDB does. Spark takes seconds for its first action.

    Expressions are translated. Raises SuiteError for one that is not known to be the same there.
    """
    found: Measures = {}
    with in_memory({"content": content}) as ask:
        for name, sql in suite.measures.items():
            found |= _ask(ask, suite.table, {name: sql}, "content")
        for grouping in suite.groups:
            found |= _ask(ask, suite.table, grouping["measures"], _groups(grouping))
    if odd := [name for name, value in found.items() if type(value) not in _OF_MEASURES]:
        raise SuiteError(f"{suite.table}: measure {', '.join(odd)}: it must be a number, a text or a date")
    return found


def _ask(ask: Callable[[str], pa.Table], table: str, measures: Mapping[str, str], source: str) -> Measures:
    import duckdb

    try:
        row = ask(translated(_query(measures, source)))
        if row.num_rows != 1:
            raise NotTheSame("it is no aggregate")
    except (NotTheSame, duckdb.Error, pa.ArrowInvalid) as error:
        if len(measures) > 1:  # to tell which one it is
            return {name: _ask(ask, table, {name: sql}, source)[name] for name, sql in measures.items()}
        raise SuiteError(f"{table}: measure {', '.join(measures)}: {str(error).splitlines()[0]}") from error
    return {name: column[0].as_py() for name, column in zip(measures, row.columns, strict=True)}


def _query(measures: Mapping[str, str], source: str) -> str:
    """In Spark's SQL."""
    # A line of SQL may end in a comment.
    columns = ", ".join(f"{sql}\nAS `{name}`" for name, sql in measures.items())
    return f"SELECT {columns} FROM {source}"


def _groups(grouping: Mapping[str, Any]) -> str:
    """The groups of `content`, in Spark's SQL."""
    columns = [*grouping["by"], *(f"{sql} AS `{name}`" for name, sql in grouping["columns"].items())]
    return f"(SELECT {', '.join(columns)} FROM content GROUP BY {', '.join(grouping['by'])})"


def _frames(df: DataFrame, suite: Suite) -> list[DataFrame]:
    """Frames of one row, which have a table's measures: one for its rows, and one for each grouping.

    A distinct count beside the other aggregates would carry all of them through a sort of every row (seven times as
    slow for three million readings).
    """
    from pyspark.sql.functions import expr

    frames = [df.agg(*[expr(sql).alias(name) for name, sql in suite.measures.items()])]
    for grouping in suite.groups:
        groups = df.groupBy(*grouping["by"]).agg(*[expr(sql).alias(name) for name, sql in grouping["columns"].items()])
        frames.append(groups.agg(*[expr(sql).alias(name) for name, sql in grouping["measures"].items()]))
    return frames


def _rows(frames: Sequence[DataFrame]) -> list[dict[str, Any]]:
    """The row of each frame."""
    from pyspark.sql.functions import lit, struct, to_json

    # As text, since other frames have other columns.
    told = [frame.select(lit(position), to_json(struct("*"))) for position, frame in enumerate(frames)]
    rows = dict(map(tuple, reduce(lambda one, other: one.union(other), told).collect()))
    return [_typed(json.loads(rows[position], parse_float=Decimal), frame) for position, frame in enumerate(frames)]


_OF_MEASURES = (int, float, Decimal, str, date, type(None))
_FROM_TEXT: dict[str, Callable[[Any], Measure]] = {
    "integer": int,
    "long": int,
    "decimal": Decimal,
    "double": float,
    "string": str,
    "date": date.fromisoformat,
}


def _typed(row: dict[str, Any], frame: DataFrame) -> dict[str, Any]:
    """A row that was text, in which nulls are left out."""
    odd = [f"{field.name} is {kind}" for field in frame.schema if (kind := field.dataType.typeName()) not in _FROM_TEXT]
    if odd:
        raise SuiteError(f"a measure must be a number, a text or a date: {', '.join(odd)}")
    return {
        field.name: _FROM_TEXT[field.dataType.typeName()](row[field.name]) if field.name in row else None
        for field in frame.schema
    }


def judge(
    suite: Suite,
    measures: Mapping[str, Measure],
    *,
    load_id: str,
    loaded_at: datetime,
    reports: Path,
    accept: Collection[str] = (),
) -> Verdict:
    """Judge the measures, those of `meta.given` included, and keep the result below `<reports>/results`.

    No Spark. An expectation that cannot be evaluated (its measure is missing, for instance) is a critical failure,
    whatever its severity. A critical one whose `meta.accept` is in `accept` is a warning: a person lets it pass. The
    same load judged again at the same `loaded_at` (UTC) replaces its earlier result.
    """
    import pandas as pd

    if loaded_at.tzinfo is None:
        raise ValueError("loaded_at needs a time zone")
    # The number tells which result belongs to which line of the file: Great Expectations returns them in another order.
    expectations = [
        {**expectation, "meta": {**expectation.get("meta", {}), "line": line}}
        for line, expectation in enumerate(suite.definition["expectations"])
    ]
    frame = pd.DataFrame([dict(measures)], dtype=object)  # object: Decimal stays exact, None stays None
    with _quiet():
        context = _context()
        from great_expectations import ExpectationSuite

        source = context.data_sources.add_or_update_pandas("measures")
        batch = source.read_dataframe(frame, asset_name=suite.table)
        result = batch.validate(ExpectationSuite(**{**suite.definition, "expectations": expectations}))

        by_line = {r.expectation_config.meta["line"]: r for r in result.results if r.expectation_config}
        checks = [
            _check(expectation, by_line.get(line), measures, accept)
            for line, expectation in enumerate(suite.definition["expectations"])
        ]
        failed = {
            severity: tuple(c["text"] for c in checks if not c["passed"] and c["severity"] == severity)
            for severity in ("critical", "warning", "info")
        }
        # As Great Expectations would name it.
        place = PurePosixPath(*suite.table.split("."), load_id, f"{loaded_at.astimezone(UTC):{_IN_NAMES}}", suite.table)
        verdict = Verdict(
            table=suite.table,
            load_id=load_id,
            passed=not failed["critical"],
            critical=failed["critical"],
            warnings=failed["warning"],
            evaluated=len(checks),
            page=f"validations/{place}.html",
            notes=failed["info"],
            checks=tuple(
                Check(c["rule"], c["severity"] == "critical", c["passed"]) for c in checks if c["severity"] != "info"
            ),
            rows=cast("int | None", measures.get("rows")),
        )
        cast("dict[str, Any]", result.meta).update(
            table=suite.table,
            about=suite.about,
            load_id=load_id,
            loaded_at=loaded_at.astimezone(UTC).strftime(_TIME),
            status="failed" if failed["critical"] else "warning" if failed["warning"] else "passed",
            **{name: list(texts) for name, texts in failed.items()},
            checks=checks,
            measures=_sources(suite, measures),
            page=verdict.page,
        )
        (reports / verdict.page).unlink(missing_ok=True)
        write(reports / _RESULTS / f"{place}.json", json.dumps(result.to_json_dict(), indent=2, sort_keys=True))
    return verdict


def build_docs(reports: Path) -> Path:
    """Write the Data Docs pages of the newest loads which have none yet, then the index over these; return the index.

    What an earlier run judged and did not live to render is rendered here. Pages of older loads stay as they are, and
    are linked from the loads' own pages. Cost: a page takes about 10 ms; the pages load nothing, from nowhere.
    """
    loads: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for validation in sorted(_newest_results(reports), key=lambda v: str(v["table"])):
        page = PurePosixPath(validation["page"])
        if not (reports / page).exists():
            root = "../" * len(page.parent.parts)
            text = template("page.html").render(v=validation, home=f"{root}index.html", index=root + INDEX)
            write(reports / page, text)
        loads.setdefault((validation["loaded_at"], validation["load_id"]), []).append(validation)
    index = reports / INDEX
    write(index, template("checks.html").render(loads=sorted(loads.items(), reverse=True)))
    return index


def _newest_results(reports: Path) -> list[dict[str, Any]]:
    """What the pages tell of the newest loads. A file that is cut off, as a full disk leaves it, is deleted: it would
    fail every later report."""
    # Names alone: after ten years there are thousands of loads of each table.
    by_table = {table: set(os.listdir(table)) for table in (reports / _RESULTS).glob("*/*") if table.is_dir()}
    newest = set(sorted(set().union(*by_table.values()), reverse=True)[:LISTED])
    folders = [table / load for table, loads in by_table.items() for load in loads & newest]
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*.json")):
        try:
            found.append(json.loads(path.read_bytes())["meta"])
        except ValueError:
            path.unlink()
    return found


def _check(
    expectation: Mapping[str, Any], result: Any, measures: Mapping[str, Measure], accept: Collection[str] = ()
) -> dict[str, Any]:
    """One line of the page: an expectation of the suite file with its outcome."""
    kwargs = expectation["kwargs"]
    names = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    value = _show(measures.get(names[0])) if names else ""
    limit = _limit(kwargs, measures)
    rule = expectation.get("description") or expectation["type"]
    error = _error(result)
    absent = [name for name in names if name not in measures]
    if absent or error:
        error = f"could not be evaluated: {'no measure ' + ', '.join(absent) if absent else error}"
        text = f"{rule}: {error}"
    elif found := expectation.get("meta", {}).get("found"):
        text = told(found, measures[names[0]], value, kwargs)
    else:
        text = f"{rule}: {names[0] + ' is ' if names else ''}{value}, expected {limit}"
    severity, reason = expectation.get("severity", "critical"), expectation.get("meta", {}).get("accept")
    if reason in accept:
        severity = "warning"
    elif reason:
        text += f" (add --accept {reason} to the command to let it pass)"
    return {
        "passed": bool(result is not None and result.success and not error),
        # A check that was not made protects nothing, so it stops the load whatever its severity.
        "severity": "critical" if error else severity,
        "rule": rule,
        "why": expectation.get("notes", ""),
        "type": expectation["type"],
        "measure": names[0] if names else "",
        "value": value,
        "limit": limit,
        "error": error,
        "text": text,
    }


def _error(result: Any) -> str:
    """The message of the exception an expectation ended with, or nothing."""
    if result is None:
        return "Great Expectations returned no result"
    info = result.exception_info or {}
    # Either one flat record, or one for each metric that failed.
    for record in [info] if "raised_exception" in info else info.values():
        if record.get("raised_exception"):
            return str(record.get("exception_message") or "it raised an exception").splitlines()[0]
    return ""


def _limit(kwargs: Mapping[str, Any], measures: Mapping[str, Measure]) -> str:
    """An expectation's arguments as a person would say them."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if "column_B" in kwargs:
        return f"{_show(measures.get(kwargs['column_B']))} ({kwargs['column_B']})"
    if low is not None and high is not None:
        return _show(low) if low == high else f"{_show(low)} to {_show(high)}"
    if low is not None:
        return f"at least {_show(low)}"
    if high is not None:
        return f"at most {_show(high)}"
    return ", ".join(f"{name} {value}" for name, value in kwargs.items() if name != "column")


def _show(value: Measure) -> str:
    if value is None:
        return "no value"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    return str(value)


def _sources(suite: Suite, measures: Mapping[str, Measure]) -> list[dict[str, str]]:
    """How each measure was taken, for the foot of the page."""
    per_group = {
        name: f"{sql} — for each ({', '.join(groups['by'])}): "
        + ", ".join(f"{column} = {of}" for column, of in groups["columns"].items())
        for groups in suite.groups
        for name, sql in groups["measures"].items()
    }
    given = {name: f"given by the load: {meaning}" for name, meaning in suite.given.items()}
    known = {**suite.measures, **per_group, **given}
    return [
        {"name": name, "value": _show(measures[name]) if name in measures else "missing", "source": known.get(name, "")}
        for name in {**known, **measures}
    ]


def preload() -> None:
    """Begin to import Great Expectations, which takes seconds, while the load waits for Spark."""
    Thread(target=_great_expectations, daemon=True).start()


def _great_expectations() -> Any:
    """The module, told before its import to send nothing."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    gc.disable()  # it would go through all that is imported again and again, a sixth of the time, and find nothing
    try:
        return import_module("great_expectations")
    finally:
        gc.enable()


@cache
def _context() -> EphemeralDataContext:
    """A Great Expectations context which keeps nothing, sends nothing and prints nothing."""
    gx = _great_expectations()
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={},
        analytics_enabled=False,
        progress_bars={"globally": False},
    )
    return cast("EphemeralDataContext", gx.get_context(mode="ephemeral", project_config=config))


@contextmanager
def _quiet() -> Iterator[None]:
    """Great Expectations logs what it also returns (failed metrics, Decimal turned float): the report says it once."""
    log = logging.getLogger("great_expectations")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
