"""What one could do who has got past the guard: all attempts, in Python, with what the SQL endpoint's container has.

Prints a JSON object of what came of each: an error's text, or null if it was done. Run by tests/stack/test_walls.py.
"""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSelector

from jobs.settings import Settings
from jobs.spark import start_session
from jobs.stores import open_folder

outcome: dict[str, str | None] = {}


def attempt(name: str, action: Callable[[], Any]) -> None:
    try:
        action()
        outcome[name] = None
    except Exception as error:
        outcome[name] = str(error) or type(error).__name__


def reach(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except socket.gaierror:  # in words that depend on the resolver
        raise OSError("no such host") from None


settings = Settings()
store, bucket = open_folder("s3a://lake", settings.s3_endpoint)
spark = start_session(settings)
table = "silver.readings"
[readings_file, *_] = [file.removeprefix("s3a://lake") for file in spark.table(table).inputFiles()]

attempt("read a table", lambda: spark.table(table).count())
attempt("read an object", lambda: store.open_input_file(bucket + readings_file).read())

attempt("overwrite an object", lambda: store.open_output_stream(bucket + readings_file).close())
attempt("write an object", lambda: store.open_output_stream(f"{bucket}/warehouse/mine").close())
attempt("delete an object", lambda: store.delete_file(bucket + readings_file))
attempt("read another folder", lambda: store.open_input_file(f"{bucket}/landing/case_study.db").read())
attempt("list another folder", lambda: store.get_file_info(FileSelector(f"{bucket}/landing")))

attempt("drop a table", lambda: spark.sql(f"DROP TABLE {table}_by_layer"))
attempt("make a database", lambda: spark.sql("CREATE DATABASE mine"))
attempt("reach the jobs' metastore", lambda: reach("metastore", 9083))
attempt("reach the metastore's database", lambda: reach("metadata-db", 5432))

attempt("reach the Internet", lambda: reach("1.1.1.1", 443))

attempt("change the program", lambda: Path("/opt/lake/jobs/cli/__init__.py").write_text(""))
attempt("change the users", lambda: settings.users.write_text("{}"))
attempt("become root", lambda: os.setuid(0))
secrets = sorted(name for name, value in os.environ.items() if value and ("SECRET" in name or "PASSWORD" in name))
print(json.dumps({"outcome": outcome, "secrets": secrets}))
