"""Erased ids as LAKE_STATE keeps them: keys and hashes, and, until an erasure is done, the ids themselves.

`erasures/erased.json` outlives the warehouse: a backup that is put back brings ids back, and is cleaned by what this
file says. It goes into backups. `.pending.json` has ids, is readable by its owner alone, goes into no backup, and is
deleted when the erasure is done.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jobs import schedule_state
from jobs.errors import LakeError
from jobs.readings.erased import Erased, Stone, key_id

FOLDER, STONES, PENDING, RESTATE = "erasures", "erased.json", ".pending.json", "restate.json"


class KeyLost(LakeError):
    """Ids were erased, and the key of their hashes is not there: they could come back unseen."""


class Kept(NamedTuple):
    """A stone, and the erasure that it is of."""

    erasure: str
    stone: Stone


@dataclass
class State:
    """The content of erased.json."""

    keys: dict[str, bytes] = field(default_factory=dict)  # by their ids
    lost: set[str] = field(default_factory=set)  # ids of keys that a person gave up
    erasures: dict[str, dict[str, str]] = field(default_factory=dict)  # at, by, reason
    stones: list[Kept] = field(default_factory=list)

    def erased(self) -> Erased:
        """What tasks of a load look by."""
        return Erased.of(self.keys, [each.stone for each in self.stones])

    def key(self) -> bytes:
        """The key of new stones; it is made with the first one."""
        if not self.keys:
            made = secrets.token_bytes(32)
            self.keys[key_id(made)] = made
        return self.keys[min(self.keys)]

    def add(self, erasure: str, said: Mapping[str, str], stones: Iterable[Stone]) -> None:
        """Take stones of an erasure in, each once."""
        self.erasures.setdefault(erasure, dict(said))
        known = set(self.stones)
        self.stones += [kept for each in stones if (kept := Kept(erasure, each)) not in known]


@dataclass
class Pending:
    """An erasure that was begun."""

    meterpoints: list[str]
    accounts: list[str]
    tenancies: list[tuple[str, str, str]]  # meterpoint, first and last local date
    erasure: str = ""  # its id; none, if it only does an earlier one again
    said: dict[str, str] = field(default_factory=dict)  # at, by, reason
    restate: bool = False  # whether totals are to be built anew
    landing: bool = False  # whether files in the landing place go, too
    files: list[str] = field(default_factory=list)  # in the landing place, that may hold them
    dates: list[str] = field(default_factory=list)  # of which marts have something of them
    removed: dict[str, int] = field(default_factory=dict)  # by table, as found before anything went


def new_erasure() -> str:
    """An id of an erasure."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def read(state: Path) -> State:
    """What is kept; nothing, if nothing was ever erased. Raises LakeError where the file cannot be understood."""
    return read_file(state / FOLDER / STONES)


def read_file(path: Path) -> State:
    """The same of a file of that form."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return State()
    try:
        content = json.loads(text)
        return State(
            keys={name: bytes.fromhex(key) for name, key in content["keys"].items()},
            lost=set(content["lost"]),
            erasures=content["erasures"],
            stones=[Kept(each.pop("erasure"), _stone(each)) for each in content["stones"]],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LakeError(
            f"{path} is damaged: put it back from a backup. Erased ids could come back without it"
        ) from None


def _stone(row: Mapping[str, Any]) -> Stone:
    dates = {name: date.fromisoformat(row[name]) if row[name] else None for name in ("first_date", "last_date")}
    return Stone(**{**row, **dates})


def write(state: Path, content: State) -> None:
    """Replace what is kept, in one step."""
    _write(
        state,
        STONES,
        {
            "keys": {name: key.hex() for name, key in content.keys.items()},
            "lost": sorted(content.lost),
            "erasures": content.erasures,
            "stones": [
                {
                    "erasure": erasure,
                    **{
                        name: str(value) if isinstance(value, date) else value
                        for name, value in stone._asdict().items()
                    },
                }
                for erasure, stone in content.stones
            ],
        },
    )


def merge(state: Path, other: State) -> None:
    """Take in what another place kept: that of a backup, which is put back beside newer erasures."""
    here = read(state)
    here.keys |= other.keys
    here.lost = (here.lost | other.lost) - here.keys.keys()
    for erasure, stone in other.stones:
        here.add(erasure, other.erasures[erasure], [stone])
    write(state, here)


def pending(state: Path) -> Pending | None:
    """The erasure that was begun and is not done."""
    content = schedule_state.read(state / FOLDER, PENDING)
    if not content:
        return None
    return Pending(**content | {"tenancies": [tuple(each) for each in content["tenancies"]]})


def begin(state: Path, what: Pending) -> None:
    """From now on each run finishes it, until `end`."""
    _write(state, PENDING, asdict(what))


def end(state: Path, what: Pending) -> None:
    """It is done, but for the marts of dates that are to be built anew."""
    if what.restate and what.dates:
        _write(state, RESTATE, {"dates": sorted({*what.dates, *to_restate(state)})})
    (state / FOLDER / PENDING).unlink(missing_ok=True)


def to_restate(state: Path) -> set[str]:
    """Dates whose marts are to be built anew."""
    return set(schedule_state.read(state / FOLDER, RESTATE).get("dates", ()))


def restated(state: Path) -> None:
    """Forget the dates: their marts were built anew."""
    (state / FOLDER / RESTATE).unlink(missing_ok=True)


def _write(state: Path, name: str, content: dict[str, Any]) -> None:
    (state / FOLDER).mkdir(parents=True, exist_ok=True)
    (state / FOLDER).chmod(0o700)
    schedule_state.write(state / FOLDER, content, name)
