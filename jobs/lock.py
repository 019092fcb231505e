"""One writer at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from jobs.errors import LakeError


class Busy(LakeError):
    """Another run holds the lock, and did not end in time."""


@contextmanager
def writer_lock(state: Path, wait_seconds: float) -> Iterator[None]:
    """Hold the writer's lock. The kernel gives it back when the process ends, however it ends, so none is left behind.

    Raises Busy if another run still holds it after `wait_seconds`.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lake.lock").open("w") as lock:
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(BlockingIOError),
                wait=wait_fixed(0.5),
                stop=stop_after_delay(wait_seconds),
            ):
                with attempt:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except RetryError:
            raise Busy(f"another run is at work and did not end in {wait_seconds:.0f} s; try again later") from None
        yield
