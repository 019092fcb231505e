"""OpenLineage events of loads: START, and then COMPLETE or FAIL.

They are sent where OPENLINEAGE_URL says so, or another setting that openlineage-python defines (OPENLINEAGE_CONFIG,
OPENLINEAGE__TRANSPORT__…, OPENLINEAGE_DISABLED). A run's id is worked out from the load's, so that both find each
other. A load waits for a receiver for SECONDS an event, and goes on with a warning.
"""

import logging
import os
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.quality import Verdict

SECONDS = 3.0
PRODUCER = "urn:meter-lakehouse"
LANDING = ("readings", "reference")

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """A load whose START was told."""

    kind: str
    load_id: str
    settings: Settings
    inputs: Collection[str]  # names of LANDING, or of tables


_at_work: Work | None = None


def is_wanted() -> bool:
    """Whether a receiver is set."""
    names = [name for name, value in os.environ.items() if value and name.startswith("OPENLINEAGE_")]
    set_by = any(name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG") or "__TRANSPORT" in name for name in names)
    return set_by and os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() != "true"


def run_id(load_id: str) -> str:
    """The id of the run of a load."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"meter-lakehouse/load/{load_id}"))


def begin(kind: str, load_id: str, settings: Settings, inputs: Collection[str], warn: Warn) -> None:
    """Tell that a load starts. `inputs` are what it reads: names of LANDING, or of tables."""
    global _at_work
    if is_wanted():
        _at_work = Work(kind, load_id, settings, inputs)
        _send("START", _at_work, warn)


def ended(
    spark: "SparkSession", verdicts: "Iterable[Verdict]", *, published: bool, errors: Sequence[str], warn: Warn
) -> None:
    """Tell the end of the load: FAIL if it was not published. Outputs are the tables that were judged."""
    global _at_work
    if work := _at_work:
        _at_work = None
        state = "COMPLETE" if published else "FAIL"
        _send(state, work, warn, "; ".join(errors), lambda: [_output(spark, work, each) for each in verdicts])


def failed(error: str, warn: Warn) -> None:
    """Tell that the load which is at work, if one is, did not come to its end."""
    global _at_work
    if work := _at_work:
        _at_work = None
        _send("FAIL", work, warn, error)


def _send(
    state: str, work: Work, warn: Warn, error: str = "", outputs: Callable[[], Sequence[Any]] = lambda: ()
) -> None:
    """Send an event in a thread, because no time-out of a client covers all that a receiver may do."""
    problems: list[str] = []

    def emit() -> None:
        try:
            _client().emit(event)
        except Exception as problem:  # without its text, which may hold the address
            problems.append(type(problem).__name__)

    try:
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of each try
        event = _event(state, work, error, outputs())
        thread = threading.Thread(target=emit, name="lineage", daemon=True)
        thread.start()
        thread.join(SECONDS)
        if thread.is_alive():
            problems.append(f"no answer in {SECONDS:g} s")
    except Exception as problem:  # whatever is wrong with an event must not end a load
        problems.append(type(problem).__name__)
    if problems:
        warn(f"the OpenLineage event {state} was not taken: {problems[0]}")


def _client() -> Any:
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    # Else the address of the repository would be sent, which may hold a token.
    config: dict[str, Any] = {"facets": {"source_code_location": {"disabled": True}}}
    url = os.environ.get("OPENLINEAGE_URL")
    if not url:
        return OpenLineageClient(config=config)
    settings: dict[str, Any] = {"url": url, "endpoint": os.environ.get("OPENLINEAGE_ENDPOINT") or "api/v1/lineage"}
    if key := os.environ.get("OPENLINEAGE_API_KEY"):
        settings["auth"] = {"type": "api_key", "apiKey": key}
    settings |= {"timeout": SECONDS, "retry": {"total": 0}}
    return OpenLineageClient(transport=HttpTransport(HttpConfig.from_dict(settings)), config=config)


def _event(state: str, work: Work, error: str, outputs: Sequence[Any]) -> Any:
    from openlineage.client.event_v2 import InputDataset, Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import error_message_run

    facets: dict[str, Any] = {}
    if error:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=error, programmingLanguage="python")
    return RunEvent(
        eventType=RunState[state],
        eventTime=datetime.now(UTC).isoformat(),
        run=Run(runId=run_id(work.load_id), facets=facets),
        job=Job(namespace=os.environ.get("OPENLINEAGE_NAMESPACE") or "meter-lakehouse", name=work.kind),
        producer=PRODUCER,
        inputs=[InputDataset(*_dataset(work.settings, name)) for name in work.inputs],
        outputs=list(outputs),
    )


def _dataset(settings: Settings, name: str) -> tuple[str, str]:
    """Namespace and name of a dataset, by OpenLineage's rules for files and for Hive."""
    if name not in LANDING:
        metastore = urlsplit(settings.metastore or "")
        return (f"hive://{metastore.netloc}" if metastore.netloc else f"file://{settings.warehouse}"), name
    place = urlsplit(settings.landing)
    folder = f"{place.path}/{name}".lstrip("/" if place.netloc else "")
    return (f"s3://{place.netloc}" if place.netloc else "file"), folder


def _output(spark: "SparkSession", work: Work, verdict: "Verdict") -> Any:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import (
        data_quality_assertions_dataset,
        output_statistics_output_dataset,
        schema_dataset,
    )

    facets: dict[str, Any] = {
        "schema": schema_dataset.SchemaDatasetFacet(
            fields=[
                schema_dataset.SchemaDatasetFacetFields(
                    name=column.name, type=column.dataType.simpleString(), description=column.metadata.get("comment")
                )
                for column in spark.table(verdict.table).schema.fields
            ]
        ),
        "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=[
                data_quality_assertions_dataset.Assertion(
                    assertion=check.rule, success=check.passed, severity="error" if check.is_critical else "warn"
                )
                for check in verdict.checks
            ]
        ),
    }
    output = OutputDataset(*_dataset(work.settings, verdict.table), facets=facets)
    if verdict.rows is not None:
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=verdict.rows)
        output.outputFacets = {"outputStatistics": statistics}
    return output
