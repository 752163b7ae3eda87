"""Tasks of process pools: what is pickled in place of a function, and of its result or exception.

One idea: each stand-in is pickled as a call that gives the original back, so that the program never sees one.
A task also carries the context of the span that submitted it; a result, and the traceback that pools send
with an exception, the reply. A child that cannot import ztrace gets the bare function.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, Final

from ztrace import diagnostics, spans
from ztrace.context import SpanContext
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.carriers import read_bytes, write_bytes
from ztrace.middleware.kit import new_span
from ztrace.middleware.replies import reply_text, take_reply
from ztrace.spans import CLIENT, CONSUMER, PRODUCER, SERVER, Span

#: Value of ``rpc.system.name`` and ``messaging.system``.
SYSTEM: Final = "multiprocessing"

#: Expression with which a child makes a task: the only form of code that may fail to import.
_FIND = (
    "__import__('ztrace.middleware.tasks', fromlist=('Task',)).Task"
    " if __import__('importlib.util').util.find_spec('ztrace') else lambda function, *_: function"
)
#: Modules and classes of the objects that carry an exception with its traceback to the parent.
_FAILURES = (
    ("concurrent.futures.process", "_ExceptionWithTraceback"),
    ("multiprocessing.pool", "ExceptionWithTraceback"),
)
#: Partials looked through for the name of a task.
_MAX_PARTIALS = 8

#: Spans of submitted tasks without an outcome, by span id.
open_tasks: dict[bytes, Span] = {}
#: Exception that the last task of this process failed with, the id of its caller, and the reply.
_failed: tuple[BaseException, bytes, str] | None = None


class _Maker:
    """`Task`, pickled so that a child without ztrace can read it."""

    def __call__(self, *arguments: Any) -> "Task":
        return Task(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (_FIND,)


_MAKE = _Maker()


class Task:
    """A function that runs within a server or consumer span in another process."""

    __slots__ = ("_context", "_function", "_kind", "_name")

    def __init__(self, function: Callable[..., Any], name: str, kind: int, context: bytes) -> None:
        self._function = function
        self._name = name
        self._kind = kind
        self._context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _MAKE, (self._function, self._name, self._kind, self._context)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function within its span; return its result, as a `Result` if the caller waits."""
        span = None
        try:
            try:
                if spans.publisher is not None:
                    span = self._new_span()
                    span.start()
                result = self._function(*args, **kwargs)
            except BaseException as exception:
                take_off_frame(exception)
                if span is not None:
                    span.reply()  # Recording the exception is not part of the function's time.
                    span.__exit__(None, exception)
                    self._note_failure(span, exception)
                raise
            if span is None:
                return result
            if self._kind == CONSUMER:
                span.__exit__()
                return result
            text = reply_text(span)
            span.__exit__()
            return Result(result, self._caller, text)
        except BaseException as exception:
            if span is not None:  # An exception may have arrived in the code above.
                insist(span.__exit__, None, exception)
            raise

    @property
    def _caller(self) -> bytes:
        return self._context[16:24]

    def _new_span(self) -> Span:
        _wrap_failures()
        caller = read_bytes(self._context)
        parent = None if caller is None else SpanContext(*caller)
        if self._kind == CONSUMER:
            attributes = {"messaging.system": SYSTEM}
            return new_span(self._name, CONSUMER, attributes, parent, (parent,) if parent else None)
        return new_span(self._name, SERVER, {"rpc.system.name": SYSTEM}, parent)

    def _note_failure(self, span: Span, exception: BaseException) -> None:
        global _failed
        try:
            _failed = exception, self._caller, reply_text(span, exception)
        except Exception:
            diagnostics.contain("executors")


class Result:
    """A result of a task on its way to the parent, where it is the bare result again."""

    __slots__ = ("_caller", "_reply", "_value")

    def __init__(self, value: Any, caller: bytes, reply: str) -> None:
        self._value = value
        self._caller = caller
        self._reply = reply

    def __reduce__(self) -> tuple[Any, ...]:
        return _take_result, (self._value, self._caller, self._reply)

    def __repr__(self) -> str:
        return repr(self._value)  # As a pool's error shows a result that cannot be pickled.


def _take_result(value: Any, caller: bytes, reply: str) -> Any:
    """Return a result that has arrived; its reply goes to the span of the caller."""
    _take(caller, reply, None)
    return value


def _take_failure(made: tuple[Any, ...], caller: bytes, reply: str) -> Any:
    """Return an exception that has arrived, marked with its origin."""
    exception = made[0](*made[1])
    _take(caller, reply, exception)
    return exception


def _take(caller: bytes, reply: str, exception: BaseException | None) -> None:
    try:
        if spans.publisher is not None:
            # The span of a message has ended.
            take_reply(open_tasks.get(caller) or SpanContext(bytes(16), caller), reply, exception)
    except Exception:
        diagnostics.contain("executors")


@functools.cache
def _wrap_failures() -> None:
    """Wrap, in a child, the pickling of exceptions that fail a task."""
    for module, name in _FAILURES:
        if module in sys.modules:
            cls = getattr(sys.modules[module], name)
            cls.__reduce__ = _wrap_reduce(cls.__reduce__)


def _wrap_reduce(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __reduce__(self: Any) -> Any:
        global _failed
        made = original(self)
        failed, _failed = _failed, None
        if failed is None or failed[0] is not self.exc:
            return made
        return _take_failure, (made, *failed[1:])

    return __reduce__


def new_call(function: Callable[..., Any], kind: int) -> Span | None:
    """Create the span of a call or message that hands a function to a pool, for the wrapper to start."""
    try:
        system = "messaging.system" if kind == PRODUCER else "rpc.system.name"
        return new_span(_name_of(function), kind, {system: SYSTEM})
    except Exception:
        diagnostics.contain("executors")
        return None


def make_task(function: Callable[..., Any], span: Span | None) -> Callable[..., Any]:
    """Return the function as a task below a span that has started; unchanged if nothing is recorded."""
    if span is None or span.ended:
        return function
    if span.kind == CLIENT:
        open_tasks[span.span_id] = span
    kind = SERVER if span.kind == CLIENT else CONSUMER
    return Task(function, span.name, kind, write_bytes(span))


def end_call(span: Span, exception: BaseException | None = None) -> None:
    """End the span of a task that has an outcome, or could not be submitted."""
    span.end(exception)
    open_tasks.pop(getattr(span, "span_id", b""), None)  # Unset if an exception arrived as the span started.


def _name_of(function: Any) -> str:
    for _ in range(_MAX_PARTIALS):
        if not issubclass(type(function), functools.partial):
            break
        # A chunk of `map` is a partial of an internal function that calls the program's.
        inner = function.args[0] if function.args else None
        is_chunk = getattr(function.func, "__module__", "") == "concurrent.futures.process"
        function = inner if is_chunk and callable(inner) else function.func
    name = getattr(function, "__qualname__", None)
    return name if type(name) is str else type(function).__qualname__
