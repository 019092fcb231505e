"""Python client (DB-API 2.0) of the meter lakehouse's SQL endpoint: PyHive, with what PyHive lacks.

TLS with a checked certificate, queries that end when their client does, dates as dates, and errors in one line.
"""

import base64
import http.client
import logging
import re
import socket
import ssl
from contextlib import suppress
from datetime import date
from http import HTTPStatus
from typing import Any

import thrift_sasl
from pyhive import hive
from pyhive.exc import (
    DatabaseError,
    DataError,
    Error,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
)
from pyhive.hive import apilevel, paramstyle, threadsafety
from pyhive.sasl_compat import PureSASLClient
from TCLIService.ttypes import TOperationState
from thrift.protocol.TProtocol import TProtocolException
from thrift.transport.THttpClient import THttpClient
from thrift.transport.TSocket import TSocket
from thrift.transport.TSSLSocket import TSSLSocket
from thrift.transport.TTransport import TTransportException

__all__ = [
    "Connection",
    "ConnectionLost",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Error",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Warning",
    "apilevel",
    "connect",
    "first_line",
    "paramstyle",
    "threadsafety",
]

# What thrift logs is raised, too.
logging.getLogger("thrift").addHandler(logging.NullHandler())

LOST = (TTransportException, TProtocolException, OSError, EOFError, http.client.HTTPException)
AT_WORK = (TOperationState.INITIALIZED_STATE, TOperationState.PENDING_STATE, TOperationState.RUNNING_STATE)


class ConnectionLost(OperationalError):  # type: ignore[misc] # PyHive has no types
    """The session is gone, because the endpoint or the network between failed. A new connection may work."""


def connect(
    host: str,
    port: int = 10000,
    *,
    username: str,
    password: str,
    database: str = "default",
    http: bool = False,
    tls: bool = False,
    certificate: str | None = None,
    server_name: str | None = None,
) -> "Connection":
    """A connection to the SQL endpoint; over HTTP where that is what it speaks.

    `tls` encrypts it and checks the server's certificate: against the system's authorities, or against those in the PEM
    file `certificate`, which may be the server's own. `server_name` is the name that must be in it, where the server is
    reached under another one.

    Raises OperationalError where no endpoint answers, its certificate will not do, or the password is wrong.
    """
    name = server_name or host
    in_url = f"[{name}]" if ":" in name else name
    context = None
    if tls:
        context = ssl.create_default_context(cafile=certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a certificate that is trusted by itself
    if http and ":" in password:
        raise OperationalError("over HTTP the endpoint takes no password with a ':'")
    if http:
        transport = _HTTP((host, port), f"{'https' if tls else 'http'}://{in_url}:{port}/cliservice", context)
        credentials = base64.b64encode(f"{username}:{password}".encode()).decode()
        transport.setCustomHeaders({"Authorization": f"Basic {credentials}"})
    else:
        stream = _TLSSocket(host, port, name, context) if context else TSocket(host, port)
        transport = thrift_sasl.TSaslClientTransport(
            lambda: PureSASLClient(host, username=username, password=password, service=None), "PLAIN", stream
        )
    try:
        return Connection(thrift_transport=transport, username=username, database=database)
    except (TTransportException, OSError) as error:
        raise OperationalError(f"{host}:{port}: {getattr(error, 'inner', None) or error}") from error


class _HTTP(THttpClient):  # type: ignore[misc] # thrift has no types
    def __init__(self, address: tuple[str, int], url: str, context: ssl.SSLContext | None) -> None:
        super().__init__(url, ssl_context=context)
        if self.using_proxy():  # of the environment; the endpoint is reached without
            self.host, self.port, self.realhost = self.realhost, self.realport, None  # type: ignore[has-type]
        self.address = address

    def open(self) -> None:
        super().open()
        # The host of the URL is the one that the certificate names; this is where it is. http.client has no other way.
        self._THttpClient__http._create_connection = lambda _, *rest: socket.create_connection(self.address, *rest)

    def flush(self) -> None:
        super().flush()
        if self.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise TTransportException(message="wrong user name or password")
        if self.code != HTTPStatus.OK:
            raise TTransportException(message=f"{self.code} {self.message}")

    def close(self) -> None:
        if self.isOpen():  # PyHive closes what was not opened, too
            super().close()


class _TLSSocket(TSSLSocket):  # type: ignore[misc]
    def __init__(self, host: str, port: int, name: str, context: ssl.SSLContext) -> None:
        # OpenSSL checks the certificate.
        super().__init__(host, port, ssl_context=context, server_hostname=name, validate_callback=lambda *_: None)

    def close(self) -> None:
        if self.handle:  # or the error of an attempt to connect would give way to one of closing
            super().close()


def first_line(error: object) -> str:
    """What is wrong. The server's errors bring the plan and a stack trace along."""
    name = r"[\w.$]+(Exception|Error):\s+"
    text = re.sub(rf"^({name})?(Error running query: )?(\[[\w.]+\] (?={name}))?({name})?", "", str(error).strip())
    return text.splitlines()[0] if text else str(error)


class _Client:
    """Thrift's client. What goes wrong with the connection is raised as ConnectionLost, whichever the call."""

    def __init__(self, client: Any, transport: Any) -> None:
        self.client = client
        self.transport = transport

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.client, name)

        def checked(request: Any) -> Any:
            try:
                return call(request)
            except LOST as error:
                self.transport.close()
                raise ConnectionLost(f"the connection was lost: {error}") from error

        return checked


