"""What the scripts in docker/ have for themselves."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from ruamel.yaml import YAML

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


FAKE_DOCKER = """#!/bin/sh
case "$1 $2" in
  "compose config") echo "name: lake" ;;
  "volume inspect") [ "$3" = lake_users ] ;;
  run*) [ -n "${FAKE_CERTIFICATE:-}" ] ;;
  *) exit 9 ;;
esac
"""


@pytest.mark.parametrize(
    ("line", "certificate", "refused"),
    [
        ("", False, None),
        ("LAKE_BIND=127.0.0.1", False, None),
        ("LAKE_BIND=127.8.8.8", False, None),
        ("LAKE_BIND=localhost", False, None),
        ("LAKE_BIND=[::1]", False, None),
        ("LAKE_BIND=0.0.0.0", False, "LAKE_BIND=0.0.0.0: the SQL endpoint has no certificate"),
        ("LAKE_BIND='192.0.2.7'", False, "LAKE_BIND=192.0.2.7: the SQL endpoint has no certificate"),
        ("LAKE_BIND=[::]", False, "LAKE_BIND=[::]: the SQL endpoint has no certificate"),
        ("LAKE_BIND=127.0.0.1.example.org", False, "LAKE_BIND=127.0.0.1.example.org: the SQL endpoint"),
        ("LAKE_BIND=0.0.0.0", True, None),
        ("LAKE_S3_BIND=0.0.0.0", True, "LAKE_S3_BIND=0.0.0.0: the object store has no TLS"),
        ("LAKE_DASHBOARD_BIND=0.0.0.0", True, "LAKE_DASHBOARD_BIND=0.0.0.0: the dashboard has no TLS"),
        ("LAKE_REPORTS_BIND=0.0.0.0", False, None),  # they ask for no password
        ("LAKE_BIND=0.0.0.0\nLAKE_S3_BIND=0.0.0.0\nLAKE_BIND_WITHOUT_TLS=true", False, None),
        ("LAKE_BIND=0.0.0.0\nLAKE_BIND_WITHOUT_TLS=false", False, "LAKE_BIND=0.0.0.0: the SQL endpoint"),
        *(
            (f"# a comment\n\n{line}", False, ".env line 3: NAME=value is meant")
            for line in ("export LAKE_BIND=0.0.0.0", " LAKE_BIND=0.0.0.0", "LAKE_BIND: 0.0.0.0", "LAKE_BIND =0.0.0.0")
        ),
        ("LAKE_BIND=0.0.0.0\nLAKE_BIND_WITHOUT_TLS=yes", False, "LAKE_BIND_WITHOUT_TLS=yes: true or false is meant"),
    ],
)
def test_an_address_of_the_network_is_refused_in_one_line_where_passwords_could_be_read(
    tmp_path: Path, line: str, certificate: bool, refused: str | None
) -> None:
    (tmp_path / "docker").mkdir()
    for script in ("value", "may-bind"):
        shutil.copy(PROJECT / "docker" / script, tmp_path / "docker")
    (tmp_path / ".env").write_text(f"{line}\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(FAKE_DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)

    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"} | ({"FAKE_CERTIFICATE": "1"} if certificate else {})
    done = subprocess.run(["docker/may-bind"], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert done.returncode == (1 if refused else 0)
    assert done.stderr.startswith(refused or "")
    assert done.stderr.count("\n") == (1 if refused else 0)


def test_opening_the_endpoint_opens_no_other_service() -> None:
    """Analysts see pseudonyms there; the reports name ids, and need no login."""
    compose = (PROJECT / "compose.yaml").read_text()
    assert re.findall(r"\$\{LAKE_BIND:-127\.0\.0\.1\}:\$\{(\w+)", compose) == ["LAKE_SQL_PORT"]


def test_misspelt_setting_of_the_stack__should_be_told(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    for script in ("value", "make-env"):
        shutil.copy(PROJECT / "docker" / script, tmp_path / "docker")
    shutil.copy(PROJECT / ".env.example", tmp_path)
    (tmp_path / ".env").write_text("LAKE_SQL_PORT=10001\nLAKE_LANDIGN_DIR=/data\nCOMPOSE_PROJECT_NAME=lake\n")

    done = subprocess.run(["docker/make-env"], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stderr == ("make-env: warning: LAKE_LANDIGN_DIR in .env is no setting; .env.example has them all\n")


RUNNING_STACK = """#!/bin/sh
case "$*" in
  info) ;;
  "compose ps --status running --quiet") echo running ;;
  compose*) shift 10; echo "$@"; cat ;;
  *) exit 9 ;;
