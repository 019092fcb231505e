"""Fifty analysts at once: once, or with `make soak-endpoint` for as long as one likes."""

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from tests.stack.conftest import Stack

CLIENTS = 50
SOAK_SECONDS = 60 * float(os.environ.get("LAKE_SOAK_MINUTES", 0))
QUERIES = 20 if SOAK_SECONDS else 8  # in each session
# Of mixed size, with answers that do not change.
MIXED = (
    "SELECT 1",
    "SELECT * FROM gold.daily_product_consumption WHERE date = DATE '2021-01-02' ORDER BY 1",
    "SELECT sum(consumption_kwh) FROM gold.half_hourly_product_consumption WHERE date = DATE '2021-01-03'",
    "SELECT count(*), max(consumption_kwh) FROM gold.readings_enriched",
    "SELECT meterpoint_id, count(*) FROM silver.readings WHERE date < DATE '2021-01-03' GROUP BY 1 ORDER BY 1",
)


def test_fifty_clients_at_once_get_right_answers(stack: Stack) -> None:
    right = {query: stack.query(query, "analyst") for query in MIXED}
    started = "{{.RestartCount}} {{.State.StartedAt}}"
    inspect = ["docker", "inspect", "--format", started, stack.container("sql-endpoint")]
    before = stack.call(inspect, timeout=60, check=True).stdout
    outcomes: list[str] = []
    seconds: list[float] = []
    ends = time.monotonic() + SOAK_SECONDS

    def session(choice: random.Random) -> None:
        with closing(stack.connect("analyst")) as connection:
            cursor = connection.cursor()
            for _ in range(QUERIES):
                query, began = choice.choice(MIXED), time.monotonic()
                cursor.execute(query)
                outcomes.append("right" if cursor.fetchall() == right[query] else f"wrong: {query}")
                seconds.append(time.monotonic() - began)

    def analyst(seed: int) -> int:
        choice, sessions = random.Random(seed), 0
        while not sessions or time.monotonic() < ends:
            sessions += 1
            try:
                session(choice)
            except Exception as error:
                outcomes.append(f"{type(error).__name__}: {str(error)[:300]}")
        return sessions

    with ThreadPoolExecutor(CLIENTS) as analysts:
        sessions = sum(analysts.map(analyst, range(CLIENTS)))

    memory = ["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", stack.container("sql-endpoint")]
    print(
        f"{len(outcomes)} queries in {sessions} sessions, the longest {max(seconds):.0f} s, "
        f"memory {stack.call(memory, timeout=60, check=True).stdout}"
    )
    assert Counter(outcomes) == {"right": sessions * QUERIES}
    assert stack.call(inspect, timeout=60, check=True).stdout == before
