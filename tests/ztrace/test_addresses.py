"""Parsing of addresses, and the loopback rule."""

import pytest

from ztrace.addresses import MAX_IPC_PATH, Address, can_connect, is_loopback, parse_address


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.255.255.254",
        "localhost",
        "LOCALHOST",
        "::1",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "::ffff:127.0.0.1",
    ],
)
def test_addresses_of_this_machine_alone_are_loopback(host: str) -> None:
    """Every spelling of a loopback address is recognized, with and without brackets."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "*", "", "10.0.0.1", "127.999.1.1", "127.1", "127.0.0.1.example.org",
     "localhost.example.org", "::ffff:10.0.0.1", "[::1", "eth0"],
)  # fmt: skip
def test_everything_else_is_not_loopback(host: str) -> None:
    """An address that other machines can reach, a name, and a malformed address are not loopback."""
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:4711", Address("127.0.0.1", 4711)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65_535)),
    ],
)
def test_an_address_is_parsed_and_formatted(text: str, address: Address) -> None:
    """Formatting an address restores its text, with brackets around IPv6."""
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "127.0.0.1", "127.0.0.1:", ":4711", "::1:4711", "[127.0.0.1]:1", "h:65536", "h:-1", "h:+1",
     "h: 1", "h:1_0", "h:٤", "[]:1", "h:000001"],
)  # fmt: skip
def test_malformed_addresses_are_rejected(text: str) -> None:
    """A missing part, an unbracketed IPv6 address and an invalid port raise ValueError."""
    with pytest.raises(ValueError, match=" is not "):
        parse_address(text)


@pytest.mark.parametrize(
    ("endpoint", "accepted"),
    [
        ("tcp://127.0.0.1:4710", True),
        ("tcp://[::1]:4710", True),
        ("tcp://collector.internal:4710", True),
        ("ipc:///run/ztrace.sock", True),
        ("ipc://" + "x" * MAX_IPC_PATH, True),
        ("ipc://" + "x" * (MAX_IPC_PATH + 1), False),
        ("ipc://", False),
        ("tcp://127.0.0.1:0", False),
        ("tcp://127.0.0.1", False),
        ("udp://127.0.0.1:4710", False),
        ("127.0.0.1:4710", False),
        (4710, False),
    ],
)
def test_endpoints_that_zeromq_can_connect_to(endpoint: object, accepted: bool) -> None:
    """Only TCP with a port above 0 and IPC with a path of a permitted length are accepted."""
    assert can_connect(endpoint) is accepted
