"""Destinations of forwarded spans, from URLs and from OpenTelemetry's environment variables.

One idea: a destination has a public and a secret part. ``url`` may be shown, stored and logged; secrets, in
headers, in the URL's user and password or in its query, are known to the sender only.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from ztrace.addresses import DEFAULT_OTLP_GRPC, DEFAULT_OTLP_HTTP, is_loopback, parse_address
from ztrace.errors import SettingsError, quote

#: Protocols, as in OTEL_EXPORTER_OTLP_PROTOCOL.
HTTP, GRPC = "http/protobuf", "grpc"
#: Value in place of a URL that selects the environment variables.
FROM_ENVIRONMENT = "env"
#: Path of traces in the specification, which is appended to an endpoint.
TRACES_PATH = "/v1/traces"
#: Timeout of one request, the specification's default.
TIMEOUT_S = 10.0
#: Minimum length of a secret: shorter header values would match parts of ordinary words in an error.
_SECRET_LENGTH = 4
_GRPC_PORT = parse_address(DEFAULT_OTLP_GRPC).port
_HTTP_PORT = parse_address(DEFAULT_OTLP_HTTP).port
_SCHEMES = {"http": HTTP, "https": HTTP, "grpc": GRPC, "grpcs": GRPC}
_FORMS = f"give http://HOST:{_HTTP_PORT}, https://HOST, grpc://HOST:{_GRPC_PORT} or grpcs://HOST:{_GRPC_PORT}"
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_METADATA_NAME = re.compile(r"[0-9a-z_.\-]+")


@dataclass(frozen=True, slots=True)
class Destination:
    """Receiver of OTLP, and the parameters of its connection.

    Attributes:
        url: its name for people, without secrets.
        protocol: HTTP or GRPC.
        target: address of requests: a URL for HTTP, ``HOST:PORT`` for gRPC.
        secure: whether TLS is used.
        headers: headers of every request, with names in lower case.
        timeout_s: timeout of a request.
        compressed: whether requests are sent as gzip.
        certificate: file of the certificate authorities to trust instead of the system's.
        client_key: file of the client certificate's key.
        client_certificate: file of the client certificate.
        secrets: texts that must not appear in anything shown.
    """

    url: str
    protocol: str
    target: str = field(repr=False)
    secure: bool
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout_s: float = TIMEOUT_S
    compressed: bool = True
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def redact(self, text: str) -> str:
        """Return a text as one line without this destination's secrets."""
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return " ".join("".join(each if each.isprintable() else " " for each in text).split())

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the receiver."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if self.secure else 80)


def read_destinations(
    urls: Sequence[str], headers: Sequence[str], environment: Mapping[str, str]
) -> tuple[Destination, ...]:
    """Return the destinations that options and variables name.

    Args:
        urls: a URL for each destination, or "env".
        headers: ``KEY=VALUE`` for all destinations.
        environment: OTEL_EXPORTER_OTLP_*, for all destinations.

    Raises:
        SettingsError: a value is invalid, or a required library is not installed.
    """
    given = dict(_read_header(text) for text in headers)
    found = [_read_destination(url, given, environment) for url in urls]
    for number, destination in enumerate(found):
        if destination.url in (other.url for other in found[:number]):
            raise SettingsError(f"--otlp names {destination.url} twice", hint="name it once")
    for destination in found:
        _check_installed(destination)
    return tuple(found)


def check_not_own(destinations: Iterable[Destination], listening: Iterable[tuple[str, int]]) -> None:
    """Reject destinations that are this collector's own listeners, which would send spans round in a loop.

    Args:
        destinations: the destinations.
        listening: hosts and ports at which this collector receives OTLP.

    Raises:
        SettingsError: a destination is one of the listeners.
    """
    own = [(host.lower(), port) for host, port in listening]
    for destination in destinations:
        host, port = destination.address
        if any(port == own_port and _is_same(host, own_host) for own_host, own_port in own):
            raise SettingsError(
                f"--otlp {destination.url} is where this collector listens for OTLP itself",
                hint="name another destination, or move the listener with --otlp-listen HOST:PORT or off",
            )


