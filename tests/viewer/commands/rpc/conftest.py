"""Environment of the tests of ``ztrace rpc``."""

import pytest


@pytest.fixture(autouse=True)
def _untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace nothing: a collector of somebody else's may listen at the default address."""
    monkeypatch.setenv("ZTRACE_DISABLED", "1")
