"""Settings of the agent, from arguments and ZTRACE_* variables; arguments take precedence.

The full list is in docs/reference/settings.md.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ztrace.addresses import DEFAULT_ENDPOINT, can_connect
from ztrace.diagnostics import warn
from ztrace.errors import SettingsError, quote

if TYPE_CHECKING:
    from ztrace.enrolment import Enrolment
    from ztrace.scrubbing.rules import Rules

#: Characters kept of a name that is sent with each message.
_MAX_NAME = 256
#: Characters kept of a version.
_MAX_VERSION = 100
#: Collectors of a publisher: more than share the work of the largest installation.
MAX_ENDPOINTS = 16
#: Values that turn a setting off, in any case.
_OFF = ("off", "0", "false", "no")
#: When the stacks of open spans are sampled: never, on request, also of slow spans, or also of all.
PROFILES = ("off", "demand", "slow", "always")


class Settings(NamedTuple):
    """Settings of one process.

    Attributes:
        service: name of the service.
        version: version of the service, empty if it is unknown.
        endpoints: the collectors' ZeroMQ addresses, at least one.
        host: name of the machine.
        disabled: record nothing at all.
        queue_spans: limit of spans waiting to be encoded.
        window_bytes: limit of bytes waiting in memory to be stored.
        batch_spans: spans sent at once.
        linger_s: longest wait of a span before it is sent.
        spool: absolute path of the folder for undelivered spans, which outlive the process there; None for no
            folder.
        spool_bytes: size limit of the folder.
        key: enrolment with which the collector admits this service.
        scrub: definition of the secrets that must not leave the process; None to keep everything.
        all_frames: keep frames of ztrace and of RPC libraries.
        record_locals: record local variables with frames.
        profile: when stacks are sampled, one of PROFILES.
        debug: log each of ztrace's own failures with its traceback.
    """

    service: str
    version: str
    endpoints: tuple[str, ...]
    host: str
    disabled: bool
    queue_spans: int
    window_bytes: int
    batch_spans: int
    linger_s: float
    spool: str | None
    spool_bytes: int
    key: "Enrolment | None"
    scrub: "Rules | None"
    all_frames: bool
    record_locals: bool
    profile: str
    debug: bool


class Limit(NamedTuple):
    """Range and default of a numeric setting."""

    default: int
    least: int
    most: int


#: Limits by variable. A span waits in the queue until it is encoded: a tight loop makes 40,000 between two
#: turns of the thread, and 100,000 take some 60 MB. Encoded, 64 MiB are about 600,000 spans. A batch of 1,024
#: keeps the interpreter for 0.8 ms; smaller batches would not empty the queue beside a program that computes.
LIMITS = {
    "ZTRACE_QUEUE_SPANS": Limit(100_000, 1, 10_000_000),
    "ZTRACE_WINDOW_BYTES": Limit(64 << 20, 1 << 20, 1 << 40),
    "ZTRACE_BATCH_SPANS": Limit(1024, 1, 8192),
    "ZTRACE_LINGER_MS": Limit(100, 1, 60_000),
    "ZTRACE_SPOOL_BYTES": Limit(256 << 20, 8 << 20, 1 << 40),
}


def read_settings(
    service: str | None = None,
    endpoint: str | Sequence[str] | None = None,
    *,
    version: str | None = None,
    key: str | None = None,
    queue_spans: int | None = None,
    window_bytes: int | None = None,
    batch_spans: int | None = None,
    linger_ms: int | None = None,
    spool: str | os.PathLike[str] | None = None,
    spool_bytes: int | None = None,
    scrub_keys: Sequence[str] = (),
    scrub_values: Sequence[str] = (),
    frames: str | None = None,
    record_locals: bool | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Combine arguments, environment and defaults.

    Raises:
        SettingsError: a value is invalid.
    """

    def number(variable: str, given: int | None) -> int:
        return _read_number(variable, environ.get(variable) if given is None else given)

    service = service or environ.get("ZTRACE_SERVICE")
    enrolment = _read_key(key or environ.get("ZTRACE_KEY"), service)
    if enrolment is not None:
        service = enrolment.service
    folder = spool or _unless_off(environ.get("ZTRACE_SPOOL"))
    return Settings(
        service=_fit(service or _program_name()),
        version=_fit(version or environ.get("ZTRACE_SERVICE_VERSION") or "", _MAX_VERSION),
        endpoints=_read_endpoints(endpoint or environ.get("ZTRACE_ENDPOINT") or DEFAULT_ENDPOINT),
        host=_fit(os.uname().nodename),
        disabled=_is_on(environ.get("ZTRACE_DISABLED")),
        queue_spans=number("ZTRACE_QUEUE_SPANS", queue_spans),
        window_bytes=number("ZTRACE_WINDOW_BYTES", window_bytes),
        batch_spans=number("ZTRACE_BATCH_SPANS", batch_spans),
        linger_s=number("ZTRACE_LINGER_MS", linger_ms) / 1000,
        spool=_read_folder(folder),
        spool_bytes=number("ZTRACE_SPOOL_BYTES", spool_bytes),
        key=enrolment,
        scrub=_read_rules(scrub_keys, scrub_values, environ),
        all_frames=_read_frames(frames or _unless_off(environ.get("ZTRACE_FRAMES"))),
        record_locals=_is_on(environ.get("ZTRACE_LOCALS")) if record_locals is None else record_locals,
        profile=_read_profile(environ.get("ZTRACE_PROFILE") or "demand"),
        debug=_is_on(environ.get("ZTRACE_DEBUG")),
    )


