"""The profiler of a publisher: its thread, its mode, and the requests of the collector.

One idea: no thread and no weak reference without need. By default there is neither until a request comes, and
both are gone when its time is over. The thread takes at most a hundredth of a core, and samples less often
where it would take more.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ztrace import diagnostics
from ztrace.native import allocate_lock, perf_counter_ns, thread_time_ns
from ztrace.process.collection import HeldCollection
from ztrace.process.probing import Shortage, note
from ztrace.process.threads import start_thread
from ztrace.profiling import owners, switching
from ztrace.profiling.due import Due
from ztrace.profiling.encoding import Answer, encode
from ztrace.profiling.gathering import Gathering, Moment
from ztrace.profiling.sampler import Sampler, Spans
from ztrace.profiling.sources import Interpreter, Source
from ztrace.records import DECLINED, FINISHED, STARTED
from ztrace.settings import Settings
from ztrace.wire import Request

#: Samples a second of the modes that need no request.
HZ = 50
#: Age from which the samples of single spans are kept without a request.
SLOW_NS = 100_000_000
#: Time after which a profile is sent; while a request is served, a user waits.
FLUSH_NS, HURRIED_FLUSH_NS = 10_000_000_000, 1_000_000_000
#: Share of a core that the thread may take, and of each measurement in the mean of a tick's cost.
MAX_SHARE, NEW_SHARE = 0.01, 0.1
#: Pause after which a thread that runs has run on.
DOUBT_S = 0.0003
#: Nonces of requests that are remembered.
MAX_NONCES = 256
#: Answers in a profile.
MAX_ANSWERS = 64
#: Profiles that wait for the publisher's thread; more are lost, and their samples with them.
MAX_READY = 100


class Target(Spans, Protocol):
    """The part of a publisher that its profiler uses.

    Attributes:
        offset_ns: Unix time minus the monotonic clock.
    """

    offset_ns: int

    @property
    def settings(self) -> Settings:
        """Settings of the process."""
        ...

    def give_back(self, objects: list[Any]) -> None:
        """Queue objects of the program's for release by one of the program's threads."""
        ...


class Policy(NamedTuple):
    """What is sampled, and how often.

    Attributes:
        hz: samples a second.
        sums: whether samples are added up by method.
        least_age_ns: age from which spans are sampled.
        run_age_ns: age from which the samples of single spans are kept.
        flush_ns: time after which a profile is sent.
    """

    hz: int
    sums: bool
    least_age_ns: int
    run_age_ns: int
    flush_ns: int


#: Policies of the modes that need no request.
STANDING = {
    "slow": Policy(HZ, False, SLOW_NS, SLOW_NS, FLUSH_NS),
    "always": Policy(HZ, True, 0, SLOW_NS, FLUSH_NS),
}


class Profiler:
    """Profiles of one incarnation; see `ztrace.publishing.ports.Profiler`.

    Attributes:
        sampled: samples taken so far.
    """

    def __init__(
        self,
        publisher: Target,
        collection: HeldCollection,
        make_source: Callable[[], Source] = Interpreter,
    ) -> None:
        self.sampled = 0
        self._publisher = publisher
        self._collection = collection
        self._make_source = make_source
        self._standing = STANDING.get(publisher.settings.profile)
        self._ready: deque[tuple[int, int, bytes]] = deque()
        self._answers: deque[Answer] = deque()
        #: Ends of the requests that are served, by nonce, with their samples a second.
        self._served: dict[bytes, tuple[int, int]] = {}
        self._nonces: OrderedDict[bytes, None] = OrderedDict()
        #: Decides whether the thread ends or serves one more request.
        self._deciding = allocate_lock()
        self._alarm = allocate_lock()
        self._alarm.acquire()
        self._sampling = False
        self._closed = False
        self._numbered = 0
        self._prepared = False

    @property
    def is_running(self) -> bool:
        """Whether there are samples, or will be, that `take` has not returned."""
        return self._sampling or bool(self._ready)

    def start(self) -> None:
        """Start sampling, where that does not wait for a request."""
        if self._standing is not None:
            self._start()

    def hear(self, request: Request) -> None:
        """Start to serve a request, or decline it; one that is repeated is ignored."""
        settings = self._publisher.settings
        if self._closed or request.nonce in self._nonces or request.service not in ("", settings.service):
            return
        self._nonces[request.nonce] = None
        if len(self._nonces) > MAX_NONCES:
            self._nonces.popitem(last=False)
        now_ns = perf_counter_ns()
        if settings.profile == "off":
            self._put(Gathering(now_ns), now_ns, [(request.nonce, DECLINED)])
            return
        self._put(Gathering(now_ns), now_ns, [(request.nonce, STARTED)])
        with self._deciding:
            self._served[request.nonce] = now_ns + request.seconds * 1_000_000_000, request.hz
        self._start()

    def take(self) -> tuple[int, int, bytes] | None:
        """Return the next profile that is ready: its start and its end, Unix, and the body of its message."""
        return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        """End sampling; the samples that are left are ready soon."""
        self._closed = True
        try:
            self._alarm.release()
        except RuntimeError:  # Not asleep.
            return

    def abandon(self) -> None:
        """Restore what the parent's profiler has changed, in a forked child."""
        self._restore()

    def run(self) -> None:
        """Take samples until the profiler is closed, or no request is left."""
        try:
            self._collection.hold()
            self._prepare()
            while not self._is_over():
                self._loop()
        except Exception:
            diagnostics.count_failure("profiling")
            self._restore()
            self._sampling = False
        finally:
            self._collection.release()

    def _start(self) -> None:
        with self._deciding:
            if self._sampling or self._closed:
                return
            self._sampling = True
        try:
            start_thread(self.run)
        except Shortage as shortage:
            self._sampling = False
            note(shortage)

    def _is_over(self) -> bool:
        """Return whether there is nothing to sample; a request that comes later starts a thread then."""
        with self._deciding:
            if not self._closed and (self._served or self._standing is not None):
                return False
            self._restore()
            self._sampling = False
            return True

    def _prepare(self) -> None:
        self._prepared = True
        switching.shorten()
        owners.watch()

    def _restore(self) -> None:
        """Restore the switch interval, and what spans know of their owners."""
        if self._prepared:
            self._prepared = False
            switching.restore()
            owners.unwatch()

    def _loop(self) -> None:
        """Take samples until the profiler is closed, or there is no reason to for the moment."""
        source = self._make_source()
        sampler = Sampler(self._publisher, source)
        now_ns = perf_counter_ns()
        policy = self._choose_policy(now_ns)
        if policy is None:
            return
        spent_ns, cost_ns = thread_time_ns(), 0
        gathering, due = Gathering(now_ns), Due(now_ns, 1_000_000_000 // policy.hz)
        while policy is not None and not self._closed:
            due.period_ns = max(1_000_000_000 // policy.hz, int(cost_ns / MAX_SHARE))
            wait_ns = max(0, due.next_ns - perf_counter_ns())
            self._collection.sleep(self._alarm.acquire, True, wait_ns / 1e9)
            now_ns = perf_counter_ns()
            owners.look_for_packages()
            self._sample(sampler, gathering, Moment(now_ns, due.pass_to(now_ns), due.period_ns), policy)
            before_ns, spent_ns = spent_ns, thread_time_ns()
            cost_ns += int(NEW_SHARE * (spent_ns - before_ns - cost_ns))
            following = self._choose_policy(now_ns)
            if (
                following != policy
                or self._answers
                or gathering.is_full
                or now_ns - gathering.start_ns >= policy.flush_ns
            ):
                self._flush(gathering, now_ns, policy)
                gathering, policy = Gathering(now_ns), following
                source.forget()
                spent_ns = thread_time_ns()  # Encoding is no part of the cost of a sample.
        if policy is not None:
            self._flush(gathering, perf_counter_ns(), policy)

    def _sample(self, sampler: Sampler, gathering: Gathering, moment: Moment, policy: Policy) -> None:
        before = gathering.samples
        try:
            objects = sampler.sample(gathering, moment, policy.least_age_ns)
            if objects:
                self._publisher.give_back(objects)
            if sampler.is_in_doubt:
                objects = []
                self._collection.sleep(self._alarm.acquire, True, DOUBT_S)
                sampler.settle(gathering)
        except Exception:
            diagnostics.count_failure("profiling")
        self.sampled += gathering.samples - before

    def _choose_policy(self, now_ns: int) -> Policy | None:
        """Return what to sample now, None if that is nothing; requests that are over are answered."""
        for nonce, (end_ns, _) in list(self._served.items()):
            if now_ns >= end_ns:
                del self._served[nonce]
                self._answers.append((nonce, FINISHED))
        rates = [hz for _, hz in list(self._served.values())]
        if not rates:
            return self._standing
        if self._standing is not None:
            rates.append(self._standing.hz)
        return Policy(max(rates), True, 0, 0, HURRIED_FLUSH_NS)

    def _flush(self, gathering: Gathering, now_ns: int, policy: Policy) -> None:
        answers = [self._answers.popleft() for _ in range(min(len(self._answers), MAX_ANSWERS))]
        if gathering.samples or answers:
            self._put(gathering, now_ns, answers, policy)

    def _put(
        self, gathering: Gathering, now_ns: int, answers: list[Answer], policy: Policy | None = None
    ) -> None:
        """Encode a profile for the publisher's thread; one that cannot be sent is lost with its samples."""
        offset_ns = self._publisher.offset_ns
        first = self._numbered
        self._numbered += gathering.samples
        body = encode(
            gathering,
            first,
            now_ns,
            offset_ns=offset_ns,
            answers=answers,
            sums=policy is not None and policy.sums,
            run_age_ns=0 if policy is None else policy.run_age_ns,
            rules=self._publisher.settings.scrub,
        )
        if body is not None and len(self._ready) < MAX_READY:
            self._ready.append((gathering.start_ns + offset_ns, now_ns + offset_ns, body))
