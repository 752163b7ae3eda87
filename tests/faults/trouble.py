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
made = wrong = 0
"""

_END = """
flushed = ztrace.flush(60)
ztrace.shutdown(60)
print(json.dumps([made, wrong + (not flushed)]))
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
    wrong += caught is not error or vars(error) != before or ztrace.current_span() is not None
"""


def carry_liars(length: Length) -> Row:
    """Put mocks, proxies and objects of odd classes among the attributes."""
    return _run("mocks and proxies among the attributes", _LIARS, int(length.of(200_000, 5_000)))


def raise_odd_texts(length: Length) -> Row:
    """Raise exceptions through spans whose text does anything but return."""
    return _run("exceptions whose text raises, exits or recurses", _TEXTS, int(length.of(20_000, 600)))


def _run(fault: str, code: str, turns: int) -> Row:
    with Stage() as stage:
        collector = stage.collector()
        program = stage.folder / "program.py"
        program.write_text(_BEGIN + code + _END)
        process = stage.start(str(program), collector.endpoint, str(turns))
        out, _ = process.communicate(timeout=10 * DEADLINE_S)
        assert process.returncode == 0, f"exit status {process.returncode}"
        made, wrong = json.loads(out)
        collector.stop()
        accounts = identity.check(collector.database, made, made)
    lost = identity.lost(accounts)
    return Row(
        fault,
        "the program as without ztrace, 0 lost",
        f"{wrong:,} of {turns:,} turns differ, {lost:,} of {made:,} lost",
        lost,
        not (wrong or lost),
    )