def is_off(value: str | None) -> bool:
    """Return whether a variable has one of the values that turn a setting off."""
    return value is not None and value.strip().lower() in _OFF


def _is_on(switch: str | None) -> bool:
    return bool(switch and switch.strip()) and not is_off(switch)


def _unless_off(value: str | None) -> str | None:
    return None if is_off(value) else value


def _read_endpoints(given: object) -> tuple[str, ...]:
    """Return the collectors' endpoints, each once, from a list or from text with commas between."""
    texts: Iterable[object] = [given]
    if isinstance(given, str):
        texts = [text.strip() for text in given.split(",") if text.strip()] or [given]
    elif isinstance(given, Iterable) and not isinstance(given, bytes):
        texts = given
    endpoints: list[str] = []
    for text in texts:
        if not isinstance(text, str) or not can_connect(text):
            raise SettingsError(
                f"cannot publish to {quote(text)}",
                hint=f"give ZTRACE_ENDPOINT as in {DEFAULT_ENDPOINT}, several with commas between",
            )
        endpoints.append(text)
    unique = tuple(dict.fromkeys(endpoints))
    if len(unique) > MAX_ENDPOINTS:
        raise SettingsError(
            f"ZTRACE_ENDPOINT has {len(unique)} collectors", hint=f"give at most {MAX_ENDPOINTS}"
        )
    if len(unique) < len(endpoints):
        repeated = next(endpoint for endpoint in endpoints if endpoints.count(endpoint) > 1)
        warn(f"ZTRACE_ENDPOINT has {quote(repeated)} more than once; each collector counts once")
    return unique


def _read_frames(which: str | None) -> bool:
    if which not in (None, "", "all"):
        raise SettingsError(f"ZTRACE_FRAMES is {quote(which)}", hint="give all, or nothing")
    return which == "all"


def _read_profile(mode: str) -> str:
    mode = "off" if is_off(mode) else mode.strip().lower()
    if mode not in PROFILES:
        raise SettingsError(f"ZTRACE_PROFILE is {quote(mode)}", hint=f"give one of {', '.join(PROFILES)}")
    return mode


def _read_folder(path: object) -> str | None:
    if not path:
        return None
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise SettingsError(f"the spool is {quote(path)}", hint="give the path of a folder")
    return os.path.abspath(os.fspath(path))


def _read_key(text: str | None, service: str | None) -> "Enrolment | None":
    if not text:
        return None
    if not isinstance(text, str):  # Its value is a secret, and not repeated.
        raise SettingsError("the key is no text", hint="give the text that 'ztrace keys add SERVICE' prints")
    from ztrace.enrolment import Enrolment  # Most programs have no key.

    enrolment = Enrolment.parse(text)
    if service and service != enrolment.service:
        raise SettingsError(
            f"the key is for the service {enrolment.service}, this one is {service}",
            hint=f"make one with 'ztrace keys add {service}', or leave the service's name to the key",
        )
    return enrolment


def _read_rules(keys: Sequence[str], values: Sequence[str], environ: Mapping[str, str]) -> "Rules | None":
    from ztrace.scrubbing.rules import make_rules  # A disabled process does not need its patterns.

    keys, values = _read_texts("scrub_keys", keys), _read_texts("scrub_values", values)
    further = [key.strip() for key in environ.get("ZTRACE_SCRUB_KEYS", "").split(",")]
    pattern = environ.get("ZTRACE_SCRUB_VALUES")
    return make_rules(
        [*keys, *filter(None, further)],
        [*values, *([pattern] if pattern else [])],
        enabled=not is_off(environ.get("ZTRACE_SCRUB")),
    )


def _read_texts(name: str, given: object) -> list[str]:
    """Return a list of texts; a single text, whose letters no caller means, is a list of one."""
    if given is None or isinstance(given, str):
        return [given] if given else []
    texts = list(given) if isinstance(given, Iterable) else [given]
    kept = [text for text in texts if isinstance(text, str)]
    if len(kept) < len(texts):
        raise SettingsError(f"{name} is {quote(given)}", hint="give a list of str")
    return kept


def _read_number(variable: str, value: object) -> int:
    limit = LIMITS[variable]
    if value is None or value == "":
        return limit.default
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not limit.least <= number <= limit.most:
        raise SettingsError(
            f"{variable} is {quote(value)}", hint=f"give a whole number from {limit.least} to {limit.most}"
        )
    return number


def _fit(name: object, length: int = _MAX_NAME) -> str:
    """Return the name truncated and in UTF-8, which environments and file names need not be in."""
    return str(name)[:length].encode("utf-8", "replace").decode("utf-8")


def _program_name() -> str:
    """Name the service after its script, or after its package when run with ``python -m``."""
    folder, script = os.path.split(sys.argv[0] if sys.argv else "")
    name = os.path.splitext(script)[0]
    if name == "__main__":
        name = os.path.basename(folder)
    return name if name not in ("", "-c", "-m") else "python"
