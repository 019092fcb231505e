"""The command line in this process, on the session of the tests: a Spark of its own would take seconds each time."""

from collections.abc import Callable

import pytest

from tests.integration.lake import Lake
from tests.mistakes import Said, say

Type = Callable[..., Said]


def on(lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Runs commands on a lakehouse of the tests."""
    for name in ("landing", "warehouse", "state", "reports"):
        monkeypatch.setenv(f"LAKE_{name.upper()}", str(getattr(lake.settings, name)))
    (lake.settings.state / "metastore").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr("jobs.spark.start_session", lambda settings: lake.spark)
    monkeypatch.setattr("jobs.overview.end_session", lambda spark, settings, overview: None)

    def typed(*command: str) -> Said:
        capsys.readouterr()
        return say([*command], monkeypatch, capsys)

    return typed
