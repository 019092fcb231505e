"""Reports of loads that are kept no longer: their pages, facts and Data Docs."""

from collections.abc import Collection
from datetime import date
from pathlib import Path
from shutil import rmtree

from jobs.quality import OF_LOADS
from jobs.reports import front, pages


def older(reports: Path, first: date) -> list[str]:
    """Ids of loads from before a date (UTC) of which there are reports, the oldest first."""
    found = {*front.load_ids(reports), *(folder.name for folder in _folders(reports))}
    return sorted(load_id for load_id in found if load_id < f"{first:%Y%m%d}")


def delete(reports: Path, load_ids: Collection[str]) -> None:
    """Delete what there is of these loads, and write the lists of their years anew. Facts go last: a run that is killed
    finds the load again."""
    gone = set(load_ids)
    for folder in _folders(reports):
        if folder.name in gone:
            rmtree(folder)
    for load_id in gone:
        (reports / pages.load_page(load_id)).unlink(missing_ok=True)
        front.facts_file(reports, load_id).unlink(missing_ok=True)
    front.write_years(reports, {load_id[:4] for load_id in gone})


def _folders(reports: Path) -> list[Path]:
    """Of results and their pages: kind, schema, table, load."""
    return [folder for kind in OF_LOADS for folder in (reports / kind).glob("*/*/*")]
