"""The examples for other schedulers, as far as they can be tried without one."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_cron_job_is_one_and_runs_no_two_loads_at_once() -> None:
    job = YAML(typ="safe").load(EXAMPLES / "kubernetes" / "cronjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    spec = job["spec"]
    assert (spec["timeZone"], spec["concurrencyPolicy"]) == ("Europe/London", "Forbid")
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # what podFailurePolicy needs
    (container,) = pod["containers"]
    assert container["args"] == ["run", "--no-sample"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_airflow_dag_compiles_and_calls_commands_that_exist() -> None:
    tree = ast.parse((EXAMPLES / "airflow" / "meter_lakehouse.py").read_text())
    compile(tree, "meter_lakehouse.py", "exec")
    commands = [each.values[1].value for each in ast.walk(tree) if isinstance(each, ast.JoinedStr)]  # type: ignore[attr-defined]
    assert commands == [" run --no-sample", " check || [ $? -eq 1 ]"]


def test_systemd_takes_the_timer_and_its_service(tmp_path: Path) -> None:
    for unit in (EXAMPLES / "systemd").iterdir():
        # The repository is elsewhere here.
        text = re.sub(r"/srv/meter-lakehouse/docker/lake", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(text)
    assert "Europe/London" in (tmp_path / "meter-lakehouse.timer").read_text()
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    units = [str(tmp_path / f"meter-lakehouse.{kind}") for kind in ("timer", "service")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "meter-lakehouse" in line]
    assert ours == []
