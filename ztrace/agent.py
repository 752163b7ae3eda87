"""Life cycle of the agent in a process: configured, forked, shut down.

`spans.publisher` is the only switch: nothing is recorded while it is None. All functions here may be called
at any time and from any thread, and none raises.
"""

import atexit
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from ztrace import diagnostics, identifiers, spans
from ztrace.errors import SettingsError
from ztrace.exceptions import frames as exception_frames
from ztrace.exceptions import ownership
from ztrace.interpreter import opcodes
from ztrace.native import allocate_rlock, getpid, sleep, sleep_and_switch
from ztrace.settings import Settings, read_settings

if TYPE_CHECKING:
    from ztrace.publishing.ports import Adopter
    from ztrace.publishing.publisher import Publisher
    from ztrace.publishing.window import Storage
    from ztrace.wire import Identity

#: Timeout of the `shutdown` at exit.
EXIT_TIMEOUT_S = 2.0

#: Publishers of the parent, kept alive in a forked child: closing their sockets here would disturb it.
_inherited: list[object] = []
_hooked = False
#: The interpreter is exiting, and the publisher is closed: other tracers may still have spans to send.
exiting = False
#: Publisher that `shutdown` is waiting for.
_closing: "Publisher | None" = None
#: Locks by process id, for threads of a child that detect its fork at once: a thread that the child does not
#: have may hold a lock of the parent's.
_forks: dict[int, Any] = {}


def configure(
    service: str | None = None,
    endpoint: str | Sequence[str] | None = None,
    *,
    version: str | None = None,
    key: str | None = None,
    spool: "str | os.PathLike[str] | None" = None,
    scrub_keys: Sequence[str] = (),
    scrub_values: Sequence[str] = (),
    frames: str | None = None,
    record_locals: bool | None = None,
    queue_spans: int | None = None,
    window_bytes: int | None = None,
    batch_spans: int | None = None,
    linger_ms: int | None = None,
    spool_bytes: int | None = None,
) -> None:
    """Start recording and publishing spans.

    Arguments that are not given default to the ``ZTRACE_*`` variables, then to built-in values: the script's
    name and the collector's default address. ZTRACE_DISABLED=1 disables everything. A second call replaces
    the first configuration. An invalid setting is logged, and the program runs untraced.

    Args:
        service: name of the service that the spans carry.
        endpoint: the collector's ZeroMQ address, as in ``tcp://127.0.0.1:4710``; or several, in a list or
            with commas between, of which one is used at a time.
        version: version of the service, by which profiles are kept apart and compared.
        key: the line that ``ztrace keys add`` printed for this service.
        spool: folder for spans that a killed process could not deliver.
        scrub_keys: further names of attributes whose values must not leave the process.
        scrub_values: further regular expressions of text that must not leave the process.
        frames: ``all`` keeps the frames of ztrace and of RPC libraries in exceptions.
        record_locals: record the local variables of the program's own frames with exceptions.
        queue_spans: limit of spans waiting to be encoded.
        window_bytes: limit of bytes waiting in memory to be stored.
        batch_spans: spans sent at once.
        linger_ms: longest wait of a span before it is sent.
        spool_bytes: size limit of the folder.
    """
    try:
        settings = read_settings(
            service,
            endpoint,
            version=version,
            key=key,
            spool=spool,
            scrub_keys=scrub_keys,
            scrub_values=scrub_values,
            frames=frames,
            record_locals=record_locals,
            queue_spans=queue_spans,
            window_bytes=window_bytes,
            batch_spans=batch_spans,
            linger_ms=linger_ms,
            spool_bytes=spool_bytes,
        )
        diagnostics.debug = settings.debug
        shutdown()
        if settings.disabled:
            return

        opcodes.prepare()
        _hook_process()
        ownership.note_configuring(sys._getframe(1).f_globals)
        exception_frames.show_all, exception_frames.show_locals = settings.all_frames, settings.record_locals
        spans.publisher = open_publisher(settings)
    except SettingsError as error:
        diagnostics.warn(f"not tracing: {error}")
    except Exception:
        diagnostics.contain("configure")


def is_configured() -> bool:
    """Return whether spans are recorded."""
    return spans.publisher is not None


def current_publisher() -> "Publisher | None":
    """Return the publisher that spans are recorded for, None while nothing is recorded."""
    publisher = _publisher()
    return publisher if publisher is None or publisher.born_here else _succeed()


