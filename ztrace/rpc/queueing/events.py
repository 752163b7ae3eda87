"""Events between a queue and its workers, in the form of zerorpc's: ``[header, name, args]``.

    worker to queue   _zt_beat [{credits, held, mark, about}]; OK and ERR as of a call; _zt_bye []
    queue to worker   _zt_job [body, job id, attempts]; _zt_ack [attempt ids]; _zt_cancel;
                      _zt_mark [token, mark]

The id of an attempt is the ``message_id`` of its job and ``response_to`` of what concerns it later. All that
a worker sends has its identity under ``worker`` in ztrace's part of the header.
"""

from typing import Any, Final

from ztrace.rpc import wire

BEAT: Final = "_zt_beat"
BYE: Final = "_zt_bye"
JOB: Final = "_zt_job"
ACK: Final = "_zt_ack"
MARK: Final = "_zt_mark"

#: Interval between the beats of a worker, and between the marks of a queue.
BEAT_S: Final = 0.5

Header = dict[str, Any]


def make_header(attempt_id: str | None = None, **own: Any) -> Header:
    """Return the header of an event that concerns an attempt, with ztrace's part."""
    header: Header = {"v": wire.PROTOCOL, wire.OWN: {"v": wire.VERSION, **own}}
    if attempt_id is not None:
        header["response_to"] = attempt_id
    return header


def read_event(data: bytes) -> tuple[Header, str, list[Any], dict[str, Any]]:
    """Return header, name and arguments of an event, and ztrace's part of the header.

    Raises:
        Exception: the frame is no event.
    """
    event = wire.unpack(data)
    wire.check_event(event)
    header, name, args = event
    own = header.get(wire.OWN)
    return header, name, args, own if type(own) is dict else {}
