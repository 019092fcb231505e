"""How much of a table a task of the SQL endpoint reads, by what a query asks for.

Takes a JSON list of tables with conditions from the environment, and prints a JSON object: each with its size. Run by
tests/stack/test_small_queries.py with what the endpoint's container has: tables that are as small as those of the tests
are never read by tasks there.
"""

import json
import os
from typing import Any

from jobs.settings import Settings
from jobs.spark import start_session

SIZE = "spark.sql.files.maxPartitionBytes"

settings = Settings()
os.environ["PYSPARK_SUBMIT_ARGS"] = f"--driver-class-path {settings.endpoint_guard} pyspark-shell"
spark = start_session(settings)
spark.conf.set(SIZE, "2m")
java: Any = spark._jvm
rule = java.lake.guard.FewTasks()


def size(wanted: str) -> str:
    rows = spark.sql(f"SELECT * FROM {wanted}")
    read = rule.apply(rows._jdf.queryExecution().optimizedPlan()).collectLeaves().head()
    return str(read.relation().sparkSession().conf().get(SIZE))


print(json.dumps({wanted: size(wanted) for wanted in json.loads(os.environ["WANTED"])}))
