"""The doctor sees each trouble that is made here, and says what to do about it."""

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs import doctor
from jobs.doctor import Finding, Output

GIB = 2**30
NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


def answering(**answers: Output) -> doctor.Run:
    """A machine whose programs say what is given: by the words of the command that tell it from others."""

    def run(command: list[str]) -> Output:
        spoken = " ".join(command)
        return next((output for word, output in answers.items() if word in spoken), Output(127, ""))

    return run


def info(version: str = "27.1.0", memory: int = 16 * GIB, clock: str | None = None) -> Output:
    return Output(0, f"{version}|{memory}|{clock or datetime.now(UTC).isoformat()}|/\n")


@pytest.mark.parametrize(
    ("answer", "level", "cure"),
    [
        (Output(127, ""), "warning", "not installed"),
        (Output(1, "permission denied while trying to connect"), "trouble", "usermod -aG docker"),
        (Output(1, "Cannot connect to the Docker daemon"), "trouble", "start Docker"),
        (info(version="19.3.1"), "trouble", "20.10 is the oldest"),
    ],
)
def test_an_engine_that_cannot_be_used_is_told_with_its_cure(answer: Output, level: str, cure: str) -> None:
    first = doctor.engine(answering(info=answer, compose=Output(0, "2.40.3")))[0]

    assert (first.level, first.about) == (level, "docker")
    assert cure in first.text


def test_a_small_engine_an_old_and_a_missing_plug_in_are_told() -> None:
    small = doctor.engine(answering(info=info(memory=4 * GIB), compose=Output(0, "2.1.0")))
    without = doctor.engine(answering(info=info(), compose=Output(1, "is not a docker command")))
    well = doctor.engine(answering(info=info(), compose=Output(0, "2.40.3")))

    assert {("warning", "memory"), ("trouble", "compose")} <= {(each.level, each.about) for each in small}
    assert without[-1].level == "trouble" and "docker-compose-plugin" in without[-1].text
    assert {each.level for each in well if each.about != "disk"} == {"ok"}


@pytest.mark.parametrize(("seconds", "level"), [(0, "ok"), (59, "ok"), (-300, "trouble"), (86_400, "trouble")])
def test_a_clock_that_stood_still_is_told(seconds: int, level: str) -> None:
    clock = (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", ".123456789Z")

    assert doctor.drift(clock, NOW).level == level
    assert doctor.drift(clock.replace("Z", "+00:00"), NOW).level == level
    assert doctor.drift("yesterday", NOW).level == "warning"


def test_a_port_that_another_program_has_is_told_and_one_of_the_stack_is_not() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        (taken,) = doctor.ports({"LAKE_SQL_PORT": port}, ours=[])
        (ours,) = doctor.ports({"LAKE_SQL_PORT": port}, ours=[port])

    assert taken.level == "trouble" and f"{port} is taken" in taken.text and "LAKE_SQL_PORT=" in taken.text
    assert ours.level == "ok"


def test_services_that_are_half_started_are_named() -> None:
    listed = [
        {
            "Service": "sql-endpoint",
            "State": "running",
            "Health": "unhealthy",
            "Publishers": [{"PublishedPort": 10000}],
        },
        {"Service": "metastore", "State": "restarting", "Health": "", "Publishers": None},
        {"Service": "object-store", "State": "running", "Health": "healthy"},
        {"Service": "metastore-schema", "State": "exited", "Health": "", "ExitCode": 0},
    ]
    as_lines = answering(ps=Output(0, "\n".join(map(json.dumps, listed))))
    as_list = answering(ps=Output(0, json.dumps(listed)))

    found, published = doctor.services(as_lines)

    assert doctor.services(as_list) == (found, published)
    assert [each.text.split(":")[0] for each in found] == ["sql-endpoint is unhealthy", "metastore is restarting"]
    assert published == [10000]
    assert doctor.services(answering()) == ([], [])


def test_a_landing_place_that_the_containers_cannot_read_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    place = tmp_path / "landing"
    (place / "readings").mkdir(parents=True)
    file = place / "readings" / "a.json"
    file.write_text("{}")
    stranger = 12345

    well = doctor.landing(place, stranger, stranger)
    file.chmod(0o600)
    closed_file = doctor.landing(place, stranger, stranger)
    own = doctor.landing(place, os.getuid(), os.getgid())
    tmp_path.chmod(0o700)
    closed_folder = doctor.landing(place, stranger, stranger)

    assert (well.level, own.level) == ("ok", "ok")
    assert closed_file.level == "trouble" and str(file) in closed_file.text and "chmod -R o+rX" in closed_file.text
    assert closed_folder.level == "trouble" and f"chmod o+x {tmp_path}" in closed_folder.text
    assert doctor.landing(tmp_path / "none", stranger, stranger).level == "ok"


def test_secrets_that_others_may_read_are_told(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert doctor.secrets(file).level == "ok"
    file.write_text("LAKE_SQL_PORT=1\nLAKE_SQL_PORT='10001'\n")
    file.chmod(0o644)

    open_file = doctor.secrets(file)
    file.chmod(0o600)

    assert open_file.level == "warning" and "chmod 600" in open_file.text
    assert doctor.secrets(file).level == "ok"
    assert doctor.setting("LAKE_SQL_PORT", "10000", {}, file) == "10001"
    assert doctor.setting("LAKE_SQL_PORT", "10000", {"LAKE_SQL_PORT": "7"}, file) == "7"
    assert doctor.setting("LAKE_S3_PORT", "9000", {}, file) == "9000"


def test_a_disk_an_old_python_and_what_cannot_be_reached_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISK_GIB", 10**9)

    assert doctor.disk("/").level == "warning"
    assert doctor.python((3, 10)).level == "warning"
    assert doctor.packages("https://127.0.0.1:9/").level == "warning"


def test_it_runs_on_python_alone_and_its_exit_status_says_whether_something_is_in_the_way() -> None:
    environment = {"PATH": "/nonexistent", "LAKE_SQL_PORT": "10000"}
    command = [sys.executable, "-S", "-m", "jobs.doctor", "--json"]

    ended = subprocess.run(
        command, cwd=doctor.REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    found = [Finding(**each) for each in json.loads(ended.stdout)]
    assert ended.returncode == int(any(each.level == "trouble" for each in found))
    assert Finding("warning", "docker", "it is not installed: without it `make run` works embedded") in found
