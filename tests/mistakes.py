"""docs/mistakes.md, as tests compare it with what commands say."""

import re
import sys
from typing import NamedTuple

import pytest

from jobs.cli import main
from jobs.settings import PROJECT


def told(*headings: str) -> list[str]:
    """What the terminal says, by docs/mistakes.md, in the tables of these headings. `…` stands for any text."""
    found, heading = [], ""
    for line in (PROJECT / "docs" / "mistakes.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif heading in headings and line.startswith("| ") and not line.startswith("| What was done"):
            found.append(line.split(" | ")[1].strip("`"))
    return found


class Said(NamedTuple):
    """How a command ended."""

    status: int
    text: str  # of both outputs, blanks and the frames of boxes made one blank

    def says(self, text: str) -> bool:
        """Whether it says what a line of docs/mistakes.md says."""
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in text.split("…"))
        return bool(re.search(pattern, self.text))


def say(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """Run `lake` with arguments, in this process."""
    monkeypatch.setattr(sys, "argv", ["lake", *command])
    monkeypatch.setenv("LAKE_COMMAND", "lake")
    monkeypatch.setenv("COLUMNS", "200")  # tables
    monkeypatch.setenv("TERMINAL_WIDTH", "200")  # typer's own boxes
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    captured = capsys.readouterr()
    return Said(status, " ".join(re.sub(r"[│╭╮╰╯─]", " ", captured.out + captured.err).split()))
