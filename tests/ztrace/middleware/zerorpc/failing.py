"""Methods that raise, pass on, catch and replace failures of other services.

One idea: each method journals the exceptions it raises, their sources, the raising line and the exceptions it
catches, so that tests refer to neither lines nor objects.
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

#: One exception object raised by several methods, as modules with a global exception do.
KEPT = LookupError("kept")


class StockError(Exception):
    """Exception class of the service."""


class FailingMethods:
    """Failing methods of every service; the first parameter is always the token."""

    def __init__(self, journal: Journal, upstream: Any) -> None:
        self._journal = journal
        self._upstream = upstream

    def raise_stock(self, token: str) -> None:
        """Raise the service's own exception."""
        raise self._journal.raising(token, StockError(f"no stock for order {token}"))

    def raise_price(self, token: str) -> None:
        """Raise a builtin exception in a nested call."""
        self._look_up(token)

    def _look_up(self, token: str) -> None:
        raise self._journal.raising(token, KeyError(f"no price for {token}"))

    def slow_and_raise(self, token: str, duration_s: float) -> None:
        """Raise after the given time."""
        gevent.sleep(duration_s)
        raise self._journal.raising(token, StockError("too late"))

    def raise_kept(self, token: str) -> None:
        """Raise the global exception object."""
        raise self._journal.raising(token, KEPT)

    def raise_kept_clean(self, token: str) -> None:
        """Raise the global exception object without its old traceback."""
        raise self._journal.raising(token, KEPT.with_traceback(None))

    def raise_annotated(self, token: str) -> None:
        """Raise an exception with notes."""
        error = StockError("noted")
        error.add_note("while counting shelf 7")
        error.add_note("and shelf 8")
        raise self._journal.raising(token, error)

    def raise_group(self, token: str) -> None:
        """Raise a nested group, with members that were raised here and members that never were."""
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
        """Raise at the end of a mutual recursion."""
        if not depth:
            raise self._journal.raising(token, StockError("at the bottom"))
        self._turn(token, depth - 1)

    def _turn(self, token: str, depth: int) -> None:
        self.recurse_in_turn(token, depth)

    def recurse_for_ever(self, token: str) -> None:
        """Recurse until Python's recursion limit."""
        self.recurse_for_ever(token)

    def flaky(self, token: str, failures: int) -> str:
        """Fail the first calls of a caller, then succeed."""
        if int(token.rpartition(".")[2]) < failures:
            raise self._journal.raising(token, ConnectionError(f"not yet {token}"))
        return "at last"

    def leave(self, token: str, status: object) -> None:
        """Exit the process from within a method."""
        try:
            sys.exit(status)  # type: ignore[arg-type]
        except SystemExit as error:
            self._journal.raising(token, error)
            raise

    def interrupt(self, token: str) -> None:
        """Raise KeyboardInterrupt, as Ctrl-C does."""
        raise self._journal.raising(token, KeyboardInterrupt())

    def work_in_greenlet(self, token: str) -> None:
        """Fail in a greenlet, within the method's span only."""
        gevent.spawn(self._look_up, token).get()

    def work_in_thread(self, token: str) -> None:
        """Fail in a thread, within the thread's own span."""

        def work() -> None:
            with ztrace.span("in thread"):
                raise self._journal.raising(token, StockError("in a thread"))

        gevent.get_hub().threadpool.apply(contextvars.copy_context().run, (work,))

    def pass_on(self, token: str, method: str, *args: Any) -> Any:
        """Call the upstream service."""
        with self._journal.entry("client", f"{token}.0", method):
            return self._upstream(method, f"{token}.0", *args)

    def pass_on_in_span(self, token: str, method: str, *args: Any) -> Any:
        """Call the upstream service within an own span."""
        with ztrace.span("inside"):
            return self.pass_on(token, method, *args)

    def pass_on_in_greenlet(self, token: str, method: str, *args: Any) -> Any:
        """Call the upstream service in another greenlet, and wait for the result."""
        return gevent.spawn(zerorpc.fork_task_context(self.pass_on), token, method, *args).get()

    def log_and_raise(self, token: str, how: str, method: str, *args: Any) -> Any:
        """Log the error, and raise it again in one of the usual ways."""
        kept: Exception | None = None
        try:
            return self.pass_on(token, method, *args)
        except zerorpc.RemoteError as error:
            if how == "bare":
                raise
            if how == "named":
                raise error
            if how == "bare traceback":
                raise error.with_traceback(None)  # noqa: B904  Raises the same object.
            kept = error
        assert kept is not None
        raise kept

    def ask_elsewhere(self, token: str, endpoint: str, method: str, *args: Any) -> Any:
        """Call a service by its endpoint; raise an own error if the service is lost."""
        client = zerorpc.Client(endpoint, timeout=5, heartbeat=0.2)
        try:
            with self._journal.entry("client", f"{token}.0", method):
                return client(method, f"{token}.0", *args)
        except zerorpc.LostRemote as error:
            raise self._journal.raising(token, StockError("lost"), "wrapped", error) from error
        finally:
            client.close()

    def time_out(self, token: str, timeout_s: float, method: str, *args: Any) -> Any:
        """Call the upstream service with a timeout shorter than the call takes."""
        with self._journal.entry("client", f"{token}.0", method):
            return self._upstream(method, f"{token}.0", *args, timeout=timeout_s)

    def bounce(self, token: str, depth: int, *endpoints: str) -> Any:
        """Call the next service of a ring, which does the same; raise at the end."""
        if not depth:
            return self.raise_stock(token)
        return self.ask_elsewhere(token, endpoints[0], "bounce", depth - 1, *endpoints[1:], endpoints[0])

    def swallow(self, token: str, method: str, *args: Any) -> str:
        """Catch the upstream error and return normally."""
        try:
            self.pass_on(token, method, *args)
        except Exception as error:
            self._journal.caught(token, error)
        return "swallowed"

    def retry(self, token: str, times: int, method: str, *args: Any) -> Any:
        """Retry the call a number of times; raise the last error."""
        for number in range(times):
            try:
                with self._journal.entry("client", f"{token}.{number}", method):
                    return self._upstream(method, f"{token}.{number}", *args)
            except zerorpc.RemoteError as error:
                if number == times - 1:
                    raise
                self._journal.caught(token, error)

    def fail_twice(self, token: str, first: list[Any], second: list[Any]) -> Any:
        """Catch the error of one call, and pass on that of another."""
        try:
            with self._journal.entry("client", f"{token}.0", first[0]):
                self._upstream(first[0], f"{token}.0", *first[1:])
        except zerorpc.RemoteError as error:
            self._journal.caught(token, error)
        with self._journal.entry("client", f"{token}.1", second[0]):
            return self._upstream(second[0], f"{token}.1", *second[1:])

    def fail_cleaning(self, token: str, first: list[Any], second: list[Any]) -> Any:
        """Fail with another service's error while handling the first."""
        try:
            with self._journal.entry("client", f"{token}.0", first[0]):
                return self._upstream(first[0], f"{token}.0", *first[1:])
        except zerorpc.RemoteError:
            with self._journal.entry("client", f"{token}.1", second[0]):
                return self._upstream(second[0], f"{token}.1", *second[1:])

    def remake(self, token: str, how: str, method: str, *args: Any) -> Any:
        """Raise an own error: from the upstream error, while handling it, twice so, or from None."""
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
        """Add a note to the error and raise it again."""
        try:
            return self.pass_on(token, method, *args)
        except zerorpc.RemoteError as error:
            error.add_note("while packing parcel 9")
            raise

    def gather(self, token: str, *calls: list[Any]) -> list[Any]:
        """Make several calls concurrently, and raise all errors as a group."""

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
        """Raise a group that contains such a group and an own exception."""
        try:
            return self.gather(token, *calls)
        except ExceptionGroup as inner:
            group = ExceptionGroup("nested", [KeyError("never raised"), inner])
        raise self._journal.raising(token, group, "grouped", *group.exceptions[1:])

    def stream_and_raise(self, token: str, number: int) -> Iterator[int]:
        """Yield numbers, then raise."""
        yield from range(number)
        raise self._journal.raising(token, StockError("no more"))

    def stream_on(self, token: str, method: str, *args: Any) -> Iterator[Any]:
        """Yield the items of an upstream stream."""
        with self._journal.entry("client", f"{token}.0", method):
            for each in self._upstream(method, f"{token}.0", *args):
                yield each + 0  # Used, as a real program does.

    def consume(self, token: str, endpoint: str, how: str) -> None:
        """Raise half way through a stream, closed explicitly before or by Python afterwards."""
        # A separate client: late items of a closed stream would block all its other calls.
        client = zerorpc.Client(endpoint, heartbeat=0.2)
        try:
            with self._journal.entry("client", f"{token}.0", "count"):
                stream = client("count", f"{token}.0", 5)
                next(stream)
                next(stream)  # The server may send the rest after the second item.
                if how == "close":
                    stream.close()
            for each in stream if how == "loop" else ["closed"]:
                raise self._journal.raising(token, StockError(f"unexpected {each}"))
        finally:
            client.close()


STREAMS = ("stream_and_raise", "stream_on")
