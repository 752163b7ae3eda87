"""Exceptions on their way through spans: recorded once, where they were first raised.

One idea: identity travels with the exception object. The first span an exception leaves marks it as its
origin; every other span it passes finds the mark, on the exception itself or on the one it was raised from.
Across processes the mark rides in the error reply, and the middleware puts it back with `mark_origin`.
"""

import os
import sys
from functools import lru_cache
from types import FrameType
from typing import TYPE_CHECKING, Any

from ztrace.wire import PASSED, RAISED, REPLACED, WRAPPED, ExceptionRecord, FrameRecord

if TYPE_CHECKING:
    from ztrace.spans import Context

#: Frames kept of one exception, the innermost ones: where it happened is what is asked for.
MAX_FRAMES = 50
#: Characters kept of a message and of a source line.
MAX_MESSAGE, MAX_CODE = 4096, 256
#: Causes kept: ``raise from`` in a loop can chain without end.
MAX_CAUSES = 8

#: Where mark and message are kept: in the exception's own dictionary, so that they go when it goes.
_MARK, _MESSAGE = "__ztrace_origin__", "__ztrace_message__"


def is_error(exception: BaseException) -> bool:
    """Tell whether a span that ends with this has failed: leaving a generator or the program has not."""
    if isinstance(exception, SystemExit):
        return exception.code not in (None, 0)
    return not isinstance(exception, GeneratorExit)


def mark_origin(exception: BaseException, trace_id: bytes, span_id: bytes) -> None:
    """Remember on the exception in which span it was first raised."""
    try:
        exception.__dict__[_MARK] = (trace_id, span_id)
    except Exception:  # A class without a dictionary: each span it passes will count as an origin.
        return


def describe(exception: BaseException, message: str) -> None:
    """Give an exception a better message than its ``str``, which the program goes on to see unchanged."""
    try:
        exception.__dict__[_MESSAGE] = message
    except Exception:
        return


def origin_of(exception: BaseException) -> tuple[bytes, bytes] | None:
    """Return the (trace id, span id) in which the exception was first raised, if a span saw it."""
    mark = getattr(exception, "__dict__", {}).get(_MARK)
    return mark if isinstance(mark, tuple) else None


def record_exception(exception: BaseException, span: "Context") -> ExceptionRecord | None:
    """Return the record of an exception that ends ``span``, and mark the exception with its origin."""
    if not is_error(exception):
        return None
    how, origin = _trace_back(exception, span.trace_id)
    if origin is None:
        origin = (span.trace_id, span.span_id)
    mark_origin(exception, *origin)
    frames = [] if how == PASSED else _frames(_stack(exception))
    causes = _causes(exception, MAX_CAUSES) if how == RAISED else []
    return ExceptionRecord(type_name(exception), message_of(exception), frames, causes, how, *origin)


def _trace_back(exception: BaseException, trace_id: bytes) -> tuple[str, tuple[bytes, bytes] | None]:
    """Find how the exception came here and from where: its own mark, or one on what it was raised from.

    A mark of another trace is an exception object kept and raised again: that is a new origin.
    """
    origin = origin_of(exception)
    if origin is not None and origin[0] == trace_id:
        return PASSED, origin
    seen = {id(exception)}
    how, link = _cause(exception)
    while link is not None and id(link) not in seen and len(seen) < MAX_CAUSES:
        origin = origin_of(link)
        if origin is not None and origin[0] == trace_id:
            return how, origin
        seen.add(id(link))
        link = _cause(link)[1]
    return RAISED, None


def _cause(exception: BaseException) -> tuple[str, BaseException | None]:
    if exception.__cause__ is not None:
        return WRAPPED, exception.__cause__
    return REPLACED, None if exception.__suppress_context__ else exception.__context__


def _causes(exception: BaseException, depth: int) -> list[list[Any]]:
    how, link = _cause(exception)
    if link is None or depth == 0:
        return []
    causes = _causes(link, depth - 1)
    frames = _frames(_traceback(link))
    return [list(ExceptionRecord(type_name(link), message_of(link), frames, causes, how, None, None))]


def type_name(exception: BaseException) -> str:
    """Return the class's name with its module, bare for builtins."""
    cls = type(exception)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def message_of(exception: BaseException) -> str:
    """Return ``str(exception)``, cut; a class whose ``__str__`` fails gets a placeholder."""
    try:
        text = getattr(exception, "__dict__", {}).get(_MESSAGE) or str(exception)
    except Exception:
        return "<no message: __str__ failed>"
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "…"


def _traceback(exception: BaseException) -> list[tuple[FrameType, int]]:
    """Return the frames the exception has passed, with their lines, outermost first."""
    steps = []
    step = exception.__traceback__
    while step is not None:
        steps.append((step.tb_frame, step.tb_lineno))
        step = step.tb_next
    return steps


def _stack(exception: BaseException) -> list[tuple[FrameType, int]]:
    """Return the traceback, and before it the callers if it has only passed libraries.

    A traceback begins where the exception was caught. For a timeout in an RPC client that is inside the
    client, and the line that made the call, which is what is asked for, lies further out.
    """
    steps = _traceback(exception)
    if steps and not any(_in_app(frame.f_code.co_filename, _module(frame)) for frame, _ in steps):
        caller = steps[0][0].f_back
        callers: list[tuple[FrameType, int]] = []
        while caller is not None and len(callers) < MAX_FRAMES:
            callers.append((caller, caller.f_lineno))
            caller = caller.f_back
        steps = callers[::-1] + steps
    return steps


def _frames(steps: list[tuple[FrameType, int]]) -> list[list[Any]]:
    """Return FrameRecords, without ztrace's own."""
    import linecache  # With sysconfig, not needed by programs without exceptions.

    frames = []
    for frame, line in steps[-MAX_FRAMES:]:
        code, module = frame.f_code, _module(frame)
        if module.partition(".")[0] == "ztrace":
            continue
        source = linecache.getline(code.co_filename, line, frame.f_globals).strip()[:MAX_CODE]
        in_app = _in_app(code.co_filename, module)
        frames.append(list(FrameRecord(code.co_filename, line, code.co_qualname, module, source, in_app)))
    return frames


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else ""


@lru_cache(maxsize=4096)
def _in_app(filename: str, module: str) -> bool:
    """Tell the user's own code from the standard library, installed packages and ztrace itself.

    A service may be an installed package too: the one that ``python -m`` runs is the user's own. A relative
    file name is not one that Python imported but one that a compiled extension was built from.
    """
    if not os.path.isabs(filename):
        return filename.startswith("<") and not filename.startswith("<frozen")
    if filename.startswith(_library_folders()):
        return module.partition(".")[0] == _main_package()
    return True


@lru_cache(maxsize=1)
def _main_package() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name.partition(".")[0] if spec is not None else "__main__"


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    import sysconfig

    paths = sysconfig.get_paths()
    found = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    found.add(os.path.dirname(__file__))
    return tuple(f"{path}{os.sep}" for path in found)
