"""The source of stacks in this process: threads that block and run, and what it lets go of."""

import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from tests.ztrace.waiting import wait_for
from ztrace.profiling import owners
from ztrace.profiling.sources import BLOCKED, OWN_REFERENCES, Interpreter, let_go_of
from ztrace.profiling.stacks import Stacks

#: Time since the look before, as the source is told.
PASSED_NS = 20_000_000


class Blocked:
    """Thread that blocks in a known function until it is told to end."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.blocks = threading.Event()
        self.thread = threading.Thread(target=self.waits_here)
        self.thread.start()
        assert self.blocks.wait(30)
        self.owner = self.thread.ident or 0
        owners.native_ids[self.owner] = self.thread.native_id or 0

    def waits_here(self) -> None:
        """Wait for the end."""
        self.blocks.set()
        self.go.wait()

    def ends(self) -> None:
        """End the thread."""
        self.go.set()
        self.thread.join()


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Blocked]:
    """Yield a thread that blocks, in a program without greenlets and tasks."""
    monkeypatch.setattr(owners, "greenlets", None)
    monkeypatch.setattr(owners, "tasks", None)
    monkeypatch.setattr(owners, "native_ids", {})
    blocked = Blocked()
    yield blocked
    blocked.ends()


def test_a_thread_that_blocks_is_seen_to_block(blocked: Blocked) -> None:
    """A thread whose CPU clock stands still blocks, in the function where its stack is."""
    source, stacks = Interpreter(), Stacks()

    def look() -> tuple[int, list[str]]:
        (view,) = source.look([blocked.owner], PASSED_NS)
        assert view is not None
        number = source.read(blocked.owner, view, stacks)
        standing = view[1]
        del view
        source.let_go()
        return standing, [location.function.rpartition(".")[2] for location in stacks.locate(number)]

    wait_for(lambda: look()[0] == BLOCKED)
    wait_for(lambda: not source.has_run(blocked.owner))
    _, names = look()
    assert "waits_here" in names
    assert names[-1] in ("wait", "waits_here")


def test_a_thread_that_has_ended_is_not_seen(blocked: Blocked) -> None:
    """There is no view of a thread that has ended."""
    blocked.ends()
    source = Interpreter()
    assert source.look([blocked.owner], PASSED_NS) == [None]
    source.let_go()


def test_frames_of_functions_that_end_meanwhile_are_returned(blocked: Blocked) -> None:
    """The frame of a function that has ended since the look is returned, and not released by the source."""
    source = Interpreter()
    source.look([blocked.owner], PASSED_NS)
    blocked.ends()
    returned = source.let_go()
    assert all(isinstance(frame, FrameType) for frame in returned)
    ended = {frame.f_code.co_name for frame in returned}
    assert ended & {"wait", "waits_here"}
    source.look([blocked.owner], PASSED_NS)
    assert source.let_go() == []


def test_objects_with_other_references_are_not_returned() -> None:
    """Of a list that is let go of, those objects are returned that nothing else refers to."""
    kept = object()
    held = [kept, object(), kept]
    assert kept not in let_go_of(held, OWN_REFERENCES)
    assert held == []
    assert len(let_go_of([kept, object()], OWN_REFERENCES)) == 1
