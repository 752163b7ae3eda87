"""Lanes of spans: none while spans are one after the other, and numbers where they run side by side."""

import asyncio
import gc
import subprocess
import sys
import threading
from weakref import ref

import pytest

import ztrace
from tests.ztrace.recording import Recorder
from ztrace import spans
from ztrace.process import lanes

#: Gathers greenlets below a span, and prints their lanes and what is left of them.
_GREENLETS = """
import gc
import gevent
from weakref import ref
from ztrace import spans
import ztrace
from tests.ztrace.recording import Recorder

ztrace.instrument("gevent")
recorder = spans.publisher = Recorder()
def work(*names):
    for name in names:
        with ztrace.span(name):
            gevent.sleep(0)
with ztrace.span("root"):
    made = [gevent.spawn(work, "a", "b"), gevent.spawn(work, "c")]
    gevent.joinall(made)
    with ztrace.span("own"):
        pass
dead = [*map(ref, made)]
del made
gevent.sleep(0)
gc.collect()
print({span.name: span.lane for span in recorder.spans}, [each() for each in dead])
"""


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Return a publisher that keeps its spans."""
    recorder = Recorder()
    monkeypatch.setattr(spans, "publisher", recorder)
    return recorder


def lanes_of(recorder: Recorder) -> dict[str, int | None]:
    """Return the lanes of the recorded spans by name."""
    return {span.name: span.lane for span in recorder.spans}


def test_spans_one_after_the_other_have_no_lanes(recorder: Recorder) -> None:
    """Spans that nest and follow each other are not numbered, in one thread and in several."""
    with ztrace.span("root") as root:
        for number in range(2):
            with ztrace.span(f"child {number}"), ztrace.span(f"grandchild {number}"):
                pass
        thread = threading.Thread(target=lambda: ztrace.span("thread", parent=root).start().end())
        thread.start()
        thread.join()
    assert set(lanes_of(recorder).values()) == {None}


def test_tasks_of_a_gather_each_have_a_lane(recorder: Recorder) -> None:
    """Spans of one task below the gathering span share a lane, and the span's own calls have its lane."""

    async def work(*names: str) -> None:
        for name in names:
            with ztrace.span(name):
                await asyncio.sleep(0)
                with ztrace.span(f"within {name}"):
                    pass

    async def gather() -> None:
        with ztrace.span("root"):
            await work("before")
            await asyncio.gather(work("a", "b"), work("c"))
            await work("own")

    asyncio.run(gather())
    found = lanes_of(recorder)
    assert found["a"] == found["b"]
    assert found["root"] == found["own"]
    assert len({None, found["a"], found["c"], found["own"]}) == 4
    assert {found[name] for name in ("before", "within before", "within a", "within c")} == {None}


def test_threads_side_by_side_each_have_a_lane(recorder: Recorder) -> None:
    """Threads below a span have lanes of their own, also one with the system's number of an ended one."""
    with ztrace.span("root") as root, ztrace.span("beside"):
        for name in "ab":

            def work(name: str = name) -> None:
                for turn in range(2):
                    with ztrace.span(f"{name}{turn}", parent=root):
                        pass

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    found = lanes_of(recorder)
    assert found["a0"] == found["a1"]
    assert found["b0"] == found["b1"]
    assert found["root"] == found["beside"]
    assert len({None, found["root"], found["a0"], found["b0"]}) == 4


def test_spans_below_another_processs_are_numbered_too(recorder: Recorder) -> None:
    """Spans side by side below an extracted context have lanes."""
    above = ztrace.extract({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
    with ztrace.span("one", parent=above), ztrace.span("other", parent=above):
        pass
    found = lanes_of(recorder)
    assert found["one"] == found["other"] is not None


def test_ended_tasks_are_not_kept(recorder: Recorder) -> None:
    """A task that has ended is let go, and one in its place gets another number."""
    numbers: list[int | None] = []

    async def number() -> None:
        numbers.append(lanes.number_lane())
        numbers.append(lanes.number_lane())

    async def main() -> None:
        for _ in range(20):
            task = asyncio.create_task(number())
            await task
            dead = ref(task)
            del task
            await asyncio.sleep(0)
            gc.collect()
            assert dead() is None

    asyncio.run(main())
    assert numbers[::2] == numbers[1::2]
    assert len(set(numbers)) == 20


def test_numbers_are_bounded(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many tasks at once the numbers of the earlier ones are forgotten."""
    monkeypatch.setattr(lanes, "MAX_KEPT", 5)
    monkeypatch.setattr(lanes, "_numbers", {})

    async def number() -> int | None:
        await asyncio.sleep(0)
        return lanes.number_lane()

    async def main() -> list[int | None]:
        return await asyncio.gather(*(number() for _ in range(12)))

    assert len(set(asyncio.run(main()))) == 12
    assert len(lanes._numbers) <= 5


@pytest.mark.process
def test_greenlets_each_have_a_lane() -> None:
    """Greenlets in one thread each have a lane, and are not kept alive by it."""
    done = subprocess.run(
        [sys.executable, "-c", _GREENLETS], capture_output=True, text=True, timeout=60, check=True
    )
    names, dead = done.stdout.strip().split("} ")
    assert dead == "[None, None]"
    found = dict(pair.split(": ") for pair in names.strip("{").replace("'", "").split(", "))
    assert found["a"] == found["b"]
    assert found["root"] == found["own"]
    assert len({"None", found["a"], found["c"], found["own"]}) == 4
