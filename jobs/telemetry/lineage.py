"""OpenLineage events of loads, START and then COMPLETE or FAIL, if OPENLINEAGE_URL says where to.

OPENLINEAGE_ENDPOINT, OPENLINEAGE_API_KEY and OPENLINEAGE_NAMESPACE mean what they do for other programs; the job is
`load`. A run's id is worked out from the load's, so that both find each other. What a receiver does not take is lost,
with a warning: a load does not wait for it.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.settings import Settings
from jobs.telemetry import logs

if TYPE_CHECKING:
    from jobs.quality import Verdict

SECONDS = 5  # that a receiver has
PRODUCER = "https://github.com/meter-lakehouse"


class Table(NamedTuple):
    """What a load says of a table that it wrote."""

    rows: int | None
    critical: bool  # whether all critical expectations held
    warnings: bool  # whether all others did


def is_wanted() -> bool:
    """Whether a receiver is set."""
    return bool(os.environ.get("OPENLINEAGE_URL"))


def run_id(load_id: str) -> str:
    """The id of the run of a load."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"meter-lakehouse/load/{load_id}"))


def tell(
    state: str,
    load_id: str,
    settings: Settings,
    *,
    tables: Mapping[str, Table] | None = None,
    error: str | None = None,
    warn: Callable[[str], None],
) -> None:
    """Send one event: START, COMPLETE or FAIL. `tables` are those that the load wrote, by name."""
    if not is_wanted():
        return
    try:
        _client().emit(_event(state, load_id, settings, tables or {}, error))
    except Exception as problem:
        # Whatever a client or its receiver does must not end a load.
        warn(f"no lineage was taken of the event {state}: {type(problem).__name__}")


def ended(
    settings: Settings,
    load_id: str,
    verdicts: "Iterable[Verdict]",
    readings: int,
    errors: Sequence[str],
    warn: Callable[[str], None],
) -> None:
    """Tell the end of a load: which tables were judged, and how. `readings` are the rows of silver.readings."""
    tables = {
        verdict.table: Table(
            readings if verdict.table == "silver.readings" else None, not verdict.critical, not verdict.warnings
        )
        for verdict in verdicts
    }
    error = "; ".join(errors) or None
    tell("FAIL" if error else "COMPLETE", load_id, settings, tables=tables, error=error, warn=warn)


def failed(settings: Settings, error: str, warn: Callable[[str], None]) -> None:
    """Tell that the load which is at work, if one is, did not come to its end."""
    if load_id := logs.load_id.get():
        tell("FAIL", load_id, settings, error=error, warn=warn)


def _client() -> Any:
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    # The client's own patience is five tries of five seconds.
    settings: dict[str, Any] = {
        "url": os.environ["OPENLINEAGE_URL"],
        "endpoint": os.environ.get("OPENLINEAGE_ENDPOINT") or "api/v1/lineage",
        "timeout": SECONDS,
        "retry": {"total": 0},
    }
    if key := os.environ.get("OPENLINEAGE_API_KEY"):
        settings["auth"] = {"type": "api_key", "apiKey": key}
    return OpenLineageClient(transport=HttpTransport(HttpConfig.from_dict(settings)))


def _event(state: str, load_id: str, settings: Settings, tables: Mapping[str, Table], error: str | None) -> Any:
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import (
        data_quality_assertions_dataset,
        error_message_run,
        output_statistics_output_dataset,
    )

    namespace = os.environ.get("OPENLINEAGE_NAMESPACE") or "meter-lakehouse"
    facets: dict[str, Any] = {}
    if error:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=error, programmingLanguage="python")
    outputs = []
    for name, (rows, critical, warnings) in sorted(tables.items()):
        assertions = [
            data_quality_assertions_dataset.Assertion(assertion="critical expectations", success=critical),
            data_quality_assertions_dataset.Assertion(assertion="warning expectations", success=warnings),
        ]
        quality = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=assertions)
        facets_of_table: dict[str, Any] = {"dataQualityAssertions": quality}
        output = OutputDataset(namespace=settings.warehouse, name=name, facets=facets_of_table)
        if rows is not None:
            facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)
            output.outputFacets = {"outputStatistics": facet}
        outputs.append(output)
    return RunEvent(
        eventType=RunState[state],
        eventTime=datetime.now(UTC).isoformat(),
        run=Run(runId=run_id(load_id), facets=facets),
        job=Job(namespace=namespace, name="load"),
        producer=PRODUCER,
        inputs=[InputDataset(namespace=settings.landing, name=name) for name in ("readings", "reference")],
        outputs=outputs,
    )
