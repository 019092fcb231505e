"""The walls of the stack: those behind the guard of the SQL endpoint, and those around each service."""

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from minio import Minio, MinioAdmin
from minio.credentials import AssumeRoleProvider, StaticProvider
from minio.error import MinioAdminException, S3Error

from tests.stack.conftest import LONG_RUNNING, REPOSITORY, Stack

SCRIPT = REPOSITORY / "tests" / "stack" / "behind_the_guard.py"
REFUSED = {
    "overwrite an object": "ACCESS_DENIED",
    "write an object": "ACCESS_DENIED",
    "delete an object": "ACCESS_DENIED",
    "read another folder": "ACCESS_DENIED",
    "list another folder": "ACCESS_DENIED",
    "drop a table": "permission denied for table",
    "make a database": "external path",
    "reach the jobs' metastore": "no such host",
    "reach the metastore's database": "no such host",
    "reach the Internet": "timed out",
    "change the program": "Read-only file system",
    "change the users": "Read-only file system",
    "become root": "Operation not permitted",
}


def test_without_the_guard_the_endpoint_can_still_only_read(stack: Stack) -> None:
    before = stack.query("SELECT count(*), sum(consumption_kwh) FROM silver.readings")

    # The endpoint's own container, of which only the command is another one: no Thrift server, and so no guard.
    run = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "python", "sql-endpoint", "-"]
    said = stack.compose(*run, stdin=SCRIPT.read_text()).stdout

    tried = json.loads(said.splitlines()[-1])
    outcome = tried["outcome"]
    assert [name for name, error in outcome.items() if error is None] == ["read a table", "read an object"]
    assert {name: error for name, error in REFUSED.items() if error not in str(outcome[name])} == {}, outcome
    assert set(outcome) == {"read a table", "read an object", *REFUSED}
    assert tried["secrets"] == ["AWS_SECRET_ACCESS_KEY", "LAKE_SQL_PASSWORD_HASH"]
    assert stack.query("SELECT count(*), sum(consumption_kwh) FROM silver.readings") == before


def test_no_service_reaches_the_internet_or_can_take_the_whole_machine(stack: Stack) -> None:
    call = "timeout 3 bash -c 'exec 3<>/dev/tcp/1.1.1.1/443' 2>/dev/null && echo reached"
    for service in LONG_RUNNING:
        assert stack.compose("exec", "-T", service, "bash", "-c", call, check=False).stdout == "", service
        inspected = stack.call(["docker", "inspect", stack.container(service)], timeout=60, check=True).stdout
        [container] = json.loads(inspected)
        assert container["HostConfig"]["Memory"] > 0, service
        assert container["HostConfig"]["PidsLimit"] > 0, service
        for network in container["NetworkSettings"]["Networks"]:
            [about] = json.loads(stack.call(["docker", "network", "inspect", network], timeout=60, check=True).stdout)
            masquerade = about["Options"].get("com.docker.network.bridge.enable_ip_masquerade")
            assert about["Internal"] or masquerade == "false", network
            # A network with a port is no way from one service to another.
            assert about["Internal"] or len(about["Containers"]) == 1, network


# Ports at which a service may be asked from its networks: each wants a password, or is for all.
PORTS = {
    "metadata-db": {5432},
    "object-store": {9000, 9001},
    "metastore": {9083},
    "metastore-read": {9083},
    "sql-endpoint": {10000, 9464},
    "reports": {8080},
    "scheduler": set[int](),
}


