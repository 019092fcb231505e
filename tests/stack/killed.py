"""Runs `lake run` and kills it at a point: killed.py MOMENT FUNCTION [TABLE] [SECONDS]

MOMENT is before, during (SECONDS after the call began) or after a call of FUNCTION (module.name in jobs), the first one
that has TABLE among its arguments. Spark starts at once, and the run when a line comes on standard input: so it can
start while another run is at work. Mounted into the job's container by tests/stack/test_faults.py.
"""

import importlib
import os
import signal
import sys
import threading
from typing import Any

from jobs import silver
from jobs.cli import app
from jobs.settings import Settings
from jobs.spark import start_session


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


moment, function, table, seconds = (*sys.argv[1:], "", "0")[:4]
module_name, _, name = function.rpartition(".")
module = importlib.import_module(f"jobs.{module_name}")
original = getattr(module, name)


def killing(*arguments: Any, **named: Any) -> Any:
    if table and table not in arguments:
        return original(*arguments, **named)
    if moment == "before":
        kill()
    if moment == "during":
        threading.Timer(float(seconds), kill).start()
    result = original(*arguments, **named)
    kill()
    return result


setattr(module, name, killing)
if moment == "during":
    # By tasks, as large loads are read and merged: their files are cut off, too.
    silver.LITTLE_FILES, silver.LITTLE_ROWS = 0, -1
start_session(Settings())
sys.stdin.readline()
app(["run"])
