"""Mutated readings and SQLite files, for as long as one likes: make fuzz MINUTES=10

Nothing may crash, nothing may hang, and of every file each row is either good or rejected. Prints how many were tried.
Half of the time the parser alone has input that atheris makes, where there is an atheris for the machine.
"""

import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from jobs import reference
from jobs.readings.rules import COLUMNS
from jobs.sample import write_sample
from tests.fuzz.parsed import parsed

FILES_A_ROUND = 2_000
SECONDS_A_FILE = 20
TOKENS = [
    b"null",
    b"NaN",
    b"-1",
    b"1e999",
    b"[]",
    b"{}",
    b'""',
    b'"\\ud800"',
    b"\xff\xfe",
    b"\x00",
    b'"data"',
    b"]",
    b",",
]

app = typer.Typer(add_completion=False)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The bytes with some of them changed, cut, doubled, moved or replaced by what parsers stumble over."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + chance.choice((1, 2, 8, 64, 1024)))
        kind = chance.randrange(6)
        if kind == 0 and changed[at:end]:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del changed[at:end]
        elif kind == 2:
            changed[at:at] = changed[at:end]
        elif kind == 3:
            changed[at:end] = chance.choice(TOKENS)
        elif kind == 4:
            changed[at:at] = chance.choice(TOKENS)
        else:
            del changed[at + chance.randrange(len(changed) - at + 1) :]
    return bytes(changed)


@contextmanager
def within(seconds: int, what: str) -> Iterator[None]:
    """Raises TimeoutError where the body hangs."""

    def hang(*_: object) -> None:
        raise TimeoutError(f"{what} hangs")

    signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def fuzz_readings(seeds: list[bytes], chance: random.Random) -> Counter[str]:
    """A round of readings files. Raises AssertionError where a file's rows are not all there, good or rejected."""
    found: Counter[str] = Counter()
    for number in range(FILES_A_ROUND):
        name = f"readings/{number}.json{chance.choice(('', '', 'l', '.gz'))}"
        with within(SECONDS_A_FILE, "parse_file"):
            found += parsed(name, mutated(chance.choice(seeds), chance))
    return found


def fuzz_reference(database: bytes, folder: Path, chance: random.Random) -> Counter[str]:
    """A round of SQLite files. Raises what read_reference may not raise."""
    found: Counter[str] = Counter()
    path = folder / "mutated.db"
    for _ in range(FILES_A_ROUND // 10):
        path.write_bytes(mutated(database, chance))
        with within(SECONDS_A_FILE, "read_reference"):
            try:
                reference.read_reference(path)
                found["SQLite files read"] += 1
            except reference.SnapshotRejected:
                found["SQLite files rejected"] += 1
    return found


def fuzz_parser(seeds: list[bytes], folder: Path, seconds: int) -> Counter[str]:
    """Run tests/fuzz/parser.py in a process of its own, which atheris ends."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(b"\xff" + content if content[:2] == b"\x1f\x8b" else b"\x00" + content)
    command = [sys.executable, "-m", "tests.fuzz.parser", f"-max_total_time={seconds}", str(corpus)]
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    done = re.search(r"Done (\d+) runs", run.stderr)
    if run.returncode or not done:
        raise AssertionError(run.stderr[-5000:])
    return Counter({"inputs of the parser by atheris": int(done[1])})


@app.command()
def main(minutes: Annotated[float, typer.Option(min=0)] = 10, seed: int = 1) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_sample(folder / "landing", meterpoints=5, days=1)
        seeds = [path.read_bytes() for path in sorted((folder / "landing/readings").rglob("*"))]
        seeds.append(json.dumps({"columns": list(COLUMNS), "data": [["2021-10-31 01:00:00", 1, "a"]] * 3}).encode())
        with sqlite3.connect(folder / "landing/case_study.db") as connection:
            connection.execute("VACUUM")
        database = (folder / "landing/case_study.db").read_bytes()
        found = Counter[str]()
        if find_spec("atheris"):
            found += fuzz_parser(seeds, folder, max(1, int(30 * minutes)))  # 0 is for ever
            minutes /= 2
        chance, ends = random.Random(seed), time.monotonic() + 60 * minutes
        rounds: list[Callable[[], Counter[str]]] = [
            lambda: fuzz_readings(seeds, chance),
            lambda: fuzz_reference(database, folder, chance),
        ]
        while True:
            for each in rounds:
                found += each()
            if time.monotonic() > ends:
                break
    for what, count in sorted(found.items()):
        print(f"{count:>12,} {what}")


app()
