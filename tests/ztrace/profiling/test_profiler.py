"""Modes and requests: when the profiler has a thread, what the thread sends, and what it leaves behind."""

import _thread
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ztrace.profiling.profiles import Readable, read
from tests.ztrace.profiling.scripted import Register, Scripted
from tests.ztrace.waiting import wait_for
from ztrace import spans
from ztrace.native import get_ident, perf_counter_ns
from ztrace.process.collection import HeldCollection
from ztrace.profiling import owners, profiler
from ztrace.profiling.profiler import Profiler
from ztrace.profiling.sources import ACTIVE
from ztrace.records import DECLINED, FINISHED, STARTED
from ztrace.settings import Settings, read_settings
from ztrace.wire import Request

ASKED = Request(b"n" * 8, "", 100, 1)


class Publisher(Register):
    """Register of spans with what else a profiler needs of a publisher.

    Attributes:
        given_back: objects returned for release.
    """

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.offset_ns = 10**18
        self.settings: Settings = read_settings("billing", environ={"ZTRACE_PROFILE": mode})
        self.given_back: list[Any] = []

    def give_back(self, objects: list[Any]) -> None:
        """Keep the objects."""
        self.given_back += objects


class Lab:
    """Profiler over a scripted source; its profiles are taken as a publisher's thread would take them."""

    def __init__(self, mode: str) -> None:
        self.publisher = Publisher(mode)
        self.source = Scripted()
        self.profiler = Profiler(self.publisher, HeldCollection(), lambda: self.source)
        self.taken: list[Readable] = []

    def takes(self) -> list[Readable]:
        """Return all profiles so far."""
        while (ready := self.profiler.take()) is not None:
            start_ns, end_ns, body = ready
            self.taken.append(read(body))
            profile = self.taken[-1].profile
            assert (profile.start_ns, profile.end_ns) == (start_ns, end_ns)
        return self.taken

    def answers(self) -> list[tuple[bytes, int]]:
        """Return the answers so far."""
        return [(nonce, state) for one in self.takes() for nonce, state in one.profile.answers]

    def is_over(self) -> bool:
        """Return whether the thread has ended, and all is taken."""
        self.takes()
        return not self.profiler.is_running


