"""What ties the demo's processes to the demo: the ends of two pipes.

One idea: standard input is never written to, so it ends when the demo closes it, and also when the demo is
killed. A process that watches it stops in the one case as in the other, on every system.
"""

import os
import threading
import time
from collections.abc import Callable

#: What a process may take to finish what it was asked to do, once it has been told to stop.
GRACE_S = 3.0

#: The file descriptor of standard input.
_STDIN = 0


def hold(stop: Callable[[], object] | None = None) -> None:
    """Stop this process when its standard input ends.

    Args:
        stop: asks the process to end, and can be called in another thread. Without it, or if the process
            still lives after `GRACE_S`, it is ended at once.
    """
    threading.Thread(target=_wait, args=(stop,), daemon=True).start()


def report_ready(word: str = "ready") -> None:
    """Tell the demo, once, that this process can be used.

    Args:
        word: what the demo needs to know, on one line.
    """
    print(word, flush=True)


def _wait(stop: Callable[[], object] | None) -> None:
    # Not through sys.stdin: a thread that holds its lock would be in the way of the interpreter's end.
    while os.read(_STDIN, 1):
        pass
    if stop is not None:
        stop()
        time.sleep(GRACE_S)
    os._exit(1)
