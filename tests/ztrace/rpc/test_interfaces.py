"""Interfaces of clients as type checkers see them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

from tests.ztrace.rpc.services import FREE, Billing
from ztrace import rpc
from ztrace.errors import SettingsError
from ztrace_viewer.commands.rpc.services import read_service
from ztrace_viewer.commands.rpc.stubs import write_stub

#: Program with typed clients; the type checkers refuse the lines that say so, and no other.
PROGRAM = """
from abc import ABC, abstractmethod
from typing import assert_type

from billing import AsyncBilling, Billing
from ztrace import rpc


class Shop(ABC):
    @abstractmethod
    def price(self, article: str) -> int: ...


def call() -> None:
    with rpc.Client("tcp://a:1", interface=Billing, timeout_s=5) as billing:
        assert_type(billing.charge("visa", amount=12), str)
        for number in billing.tail(3):
            assert_type(number, int)
        billing.chrge("visa")  # refused
        billing.charge(12)  # refused
    with rpc.Client("tcp://a:1", interface=Shop) as shop:
        assert_type(shop.price("lamp"), int)
    with rpc.Client("tcp://a:1") as anything:
        anything.charge(12).whatever()
    rpc.Client("tcp://a:1", timeout=5)  # refused


async def call_async() -> None:
    async with rpc.AsyncClient("tcp://a:1", interface=AsyncBilling) as billing:
        assert_type(await billing.charge("visa"), str)
        async for number in billing.count(3):
            assert_type(number, int)
        await billing.charge(12)  # refused
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return the program, beside the interface that the server of the tests describes."""
    with rpc.Server(Billing, FREE, name="billing") as server, rpc.Client(*server.endpoints) as client:
        service = read_service(client.call("_zt_inspect"))
    assert service is not None
    (tmp_path / "billing.py").write_text(write_stub(service))
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


REFUSED = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# refused")}


@pytest.mark.slow
def test_mypy_checks_calls_by_their_interface(program: Path) -> None:
    """Strict mypy takes Protocols and abstract classes as interfaces, and refuses calls that do not fit."""
    told, failed, _ = api.run(["--strict", "--no-incremental", "--config-file=", str(program)])
    lines = [line.split(":") for line in told.splitlines() if ": error: " in line]
    assert failed == ""
    assert {int(number) for path, number, *_ in lines if path == str(program)} == REFUSED, told
    assert len({path for path, *_ in lines}) == 1, told


@pytest.mark.slow
@pytest.mark.process
def test_pyright_checks_calls_by_their_interface(program: Path) -> None:
    """Pyright does the same."""
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", f"--pythonpath={sys.executable}", program.name],
        cwd=program.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}
    assert lines == REFUSED, done.stdout


def test_what_is_no_class_is_no_interface() -> None:
    """An interface that is no class is refused with the client."""
    with pytest.raises(SettingsError, match="is no interface"):
        rpc.Client("tcp://127.0.0.1:1", interface=lambda: None)
