"""The files of a backup. The metastore's database is dumped before they are copied, never after: folders do not change
once they are written, so each one that the dump names is still there."""

from pathlib import Path

from pyarrow.fs import FileSelector, LocalFileSystem, copy_files

from jobs.landing import open_folder
from jobs.settings import Settings


def copy_out(settings: Settings, folder: Path) -> None:
    """Copy warehouse and reports to `folder`."""
    file_system, warehouse = open_folder(settings.warehouse, settings.s3_endpoint)
    local = LocalFileSystem()
    copy_files(warehouse, str(folder / "warehouse"), source_filesystem=file_system, destination_filesystem=local)
    if settings.reports.exists():
        copy_files(str(settings.reports), str(folder / "reports"))


def copy_in(settings: Settings, folder: Path) -> None:
    """Copy warehouse and reports back. Raises RuntimeError where the warehouse is not empty, or there is no backup."""
    if not (folder / "warehouse").is_dir():
        raise RuntimeError(f"{folder} is no backup: it has no folder warehouse")
    file_system, warehouse = open_folder(settings.warehouse, settings.s3_endpoint)
    if file_system.get_file_info(FileSelector(warehouse, allow_not_found=True)):
        raise RuntimeError(
            f"{settings.warehouse} is not empty: a backup is restored into an empty lakehouse (make clean)"
        )
    local = LocalFileSystem()
    copy_files(str(folder / "warehouse"), warehouse, source_filesystem=local, destination_filesystem=file_system)
    if (folder / "reports").exists():
        copy_files(str(folder / "reports"), str(settings.reports))
