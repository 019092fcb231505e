"""The parser of readings files under atheris, which keeps what takes a new way through the code and mutates it further.

    python -m tests.fuzz.parser -max_total_time=SECONDS CORPUS

Part of `make fuzz`. Ends with an error, and the file that led to it, where a row is lost or the parser fails.
"""

import sys

import atheris

with atheris.instrument_imports(include=["jobs.readings"]):
    from tests.fuzz.parsed import parsed

# The first byte of an input chooses the file's name.
NAMES = ("readings/fuzz.json", "readings/fuzz.jsonl", "readings/fuzz.json.gz")


def parse(data: bytes) -> None:
    parsed(NAMES[data[0] % len(NAMES) if data else 0], data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, parse)
    atheris.Fuzz()