def _read_destination(url: str, given: Mapping[str, str], environment: Mapping[str, str]) -> Destination:
    protocol, parts = _locate(url, environment)
    secure = parts.scheme in ("https", "grpcs")
    host = parts.hostname or ""
    try:
        port = parts.port or (_GRPC_PORT if protocol == GRPC else None)
    except ValueError:
        raise SettingsError(f"the port of --otlp {parts.scheme}://{host} is invalid", hint=_FORMS) from None
    place = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    headers = {**_environment_headers(environment), **given}
    secrets = [value for text in headers.values() for value in (text, *text.split())]
    if parts.username is not None or parts.password is not None:
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["authorization"] = f"Basic {basic}"
        secrets += [basic, user, password, parts.username or "", parts.password or ""]
    if protocol == GRPC:
        shown = f"{'grpcs' if secure else 'grpc'}://{place}"
        target = place
        if wrong := [name for name in headers if not _METADATA_NAME.fullmatch(name) or name.endswith("-bin")]:
            raise SettingsError(f"the header {quote(wrong[0])} cannot be sent by gRPC", hint="leave it out")
    else:
        shown = target = f"{parts.scheme}://{place}{parts.path}"
        if parts.query:
            target += f"?{parts.query}"
            secrets += [parts.query, *(value.partition("=")[2] for value in parts.query.split("&"))]
    return Destination(
        url=shown,
        protocol=protocol,
        target=target,
        secure=secure,
        headers=tuple(sorted(headers.items())),
        timeout_s=_timeout_s(environment),
        compressed=_is_compressed(environment, host),
        certificate=_file(environment, "CERTIFICATE"),
        client_key=_file(environment, "CLIENT_KEY"),
        client_certificate=_file(environment, "CLIENT_CERTIFICATE"),
        # The longest first, so that replacing a part of a secret does not hide the whole one.
        secrets=tuple(
            sorted({each for each in secrets if len(each) >= _SECRET_LENGTH}, key=len, reverse=True)
        ),
    )


def _locate(url: str, environment: Mapping[str, str]) -> tuple[str, SplitResult]:
    """Return the protocol, and the URL with the path of requests."""
    if url != FROM_ENVIRONMENT:
        parts = _split(url, "--otlp")
        if parts.scheme not in _SCHEMES:
            raise SettingsError(f"--otlp {parts.scheme}:… is not the URL of an OTLP receiver", hint=_FORMS)
        protocol = _SCHEMES[parts.scheme]
        return protocol, _with_path(protocol, parts, "--otlp")
    protocol = _variable(environment, "PROTOCOL") or HTTP
    if protocol not in (HTTP, GRPC):
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {quote(protocol)}",
            hint=f"give {HTTP} or {GRPC}, or nothing for {HTTP}",
        )
    of_traces = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" if of_traces else "OTEL_EXPORTER_OTLP_ENDPOINT"
    endpoint = of_traces or environment.get(name, "").strip()
    if not endpoint:
        raise SettingsError(f"--otlp {FROM_ENVIRONMENT}: {name} is not set", hint="set it, or give a URL")
    if protocol == GRPC and "://" not in endpoint:
        insecure = _variable(environment, "INSECURE").lower() == "true"
        endpoint = f"{'http' if insecure else 'https'}://{endpoint}"
    parts = _split(endpoint, name)
    if parts.scheme not in ("http", "https"):
        raise SettingsError(
            f"{name} is not the URL of an OTLP receiver", hint="give http://HOST:PORT or https://…"
        )
    # The variable for traces has the complete path; the one for all signals has only its beginning.
    return protocol, parts if of_traces and protocol == HTTP else _with_path(protocol, parts, name)


