"""The SQL endpoint's answering time, beside an untuned Thrift server and DuckDB on the same files, in one run.

    make bench-endpoint ARGS="--meterpoints 1000 --days 30"

It makes a stack of its own (Compose project meter-lakehouse-bench), loads a sample, and removes it again. The untuned
server is Spark's Thrift server as it comes, in a container of the same image, with the same memory, metastore and
object store; DuckDB reads the same Parquet files through Arrow from the same object store, in this process. The
contestants take turns, query by query, so that whatever else the machine does meets all alike. Times are those of
execute and fetch at the client, milliseconds.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pyarrow.dataset as ds
import typer
from dotenv import dotenv_values
from pyarrow.fs import S3FileSystem
from pyhive import hive

from tests.stack.conftest import REPOSITORY, free_port, running_stack

FIRST = date(2021, 1, 1)
QUERIES = {
    "active_agreements_on": "SELECT count(*) FROM gold.active_agreements_on({day})",
    "half_hourly_consumption": "SELECT * FROM gold.half_hourly_consumption WHERE date = {day}",
    "daily_product_consumption": "SELECT * FROM gold.daily_product_consumption WHERE date = {day}",
    "half_hourly_product_consumption": "SELECT * FROM gold.half_hourly_product_consumption WHERE date = {day}",
    "readings_without_agreement": "SELECT * FROM gold.readings_without_agreement WHERE date = {day}",
}
# What the views read, for DuckDB.
MARTS = {
    "half_hourly_consumption": "SELECT * FROM half_hourly WHERE date = {day}",
    "daily_product_consumption": "SELECT * FROM daily_by_product WHERE date = {day}",
    "half_hourly_product_consumption": "SELECT * FROM half_hourly_by_product WHERE date = {day}",
    "readings_without_agreement": """SELECT meterpoint_id, date, reading_count, consumption_kwh
        FROM daily_meterpoint_consumption WHERE date = {day} AND agreement_id IS NULL""",
}
# What dashboards ask of years, of each of these views; asked where the sample is longer than one year.
VIEWS = {name: MARTS[name].split("FROM ")[1].split()[0] for name in list(MARTS)[:3]}
OVER_YEARS = {
    "one day": "SELECT * FROM {view} WHERE date = DATE '{day}'",
    "one month": "SELECT * FROM {view} WHERE date >= DATE '{day}' AND date < DATE '{day}' + INTERVAL 1 MONTH",
    "one year": "SELECT date, sum(consumption_kwh) FROM {view}"
    " WHERE date BETWEEN DATE '{year}-01-01' AND DATE '{year}-12-31' GROUP BY date",
    "all years by month": "SELECT date_trunc('month', date), sum(consumption_kwh) FROM {view} GROUP BY 1",
    "max(date)": "SELECT max(date) FROM {view}",
}
UNTUNED = """
import os
from jobs.settings import Settings
from jobs.spark import java_home, spark_conf, spark_home
settings = Settings()
conf = spark_conf(settings) | {"spark.hadoop.hive.server2.thrift.port": "10000"}
os.environ["JAVA_HOME"] = str(java_home(settings.state))
submit = [f"{spark_home()}/bin/spark-submit"]
for key, value in conf.items():
    submit += ["--conf", f"{key}={value}"]
