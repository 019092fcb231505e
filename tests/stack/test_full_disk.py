"""The object store's disk is full while a load writes."""

import io

from minio import Minio, S3Error
from minio.error import InvalidResponseError

from tests.stack.conftest import Stack
from tests.stack.test_faults import (
    Deliveries,
    assert_ended_with_a_clear_error,
    assert_next_run_makes_up_for_it,
    lake_with,
)

PIECE, MOST_PIECES = 2**20, 1000


def fill(store: Minio) -> list[str]:
    """Put objects into the bucket until no more fits. Returns their names.

    A store that is full refuses a piece before it has read all of it.
    """
    names: list[str] = []
    for number in range(MOST_PIECES):
        name = f"filler/{number}"
        try:
            store.put_object("lake", name, io.BytesIO(bytes(PIECE)), PIECE)
            names.append(name)
        except S3Error as error:
            if error.code == "XMinioStorageFull":
                return names
            assert error.code == "IncompleteBody"  # a part of the piece before was left in the connection
        except InvalidResponseError:
            pass  # that part was taken for a request
    raise AssertionError(f"{MOST_PIECES} pieces fit")


def test_a_load_on_a_full_disk_ends_with_an_error_and_the_next_one_makes_up_for_it(small: Stack) -> None:
    key = small.secret("LAKE_S3_ADMIN_SECRET")
    store = Minio(f"127.0.0.1:{small.s3_port}", access_key="lake-admin", secret_key=key, secure=False)
    before = small.query("SELECT date, sum(consumption_kwh) FROM gold.half_hourly_consumption GROUP BY date")
    deliveries = Deliveries(small.landing)
    deliveries.arrive()
    fillers = fill(store)
    assert len(fillers) > 20

    full = lake_with(small, "run")

    assert_ended_with_a_clear_error(full, "free drive threshold")
    assert small.query("SELECT date, sum(consumption_kwh) FROM gold.half_hourly_consumption GROUP BY date") == before
    for name in fillers:
        store.remove_object("lake", name)
    assert_next_run_makes_up_for_it(small)
