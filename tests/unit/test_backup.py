"""What may be in a backup that is restored."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.backup import copy_in
from jobs.settings import Settings


def test_a_backup_that_holds_a_link_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    settings = Settings(
        warehouse=str(tmp_path / "lake" / "warehouse"),
        reports=tmp_path / "lake" / "reports",
        users=tmp_path / "lake" / "users" / "users.json",
        s3_endpoint=None,
    )
    secret = tmp_path / "secret"
    secret.write_text("not part of the backup")

    making: dict[str, Callable[[Path], None]] = {
        "warehouse/silver/link": lambda path: path.symlink_to(secret),
        "warehouse/silver/folder": lambda path: path.symlink_to(tmp_path),
        "warehouse/silver/loop": lambda path: path.symlink_to("."),
        "reports/environment": lambda path: path.symlink_to("/proc/self/environ"),
        "users/nowhere": lambda path: path.symlink_to("/nowhere"),
        "users": lambda path: path.symlink_to(tmp_path),
        "reports/pipe": os.mkfifo,
    }
    for number, (name, make) in enumerate(making.items()):
        backup = tmp_path / str(number)
        (backup / "warehouse" / "silver").mkdir(parents=True)
        (backup / "warehouse" / "silver" / "part.parquet").write_text("rows")
        (backup / name).parent.mkdir(exist_ok=True)
        make(backup / name)

        with pytest.raises(RuntimeError, match=f"{backup / name} is a link or a special file"):
            copy_in(settings, backup)
        assert not (tmp_path / "lake").exists()

    backup = tmp_path / "good"
    (backup / "warehouse" / "silver").mkdir(parents=True)
    (backup / "warehouse" / "silver" / "part.parquet").write_text("rows")
    copy_in(settings, backup)
    assert (tmp_path / "lake" / "warehouse" / "silver" / "part.parquet").read_text() == "rows"
