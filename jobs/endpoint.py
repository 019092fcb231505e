"""The way to the SQL endpoint for the lakehouse's own commands."""

import os
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import meterlake
from jobs.users import JOBS

# Views of gold that are small for one date.
DATED = (
    "half_hourly_consumption",
    "daily_product_consumption",
    "half_hourly_product_consumption",
    "readings_without_agreement",
)


def connect(
    host: str, port: int, tls: Path, http: bool, user: str = JOBS, password: str | None = None
) -> meterlake.Connection:
    """A connection, by default as the user lake-jobs, whose password is LAKE_SQL_PASSWORD; `tls` is the certificate.

    That names the host by which people know it, and not `host`.

    Raises meterlake.OperationalError, CertificateError.
    """
    options: dict[str, Any] = {}
    if tls.exists():
        from jobs.certificate import host_name  # the health check is run often, and this takes a while to import

        options = {"tls": True, "certificate": str(tls), "server_name": host_name(tls)}
    if password is None:
        password = os.environ.get("LAKE_SQL_PASSWORD", "")
    return meterlake.connect(host, port, username=user, password=password, http=http, **options)


def warm_up(connection: meterlake.Connection) -> None:
    """Ask what analysts ask first, of the newest date: a Java that has just started is slow at what it does first.

    Where nothing was loaded yet, there is nothing to ask.
    """
    with suppress(meterlake.OperationalError), closing(connection.cursor()) as cursor:
        cursor.execute("SHOW SCHEMAS LIKE 'gold'")
        if not cursor.fetchone():
            return
        cursor.execute("SELECT max(date) FROM gold.half_hourly_consumption")
        (newest,) = cursor.fetchone() or (None,)
        if newest:
            cursor.execute(f"SELECT count(*) FROM gold.active_agreements_on(DATE '{newest}')")
            for view in DATED:
                cursor.execute(f"SELECT * FROM gold.{view} WHERE date = DATE '{newest}' LIMIT 100")
