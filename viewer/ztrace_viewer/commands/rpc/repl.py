"""``ztrace rpc repl``: methods of a service, called line by line."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from ztrace.errors import ZtraceError
from ztrace_viewer.commands.rpc.arguments import key_option
from ztrace_viewer.terminal.saying import complain, say

#: Lines of the history that are kept.
_HISTORY = 1000
#: Words that print help, and that end the session.
_HELP, _QUIT = ("help", "?"), ("quit", "exit")


@click.command()
@click.argument("address", metavar="ADDR")
@key_option
def repl(address: str, key: str | None) -> None:
    """Call methods interactively.

    A line is a method and its arguments, written as for 'ztrace rpc call'; quotes keep words together. help
    lists the methods, and 'help METHOD' shows one. Tab completes methods, and the history is kept. Ctrl-C
    stops a call, and Ctrl-D or quit ends the session. Lines are also read from a pipe.

    \b
    Example:
      ztrace rpc repl tcp://127.0.0.1:4242
      echo 'charge visa amount=12' | ztrace rpc repl tcp://127.0.0.1:4242
    """
    session = _Session(address, key)
    if not sys.stdin.isatty():
        for line in sys.stdin:
            if not session.run(line):
                return
        return
    session.greet()
    with _repeated_interrupts(), _line_editing(session.list_words()):
        while _is_continued(session):
            pass


class _Session:
    """Lines of one user, and the service that they call."""

    def __init__(self, address: str, key: str | None) -> None:
        from ztrace_viewer.commands.rpc.asking import ask, describe

        self._address, self._key = address, key
        self._service = ask(address, lambda client: describe(client, address), key=key)

    @property
    def prompt(self) -> str:
        """Text before each line."""
        return f"{self._service.name or self._address}> "

    def list_words(self) -> list[str]:
        """Return the words that a line can begin with."""
        return [*self._service.methods, _HELP[0], _QUIT[0]]

    def greet(self) -> None:
        """Print what is served, and how to find help."""
        say(f"{len(self._service.methods)} methods of {self._service.name or self._address}; try help")

    def run(self, line: str) -> bool:
        """Run a line; its errors are printed.

        Returns:
            Whether the session goes on.
        """
        try:
            words = shlex.split(line)
        except ValueError as error:
            complain(f"ztrace: {error}; quote whole words")
            return True
        if not words:
            return True
        # A method of such a name is called all the same.
        if words[0] not in self._service.methods:
            if words[0] in _QUIT:
                return False
            if words[0] in _HELP:
                words = words[1:2]
                return self._guarded(lambda: self._help(*words))
        return self._guarded(lambda: self._call(words[0], words[1:]))

    def _guarded(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except click.exceptions.Exit:
            pass  # The failure of the call is printed.
        except ZtraceError as error:
            complain(f"ztrace: {' '.join(str(error).split())}")
        return True

    def _help(self, name: str | None = None) -> None:
        from ztrace_viewer.commands.rpc.asking import find_method
        from ztrace_viewer.commands.rpc.drawing import draw_method, draw_service
        from ztrace_viewer.terminal.screen import open_screen, write

        if name is None:
            write(open_screen(), *draw_service(self._service, self._address))
        else:
            write(open_screen(), *draw_method(find_method(self._service, name, self._address), whole=True))

    def _call(self, name: str, words: list[str]) -> None:
        from ztrace_viewer.commands.rpc.arguments import read_call
        from ztrace_viewer.commands.rpc.asking import ask, find_method, print_call, telling

        method = find_method(self._service, name, self._address)
        at = words.index("--") if "--" in words else len(words)
        args, kwargs = read_call(method, words[:at], words[at + 1 :])
        with telling(name):
            ask(self._address, lambda client: print_call(client, name, args, kwargs), key=self._key)


def _is_continued(session: _Session) -> bool:
    """Read and run a line, and return whether the session goes on; Ctrl-C stops the line."""
    try:
        return session.run(_read_line(session.prompt))
    except KeyboardInterrupt:
        complain("stopped")
        return True


def _read_line(prompt: str) -> str:
    """Return a line, a command to end the session at its end, and nothing after Ctrl-C."""
    try:
        return input(prompt)
    except EOFError:
        say("")
        return _QUIT[0]
    except KeyboardInterrupt:
        say("")
        return ""


@contextmanager
def _repeated_interrupts() -> Iterator[None]:
    """Have each Ctrl-C within the block raise KeyboardInterrupt, and not the first alone."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _line_editing(words: list[str]) -> Iterator[None]:
    """Complete words, and keep the lines of the block in a file of the user's."""
    try:
        import readline
    except ImportError:  # Python was built without it.
        yield
        return
    path = _find_history()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Lines can have secrets: nobody else reads the file.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY)

    def complete(typed: str, number: int) -> str | None:
        found = [word for word in words if word.startswith(typed)] if readline.get_begidx() == 0 else []
        return f"{found[number]} " if number < len(found) else None

    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        with suppress(OSError):
            readline.write_history_file(path)


def _find_history() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "ztrace/rpc-history"
