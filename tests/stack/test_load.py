"""Fifty analysts at once."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from tests.stack.conftest import Stack

CLIENTS = 50
QUERIES = 8  # by each
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

    def analyst(seed: int) -> None:
        choice = random.Random(seed)
        try:
            with closing(stack.connect("analyst")) as connection:
                cursor = connection.cursor()
                for _ in range(QUERIES):
                    query = choice.choice(MIXED)
                    cursor.execute(query)
                    outcomes.append("right" if cursor.fetchall() == right[query] else f"wrong: {query}")
        except Exception as error:
            outcomes.append(f"{type(error).__name__}: {str(error)[:300]}")

    with ThreadPoolExecutor(CLIENTS) as analysts:
        list(analysts.map(analyst, range(CLIENTS)))

    assert Counter(outcomes) == {"right": CLIENTS * QUERIES}
    assert stack.call(inspect, timeout=60, check=True).stdout == before
