"""Packages of greenlets and tasks, which the program may import while it is sampled."""

import _asyncio
import asyncio.tasks  # noqa: F401
import sys
from types import ModuleType

import greenlet
import pytest

from ztrace.profiling import owners


@pytest.mark.parametrize(("package", "found"), [(greenlet, "greenlets"), (_asyncio, "tasks")])
def test_a_package_that_is_being_imported_is_found_later(
    package: ModuleType, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that another thread is importing does not end the sampler, and is found once it is whole."""
    monkeypatch.setattr(owners, "has_greenlets", lambda: True)
    monkeypatch.setattr(owners, "greenlets", None)
    monkeypatch.setattr(owners, "tasks", None)
    monkeypatch.setitem(sys.modules, package.__name__, ModuleType(package.__name__))
    owners.look_for_packages()
    assert getattr(owners, found) is None
    monkeypatch.setitem(sys.modules, package.__name__, package)
    owners.look_for_packages()
    assert getattr(owners, found) is not None
