"""Lines for people or for machines. LAKE_LOG_FORMAT: `text`, `json`, or `auto`, JSON where nobody watches."""

import json
import logging
import os
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

# The load that is at work, which each line of it names.
load_id: ContextVar[str | None] = ContextVar("load_id", default=None)


def is_json() -> bool:
    """Whether lines are JSON."""
    form = os.environ.get("LAKE_LOG_FORMAT")
    return form == "json" or (form == "auto" and not sys.stderr.isatty())


def line(level: str, message: str, **fields: Any) -> str:
    """One line of JSON. It has no place for settings, so that no secret can be in it but by the message."""
    named = {"load_id": load_id.get()} if load_id.get() else {}
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps(
        {"at": at, "level": level, **named, "message": message, **fields}, ensure_ascii=False, default=str
    )


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        trace = {"trace": self.formatException(record.exc_info)} if record.exc_info else {}
        return line(record.levelname.lower(), record.getMessage(), logger=record.name, **trace)


def set_up() -> None:
    """Have what libraries log, and errors that nobody caught, be lines of JSON, too, if lines are JSON."""
    if is_json():
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter())
        logging.basicConfig(handlers=[handler], level=logging.WARNING)
        logging.captureWarnings(True)
        sys.excepthook = lambda kind, error, trace: logging.critical("%s", error, exc_info=(kind, error, trace))
