"""The commands `lake periods`: by which times of day consumption is added up."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.terminal import AsJson, fail, say
from jobs.cli.work import anything_loaded, job, require_loads, runner
from jobs.settings import Settings
from jobs.wording import counted

app = typer.Typer(help="Time-of-use periods, of gold.period_consumption.", no_args_is_help=True)


@app.command("set")
def set_periods(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE.csv", help="Columns scheme, period, from, to, weekdays; - reads standard input."),
    ],
    name: Annotated[str | None, typer.Option(hidden=True, help="What messages call the file.")] = None,
) -> None:
    """Put the rules of a file in place of all that there are. They hold at once, for all dates."""
    require_loads(Settings())

    from jobs import periods, tables

    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise fail(f"{file}: {error.strerror}") from None
    try:
        rules = periods.read(content, name or ("standard input" if file == "-" else file))
    except periods.PeriodsError as error:
        for text in str(error).splitlines():
            fail(text)
        raise typer.Exit(1) from None
    with job() as this:
        spark = this.start_spark()
        with this.stage("set periods"):
            if not tables.exists(spark, tables.PERIODS):
                raise fail("the tables are of an older version: `lake run` first")
            periods.store(spark, rules)
        this.changed = False
    say(f"{counted(len({rule.scheme for rule in rules}), 'scheme')}, {counted(len(rules), 'rule')}")


@app.command()
def show(as_json: AsJson = False) -> None:
    """Print the rules that hold, as CSV that `lake periods set` takes."""
    from jobs import query as queries

    with runner() as query:
        if not anything_loaded(query, as_json=as_json):
            return
        rules = query(
            "SELECT scheme, period, time_from AS `from`, time_to AS `to`, weekdays FROM silver.time_of_use_periods"
            " ORDER BY scheme, weekdays, time_from"
        )
    queries.show(rules, queries.Format.json if as_json else queries.Format.csv)
