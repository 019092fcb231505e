"""The client's package, as pip installs it for an analyst."""

import re
import shutil
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest

from jobs.settings import PROJECT


@pytest.mark.parametrize(("pip", "extra"), [("pip==23.2.1", "sqlalchemy"), ("pip", "pandas")])
def test_an_old_and_a_new_pip_install_a_client_that_can_be_imported(tmp_path: Path, pip: str, extra: str) -> None:
    # A copy, because pip leaves what it builds beside the source.
    package = shutil.copytree(PROJECT / "meterlake", tmp_path / "source")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--upgrade", pip], check=True)
    subprocess.run([*install, f"{package}[{extra}]"], check=True)
    imports = "import importlib.metadata as m, meterlake, meterlake.dialect, sqlalchemy"
    if extra == "pandas":
        # All that the examples of its README import.
        readme = (package / "README.md").read_text()
        imports += "".join(f"\n{line}" for line in re.findall(r"^import .*", readme, re.MULTILINE))
        assert "pandas" in imports
    program = (
        f"{imports}\nprint(m.version('meterlake'), sqlalchemy.create_engine('meterlake://ana:x@lake/gold').driver)"
    )
    printed = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    version = tomllib.loads((PROJECT / "meterlake" / "pyproject.toml").read_text())["project"]["version"]

    assert printed == f"{version} thrift\n"
