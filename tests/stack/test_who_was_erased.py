"""An erasure in the stack: afterwards the id is in no table, dump, report or file of state."""

import json
from pathlib import Path

from minio import Minio

from tests.holding import holding
from tests.integration.lake import COLUMNS, day
from tests.stack.conftest import Stack


def all_that_is_kept(stack: Stack, folder: Path) -> list[str]:
    """Copies of tables, the metastore's database, reports and state, below a folder. Returns the objects' names."""
    store = Minio(f"127.0.0.1:{stack.s3_port}", "lake-jobs", stack.secret("LAKE_S3_JOBS_SECRET"), secure=False)
    # What is empty marks a folder.
    names = [str(each.object_name) for each in store.list_objects("lake", recursive=True) if each.size]
    for name in names:
        store.fget_object("lake", name, str(folder / "tables" / name))
    dump = 'PGPASSWORD="$METASTORE_DB_PASSWORD" pg_dump --host=127.0.0.1 --username=metastore metastore'
    (folder / "dump.sql").write_text(stack.compose("exec", "-T", "metadata-db", "sh", "-c", dump).stdout)
    for place in ("reports:/srv/reports", "scheduler:/var/lib/lake/state"):
        stack.compose("cp", place, str(folder / place.split("/")[-1]))
    return names


def test_after_an_erasure_an_id_is_in_no_file_of_the_stack_and_does_not_come_back(stack: Stack, tmp_path: Path) -> None:
    [(gone, files)] = stack.query(
        "SELECT meterpoint_id, count(DISTINCT source_file) FROM gold.readings_enriched"
        " JOIN silver.readings USING (meterpoint_id, interval_start_utc) WHERE account_id IS NOT NULL"
        " GROUP BY 1 ORDER BY 1 DESC LIMIT 1"
    )
    assert files >= 1
    before, after = tmp_path / "before", tmp_path / "after"
    all_that_is_kept(stack, before)
    assert holding(gone, before)  # or nothing is shown
    [(others,)] = stack.query(f"SELECT count(*) FROM silver.readings WHERE meterpoint_id <> '{gone}'")

    erase = ["docker/lake", "erase", "--meterpoint", gone, "--reason", "asked for", "--yes"]
    done = stack.call(erase, timeout=600, check=True, LAKE_ERASE_WAIT_SECONDS="1")
    columns = json.dumps({"columns": COLUMNS, "data": day(gone, "2021-01-02", 0.5)})
    (stack.landing / "readings" / "once-more.json").write_text(columns)
    stack.make("run")

    assert all_that_is_kept(stack, after)
    assert holding(gone, after) == [], done.stderr
    assert stack.query("SELECT count(*) FROM silver.readings") == [(others,)]
    assert "asked for" in stack.lake("erase", "--list")
    (stack.landing / "readings" / "once-more.json").unlink()
