"""The object store's disk is full while a load writes."""

import io
from collections.abc import Iterator

from minio import Minio, S3Error
from minio.error import InvalidResponseError

from tests.stack.conftest import Stack
from tests.stack.test_faults import (
    Deliveries,
    assert_ended_with_a_clear_error,
    assert_next_run_makes_up_for_it,
    lake_with,
)

PIECES, MOST_PIECES = (2**20, 2**16, 2**12, 1), 1000


def fill(store: Minio) -> list[str]:
    """Put objects into the bucket until not one byte fits. Returns their names.

    A store that has no room for a large piece still takes a small one, and a small load is small ones.
    """
    return [name for size in PIECES for name in pieces_that_fit(store, size)]


def pieces_that_fit(store: Minio, size: int) -> Iterator[str]:
    """Put objects of so many bytes into the bucket until no more fits; a full store refuses one before it is read."""
    for number in range(MOST_PIECES):
        name = f"filler/{size}-{number}"
        try:
            store.put_object("lake", name, io.BytesIO(bytes(size)), size)
            yield name
        except S3Error as error:
            if error.code == "XMinioStorageFull":
                return
            assert error.code == "IncompleteBody"  # a part of the piece before was left in the connection
        except InvalidResponseError:
            pass  # that part was taken for a request
    raise AssertionError(f"{MOST_PIECES} pieces of {size} bytes fit")


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
