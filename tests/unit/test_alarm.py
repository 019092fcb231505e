"""Alarms, sent to real receivers on this machine."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs import alarm
from jobs.alarm import KEPT, changes, tell
from jobs.check import Finding, Level
from jobs.errors import LakeError
from jobs.settings import Settings

NOW = datetime(2026, 6, 10, 8, 30, tzinfo=UTC)
BAD = Finding("delivery", Level.critical, "readings of 2026-06-09 are missing")
SLIGHT = Finding("delivery", Level.warning, "late")
GOOD = Finding("delivery", Level.ok, "newest readings are of 2026-06-09")


@contextmanager
def served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def webhook(status: list[int]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A receiver that answers with status[0], and what it took."""
    taken: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if status[0] == 200:
                taken.append(body)
            self.send_response(status[0])
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with served(server):
        yield f"http://127.0.0.1:{server.server_address[1]}/token-secret", taken


@contextmanager
def mail_server() -> Iterator[tuple[str, list[str]]]:
    mails: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            def say(line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

            say("220 here")
            while line := self.rfile.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    say("354 go on")
                    body = []
                    while (part := self.rfile.readline()) != b".\r\n":
                        body.append(part.decode())
                    mails.append("".join(body))
                say("221 bye" if verb == b"QUIT" else "250 ok")
                if verb == b"QUIT":
                    return

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    with served(server):
        yield f"smtp-plain://127.0.0.1:{server.server_address[1]}", mails


def test_a_condition_is_told_when_it_begins_gets_worse_and_ends() -> None:
    active: dict[str, dict[str, str]] = {}
    told = []
    for finding in (GOOD, SLIGHT, SLIGHT, BAD, SLIGHT, BAD, GOOD, GOOD, BAD):
        active, messages = changes(active, [finding], NOW)
        told.append([message["event"] for message in messages])
    assert told == [[], ["begun"], [], ["worse"], [], [], ["ended"], [], ["begun"]]


def test_a_check_that_could_not_be_made_ends_no_condition() -> None:
    active, _ = changes({}, [BAD], NOW)
    assert changes(active, [], NOW) == (active, [])


def test_webhook_and_mail_get_each_alarm_once(tmp_path: Path) -> None:
    with webhook([200]) as (url, posted), mail_server() as (smtp, mails):
        settings = Settings(
            state=tmp_path,
            alarm_webhook=url,
            alarm_smtp=smtp,
            alarm_from="lake@example.org",
            alarm_to="a@b.org, c@d.org",
        )
        for finding in (BAD, BAD, GOOD, GOOD):
            assert tell(settings, [finding], NOW) == []
    assert [(each["event"], each["check"], each["status"]) for each in posted] == [
        ("begun", "delivery", "critical"),
        ("ended", "delivery", "ok"),
    ]
    assert posted[0]["text"] == f"[lake] critical: delivery: {BAD.text}"
    assert len(mails) == 2
    assert "To: a@b.org, c@d.org" in mails[0] and "readings of 2026-06-09 are missing" in mails[0]
    assert "Subject: [lake] ended: delivery" in mails[1]


def test_test__should_reach_each_receiver_and_say_which_failed(tmp_path: Path) -> None:
    status = [200]
    with webhook(status) as (url, posted), mail_server() as (smtp, mails):
        settings = Settings(
            state=tmp_path, alarm_webhook=url, alarm_smtp=smtp, alarm_from="lake@example.org", alarm_to="a@b.org"
        )
        assert alarm.test(settings, NOW) == ["sent to the webhook", "sent to the mail server"]
        status[0] = 404
        with pytest.raises(LakeError, match=r"^the webhook did not take it: HTTPError 404$"):
            alarm.test(settings, NOW)
    assert [each["text"] for each in posted] == ["[lake] test: alarm: alarms arrive"]
    assert len(mails) == 2
    assert not (tmp_path / "alarms.json").exists()
    with pytest.raises(LakeError, match="LAKE_ALARM_WEBHOOK"):
        alarm.test(Settings(state=tmp_path), NOW)


def test_names_that_a_sender_chose__should_be_no_markup_in_a_chat(tmp_path: Path) -> None:
    names = "<!channel>, [x](http://evil.example), <https://evil.example|here>, @all, `x`"
    with webhook([200]) as (url, posted):
        tell(Settings(state=tmp_path, alarm_webhook=url), [Finding("silent", Level.warning, names)], NOW)

    assert posted[0]["text"] == (
        "[lake] warning: silent: (!channel), (x)(http: //evil.example), (https: //evil.example|here), (at)all, 'x'"
    )
    assert posted[0]["detail"] == names


def test_a_receiver_that_fails_gets_all_later_and_holds_up_no_other(tmp_path: Path) -> None:
    status = [500]
    with webhook(status) as (url, posted), mail_server() as (smtp, mails):
        settings = Settings(
            state=tmp_path, alarm_webhook=url, alarm_smtp=smtp, alarm_from="lake@example.org", alarm_to="a@b.org"
        )
        assert tell(settings, [BAD], NOW) == ["1 alarms wait for the webhook: HTTPError 500"]
        status[0] = 302
        assert tell(settings, [GOOD], NOW) == ["2 alarms wait for the webhook: HTTPError 302"]
        assert posted == []
        assert len(mails) == 2
        status[0] = 200
        assert tell(settings, [GOOD], NOW) == []
        assert [each["event"] for each in posted] == ["begun", "ended"]
        assert len(mails) == 2


def test_a_receiver_that_is_not_there_says_no_secret_and_keeps_a_bounded_number(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, alarm_webhook="http://127.0.0.1:1/token-secret")
    for finding in (BAD, GOOD) * (KEPT // 2 + 5):
        (error,) = tell(settings, [finding], NOW)
    assert error == f"{KEPT} alarms wait for the webhook: URLError"
    assert "token-secret" not in (tmp_path / "alarms.json").read_text()


def test_a_receiver_that_is_added_later_is_told_what_holds(tmp_path: Path) -> None:
    tell(Settings(state=tmp_path), [BAD], NOW)
    with webhook([200]) as (url, posted):
        tell(Settings(state=tmp_path, alarm_webhook=url), [BAD], NOW)
    assert [each["event"] for each in posted] == ["begun"]
