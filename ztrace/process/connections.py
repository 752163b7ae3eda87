"""Bytes of a TCP connection, as the system counts them."""

import fcntl
import sys
import termios
from _socket import AF_INET, IPPROTO_TCP, SOCK_STREAM, socket
from struct import Struct

#: Option, offset and size of ``tcpi_bytes_received`` in Linux's ``tcp_info``, since Linux 4.1.
_TCP_INFO = 11
_RECEIVED = Struct("=Q")
_RECEIVED_AT = 128
_WAITING = Struct("=i")


def count_read(descriptor: int) -> int:
    """Return the bytes that were read from a connection so far; 0 if that is unknown.

    Linux alone tells, and of TCP.
    """
    if sys.platform != "linux":
        return 0
    try:  # C's socket, which gevent does not replace.
        connection = socket(AF_INET, SOCK_STREAM, 0, descriptor)
        try:
            info = connection.getsockopt(IPPROTO_TCP, _TCP_INFO, _RECEIVED_AT + _RECEIVED.size)
        finally:
            connection.detach()
        (waiting,) = _WAITING.unpack(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(_WAITING.size)))
        return int(_RECEIVED.unpack_from(info, _RECEIVED_AT)[0] - waiting)
    except Exception:  # Closed by now, another file's number, not TCP, or an older Linux.
        return 0