@pytest.fixture
def lab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Yield a profiler in the mode of the parameter; check at the end that it has left nothing behind."""
    before, threads = sys.getswitchinterval(), _thread._count()
    quick = {mode: policy._replace(flush_ns=50_000_000) for mode, policy in profiler.STANDING.items()}
    monkeypatch.setattr(profiler, "STANDING", quick)
    lab = Lab(getattr(request, "param", "demand"))
    lab.publisher.opens(1, perf_counter_ns() - 10**9)
    lab.source.puts(1, ACTIVE, "main")
    yield lab
    lab.profiler.close()
    wait_for(lab.is_over)
    wait_for(lambda: _thread._count() <= threads)
    assert sys.getswitchinterval() == before
    assert spans.find_owner is get_ident


@pytest.mark.parametrize("lab", ["off", "demand"], indirect=True)
def test_there_is_no_thread_without_a_request(lab: Lab) -> None:
    """Where nothing is sampled unasked, starting the publisher starts no thread."""
    threads = _thread._count()
    lab.profiler.start()
    assert (_thread._count(), lab.profiler.is_running, lab.profiler.take()) == (threads, False, None)
    assert spans.find_owner is get_ident


@pytest.mark.parametrize("lab", ["off"], indirect=True)
def test_a_request_is_declined_where_the_process_says_so(lab: Lab) -> None:
    """With the profiler off, a request is answered and nothing is sampled."""
    lab.profiler.hear(ASKED)
    assert lab.answers() == [(ASKED.nonce, DECLINED)]
    assert (lab.profiler.sampled, lab.profiler.is_running) == (0, False)


def test_a_request_is_served_for_its_time(lab: Lab) -> None:
    """A request is answered as it begins and as it ends, with its samples numbered without a gap."""
    lab.profiler.hear(ASKED)
    assert lab.answers() == [(ASKED.nonce, STARTED)]
    wait_for(lambda: spans.find_owner is owners.find_owner)
    assert sys.getswitchinterval() == pytest.approx(0.001)
    wait_for(lab.is_over)
    assert lab.answers() == [(ASKED.nonce, STARTED), (ASKED.nonce, FINISHED)]
    end = 0
    for one in lab.taken:
        assert one.profile.first == end
        end += one.profile.samples
    assert end == lab.profiler.sampled > 0
    (key,) = {(one.method, one.stack) for taken in lab.taken for one in taken.sums}
    assert key == ("work", ("main",))
    assert all(taken.runs for taken in lab.taken if taken.profile.samples)


def test_requests_are_served_once(lab: Lab) -> None:
    """A repeated request changes nothing, nor does one for another service; further ones are served."""
    lab.profiler.hear(ASKED._replace(service="billing"))
    lab.profiler.hear(ASKED)
    lab.profiler.hear(ASKED._replace(seconds=600))
    lab.profiler.hear(Request(b"a" * 8, "another", 100, 600))
    wait_for(lab.is_over)
    lab.profiler.hear(Request(b"f" * 8, "", 50, 1))
    lab.profiler.hear(Request(b"g" * 8, "", 50, 1))
    wait_for(lab.is_over)
    answers = [(nonce, state) for nonce in (ASKED.nonce, b"f" * 8) for state in (STARTED, FINISHED)]
    assert sorted(lab.answers()) == sorted([*answers, (b"g" * 8, STARTED), (b"g" * 8, FINISHED)])


@pytest.mark.parametrize("lab", ["always", "slow"], indirect=True)
def test_a_standing_mode_samples_unasked(lab: Lab) -> None:
    """Always sums up all spans, slow keeps old ones only; both send what they have again and again."""
    lab.publisher.opens(2, perf_counter_ns() + 10**12, "young")
    lab.source.puts(2, ACTIVE, "main")
    lab.profiler.start()
    wait_for(lambda: len(lab.takes()) > 2)
    lab.profiler.close()
    wait_for(lab.is_over)
    always = lab.publisher.settings.profile == "always"
    assert all(bool(one.sums) == always for one in lab.taken)
    assert {name for one in lab.taken for name in one.names.values()} == {"work"}
    assert sum(one.profile.samples for one in lab.taken) == lab.profiler.sampled


@pytest.mark.parametrize("lab", ["always"], indirect=True)
def test_a_request_beside_a_standing_mode_ends_alone(lab: Lab) -> None:
    """After a request the thread goes on as before it."""
    lab.profiler.start()
    lab.profiler.hear(ASKED)
    wait_for(lambda: (ASKED.nonce, FINISHED) in lab.answers())
    assert lab.profiler.is_running
    count = len(lab.taken)
    wait_for(lambda: len(lab.takes()) > count)


@pytest.mark.parametrize("lab", ["always"], indirect=True)
def test_the_programs_switch_interval_stays(lab: Lab) -> None:
    """An interval that the program sets while samples are taken is not restored to an older one."""
    before = sys.getswitchinterval()
    try:
        lab.profiler.start()
        wait_for(lambda: lab.profiler.sampled)
        sys.setswitchinterval(0.002)
        lab.profiler.close()
        wait_for(lab.is_over)
        assert sys.getswitchinterval() == pytest.approx(0.002)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("lab", ["always"], indirect=True)
def test_a_source_that_fails_ends_nothing(lab: Lab, counts: dict[str, int]) -> None:
    """A failure of the sampler's own is counted, and the next sample is taken."""
    lab.source.errors = [RuntimeError("of a test")]
    lab.profiler.start()
    wait_for(lambda: lab.profiler.sampled)
    assert counts == {"profiling": 1}


def test_a_full_profile_is_sent_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile is sent before it exceeds what a message may hold, long before it is due."""
    monkeypatch.setattr("ztrace.profiling.gathering.MAX_SAMPLES", 3)
    lab.profiler.hear(ASKED)
    wait_for(lab.is_over)
    assert max(one.profile.samples for one in lab.takes()) == 3


def test_a_closed_profiler_hears_nothing(lab: Lab) -> None:
    """After the end, no request starts a thread."""
    lab.profiler.close()
    lab.profiler.hear(ASKED)
    lab.profiler.start()
    assert not lab.profiler.is_running
