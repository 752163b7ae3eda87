"""Programs in trouble: code that misbehaves where ztrace could suffer from it, or make it worse.

One idea: in each turn a program compares what it gets with what it would get without ztrace, and counts the
turns that differ; all its spans are accounted for afterwards.
"""

import json

from tests.faults import identity
from tests.faults.running import Length
from tests.faults.stage import DEADLINE_S, Stage
from tests.faults.table import Row

_BEGIN = """
import json, sys
import ztrace
endpoint, turns = sys.argv[1], int(sys.argv[2])
ztrace.configure("trouble", endpoint)
made = wrong = unsure = 0  # Unsure: spans that may not have been made, since they were interrupted.
"""

_END = """
flushed = ztrace.flush(60)
ztrace.shutdown(60)
print(json.dumps([made, unsure, wrong + (not flushed)]))
"""

#: Mocks and proxies among the attributes of one span in ten.
_LIARS = """
from unittest.mock import MagicMock, Mock

class Proxy:
    def __getattribute__(self, name):
        if name == "__class__":
            return str
        raise SystemExit(name)
    __str__ = __repr__ = __len__ = __iter__ = __bool__ = __getattribute__

class Meta(type):
    def __hash__(cls):
        raise SystemExit
class Unhashable(metaclass=Meta):
    pass

liars = [lambda: Mock(spec=int), lambda: MagicMock(spec=str), lambda: MagicMock(spec=dict), Proxy, Unhashable]
for turn in range(turns):
    liar = liars[turn // 10 % len(liars)]() if turn % 10 == 0 else "bob"
    with ztrace.span("work", user=liar, turn=turn):
        made += 1
"""

#: Exceptions whose text raises, exits, recurses, is huge, or raises the exception itself through a span.
_TEXTS = """
class Stop(BaseException):
    pass

class Odd(Exception):
    def __init__(self, work):
        super().__init__(work)
        self.work = work
    def __str__(self):
        return self.work(self)

def stop(error):
    raise Stop
def leave(error):
    sys.exit(4)
def recurse(error):
    return str(error)
def raise_again(error):
    global made
    made += 1
    with ztrace.span("text"):
        raise error
def grow(error):
    return "x" * 1_000_000
works = [stop, leave, recurse, raise_again, grow]

for turn in range(turns):
    errors = [Odd(works[turn % len(works)]), KeyError("pen"), ValueError([{"row": n} for n in range(1000)])]
    error = errors[turn % len(errors)]
    before = dict(vars(error))
    caught = None
    made += 3
    try:
        with ztrace.span("outer"), ztrace.span("middle"), ztrace.span("inner"):
            raise error
    except BaseException as raised:
        caught = raised
    wrong += caught is not error or vars(error) != before or bool(ztrace.current_span().trace_id)
"""

#: Decorated objects that are no functions, and exceptions through decorated functions, with their spans.
_DECORATED = """
import asyncio, contextlib, functools, logging, traceback
logging.getLogger("ztrace").setLevel(logging.ERROR)

def fail(number):
    return number // 0

def make(trace):
    class Shop:
        def work(self, *numbers):
            return numbers
        name = trace(classmethod(lambda cls: cls.__name__))
        add = trace(staticmethod(lambda one, other: one + other))
        total = trace(property(lambda self: fail(1)))
        kept = trace(functools.cached_property(lambda self: 4))
        load = trace(functools.lru_cache(lambda self, key: key))
        later = trace(functools.partialmethod(work, 3))
        kept.__set_name__(None, "kept")

        @trace
        @contextlib.contextmanager
        def block(self):
            yield 5

    @trace
    class Job:
        pass

    @trace
    def steps(number):
        yield number
        yield fail(number)

    @trace
    async def wait(number):
        await asyncio.sleep(0)
        return fail(number)

    def use_block():
        with Shop().block() as entered:
            return entered, fail(entered)

    def use_cache():
        Shop.load.cache_clear()
        return Shop().load("a"), Shop.load.cache_info()

    return [
        (1, Shop.name), (1, lambda: Shop().add(1, 2)), (1, lambda: Shop().total), (1, lambda: Shop().kept),
        (1, use_cache), (1, lambda: Shop().later(4)), (1, use_block), (0, lambda: isinstance(Job(), Job)),
        (1, lambda: list(steps(1))), (1, lambda: asyncio.run(wait(1))), (1, lambda: trace(fail)(1, 2)),
        (1, trace(functools.partial(fail, 6))),
    ]

def see(call):
    try:
        return call()
    except Exception:
        return traceback.format_exc()

bare, traced = make(lambda decorated: decorated), make(ztrace.trace)
for turn in range(turns):
    spans, call = traced[turn % len(traced)]
    wrong += see(call) != see(bare[turn % len(bare)][1])
    made += spans
"""

#: Time limits that end in any moment, mostly within ztrace, what does nothing but make spans.
_INTERRUPTED = """
import random, signal, time

class Limit(Exception):
    pass

def end(*_):
    raise Limit

def work():
    global made
    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:
        made += 3
        with ztrace.span("outer"):
            with ztrace.span("inner"):
                pass
            try:
                with ztrace.span("fails"):
                    raise KeyError("pen")
            except KeyError:
                pass

signal.signal(signal.SIGALRM, end)
for turn in range(turns):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003))
        work()
        wrong += 1
    except Limit:
        wrong += bool(ztrace.current_span().trace_id)
        unsure += 3
    if turn % 50 == 0:
        ztrace.flush(60)
"""


def carry_liars(length: Length) -> Row:
    """Put mocks, proxies and objects of odd classes among the attributes."""
    return _run("mocks and proxies among the attributes", _LIARS, int(length.of(200_000, 5_000)))


def raise_odd_texts(length: Length) -> Row:
    """Raise exceptions through spans whose text does anything but return."""
    return _run("exceptions whose text raises, exits or recurses", _TEXTS, int(length.of(20_000, 600)))


def decorate_anything(length: Length) -> Row:
    """Decorate objects that are no functions, and raise through decorated functions."""
    return _run("the decorator on what is no function", _DECORATED, int(length.of(60_000, 1_200)))


def interrupt(length: Length) -> Row:
    """Have time limits end the making of spans, by an exception that mostly arrives within ztrace."""
    return _run("time limits that end within ztrace", _INTERRUPTED, int(length.of(3_000, 200)))


def _run(fault: str, code: str, turns: int) -> Row:
    with Stage() as stage:
        collector = stage.collector()
        program = stage.folder / "program.py"
        program.write_text(_BEGIN + code + _END)
        process = stage.start(str(program), collector.endpoint, str(turns))
        out, _ = process.communicate(timeout=10 * DEADLINE_S)
        assert process.returncode == 0, f"exit status {process.returncode}"
        made, unsure, wrong = json.loads(out)
        collector.stop()
        accounts = identity.check(collector.database, made, made - unsure)
    lost = identity.lost(accounts)
    return Row(
        fault,
        "the program as without ztrace, 0 lost",
        f"{wrong:,} of {turns:,} turns differ, {lost:,} of {made:,} lost",
        lost,
        not (wrong or lost),
    )
