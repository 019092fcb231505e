"""Who may publish: one load at a time, under an id that is greater than all before it."""

import secrets
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import SparkSession

from jobs import tables
from jobs.errors import LakeError
from jobs.tables import LOADS, Locations
from jobs.telemetry import logs

_TIME = "%Y%m%dT%H%M%S"
WRITER = "writer"  # mark on ops.loads: the load that may publish
# A clock that is set while loads run may stand still for a moment; more than this is a clock that is wrong.
PATIENCE = timedelta(seconds=3)


class Overtaken(LakeError):
    """Another run has become the writer."""


class ClockBehind(LakeError):
    """The clock shows a time before the last load."""


def new_load_id(now: datetime, earlier: Iterable[str], *, accept_clock: bool = False) -> str:
    """An id that is greater than those of earlier loads, and tells the time (UTC) at which the load began to write.

    Loads are ordered by their ids, so one that came out smaller would be older than what it corrects. Where a clock is
    known to have been wrong, `accept_clock` takes the second after the last load instead of the time.

    Raises ClockBehind.
    """
    newest = max(earlier, default=None)
    last = started_at(newest) if newest else None
    now = now.replace(microsecond=0)
    if last and now <= last:
        if accept_clock:
            now = last + timedelta(seconds=1)
        elif last - now > PATIENCE:
            raise ClockBehind(
                f"the clock says {now:%Y-%m-%d %H:%M:%S} UTC, and the last load started at {last:%Y-%m-%d %H:%M:%S}:"
                " set the clock right. If that load ran with a wrong clock: `lake run --accept clock`"
            )
        else:
            time.sleep((last - now).total_seconds() + 1)
            now = last + timedelta(seconds=1)
    return f"{now:{_TIME}}-{secrets.token_hex(3)}"


def started_at(load_id: str) -> datetime:
    """When a load started, UTC, by its id."""
    return datetime.strptime(load_id.split("-")[0], _TIME).replace(tzinfo=UTC)


def day_of(load_id: str) -> date:
    """The UTC date on which a load started, by its id."""
    return started_at(load_id).date()


def writer(spark: SparkSession) -> str | None:
    """The load that may publish: the last one that called `become_writer`."""
    return tables.marked(spark, LOADS, WRITER)


def become_writer(spark: SparkSession, load_id: str, after: str | None) -> None:
    """From now on no other load can publish. `after` is who was the writer when this load looked at what there is.

    The lock of jobs.lock holds off runs on the same machine; this holds off those that do not see that lock, and those
    that slept while it was taken from them.

    Raises Overtaken if another load became the writer since then.
    """
    require_writer(spark, after)
    tables.mark(spark, LOADS, WRITER, load_id)
    logs.load_id.set(load_id)


def publish(spark: SparkSession, table: str, locations: Locations, load_id: str) -> Locations:
    """Switch partitions of a table for the load that is the writer, and return where they were before.

    Raises Overtaken if it no longer is the writer.
    """
    if not locations:
        return {}
    require_writer(spark, load_id)
    return tables.publish(spark, table, locations)


def require_writer(spark: SparkSession, expected: str | None) -> None:
    """Raises Overtaken if another load is the writer."""
    found = writer(spark)
    if found != expected:
        raise Overtaken(f"load {found} of another run came in between; this run publishes nothing more. Run it again")
