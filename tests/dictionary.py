"""The data dictionary: docs/data-dictionary.md, from the comments of tables, views and functions.

What stands above MARK in that file is written by hand; what is below is made here (`make dictionary`). Each view and
function of gold has example queries in `docs/queries/<schema>.<name>.sql`. Tests run them.
"""

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import SparkSession

from jobs import versions
from jobs.settings import PROJECT, SQL, Settings

PAGE = PROJECT / "docs" / "data-dictionary.md"
QUERIES = PROJECT / "docs" / "queries"
MARK = "<!-- Made by `make dictionary`: change comments in sql/, or docs/queries, and make it anew. -->\n"
SCHEMAS = ("gold", "silver", "mart", "quarantine", "ops")
NULL = re.compile(r"[,;] null:? (?P<when>[^;]*)")
# The first that a column's comment matches is the unit.
CLOCKS = {"UTC": r"\bUTC\b", "local": r"\b[Ll]ocal\b"}
UNITS = {"kWh": r"\bkWh\b", "share": r"\b0 to 1\b", "bytes": r"\bbytes$", "seconds": r"^Seconds\b"}
# By column, where the comments do not say it: what the source database may leave out, and what follows from that.
NULL_WHEN = {
    "silver.agreement": {"account_id": "if the source database has none"},
    "silver.product": dict.fromkeys(("display_name", "is_variable", "id"), "if the source database has none"),
    "silver.meterpoint": {"region": "if the source database has none"},
    "gold.meterpoint_day_completeness": {"product_display_name": "if no agreement held"},
}
for _name in ("silver.agreement", "silver.product", "silver.meterpoint"):
    NULL_WHEN |= {f"{_name}_{kind}": NULL_WHEN[_name] for kind in ("history", "snapshots")}
READ_FROM = re.compile(rf"\b(?:{'|'.join(SCHEMAS)})\.\w+")


class Column(NamedTuple):
    """A column of a table, view or function, or a parameter of a function."""

    name: str
    type: str
    comment: str
    null: str  # when it is null; empty for a column that never is

    @property
    def unit(self) -> str:
        """Unit of a number, or the clock of a time or date; empty where there is none."""
        if self.type in ("string", "boolean", "binary"):
            return ""
        units = CLOCKS if self.type in ("date", "timestamp") else UNITS
        return next((unit for unit, pattern in units.items() if re.search(pattern, self.comment)), "")

    @property
    def meaning(self) -> str:
        """The comment, without what it says of null."""
        return NULL.sub("", self.comment)


class Query(NamedTuple):
    """An example: the question and the SQL that answers it."""

    question: str
    sql: str


class Relation(NamedTuple):
    """A table, view or table function."""

    name: str  # schema.name
    kind: str  # table, view or function
    comment: str
    parameters: list[Column]
    columns: list[Column]
    partitioned_by: str | None
    reads: list[str]  # what a view or function selects from


def queries(name: str) -> list[Query]:
    """The example queries of a view or function: those of its file, none if it has none."""
    path = QUERIES / f"{name}.sql"
    found = versions.statements(path.read_text(encoding="utf-8")) if path.exists() else []
    examples = []
    for text in found:
        sql = versions.statement_without_comments(text)
        comment = text.removesuffix(sql)
        examples.append(Query(" ".join(line.strip("- ") for line in comment.splitlines()).strip(), sql))
    return examples


def relations(spark: SparkSession) -> list[Relation]:
    """All tables, views and functions, by schema and name."""
    found = []
    for schema in SCHEMAS:
        tables = [row.tableName for row in spark.sql(f"SHOW TABLES IN {schema}").collect()]
        functions = [row.function for row in spark.sql(f"SHOW USER FUNCTIONS IN {schema}").collect()]
        of_schema = [_table(spark, schema, name) for name in tables]
        found += sorted(of_schema + [_function(spark, name.removeprefix("spark_catalog.")) for name in functions])
    return found


def markdown(spark: SparkSession, found: list[Relation]) -> str:
    """The part of the page that is made: a section for each schema and, below it, for each of its relations."""
    lines = []
    for schema in SCHEMAS:
        described = {row[0]: row[1] for row in spark.sql(f"DESCRIBE SCHEMA {schema}").collect()}
        lines += [f"## {schema}", "", f"{_sentence(described['Comment'])}", ""]
        for relation in found:
            if relation.name.startswith(f"{schema}."):
                lines += _section(relation)
    return "\n".join(lines)


