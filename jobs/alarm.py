"""Alarms by webhook and mail. Each condition is told once when it begins, when it gets worse, and when it ends."""

import fcntl
import json
import os
import smtplib
import ssl
import urllib.request
from collections.abc import Callable, Sequence
from datetime import datetime
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from jobs import schedule_state
from jobs.check import Finding, Level
from jobs.errors import LakeError
from jobs.settings import Settings

FILE = "alarms.json"
SECONDS = 15  # a receiver that does not answer must not hold up the scheduler
FAILURES = (OSError, ValueError, smtplib.SMTPException)  # of a receiver
KEPT = 100  # messages kept for a receiver that does not answer; the oldest go

# A text names files and meterpoints, which senders call as they like: a chat must find no link or markup in it.
PLAIN = str.maketrans({"<": "(", ">": ")", "[": "(", "]": ")", "`": "'", "@": "(at)"})

Message = dict[str, str]


def changes(
    active: dict[str, dict[str, str]], findings: Sequence[Finding], now: datetime
) -> tuple[dict[str, dict[str, str]], list[Message]]:
    """Conditions that hold now, and what is to be told of them: begun, worse, ended.

    A check that is not among the findings could not be made, so its condition stays as it was.
    """
    still, messages = dict(active), []
    for name, level, text in findings:
        before = active.get(name)
        told = {"check": name, "status": level.name, "text": text, "at": now.isoformat(timespec="seconds")}
        if level is Level.ok:
            if before:
                del still[name]
                messages.append({"event": "ended", **told, "since": before["since"]})
            continue
        since = before["since"] if before else told["at"]
        if not before:
            messages.append({"event": "begun", **told, "since": since})
        elif level > Level[before["status"]]:
            messages.append({"event": "worse", **told, "since": since})
        # The worst level that was told: one that goes up and down is not told each time.
        worst = max(level, Level[before["status"]]) if before else level
        still[name] = {"status": worst.name, "since": since, "text": text}
    return still, messages


def tell(settings: Settings, findings: Sequence[Finding], now: datetime) -> list[str]:
    """Send what is new, and what receivers did not take before. Returns what failed, a line each; nothing is raised
    for a receiver that fails: its messages wait for the next call."""
    receivers = _receivers(settings)
    settings.state.mkdir(parents=True, exist_ok=True)
    with (settings.state / "alarms.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = schedule_state.read(settings.state, FILE)
        active, messages = changes(state.get("active", {}), findings, now)
        # A receiver that is new is told of all that holds.
        holding = changes({}, findings, now)[1]
        before = state.get("waiting", {})
        waiting: dict[str, list[Message]] = {
            name: [*before[name], *messages][-KEPT:] if name in before else [*holding] for name in receivers
        }
        # Before the first is sent: who is killed now tells one twice, and forgets none.
        schedule_state.write(settings.state, {"active": active, "waiting": waiting}, FILE)
        errors = []
        for name, send in receivers.items():
            try:
                while waiting[name]:
                    send(waiting[name][0])
                    del waiting[name][0]
                    schedule_state.write(settings.state, {"active": active, "waiting": waiting}, FILE)
            except FAILURES as error:
                # Without the error's text, which may hold the address: that of a webhook is a secret.
                errors.append(f"{len(waiting[name])} alarms wait for the {name}: {_reason(error)}")
    return errors


def test(settings: Settings, now: datetime) -> list[str]:
    """Send a message that says that it is a test to each receiver. Returns a line each, how that went.

    Raises LakeError where there is no receiver, or one did not take it.
    """
    receivers = _receivers(settings)
    if not receivers:
        raise LakeError("no receiver of alarms is set: LAKE_ALARM_WEBHOOK or LAKE_ALARM_SMTP")
    at = now.isoformat(timespec="seconds")
    message = {"event": "test", "check": "alarm", "status": "test", "text": "alarms arrive", "at": at, "since": at}
    failed = []
    for name, send in receivers.items():
        try:
            send(message)
        except FAILURES as error:
            failed.append(f"the {name} did not take it: {_reason(error)}")
    if failed:
        raise LakeError("; ".join(failed))
    return [f"sent to the {name}" for name in receivers]


def _reason(error: Exception) -> str:
    code = getattr(error, "code", None) or getattr(error, "smtp_code", None)
    return type(error).__name__ + (f" {code}" if code else "")


def _receivers(settings: Settings) -> dict[str, Callable[[Message], Any]]:
    found: dict[str, Callable[[Message], Any]] = {}
    if settings.alarm_webhook:
        found["webhook"] = lambda message: _post(str(settings.alarm_webhook), message)
    if settings.alarm_smtp:
        found["mail server"] = lambda message: _mail(settings, message)
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, perhaps without TLS. It is an error."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, message: Message) -> None:
    # "text" is what chat services show.
    body = json.dumps({**message, "text": _line(message), "detail": message["text"]}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS):
        pass


def _mail(settings: Settings, message: Message) -> None:
    url = urlsplit(str(settings.alarm_smtp))
    mail = EmailMessage()
    mail["Subject"] = _line(message)[:200]
    mail["From"] = settings.alarm_from
    mail["To"] = settings.alarm_to
    mail.set_content("\n".join(f"{name}: {value}" for name, value in message.items()) + "\n")
    host, context = str(url.hostname), ssl.create_default_context()
    server: smtplib.SMTP
    if url.scheme == "smtps":
        server = smtplib.SMTP_SSL(host, url.port or 465, timeout=SECONDS, context=context)
    else:
        server = smtplib.SMTP(host, url.port or (587 if url.scheme == "smtp" else 25), timeout=SECONDS)
    with server:
        if url.scheme == "smtp":
            server.starttls(context=context)
        if settings.alarm_smtp_user:
            server.login(settings.alarm_smtp_user, os.environ.get("LAKE_ALARM_SMTP_PASSWORD", ""))
        server.send_message(mail)


def _line(message: Message) -> str:
    text = message["text"].translate(PLAIN).replace("://", ": //")
    status = "ended" if message["event"] == "ended" else message["status"]
    return f"[lake] {status}: {message['check']}: {text}"
