"""Lines for people or for machines: text on a terminal, JSON in containers (LAKE_LOG_FORMAT)."""

import json
import os
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

# The load that is at work, which each line of it names.
load_id: ContextVar[str | None] = ContextVar("load_id", default=None)


def is_json() -> bool:
    """Whether lines are JSON."""
    return os.environ.get("LAKE_LOG_FORMAT") == "json"


def line(level: str, message: str, **fields: Any) -> str:
    """One line of JSON. It has no place for settings, so that no secret can be in it but by the message."""
    named = {"load_id": load_id.get()} if load_id.get() else {}
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps(
        {"at": at, "level": level, **named, "message": message, **fields}, ensure_ascii=False, default=str
    )
