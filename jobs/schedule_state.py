"""Small JSON files in LAKE_STATE that are never half written."""

import json
from pathlib import Path
from typing import Any

from jobs.users import write_private

NAME = "schedule.json"
TRY_AGAIN = 75  # exit status of a load whose failure may pass; EX_TEMPFAIL in sysexits.h


def read(state: Path, name: str = NAME) -> dict[str, Any]:
    """The file's content; empty if there is none, or if it is not what was written here."""
    try:
        content = json.loads((state / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write(state: Path, content: dict[str, Any], name: str = NAME) -> None:
    """Replace the file in one step: a reader sees the old content or the new one."""
    state.mkdir(parents=True, exist_ok=True)
    write_private(state / name, json.dumps(content, indent=1))
