"""What executors on other machines need, without any."""

import socket
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from jobs import cluster
from jobs.cluster import SECRET
from jobs.settings import Settings
from jobs.spark import spark_conf
from jobs.thrift_server import endpoint_conf

LOCAL = LocalFileSystem()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "HOLD_SECONDS", 0)
    monkeypatch.setattr(cluster, "MASTER_SECONDS", 1)


@pytest.fixture
def master() -> Iterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def of_cluster(folder: Path, master: str = "spark://127.0.0.1:1") -> Settings:
    return Settings(spark_master=master, landing=str(folder / "landing"), state=folder)


def test_a_master_that_listens_is_taken__also_as_the_second_of_two(tmp_path: Path, master: str) -> None:
    for one in (f"spark://{master}", f"spark://127.0.0.1:1,{master}", f"k8s://http://{master}", "yarn"):
        cluster.require_master(of_cluster(tmp_path, one))


@pytest.mark.parametrize(
    "master", ["spark://127.0.0.1:1", "spark://127.0.0.1:1,127.0.0.1:2", "k8s://https://127.0.0.1:1"]
)
def test_a_master_that_does_not_answer_is_told_in_one_line(tmp_path: Path, master: str) -> None:
    with pytest.raises(RuntimeError) as raised:
        cluster.require_master(of_cluster(tmp_path, master))
    assert str(raised.value) == f"the master {master} (LAKE_SPARK_MASTER) does not answer: Connection refused"


@pytest.mark.parametrize("error", ["Cannot call methods on a stopped SparkContext.", "LiveListenerBus is stopped."])
def test_a_master_that_takes_no_application_is_told_as_that(error: str) -> None:
    assert "has it another secret (_SPARK_AUTH_SECRET)?" in cluster.why_no_session(error)
    assert cluster.why_no_session("no space left") == "no space left"


def test_no_setting_holds_a_key_or_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*cluster.KEYS, SECRET):
        monkeypatch.setenv(name, f"hidden-{name}")
    settings = of_cluster(tmp_path).model_copy(update={"s3_endpoint": "http://store:9000", "spark_cores": 3})

    conf = spark_conf(settings) | endpoint_conf(settings)

    assert "hidden" not in str(conf)
    assert (conf["spark.authenticate"], conf["spark.network.crypto.enabled"]) == ("true", "true")
    assert (conf["spark.cores.max"], conf["spark.executor.memory"]) == ("3", "1g")
    assert conf["spark.jars"] == "file:///opt/lake/endpoint-guard.jar"


def test_a_process_by_itself_has_nothing_of_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "hidden")
    settings = of_cluster(tmp_path, "local[2]")
    conf = spark_conf(settings) | endpoint_conf(settings)
    assert not {"spark.jars", "spark.authenticate.secret", "spark.executor.memory"} & conf.keys()
    assert "spark.authenticate" not in spark_conf(settings)


def test_ports_of_an_endpoint_by_itself_are_its_own_and_ask_for_a_secret(tmp_path: Path) -> None:
    conf = endpoint_conf(of_cluster(tmp_path, "local[2]"))
    assert {conf["spark.driver.bindAddress"], conf["spark.driver.host"]} == {"127.0.0.1"}
    assert conf["spark.authenticate"] == "true"


def test_a_cluster_without_a_secret_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET, raising=False)
    assert "spark.authenticate" not in spark_conf(of_cluster(tmp_path))
    assert spark_conf(of_cluster(tmp_path, "k8s://https://there"))["spark.authenticate"] == "true"


def test_the_archive_of_the_code_can_be_imported_from(tmp_path: Path) -> None:
    archive = cluster._archive_of_code(tmp_path)
    assert {"jobs/__init__.py", "jobs/silver.py", "jobs/readings/ingest.py"} <= set(zipfile.ZipFile(archive).namelist())
    assert [file.name for file in tmp_path.iterdir()] == ["jobs.zip"]


def test_what_an_executor_does_not_see_is_named(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.write_bytes(b"this")
    landing = (LOCAL, "/landing", {str(tmp_path): None})
    missing = (LOCAL, "/landing", {str(tmp_path): None, "/nowhere/readings": None})

    def problems(landing: cluster.Place, content: bytes, path: Path = mark) -> list[tuple[str, str]]:
        warehouse = (LOCAL, "/warehouse", {str(path): content})
        return [(each.folder, each.problem) for each in cluster.unseen([0], landing=landing, warehouse=warehouse)]

    assert problems(landing, b"this") == []
    assert list(tmp_path.iterdir()) == [mark]
    assert problems(missing, b"this") == [("/landing", "there is no /nowhere/readings")]
    assert problems(landing, b"that") == [("/warehouse", f"it has another {mark}")]
    assert problems(landing, b"this", tmp_path / "gone") == [("/warehouse", f"there is no {tmp_path}/gone")]


def test_a_few_entries_of_the_landing_place_are_looked_for(tmp_path: Path) -> None:
    readings = tmp_path / "landing" / "readings"
    readings.mkdir(parents=True)
    for number in range(10):
        (readings / f"{number}.json").touch()

    _, folder, paths = cluster._landing(of_cluster(tmp_path))

    assert folder == str(tmp_path / "landing")
    assert {folder, f"{folder}/readings"} < paths.keys()
    assert len(paths) == 2 + cluster.SOME  # the folder `readings` is one of the entries above it


def test_a_landing_place_in_a_store_is_the_same_everywhere(tmp_path: Path) -> None:
    settings = of_cluster(tmp_path).model_copy(
        update={"landing": "s3a://lake/landing", "s3_endpoint": "http://127.0.0.1:1"}
    )
    assert cluster._landing(settings)[2] == {}
