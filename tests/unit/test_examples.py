"""The examples for other schedulers, as far as they can be tried without one."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from jobs.settings import Settings, unknown_names

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


def test_kubernetes_takes_each_manifest() -> None:
    """By the schemas of its newest version, where a key that it does not know is an error."""
    documents = [
        each for file in sorted((EXAMPLES / "kubernetes").iterdir()) for each in YAML(typ="safe").load_all(file)
    ]
    (settings,) = [each for each in documents if each["metadata"]["name"] == "meter-lakehouse-spark"]
    executor = YAML(typ="safe").load(settings["data"]["executor.yaml"])
    executor["spec"]["containers"][0]["image"] = "which Spark adds"

    for document in [*documents, executor]:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)

    assert {each["kind"] for each in documents} >= {"CronJob", "Deployment", "Service", "ConfigMap", "Role"}


def test_what_pods_mount_and_are_told_is_there_and_known() -> None:
    documents = list(YAML(typ="safe").load_all(EXAMPLES / "kubernetes" / "cluster.yaml"))
    maps = {each["metadata"]["name"]: each["data"] for each in documents if each["kind"] == "ConfigMap"}
    cron_job, deployment = (
        next(each for each in documents if each["kind"] == kind) for kind in ("CronJob", "Deployment")
    )
    pods = [cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"], deployment["spec"]["template"]["spec"]]

    for pod in pods:
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert {each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each} <= maps.keys()
        given = {name: value for name, value in maps["meter-lakehouse"].items() if name.startswith("LAKE_")}
        given |= {each["name"]: each["value"] for each in container["env"] if each["name"].startswith("LAKE_")}
        assert unknown_names(given) == []
        Settings.model_validate(
            {name.removeprefix("LAKE_").lower(): value for name, value in given.items()} | {"metastore_jars": "/jars"}
        )


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