class Connection(hive.Connection):  # type: ignore[misc] # PyHive has no types
    """A session at the endpoint."""

    @property
    def client(self) -> _Client:
        return _Client(self._client, self._transport)

    def close(self) -> None:
        """End the session. If it is gone already, that is no error."""
        with suppress(OperationalError, *LOST):
            super().close()
        self._transport.close()

    def cursor(self, *args: Any, **kwargs: Any) -> "Cursor":
        return Cursor(self, *args, **kwargs)


class Cursor(hive.Cursor):  # type: ignore[misc]
    """Runs a statement at a time."""

    def execute(self, operation: str, parameters: Any = None, **kwargs: Any) -> None:
        """Run a statement to its end; with `async_=True` only start it (see `poll` and `cancel`).

        The server runs it in the background in any case, and is asked for its state. So it sees when this client is
        gone, and cancels. It answers as soon as the statement has ended, and within five seconds if it has not.
        """
        try:
            super().execute(operation, parameters, async_=True)
            if not kwargs.get("async_"):
                self._wait()
        except OperationalError as error:
            raise _in_one_line(error) from None
        except BaseException:
            # Interrupted while an answer is under way: the connection is of no more use, and closing it cancels.
            self._connection._transport.close()
            raise

    def close(self) -> None:
        """Tell the server that the result is not needed any more. If the connection is lost, that is no error."""
        with suppress(ConnectionLost):
            super().close()

    def _wait(self) -> None:
        while (status := self.poll(get_progress_update=False)).operationState in AT_WORK:
            pass
        if status.operationState != TOperationState.FINISHED_STATE:
            state = TOperationState._VALUES_TO_NAMES[status.operationState].removesuffix("_STATE").lower()
            raise OperationalError(first_line(status.errorMessage or f"the query was ended by the server: {state}"))

    def _fetch_more(self) -> None:
        known = len(self._data)
        try:
            super()._fetch_more()
        except OperationalError as error:
            raise _in_one_line(error) from None
        dates = [index for index, column in enumerate(self.description) if column[1] == "DATE_TYPE"]
        if dates:
            fetched = [list(self._data.pop()) for _ in range(len(self._data) - known)]
            for row in reversed(fetched):
                for index in dates:
                    row[index] = row[index] and date.fromisoformat(row[index])
                self._data.append(tuple(row))


def _in_one_line(error: OperationalError) -> OperationalError:
    if isinstance(error, ConnectionLost):
        return error
    status = getattr(error.args[0], "status", None) if error.args else None
    text = first_line(status.errorMessage if status else error)
    # Over HTTP a restarted endpoint is reached by the next request, and does not know the session.
    return ConnectionLost(text) if text.startswith("Invalid SessionHandle") else OperationalError(text)