def page(made: str) -> str:
    """The page: what is written by hand, and what was made. Raises ValueError if the line between them is gone."""
    by_hand, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE.name} has no line {MARK}")
    return f"{by_hand}{MARK}\n{made}"


def main() -> None:
    """Make the page from an empty lakehouse to which all of sql/ is applied."""
    from jobs.spark import start_session

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(warehouse=f"{folder}/warehouse", state=Path(folder) / "state", landing=folder)
        spark = start_session(settings)
        try:
            versions.apply_versions(spark, SQL, settings.warehouse)
            PAGE.write_text(page(markdown(spark, relations(spark))), encoding="utf-8")
        finally:
            spark.stop()
    sys.stdout.write(f"{PAGE.relative_to(PROJECT)} is made\n")


def _table(spark: SparkSession, schema: str, name: str) -> Relation:
    full = f"{schema}.{name}"
    fields = spark.table(full).schema.fields
    columns = [_column(full, each.name, each.dataType.simpleString(), each.metadata["comment"]) for each in fields]
    rows = spark.sql(f"DESCRIBE EXTENDED {full}").collect()
    detail = {row[0]: row[1] for row in rows[len(columns) :] if row[1]}
    is_view = detail["Type"] == "VIEW"
    headings = [row[0] for row in rows]
    partition = None if is_view else rows[headings.index("# Partition Information") + 2][0]
    reads = _reads(detail["View Text"]) if is_view else []
    return Relation(full, "view" if is_view else "table", detail["Comment"], [], columns, partition, reads)


def _function(spark: SparkSession, name: str) -> Relation:
    """Spark describes a function in lines `Heading:  text`; a line without a heading goes on with the one before."""
    parts: dict[str, list[str]] = {}
    heading = ""
    for row in spark.sql(f"DESCRIBE FUNCTION EXTENDED {name}").collect():
        found = re.match(r"(\w[\w ]*):\s+", row[0])
        heading = found[1] if found else heading
        parts.setdefault(heading, []).append(row[0][found.end() :] if found else row[0].strip())
    parameters, columns = ([_described(name, line) for line in parts.get(part, [])] for part in ("Input", "Returns"))
    reads = _reads(" ".join(parts["Body"]))
    return Relation(name, "function", " ".join(parts["Comment"]), parameters, columns, None, reads)


def _described(relation: str, line: str) -> Column:
    found = re.fullmatch(r"(\w+)\s+(\S+)\s+'(.*)'", line)
    if not found:
        raise ValueError(f"{relation}: no column with a comment: {line}")
    return _column(relation, found[1], found[2].lower(), found[3])


def _column(relation: str, name: str, type_: str, comment: str) -> Column:
    said = NULL.search(comment)
    return Column(name, type_, comment, said["when"] if said else NULL_WHEN.get(relation, {}).get(name, ""))


def _reads(sql: str) -> list[str]:
    return sorted(set(READ_FROM.findall(sql)))


def _section(relation: Relation) -> list[str]:
    arguments = ", ".join(f"{each.name} {each.type.upper()}" for each in relation.parameters)
    title = f"{relation.name}({arguments})" if relation.kind == "function" else relation.name
    facts = [f"A {relation.kind}."]
    if relation.partitioned_by:
        facts.append(f"Partitioned by `{relation.partitioned_by}`.")
    if relation.reads:
        facts.append(f"It reads {_listed(relation.reads)}.")
    lines = [f"### {title}", "", _sentence(relation.comment), " ".join(facts), ""]
    lines += ["| Column | Type | Unit | Meaning | Null |", "|---|---|---|---|---|"]
    lines += [
        f"| `{each.name}` | {each.type.upper()} | {each.unit} | {_cell(each.meaning)} | {_cell(each.null)} |"
        for each in relation.columns
    ]
    lines.append("")
    for query in queries(relation.name):
        lines += [query.question, "", "```sql", query.sql, "```", ""]
    return lines


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    main()