esac
"""


@pytest.mark.parametrize(
    ("typed", "arguments", "given"),
    [
        (["periods", "set", "my periods.csv"], "-T jobs periods set - --name my periods.csv", "scheme,…\n"),
        (["periods", "set", "gone.csv"], "-T jobs periods set gone.csv", ""),
        (["periods", "show"], "-T jobs periods show", ""),
        (
            ["erase", "--file", "my periods.csv", "--reason", "by  letter", "--yes"],
            "--env LAKE_USER=me -T jobs erase --file - --reason by  letter --yes --name my periods.csv",
            "scheme,…\n",
        ),
        (["erase", "--file", "gone.csv"], "--env LAKE_USER=me -T jobs erase --file gone.csv", ""),
    ],
)
def test_a_file_is_handed_to_the_stack_from_where_the_caller_is(
    tmp_path: Path, typed: list[str], arguments: str, given: str
) -> None:
    (tmp_path / "lake/docker").mkdir(parents=True)
    shutil.copy(PROJECT / "docker/lake", tmp_path / "lake/docker")
    (tmp_path / "lake/.env").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(RUNNING_STACK)
    (tmp_path / "bin/docker").chmod(0o755)
    (tmp_path / "bin/id").write_text("#!/bin/sh\necho me\n")
    (tmp_path / "bin/id").chmod(0o755)
    (tmp_path / "my periods.csv").write_text("scheme,…\n")

    done = subprocess.run(
        ["lake/docker/lake", *typed],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
        input="",
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == f"{arguments}\n{given}"


@pytest.mark.parametrize(
    ("typed", "status"), [(["check"], 2), (["check", "--json"], 2), (["run"], 75), (["status"], 75)]
)
def test_a_stack_that_is_gone_is_critical_to_a_monitor_and_may_pass_for_a_load(
    tmp_path: Path, typed: list[str], status: int
) -> None:
    for name in ("bin", "docker"):
        (tmp_path / name).mkdir()
    shutil.copy(PROJECT / "docker/lake", tmp_path / "docker")
    (tmp_path / ".env").touch()
    (tmp_path / "bin/docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin/docker").chmod(0o755)

    done = subprocess.run(
        ["docker/lake", *typed],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("lake: no Docker engine answers")


STACK_TO_CLEAN = """#!/bin/sh
case "$*" in
  "compose config") echo "name: lake" ;;
  "compose ps --all --quiet scheduler") cat containers ;;
  "volume ls --quiet --filter name=^lake_state$") echo lake_state ;;
  "compose cp scheduler:/var/lib/lake/state/erasures/erased.json "*) cp stones "$4" ;;
  *--entrypoint*) cat stones ;;
  *down*) echo gone ;;
  *) exit 9 ;;
esac
"""


@pytest.mark.parametrize(("containers", "stones", "kept"), [("one", "ids", "ids"), ("", "ids", "ids"), ("", "", None)])
def test_who_was_erased_outlives_the_volumes(tmp_path: Path, containers: str, stones: str, kept: str | None) -> None:
    for name in ("bin", "docker"):
        (tmp_path / name).mkdir()
    shutil.copy(PROJECT / "docker/clean", tmp_path / "docker")
    (tmp_path / "bin/docker").write_text(STACK_TO_CLEAN)
    (tmp_path / "bin/docker").chmod(0o755)
    (tmp_path / "containers").write_text(containers)
    (tmp_path / "stones").write_text(stones)

    done = subprocess.run(
        ["docker/clean"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "FORCE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    found = [path.read_text() for path in (tmp_path / "backups").glob("erased-*.json")]
    assert (done.stdout, found) == ("gone\n", [kept] if kept else [])


def test_each_image_of_the_stack_is_built_by_one_service_and_asked_of_no_registry() -> None:
    services = YAML(typ="safe").load(PROJECT / "compose.yaml")["services"].values()
    builders = Counter(each["image"] for each in services if "build" in each)

    assert builders == Counter({each["image"] for each in services})
    assert {each.get("pull_policy") for each in services if "build" not in each} == {"never"}


def test_the_archive_of_classes_is_made_with_the_modules_that_its_image_has_by_then(tmp_path: Path) -> None:
    """The image copies the other ones later, so that their changes need no new archive."""
    dockerfile = (PROJECT / "docker/spark/Dockerfile").read_text()
    (copied,) = [line.split()[1:-1] for line in dockerfile.splitlines() if "jobs/class_archive.py" in line]
    for name in copied:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)

    subprocess.run([sys.executable, "-c", "import jobs.class_archive"], cwd=tmp_path, check=True, timeout=120)


ASK = """
source <(docker/lake completion bash)
complete -p lake
cd /
export LAKE_LANDIGN='a slip, which is not told while one types'
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _lake_completion lake; echo "${COMPREPLY[*]}"; }
ask lake re; ask lake quarantine ''; ask lake sql --format ''; ask lake rebuild --from-; ask lake history x
"""


def test_bash_completes_commands_options_and_values_and_leaves_files_to_itself() -> None:
    done = subprocess.run(
        ["bash", "-c", ASK],
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert (done.stdout.splitlines(), done.stderr) == (
        [
            "complete -o default -F _lake_completion lake",
            "retract reload rebuild",
            "list show retry dismiss",
            "table lines csv json",
            "--from-files",
            "",
        ],
        "",
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_calls_the_script_by_its_path_or_the_service_that_is_there(tmp_path: Path, shell: str) -> None:
    (tmp_path / "a lake" / "docker").mkdir(parents=True)
    script = tmp_path / "a lake" / "docker" / "lake"
    shutil.copy(PROJECT / "docker" / "lake", script)
    (tmp_path / "docker").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "docker").chmod(0o755)

    def called(**more: str) -> list[str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | more
        command = [str(script), "completion", shell]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    in_container = called(COMP_CWORD="2")
    (script.parents[1] / ".venv" / "bin").mkdir(parents=True)
    python = script.parents[1] / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\ncd {PROJECT} && exec .venv/bin/python "$@"\n')
    python.chmod(0o755)

    assert in_container[:3] == ["compose", "exec", "-T"]
    assert in_container[-4:] == ["scheduler", "lake", "completion", shell]
    assert {f"LAKE_COMMAND={script}", "COMP_CWORD=2"} <= set(in_container)
    assert f"'{script}'" in "\n".join(called())
