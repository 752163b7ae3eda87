"""Receivers of events: a command, and a URL.

One idea: a receiver gets a document and a deadline, and either has taken it or raises one line of text. It
never sees a secret of the other, and a command is not traced, so no event makes the next one.
"""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from ztrace.errors import SettingsError, ZtraceError, quote
from ztrace_collector.clickhouse.address import PASSWORD_VARIABLE
from ztrace_viewer.documents.events import EventDocument
from ztrace_viewer.events import WEBHOOK_VARIABLE
from ztrace_viewer.json_text import write_json
from ztrace_viewer.terminal.characters import clean

#: Time for a command, and for one attempt to send to a URL.
COMMAND_S, REQUEST_S = 30.0, 5.0
#: Pauses before the second and the third attempt to send to a URL.
PAUSES_S = (1.0, 5.0)
#: Characters shown of what a command wrote to standard error.
_MAX_SHOWN = 200
_POLL_S = 0.1
#: Statuses after which a request is sent again.
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

if TYPE_CHECKING:
    import requests


class NotDelivered(ZtraceError):
    """An event was not taken by its receiver."""


class Moment(Protocol):
    """Deadline of an event, which the end of the collector moves forward."""

    def left_s(self) -> float:
        """Return the seconds left, 0 or less if none are."""
        ...

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the deadline."""
        ...


class Receiver(Protocol):
    """Receiver of events."""

    def deliver(self, event: EventDocument, begin: "Callable[[float], Moment]") -> None:
        """Hand over an event.

        Args:
            event: the document.
            begin: starts a deadline of so many seconds.

        Raises:
            NotDelivered: the event was not taken.
        """
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """Command that gets the document on standard input, and is run without a shell."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    def deliver(self, event: EventDocument, begin: Callable[[float], Moment]) -> None:
        """Run the command, and end it at the deadline."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
            # Files, which no reader has to empty and no writer can be stopped by.
            given.write(_write(event))
            given.seek(0)
            try:
                process = subprocess.Popen(
                    self.arguments,
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=self.environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise NotDelivered(f"cannot run {self.arguments[0]}: {error.strerror}") from error
            status = _wait(process, begin(COMMAND_S))
            if status is None:
                raise NotDelivered(f"{self.arguments[0]} did not end in time")
            if status:
                errors.seek(max(0, errors.seek(0, os.SEEK_END) - _MAX_SHOWN))
                said = clean(errors.read(_MAX_SHOWN).decode(errors="replace")).strip()
                raise NotDelivered(f"{self.arguments[0]} ended with status {status}{said and f': {said}'}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """URL to which the document is posted; only its host is shown."""

    url: str

    def deliver(self, event: EventDocument, begin: Callable[[float], Moment]) -> None:
        """Post the document, three times at most."""
        problem = ""
        moment = begin(len(PAUSES_S) * REQUEST_S + REQUEST_S + sum(PAUSES_S))
        for pause_s in (0.0, *PAUSES_S):
            moment.wait(pause_s)
            timeout_s = min(REQUEST_S, moment.left_s())
            if timeout_s <= 0:
                break
            status, problem = self._post(_write(event), timeout_s)
            if status is not None and 200 <= status < 300:
                return
            if status is not None and status not in _RETRIED:
                break
        raise NotDelivered(f"{urlsplit(self.url).hostname} {problem or 'was not asked in time'}")

    def _post(self, body: bytes, timeout_s: float) -> tuple[int | None, str]:
        """Send one request, and return its status and the problem."""
        import requests

        try:
            with requests.Session() as session:
                # An entry for this host in ~/.netrc must not be sent.
                auth = requests.utils.get_auth_from_url(self.url)
                session.auth = auth if any(auth) else _leave_as_it_is
                headers = {"Content-Type": "application/json", "User-Agent": "ztrace"}
                with session.post(
                    self.url,
                    data=body,
                    headers=headers,
                    timeout=timeout_s,
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    return response.status_code, f"answered with HTTP {response.status_code}"
        except requests.Timeout:
            return None, f"did not answer within {timeout_s:.0f} s"
        except (requests.RequestException, OSError):
            # The text of such an error has the URL in it.
            return None, "cannot be reached"


def read_receivers(
    command: str | None, url: str | None, environment: Mapping[str, str] = os.environ
) -> list[Receiver]:
    """Return the receivers that options name.

    Args:
        command: words of a command, quoted as for a shell; None for no command.
        url: http or https; None for no webhook.
        environment: of the command, but for the URL and the password of ClickHouse.

    Raises:
        SettingsError: a value cannot be used.
    """
    receivers: list[Receiver] = []
    if command is not None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise SettingsError(
                f"--on-event cannot be read: {error}", hint="quote its words as for a shell"
            ) from error
        if not words or shutil.which(words[0]) is None:
            raise SettingsError(
                f"--on-event names no program: {quote(command)}",
                hint="give its path, and 'sh -c …' for a script",
            )
        secrets = WEBHOOK_VARIABLE, PASSWORD_VARIABLE
        own = {key: value for key, value in environment.items() if key not in secrets}
        receivers.append(Command(tuple(words), {**own, "ZTRACE_DISABLED": "1"}))
    if url is not None:
        _check_url(url)
        receivers.append(Webhook(url))
    return receivers


def _leave_as_it_is(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    return request


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise SettingsError("--webhook is no URL", hint="give http://HOST/PATH or https://HOST/PATH")


def _wait(process: "subprocess.Popen[bytes]", moment: Moment) -> int | None:
    """Return the exit status of a process; None if it had to be killed."""
    while moment.left_s() > 0:
        try:
            return process.wait(min(_POLL_S, moment.left_s()))
        except subprocess.TimeoutExpired:
            continue
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # It has ended in this moment.
    process.wait()
    return None


def _write(event: EventDocument) -> bytes:
    return "".join(write_json(event)).encode("utf-8", "replace") + b"\n"
