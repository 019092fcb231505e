"""What a load did, as a person reads it."""

import sys
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jobs.cli.terminal import console, fail, say, warn
from jobs.telemetry import logs
from jobs.wording import counted

if TYPE_CHECKING:
    from jobs.cli.work import Job
    from jobs.load import Summary


def print_end(job: "Job", summary: "Summary | None") -> None:
    """Say what a load did, and leave with the exit status that goes with it."""
    if summary is None:
        say(f"Nothing new in {job.settings.landing}.")
        return
    if logs.is_json():
        rows = {name: Text.from_markup(text).plain for name, text in rows_of(summary, job.stages)}
        print(logs.line("info", f"{summary.kind} ended", **rows), file=sys.stderr, flush=True)
    else:
        _print_table(summary, job.stages)
    for rejection in summary.rejections:
        say(f"rejected: {rejection}")
    if summary.rejections:
        rejected = summary.readings_rejected + summary.files.get("rejected", 0)
        some = f"Shown: {len(summary.rejections)} of {rejected:,}. " if len(summary.rejections) < rejected else ""
        say(f"{some}All: `lake quarantine list`; in full: tables quarantine.readings and quarantine.files")
    for warning in summary.warnings:
        warn(warning)
    say(f"Quality report: {job.settings.reports_url or job.settings.reports / 'index.html'}")
    if summary.published and summary.readings_loaded > summary.readings_rejected:
        say('Next: `lake sql -e "SELECT * FROM gold.daily_product_consumption LIMIT 10"`')
    for text in summary.errors:
        fail(text)
    if summary.errors:
        raise typer.Exit(1)


def _print_table(summary: "Summary", stages: dict[str, float]) -> None:
    table = Table(title=f"{summary.kind.capitalize()} {summary.load_id}", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows_of(summary, stages):
        shown = text.replace(", ", "\n") if name == "rejected" else text  # a reason a line
        table.add_row(name, shown if name != "status" or summary.published else f"[bold red]{shown}")
    console.print(table)


def _status(summary: "Summary") -> str:
    if not summary.published:
        return "not published"
    changed = summary.dates or summary.mart_dates or summary.snapshot_date or summary.undid
    return "published" if changed else "there was nothing to publish"


def rows_of(summary: "Summary", stages: dict[str, float]) -> list[tuple[str, str]]:
    """The lines of the table, each with its name."""
    dates = f"{summary.dates[0]} … {summary.dates[-1]} ({len(summary.dates):,})" if summary.dates else "none"
    files = ", ".join(f"{count:,} {status}" for status, count in sorted(summary.receipt.files.items())) or "none"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(summary.rejected_by_reason.items()))
    refused = "; ".join(f"rejected: {error}" for error in summary.reference_errors)
    checks = sum(verdict.evaluated for verdict in summary.verdicts)
    critical = sum(len(verdict.critical) for verdict in summary.verdicts)
    warned = sum(len(verdict.warnings) for verdict in summary.verdicts)
    rows = [
        ("status", _status(summary)),
        ("undid", summary.undid or ""),
        ("readings files", files),
        ("readings", f"{summary.readings_loaded:,} loaded, {summary.readings_rejected:,} rejected"),
        ("rejected", reasons),
        ("reference snapshot", refused or str(summary.snapshot_date or "no new one")),
        ("dates published" if summary.published else "dates not published", dates),
    ]
    if summary.changes:
        changed = [sum(counts) for counts in zip(*summary.changes.values(), strict=True)]
        rows.append(("on dates that had readings", "{:,} added, {:,} changed, {:,} removed".format(*changed[1:])))
    noticed = ", ".join(f"{count:,} {name}" for name, count in sorted(summary.receipt.warnings.items()))
    rows += [
        ("noticed", noticed),
        ("mart dates rebuilt", f"{len(summary.mart_dates):,}"),
        ("expectations", f"{checks:,} checked, {critical:,} critical failed, {counted(warned, 'warning')}"),
        ("total", f"{sum(stages.values()):.1f} s"),
    ]
    return [(name, escape(text)) for name, text in rows if text]
