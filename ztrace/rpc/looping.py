"""Thread that polls sockets until it is closed: of a worker, a puller and a subscriber."""

import contextlib
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from ztrace.errors import SettingsError
from ztrace.rpc.waking import Waker


def check_threads() -> None:
    """Raise where gevent has replaced threads, without which these sockets would stop the whole program.

    Raises:
        SettingsError: gevent has patched this process.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise SettingsError(
            "queues, workers, pullers and subscribers need threads, which gevent has replaced here",
            hint="run them in a process of their own",
        )


class Loop(ABC):
    """Base of what serves its sockets in the calling thread (`run`) or in one of its own (`start`)."""

    def __init__(self) -> None:
        self._closing = False
        self._waker: Waker | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Serve in a thread, until `close`.

        Raises:
            EndpointError: an address is invalid or in use.
            SettingsError: gevent has patched this process.
        """
        self._waker = self._open()
        name = f"ztrace-rpc-{type(self).__name__.lower()}"
        self._thread = threading.Thread(target=self._serve, args=(self._waker,), name=name, daemon=True)
        self._thread.start()
        return self

    def run(self) -> None:
        """Serve until `close`, SIGTERM or Ctrl-C; signals are only handled in the main thread.

        Raises:
            EndpointError: an address is invalid or in use.
            SettingsError: gevent has patched this process.
        """
        self._waker = self._open()
        with self._signals():
            self._serve(self._waker)

    def close(self) -> None:
        """Stop serving, and wait until a thread that `start` has started has ended."""
        self._stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _open_sockets(self) -> None:
        """Open the sockets; those that were opened before an exception are closed by `_close_sockets`."""

    @abstractmethod
    def _close_sockets(self) -> None:
        """Close the sockets that are open."""

    @abstractmethod
    def _work(self, waker: Waker) -> None:
        """Serve until `_closing`; the waker is readable once that has changed."""

    def _open(self) -> Waker:
        check_threads()
        try:
            self._open_sockets()
            return Waker()
        except BaseException:
            self._close_sockets()
            raise

    def _serve(self, waker: Waker) -> None:
        try:
            self._work(waker)
        finally:
            self._close_sockets()
            waker.close()

    def _stop(self, number: int = 0, frame: object = None) -> None:
        self._closing = True
        if self._waker is not None:
            self._waker.wake()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
