"""How much of silver.readings a task of the SQL endpoint reads, by what a query asks for.

Takes a JSON list of conditions from the environment, and prints a JSON object: condition to size. Run by
tests/stack/test_small_queries.py with what the endpoint's container has: a table that is as small as that of the tests
is never read by tasks there.
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


def size(condition: str) -> str:
    rows = spark.table("silver.readings_by_layer").where(condition)
    read = rule.apply(rows._jdf.queryExecution().optimizedPlan()).collectLeaves().head()
    return str(read.relation().sparkSession().conf().get(SIZE))


print(json.dumps({condition: size(condition) for condition in json.loads(os.environ["CONDITIONS"])}))