def _split(url: str, name: str) -> SplitResult:
    # An unparsable text is not shown, since its password cannot be located.
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        raise SettingsError(f"{name} cannot be read as a URL", hint=_FORMS) from None
    if not parts.scheme or not parts.hostname or re.search(r"[\s\x00-\x1f]", url.strip()):
        raise SettingsError(f"{name} is not the URL of an OTLP receiver", hint=_FORMS)
    return parts


def _with_path(protocol: str, parts: SplitResult, name: str) -> SplitResult:
    path = parts.path.rstrip("/")
    if protocol == HTTP:
        return parts._replace(path=path if path.endswith(TRACES_PATH) else path + TRACES_PATH)
    if path or parts.query:
        raise SettingsError(f"{name} has a path, which gRPC does not have", hint="give HOST:PORT alone")
    return parts


def _variable(environment: Mapping[str, str], name: str) -> str:
    """Return the value of a variable; the one for traces takes precedence over the one for all signals."""
    for prefix in ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"):
        if value := environment.get(prefix + name, "").strip():
            return value
    return ""


def _file(environment: Mapping[str, str], name: str) -> str | None:
    path = _variable(environment, name)
    if not path:
        return None
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(
            f"cannot read {path}: {error.strerror}", hint=f"see OTEL_EXPORTER_OTLP_{name}"
        ) from error
    return str(Path(path).absolute())


def _timeout_s(environment: Mapping[str, str]) -> float:
    text = _variable(environment, "TIMEOUT")
    if not text:
        return TIMEOUT_S
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_TIMEOUT is {quote(text)}",
            hint="give milliseconds, as OpenTelemetry specifies: 10000",
        )
    return int(text) / 1000


def _is_compressed(environment: Mapping[str, str], host: str) -> bool:
    # On the same machine compression saves nothing, and small receivers may not support it.
    value = _variable(environment, "COMPRESSION").lower() or ("none" if is_loopback(host) else "gzip")
    if value not in ("gzip", "none"):
        raise SettingsError(f"OTEL_EXPORTER_OTLP_COMPRESSION is {quote(value)}", hint="give gzip or none")
    return value == "gzip"


def _environment_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of OTEL_EXPORTER_OTLP_HEADERS: ``key=value,key=value``, percent-encoded."""
    # Not with opentelemetry-api, which logs what it cannot parse, possibly a key.
    headers = {}
    for item in _variable(environment, "HEADERS").split(","):
        if item.strip():
            name, value = _read_header(unquote(item), "OTEL_EXPORTER_OTLP_HEADERS")
            headers[name] = value
    return headers


def _read_header(text: str, where: str = "--otlp-header") -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name, value = name.strip().lower(), value.strip()
    if not equals or not _HEADER_NAME.fullmatch(name):
        raise SettingsError(f"{where} has an item that is not KEY=VALUE", hint="such as x-api-key=…")
    if not value.isascii() or not value.isprintable():
        raise SettingsError(
            f"the value of {quote(name)} in {where} cannot be in a header", hint="use plain ASCII"
        )
    return name, value


def _check_installed(destination: Destination) -> None:
    needed = ["opentelemetry.proto", "grpc" if destination.protocol == GRPC else "requests"]
    for module in needed:
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            extra = "grpc" if module == "grpc" else "collector"
            raise SettingsError(
                f"--otlp {destination.url} needs a library that is not installed",
                hint=f"pip install 'ztrace[{extra}]'",
            )


def _is_same(host: str, own_host: str) -> bool:
    """Return whether one host reaches a listener on another, as far as known without resolving names."""
    return host == own_host or bool(_addresses(host) & _addresses(own_host))


def _addresses(host: str) -> set[str]:
    if host in ("localhost", "::"):
        return {"127.0.0.1", "::1"}
    return {"127.0.0.1"} if host == "0.0.0.0" else {host}
