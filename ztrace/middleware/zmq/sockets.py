"""Wrappers of sockets, plain and of gevent: what is sent and received, and where each socket begins and ends.

pyzmq's methods call each other: ``send_multipart`` sends each frame by ``send``, and gevent's methods call
those of the plain socket. The outermost call does the work, and the flags of the socket's `Link` have the
inner ones pass. No lock is needed, since a socket is used by one thread at a time; of two greenlets, one may
send while the other one receives.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import zmq
from zmq.backend import Socket as BackendSocket

from ztrace import diagnostics
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.zmq.exemption import EXEMPT, KEY, link_of
from ztrace.middleware.zmq.frames import MARKER, find_content, find_text, take_text
from ztrace.middleware.zmq.links import Link
from ztrace.middleware.zmq.peers import announce

#: Return an option of a socket, whatever its class has in the method's place.
get_option = BackendSocket.get
#: Flags and options as plain numbers: those of pyzmq are enums, and slow.
_SNDMORE, _RCVMORE, _NOBLOCK = int(zmq.SNDMORE), int(zmq.RCVMORE), int(zmq.NOBLOCK)


def wrap_open(original: Callable[..., Any], connects: bool) -> Callable[..., Any]:
    """Wrap ``connect`` or ``bind``, before which a socket has to announce itself."""

    @functools.wraps(original)
    def open_socket(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            link = link_of(self)
            if link is not EXEMPT:
                if not link.announced:
                    link.announced = True
                    announce(self)
                link.peer.add(self, connects)
                link.open(args[0] if args else kwargs.get("addr", ""))
        except Exception:
            diagnostics.contain("zmq")
        try:
            return original(self, *args, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return open_socket


def wrap_close(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``close``, at which all spans of a socket end."""

    @functools.wraps(original)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            link = self.__dict__.get(KEY)
            if link is not None and link is not EXEMPT:
                insist(link.close, self)
        except Exception:
            diagnostics.contain("zmq")
        finally:
            result = original(self, *args, **kwargs)
        return result

    return close


