"""What differs from superset/config.py, for the example dashboard. Secrets are in the environment."""

import os
from pathlib import Path
from typing import Any

from cryptography import x509

HOME = Path(os.environ["SUPERSET_HOME"])
# The SQL endpoint's; empty where it speaks no TLS. Written by `make dashboard`.
CERTIFICATE = HOME / "endpoint.pem"

SECRET_KEY = os.environ["LAKE_DASHBOARD_SECRET"]
SQLALCHEMY_DATABASE_URI = f"sqlite:///{HOME / 'superset.db'}"
MAX_CONTENT_LENGTH = 16 * 1024 * 1024  # of a request, which is kept in memory
RATELIMIT_STORAGE_URI = "memory://"  # there is one process
# Pages load nothing from elsewhere and report to nobody; Superset's own list allows maps, examples and a usage counter.
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "script-src": ["'self'", "'strict-dynamic'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": False,
}


def DB_CONNECTION_MUTATOR(uri: Any, params: dict[str, Any], *_: Any) -> tuple[Any, dict[str, Any]]:
    """The SQL endpoint's address, password and certificate, so that no file and no export of Superset's has them."""
    if uri.drivername == "meterlake" and uri.username == "dashboard":
        host, port = os.environ["LAKE_ENDPOINT"].split(":")
        uri = uri.set(host=host, port=int(port), password=os.environ["LAKE_DASHBOARD_SQL_PASSWORD"])
        params["connect_args"] = {**params.get("connect_args", {}), "http": os.environ["LAKE_HTTP"] == "true"}
        if CERTIFICATE.exists() and CERTIFICATE.stat().st_size:
            # It names the host by which people know the endpoint.
            certificate = x509.load_pem_x509_certificate(CERTIFICATE.read_bytes())
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            hosts = [name.value for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
            name = str(hosts[0]).replace("*", "any", 1)
            params["connect_args"] |= {"tls": True, "certificate": str(CERTIFICATE), "server_name": name}
    return uri, params
