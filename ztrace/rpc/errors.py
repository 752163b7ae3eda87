"""Errors of `ztrace.rpc`, as one tree below `ZtraceError`.

RpcError
├── RemoteError        exception that the called method raised
├── DeadlineExceeded   no answer in time (also a TimeoutError)
├── PeerLost           connection or server gone (also a ConnectionError)
└── ProtocolError      message that breaks the wire format
"""

from collections.abc import Sequence
from typing import Any

from ztrace.errors import ZtraceError

#: Characters of a remote traceback that are kept: its end, where the error is.
MAX_TRACEBACK = 20_000


class RpcError(ZtraceError):
    """Base of all errors of calls."""


class RemoteError(RpcError):
    """Exception that the called method raised; the remote traceback is a note of the exception.

    Attributes:
        type: class of the remote exception, with its module where the server tells the module.
        text: message of the remote exception.
        arguments: arguments of the remote exception, as far as they can be sent.
        remote_traceback: traceback as the server printed it; empty if unknown.
    """

    def __init__(
        self,
        type: str,
        text: str = "",
        remote_traceback: str = "",
        *,
        arguments: Sequence[Any] = (),
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{type}: {text}" if text else type)
        self.type = type
        self.text = text
        self.arguments = tuple(arguments)
        self.remote_traceback = remote_traceback[-MAX_TRACEBACK:]
        for note in notes:
            self.add_note(note)
        if remote_traceback:
            self.add_note(f"Remote {self.remote_traceback.rstrip()}")

    def __reduce__(self) -> Any:
        """Return the arguments that make an equal error, for pickle and copy."""
        return _restore, (self.__class__, self.type, self.text, self.remote_traceback, self.arguments)


class DeadlineExceeded(RpcError, TimeoutError):
    """Call without an answer before its timeout or deadline."""


class PeerLost(RpcError, ConnectionError):
    """Call whose server or connection is gone; the method may have run."""


class ProtocolError(RpcError):
    """Message that breaks the wire format or exceeds a limit of the peer."""


class QueueError(RpcError):
    """Queue that is closed, or whose spool cannot be used."""


class JobCancelled(RpcError):
    """Job that was cancelled, or dropped from its queue."""


def _restore(cls: type[RemoteError], type: str, text: str, traceback: str, arguments: Any) -> RemoteError:
    return cls(type, text, traceback, arguments=arguments)
