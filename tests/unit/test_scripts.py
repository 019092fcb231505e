"""What the scripts in docker/ have for themselves."""

import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.settings import PROJECT


@pytest.mark.parametrize(
    ("line", "environment", "expected"),
    [
        ("LAKE_LANDING_DIR=/data/landing", {}, "/data/landing"),
        ("LAKE_LANDING_DIR='/data/the landing'", {}, "/data/the landing"),
        ('LAKE_LANDING_DIR="/data/landing"', {}, "/data/landing"),
        ("LAKE_LANDING_DIR=it's", {}, "it's"),
        ("LAKE_LANDING_DIR=first\nLAKE_LANDING_DIR=last", {}, "last"),
        ("LAKE_LANDING_DIR=/data", {"LAKE_LANDING_DIR": "/elsewhere"}, "/elsewhere"),
        ("#LAKE_LANDING_DIR=/data", {}, "landing"),
        ("LAKE_LANDING_DIR=", {"LAKE_LANDING_DIR": ""}, "landing"),
    ],
)
def test_scripts_read_a_setting_as_compose_does(
    tmp_path: Path, line: str, environment: dict[str, str], expected: str
) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(PROJECT / "docker/value", tmp_path / "docker")
    (tmp_path / ".env").write_text(f"OTHER=1\n{line}\n")

    command = ["docker/value", "LAKE_LANDING_DIR", "landing"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == f"{expected}\n"
