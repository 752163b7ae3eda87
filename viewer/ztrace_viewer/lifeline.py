"""Lifeline of a child process: a pipe whose end is the end of the parent.

One idea: nothing is written to the child's standard input, so it ends when the parent closes it, and also
when the parent is killed. A child that watches it stops in either case, on every system.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable

#: Time for a process to finish its work after it was asked to stop.
GRACE_S = 3.0

#: Time for a process to exit beyond that.
_MARGIN_S = 2.0
#: The file descriptor of standard input.
_STDIN = 0


def hold(stop: Callable[[], object] | None = None) -> None:
    """Stop this process when its standard input ends.

    Args:
        stop: asks the process to end; called in another thread. Without it, or if the process is still
            alive after `GRACE_S`, the process is ended at once.
    """
    threading.Thread(target=_wait, args=(stop,), daemon=True).start()


def let_go(process: "subprocess.Popen[bytes]", watcher: threading.Thread) -> None:
    """End a child that holds its lifeline, in time or by force.

    Args:
        process: the child; its standard input is closed.
        watcher: thread that returns once the process has ended, which is joined.
    """
    assert process.stdin is not None
    process.stdin.close()
    watcher.join(GRACE_S + _MARGIN_S)
    if watcher.is_alive():
        process.kill()
        watcher.join()


def report(line: str = "ready") -> None:
    """Report to the parent: first that this process is ready, and then what the two have agreed on.

    Args:
        line: information for the parent, on one line.
    """
    print(line, flush=True)


def _wait(stop: Callable[[], object] | None) -> None:
    # Not through sys.stdin: a thread that holds its lock would block the interpreter's exit.
    while os.read(_STDIN, 1):
        pass
    if stop is not None:
        stop()
        time.sleep(GRACE_S)
    os._exit(1)
