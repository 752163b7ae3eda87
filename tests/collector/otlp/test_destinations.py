"""Destinations given by options and environment variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ztrace.errors import SettingsError
from ztrace_collector.otlp.forwarding.messages import Orders
from ztrace_collector.otlp.sending.destinations import (
    GRPC,
    HTTP,
    Destination,
    check_not_own,
    read_destinations,
)

PREFIX = "OTEL_EXPORTER_OTLP_"


def read(url: str, *headers: str, **variables: str) -> Destination:
    """Return one destination; variables are given without their prefix."""
    environment = {PREFIX + name: value for name, value in variables.items()}
    (destination,) = read_destinations([url], headers, environment)
    return destination


@pytest.mark.parametrize(
    ("given", "url", "target", "protocol", "secure"),
    [
        ("http://host:4318", "http://host:4318/v1/traces", None, HTTP, False),
        ("http://host:4318/", "http://host:4318/v1/traces", None, HTTP, False),
        ("HTTP://HOST:4318/v1/traces", "http://host:4318/v1/traces", None, HTTP, False),
        ("https://gateway.example/otlp", "https://gateway.example/otlp/v1/traces", None, HTTP, True),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces", None, HTTP, False),
        ("https://h/p?key=abcdef", "https://h/p/v1/traces", "https://h/p/v1/traces?key=abcdef", HTTP, True),
        ("grpc://host", "grpc://host:4317", "host:4317", GRPC, False),
        ("grpcs://host:443", "grpcs://host:443", "host:443", GRPC, True),
        ("grpc://[::1]:4317/", "grpc://[::1]:4317", "[::1]:4317", GRPC, False),
    ],
)
def test_urls(given: str, url: str, target: str | None, protocol: str, secure: bool) -> None:
    """A base URL is completed by the path of traces, and the displayed URL has no query."""
    destination = read(given)
    assert (destination.url, destination.target) == (url, target or url)
    assert (destination.protocol, destination.secure) == (protocol, secure)


@pytest.mark.parametrize(
    ("variables", "url", "secure"),
    [
        ({"ENDPOINT": "http://host:4318/base"}, "http://host:4318/base/v1/traces", False),
        ({"TRACES_ENDPOINT": "https://host/any", "ENDPOINT": "http://x"}, "https://host/any", True),
        ({"ENDPOINT": "http://host:4317", "PROTOCOL": "grpc"}, "grpc://host:4317", False),
        ({"ENDPOINT": "https://host", "TRACES_PROTOCOL": "grpc"}, "grpcs://host:4317", True),
        ({"ENDPOINT": "host:4317", "PROTOCOL": "grpc"}, "grpcs://host:4317", True),
        ({"ENDPOINT": "host:4317", "PROTOCOL": "grpc", "INSECURE": "true"}, "grpc://host:4317", False),
    ],
)
def test_the_endpoint_of_the_variables(variables: Mapping[str, str], url: str, secure: bool) -> None:
    """The endpoint variable for traces is used unchanged, and the general one as a base URL."""
    destination = read("env", **variables)
    assert (destination.url, destination.secure) == (url, secure)


def test_the_other_variables(tmp_path: Path) -> None:
    """Variables for traces precede general ones, options precede both, and headers are percent-decoded."""
    certificate = tmp_path / "ca.pem"
    certificate.write_text("")
    destination = read(
        "http://host",
        "X-Tenant = shop",
        HEADERS="x-lost=1",
        TRACES_HEADERS="Api-Key=a%20b%3D, x-tenant=other",
        TIMEOUT="2500",
        COMPRESSION="none",
        TRACES_CERTIFICATE=str(certificate),
    )
    assert dict(destination.headers) == {"api-key": "a b=", "x-tenant": "shop"}
    assert (destination.timeout_s, destination.compressed) == (2.5, False)
    assert destination.certificate == str(certificate)


def test_what_is_sent_within_the_machine_is_not_compressed() -> None:
    """Data for a loopback destination is not compressed unless a variable requests it."""
    assert read("http://host").compressed
    assert not read("http://localhost:4318").compressed
    assert not read("grpc://127.0.0.1").compressed
    assert read("http://localhost:4318", COMPRESSION="gzip").compressed


SECRET = "hunter-two"


@pytest.mark.parametrize(
    ("url", "headers", "variables"),
    [
        (f"https://user:{SECRET}@host/", (), {}),
        (f"https://{SECRET}@host/", (), {}),
        (f"https://host/?key={SECRET}", (), {}),
        ("https://host", (f"x-api-key={SECRET}",), {}),
        ("https://host", (), {"HEADERS": f"authorization=Bearer%20{SECRET}"}),
        (f"grpcs://user:{SECRET}@host", (), {}),
    ],
)
def test_secrets_are_not_shown(url: str, headers: tuple[str, ...], variables: Mapping[str, str]) -> None:
    """Secrets are sent, and omitted from the displayed URL and from quoted error messages."""
    destination = read(url, *headers, **variables)
    assert SECRET not in destination.url
    assert SECRET not in repr(destination)
    assert destination.redact(f"no such key:\n{SECRET}, is it\x1b[2J?") == "no such key: …, is it [2J?"
    assert destination.headers or SECRET in destination.target
    line = Orders(Path("x.db"), [(7, destination)], True).to_line()
    assert Orders.from_line(line) == Orders(Path("x.db").absolute(), [(7, destination)], True)


def test_a_user_and_a_password_become_basic_authentication() -> None:
    """User and password in a URL become basic authentication, which precedes a general header."""
    destination = read("http://us%40er:pass@host", "authorization=Bearer x")
    assert dict(destination.headers) == {"authorization": "Basic dXNAZXI6cGFzcw=="}
    assert "dXNAZXI6cGFzcw==" not in destination.redact("Basic dXNAZXI6cGFzcw==")


@pytest.mark.parametrize(
    ("url", "headers", "variables", "said"),
    [
        ("localhost:4318", (), {}, "not the URL"),
        ("ftp://host", (), {}, "not the URL"),
        ("http://", (), {}, "not the URL"),
        (f"http://user:{SECRET}@host:99999", (), {}, "is invalid"),
        (f"http://[{SECRET}", (), {}, "cannot be read"),
        ("grpc://host/v1/traces", (), {}, "has a path"),
        ("env", (), {}, "ENDPOINT is not set"),
        ("env", (), {"ENDPOINT": f"ftp://{SECRET}"}, "not the URL"),
        ("env", (), {"ENDPOINT": "http://host", "PROTOCOL": "http/json"}, "http/json"),
        ("http://host", (SECRET,), {}, "not KEY=VALUE"),
        ("http://host", (f"{SECRET} x=1",), {}, "not KEY=VALUE"),
        ("http://host", (f"x={SECRET}\r\ny: z",), {}, "cannot be in a header"),
        ("http://host", (), {"HEADERS": f"{SECRET}"}, "not KEY=VALUE"),
        ("grpc://host", ("x-bin=1",), {}, "by gRPC"),
        ("http://host", (), {"TIMEOUT": "10s"}, "milliseconds"),
        ("http://host", (), {"TIMEOUT": "0"}, "milliseconds"),
        ("http://host", (), {"COMPRESSION": "zstd"}, "zstd"),
        ("http://host", (), {"CERTIFICATE": "/there/is/none"}, "/there/is/none"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    url: str, headers: tuple[str, ...], variables: dict[str, Any], said: str
) -> None:
    """An invalid destination raises a one-line error with a hint and without secrets."""
    with pytest.raises(SettingsError, match=said) as caught:
        read(url, *headers, **variables)
    assert caught.value.hint
    assert SECRET not in str(caught.value)


def test_a_destination_is_named_once() -> None:
    """Two spellings of one URL are rejected as duplicates."""
    with pytest.raises(SettingsError, match="twice"):
        read_destinations(["http://host:1", "http://user@host:1/v1/traces"], [], {})


@pytest.mark.parametrize(
    ("url", "own", "is_own"),
    [
        ("http://127.0.0.1:4318", ("127.0.0.1", 4318), True),
        ("http://localhost:4318", ("127.0.0.1", 4318), True),
        ("http://127.0.0.1:4318", ("localhost", 4318), True),
        ("http://[::1]:4318", ("::1", 4318), True),
        ("http://127.0.0.1:4318", ("0.0.0.0", 4318), True),
        ("http://localhost", ("127.0.0.1", 80), True),
        ("grpc://localhost", ("127.0.0.1", 4317), True),
        ("http://[::1]:4318", ("127.0.0.1", 4318), False),
        ("http://localhost:4319", ("127.0.0.1", 4318), False),
        ("http://host:4318", ("127.0.0.1", 4318), False),
    ],
)
def test_a_destination_is_not_the_collector_itself(url: str, own: tuple[str, int], is_own: bool) -> None:
    """The collector's own listening address is rejected as destination, under any of its names."""
    destinations = [read(url)]
    if is_own:
        with pytest.raises(SettingsError, match="itself"):
            check_not_own(destinations, [own])
    else:
        check_not_own(destinations, [own])
