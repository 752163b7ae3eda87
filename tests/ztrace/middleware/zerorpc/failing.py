"""Methods that fail, and that do with other services' failures whatever programs do.

One idea: each says in the journal what it raises, from what, and what it catches; the line that does it is in
the journal too, so a test needs to know neither the lines nor the objects.
"""

import contextvars
import sys
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.pool
import zerorpc

import ztrace
from tests.ztrace.middleware.zerorpc.journal import Journal

#: One object for all who raise it, as careless modules have them.
KEPT = LookupError("kept")


class StockError(Exception):
    """An exception of the service's own."""


class FailingMethods:
    """What every service can do wrong; the token comes first everywhere."""

    def __init__(self, journal: Journal, upstream: Any) -> None:
        self._journal = journal
        self._upstream = upstream

    # What raises.

    def raise_stock(self, token: str) -> None:
        """Raise."""
        raise self._journal.raising(token, StockError(f"no stock for order {token}"))

    def raise_price(self, token: str) -> None:
        """Raise something else, some lines deeper."""
        self._look_up(token)

    def _look_up(self, token: str) -> None:
        raise self._journal.raising(token, KeyError(f"no price for {token}"))

    def slow_and_raise(self, token: str, duration_s: float) -> None:
        """Raise after a while."""
        gevent.sleep(duration_s)
        raise self._journal.raising(token, StockError("too late"))

    def raise_kept(self, token: str) -> None:
        """Raise an object that has been raised before."""
        raise self._journal.raising(token, KEPT)

    def raise_kept_clean(self, token: str) -> None:
        """Raise it without what was left on it from before."""
        raise self._journal.raising(token, KEPT.with_traceback(None))

    def raise_annotated(self, token: str) -> None:
        """Raise with notes."""
        error = StockError("noted")
        error.add_note("while counting shelf 7")
        error.add_note("and shelf 8")
        raise self._journal.raising(token, error)

    def raise_group(self, token: str) -> None:
        """Raise a group within a group, of exceptions that were raised here and ones that never were."""
        members: list[Exception] = [KeyError("never raised")]
        try:
            self._look_up(token)
        except KeyError as error:
            members.append(error)
        inner = ExceptionGroup("inner", members)
        group = ExceptionGroup("outer", [inner, StockError("beside")])
        raise self._journal.raising(token, group)

    def raise_from_own(self, token: str) -> None:
        """Raise from an exception of the same method."""
        try:
            self._look_up(token)
        except KeyError as error:
            raise self._journal.raising(token, StockError("own"), "raised", error) from error

    def recurse(self, token: str, depth: int) -> None:
        """Raise at the end of a recursion."""
        if not depth:
            raise self._journal.raising(token, StockError("at the bottom"))
        self.recurse(token, depth - 1)

    def recurse_in_turn(self, token: str, depth: int) -> None:
        """Raise at the end of a recursion of two functions."""
        if not depth:
            raise self._journal.raising(token, StockError("at the bottom"))
        self._turn(token, depth - 1)

    def _turn(self, token: str, depth: int) -> None:
        self.recurse_in_turn(token, depth)

    def recurse_for_ever(self, token: str) -> None:
        """Recurse until Python stops it."""
        self.recurse_for_ever(token)

    def flaky(self, token: str, failures: int) -> str:
        """Fail the first times that a caller asks."""
        if int(token.rpartition(".")[2]) < failures:
            raise self._journal.raising(token, ConnectionError(f"not yet {token}"))
        return "at last"

    def leave(self, token: str, status: object) -> None:
        """End the process from within a method."""
        try:
            sys.exit(status)  # type: ignore[arg-type]
        except SystemExit as error:
            self._journal.raising(token, error)
            raise

    def interrupt(self, token: str) -> None:
        """Be hit by Control-C."""
        raise self._journal.raising(token, KeyboardInterrupt())

    def work_in_greenlet(self, token: str) -> None:
        """Fail in a greenlet, in no span but the method's."""
        gevent.spawn(self._look_up, token).get()

    def work_in_thread(self, token: str) -> None:
        """Fail in a thread, in a span of that thread's."""

        def work() -> None:
            with ztrace.span("in thread"):
                raise self._journal.raising(token, StockError("in a thread"))

        gevent.get_hub().threadpool.apply(contextvars.copy_context().run, (work,))

    # What passes on.

    def pass_on(self, token: str, method: str, *args: Any) -> Any:
        """Ask the service behind this one."""
        with self._journal.entry("client", f"{token}.0", method):
            return self._upstream(method, f"{token}.0", *args)

    def pass_on_in_span(self, token: str, method: str, *args: Any) -> Any:
        """Ask it within a span of one's own."""
        with ztrace.span("inside"):
            return self.pass_on(token, method, *args)

    def pass_on_in_greenlet(self, token: str, method: str, *args: Any) -> Any:
        """Ask it in another greenlet, and wait for that."""
        return gevent.spawn(zerorpc.fork_task_context(self.pass_on), token, method, *args).get()

    def log_and_raise(self, token: str, how: str, method: str, *args: Any) -> Any:
        """Write the error to a log, and raise it again in one of the usual ways."""
        kept: Exception | None = None
        try:
            return self.pass_on(token, method, *args)
        except zerorpc.RemoteError as error:
            if how == "bare":
                raise
            if how == "named":
                raise error
            if how == "bare traceback":
                raise error.with_traceback(None)  # noqa: B904  The very same object.
            kept = error
        assert kept is not None
        raise kept

    def ask_elsewhere(self, token: str, endpoint: str, method: str, *args: Any) -> Any:
        """Ask a service that is found at an address; if it goes away, which zerorpc tells nobody, say so."""
        client = zerorpc.Client(endpoint, timeout=5, heartbeat=0.2)
        try:
            with self._journal.entry("client", f"{token}.0", method):
                return client(method, f"{token}.0", *args)
        except zerorpc.LostRemote as error:
            raise self._journal.raising(token, StockError("lost"), "wrapped", error) from error
        finally:
            client.close()

    def time_out(self, token: str, timeout_s: float, method: str, *args: Any) -> Any:
        """Wait for less than the service behind this one takes."""
        with self._journal.entry("client", f"{token}.0", method):
            return self._upstream(method, f"{token}.0", *args, timeout=timeout_s)

    def bounce(self, token: str, depth: int, *endpoints: str) -> Any:
        """Ask the next of some services to do the same, and fail in the end."""
        if not depth:
            return self.raise_stock(token)
        return self.ask_elsewhere(token, endpoints[0], "bounce", depth - 1, *endpoints[1:], endpoints[0])

    # What catches.

    def swallow(self, token: str, method: str, *args: Any) -> str:
        """Go on without the answer."""
        try:
            self.pass_on(token, method, *args)
        except Exception as error:
            self._journal.caught(token, error)
        return "swallowed"

    def retry(self, token: str, times: int, method: str, *args: Any) -> Any:
        """Ask again until there is an answer; in the end give up with the last error."""
        for number in range(times):
            try:
                with self._journal.entry("client", f"{token}.{number}", method):
                    return self._upstream(method, f"{token}.{number}", *args)
            except zerorpc.RemoteError as error:
                if number == times - 1:
                    raise
                self._journal.caught(token, error)

    def fail_twice(self, token: str, first: list[Any], second: list[Any]) -> Any:
        """Catch one error, and let another one pass."""
        try:
            with self._journal.entry("client", f"{token}.0", first[0]):
                self._upstream(first[0], f"{token}.0", *first[1:])
        except zerorpc.RemoteError as error:
            self._journal.caught(token, error)
        with self._journal.entry("client", f"{token}.1", second[0]):
            return self._upstream(second[0], f"{token}.1", *second[1:])

    def fail_cleaning(self, token: str, first: list[Any], second: list[Any]) -> Any:
        """Fail to clean up after an error, with another service's error."""
        try:
            with self._journal.entry("client", f"{token}.0", first[0]):
                return self._upstream(first[0], f"{token}.0", *first[1:])
        except zerorpc.RemoteError:
            with self._journal.entry("client", f"{token}.1", second[0]):
                return self._upstream(second[0], f"{token}.1", *second[1:])

    # What makes others of them.

    def remake(self, token: str, how: str, method: str, *args: Any) -> Any:
        """Raise an error of its own: from the other, while handling it, twice so, or instead of it."""
        raising = self._journal.raising
        try:
            return self.pass_on(token, method, *args)
        except zerorpc.RemoteError as error:
            if how == "from":
                raise raising(token, StockError("from"), "wrapped", error) from error
            if how == "while":
                raise raising(token, StockError("while"), "replaced", error)  # noqa: B904
            if how == "none":
                raise raising(token, StockError("none")) from None
            try:
                raise raising(token, KeyError("first"), "replaced", error)
            except KeyError as middle:
                raise raising(token, StockError("twice"), "wrapped", middle) from middle

    def annotate(self, token: str, method: str, *args: Any) -> Any:
        """Put a note on the error and let it pass."""
        try:
            return self.pass_on(token, method, *args)
        except zerorpc.RemoteError as error:
            error.add_note("while packing parcel 9")
            raise

    def gather(self, token: str, *calls: list[Any]) -> list[Any]:
        """Ask several things at once; raise all that failed as a group."""

        def ask(number: int) -> Any:
            method, *args = calls[number]
            try:
                with self._journal.entry("client", f"{token}.{number}", method):
                    return self._upstream(method, f"{token}.{number}", *args)
            except zerorpc.RemoteError as error:
                return error

        answers: list[Any] = gevent.pool.Pool(8).map(zerorpc.fork_task_context(ask), range(len(calls)))
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if errors:
            group = ExceptionGroup(f"{len(errors)} failed", errors)
            raise self._journal.raising(token, group, "grouped", *errors)
        return answers

    def gather_within(self, token: str, *calls: list[Any]) -> list[Any]:
        """Raise a group that holds such a group and an exception of this method."""
        try:
            return self.gather(token, *calls)
        except ExceptionGroup as inner:
            group = ExceptionGroup("nested", [KeyError("never raised"), inner])
        raise self._journal.raising(token, group, "grouped", *group.exceptions[1:])

    # Streams.

    def stream_and_raise(self, token: str, number: int) -> Iterator[int]:
        """Stream numbers, then raise."""
        yield from range(number)
        raise self._journal.raising(token, StockError("no more"))

    def stream_on(self, token: str, method: str, *args: Any) -> Iterator[Any]:
        """Stream what the service behind this one streams."""
        with self._journal.entry("client", f"{token}.0", method):
            for each in self._upstream(method, f"{token}.0", *args):
                yield each + 0  # Looked at, as programs do it.

    def consume(self, token: str, endpoint: str, how: str) -> None:
        """Raise half way through a stream, which is read no further: closed before, or by Python after."""
        # Its own: what still comes of a stream that was closed is in the way of all other calls.
        client = zerorpc.Client(endpoint, heartbeat=0.2)
        try:
            with self._journal.entry("client", f"{token}.0", "count"):
                stream = client("count", f"{token}.0", 5)
                next(stream), next(stream)  # The server may send the rest after the second one.
                if how == "close":
                    stream.close()
            for each in stream if how == "loop" else ["closed"]:
                raise self._journal.raising(token, StockError(f"unexpected {each}"))
        finally:
            client.close()


STREAMS = ("stream_and_raise", "stream_on")
