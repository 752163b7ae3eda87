"""SIGTERM to a program that has no handler for it: deliver what there is, then end as it would have.

One idea: nobody can tell that there is a handler here. The exit status, and what a second SIGTERM does, are
those of a program without ztrace; and a program that has a handler, sets one later, or ignores the signal,
keeps what it has.

Python runs a handler in the main thread, when that is next in the interpreter: a signal that comes in the
microseconds before it waits for something is handled when that has come, if ever. Such a program would have
ended, so the publisher's thread hears of each signal as well (`nudge`), and if the handler does not begin,
it interrupts the main thread.
"""

import _socket
import atexit
import contextlib
import os
import signal
import struct
import sys
from collections.abc import Callable
from types import FrameType

from ztrace.native import get_ident, getpid, monotonic

#: How long the handler may take to begin.
_PATIENCE_S = 0.05
#: Whoever has not looked for longer does not know what became of a signal since.
_ATTENTION_S = 1.0
_SIGTERM_BIT = 1 << (signal.SIGTERM - 1)
#: The process, user and group who sent a datagram, where the system tells: forked children share the socket.
_CREDENTIALS = struct.Struct("3i")

_deliver: Callable[[], None] | None = None
#: The main thread, while the handler is there.
_main = 0
#: Where Python writes the number of each signal it has a handler for, and where that is read.
_told: tuple[_socket.socket, _socket.socket] | None = None
#: When it was told of a SIGTERM, and whether the handler was there at the look before.
_told_s, _was_ours = 0.0, False
#: When that was.
_looked_s = 0.0
#: What was blocked before a fork, by thread.
_masks: dict[int, set[int]] = {}


def deliver_on_sigterm(deliver: Callable[[], None]) -> None:
    """Have an unhandled SIGTERM call a function before it ends the process.

    Args:
        deliver: must return soon; it is called anywhere in the main thread, under gevent in the hub too.
    """
    global _deliver
    _deliver = deliver
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
    atexit.register(_stop_listening)
    arm()


def arm() -> None:
    """Put the handler in its place, if SIGTERM would end the process and this is the main thread.

    Called before a thread begins that calls `nudge`.
    """
    global _main
    if _deliver is None:
        return
    if not _main and _is_unhandled():
        try:
            signal.signal(signal.SIGTERM, _handle)
        except ValueError:  # Not the main thread.
            return
        _main = get_ident()
        _listen()
    if _main:
        _begin_to_look()


def _begin_to_look() -> None:
    """Forget what was told while nobody looked: somebody may have had the signal and dealt with it."""
    global _told_s, _was_ours, _looked_s
    if _told is not None:
        with contextlib.suppress(OSError):
            while True:
                _told[0].recv(16)
    _told_s, _was_ours, _looked_s = 0.0, signal.getsignal(signal.SIGTERM) is _handle, monotonic()


def nudge() -> None:
    """See that the handler begins: called again and again by a thread that is not the main thread."""
    global _told_s, _was_ours, _looked_s
    told = _told
    if told is None:
        return
    now_s = monotonic()
    ours = signal.getsignal(signal.SIGTERM) is _handle
    # A handler of the program's may have had the signal and have put this one back since.
    noting = ours and _was_ours and now_s - _looked_s < _ATTENTION_S
    _was_ours, _looked_s = ours, now_s
    try:
        while True:
            numbers, ancillary, _, _ = told[0].recvmsg(16, 256)
            if noting and signal.SIGTERM in numbers and _is_own(ancillary):
                _told_s = _told_s or monotonic()
    except OSError:
        pass  # There is no more, or the program is at its end.
    if not ours:
        _told_s = 0.0
    elif _told_s and monotonic() - _told_s > _PATIENCE_S:
        signal.pthread_kill(_main, signal.SIGTERM)


def _handle(number: int, frame: FrameType | None) -> None:
    if getpid() == 1:
        return  # The kernel would not have ended this one either.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # First: the next one does not wait.
    try:
        if _deliver is not None:
            _deliver()
    finally:
        os.kill(getpid(), signal.SIGTERM)


def _is_unhandled() -> bool:
    """Tell whether SIGTERM would end the process, as far as the kernel knows: libev does not ask Python."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL or getpid() == 1:
        return False
    try:
        with open("/proc/self/status", "rb") as lines:
            status = dict(line.split(b":", 1) for line in lines if line.startswith((b"SigIgn", b"SigCgt")))
        return not (int(status[b"SigIgn"], 16) | int(status[b"SigCgt"], 16)) & _SIGTERM_BIT
    except (OSError, KeyError, ValueError):
        return "gevent" not in sys.modules


def _listen() -> None:
    """Hear of signals beside the main thread, unless an event loop does, which then wakes up by itself."""
    global _told
    # Not `socket`'s, which gevent may have replaced.
    reading, writing = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    for end in (reading, writing):
        end.setblocking(False)
    if sys.platform == "linux":
        reading.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
    before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    if before == -1:
        _told = reading, writing
    else:
        signal.set_wakeup_fd(before)
        reading.close()
        writing.close()


def _stop_listening() -> None:
    global _told
    told, _told = _told, None
    if told is None:
        return
    try:
        before = signal.set_wakeup_fd(-1)
        if before != told[1].fileno():
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
    except ValueError:
        return  # Not the main thread, which alone could end it.
    for end in told:
        end.close()


def _is_own(ancillary: list[tuple[int, int, bytes]]) -> bool:
    """Tell whether a signal was this process's, and not one of a child that has not come to itself yet."""
    return all(_CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0] == getpid() for _, _, data in ancillary)


def _before_fork() -> None:
    if _main:
        # A child would forget one that comes before it has the default back.
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _after_fork_in_parent() -> None:
    mask = _masks.pop(get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    """Have the child end at once: until it has spans, there is nothing to deliver, and no thread to nudge."""
    global _deliver, _main
    if signal.getsignal(signal.SIGTERM) is _handle:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    elif _main:
        _deliver = None  # The program has put something else there, and will have it so in its children.
    _main = 0
    _stop_listening()
    _after_fork_in_parent()