def wrap_monitor(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``monitor``: a socket has one monitor, which the program's replaces."""

    @functools.wraps(original)
    def monitor(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            link_of(self).peer.give_up(self)
        except Exception:
            diagnostics.contain("zmq")
        return original(self, *args, **kwargs)

    return monitor


def wrap_send(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``send``: the frame goes before the first or the last of a message that is sent frame by frame."""
    send_frame = BackendSocket.send if original is zmq.Socket.send else original

    @functools.wraps(original)
    def send(self: Any, data: Any, flags: int = 0, *args: Any, **kwargs: Any) -> Any:
        link = self.__dict__.get(KEY) or link_of(self)
        if link.sending:
            return original(self, data, flags, *args, **kwargs)
        first, more = not link.more, flags & _SNDMORE
        link.more = bool(more)
        if not first if link.leads else more:
            if first and link.routes:
                link.addressee = data
            return original(self, data, flags, *args, **kwargs)
        begun, extra = False, None
        try:
            link.sending = True
            extra = None
            try:
                extra = link.before_send(self, (data,))
            except Exception:
                diagnostics.contain("zmq")
            if extra is None:
                result = original(self, data, flags, *args, **kwargs)
            elif link.publishes and first:
                result = original(self, data, flags | _SNDMORE, *args, **kwargs)
                begun = True
                original(self, extra, flags)
            else:
                send_frame(self, extra, flags | _SNDMORE)
                result = original(self, data, flags, *args, **kwargs)
            if link.ends:
                link.after_send()
            link.sending = False
            return result
        except BaseException as exception:
            if begun:  # The exception arrived between both frames: the next message is not to follow them.
                original(self, extra, flags)
            link.sending = False
            take_off_frame(exception)
            link.after_send(exception)
            raise

    return send


def wrap_send_multipart(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``send_multipart``: one of the frames of the message is ztrace's."""

    @functools.wraps(original)
    def send_multipart(self: Any, msg_parts: Sequence[Any], flags: int = 0, *args: Any, **kwargs: Any) -> Any:
        link = self.__dict__.get(KEY) or link_of(self)
        if link.sending or flags & _SNDMORE:
            return original(self, msg_parts, flags, *args, **kwargs)
        try:
            link.sending, link.more = True, False
            extra = before_send(link, self, msg_parts)
            if extra is not None:
                msg_parts = add_frame(link, msg_parts, extra)
            result = original(self, msg_parts, flags, *args, **kwargs)
            link.after_send()
            link.sending = False
            return result
        except BaseException as exception:
            link.sending = False
            take_off_frame(exception)
            link.after_send(exception)
            raise

    return send_multipart


def before_send(link: Link, socket: Any, frames: Sequence[Any]) -> bytes | None:
    """Return the frame to send with a message, whatever fails."""
    try:
        return link.before_send(socket, frames)
    except Exception:
        diagnostics.contain("zmq")
        return None


def add_frame(link: Link, frames: Sequence[Any], extra: bytes) -> list[Any]:
    """Return the frames of a message with the frame of ztrace's at its place."""
    if link.leads:
        return [extra, *frames]
    if link.publishes and len(frames) == 1:
        return [*frames, extra]
    place = find_content(frames) if link.envelopes else len(frames) - 1
    return [*frames[:place], extra, *frames[place:]]


def wrap_receive(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``recv``, which returns one frame of a message."""

    @functools.wraps(original)
    def recv(self: Any, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        link = self.__dict__.get(KEY) or link_of(self)
        if link.receiving:
            return original(self, flags, copy, track)
        if link.pushed_back:
            return link.pushed_back.pop(0)
        try:
            link.receiving = True
            found, link.found = link.found, None
            if found is None and link.consumes:
                link.before_receive()
            if link.peer.asking:
                frame = original(self, flags, False, track)
                link.peer.learn(frame)
                frame = frame.bytes if copy else frame
            else:
                frame = original(self, flags, copy, track)
            text = None if type(frame) is bytes and not frame.startswith(MARKER) else find_text(frame)
            while text is not None:
                if link.leads:
                    # Asking for RCVMORE takes longer. There is no next message before this one is answered.
                    try:
                        found, frame = text, original(self, flags | _NOBLOCK, copy, track)
                    except zmq.ZMQError:
                        break  # A forged frame: nothing follows.
                elif get_option(self, _RCVMORE):
                    found, frame = text, original(self, flags, copy, track)
                else:
                    break
                text = None if type(frame) is bytes and not frame.startswith(MARKER) else find_text(frame)
            if link.subscribes and found is None and get_option(self, _RCVMORE):
                following = original(self, flags, copy, track)
                found = find_text(following)
                if found is None:
                    link.pushed_back.append(following)
                elif get_option(self, _RCVMORE):
                    link.found = found
            if link.found is None:
                try:
                    if link.asynchronous:
                        link.received = ((frame,), found)
                    else:
                        link.after_receive((frame,), found)
                except Exception:
                    diagnostics.contain("zmq")
            link.receiving = False
            return frame
        except BaseException as exception:
            link.receiving = False
            take_off_frame(exception)
            raise

    return recv


def wrap_receive_multipart(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``recv_multipart``, which returns a whole message."""

    @functools.wraps(original)
    def recv_multipart(self: Any, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        link = self.__dict__.get(KEY) or link_of(self)
        if link.receiving:
            return original(self, flags, copy=copy, track=track)
        try:
            pushed, link.pushed_back = link.pushed_back, []
            link.receiving = True
            link.before_receive()
            frames: Sequence[Any] = ()
            if pushed and not get_option(self, _RCVMORE):
                pass
            elif link.peer.asking:
                frames = original(self, flags, copy=False, track=track)
                link.peer.learn(frames[-1])
                frames = [frame.bytes for frame in frames] if copy else frames
            else:
                frames = original(self, flags, copy=copy, track=track)
            text = None
            if len(frames) > 1:
                frames, text = take_text(frames)
            frames = [*pushed, *frames] if pushed else frames
            after_receive(link, frames, text)
            link.receiving = False
            return frames
        except BaseException as exception:
            link.receiving = False
            take_off_frame(exception)
            raise

    return recv_multipart


def wrap_receive_into(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``recv_into``, which writes one frame of a message into a buffer."""

    @functools.wraps(original)
    def recv_into(self: Any, buffer: Any, /, **kwargs: Any) -> Any:
        link = self.__dict__.get(KEY) or link_of(self)
        if link.receiving:
            return original(self, buffer, **kwargs)
        try:
            link.receiving = True
            link.before_receive()
            length = original(self, buffer, **kwargs)
            found, text = None, find_text(memoryview(buffer).cast("B")[:length])
            while text is not None and get_option(self, _RCVMORE):
                found, length = text, original(self, buffer, **kwargs)
                text = find_text(memoryview(buffer).cast("B")[:length])
            after_receive(link, (), found)
            link.receiving = False
            return length
        except BaseException as exception:
            link.receiving = False
            take_off_frame(exception)
            raise

    return recv_into


def after_receive(link: Link, frames: Sequence[Any], text: bytes | None) -> None:
    """Begin or end spans with a message; of an asyncio socket, once the message is awaited."""
    try:
        if link.asynchronous:
            link.received = (frames, text)
        else:
            link.after_receive(frames, text)
    except Exception:
        diagnostics.contain("zmq")


def wrap_get(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``get``: a frame that was received to look at it is still to come."""

    @functools.wraps(original)
    def get(self: Any, option: int) -> Any:
        if option == _RCVMORE:
            link = self.__dict__.get(KEY)
            if link is not None and link.pushed_back:
                return 1
        return original(self, option)

    return get


def wrap_poll(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Poller.poll``: a program that waits for the next message is done with the last one."""

    @functools.wraps(original)
    def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            for socket, _ in self.sockets:
                link = getattr(socket, "__dict__", {}).get(KEY)
                if link is not None:
                    link.before_receive()
        except Exception:
            diagnostics.contain("zmq")
        return original(self, *args, **kwargs)

    return poll
