"""Wake-up of a thread that polls sockets, by other threads and signal handlers."""

import socket


class Waker:
    """Pair of sockets: `wake` makes the one with `fileno` readable until `clear`."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._read.fileno()

    def wake(self) -> None:
        """Wake the thread, now or at its next poll; nothing happens after `close`."""
        try:
            self._write.send(b"\0")
        except OSError:
            pass  # Full, so the thread is woken anyway; or closed.

    def clear(self) -> None:
        """Take the wake-ups so far."""
        try:
            while self._read.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close both sockets."""
        self._read.close()
        self._write.close()
