"""The command `lake`, run as a user runs it: in a process of its own, in a folder of its own."""

import json
import os
import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from jobs.settings import PROJECT
from tests.integration.lake import SHORT_LIVED_JVM

SECONDS = 900  # far more than a command takes, also where the stack's tests have the cores; a test must not hang


class Command:
    """Runs `python -m jobs …` in a folder, with the default settings unless others are given."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.landing = folder / "landing"
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("LAKE_", "SPARK_", "PYSPARK_"))
        }
        self.environment = inherited | {"PYTHONPATH": str(PROJECT), "NO_COLOR": "1", "COLUMNS": "200"}
        self.environment |= SHORT_LIVED_JVM | settings

    def __call__(self, *arguments: str, typed: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run to the end. `typed` is what stands on standard input."""
        return subprocess.run(
            self._argv(arguments),
            cwd=self.folder,
            env=self.environment,
            input=typed or "",
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start, and go on."""
        return subprocess.Popen(
            self._argv(arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def tables(self, *queries: str) -> list[list[dict[str, Any]]]:
        """The answers to queries, all in one process, since each start of Spark takes seconds."""
        done = self("sql", "--format", "json", typed=";\n".join(queries) + ";\n")
        assert done.returncode == 0, done.stderr
        decoder, answers, text = json.JSONDecoder(), [], done.stdout.strip()
        while text:
            answer, end = decoder.raw_decode(text)
            answers.append(answer)
            text = text[end:].strip()
        assert len(answers) == len(queries), done.stderr
        return answers

    @staticmethod
    def _argv(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "jobs", *arguments]


def as_json(value: Any) -> Any:
    """A value of the oracle as the command prints it in JSON."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return str(value) if isinstance(value, date | Decimal) else value
