"""Settling beside messages: a small share of the time while there are always some."""

import time
from pathlib import Path

import pytest

from ztrace_collector.settling import spare_time
from ztrace_collector.settling.spare_time import SHARE, SpareTime
from ztrace_collector.storing.writer import Writer


def test_steps_have_a_share_of_the_time_while_messages_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside messages, a step is due once the time since the last one is that of the messages' share."""
    now_s, steps_s = 1_000.0, []

    class Settling:
        def step(self, _: Writer) -> None:
            nonlocal now_s
            now_s += 0.03
            steps_s.append(0.03)

    monkeypatch.setattr(spare_time, "Settler", Settling)
    with Writer(path, say=print) as writer, monkeypatch.context() as clock:
        clock.setattr(time, "monotonic", lambda: now_s)
        spare = SpareTime(None)
        begin_s = now_s
        while now_s < begin_s + 60:
            if spare.is_owed:
                spare.step(writer)
            now_s += 0.004  # A message.
    assert 0.8 * SHARE < sum(steps_s) / (now_s - begin_s) <= SHARE
