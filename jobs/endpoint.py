"""The way to the SQL endpoint for the lakehouse's own commands."""

import os
from pathlib import Path

import meterlake
from jobs.users import RESERVED


def connect(host: str, port: int, tls: Path, http: bool) -> meterlake.Connection:
    """A connection as the user lake-jobs, whose password is LAKE_SQL_PASSWORD; `tls` is the endpoint's certificate.

    That names the host by which people know it: here it must be this very certificate, whatever it names.

    Raises meterlake.OperationalError.
    """
    return meterlake.connect(
        host,
        port,
        username=RESERVED,
        password=os.environ.get("LAKE_SQL_PASSWORD", ""),
        http=http,
        tls=tls.exists(),
        certificate=str(tls) if tls.exists() else None,
        check_hostname=False,
    )