os.execv(submit[0], submit + ["--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2", "spark-internal"])
"""

Ask = Callable[[str], list[Any]]


def main(
    meterpoints: Annotated[int, typer.Option(help="Number of meterpoints.")] = 1000,
    days: Annotated[int, typer.Option(help="Number of days.")] = 30,
    rounds: Annotated[int, typer.Option(help="Measured queries of each kind.")] = 150,
    clients: Annotated[int, typer.Option(help="Clients at once, in the second part.")] = 20,
) -> None:
    """Measure, and print two tables in Markdown."""
    with tempfile.TemporaryDirectory() as folder, running_stack("meter-lakehouse-bench", Path(folder)) as stack:
        stack.landing.chmod(0o777)
        stack.make("sample", f"ARGS=--meterpoints {meterpoints} --days {days} --out /landing")
        stack.make("run", timeout=1800)
        stack.add_user("bench", "analyst")
        untuned_port = free_port()
        stack.compose(
            "run", "--detach", "--no-deps", "--publish", f"127.0.0.1:{untuned_port}:10000",
            "--env", "LAKE_STATE=/tmp/state", "--entrypoint", "python", "sql-endpoint", "-c", UNTUNED,
        )  # fmt: skip
        servers: dict[str, Callable[[], Any]] = {
            "endpoint": lambda: stack.connect("bench"),
            "untuned": lambda: hive.connect("127.0.0.1", untuned_port, username="bench", auth="NONE"),
        }
        asks = {who: _asker(_patiently(connect)) for who, connect in servers.items()}
        asks["DuckDB"] = _duckdb(stack.s3_port)

        times = {(name, who): list[float]() for name in QUERIES for who in asks}
        for turn in range(2 * rounds):
            day = f"DATE '{FIRST + timedelta(turn % days)}'"
            for name, query in QUERIES.items():
                for who, ask in asks.items():
                    if who == "DuckDB" and name not in MARTS:
                        continue
                    sql = (MARTS[name] if who == "DuckDB" else query).format(day=day)
                    took = _took(ask, sql)
                    if turn >= rounds:  # the first half warms up
                        times[name, who].append(took)
        print("\n| p50 / p99, ms | endpoint | untuned | DuckDB | endpoint : untuned | endpoint : DuckDB |")
        print("|---|---|---|---|---|---|")
        for name in QUERIES:
            mid = {who: statistics.median(times[name, who]) for who in asks if times[name, who]}
            cells = [f"{mid[who]:.0f} / {_p99(times[name, who]):.0f}" if who in mid else "–" for who in asks]
            ratios = [f"{mid['endpoint'] / mid[who]:.2f}" if who in mid else "–" for who in ("untuned", "DuckDB")]
            print(f"| `{name}` | {' | '.join([*cells, *ratios])} |")

        if days > 366:
            _over_years(asks, days, rounds // 5)
        print(f"\n| {clients} clients | queries a second | p50, ms | p99, ms |\n|---|---|---|---|")
        for who, connect in servers.items():
            rate, each = _at_once(connect, clients, days)
            print(f"| {who} | {rate:.1f} | {statistics.median(each):.0f} | {_p99(each):.0f} |")


def _over_years(asks: dict[str, Ask], days: int, rounds: int) -> None:
    """Print how long questions over years take: the first time that each is asked, and then the median."""
    print("\n| first / p50, ms | " + " | ".join(asks) + " |\n|---" + "|---" * len(asks) + "|")
    for view, mart in VIEWS.items():
        for name, query in OVER_YEARS.items():
            times: dict[str, list[float]] = {who: [] for who in asks}
            for turn in range(rounds + 1):
                day = FIRST + timedelta(turn * 37 % days)
                for who, ask in asks.items():
                    source = mart if who == "DuckDB" else f"gold.{view}"
                    times[who].append(_took(ask, query.format(view=source, day=day, year=day.year)))
            cells = [f"{each[0]:.0f} / {statistics.median(each[1:]):.0f}" for each in times.values()]
            print(f"| {view}, {name} | {' | '.join(cells)} |")


def _patiently(connect: Callable[[], Any]) -> Any:
    """The server takes its time to start."""
    for _ in range(60):
        try:
            return connect()
        except Exception:
            time.sleep(2)
    return connect()


def _asker(connection: Any) -> Ask:
    cursor = connection.cursor()

    def ask(sql: str) -> list[Any]:
        cursor.execute(sql)
        return list(cursor.fetchall())

    return ask


def _duckdb(port: int) -> Ask:
    secrets = dotenv_values(REPOSITORY / ".env")
    store = S3FileSystem(
        access_key="lake-admin", secret_key=secrets["LAKE_S3_ADMIN_SECRET"], endpoint_override=f"http://127.0.0.1:{port}",
        region="us-east-1",
    )  # fmt: skip
    connection = duckdb.connect()
    for mart in {query.split("FROM ")[1].split()[0] for query in MARTS.values()}:
        partitioning = ds.partitioning(flavor="hive")
        connection.register(
            mart, ds.dataset(f"lake/warehouse/mart/{mart}", filesystem=store, partitioning=partitioning)
        )

    def ask(sql: str) -> list[Any]:
        return connection.execute(sql).fetchall()

    return ask


def _took(ask: Ask, sql: str) -> float:
    start = time.perf_counter()
    ask(sql)
    return (time.perf_counter() - start) * 1000


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _at_once(connect: Callable[[], Any], clients: int, days: int, seconds: int = 30) -> tuple[float, list[float]]:
    """Queries a second of clients that each ask one after the other, and the time of each."""
    times: list[float] = []
    names = list(QUERIES)[1:]
    askers = [_asker(connect()) for _ in range(clients)]
    end = time.perf_counter() + seconds

    def client(ask: Ask, seed: int) -> None:
        choice = random.Random(seed)
        while time.perf_counter() < end:
            day = f"DATE '{FIRST + timedelta(choice.randrange(days))}'"
            times.append(_took(ask, QUERIES[choice.choice(names)].format(day=day)))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, askers, range(clients)))
    return len(times) / seconds, times


if __name__ == "__main__":
    typer.run(main)
