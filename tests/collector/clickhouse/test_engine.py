"""Errors of a ClickHouse server, each as one line for the user."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ztrace.errors import SettingsError
from ztrace_collector.clickhouse.address import ClickHouseAddress, is_clickhouse, read_address
from ztrace_collector.clickhouse.engine import EngineError, check_version, explain

ADDRESS = read_address("clickhouse://ztrace:hunter-two@db/shop", {})
_RAISED = (
    "Received ClickHouse exception, code: {0}, server response: Code: {0}. DB::Exception: {1}"
    " (for url http://db:8123)"
)


def told(code: int, text: str = "what ClickHouse says") -> str:
    """Return the line for an error of the server."""
    return str(explain(RuntimeError(_RAISED.format(code, text)), ADDRESS))


def test_an_address_has_defaults() -> None:
    """Ports are ClickHouse's own, and user and password may be in variables; neither is shown."""
    assert (
        ClickHouseAddress("clickhouse://db:8123/shop", "db", 8123, "shop", False, "ztrace", "hunter-two")
        == ADDRESS
    )
    assert "hunter-two" not in repr(ADDRESS)
    variables = {"ZTRACE_CLICKHOUSE_USER": "ann", "ZTRACE_CLICKHOUSE_PASSWORD": "hunter-two"}
    secure = read_address("clickhouses://db/shop", variables)
    assert (secure.port, secure.secure, secure.user, secure.password) == (8443, True, "ann", "hunter-two")
    assert read_address("clickhouse://db/shop", {}).user == "default"


@pytest.mark.parametrize("variable", ["ZTRACE_CLICKHOUSE_USER", "ZTRACE_CLICKHOUSE_PASSWORD"])
def test_credentials_are_utf8(variable: str) -> None:
    """A user or password with other bytes is refused, and not repeated."""
    with pytest.raises(SettingsError, match="not UTF-8") as raised:
        read_address("clickhouse://db/shop", {variable: "b\udcffd"})
    assert "\udcff" not in str(raised.value)
    assert read_address("clickhouse://db/shop", {variable: "bäd"}).host == "db"


def test_an_address_is_told_from_a_file() -> None:
    """Only the two schemes name a ClickHouse database."""
    assert is_clickhouse("clickhouse://db/shop")
    assert is_clickhouse("CLICKHOUSES://db/shop")
    assert not is_clickhouse("shop.db")
    assert not is_clickhouse("http://db/shop")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (60, "lacks tables of ztrace; run 'ztrace clickhouse init clickhouse://db:8123/shop'"),
        (81, "does not exist; run 'ztrace clickhouse init clickhouse://db:8123/shop'"),
        (243, "is out of disk space; free space on the server"),
        (252, "has too many parts to merge; "),
        (497, "denies this user what is asked; grant"),
        (516, "rejects the user or the password; "),
    ],
)
def test_known_errors_have_a_meaning_and_a_hint(code: int, said: str) -> None:
    """An error that users meet is told with what to do."""
    line = told(code)
    assert line.startswith(f"clickhouse://db:8123/shop {said}")
    assert "\n" not in line


def test_a_refused_block_is_told_with_the_servers_words() -> None:
    """Another error is told with its number and the server's text, on one line and without the password."""
    line = told(36, "bad arguments\nfor hunter-two")
    assert line == "clickhouse://db:8123/shop refuses a query (code 36): bad arguments for …"


def test_a_server_that_does_not_answer_is_told() -> None:
    """An error without a number is one of the connection."""
    line = str(
        explain(
            OSError("pool(host='db') (Caused by E(\"x: [Errno 111] Connection refused\")) attempt 1"), ADDRESS
        )
    )
    assert line.startswith("cannot reach clickhouse://db:8123/shop: Connection refused; check the address")


@pytest.mark.parametrize("version", ["24.8.1.2684", "25.3.2.39", "26.9.2.1"])
def test_a_version_may_be_new_enough(version: str) -> None:
    """The oldest version and newer ones are used."""
    check_version(cast(Any, SimpleNamespace(server_version=version)), ADDRESS)


@pytest.mark.parametrize("version", ["24.7.9.1", "23.12.1.1"])
def test_a_version_may_be_too_old(version: str) -> None:
    """An older version is told, since its views would count a repeated block again."""
    with pytest.raises(EngineError, match=rf"ClickHouse {version}, which is too old; use 24\.8 or newer"):
        check_version(cast(Any, SimpleNamespace(server_version=version)), ADDRESS)
