"""Offset of the wall clock to the monotonic clock."""

import pytest

import ztrace
from ztrace import spans
from ztrace.publishing import publisher as module


def test_the_offset_changes_with_the_wall_clock_alone(stopped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings that jitter leave the offset, so times of a process compare exactly; a set clock renews it."""
    now_ns = [1_700_000_000_000_000_000]
    monkeypatch.setattr(module, "unix_ns", lambda: now_ns[0])
    monkeypatch.setattr(module, "perf_counter_ns", lambda: 0)
    ztrace.configure("app", "tcp://127.0.0.1:9")
    publisher = spans.publisher
    assert isinstance(publisher, module.Publisher)
    first_ns = publisher.offset_ns
    assert first_ns == now_ns[0]
    now_ns[0] += 20_000
    publisher.renew_offset()
    assert publisher.offset_ns == first_ns
    now_ns[0] -= 3_600_000_000_000
    publisher.renew_offset()
    assert publisher.offset_ns == now_ns[0]