@pytest.mark.parametrize("service", PORTS)
def test_a_service_listens_at_its_own_ports_alone(stack: Stack, service: str) -> None:
    stack.query("SELECT count(*) FROM silver.readings")  # what opens ports may do so for the first query

    sockets = stack.compose("exec", "-T", service, "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.splitlines()

    listening = [line.split()[1].rsplit(":", 1) for line in sockets if " 0A " in line]
    # Of this machine alone: 127.x.x.x, also as an address of six, and ::1; as hexadecimal words, the last byte first.
    own = re.compile(r"(0000000000000000FFFF0000)?[0-9A-F]{6}7F|0{24}01000000")
    assert {int(port, 16) for address, port in listening if not own.fullmatch(address)} == PORTS[service]
    assert set(PORTS) == set(LONG_RUNNING)


def test_an_address_of_the_network_needs_a_certificate(stack: Stack) -> None:
    refused = stack.make("up", check=False, LAKE_BIND="0.0.0.0")

    assert refused.returncode != 0
    assert "LAKE_BIND=0.0.0.0: the SQL endpoint has no certificate" in refused.stderr


def test_a_leaked_secret_of_the_object_store_makes_no_keys_that_outlive_it(stack: Stack) -> None:
    address = f"127.0.0.1:{stack.s3_port}"

    def admin(user: str, secret: str) -> MinioAdmin:
        return MinioAdmin(endpoint=address, credentials=StaticProvider(user, secret), secure=False)

    secrets = {"lake-jobs": "LAKE_S3_JOBS_SECRET", "lake-endpoint": "LAKE_S3_ENDPOINT_SECRET"}
    for user, name in secrets.items():
        secret = stack.secret(name)
        thief = admin(user, secret)

        # As in a stack of a version that did not deny it.
        admin("lake-admin", stack.secret("LAKE_S3_ADMIN_SECRET")).policy_set("readwrite", user=user)
        made = json.loads(thief.add_service_account())["credentials"]
        assert Minio(address, made["accessKey"], made["secretKey"], secure=False).bucket_exists("lake")

        stack.compose("up", "--detach", "--wait", "--force-recreate", "--no-deps", "object-store-init", check=False)
        stack.compose("wait", "object-store-init", check=False)
        with pytest.raises(S3Error, match="InvalidAccessKeyId"):
            Minio(address, made["accessKey"], made["secretKey"], secure=False).list_buckets()
        with pytest.raises(MinioAdminException, match="AccessDenied"):
            thief.add_service_account()
        with pytest.raises(MinioAdminException, match="AccessDenied"):
            thief.user_list()
        # Temporary keys cannot be denied, but they end soon, whatever is asked for.
        year = 365 * 24 * 60 * 60
        role = AssumeRoleProvider(
            sts_endpoint=f"http://{address}", access_key=user, secret_key=secret, duration_seconds=year
        )
        ends = role.retrieve().expiration.replace(tzinfo=UTC)
        assert ends < datetime.now(UTC) + timedelta(minutes=61)
    assert stack.query("SELECT count(*) > 0 FROM silver.readings") == [(True,)]


def test_a_tampered_dump_reads_no_file_and_runs_no_program(stack: Stack) -> None:
    def archive(verb: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = ["docker", "compose", "exec", "-T", "metadata-db", "/usr/local/lib/metadata-db/archive", verb]
        return subprocess.run(command, cwd=REPOSITORY, env=stack.env, input=content, capture_output=True, timeout=120)

    dump = archive("dump").stdout
    # Statements stand in the dump as they are, with their lengths; another one of the same length goes unseen.
    original = max(re.findall(rb"CREATE TABLE public\.[^;]+;\n", dump), key=len)
    loot = "CREATE TABLE public.loot (line text); COPY public.loot FROM"
    for statement, error in (
        (f"{loot} PROGRAM 'id >/tmp/loot'", "permission denied to COPY to or from an external program"),
        (f"{loot} '/etc/passwd'", "permission denied to COPY from a file"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied for function pg_read_file"),
        ("SELECT lo_import('/etc/passwd')", "permission denied for function lo_import"),
        ("RESET SESSION AUTHORIZATION; ALTER ROLE metastore SUPERUSER", "permission denied to alter role"),
        ("CREATE EXTENSION file_fdw SCHEMA public", "permission denied to create extension"),
        ("GRANT pg_execute_server_program TO metastore", "permission denied to grant role"),
    ):
        tampered = archive("restore", dump.replace(original, f"{statement};\n".encode().ljust(len(original))))
        assert tampered.returncode != 0
        assert error in tampered.stderr.decode()
    # What psql would run is no archive to pg_restore.
    script = archive("restore", b"--\n-- PostgreSQL database dump\n--\n\n\\! touch /tmp/loot\n")
    assert script.returncode != 0
    assert "text format dump" in script.stderr.decode()

    assert "loot" not in stack.compose("exec", "-T", "metadata-db", "ls", "/tmp").stdout
    assert stack.query("SELECT count(*) > 0 FROM silver.readings") == [(True,)]