def open_publisher(settings: Settings) -> "Publisher":
    """Start an incarnation with its spool, if the settings name one; `close` ends both."""
    from ztrace.profiling.profiler import Profiler
    from ztrace.publishing.publisher import Publisher, new_identity  # Imports zmq.

    identity = new_identity(settings)
    return Publisher(settings, identity, *find_storage(settings, identity), _succeed, Profiler)


def find_storage(
    settings: Settings, identity: "Identity"
) -> "tuple[Callable[[], Storage] | None, Callable[[float], Adopter] | None]":
    """Return the functions that open the spool of an incarnation and adopt the spools of dead processes.

    The publisher opens the spool with its first span, and closes it. A daemon closes all descriptors between
    `configure` and its work, and most forked children never have a span.
    """
    if settings.spool is None:
        return None, None
    from pathlib import Path  # Most programs have no spool.

    from ztrace.spooling.adoption import Adoption
    from ztrace.spooling.spool import Spool

    folder = Path(settings.spool)
    # A key admits spans of its own service alone.
    service = None if settings.key is None else settings.service
    return (
        lambda: Spool(folder, identity, limit_bytes=settings.spool_bytes),
        lambda now_s: Adoption(folder, now_s, service, len(settings.endpoints)),
    )


def flush(timeout_s: float = 2.0) -> bool:
    """Wait until the collector has stored the spans ended so far.

    Returns:
        False if the deadline came first.
    """
    try:
        publisher = current_publisher()
        return publisher is None or publisher.flush(timeout_s)
    except Exception:
        diagnostics.contain("flush")
        return False


def shutdown(timeout_s: float = EXIT_TIMEOUT_S) -> None:
    """Deliver the remaining spans and stop recording; at exit this happens by itself.

    Spans that could not be delivered by the deadline are lost with the process, unless a spool keeps them:
    their number is printed to stderr.
    """
    global _closing
    publisher, spans.publisher = current_publisher(), None
    if publisher is not None:
        _closing = publisher
        close(publisher, timeout_s)
        _closing = None


def close(publisher: "Publisher", timeout_s: float, wait: Callable[[float], None] = sleep_and_switch) -> None:
    """Close a publisher, and print the number of undelivered spans to stderr."""
    try:
        publisher.end(timeout_s, wait)
    except Exception:
        diagnostics.contain("shutdown")


def _shutdown_at_exit() -> None:
    global exiting
    exiting = True
    try:
        shutdown(EXIT_TIMEOUT_S)
    except BaseException:
        # Ctrl-C, or a signal handler's exit: it ends the wait, and no code is left to get it.
        if _closing is not None:
            close(_closing, 0.0)


def _hook_process() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        atexit.register(_shutdown_at_exit)
        os.register_at_fork(after_in_child=_after_fork)
        from ztrace.process.signals import deliver_on_sigterm

        deliver_on_sigterm(_deliver_last)


def _deliver_last() -> None:
    """Deliver the remaining spans in a signal handler, those of a shutdown under way too."""
    publisher, spans.publisher = current_publisher() or _closing, None
    if publisher is not None:
        # Greenlets stand still meanwhile: the handler may run in the hub, which cannot wait for itself.
        close(publisher, EXIT_TIMEOUT_S, sleep)


def _after_fork() -> None:
    """Start an incarnation in a forked child; the parent sends what its own queue holds."""
    global _closing
    try:
        if _closing is not None:
            _inherited.append(_closing)
            _closing.abandon()
            _closing = None
        identifiers.forget()
        diagnostics.counts.clear()
        publisher = _publisher()
        if publisher is not None:
            publisher.abandon()
            _inherited.append(publisher)
            successor = open_publisher(publisher.settings)
            if spans.publisher is publisher:  # And not one that a signal handler has put there meanwhile.
                spans.publisher = successor
    except Exception:
        spans.publisher = None
        diagnostics.count_failure("fork")


def _succeed() -> "Publisher | None":
    """Run the steps of the fork hooks in a child in which none has run; return its publisher.

    Signal handlers are left alone: the C code that forked has set its own for the child.
    """
    with _forks.setdefault(getpid(), allocate_rlock()):
        publisher = _publisher()
        if publisher is not None and not publisher.born_here:
            _after_fork()
    return _publisher()


def _publisher() -> "Publisher | None":
    return cast("Publisher | None", spans.publisher)  # Spans know it as a `Target` only.
