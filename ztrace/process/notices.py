"""Notices of a signal, for a thread that is not the main one and without a descriptor for Python to write to.

One idea: `faulthandler` writes a traceback at once when a signal arrives, in C and in whatever thread
receives it, and then calls the previous handler. The text is ignored; its arrival is the notice.
`signal.set_wakeup_fd` would serve as well, but trio, asyncio and others need it for themselves.
"""

import _socket
import sys
from struct import Struct
from typing import Any

from ztrace.native import getpid, new_poll
from ztrace.process.descriptors import OwnFile

#: Process, user and group of a datagram's sender, where available: forked children share the socket.
_CREDENTIALS = Struct("3i")
#: Event of `select.poll` for a descriptor that can be read.
_POLLIN = 1


class Notices:
    """Notices of one signal in this process.

    Its handler has to be set in Python just before: whatever C code has set in its place would be called
    again.
    """

    def __init__(self, number: int) -> None:
        """Begin to note a signal; `close` ends that.

        Raises:
            OSError: no descriptors are left.
        """
        import faulthandler

        # Not `socket`'s, which gevent may have replaced.
        self._reading, self._writing = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        for end in (self._reading, self._writing):
            end.setblocking(False)
        if sys.platform == "linux":
            self._reading.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        self._files = [OwnFile(end.fileno()) for end in (self._reading, self._writing)]
        self._poll = new_poll()
        self._poll.register(self._reading.fileno(), _POLLIN)
        faulthandler.unregister(number)  # It would change the descriptor only, and not set the handler again.
        faulthandler.register(number, self._writing.fileno(), all_threads=False, chain=True)

    def take(self) -> bool:
        """Return whether this process has received the signal since the last call."""
        came = False
        try:
            while self._poll.poll(0) and self._files[0].is_open:
                _, ancillary, _, _ = self._reading.recvmsg(1, 256)
                came = came or _is_own(ancillary)
        except OSError:  # The program has closed the descriptor.
            pass
        return came

    def close(self) -> None:
        """Release the descriptors, unless they are other files' by now."""
        for end, file in zip((self._reading, self._writing), self._files, strict=True):
            end.detach()
            file.close()


def _is_own(ancillary: list[tuple[int, int, Any]]) -> bool:
    """Return whether a datagram is this process's, and not a forked child's that has run no hooks yet."""
    return all(_CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0] == getpid() for _, _, data in ancillary)
