"""Small files of a store that is busy."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import stores

NO_SUCH_KEY = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
MODIFIED_AT = datetime(2021, 11, 1, 7, 30, tzinfo=UTC)
REFUSAL = b"<Error><Code>SlowDown</Code><Message>" + b"Please reduce your request rate. " * 20 + b"</Message></Error>"


class Busy(BaseHTTPRequestHandler):
    """Serves `files` by path, ranges of them, too; refuses the first `refusals` requests for content."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    refusals: int
    heads: int
    gets: int  # that were answered

    def do_HEAD(self) -> None:
        Busy.heads += 1
        found = self.files.get(self.path)
        self._answer(404 if found is None else 200, b"", len(found or b""))

    def do_GET(self) -> None:
        if Busy.refusals:
            Busy.refusals -= 1
            self._answer(503, REFUSAL, len(REFUSAL))
            return
        Busy.gets += 1
        whole = self.files.get(self.path)
        if whole is None:
            self._answer(404, NO_SUCH_KEY, len(NO_SUCH_KEY))
        elif asked := self.headers["Range"]:
            first, last = asked.removeprefix("bytes=").split("-")
            content = whole[int(first) : int(last) + 1]
            self._answer(206, content, len(content))
        else:
            self._answer(200, whole, len(whole))

    def _answer(self, status: int, content: bytes, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.send_header("Last-Modified", "Mon, 01 Nov 2021 07:30:00 GMT")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("time.sleep", lambda _: None)
    Busy.files, Busy.refusals, Busy.heads, Busy.gets = {}, 0, 0, 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("size", [1, 80, 5_000, stores.SMALL])
def test_small_file__should_be_read_once_more_where_the_refusal_is_longer_than_what_was_asked_for(
    address: str, size: int
) -> None:
    Busy.files = {"/bucket/file": bytes(size)}
    store, folder = stores.open_folder("s3a://bucket", address)

    for open_input in (store.open_input_file, store.open_input_stream):
        Busy.refusals = 3
        with open_input(f"{folder}/file") as file:
            assert file.read() == bytes(size)
        assert Busy.refusals == 0


def opened(address: str, name: str) -> tuple[bytes, int, datetime]:
    store, folder = stores.open_folder("s3a://bucket", address)
    file = stores.open_file(store, f"{folder}/{name}")
    return file.stream.read(), file.size, file.modified_at


@pytest.mark.parametrize("size", [0, 5_000, stores.SMALL])
def test_open_file__should_have_all_of_a_small_file_in_one_request(address: str, size: int) -> None:
    Busy.files = {"/bucket/file": bytes(size)}

    assert opened(address, "file") == (bytes(size), size, MODIFIED_AT)
    assert (Busy.gets, Busy.heads) == (1, 0)


def test_open_file__should_tell_size_and_time_of_a_large_one_before_it_is_read(address: str) -> None:
    size = stores.SMALL + 1
    Busy.files = {"/bucket/file": bytes(size)}

    assert opened(address, "file") == (bytes(size), size, MODIFIED_AT)
    assert Busy.heads == 1


@pytest.mark.parametrize("name", ["é %20+#?.json", "a tab\there.json"])
def test_open_file__should_read_a_file_of_any_name(address: str, name: str) -> None:
    Busy.files = {f"/bucket/{quote(name)}": b"content"}

    assert opened(address, name) == (b"content", 7, MODIFIED_AT)


def test_open_file__should_take_no_proxy_of_the_environment(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Busy.files = {"/bucket/file": b"content"}
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    assert opened(address, "file") == (b"content", 7, MODIFIED_AT)
    assert (Busy.gets, Busy.heads) == (1, 0)


def test_open_file__should_wait_for_a_store_that_is_busy(address: str) -> None:
    Busy.files, Busy.refusals = {"/bucket/file": b"content"}, 3

    assert opened(address, "file") == (b"content", 7, MODIFIED_AT)
    assert Busy.refusals == 0


def test_bucket_of_aws__should_need_no_endpoint() -> None:
    assert stores._bucket("bucket", None) is stores._bucket("bucket", None)


@pytest.mark.parametrize("name", ["file", "folder//file"])
def test_open_file__should_say_in_a_line_that_there_is_none(address: str, name: str) -> None:
    Busy.files = {"/bucket/folder/file": b"another"}

    with pytest.raises(OSError) as raised:
        opened(address, name)

    assert len(str(raised.value).splitlines()) == 1


def test_few_bytes_of_a_small_parquet_file__should_be_read_from_a_busy_store(address: str) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a"] * 1_000, "kwh": [0.5] * 1_000}), sink)
    Busy.files = {"/bucket/file.parquet": sink.getvalue().to_pybytes()}
    store, folder = stores.open_folder("s3a://bucket", address)

    Busy.refusals = 2
    read = pq.read_table(f"{folder}/file.parquet", columns=["id"], filesystem=store, partitioning=None)

    assert read["id"].to_pylist() == ["a"] * 1_000


def test_store_that_stays_busy__should_be_an_error(address: str) -> None:
    Busy.files, Busy.refusals = {"/bucket/file": b"1"}, 1_000
    store, folder = stores.open_folder("s3a://bucket", address)

    with pytest.raises(OSError, match=stores.ANSWER_TOO_LARGE):
        store.open_input_file(f"{folder}/file")


def test_large_file__should_be_read_in_pieces(address: str) -> None:
    Busy.files = {"/bucket/file": bytes(stores.SMALL) + b"end"}
    store, folder = stores.open_folder("s3a://bucket", address)

    with store.open_input_file(f"{folder}/file") as file:
        assert file.read_at(3, stores.SMALL) == b"end"
    with store.open_input_stream(f"{folder}/file") as file:
        assert file.read() == Busy.files["/bucket/file"]
