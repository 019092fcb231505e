"""The files of a backup: warehouse, reports, and the SQL endpoint's users and certificate.

The metastore's database is dumped before they are copied, never after: folders of the warehouse do not change once they
are written, so each one that the dump names is still there.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pyarrow.fs import FileSelector, LocalFileSystem, copy_files

from jobs.erasure import state as erasures
from jobs.settings import Settings
from jobs.stores import open_folder


def copy_out(settings: Settings, folder: Path) -> None:
    """Copy them to `folder`. Raises RuntimeError while an erasure is to be finished: its ids must not be in it."""
    if erasures.pending(settings.state):
        raise RuntimeError("an erasure was killed; `lake run` has to finish it first")
    file_system, warehouse = open_folder(settings.warehouse, settings.s3_endpoint)
    local = LocalFileSystem()
    copy_files(warehouse, str(folder / "warehouse"), source_filesystem=file_system, destination_filesystem=local)
    for name, path in _local_folders(settings).items():
        if path.exists():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns(".*"))  # locks, drafts, ids to erase
    if (stones := settings.state / erasures.FOLDER / erasures.STONES).exists():
        (folder / erasures.FOLDER).mkdir()
        shutil.copy2(stones, folder / erasures.FOLDER / erasures.STONES)


def copy_in(settings: Settings, folder: Path, kept: Path | None = None) -> None:
    """Copy them back. `kept` is a folder with lists of erased ids, which are not to come back.

    Raises RuntimeError where the warehouse is not empty, there is no backup, or it holds anything but files and
    folders: a link could name a file outside of the backup, such as one with the job's secrets.
    """
    if not (folder / "warehouse").is_dir():
        raise RuntimeError(f"{folder} is no backup: it has no folder warehouse")
    for entry in _entries(folder):
        if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
            raise RuntimeError(f"{entry.path} is a link or a special file: a backup holds files and folders alone")
    file_system, warehouse = open_folder(settings.warehouse, settings.s3_endpoint)
    if file_system.get_file_info(FileSelector(warehouse, allow_not_found=True)):
        raise RuntimeError(
            f"{settings.warehouse} is not empty: a backup is restored into an empty lakehouse (make clean)"
        )
    local = LocalFileSystem()
    copy_files(str(folder / "warehouse"), warehouse, source_filesystem=local, destination_filesystem=file_system)
    for name, path in _local_folders(settings).items():
        if (folder / name).exists():
            shutil.copytree(folder / name, path, dirs_exist_ok=True)
    # Ids that were erased since the backup was made are in the state that is there, and in what `make clean` kept.
    for path in (folder / erasures.FOLDER / erasures.STONES, *sorted(kept.glob("erased-*.json") if kept else ())):
        if path.exists():
            erasures.merge(settings.state, erasures.read_file(path))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All that is in a folder, at any depth. Links are named and not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))


def _local_folders(settings: Settings) -> dict[str, Path]:
    return {"reports": settings.reports, "users": settings.users.parent}
