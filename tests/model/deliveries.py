"""What deliveries mean, in plain Python: the model that the lakehouse is held to.

A file's word on one meterpoint-day is a claim. A new version of a file replaces the file's claims on the
meterpoint-days that it speaks of. Of several files that have a half hour, the one modified last is believed, then the
greater path.
Nothing is taken away but by a retraction or a rollback.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple


class Reading(NamedTuple):
    """A good row of a file."""

    meterpoint_id: str
    start: datetime  # UTC; the days of these tests have no clock change, so that it is local time, too
    kwh: float


class Key(NamedTuple):
    """Whose word on what."""

    file: str
    meterpoint_id: str
    date: date


@dataclass(frozen=True)
class Claim:
    """What a version of a file says of one meterpoint-day."""

    load: str
    modified: datetime
    content: tuple[Reading, ...]  # of the whole version, by which it is recognised
    readings: dict[datetime, float]


@dataclass
class Deliveries:
    """What is believed after all that happened."""

    claims: dict[Key, Claim] = field(default_factory=dict)
    known: dict[str, tuple[Reading, ...]] = field(default_factory=dict)  # newest version read, by file
    undone: list[tuple[str, dict[Key, Claim]]] = field(default_factory=list)

    def load(self, load: str, files: Iterable[tuple[str, datetime, tuple[Reading, ...]]], again: bool = False) -> bool:
        """Take versions of files. `again`: they are read though their bytes are known."""
        before = dict(self.claims)
        for file, modified, content in files:
            if self.known.get(file) == content and not again:
                continue
            if again:
                self.claims = {
                    key: claim for key, claim in self.claims.items() if key.file != file or claim.content != content
                }
            self.known[file] = content
            for reading in content:
                key = Key(file, reading.meterpoint_id, reading.start.date())
                said = [each for each in content if (each.meterpoint_id, each.start.date()) == key[1:]]
                self.claims[key] = Claim(load, modified, content, {each.start: each.kwh for each in said})
        return self._happened(load, before)

    def retract(self, load: str, meant: Callable[[Key, Claim], bool]) -> bool:
        """Take claims away."""
        before = dict(self.claims)
        self.claims = {key: claim for key, claim in self.claims.items() if not meant(key, claim)}
        return self._happened(load, before)

    def rollback(self) -> None:
        """What the newest load that changed something did is undone."""
        _, self.claims = self.undone.pop()

    def _happened(self, load: str, before: dict[Key, Claim]) -> bool:
        if self.claims == before:
            return False
        self.undone.append((load, before))
        return True

    def believed(self) -> dict[tuple[str, datetime], tuple[float, str]]:
        """kWh and file by meterpoint and half hour."""
        found: dict[tuple[str, datetime], tuple[datetime, str, float]] = {}
        for key, claim in self.claims.items():
            for start, kwh in claim.readings.items():
                word = (claim.modified, key.file, kwh)
                slot = key.meterpoint_id, start
                found[slot] = max(found.get(slot, word), word, key=lambda each: each[:2])
        return {slot: (kwh, file) for slot, (_, file, kwh) in found.items()}
