"""What a person may let pass with `lake run --accept`, by the name that a message gives."""

from collections.abc import Collection

from jobs import quality
from jobs.errors import LakeError
from jobs.settings import EXPECTATIONS

# The suites' reasons come beside the first; the second is one of them that a load looks at itself, too.
CLOCK, FAULTS = "clock", "faults"


def require_known(accept: Collection[str]) -> None:
    """Read all suites before anything is written: a slip in one must not show when half of the load is done.

    Raises LakeError where a reason is none.
    """
    known = {CLOCK} | quality.acceptable(EXPECTATIONS)
    if unknown := sorted(set(accept) - known):
        raise LakeError(f"--accept {' '.join(unknown)}: there is no such reason; there are {', '.join(sorted(known))}")
