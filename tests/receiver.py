"""A local receiver of OpenLineage events."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Receiver(NamedTuple):
    """Its address, and what it got."""

    url: str
    events: list[dict[str, Any]]
    headers: list[dict[str, str]]
    released: threading.Event  # answers are held back until then


@contextmanager
def receiver(status: int = 201, *, silent: bool = False) -> Iterator[Receiver]:
    """Serve. A silent one takes what is sent and sends a byte now and then, but no answer."""
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            this.headers.append(dict(self.headers))
            this.events.append(json.loads(content))
            if silent:
                self.wfile.write(b"HTTP/1.1 201 Created\r\nX: ")
                while not released.wait(0.2):
                    self.wfile.write(b"x")
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    this = Receiver(f"http://127.0.0.1:{server.server_port}", [], [], released)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield this
    finally:
        released.set()
        server.shutdown()
        server.server_close()
