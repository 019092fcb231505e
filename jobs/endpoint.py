"""The way to the SQL endpoint for the lakehouse's own commands."""

import os
from pathlib import Path
from typing import Any

import meterlake
from jobs.users import RESERVED


def connect(host: str, port: int, tls: Path, http: bool) -> meterlake.Connection:
    """A connection as the user lake-jobs, whose password is LAKE_SQL_PASSWORD; `tls` is the endpoint's certificate.

    That names the host by which people know it, and not `host`.

    Raises meterlake.OperationalError, CertificateError.
    """
    options: dict[str, Any] = {}
    if tls.exists():
        from jobs.certificate import host_name  # the health check is run often, and this takes a while to import

        options = {"tls": True, "certificate": str(tls), "server_name": host_name(tls)}
    password = os.environ.get("LAKE_SQL_PASSWORD", "")
    return meterlake.connect(host, port, username=RESERVED, password=password, http=http, **options)
